"""Routes and metrics, on applications called in process."""

from __future__ import annotations

import time

import pytest
from flask_metrics.web import service_of
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
RUN = {"X-Vigie-Run-Id": "drill-1"}


def scrape(app, headers=None):
    """All samples of one scrape in the text format: {(name, labels...): value}."""
    response = app.test_client().get("/metrics", headers=headers)
    assert response.status_code == 200
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse_text(response.text)
        for sample in family.samples
    }


def requests_total(app, **labels):
    return scrape(app).get(("http_requests_total", *sorted(labels.items())))


def exemplars(app):
    """Exemplar labels of a scrape in OpenMetrics: {sample name: [labels, ...]}."""
    response = app.test_client().get("/metrics", headers=OPENMETRICS)
    assert response.content_type.startswith("application/openmetrics-text")
    found: dict[str, list[dict[str, str]]] = {}
    for family in parse_openmetrics(response.text):
        for sample in family.samples:
            if sample.exemplar:
                found.setdefault(sample.name, []).append(dict(sample.exemplar.labels))
    return found


def test_greeting(make_app):
    response = make_app(service_name="shop").test_client().get("/")
    assert response.status_code == 200
    assert response.json == {"message": "Hello from Vigie", "service": "shop"}


@pytest.mark.parametrize(
    ("path", "method"),
    [(path, "POST") for path in ("/", "/metrics", "/healthz", "/readyz")]
    + [(path, method) for path in ("/", "/crash") for method in ("PUT", "DELETE", "OPTIONS", "BREW")],
)
def test_other_methods_are_refused(make_app, path, method):
    assert make_app().test_client().open(path, method=method).status_code == 405


@pytest.mark.parametrize(("phase", "status"), [("starting", 503), ("ready", 200), ("stopping", 503)])
def test_readyz_follows_the_phase_and_healthz_does_not(make_app, phase, status):
    app = make_app()
    service_of(app).phase = phase
    response = app.test_client().get("/readyz")
    assert (response.status_code, response.json) == (status, {"status": phase})
    assert app.test_client().get("/healthz").status_code == 200


def test_names_and_types(make_app):
    app = make_app()
    app.test_client().get("/", headers=RUN)
    types = {family.name: family.type for family in parse_openmetrics(_openmetrics(app))}
    assert types["http_requests"] == "counter"
    assert types["active_users"] == "gauge"
    assert types["request_duration_seconds"] == "histogram"
    assert types["request_latency_seconds"] == "summary"
    assert types["vigie_run_last_seen_timestamp_seconds"] == "gauge"
    assert {"process_cpu_seconds", "python_info", "python_gc_collections"} <= set(types)


def _openmetrics(app):
    return app.test_client().get("/metrics", headers=OPENMETRICS).text


def test_one_request_moves_each_metric_once(make_app):
    app = make_app()
    app.test_client().get("/")
    assert requests_total(app, method="GET", route="/", status="200") == 1
    labels = (("method", "GET"), ("route", "/"))
    samples = {key[0]: value for key, value in scrape(app).items() if key[1:] == labels}
    assert samples["request_duration_seconds_count"] == 1
    assert samples["request_latency_seconds_count"] == 1
    assert samples["request_duration_seconds_sum"] > 0
    assert samples["request_latency_seconds_sum"] == samples["request_duration_seconds_sum"]


def test_the_first_request_is_seen_as_an_increase(make_app):
    assert requests_total(make_app(), method="GET", route="/", status="200") == 0


def test_every_unknown_path_is_one_series(make_app):
    app = make_app()
    for path in ("/a", "/b", "/metrics/", "/wp-login.php"):
        assert app.test_client().get(path).status_code == 404
    assert requests_total(app, method="GET", route="unmatched", status="404") == 4
    routes = {dict(key[1:])["route"] for key in scrape(app) if key[0] == "http_requests_total"}
    assert routes == {"/", "unmatched"}


def test_every_unknown_method_is_one_series(make_app):
    app = make_app()
    for method in ("BREW", "WHEN", "X-1"):
        app.test_client().open("/", method="GET", environ_overrides={"REQUEST_METHOD": method})
    methods = {dict(key[1:])["method"] for key in scrape(app) if key[0] == "http_requests_total"}
    assert methods == {"GET", "_OTHER"}
    assert requests_total(app, method="_OTHER", route="unmatched", status="405") == 3


