"""The catalogue as a real process: what it answers and records, by the measure of the Flask service."""

from __future__ import annotations

import json
import re
import socket
from http.client import HTTPConnection

import pytest
from conftest import WAIT
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

ERROR, SERVER, UNSET = 2, 2, 0
OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
RUN = {"X-Vigie-Run-Id": "drill-1"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
METRICS = {
    "vigie_run_last_seen_timestamp_seconds",
    "http_requests",
    "active_users",
    "request_duration_seconds",
    "request_latency_seconds",
}


@pytest.fixture
def catalog(start_catalog):
    """A catalogue that makes no spans."""
    child = start_catalog()
    child.wait_until_listening()
    return child


@pytest.fixture
def traced(start_catalog, collector):
    """A catalogue whose spans go to ``collector`` when it is stopped."""
    child = start_catalog(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="3600000")
    assert child.wait_until_listening()["traces"] is True
    return child


def stop(child):
    """End the service and return its log lines of requests."""
    child.process.terminate()
    code, lines, err = child.finish()
    assert (code, err) == (0, "")
    assert lines[-1]["message"] == "stopped"
    return lines[:-1]


def openmetrics(child):
    response = child.request("/metrics", headers=OPENMETRICS)
    assert response.getheader("Content-Type").startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    return {family.name: family for family in parse_openmetrics(response.body.decode())}


def scrape(child):
    """All samples of one scrape in the text format: {(name, labels...): value}."""
    response = child.request("/metrics")
    assert response.getheader("Content-Type").startswith("text/plain; version=0.0.4")
    assert b" # {" not in response.body
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse_text(response.body.decode())
        for sample in family.samples
    }


def requests_total(child):
    """What `http_requests_total` says: {(method, route, status): value}."""
    return {
        tuple(value for _, value in key[1:]): value
        for key, value in scrape(child).items()
        if key[0] == "http_requests_total"
    }


def exemplars(child):
    return {
        sample.name: dict(sample.exemplar.labels)
        for family in openmetrics(child).values()
        for sample in family.samples
        if sample.exemplar
    }


def test_a_small_catalogue(catalog):
    response = catalog.request("/")
    assert (response.status, response.getheader("Content-Type")) == (200, "application/json; charset=utf-8")
    answer = response.json()
    assert answer["service"] == "catalog"
    assert all(item.keys() == {"id", "name", "quantity"} for item in answer["items"])
    assert len(answer["items"]) == 3
    assert catalog.request("/", "HEAD").body == b""


def test_health_and_readiness(catalog):
    assert (catalog.request("/healthz").status, catalog.request("/healthz").json()) == (200, {"status": "alive"})
    assert (catalog.request("/readyz").status, catalog.request("/readyz").json()) == (200, {"status": "ready"})


def test_the_metrics_are_those_of_the_flask_service(catalog, start_child):
    """Names, types, help, labels, buckets: whoever reads the one can read the other."""
    flask = start_child()
    flask.wait_until_listening()
    shapes = []
    for child in (flask, catalog):
        child.request("/", headers=RUN)
        families = {name: family for name, family in openmetrics(child).items() if name in METRICS}
        shapes.append(
            {
                name: (
                    family.type,
                    family.documentation,
                    # prometheus_client adds a series with the time at which each was made.
                    {
                        (sample.name, *sorted(sample.labels.items()))
                        for sample in family.samples
                        if not sample.name.endswith("_created")
                    },
                )
                for name, family in families.items()
            }
        )
    assert shapes[0].keys() == METRICS
    assert shapes[1] == shapes[0]


def test_one_request_moves_each_metric_once_in_both_formats(catalog):
    assert requests_total(catalog) == {("GET", "/", "200"): 0}  # so that the first request is seen as an increase
    catalog.request("/")
    labels = (("method", "GET"), ("route", "/"))
    for _ in range(2):  # what one format does to the names must not be seen by the other
        samples = {key[0]: value for key, value in scrape(catalog).items() if set(labels) <= set(key[1:])}
        assert samples["http_requests_total"] == 1
        assert samples["request_duration_seconds_count"] == samples["request_latency_seconds_count"] == 1
        assert samples["request_duration_seconds_bucket"] == 1  # of them all the last one
        assert samples["request_latency_seconds_sum"] == samples["request_duration_seconds_sum"] > 0
        assert scrape(catalog)[("active_users",)] == 0
        assert scrape(catalog)[("process_cpu_seconds_total",)] > 0
        (counter,) = openmetrics(catalog)["http_requests"].samples
        assert (counter.name, counter.value) == ("http_requests_total", 1)


