"""dashboard_check: Vigie's own dashboards against a real chain, every reason against a real Prometheus, and Grafana's part against a
server written from Grafana's documentation (fake_grafana.py says what that proves)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_grafana import PASSWORD, FakeGrafana
from small_lab import INTERVAL, SmallLab
from systems import AlertmanagerServer, Exporter, Json, PrometheusServer, RunModule, eventually

Options = dict[str, Any]
FILES = sorted((Path(__file__).parents[2] / "roles/dashboards/files").glob("*.json"))
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@pytest.fixture(scope="module")
def lab(
    make_prometheus: Callable[[], PrometheusServer],
    make_alertmanager: Callable[[], AlertmanagerServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SmallLab]:
    """The embedded chain, without a drill so far."""
    one = SmallLab(make_prometheus(), make_alertmanager(), tmp_path_factory.mktemp("lab"))
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture
def all_of_it(lab: SmallLab) -> Options:
    """The options for Vigie's dashboards on the embedded platform."""
    return {
        "endpoint": {"url": lab.prometheus.url},
        "dashboard_file": [str(path) for path in FILES],
        "platform": "process",
        "scrape_interval": INTERVAL,
        "timeout": 20,
        "interval": 0.5,
    }


def test_every_panel_of_ours_has_data(run_module: RunModule, all_of_it: Options) -> None:
    result = run_module("dashboard_check", **all_of_it)
    assert result["reason"] == "ok", json.dumps(result["failures"], indent=1)
    assert result["observed"]["panels"] > 50 and result["observed"]["failures"] == 0
    assert {one["dashboard"] for one in result["skipped"]} == {"vigie-cluster"}
    # The panels that wait for a crash are the only ones that may be empty now, besides those of an idle application.
    assert "PodCrashLoop firing (alerts)" in {one["panel"] for one in result["empty"]}


def test_what_only_a_cluster_has_is_missing_here(run_module: RunModule, all_of_it: Options) -> None:
    options = {**all_of_it, "platform": "kubernetes", "timeout": 0}
    result = run_module("dashboard_check", **options)
    assert {one["dashboard"] for one in result["failures"]} == {"vigie-cluster"}
    assert {one["reason"] for one in result["failures"]} == {"metric_unknown"}


def test_a_renamed_metric_is_named(run_module: RunModule, all_of_it: Options, lab: SmallLab) -> None:
    rename = {
        "source_labels": ["__name__"],
        "regex": "active_users",
        "target_label": "__name__",
        "replacement": "active_users_now",
    }
    lab.reconfigure(flask_metrics=[rename])
    try:
        result = run_module("dashboard_check", **{**all_of_it, "timeout": 0.5})
    finally:
        lab.reconfigure()
    assert result["failed"] and result["reason"] == "metric_unknown"
    wanted = ["Active users now (requests)", "Active users (requests)"]
    assert [one["panel"] for one in result["failures"]] == wanted
    assert all("active_users_now" in one["hint"] and "curl" in one["hint"] for one in result["failures"])
    assert result["hint"].startswith("2 of ") and result["observed"]["failures"] == 2
    assert run_module("dashboard_check", **all_of_it)["matched"]


def test_a_metric_that_is_gone_is_missed_although_its_rate_goes_on(
    run_module: RunModule, all_of_it: Options, lab: SmallLab
) -> None:
    drop = {"source_labels": ["__name__"], "regex": "node_context_switches_total", "action": "drop"}
    lab.reconfigure(node=[drop])
    try:
        assert lab.value("count(rate(node_context_switches_total[2m]))") == 1
        result = run_module("dashboard_check", **{**all_of_it, "timeout": 0})
    finally:
        lab.reconfigure()
    (failure,) = result["failures"]
    assert failure["reason"] == "metric_unknown" and failure["panel"] == "Context switches (per second)"


def test_a_label_that_changed_is_told_from_a_metric_that_is_gone(
    run_module: RunModule, all_of_it: Options, lab: SmallLab
) -> None:
    lab.reconfigure(flask_metrics=[{"target_label": "container", "replacement": "flask"}])
    try:
        result = run_module("dashboard_check", **{**all_of_it, "timeout": 0})
    finally:
        lab.reconfigure()
    strict = [one for one in result["failures"] if one["panel"] == "Active users (requests)"]
    assert strict and {one["reason"] for one in strict} == {"no_data"}, result["failures"]
    assert all('container="flask-metrics"' in one["hint"] for one in strict)


