"""The catalogue from start to end: signals, failures, and the Flask service before it."""

from __future__ import annotations

import signal
import socket
from http.client import IncompleteRead, RemoteDisconnected

import pytest
from test_catalog_service import exemplars

CLIENT, ERROR, SERVER, UNSET = 3, 2, 2, 0
RUN = {"X-Vigie-Run-Id": "drill-1"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
# A batch that is sent by itself only after an hour: what arrives was forced out.
LATE = {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}

# The service with more routes, of which /slow answers when the test creates a file.
MORE = """
import { existsSync, writeFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { readSettings } from "./src/config.js";
import { JsonLog } from "./src/logs.js";
import { serve } from "./src/serve.js";
import { Service } from "./src/web.js";
const log = new JsonLog();
const settings = readSettings(process.env);
const tracing = settings.traces ? new (await import("./src/tracing.js")).Tracing(settings.serviceName, log) : undefined;
const service = new Service(settings, log, tracing);
service.add("/slow", async (req, res) => {
  writeFileSync(`${process.env.SLOW_DIR}/started`, "");
  while (!existsSync(`${process.env.SLOW_DIR}/release`)) {
    await setTimeout(10);
  }
  res.json({ slow: true });
});
service.add("/fail", () => {
  throw new Error("out of stock");
});
service.add("/half", (req, res) => {
  res.write("half");
  throw new Error("out of paper");
});
await serve(service, Number(process.env.DRAIN_MS ?? 3000));
process.exit();
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_service_cleanly(start_catalog, number):
    child = start_catalog()
    assert (
        child.wait_until_listening().items() >= {"message": "listening", "host": "127.0.0.1", "traces": False}.items()
    )
    child.request("/")
    child.process.send_signal(number)
    code, lines, err = child.finish()
    assert (code, err) == (0, "")
    assert [line["message"] for line in lines] == ["GET / 200", "stopped"]


def test_a_connection_that_is_idle_does_not_delay_the_stop(start_catalog):
    child = start_catalog()
    child.wait_until_listening()
    with socket.create_connection(("127.0.0.1", child.port), timeout=60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        child.process.terminate()
        assert child.finish()[0] == 0


def test_spans_are_exported_at_the_stop(start_catalog, collector):
    child = start_catalog(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **LATE)
    child.wait_until_listening()
    child.request("/")
    child.process.terminate()
    assert child.finish()[0] == 0
    assert [span["name"] for span in collector.spans] == ["GET /"]


def test_spans_are_exported_in_time_by_themselves(start_catalog, collector):
    child = start_catalog(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="50")
    child.wait_until_listening()
    child.request("/")
    child.wait_for(lambda: collector.spans)
    assert child.process.poll() is None


def test_a_collector_that_hangs_does_not_prevent_the_stop(start_catalog):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        # The exporter itself would wait for an hour.
        child = start_catalog(OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_TIMEOUT="3600000")
        child.wait_until_listening()
        child.request("/")
        child.process.terminate()
        code, lines, _ = child.finish()
    assert (code, lines[-1]["message"]) == (0, "stopped")


def test_spans_that_cannot_be_exported_are_a_log_line_and_no_end(start_catalog):
    with socket.socket() as holder:  # bound, but nobody listens
        holder.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{holder.getsockname()[1]}"
        child = start_catalog(
            OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_BSP_SCHEDULE_DELAY="1", OTEL_EXPORTER_OTLP_TIMEOUT="200"
        )
        child.wait_until_listening()
        child.request("/")
        line = child.read_line()
        while line["message"] == "GET / 200":
            line = child.read_line()
        assert (line["level"], line["logger"]) == ("error", "opentelemetry")
        assert line["message"].startswith("spans could not be exported: ")
        assert child.request("/").status == 200


def test_what_the_sdk_refuses_is_a_log_line(start_catalog, collector):
    child = start_catalog(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_TRACES_SAMPLER="sometimes")
    line = child.read_line()
    assert (line["level"], line["logger"]) == ("error", "opentelemetry")
    assert 'OTEL_TRACES_SAMPLER value "sometimes" invalid' in line["message"]
    child.wait_until_listening()


def test_a_handler_that_fails_is_an_error_in_all_three_signals(start_catalog, collector):
    child = start_catalog(MORE, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **LATE)
    child.wait_until_listening()
    response = child.request("/fail", headers=RUN)
    assert (response.status, response.json()) == (500, {"error": "internal error"})
    assert b'http_requests_total{method="GET",route="/fail",status="500"} 1' in child.request("/metrics").body
    child.process.terminate()
    code, (why, answered, _), err = child.finish()
    (span,) = collector.spans
    assert (code, err) == (0, "")
    assert (why["level"], why["logger"], why["run_id"], why["span_id"]) == (
        "error",
        "catalog",
        "drill-1",
        span["span_id"],
    )
    assert why["exception"].startswith("Error: out of stock\n")
    assert (answered["level"], answered["message"]) == ("error", "GET /fail 500")
    assert (span["name"], span["status"], span["events"]) == ("GET /fail", ERROR, ["exception"])


def test_half_an_answer_does_not_look_like_a_whole_one(start_catalog):
    child = start_catalog(MORE)
    child.wait_until_listening()
    with pytest.raises((IncompleteRead, ConnectionResetError)):
        child.request("/half")
    assert child.request("/").status == 200


def test_what_nobody_caught_is_the_last_line_of_the_process(start_catalog):
    code = """
      setInterval(() => {
        if (process.listenerCount("SIGTERM") > 0) {
          throw new Error("overboard");
        }
      }, 10);
      await import("./src/main.js");
    """
    code, lines, err = start_catalog(code).finish()
    assert (code, err) == (1, "")
    assert (lines[-1]["level"], lines[-1]["message"]) == ("critical", "uncaught exception: overboard")
    assert lines[-1]["exception"].startswith("Error: overboard\n")


@pytest.fixture
def start_slow(start_catalog, tmp_path):
    """Factory: a catalogue with a request to /slow in progress and the list that gets its answer."""

    def start(drain_ms):
        child = start_catalog(MORE, SLOW_DIR=str(tmp_path), DRAIN_MS=str(drain_ms))
        child.wait_until_listening()
        thread, answers = child.begin("/slow")
        child.wait_for((tmp_path / "started").exists)
        return child, thread, answers

    return start


def test_while_stopping_requests_are_finished_and_readyz_says_so(start_slow, tmp_path):
    child, thread, answers = start_slow(drain_ms=120_000)
    assert child.request("/readyz").status == 200
    child.process.terminate()
    child.wait_for(lambda: child.request("/readyz").status == 503)
    assert child.request("/healthz").status == 200
    assert child.request("/healthz").getheader("Connection") == "close"
    (tmp_path / "release").touch()
    thread.join(60)
    assert answers == [200]
    assert child.finish()[0] == 0


def test_a_request_that_never_ends_is_abandoned(start_slow):
    child, thread, answers = start_slow(drain_ms=100)
    child.process.terminate()
    code, lines, _ = child.finish()
    thread.join(60)
    assert (code, lines[-1]["message"]) == (0, "stopped")
    assert answers != [200]


def test_a_client_that_leaves_is_counted_and_leaves_no_user_behind(start_slow, tmp_path):
    child, thread, _ = start_slow(drain_ms=1000)
    with socket.create_connection(("127.0.0.1", child.port), timeout=60) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        child.wait_for(lambda: b"\nactive_users 2\n" in child.request("/metrics").body)
    child.wait_for(lambda: b"\nactive_users 1\n" in child.request("/metrics").body)
    (tmp_path / "release").touch()
    thread.join(60)
    child.wait_for(lambda: b"\nactive_users 0\n" in child.request("/metrics").body)


@pytest.fixture
def pair(start_child, start_catalog, collector):
    """A Flask service and the catalogue that it asks, both traced."""
    otlp = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **LATE}
    catalog = start_catalog(**otlp)
    url = f"http://127.0.0.1:{catalog.wait_until_listening()['port']}"
    flask = start_child(APP_CATALOG_URL=url, **otlp)
    assert flask.wait_until_listening()["catalog_url"] == url
    return flask, catalog


def test_one_trace_and_one_run_id_go_through_both_services(pair, collector):
    flask, catalog = pair
    answer = flask.request("/", headers={**RUN, "traceparent": PARENT}).json()
    assert answer["catalog"]["status"] == "ok"
    assert [item["id"] for item in answer["catalog"]["items"]] == ["spyglass", "lantern", "foghorn"]
    lines = []
    for child in (catalog, flask):
        child.process.terminate()
        code, (line, _), err = child.finish()
        assert (code, err) == (0, "")
        lines.append(line)
    spans = {(span["resource"]["service.name"], span["kind"]): span for span in collector.spans}
    inner, outer, call = spans["catalog", SERVER], spans["flask-metrics", SERVER], spans["flask-metrics", CLIENT]
    assert len(collector.spans) == 3
    # Caller -> Flask -> its call -> catalogue, without a gap.
    assert (outer["parent_span_id"], call["parent_span_id"]) == (PARENT[36:52], outer["span_id"])
    assert inner["parent_span_id"] == call["span_id"]
    for span in (inner, outer, call):
        assert (span["trace_id"], span["vigie.run_id"], span["status"]) == (PARENT[3:35], "drill-1", UNSET)
    for line, span in zip(lines, (inner, outer), strict=True):
        assert (line["message"], line["run_id"]) == ("GET / 200", "drill-1")
        assert (line["trace_id"], line["span_id"]) == (span["trace_id"], span["span_id"])


def test_the_exemplars_of_both_services_point_to_the_same_trace(pair):
    flask, catalog = pair
    flask.request("/", headers={**RUN, "traceparent": PARENT})
    for child in (flask, catalog):
        labels = exemplars(child)["request_duration_seconds_bucket"]
        assert labels == {"trace_id": PARENT[3:35], "run_id": "drill-1"}


def test_a_crash_leaves_the_trace_whole(pair, collector):
    """What Flask recorded goes out before its death: the catalogue's span has its parents."""
    flask, catalog = pair
    flask.request("/", headers=RUN)
    with pytest.raises((RemoteDisconnected, ConnectionResetError)):
        flask.request("/crash", headers=RUN)
    assert flask.finish()[0] == 1
    catalog.process.terminate()
    catalog.finish()
    ids = {span["span_id"] for span in collector.spans}
    assert {span["name"] for span in collector.spans} == {"GET /", "GET", "GET /crash"}
    assert {span["parent_span_id"] for span in collector.spans} - ids == {""}


def test_a_catalogue_that_is_stopped_and_started_is_found_again(pair, start_catalog):
    flask, catalog = pair
    assert flask.request("/").json()["catalog"]["status"] == "ok"
    catalog.process.terminate()
    catalog.finish()
    down = flask.request("/")
    assert (down.status, down.json()["catalog"]) == (200, {"status": "unavailable"})
    start_catalog(APP_PORT=str(catalog.port)).wait_until_listening()
    assert flask.request("/").json()["catalog"]["status"] == "ok"