def test_every_unknown_path_or_method_is_one_series(catalog):
    for path in ("/a", "/b", "/metrics/", "/HEALTHZ", "/%ff", "//"):
        assert catalog.request(path).status == 404
    for method in ("POST", "DELETE", "OPTIONS"):
        response = catalog.request("/", method)
        assert (response.status, response.getheader("Allow")) == (405, "GET, HEAD")
    for method in ("PURGE", "PROPFIND"):
        assert catalog.request("/", method).status == 405
    assert requests_total(catalog) == {
        ("GET", "/", "200"): 0,
        ("GET", "unmatched", "404"): 6,
        ("POST", "unmatched", "405"): 1,
        ("DELETE", "unmatched", "405"): 1,
        ("OPTIONS", "unmatched", "405"): 1,
        ("_OTHER", "unmatched", "405"): 2,
    }


def test_what_is_no_http_is_refused_and_nothing_else_happens(catalog):
    for data in (b"BREW / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", catalog.port), timeout=WAIT) as connection:
            connection.sendall(data)
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    assert catalog.request("/").status == 200
    assert len(stop(catalog)) == 1


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_scrapes_and_probes_are_neither_measured_nor_logged_nor_traced(traced, collector, path):
    for method in ("GET", "HEAD", "DELETE"):
        traced.request(path, method, RUN)
    samples = scrape(traced)
    assert requests_total(traced) == {("GET", "/", "200"): 0}
    # The run id that they carry is seen.
    assert ("vigie_run_last_seen_timestamp_seconds", ("run_id", "drill-1")) in samples
    assert stop(traced) == []
    assert collector.spans == []


def test_only_the_newest_run_id_is_kept(catalog):
    for run_id in ("first", "x" * 40):
        catalog.request("/", headers={"X-Vigie-Run-Id": run_id})
    for run_id in ("", "x" * 41, "a b", 'a"b', "a/b", "\xe9", "{}"):
        assert catalog.request("/", headers={"X-Vigie-Run-Id": run_id}).status == 200
    runs = [key for key in scrape(catalog) if key[0] == "vigie_run_last_seen_timestamp_seconds"]
    assert [dict(key[1:])["run_id"] for key in runs] == ["x" * 40]
    lines = stop(catalog)
    assert [line.get("run_id") for line in lines] == ["first", "x" * 40, *[None] * 7]