# --- every reason ---------------------------------------------------------------------------------------------------------------------


def panel(title: str, *queries: str, description: str = "", **more: Any) -> Json:
    targets = [{"refId": chr(65 + at), "expr": query, "datasource": SOURCE} for at, query in enumerate(queries)]
    return {"type": "timeseries", "title": title, "targets": targets, "description": description, **more}


def page(*panels: Json, variables: tuple[Json, ...] = (), uid: str = "page", **more: Any) -> Json:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "current": {"value": "prometheus"}}
    return {
        "uid": uid,
        "title": f"A {uid}",
        "time": {"from": "now-5m", "to": "now"},
        "panels": list(panels),
        "templating": {"list": [source, *variables]},
        **more,
    }


@pytest.fixture
def ask(
    run_module: RunModule, prometheus: PrometheusServer, exporter: Exporter, tmp_path: Path
) -> Iterator[Callable[..., Json]]:
    """Ask for a dashboard both ways, and return the result after it was found the same."""
    servers: list[FakeGrafana] = []
    (tmp_path / "password").write_text(PASSWORD)

    def look(model: Json, **options: Any) -> Json:
        path = tmp_path / "page.json"
        path.write_text(json.dumps(model))
        shared = {"timeout": 0.5, "interval": 0.2, **options}
        direct = run_module(
            "dashboard_check",
            endpoint={"url": prometheus.url},
            dashboard_file=str(path),
            scrape_interval=INTERVAL,
            **shared,
        )
        servers.append(FakeGrafana(prometheus.url, [model]))
        through = run_module(
            "dashboard_check",
            endpoint={"url": servers[-1].url, "username": "admin", "password_file": str(tmp_path / "password")},
            uid=model["uid"],
            **shared,
        )
        told = [[(one["panel"], one["reason"]) for one in result.get("failures", [])] for result in (direct, through)]
        assert direct["reason"] == through["reason"] and told[0] == told[1], (direct, through)
        assert PASSWORD not in json.dumps(through)
        return direct

    yield look
    for server in servers:
        server.stop()


BASE = 'case_value{case="base"}'
CASES: dict[str, tuple[Json, str]] = {
    "no_query": (panel("p"), "asks nothing"),
    "bad_query": (panel("p", f"sum({BASE}"), "parse error"),
    "metric_unknown": (panel("p", "case_valu"), "the nearest names are case_value"),
    "metric_unknown behind a fallback": (panel("p", "sum(case_valu) or vector(0)"), "called case_valu now"),
    "metric_unknown although it may be empty": (panel("p", "case_valu > 9", description="Empty while low."), "now"),
    "no_data by a matcher": (panel("p", 'case_value{case="never"}'), "Nothing passes the matchers of"),
    "no_data by a comparison": (panel("p", f"{BASE} > 2"), "lets nothing pass"),
    "no_data of one of two queries": (panel("p", BASE, f"{BASE} > 2"), "lets nothing pass"),
    "not_a_number": (panel("p", f"({BASE} - 1) / ({BASE} - 1)"), "NaN"),
    "stale_sample": (panel("p", "case_old"), "s old, but must be after"),
    "stale_sample behind a range": (panel("p", "max_over_time(case_old[5m])"), "s old"),
    "variable_unset": (panel("p", 'case_value{case="$which"}'), "The variable which has no value"),
}


@pytest.mark.parametrize("name", CASES)
def test_reason(ask: Callable[..., Json], name: str) -> None:
    one, words = CASES[name]
    result = ask(page(panel("good", BASE), one))
    assert result["failed"] and result["reason"] == name.split(maxsplit=1)[0], result
    (failure,) = result["failures"]
    assert failure["panel"] == "p" and words in failure["hint"], failure
    assert result["hint"].startswith("1 of 2 panels")


