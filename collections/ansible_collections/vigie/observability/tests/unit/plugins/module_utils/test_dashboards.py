"""Dashboards as data: variables, conventions, and how queries are put together; the servers are scripted here."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.dashboards import (
    DashboardCheck,
    PrometheusSource,
    Query,
    Result,
    Source,
    greatest,
    read_dashboard,
)
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Answer, Series
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

NOW = 1795519770.0


def page(*panels: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"uid": "u", "title": "t", "panels": list(panels), **more}


def panel(*queries: str, **more: Any) -> dict[str, Any]:
    return {"type": "stat", "title": "p", "targets": [{"expr": query} for query in queries], **more}


def exprs(model: dict[str, Any], **given: Any) -> list[str]:
    return [query.expr for one in read_dashboard(model, given, "here").panels for query in one.queries]


# --- reading --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('up{a="$x"}', 'up{a="1"}'),
        ('up{a="${x}"}', 'up{a="1"}'),
        ('up{a="${x:regex}"}', 'up{a="1"}'),
        ('up{a="[[x]]"}', 'up{a="1"}'),
        ('up{a="$xy"}', 'up{a="2"}'),
        ("rate(up[$__rate_interval])", "rate(up[$__rate_interval])"),
        ("delta(up[${__range}])", "delta(up[${__range}])"),
        ('label_replace(up, "a", "$1", "b", "(.*)")', 'label_replace(up, "a", "$1", "b", "(.*)")'),
        ('up{a=~"b$"}', 'up{a=~"b$"}'),
    ],
)
def test_variables_in_a_text(text: str, wanted: str) -> None:
    listed = [{"name": "x", "current": {"value": "1"}}, {"name": "xy", "current": {"value": "2"}}]
    assert exprs(page(panel(text), templating={"list": listed})) == [wanted]


@pytest.mark.parametrize(
    ("variable", "given", "wanted"),
    [
        ({"current": {"value": "saved"}}, {}, "saved"),
        ({"current": {"value": "saved"}}, {"x": "given"}, "given"),
        ({"current": {"value": ["a", "b"]}}, {}, "(a|b)"),
        ({"current": {"value": ["a"]}}, {}, "a"),
        ({"current": {"value": "$__all"}, "allValue": ".*"}, {}, ".*"),
        ({"current": {"value": ["$__all"]}, "allValue": ".+"}, {}, ".+"),
        ({"type": "constant", "query": "fixed"}, {}, "fixed"),
        ({"type": "custom", "query": "a,b", "current": {}}, {"x": ["b"]}, "b"),
    ],
)
def test_values_of_a_variable(variable: dict[str, Any], given: dict[str, Any], wanted: str) -> None:
    assert exprs(page(panel("$x"), templating={"list": [{"name": "x", **variable}]}), **given) == [wanted]


@pytest.mark.parametrize("variables", [[], [{"name": "x"}], [{"name": "x", "current": {"value": "$__all"}}]])
def test_a_variable_without_a_value_is_a_fault_of_its_panel_only(variables: list[dict[str, Any]]) -> None:
    bad, good = read_dashboard(page(panel("$x"), panel("up"), templating={"list": variables}), {}, "here").panels
    assert bad.fault is not None and bad.fault[0] == "variable_unset" and "{x: ...}" in bad.fault[1]
    assert good.fault is None


@pytest.mark.parametrize(
    ("description", "may_be", "platform"),
    [
        ("Counter of it.", "", ""),
        ("Counter. Empty while nobody asks.", "while", ""),
        ("Empty until a drill ran. Counter.", "until", ""),
        ("Only on kubernetes.", "", "kubernetes"),
        ("Counter. Only on process. Empty while idle.", "while", "process"),
        ("It is empty while nobody asks.", "", ""),
        ("Only on Mondays and kubernetes.", "", ""),
        ("Empty while this sentence has no end", "", ""),
    ],
)
def test_words_with_a_meaning(description: str, may_be: str, platform: str) -> None:
    (one,) = read_dashboard(page(panel("up", description=description)), {}, "here").panels
    assert (one.may_be, one.platform) == (may_be, platform)
    (one,) = read_dashboard(page(panel("up"), description=description), {}, "here").panels
    assert (one.may_be, one.platform) == (may_be, platform), "a word for the whole dashboard"


def test_where_queries_come_from() -> None:
    inner = panel("inner", interval="30s", datasource={"uid": "a"})
    model = page(
        {"type": "row", "panels": [inner]},
        {"type": "text", "title": "words"},
        panel("outer") | {"targets": [{"expr": "x", "hide": True}, {"expr": "y", "interval": "2m", "datasource": "b"}]},
        time={"from": "now-2h"},
    )
    dashboard = read_dashboard(model, {}, "here")
    assert [one.queries for one in dashboard.panels] == [
        (Query("inner", "30s", 7200.0, "a"),),
        (Query("y", "2m", 7200.0, "b"),),
    ]
    assert dashboard.sources == ["a", "b"]


def test_a_fixed_range_counts_as_an_hour() -> None:
    (one,) = read_dashboard(page(panel("up"), time={"from": "2026-01-01T00:00:00Z"}), {}, "here").panels
    assert one.queries[0].span == 3600.0


@pytest.mark.parametrize(
    "model", [[], {}, {"uid": "u"}, page() | {"panels": 3}, page({"type": "stat", "targets": [1]})]
)
def test_what_is_no_dashboard(model: Any) -> None:
    with pytest.raises(CheckError, match="dashboard_invalid: here is no dashboard"):
        read_dashboard(model, {}, "here")


def test_greatest() -> None:
    assert greatest([]) is None
    assert greatest([1.0, math.nan, 3.0]) == 3.0
    only = greatest([math.nan])
    assert only is not None and math.isnan(only)


# --- Prometheus -----------------------------------------------------------------------------------------------------------------------


class Scripted:
    """A Prometheus that knows some metrics, and refuses queries with the word ``bad``."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def query(self, _deadline: Deadline, query: str, _at: float | None = None) -> Answer:
        self.asked.append(query)
        if "bad" in query:
            raise CheckError("bad_query", "Prometheus refuses the query: no.")
        if query.startswith("label_replace"):
            count = query.count('"ask"')
            return Answer(
                "vector", [Series({"ask": str(at)}, [(NOW, float(at))]) for at in range(count) if at != 1], NOW
            )
        return Answer("scalar", [Series({}, [(NOW, 7.0)])], NOW)

    def command(self, path: str, query: dict[str, str]) -> str:
        return f"{path} {query['query']}"


