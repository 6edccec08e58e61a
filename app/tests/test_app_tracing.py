"""Spans, exported for real to a collector in this process."""

from __future__ import annotations

import pytest
from flask_metrics.web import service_of
from test_app_metrics import exemplars

ERROR, SERVER = 2, 2
RUN = {"X-Vigie-Run-Id": "drill-1"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def traced(make_app, collector, monkeypatch):
    """A traced application whose spans go to ``collector``."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    return make_app(traces=True)


def export(app, collector):
    assert service_of(app).tracing.flush(60)
    return collector.spans


def test_a_request_is_a_server_span_with_the_run_id(traced, collector, stream):
    traced.test_client().get("/?page=1", headers=RUN)
    (span,) = export(traced, collector)
    assert (span["name"], span["kind"], span["status"], span["parent_span_id"]) == ("GET /", SERVER, 0, "")
    assert span["vigie.run_id"] == "drill-1"
    assert span["http.request.method"] == "GET"
    assert span["http.route"] == span["url.path"] == "/"
    assert span["http.response.status_code"] == 200
    assert span["resource"]["service.name"] == "flask-metrics"
    (line,) = stream.lines
    assert (line["trace_id"], line["span_id"]) == (span["trace_id"], span["span_id"])


def test_service_name(make_app, collector, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/v1/traces")
    app = make_app(traces=True, service_name="shop")
    app.test_client().get("/")
    assert export(app, collector)[0]["resource"]["service.name"] == "shop"


def test_without_run_id_there_is_no_attribute(traced, collector):
    traced.test_client().get("/", headers={"X-Vigie-Run-Id": "not valid"})
    assert "vigie.run_id" not in export(traced, collector)[0]


def test_the_callers_trace_is_continued(traced, collector):
    traced.test_client().get("/", headers={"traceparent": PARENT})
    (span,) = export(traced, collector)
    assert (span["trace_id"], span["parent_span_id"]) == (PARENT[3:35], PARENT[36:52])


def test_requests_do_not_inherit_the_span_of_the_one_before(traced, collector):
    client = traced.test_client()
    for _ in range(2):
        client.get("/")
        assert service_of(traced).tracing.current_ids() is None
    first, second = export(traced, collector)
    assert first["trace_id"] != second["trace_id"]
    assert first["parent_span_id"] == second["parent_span_id"] == ""


def test_exemplars_point_to_the_trace(traced, collector):
    traced.test_client().get("/", headers=RUN)
    (span,) = export(traced, collector)
    labels = {"trace_id": span["trace_id"], "run_id": "drill-1"}
    assert exemplars(traced) == {"http_requests_total": [labels], "request_duration_seconds_bucket": [labels]}


def test_a_trace_that_is_not_sampled_is_no_exemplar_but_stays_in_the_log(traced, collector, stream):
    traced.test_client().get("/", headers={"traceparent": PARENT[:-1] + "0"})
    assert export(traced, collector) == []
    assert exemplars(traced) == {}
    assert stream.lines[0]["trace_id"] == PARENT[3:35]


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_scrapes_and_probes_have_no_span(traced, collector, path):
    # The host name must not matter: the service's own name contains "metrics".
    traced.test_client().get(path, base_url="http://flask-metrics:5000")
    traced.test_client().get("/", base_url="http://flask-metrics:5000")
    assert [span["name"] for span in export(traced, collector)] == ["GET /"]


def test_an_unknown_path_or_method_does_not_become_a_span_name(traced, collector):
    traced.test_client().get("/wp-login.php")
    traced.test_client().open("/", environ_overrides={"REQUEST_METHOD": "BREW"})
    spans = export(traced, collector)
    assert [(span["name"], span["http.response.status_code"]) for span in spans] == [("GET", 404), ("_OTHER", 405)]
    assert all("http.route" not in span and span["status"] != ERROR for span in spans)


def test_a_failing_view_is_an_error_span_with_its_exception(traced, collector):
    traced.add_url_rule("/fail", view_func=lambda: 1 / 0)
    traced.test_client().get("/fail")
    (span,) = export(traced, collector)
    assert (span["name"], span["status"], span["events"]) == ("GET /fail", ERROR, ["exception"])
    assert span["http.response.status_code"] == 500