PASSES = {
    "a value": panel("p", BASE),
    "a rate": panel("p", f"rate({BASE}[$__rate_interval])"),
    "all of Grafana's variables": panel(
        "p", f"delta({BASE}[$__range]) + $__range_s + ${{__interval_ms}} + count_over_time({BASE}[${{__interval}}])"
    ),
    "a least step": panel("p", f"rate({BASE}[$__rate_interval])", interval="30s"),
    "a comment": panel("p", f"{BASE} # why"),
    "a scalar": panel("p", f"scalar({BASE})"),
    "the past": panel("p", f"{BASE} - case_value offset 1s or vector(0)"),
    "nothing, while it may": panel("p", f"{BASE} > 2", description="Whatever. Empty while it is low."),
    "nothing, until something comes": panel("p", "not_yet_there", description="Empty until it comes."),
    "NaN, while it may": panel("p", f"({BASE} - 1) / ({BASE} - 1)", description="Empty while idle."),
    "a panel of another platform": panel("p", "elsewhere", description="Only on kubernetes."),
    "a hidden query": {
        "type": "stat",
        "datasource": SOURCE,
        "targets": [{"expr": "zzz", "hide": True}, {"expr": BASE}],
    },
    "a group of label_replace": panel("p", f'label_replace({BASE}, "a", "$1", "case", "(.*)")'),
    "a row and a text": {"type": "row", "panels": [panel("p", BASE), {"type": "text"}]},
}


@pytest.mark.parametrize("name", PASSES)
def test_passes(ask: Callable[..., Json], name: str) -> None:
    result = ask(page(PASSES[name]), platform="process", timeout=5)
    assert result["matched"] and result["failures"] == [], result["failures"]
    assert result["observed"]["panels"] == (0 if name == "a panel of another platform" else 1)


def test_a_range_is_no_value(run_module: RunModule, prometheus: PrometheusServer, tmp_path: Path) -> None:
    (tmp_path / "page.json").write_text(json.dumps(page(panel("p", f"{BASE}[1m]"))))
    options = {"endpoint": {"url": prometheus.url}, "dashboard_file": str(tmp_path / "page.json"), "timeout": 0}
    (failure,) = run_module("dashboard_check", **options)["failures"]
    assert failure["reason"] == "bad_query" and "matrix" in failure["hint"]


def choice(name: str, query: str, value: Any, **more: Any) -> Json:
    current = {"current": {"value": value}} if value else {}
    return {"name": name, "type": "query", "query": query, "datasource": SOURCE, **current, **more}


def test_variables_take_saved_given_and_all_values(ask: Callable[..., Json]) -> None:
    one = panel("p", 'case_value{case=~"$which"}')
    labels = "label_values(case_value, case)"
    assert ask(page(one, variables=(choice("which", labels, "base"),)))["matched"]
    assert ask(page(one, variables=(choice("which", labels, "nothing"),)))["reason"] == "no_data"
    assert ask(page(one, variables=(choice("which", labels, "nothing"),)), variables={"which": "base"})["matched"]
    assert ask(page(one, variables=(choice("which", labels, ["base", "idle"]),)))["matched"]
    assert ask(page(one, variables=(choice("which", labels, "$__all", allValue=".*"),)))["matched"]
    assert ask(page(one, variables=(choice("which", labels, None),)))["reason"] == "variable_unset"


def test_a_variable_without_choices_is_missed(ask: Callable[..., Json]) -> None:
    result = ask(page(panel("p", BASE), variables=(choice("which", "label_values(gone, case)", "base"),)))
    assert [(one["panel"], one["reason"]) for one in result["failures"]] == [("variable which", "metric_unknown")]


def test_words_for_the_whole_dashboard(ask: Callable[..., Json]) -> None:
    result = ask(page(panel("p", "elsewhere"), description="Nodes. Only on kubernetes."), platform="process")
    assert result["matched"] and result["skipped"] == [{"dashboard": "page", "panel": "p", "only_on": "kubernetes"}]


def test_since_excludes_old_samples(ask: Callable[..., Json], exporter: Exporter) -> None:
    exporter.set(base=1)
    assert ask(page(panel("p", BASE)), since="-30s", timeout=5)["matched"]
    result = ask(page(panel("p", "case_old")), since="-30s", max_age=600)
    assert result["reason"] == "stale_sample"