def test_many_queries_are_few_requests() -> None:
    server = Scripted()
    source = PrometheusSource(server, [], 1.0)  # type: ignore[arg-type]
    results = source.evaluate(Deadline(0), [Query(f"q{at}") for at in range(60)])
    assert len(server.asked) == 3 and len(results) == 60
    assert results[0] == Result(0.0) and results[1] == Result(None) and results[2] == Result(2.0)


def test_one_that_cant_be_run_does_not_spoil_the_others() -> None:
    source = PrometheusSource(Scripted(), [], 1.0)  # type: ignore[arg-type]
    results = source.evaluate(Deadline(0), [Query("a"), Query("bad"), Query("c")])
    assert [bool(one.error) for one in results] == [False, True, False]
    assert "no" in results[1].error


@pytest.mark.parametrize(
    ("query", "interval", "wanted"),
    [
        (Query("$__rate_interval", span=600), 3.0, "12000ms"),
        (Query("$__rate_interval", "30s", span=600), 3.0, "120000ms"),
        (Query("$__rate_interval", span=100_000), 3.0, "103000ms"),
        (Query("$__interval", span=600), 3.0, "3000ms"),
        (Query("$__interval", span=10_000), 3.0, "10000ms"),
        (Query("${__interval_ms}", span=600), 3.0, "3000"),
        (Query("$__range", span=600), 3.0, "600000ms"),
        (Query("$__range_s", span=600), 3.0, "600"),
        (Query("$__range_ms", span=600), 3.0, "600000"),
        (Query("[[__rate_interval]]", span=600), 0.25, "1000ms"),
        (Query("$__from"), 3.0, "$__from"),
    ],
)
def test_grafanas_own_variables(query: Query, interval: float, wanted: str) -> None:
    source = PrometheusSource(Scripted(), [], interval)  # type: ignore[arg-type]
    assert source.command(query) == f"/api/v1/query {wanted}"


