"""The service as a real process: crash, stop, imports."""

from __future__ import annotations

import signal
import socket
from http.client import RemoteDisconnected

import pytest

RUN = {"X-Vigie-Run-Id": "drill-1"}


def crash(child, method="GET"):
    # The connection is lost without a byte of an answer.
    with pytest.raises((RemoteDisconnected, ConnectionResetError)):
        child.request("/crash", method, RUN)
    return child.finish()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_crash_ends_the_process_and_its_line_is_the_last(start_child, method):
    child = start_child()
    child.wait_until_listening()
    assert child.request("/", headers=RUN).status == 200
    code, lines, err = crash(child, method)
    assert (code, err) == (1, "")
    assert [line["message"] for line in lines] == ["GET / 200", "crash requested: process exits with code 1"]
    last = lines[-1]
    assert (last["level"], last["run_id"], last["method"], last["route"]) == ("critical", "drill-1", method, "/crash")
    assert "trace_id" not in last


def test_the_port_is_free_again_after_a_crash(start_child):
    child = start_child()
    child.wait_until_listening()
    crash(child)
    again = start_child(APP_PORT=str(child.port))
    again.wait_until_listening()
    assert again.request("/readyz").status == 200


def test_the_span_of_the_crashing_request_is_exported(start_child, collector):
    # A batch that is sent by itself only after an hour: what arrives was forced out.
    child = start_child(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="3600000")
    assert child.wait_until_listening()["traces"] is True
    child.request("/", headers=RUN)
    code, lines, _ = crash(child)
    spans = {span["name"]: span for span in collector.spans}
    assert code == 1
    assert set(spans) == {"GET /", "GET /crash"}
    span = spans["GET /crash"]
    assert (span["vigie.run_id"], span["http.route"], span["status"]) == ("drill-1", "/crash", 2)
    assert (lines[-1]["trace_id"], lines[-1]["span_id"]) == (span["trace_id"], span["span_id"])


@pytest.fixture
def silent_collector():
    """Address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


# The exporter itself would wait for an hour.
PATIENT = {"OTEL_EXPORTER_OTLP_TIMEOUT": "3600"}


def test_a_collector_that_hangs_does_not_prevent_the_crash(start_child, silent_collector):
    child = start_child(OTEL_EXPORTER_OTLP_ENDPOINT=silent_collector, **PATIENT)
    child.wait_until_listening()
    child.request("/", headers=RUN)
    code, lines, _ = crash(child)
    assert (code, lines[-1]["level"], lines[-1]["run_id"]) == (1, "critical", "drill-1")


def test_a_collector_that_is_down_does_not_prevent_the_crash(start_child):
    with socket.socket() as holder:  # bound, but nobody listens
        holder.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{holder.getsockname()[1]}"
        child = start_child(OTEL_EXPORTER_OTLP_ENDPOINT=url, **PATIENT)
        child.wait_until_listening()
        code, lines, _ = crash(child)
    assert (code, lines[-1]["level"], lines[-1]["run_id"]) == (1, "critical", "drill-1")


def test_a_collector_that_hangs_does_not_prevent_the_stop(start_child, silent_collector):
    child = start_child(OTEL_EXPORTER_OTLP_ENDPOINT=silent_collector, **PATIENT)
    child.wait_until_listening()
    child.request("/")
    child.process.send_signal(signal.SIGTERM)
    code, lines, _ = child.finish()
    assert (code, lines[-1]["message"]) == (0, "stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_service_cleanly(start_child, number):
    child = start_child()
    child.wait_until_listening()
    child.request("/")
    child.process.send_signal(number)
    code, lines, err = child.finish()
    assert (code, err) == (0, "")
    assert [line["message"] for line in lines] == ["GET / 200", "stopped"]


def test_spans_are_exported_at_the_stop(start_child, collector):
    child = start_child(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="3600000")
    child.wait_until_listening()
    child.request("/")
    child.process.send_signal(signal.SIGTERM)
    assert child.finish()[0] == 0
    assert [span["name"] for span in collector.spans] == ["GET /"]


# The service with one more route, which answers when the test creates a file.
SLOW = """
import os, pathlib, sys, time
from flask_metrics import __main__ as service
from flask_metrics.config import Settings
from flask_metrics.web import create_app
directory = pathlib.Path(os.environ["SLOW_DIR"])
service.DRAIN_SECONDS = float(os.environ["DRAIN_SECONDS"])
settings = Settings.from_env(os.environ)
app = create_app(settings)
@app.get("/slow")
def slow():
    (directory / "started").touch()
    while not (directory / "release").exists():
        time.sleep(0.01)
    return {"slow": True}
service.serve(app, service.listen(settings))
"""


@pytest.fixture
def start_slow(start_child, tmp_path):
    """Factory: a child with a request to /slow in progress and the list that gets its answer."""

    def start(drain_seconds):
        child = start_child(SLOW, SLOW_DIR=str(tmp_path), DRAIN_SECONDS=str(drain_seconds))
        child.wait_until_listening()
        thread, answers = child.begin("/slow")
        child.wait_for((tmp_path / "started").exists)
        return child, thread, answers

    return start


def test_while_stopping_requests_are_finished_and_readyz_says_so(start_slow, tmp_path):
    child, thread, answers = start_slow(drain_seconds=120)
    assert child.request("/readyz").status == 200
    child.process.send_signal(signal.SIGTERM)
    child.wait_for(lambda: child.request("/readyz").status == 503)
    assert child.request("/healthz").status == 200
    (tmp_path / "release").touch()
    thread.join(60)
    assert answers == [200]
    assert child.finish()[0] == 0


def test_a_request_that_never_ends_is_abandoned(start_slow):
    child, thread, answers = start_slow(drain_seconds=0.1)
    child.process.send_signal(signal.SIGTERM)
    code, lines, _ = child.finish()
    thread.join(60)
    assert (code, lines[-1]["message"]) == (0, "stopped")
    assert answers != [200]


def test_opentelemetry_is_imported_only_with_an_endpoint(start_child):
    code = (
        "import json, os, sys\n"
        "from flask_metrics import __main__\n"
        "from flask_metrics.config import Settings\n"
        "from flask_metrics.web import create_app\n"
        "create_app(Settings.from_env(os.environ)).test_client().get('/')\n"
        "print(json.dumps({'imported': any(name.startswith('opentelemetry') for name in sys.modules)}))\n"
    )
    assert start_child(code).finish()[1][-1] == {"imported": False}
    assert start_child(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9").finish()[1][-1] == {"imported": True}


def test_scrape_over_http_negotiates_the_format(start_child):
    child = start_child()
    child.wait_until_listening()
    child.request("/", headers=RUN)
    text = child.request("/metrics")
    openmetrics = child.request("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert text.getheader("Content-Type").startswith("text/plain; version=0.0.4")
    assert openmetrics.getheader("Content-Type").startswith("application/openmetrics-text; version=1.0.0")
    assert b'# {run_id="drill-1"} 1.0' in openmetrics.body
    assert openmetrics.body.endswith(b"# EOF\n")
    assert b"# {" not in text.body