def test_check_mode_looks_once_and_never_fails(
    run_module: RunModule, prometheus: PrometheusServer, tmp_path: Path
) -> None:
    (tmp_path / "page.json").write_text(json.dumps(page(panel("p", "zzz"))))
    options = {"endpoint": {"url": prometheus.url}, "dashboard_file": str(tmp_path / "page.json"), "timeout": 60}
    result = run_module("dashboard_check", check_mode=True, **options)
    assert not result["failed"] and not result["matched"] and result["attempts"] == 1
    assert result["reason"] == "metric_unknown"


def test_a_file_that_is_no_dashboard(run_module: RunModule, prometheus: PrometheusServer, tmp_path: Path) -> None:
    path = tmp_path / "page.json"
    options = {"endpoint": {"url": prometheus.url}, "dashboard_file": str(path), "timeout": 60}
    assert run_module("dashboard_check", **options)["reason"] == "bad_option"
    for text in (
        "{",
        "[]",
        '{"apiVersion": "dashboard.grafana.app/v2", "spec": {}}',
        '{"uid": "a", "title": "b", "panels": 1}',
    ):
        path.write_text(text)
        result = run_module("dashboard_check", **options)
        assert result["reason"] == "dashboard_invalid" and result["attempts"] == 0, text


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"uid": "a", "dashboard_file": "b"},
        {"dashboard_file": "b", "datasource": "jaeger"},
        {"uid": "a", "datasource": "jaeger", "expect": "absent"},
        {"dashboard_file": "b", "expect": "absent"},
        {"uid": "a", "scrape_interval": "soon"},
        {"uid": "a", "scrape_interval": "0s"},
        {"uid": "a", "max_age": 0},
    ],
)
def test_bad_options(run_module: RunModule, options: Options) -> None:
    result = run_module("dashboard_check", endpoint={"url": "http://127.0.0.1:1"}, **options)
    assert result["failed"] and result["reason"] == "bad_option", result


# --- Grafana --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def grafana(prometheus: PrometheusServer) -> Iterator[FakeGrafana]:
    server = FakeGrafana(prometheus.url, [page(panel("p", BASE), uid="one"), page(panel("q", BASE), uid="two")])
    yield server
    server.stop()


@pytest.fixture
def in_grafana(grafana: FakeGrafana, tmp_path: Path) -> Options:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    endpoint = {"url": grafana.url, "username": "admin", "password_file": str(tmp_path / "password")}
    return {"endpoint": endpoint, "timeout": 0.5, "interval": 0.2}


def test_ours_through_grafana(
    run_module: RunModule, lab: SmallLab, all_of_it: Options, in_grafana: Options, grafana: FakeGrafana
) -> None:
    grafana.prometheus_url = lab.prometheus.url
    grafana.dashboards = {path.stem: json.loads(path.read_text()) for path in FILES}
    options = {**in_grafana, "platform": "process", "timeout": 20}
    result = run_module("dashboard_check", uid=[path.stem for path in FILES], **options)
    assert result["reason"] == "ok", json.dumps(result.get("failures"), indent=1)
    direct = run_module("dashboard_check", **all_of_it)
    assert (direct["observed"]["panels"], direct["observed"]["queries"]) == (
        result["observed"]["panels"],
        result["observed"]["queries"],
    )


def test_by_title_too(run_module: RunModule, in_grafana: Options, grafana: FakeGrafana) -> None:
    result = run_module("dashboard_check", title=["A one"], uid=["two"], **in_grafana)
    assert result["matched"] and result["observed"]["dashboards"] == ["two", "one"]
    assert all(path.startswith("/api/") for _method, path, _body in grafana.requests)
    # A title that only contains the words is another dashboard.
    assert run_module("dashboard_check", title="A on", **in_grafana)["reason"] == "dashboard_missing"


def test_dashboard_missing(run_module: RunModule, in_grafana: Options) -> None:
    result = run_module("dashboard_check", uid="three", **in_grafana)
    assert result["reason"] == "dashboard_missing" and "uid three" in result["hint"]
    assert result["attempts"] > 1, "provisioning takes time"


def test_dashboard_invalid_in_grafana(run_module: RunModule, in_grafana: Options, grafana: FakeGrafana) -> None:
    grafana.dashboards["one"] = {"title": "A one", "elements": {}}
    assert run_module("dashboard_check", uid="one", **in_grafana)["reason"] == "dashboard_invalid"