# --- the check ------------------------------------------------------------------------------------------------------------------------


class Answers(Source):
    """Answers from a table; what is not in it is empty."""

    def __init__(self, model: dict[str, Any], **values: float) -> None:
        self._dashboards = [read_dashboard(model, {}, "here")]
        self._values: dict[str, float] = {"vector(time())": NOW, **values}
        self.named = 0

    def dashboards(self, deadline: Deadline) -> list[Any]:
        return self._dashboards

    def evaluate(self, deadline: Deadline, queries: list[Query]) -> list[Result]:
        return [Result(self._values.get(re.sub(r"^timestamp\((.*)\)$", r"\1", query.expr))) for query in queries]

    def names(self, deadline: Deadline, like: Query) -> list[str]:
        self.named += 1
        return ["requests_total", "requests_totals", "other"]

    def command(self, query: Query) -> str:
        return f"ask {query.expr}"


def test_the_nearest_names_are_looked_for_at_the_last_look_only() -> None:
    source = Answers(page(panel("request_total")), requests_total=NOW)
    check = DashboardCheck(source)
    assert check.look(Deadline(10)).reason == "metric_unknown" and source.named == 0
    verdict = check.look(Deadline(0))
    (failure,) = verdict.extra["failures"]
    assert source.named == 1
    # requests_totals has no series any more.
    assert (
        failure["hint"]
        == 'No series is called request_total now; the nearest names are requests_total; see "ask request_total".'
    )


def test_all_failures_are_told_and_the_first_gives_the_reason() -> None:
    source = Answers(page(panel("gone"), panel("old", title="q"), panel("up"), panel(title="r")), up=NOW, old=NOW - 100)
    verdict = DashboardCheck(source).look(Deadline(0))
    assert [one["reason"] for one in verdict.extra["failures"]] == ["metric_unknown", "stale_sample", "no_query"]
    assert verdict.reason == "metric_unknown"
    assert verdict.hint.startswith("3 of 4 panels are not as they should be (see 'failures'); the first is 'p' of u: ")
    assert verdict.times == {"evaluated": NOW}


def test_a_panel_that_may_be_empty_is_told_from_one_that_failed() -> None:
    idle, gone = (panel(query, title=query, description="Empty while idle.") for query in ("x > 1", "gone"))
    verdict = DashboardCheck(Answers(page(idle, gone), x=NOW)).look(Deadline(0))
    assert [one["panel"] for one in verdict.extra["failures"]] == ["gone"]
    assert verdict.extra["empty"] == [{"dashboard": "u", "panel": "x > 1"}]


@pytest.mark.parametrize(
    ("max_age", "since", "matched"), [(200, None, True), (60, None, False), (200, NOW - 50, False)]
)
def test_how_old_is_too_old(max_age: float, since: float | None, matched: bool) -> None:
    source = Answers(page(panel("old")), old=NOW - 100)
    assert DashboardCheck(source, max_age=max_age, since=since).look(Deadline(0)).matched == matched


@pytest.mark.parametrize("max_age", [0, -1, math.nan])
def test_ages_that_cant_be(max_age: float) -> None:
    with pytest.raises(CheckError, match="bad_option"):
        DashboardCheck(Answers(page()), max_age=max_age)


def test_without_a_single_panel_nothing_is_proven() -> None:
    verdict = DashboardCheck(Answers(page())).look(Deadline(0))
    assert not verdict.matched and verdict.reason == "no_query"
