"""A server that answers like Grafana, since Grafana itself can't be had here.

Written from Grafana's documentation of its dashboard, search and data source APIs and from the rules by which its Prometheus data
source replaces variables; the example answers are those of the documentation. Queries are passed on to a real Prometheus, as Grafana
does. What it can't prove: that a future Grafana still answers so.
"""

from __future__ import annotations

import base64
import json
import math
import re
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from systems import Json

PASSWORD = "not-a-secret"
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """The seconds of a duration with one unit."""
    match = re.fullmatch(r"(\d+)(ms|s|m|h)", text)
    assert match, text
    return int(match[1]) * UNITS[match[2]]


class FakeGrafana:
    """Dashboards and one data source, ``prometheus``; everything can be changed by a test."""

    def __init__(self, prometheus_url: str, dashboards: list[Json]) -> None:
        self.prometheus_url = prometheus_url
        self.dashboards = {one["uid"]: one for one in dashboards}
        self.sources = {"prometheus"}
        self.time_interval = "1s"
        self.requests: list[tuple[str, str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                path = urllib.parse.urlsplit(self.path)
                outer.requests.append((self.command, path.path, body))
                login = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
                if self.headers.get("Authorization") != f"Basic {login}":
                    status, answer = 401, {"message": "Invalid username or password"}
                else:
                    status, answer = outer.answer(self.command, path.path, urllib.parse.parse_qs(path.query), body)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json; charset=UTF-8")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = _serve
            do_POST = _serve

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """Return status and body for a request that was let in."""
        match method, path.strip("/").split("/"):
            case "GET", ["api", "search"]:
                assert query["type"] == ["dash-db"]
                wanted = query.get("query", [""])[0].lower()
                found = [
                    {"id": 1, "uid": uid, "title": one["title"], "url": f"/d/{uid}/x", "type": "dash-db", "tags": []}
                    for uid, one in self.dashboards.items()
                    if wanted in one["title"].lower()
                ]
                return 200, found
            case "GET", ["api", "dashboards", "uid", uid]:
                if uid not in self.dashboards:
                    return 404, {"message": "Dashboard not found", "traceID": ""}
                meta = {"isStarred": False, "url": f"/d/{uid}/x", "slug": "x", "provisioned": True}
                return 200, {"dashboard": {"id": 1, "version": 1, **self.dashboards[uid]}, "meta": meta}
            case "GET", ["api", "datasources", "uid", uid, "health"]:
                if uid not in self.sources:
                    return 404, {"message": "Data source not found", "traceID": ""}
                return self._health()
            case "GET", ["api", "datasources", "uid", uid, "resources", *rest]:
                return self._prometheus(f"/{'/'.join(rest)}")
            case "POST", ["api", "ds", "query"]:
                return self._query(body)
        return 404, {"message": "Not found"}

    def _prometheus(self, path: str, **query: str) -> tuple[int, Any]:
        url = f"{self.prometheus_url}{path}"
        if query:
            url += f"?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def _health(self) -> tuple[int, Any]:
        try:
            self._prometheus("/api/v1/query", query="1+1")
        except OSError as error:
            return 400, {
                "status": "ERROR",
                "message": f"There was an error returned querying the Prometheus API. {error}",
            }
        details = {"application": "Prometheus", "features": {"rulerApiEnabled": False}}
        return 200, {"details": details, "message": "Successfully queried the Prometheus API.", "status": "OK"}

    def _query(self, body: Json) -> tuple[int, Any]:
        assert body["to"] == "now" and body["from"].startswith("now-")
        span = seconds(body["from"].removeprefix("now-"))
        results = {one["refId"]: self._result(one, span) for one in body["queries"]}
        assert len(results) == len(body["queries"]), "refIds must be unique"
        return (400 if any("error" in one for one in results.values()) else 200), {"results": results}

    def _result(self, query: Json, span: float) -> Json:
        assert query["instant"] is True and query["range"] is False and query["format"] == "time_series"
        if query["datasource"]["uid"] not in self.sources:
            return {"error": "data source not found", "status": 404}
        least = query.get("interval") or self.time_interval
        step = max(query["intervalMs"] / 1000, seconds(least))
        rate = max(step + seconds(least), 4 * seconds(least))
        text = query["expr"]
        for name, value in (
            ("__interval_ms", f"{step * 1000:.0f}"),
            ("__interval", f"{step * 1000:.0f}ms"),
            ("__range_ms", f"{span * 1000:.0f}"),
            ("__range_s", f"{span:.0f}"),
            ("__range", f"{span:.0f}s"),
            ("__rate_interval", f"{rate * 1000:.0f}ms"),
        ):
            text = text.replace(f"${name}", value).replace(f"${{{name}}}", value)
        _status, answer = self._prometheus("/api/v1/query", query=text)
        if answer["status"] != "success":
            return {
                "error": f"{answer['errorType']}: {answer['error']}",
                "errorSource": "downstream",
                "status": 400,
                "frames": [],
            }
        result = answer["data"]["result"]
        pairs = (
            [({}, result)] if answer["data"]["resultType"] == "scalar" else [(x["metric"], x["value"]) for x in result]
        )
        return {"status": 200, "frames": [frame(query["refId"], labels, *value) for labels, value in pairs]}


def frame(ref_id: str, labels: dict[str, str], stamp: float, value: str) -> Json:
    """Return one series as a data frame; what JSON can't say is null and told apart in ``entities``."""
    number = float(value)
    data: Json = {"values": [[round(float(stamp) * 1000)], [None if math.isnan(number) else number]]}
    if math.isnan(number):
        data["entities"] = [None, {"NaN": [0]}]
    return {
        "schema": {
            "refId": ref_id,
            "meta": {"type": "numeric-multi", "typeVersion": [0, 1]},
            "fields": [
                {"name": "Time", "type": "time", "typeInfo": {"frame": "time.Time"}, "config": {}},
                {"name": "Value", "type": "number", "typeInfo": {"frame": "float64"}, "labels": labels},
            ],
        },
        "data": data,
    }