def test_datasource_missing(run_module: RunModule, in_grafana: Options, grafana: FakeGrafana) -> None:
    grafana.sources = {"other"}
    result = run_module("dashboard_check", uid="one", **in_grafana)
    assert result["reason"] == "datasource_missing" and "uid prometheus" in result["hint"]
    assert run_module("dashboard_check", uid="one", variables={"datasource": "other"}, **in_grafana)["matched"]


def test_datasource_unhealthy(run_module: RunModule, in_grafana: Options, grafana: FakeGrafana) -> None:
    grafana.prometheus_url = "http://127.0.0.1:1"
    result = run_module("dashboard_check", uid="one", **in_grafana)
    assert result["reason"] == "datasource_unhealthy" and "Prometheus API" in result["hint"]


def test_further_data_sources_are_healthy_too(run_module: RunModule, in_grafana: Options, grafana: FakeGrafana) -> None:
    result = run_module("dashboard_check", uid="one", datasource=["jaeger"], **in_grafana)
    assert result["reason"] == "datasource_missing" and "uid jaeger" in result["hint"]
    grafana.sources.add("jaeger")
    assert run_module("dashboard_check", uid="one", datasource=["jaeger"], **in_grafana)["matched"]


def test_a_wrong_password(run_module: RunModule, in_grafana: Options, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")
    result = run_module("dashboard_check", uid="one", **in_grafana)
    assert result["reason"] == "access_denied" and result["attempts"] == 1


def test_absent(run_module: RunModule, in_grafana: Options, grafana: FakeGrafana) -> None:
    there = run_module("dashboard_check", uid=["one", "three"], expect="absent", **in_grafana)
    assert there["failed"] and there["reason"] == "appeared" and there["observed"] == {"dashboards": ["one"]}
    assert run_module("dashboard_check", title="A two", expect="absent", **in_grafana)["reason"] == "appeared"
    grafana.dashboards.clear()
    assert run_module("dashboard_check", uid=["one"], title=["A two"], expect="absent", **in_grafana)["matched"]
    assert not any(path == "/api/ds/query" for _method, path, _body in grafana.requests)


def test_what_is_asked_of_grafana(run_module: RunModule, in_grafana: Options, grafana: FakeGrafana) -> None:
    one = panel("p", f"rate({BASE}[$__rate_interval])", 'case_value{case="$which"}', interval="2s")
    grafana.dashboards["one"] = page(one, uid="one", variables=(choice("which", "", "base"),))
    assert run_module("dashboard_check", uid="one", **{**in_grafana, "timeout": 5})["matched"]
    bodies = [body for method, path, body in grafana.requests if path == "/api/ds/query"]
    queries = bodies[0]["queries"]
    assert bodies[0]["from"] == "now-300s"
    assert [query["expr"] for query in queries] == [f"rate({BASE}[$__rate_interval])", BASE]
    assert {query["datasource"]["uid"] for query in queries} == {"prometheus"}
    assert {query["interval"] for query in queries} == {"2s"}


def test_a_crash_fills_the_panels_that_waited_for_it(run_module: RunModule, all_of_it: Options, lab: SmallLab) -> None:
    """Last of all, because it changes the lab: then only what nobody asks for or nothing sends may be empty."""
    before = {one["panel"] for one in run_module("dashboard_check", **all_of_it)["empty"]}
    for number in range(1, 4):
        eventually(lambda: lab.ask("/readyz"), "the restart of the application")
        with pytest.raises(OSError, match=r"closed|reset|refused|Remote"):
            lab.ask("/crash")
        eventually(
            lambda number=number: (
                lab.value('max(kube_pod_container_status_restarts_total{container="flask-metrics"})') >= number
            ),
            f"restart {number} in Prometheus",
        )
    eventually(lambda: lab.ask("/"), "an answer of the application")
    eventually(lambda: lab.value('count(ALERTS{alertname="PodCrashLoop"})') == 1, "the alert")
    result = run_module("dashboard_check", **all_of_it)
    assert result["matched"], json.dumps(result["failures"], indent=1)
    after = {one["panel"] for one in result["empty"]}
    crash = {title for title in before if re.search(r"PodCrashLoop|exit|crash|firing", title)}
    assert len(crash) >= 5 and not crash & after, after
