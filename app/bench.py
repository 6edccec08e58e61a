#!/usr/bin/env python3
"""Cost per request of what the service records, measured in process.

    python app/bench.py [--rounds N] [--requests N] [--json]

The WSGI application is called directly with a prepared environment: no sockets, no HTTP client. Each round runs every
variant once, in an order that changes from round to round, so that a machine that becomes slower meanwhile slows all
of them. The figure of a variant is its best round, in CPU time of the whole process: the thread that encodes and
sends the spans counts too (the collector does not, it is another process).
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from flask import Flask
from flask_metrics.config import Settings
from flask_metrics.logs import JsonLog
from flask_metrics.web import create_app, service_of

BUDGET_METRICS_US = 25.0
BUDGET_EVERYTHING_US = 200.0
RUN_ID = "bench-20260101T000000Z"

Wsgi = Callable[..., Any]


class _Sink(BaseHTTPRequestHandler):
    """Collector that accepts spans and forgets them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _sink(answer: Connection) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Sink)
    answer.send(server.server_port)
    server.serve_forever()


def _bare() -> Flask:
    app = Flask("bare", static_folder=None)

    @app.get("/")
    def greeting() -> dict[str, str]:
        return {"message": "Hello from Vigie", "service": "flask-metrics"}

    return app


def _environ(run_id: bool) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "5000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "40000",
        "HTTP_HOST": "127.0.0.1:5000",
        "HTTP_USER_AGENT": "bench",
        "HTTP_ACCEPT": "*/*",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if run_id:
        environ["HTTP_X_VIGIE_RUN_ID"] = RUN_ID
    return environ


def _start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
    if not status.startswith("200"):
        raise RuntimeError(f"the application answered {status}")
    return lambda data: None


def _cpu_seconds(app: Wsgi, environ: dict[str, Any], requests: int, finish: Callable[[], Any]) -> float:
    started = time.process_time()
    for _ in range(requests):
        body = app(environ.copy(), _start_response)
        b"".join(body)
        body.close()
    finish()
    return time.process_time() - started


def measure(rounds: int, requests: int) -> dict[str, float]:
    """Return CPU microseconds per request (best round) by variant; the first variant is bare Flask."""
    reader, writer = multiprocessing.Pipe(duplex=False)
    sink = multiprocessing.get_context("spawn").Process(target=_sink, args=(writer,), daemon=True)
    sink.start()
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{reader.recv()}"
    # One batch of each round must fit, or spans would be dropped and their export not be measured.
    os.environ["OTEL_BSP_MAX_QUEUE_SIZE"] = str(max(2048, 2 * requests))

    with tempfile.TemporaryFile(buffering=0) as log_file:
        log = JsonLog(log_file)

        def app(**switches: bool) -> tuple[Wsgi, Callable[[], Any]]:
            flask_app = create_app(Settings(**switches), log)
            tracing = service_of(flask_app).tracing
            return flask_app.wsgi_app, (lambda: tracing.flush(30)) if tracing else (lambda: None)

        metrics = app(metrics=True, logs=False)
        logs = app(metrics=True, logs=True)
        everything = app(metrics=True, logs=True, traces=True)
        variants = {
            "bare Flask": (_bare().wsgi_app, lambda: None, False),
            "+ four metrics": (*metrics, False),
            "+ four metrics, run id as exemplar": (*metrics, True),
            "+ metrics, JSON logs": (*logs, True),
            "+ metrics, JSON logs, traces": (*everything, True),
        }
        for wsgi_app, finish, run_id in variants.values():
            _cpu_seconds(wsgi_app, _environ(run_id), 200, finish)
        best = dict.fromkeys(variants, float("inf"))
        names = list(variants)
        for number in range(rounds):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                wsgi_app, finish, run_id = variants[name]
                seconds = _cpu_seconds(wsgi_app, _environ(run_id), requests, finish)
                best[name] = min(best[name], seconds / requests * 1e6)
            log_file.seek(0)
            log_file.truncate()
    sink.terminate()
    sink.join()
    return best


def main() -> int:
    """Print the table; exit code 1 if a budget is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each variant (default %(default)s)")
    parser.add_argument("--requests", type=int, default=1000, help="requests per round (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    if options.rounds < 1 or options.requests < 1:
        parser.error("--rounds and --requests must be at least 1")
    best = measure(options.rounds, options.requests)
    names = list(best)
    added = {name: best[name] - best[names[0]] for name in names}
    budgets = {names[1]: BUDGET_METRICS_US, names[-1]: BUDGET_EVERYTHING_US}
    ok = all(added[name] <= budget for name, budget in budgets.items())
    if options.json:
        rows = [
            {
                "name": name,
                "us": round(best[name], 1),
                "added_us": round(added[name], 1),
                "budget_us": budgets.get(name),
            }
            for name in names
        ]
        print(json.dumps({"python": platform.python_version(), "ok": ok, "variants": rows}))
    else:
        print(f"{'variant':<38}{'us/request':>11}{'added us':>10}{'budget us':>11}")
        for name in names:
            budget = f"{budgets[name]:.0f}" if name in budgets else ""
            extra = f"{added[name]:+.1f}" if name != names[0] else ""
            print(f"{name:<38}{best[name]:>11.1f}{extra:>10}{budget:>11}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