def test_a_failing_view_is_counted_as_500(make_app):
    app = make_app()
    app.add_url_rule("/fail/<name>", view_func=lambda name: 1 / 0)
    assert app.test_client().get("/fail/x").status_code == 500
    assert requests_total(app, method="GET", route="/fail/<name>", status="500") == 1
    assert scrape(app)[("active_users",)] == 0


def test_active_users_counts_requests_in_progress(make_app):
    app = make_app()
    app.add_url_rule("/inside", view_func=lambda: {"active": scrape(app)[("active_users",)]})
    assert app.test_client().get("/inside").json == {"active": 1}
    assert scrape(app)[("active_users",)] == 0


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_scrapes_and_probes_do_not_move_the_request_metrics(make_app, stream, path, method):
    app = make_app()
    before = _request_samples(app)
    app.test_client().open(path, method=method, headers=RUN)
    assert _request_samples(app) == before
    assert stream.lines == []


def _request_samples(app):
    prefixes = ("http_requests", "active_users", "request_")
    return {key: value for key, value in scrape(app).items() if key[0].startswith(prefixes)}


def test_exemplars_exist_in_openmetrics_only(make_app):
    app = make_app()
    app.test_client().get("/", headers=RUN)
    assert exemplars(app) == {
        "http_requests_total": [{"run_id": "drill-1"}],
        "request_duration_seconds_bucket": [{"run_id": "drill-1"}],
    }
    text = app.test_client().get("/metrics")
    assert text.content_type.startswith("text/plain; version=0.0.4")
    assert " # {" not in text.text


def test_without_run_id_and_spans_there_is_no_exemplar(make_app):
    app = make_app()
    app.test_client().get("/")
    assert exemplars(app) == {}


def test_only_the_newest_run_id_is_kept(make_app):
    app = make_app()
    assert _runs(app) == {}
    before = time.time()
    for run_id in ("first", "second"):
        app.test_client().get("/", headers={"X-Vigie-Run-Id": run_id})
    assert list(_runs(app)) == ["second"]
    assert before <= _runs(app)["second"] <= time.time()


@pytest.mark.parametrize("path", ["/nowhere", "/readyz", "/metrics"])
def test_any_request_can_carry_the_run_id(make_app, path):
    app = make_app()
    app.test_client().get(path, headers=RUN)
    assert list(_runs(app)) == ["drill-1"]


def _runs(app):
    name = "vigie_run_last_seen_timestamp_seconds"
    return {dict(key[1:])["run_id"]: value for key, value in scrape(app).items() if key[0] == name}


@pytest.mark.parametrize("run_id", ["a", "A-z.0_9", "x" * 40])
def test_valid_run_ids(make_app, stream, run_id):
    app = make_app()
    app.test_client().get("/", headers={"X-Vigie-Run-Id": run_id})
    assert list(_runs(app)) == [run_id]
    assert stream.lines[0]["run_id"] == run_id


@pytest.mark.parametrize("run_id", ["", "x" * 41, "a b", 'a"b', "a/b", "é", "run\n", "{}"])
def test_an_invalid_run_id_is_ignored(make_app, stream, run_id):
    app = make_app()
    app.test_client().get("/", headers=RUN)
    # Not through the client's headers, which refuse the line feed themselves.
    response = app.test_client().get("/", environ_overrides={"HTTP_X_VIGIE_RUN_ID": run_id})
    assert response.status_code == 200
    assert list(_runs(app)) == ["drill-1"]
    assert "run_id" not in stream.lines[-1]


def test_applications_do_not_share_metrics(make_app):
    first, second = make_app(), make_app()
    first.test_client().get("/", headers=RUN)
    assert requests_total(first, method="GET", route="/", status="200") == 1
    assert requests_total(second, method="GET", route="/", status="200") == 0
    assert _runs(second) == {}


def test_metrics_can_be_switched_off(make_app, stream):
    app = make_app(metrics=False)
    assert app.test_client().get("/").status_code == 200
    assert app.test_client().get("/metrics").status_code == 404
    assert len(stream.lines) == 1
