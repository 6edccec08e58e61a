"""service_request against a real server in a process of its own, which can die while it serves a request."""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

RESULT_KEYS = {"changed", "statuses", "disconnected", "last", "times", "elapsed", "reason", "hint", "trace_id"}


class Handler(http.server.BaseHTTPRequestHandler):
    """What the tests need of a service."""

    seen: list[dict[str, str]] = []

    def do_GET(self) -> None:
        Handler.seen.append({name.lower(): value for name, value in self.headers.items()})
        if self.path == "/crash":
            os._exit(1)
        if self.path == "/cut":
            # The head promises more than comes, as when the process dies while it answers.
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            return
        if self.path == "/hang":
            self.rfile.read()
            return
        status = {"/": 200, "/seen": 200, "/moved": 302, "/boom": 500}.get(self.path, 404)
        self.send_response(status)
        self.send_header("Location", "/")
        self.send_header("Set-Cookie", "session=topsecret")
        self.end_headers()
        self.wfile.write(json.dumps(Handler.seen).encode() if self.path == "/seen" else b"fine")

    do_POST = do_GET

    def log_message(self, *arguments: Any) -> None:
        pass


def serve() -> None:
    """Run by the fixture in another process."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


@pytest.fixture
def service() -> Iterator[tuple[subprocess.Popen, dict[str, str]]]:
    child = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    yield child, {"url": f"http://127.0.0.1:{int(child.stdout.readline())}"}
    child.kill()
    child.communicate()


def test_traffic(run_module, service) -> None:
    _child, endpoint = service
    result = run_module("service_request", endpoint=endpoint, count=5, run_id="drill-1", headers={"X-Number": 7})
    assert set(result) == RESULT_KEYS | {"failed", "invocation"}
    assert (result["failed"], result["changed"], result["reason"]) == (False, False, "ok")
    assert (result["statuses"], result["disconnected"]) == ({"200": 5}, 0)
    assert result["last"]["body"] == "fine"
    assert result["times"]["first_sent"] <= result["times"]["last_answered"]
    assert "topsecret" not in json.dumps(result)


def test_headers_reach_the_service(run_module, service) -> None:
    result = run_module("service_request", endpoint=service[1], path="/seen", run_id="drill-1", trace=True)
    (seen,) = json.loads(result["last"]["body"])
    assert seen["x-vigie-run-id"] == "drill-1"
    assert seen["traceparent"].split("-")[1] == result["trace_id"]


def test_crash_is_a_result(run_module, service) -> None:
    child, endpoint = service
    options = {"endpoint": endpoint, "path": "/crash", "allow_disconnect": True, "disruptive": True}
    forecast = run_module("service_request", check_mode=True, **options)
    assert (forecast["changed"], forecast["failed"], forecast["statuses"]) == (True, False, {})
    assert child.poll() is None, "check mode crashed it"
    result = run_module("service_request", **options)
    assert (result["changed"], result["failed"], result["disconnected"]) == (True, False, 1)
    assert result["last"]["status"] is None
    assert child.wait() == 1
    gone = run_module("service_request", **options)
    assert (gone["failed"], gone["reason"]) == (True, "unreachable")


def test_crash_without_leave_fails(run_module, service) -> None:
    result = run_module("service_request", endpoint=service[1], path="/crash")
    assert (result["failed"], result["reason"], result["disconnected"]) == (True, "disconnected", 1)


@pytest.mark.parametrize("allow", [True, False])
def test_answer_cut_in_the_middle_is_a_lost_connection(run_module, service, allow) -> None:
    result = run_module("service_request", endpoint=service[1], path="/cut", allow_disconnect=allow)
    assert (result["failed"], result["disconnected"]) == (not allow, 1)


@pytest.mark.parametrize("path", ["/boom", "/nowhere", "/moved"])
def test_unexpected_status(run_module, service, path) -> None:
    result = run_module("service_request", endpoint=service[1], path=path, count=3)
    assert (result["failed"], result["reason"]) == (True, "unexpected_status")
    assert sum(result["statuses"].values()) == 1
    assert path in result["hint"]


def test_other_statuses_can_be_wanted(run_module, service) -> None:
    result = run_module("service_request", endpoint=service[1], path="/nowhere", status=[404], method="POST", body="x")
    assert (result["failed"], result["statuses"]) == (False, {"404": 1})


def test_no_answer_in_time(run_module, service) -> None:
    result = run_module("service_request", endpoint=service[1], path="/hang", timeout=0.3, allow_disconnect=True)
    assert (result["failed"], result["reason"]) == (True, "timeout")


def test_nobody_listens(run_module) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        result = run_module("service_request", endpoint={"url": url}, disruptive=True, allow_disconnect=True)
    assert (result["failed"], result["reason"], result["changed"]) == (True, "unreachable", False)
    assert set(result) >= RESULT_KEYS
    assert url in result["hint"]


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("options", [{"run_id": "two words"}, {"endpoint": {"url": "ftp://x"}}], ids=["run_id", "url"])
def test_bad_options(run_module, options, check_mode) -> None:
    arguments = {"endpoint": {"url": "http://127.0.0.1:1"}, "disruptive": True, **options}
    result = run_module("service_request", check_mode=check_mode, **arguments)
    assert (result["failed"], result["reason"], result["changed"]) == (True, "bad_option", False)


if __name__ == "__main__":
    serve()
