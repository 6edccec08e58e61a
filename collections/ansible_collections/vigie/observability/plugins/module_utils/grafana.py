# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Grafana's HTTP API as data: dashboards, the health of data sources, and queries that Grafana passes on to them.

Written from Grafana's documentation (dashboard, data source and folder/dashboard search APIs of Grafana 10 to 13).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ansible_collections.vigie.observability.plugins.module_utils.dashboards import (
    POINTS,
    Dashboard,
    Query,
    Result,
    Source,
    greatest,
    read_dashboard,
)
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Transport
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import reading
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

_TOGETHER = 50
"""Queries in one request."""


class GrafanaSource(Source):
    """Grafana holds the dashboards and passes their queries on.

    Args:
        transport: way to Grafana, with the credentials of a user who may see the dashboards.
        uids: of the dashboards.
        titles: of further dashboards.
        variables: values that win over those saved in the dashboards.
        sources: uids of data sources that must be healthy besides those of the dashboards.
    """

    def __init__(
        self,
        transport: Transport,
        uids: list[str],
        titles: list[str],
        variables: Mapping[str, Any],
        sources: Sequence[str] = (),
    ) -> None:
        self._transport = transport
        self._uids = uids
        self._titles = titles
        self._variables = variables
        self._sources = sources

    def dashboards(self, deadline: Deadline) -> list[Dashboard]:
        """Return the dashboards, once all of them are there and their data sources are healthy.

        Raises:
            CheckError: ``dashboard_missing``, ``datasource_missing`` and ``datasource_unhealthy`` may mend, as provisioning takes time.
        """
        found = [self._dashboard(deadline, uid) for uid in self._wanted(deadline)]
        for source in dict.fromkeys([*(source for one in found for source in one.sources), *self._sources]):
            self._ensure_healthy(deadline, source)
        return found

    def look_for_any(self, deadline: Deadline) -> Verdict:
        """Find out whether any of the dashboards is there; their panels are not asked."""
        there = [uid for uid in self._uids if self._model(deadline, uid) is not None]
        there += [title for title in self._titles if self._uid_of(deadline, title)]
        if there:
            return Verdict.yes({"dashboards": there})
        return Verdict.no("dashboard_missing", "Grafana has none of the dashboards.", {"dashboards": []})

    def _wanted(self, deadline: Deadline) -> list[str]:
        wanted = list(self._uids)
        for title in self._titles:
            uid = self._uid_of(deadline, title)
            if uid is None:
                raise self._missing(f"called {title!r}", "/api/search?type=dash-db")
            wanted.append(uid)
        return list(dict.fromkeys(wanted))

    def _uid_of(self, deadline: Deadline, title: str) -> str | None:
        query = {"query": title, "type": "dash-db"}
        response = self._transport.request("GET", "/api/search", query=query, timeout=deadline.request_timeout)
        found = response.json()
        with reading("list of dashboards"):
            # The search also finds titles that only contain the words.
            return next((str(one["uid"]) for one in found if one["title"] == title), None)

    def _model(self, deadline: Deadline, uid: str) -> Any:
        """Return a dashboard's JSON, or None when Grafana has none of that uid."""
        path = f"/api/dashboards/uid/{quote(uid, safe='')}"
        response = self._transport.request("GET", path, timeout=deadline.request_timeout, accept=(200, 404))
        if response.status == 404:
            return None
        answer = response.json()
        with reading("dashboard"):
            return answer["dashboard"]

    def _dashboard(self, deadline: Deadline, uid: str) -> Dashboard:
        model = self._model(deadline, uid)
        if model is None:
            raise self._missing(f"with the uid {uid}", f"/api/dashboards/uid/{uid}")
        return read_dashboard(model, self._variables, f"The dashboard {uid}")

    def _missing(self, which: str, path: str) -> CheckError:
        return CheckError(
            "dashboard_missing",
            f"Grafana has no dashboard {which}; look at the log of its sidecar or provisioning, and at '{self._transport.command(path)}'.",
            transient=True,
        )

    def _ensure_healthy(self, deadline: Deadline, uid: str) -> None:
        path = f"/api/datasources/uid/{quote(uid, safe='')}/health"
        # What the plugin says of its data source comes with 200, 400 or 500.
        response = self._transport.request(
            "GET", path, timeout=deadline.request_timeout, accept=(200, 400, 404, 500, 502, 503)
        )
        shown = self._transport.command(path)
        if response.status == 404:
            raise CheckError(
                "datasource_missing",
                f"Grafana has no data source with the uid {uid}; see '{self._transport.command('/api/datasources')}'.",
                transient=True,
            )
        answer = response.json()
        with reading("health of the data source"):
            status, message = answer.get("status", ""), answer.get("message", "")
        if response.status != 200 or status != "OK":
            raise CheckError(
                "datasource_unhealthy",
                f"Grafana's data source {uid} is not healthy: {str(message).rstrip('.')}; see '{shown}'.",
                transient=True,
                observed=answer,
            )

    def evaluate(self, deadline: Deadline, queries: list[Query]) -> list[Result]:
        """Return what the queries give, as Grafana passes them on."""
        results: dict[int, Result] = {}
        for span in dict.fromkeys(query.span for query in queries):  # a request has one time range
            numbers = [at for at, query in enumerate(queries) if query.span == span]
            for at in range(0, len(numbers), _TOGETHER):
                some = numbers[at : at + _TOGETHER]
                results.update(zip(some, self._ask(deadline, [queries[one] for one in some]), strict=True))
        return [results[at] for at in range(len(queries))]

    def _ask(self, deadline: Deadline, queries: list[Query]) -> list[Result]:
        data = {
            "from": f"now-{queries[0].span:.0f}s",
            "to": "now",
            "queries": [
                {
                    "refId": f"Q{at}",
                    "datasource": {"uid": query.source},
                    "expr": query.expr,
                    "instant": True,
                    "range": False,
                    "format": "time_series",
                    "interval": query.step,
                    "intervalMs": round(query.span / POINTS * 1000),
                    "maxDataPoints": POINTS,
                }
                for at, query in enumerate(queries)
            ],
        }
        # A query that fails makes the whole answer a 400, with the results of all in it.
        response = self._transport.request(
            "POST", "/api/ds/query", data=data, timeout=deadline.request_timeout, accept=(200, 207, 400)
        )
        answer = response.json()
        with reading("answer to the queries"):
            if "results" not in answer:
                raise CheckError("bad_request", f"Grafana refuses the queries: {answer.get('message', answer)}.")
            return [_result(answer["results"].get(f"Q{at}") or {}) for at in range(len(queries))]

    def names(self, deadline: Deadline, like: Query) -> list[str]:
        """Return the names of all metrics, through the data source's resources."""
        path = f"/api/datasources/uid/{quote(like.source, safe='')}/resources/api/v1/label/__name__/values"
        answer = self._transport.request("GET", path, timeout=deadline.request_timeout).json()
        with reading("list of metric names"):
            return [str(name) for name in answer["data"]]

    def command(self, query: Query) -> str:
        """Return the command that asks Prometheus through Grafana; Grafana's own variables must be replaced by hand."""
        path = f"/api/datasources/proxy/uid/{quote(query.source, safe='')}/api/v1/query"
        return self._transport.command(path, {"query": query.expr})


def _result(answer: Mapping[str, Any]) -> Result:
    """Return the result of one query from its data frames."""
    if answer.get("error"):
        return Result(error=f"Prometheus refuses the query: {answer['error']}")
    values: list[float] = []
    for frame in answer.get("frames") or []:
        for one, column in zip(frame["schema"]["fields"], (frame.get("data") or {}).get("values") or [], strict=False):
            if one["type"] == "number":
                # NaN is null in JSON.
                values += [math.nan if value is None else float(value) for value in column]
    return Result(greatest(values))
