"""The Flask service asks the catalogue: on applications called in process, of a server that answers what a test wants."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from flask_metrics.catalog import MAX_BYTES
from flask_metrics.web import service_of

CLIENT, ERROR, SERVER, UNSET = 3, 2, 2, 0
RUN = {"X-Vigie-Run-Id": "drill-1"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ITEMS = [{"id": "lantern"}]


class Other:
    """A server in the place of the catalogue."""

    def __init__(self):
        self.status, self.body = 200, json.dumps({"items": ITEMS}).encode()
        self.requests = []
        self.silent = threading.Event()
        self.release = threading.Event()
        other = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                other.requests.append((self.path, dict(self.headers)))
                if other.silent.is_set():
                    other.release.wait(60)
                    return
                self.send_response(other.status)
                self.send_header("Content-Length", str(len(other.body)))
                self.end_headers()
                self.wfile.write(other.body)

            def log_message(self, format, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def other():
    other = Other()
    yield other
    other.release.set()
    other.server.shutdown()
    other.server.server_close()


@pytest.fixture
def closed_port():
    """A port that nobody listens on: bound, so that nobody else gets it."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def traced(make_app, collector, monkeypatch):
    """Factory of traced applications whose spans go to ``collector``."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    return lambda **settings: make_app(traces=True, **settings)


def spans_of(app, collector):
    """The spans by kind."""
    assert service_of(app).tracing.flush(60)
    assert len({span["kind"] for span in collector.spans}) == len(collector.spans)
    return {span["kind"]: span for span in collector.spans}


def test_the_answer_has_what_the_catalogue_lists(make_app, other):
    response = make_app(catalog_url=other.url).test_client().get("/", headers=RUN)
    assert response.status_code == 200
    assert response.json == {
        "message": "Hello from Vigie",
        "service": "flask-metrics",
        "catalog": {"status": "ok", "items": ITEMS},
    }
    ((path, headers),) = other.requests
    assert path == "/"
    assert headers["X-Vigie-Run-Id"] == "drill-1"


def test_the_url_says_which_resource(make_app, other):
    make_app(catalog_url=f"{other.url}/shop/items").test_client().get("/")
    assert other.requests[0][0] == "/shop/items"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/nowhere"])
def test_only_the_greeting_asks(make_app, other, path):
    make_app(catalog_url=other.url).test_client().get(path)
    assert other.requests == []


def test_an_invalid_run_id_is_not_passed_on(make_app, other):
    make_app(catalog_url=other.url).test_client().get("/", headers={"X-Vigie-Run-Id": "not valid"})
    assert "X-Vigie-Run-Id" not in other.requests[0][1]


def test_the_call_is_a_client_span_between_the_two_services(traced, collector, other):
    app = traced(catalog_url=other.url)
    app.test_client().get("/", headers={**RUN, "traceparent": PARENT, "tracestate": "a=1"})
    spans = spans_of(app, collector)
    span = spans[CLIENT]
    assert (span["trace_id"], span["parent_span_id"]) == (PARENT[3:35], spans[SERVER]["span_id"])
    assert (span["name"], span["status"], span["vigie.run_id"]) == ("GET", UNSET, "drill-1")
    assert (span["http.request.method"], span["http.response.status_code"]) == ("GET", 200)
    assert (span["url.full"], span["server.address"], span["server.port"]) == (f"{other.url}/", "127.0.0.1", other.port)
    headers = other.requests[0][1]
    assert headers["traceparent"] == f"00-{span['trace_id']}-{span['span_id']}-01"
    assert headers["tracestate"] == "a=1"


def test_that_a_trace_is_not_sampled_is_passed_on(traced, collector, other):
    app = traced(catalog_url=other.url)
    app.test_client().get("/", headers={"traceparent": PARENT[:-1] + "0"})
    assert spans_of(app, collector) == {}
    assert other.requests[0][1]["traceparent"].startswith(PARENT[:36])
    assert other.requests[0][1]["traceparent"].endswith("-00")


def test_without_spans_the_callers_context_is_passed_on_as_it_came(make_app, other):
    client = make_app(catalog_url=other.url).test_client()
    client.get("/", headers={"traceparent": PARENT, "tracestate": "a=1"})
    client.get("/")
    (_, with_context), (_, without) = other.requests
    assert (with_context["traceparent"], with_context["tracestate"]) == (PARENT, "a=1")
    assert not {"traceparent", "tracestate"} & without.keys()


def assert_unavailable(app, collector, stream, kind, status=None):
    """`/` answers and says so, one line and the client span tell why, and the request itself is no error."""
    response = app.test_client().get("/", headers=RUN)
    assert response.status_code == 200
    assert response.json["catalog"] == {"status": "unavailable"}
    spans = spans_of(app, collector)
    assert (spans[CLIENT]["status"], spans[CLIENT]["error.type"]) == (ERROR, kind)
    assert spans[CLIENT].get("http.response.status_code") == status
    assert spans[SERVER]["status"] == UNSET
    why, answered = stream.lines
    assert why["level"] == "error"
    assert why["message"].startswith(f"catalog {service_of(app).settings.catalog_url}/ is unavailable: ")
    assert (why["run_id"], why["trace_id"]) == ("drill-1", spans[SERVER]["trace_id"])
    assert (answered["level"], answered["message"], answered["run_id"]) == ("info", "GET / 200", "drill-1")


def test_a_catalogue_that_is_down_does_not_break_the_greeting(traced, collector, stream, closed_port):
    app = traced(catalog_url=f"http://127.0.0.1:{closed_port}")
    assert_unavailable(app, collector, stream, "ConnectionRefusedError")


def test_a_catalogue_that_hangs_is_given_up(traced, collector, stream, other):
    other.silent.set()
    app = traced(catalog_url=other.url, catalog_timeout_ms=50)
    assert_unavailable(app, collector, stream, "timeout")
    assert stream.lines[0]["message"].endswith(": nothing came for 0.05 s")


def test_a_host_without_an_address_is_named(traced, collector, stream):
    app = traced(catalog_url="http://no-such-host.invalid")
    assert_unavailable(app, collector, stream, "gaierror")


@pytest.mark.parametrize("status", [404, 500, 503])
def test_an_answer_that_is_an_error_is_one(traced, collector, stream, other, status):
    other.status = status
    assert_unavailable(traced(catalog_url=other.url), collector, stream, str(status), status)
    assert stream.lines[0]["message"].endswith(f": it answered {status}")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", "JSONDecodeError"),
        (b"\xff", "UnicodeDecodeError"),
        (b"[]", "TypeError"),
        (b"{}", "KeyError"),
        (b'{"items": "many"}', "TypeError"),
        (b"[" * MAX_BYTES, "RecursionError"),
        (b" " * (MAX_BYTES + 1), "too_large"),
    ],
)
def test_an_answer_that_is_no_catalogue_is_an_error(traced, collector, stream, other, *, body, kind):
    other.body = body
    assert_unavailable(traced(catalog_url=other.url), collector, stream, kind, 200)


def test_a_header_that_cannot_be_sent_does_not_break_the_greeting(make_app, other):
    client = make_app(catalog_url=other.url).test_client()
    response = client.get("/", environ_overrides={"HTTP_TRACEPARENT": "00-1\r\nX: 1"})
    assert (response.status_code, response.json["catalog"]) == (200, {"status": "unavailable"})
    assert other.requests == []