def test_a_log_line_is_that_of_the_flask_service(traced, collector, start_child):
    flask = start_child(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    flask.wait_until_listening()
    headers = {**RUN, "traceparent": PARENT}
    lines = []
    for child in (flask, traced):
        for path in ("/?page=1", "/nowhere"):
            child.request(path, headers=headers)
        lines.append(stop(child))
    for expected, line in zip(*lines, strict=True):
        assert list(line) == list(expected)
        assert {name: type(value) for name, value in line.items()} == {
            name: type(value) for name, value in expected.items()
        }
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        for name in expected.keys() - {"time", "duration_ms", "span_id"}:
            assert line[name] == expected[name], name


def test_a_hostile_request_cannot_break_the_line(catalog):
    catalog.request('/%0A{"level":"critical"}"', headers={"User-Agent": '\t"}'})
    (line,) = stop(catalog)
    assert (line["level"], line["status"], line["route"]) == ("warning", 404, "unmatched")
    assert line["message"] == 'GET /%0A{"level":"critical"}" 404'


def test_a_request_is_a_server_span_with_the_run_id(traced, collector):
    traced.request("/?page=1", headers=RUN)
    (line,) = stop(traced)
    (span,) = collector.spans
    assert (span["name"], span["kind"], span["status"], span["parent_span_id"]) == ("GET /", SERVER, UNSET, "")
    assert span["vigie.run_id"] == "drill-1"
    assert span["http.request.method"] == "GET"
    assert span["http.route"] == span["url.path"] == "/"
    assert span["http.response.status_code"] == 200
    assert span["resource"]["service.name"] == "catalog"
    assert span["resource"]["telemetry.sdk.language"] == "nodejs"
    assert (line["trace_id"], line["span_id"]) == (span["trace_id"], span["span_id"])


def test_the_span_has_the_attributes_of_the_flask_service(traced, collector, start_child):
    flask = start_child(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    flask.wait_until_listening()
    for child in (flask, traced):
        child.request("/", headers={**RUN, "User-Agent": "test"})
        stop(child)
    expected, span = collector.spans
    own = {"span_id", "trace_id", "resource"}
    assert {name: value for name, value in span.items() if name not in own} == {
        name: value for name, value in expected.items() if name not in own
    }


def test_the_names_of_the_resource_can_be_chosen(start_catalog, collector):
    child = start_catalog(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces",
        OTEL_SERVICE_NAME="shop",
        OTEL_RESOURCE_ATTRIBUTES="service.version=2,service.name=other",
    )
    child.wait_until_listening()
    assert child.request("/").json()["service"] == "shop"
    stop(child)
    resource = collector.spans[0]["resource"]
    assert (resource["service.name"], resource["service.version"]) == ("shop", "2")


def test_the_callers_trace_is_continued(traced, collector):
    traced.request("/", headers={"traceparent": PARENT})
    traced.request("/")
    stop(traced)
    child, root = collector.spans
    assert (child["trace_id"], child["parent_span_id"]) == (PARENT[3:35], PARENT[36:52])
    assert root["trace_id"] != child["trace_id"]
    assert root["parent_span_id"] == ""


def test_exemplars_point_to_the_trace(traced):
    traced.request("/", headers={**RUN, "traceparent": PARENT})
    labels = {"trace_id": PARENT[3:35], "run_id": "drill-1"}
    assert exemplars(traced) == {"http_requests_total": labels, "request_duration_seconds_bucket": labels}


def test_a_trace_that_is_not_sampled_is_no_exemplar_but_stays_in_the_log(traced, collector):
    traced.request("/", headers={"traceparent": PARENT[:-1] + "0"})
    assert exemplars(traced) == {}
    (line,) = stop(traced)
    assert line["trace_id"] == PARENT[3:35]
    assert collector.spans == []


def test_without_spans_the_run_id_is_the_exemplar(catalog):
    catalog.request("/", headers={**RUN, "traceparent": PARENT})
    labels = {"run_id": "drill-1"}
    assert exemplars(catalog) == {"http_requests_total": labels, "request_duration_seconds_bucket": labels}
    (line,) = stop(catalog)
    assert not {"trace_id", "span_id"} & line.keys()


def test_an_unknown_path_or_method_does_not_become_a_span_name(traced, collector):
    traced.request("/wp-login.php")
    traced.request("/", "PROPFIND")
    stop(traced)
    spans = collector.spans
    assert [(span["name"], span["http.response.status_code"]) for span in spans] == [("GET", 404), ("_OTHER", 405)]
    assert all("http.route" not in span and span["status"] == UNSET for span in spans)


def test_a_connection_can_be_used_again(catalog):
    connection = HTTPConnection("127.0.0.1", catalog.port, timeout=WAIT)
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    assert response.getheader("Keep-Alive") == "timeout=120"  # seconds; longer than any scrape interval here
    first = connection.sock
    connection.request("GET", "/")
    assert connection.getresponse().read()
    assert connection.sock is first
    connection.close()


MALFORMED = [
    ("APP_HOST", ""),
    ("APP_HOST", "127.0.0.1 "),
    ("APP_PORT", "http"),
    ("APP_PORT", ""),
    ("APP_PORT", "-1"),
    ("APP_PORT", "65536"),
    ("APP_PORT", "5000.0"),
    ("APP_PORT", "5e3"),
    ("APP_PORT", "5_000"),
    ("APP_PORT", " 5000"),
    ("APP_PORT", "\u0665\u0660\u0660\u0660"),
    ("APP_PORT", "9" * 5000),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://127.0.0.1:4317"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a b:4318"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", " http://127.0.0.1:4318"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http:a"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:0"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:port/v1/traces"),
]
REMEDIES = {
    "APP_HOST": "an address or host name such as 127.0.0.1",
    "APP_PORT": "a whole number from 0 to 65535, for example 5001",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "an OTLP/HTTP address such as http://127.0.0.1:4318",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "an OTLP/HTTP address such as http://127.0.0.1:4318",
}
READ = """
import { ConfigError, readSettings } from "./src/config.js";
for (const [name, value] of JSON.parse(process.env.CASES)) {
  let sentence = null;
  try {
    readSettings({ [name]: value });
  } catch (error) {
    sentence = error instanceof ConfigError ? error.message : `not a ConfigError: ${error}`;
  }
  console.log(JSON.stringify({ sentence }));
}
"""


def test_a_malformed_value_is_one_sentence_with_variable_value_and_remedy(start_catalog):
    code, lines, err = start_catalog(READ, CASES=json.dumps(MALFORMED)).finish()
    assert (code, err) == (0, "")
    expected = [f"{name} is {value!r}; set it to {REMEDIES[name]}." for name, value in MALFORMED]
    assert [line["sentence"] for line in lines] == expected


def test_a_process_with_a_malformed_value_exits_2_before_anything(start_catalog):
    code, lines, err = start_catalog(APP_PORT="http").finish()
    assert (code, lines) == (2, [])
    assert err == "APP_PORT is 'http'; set it to a whole number from 0 to 65535, for example 5001.\n"


def test_empty_endpoints_mean_no_spans(start_catalog):
    child = start_catalog(OTEL_EXPORTER_OTLP_ENDPOINT="", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="")
    assert child.wait_until_listening()["traces"] is False


def test_a_busy_port_is_named(start_catalog):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, lines, err = start_catalog(APP_PORT=str(port)).finish()
    assert (code, lines) == (2, [])
    assert len(err.splitlines()) == 1
    assert f"APP_PORT is {port}" in err
    assert "address already in use" in err


def test_an_unknown_host_is_named(start_catalog):
    code, lines, err = start_catalog(APP_HOST="no-such-host.invalid").finish()
    assert (code, lines) == (2, [])
    assert len(err.splitlines()) == 1
    assert "APP_HOST is 'no-such-host.invalid'" in err
