"""promql_check against a real Prometheus: values, freshness, and what is said when there is nothing."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from systems import Exporter, PrometheusServer, RunModule

Options = dict[str, Any]


def case(name: str) -> str:
    return f'case_value{{case="{name}"}}'


def test_any_sample_will_do_without_a_value(run_module: RunModule, at: Options) -> None:
    result = run_module("promql_check", **at, query=case("base"))
    assert result["matched"] and result["reason"] == "ok" and result["attempts"] == 1, result
    assert result["observed"]["result"][0]["value"] == "1"
    assert abs(result["times"]["evaluated"] - time.time()) < 30


@pytest.mark.parametrize(
    ("query", "operator", "value"),
    [
        (case("base"), ">=", 1),
        (case("base"), "==", 1),
        (case("idle"), "<", 0.5),
        ("sum(case_value)", ">", 3),
        ("scalar(case_value{case='base'})", "==", 1),
        ("count_over_time(case_value{case='base'}[5s])", ">", 1),
        ("sum by (job) (case_value) / on (job) group_left count by (job) (case_value)", "<=", 1),
        ("vector(1)", "!=", 0),
    ],
)
def test_conditions(run_module: RunModule, at: Options, query: str, operator: str, value: float) -> None:
    result = run_module("promql_check", **at, query=query, operator=operator, value=value)
    assert not result["failed"], result


def test_any_and_all(run_module: RunModule, at: Options, quick: Options) -> None:
    query = 'case_value{case=~"base|idle"}'
    assert run_module("promql_check", **at, query=query, operator="==", value=1)["matched"]
    result = run_module("promql_check", **quick, query=query, operator="==", value=1, series="all")
    assert result["reason"] == "condition_false"
    # The series that spoils it comes first.
    assert result["observed"]["result"][0]["labels"]["case"] == "idle"
    assert "not every series is == 1" in result["hint"]
    assert run_module("promql_check", **at, query=query, operator=">=", value=0, series="all")["matched"]


def test_a_value_that_comes_is_waited_for(run_module: RunModule, at: Options, exporter: Exporter) -> None:
    exporter.set(comes_later=0)
    threading.Timer(0.7, exporter.set, kwargs={"comes_later": 5}).start()
    result = run_module("promql_check", **at, query=case("comes_later"), operator="==", value=5)
    assert result["matched"] and result["attempts"] > 1


CASES: dict[str, tuple[Options, str]] = {
    "condition_false": ({"query": case("base"), "operator": ">", "value": 2}, "have values 1, no series is > 2"),
    "no_data": ({"query": case("never")}, "Series called case_value exist"),
    "no_data by comparison": ({"query": f"{case('base')} > 2"}, "comparisons"),
    "metric_unknown": ({"query": "case_valu"}, "the nearest names are case_value"),
    "metric_unknown within an expression": ({"query": "sum(rate(cases_value[1m])) * 2"}, "called cases_value now"),
    "metric_unknown without a neighbour": ({"query": "zzzzzzz"}, "no name is like it"),
    "bad_query": ({"query": "sum("}, "parse error"),
    "bad_query of data that don't fit": ({"query": "up * on() group_left() up"}, "many-to-many"),
    "bad_query for a range": ({"query": "up[1m]"}, "gives a matrix"),
    "bad_query for a text": ({"query": '"text"'}, "gives a string"),
    "stale_sample": ({"query": "case_old"}, "before the evaluation"),
    "stale_sample within an expression": ({"query": "sum(case_old) + sum(up)"}, "A sample of case_old"),
    "stale_sample despite a range": ({"query": "max_over_time(case_old[5m])"}, "A sample of case_old"),
}


@pytest.mark.parametrize("name", CASES)
def test_reason(run_module: RunModule, quick: Options, name: str) -> None:
    options, words = CASES[name]
    result = run_module("promql_check", **quick, **options)
    assert result["failed"], result
    assert result["reason"] == name.split(maxsplit=1)[0], result["hint"]
    assert words in result["hint"]


def test_a_query_that_can_not_be_parsed_fails_at_once(run_module: RunModule, at: Options) -> None:
    assert run_module("promql_check", **at, query="sum(")["attempts"] == 1


def test_old_samples_pass_when_they_may_be_old(run_module: RunModule, at: Options) -> None:
    # The sample is 100 s old, so Prometheus itself shows it.
    assert run_module("promql_check", **at, query="case_old", value=7, max_age=200)["matched"]
    assert run_module("promql_check", **at, query="sum(case_old)", value=7, max_age=200)["matched"]


def test_since_demands_a_later_sample(run_module: RunModule, at: Options, quick: Options) -> None:
    assert run_module("promql_check", **at, query=case("base"), since=time.time())["matched"]
    assert run_module("promql_check", **at, query="sum(case_value)", since=time.time())["matched"]
    result = run_module("promql_check", **quick, query=case("base"), since=time.time() + 4)
    assert result["reason"] == "stale_sample"


def test_a_metric_that_is_gone_is_unknown(
    run_module: RunModule, at: Options, quick: Options, exporter: Exporter
) -> None:
    exporter.set(leaves=1)
    assert run_module("promql_check", **at, query=case("leaves"))["matched"]
    exporter.set(leaves=None)
    assert run_module("promql_check", **{**at, "timeout": 1}, query=case("leaves"), expect="absent", since=time.time())[
        "matched"
    ]
    assert run_module("promql_check", **quick, query=case("leaves"))["reason"] == "no_data"


def test_hold(run_module: RunModule, at: Options, exporter: Exporter) -> None:
    result = run_module("promql_check", **at, query=case("base"), operator="==", value=1, hold=0.5)
    assert result["matched"] and result["attempts"] > 1 and result["elapsed"] >= 0.5
    exporter.set(flips=0)
    threading.Timer(1.2, exporter.set, kwargs={"flips": 1}).start()
    result = run_module("promql_check", **{**at, "timeout": 2}, query=case("flips"), operator="==", value=1, hold=1.9)
    assert (result["failed"], result["reason"]) == (True, "held_too_short"), result


def test_first_sample(
    run_module: RunModule, at: Options, quick: Options, exporter: Exporter, prometheus: PrometheusServer
) -> None:
    before = time.time()
    exporter.set(counts=0, counts_not=0)
    assert run_module("promql_check", **at, query=case("counts"))["matched"]
    risen = time.time()
    exporter.set(counts=3)
    first = run_module("promql_check", **at, query=case("counts"), value=3, first_sample=True, since=before)
    assert first["matched"], first
    assert risen - 0.1 < first["times"]["first_sample"] < risen + 2
    # It stays the first one, also when the value is gone again.
    exporter.set(counts=0)
    assert run_module("promql_check", **at, query=case("counts"), operator="==", value=0, since=time.time())["matched"]
    again = run_module("promql_check", **at, query=case("counts"), value=3, first_sample=True, since=before)
    assert again["times"] == first["times"]
    # All series: the last of their first samples.
    both = 'case_value{case=~"counts|counts_not"}'
    assert run_module("promql_check", **quick, query=both, value=3, first_sample=True, since=before, series="all")[
        "failed"
    ]
    every = run_module(
        "promql_check", **at, query=both, value=0, first_sample=True, since=before, series="all", operator="=="
    )
    assert every["matched"] and every["times"]["first_sample"] >= before
    # What lies before the bound does not count.
    later = run_module("promql_check", **quick, query=case("counts"), value=3, first_sample=True, since=time.time())
    assert later["reason"] in ("condition_false", "stale_sample")


def test_reasons_of_first_sample(run_module: RunModule, quick: Options) -> None:
    def reason(**options: Any) -> str:
        return str(run_module("promql_check", **quick, first_sample=True, value=3, **options)["reason"])

    now = time.time()
    assert reason(query=case("base"), since="-1h") == "condition_false"
    assert reason(query=case("base"), since=now + 4) == "stale_sample"
    assert reason(query=case("never"), since="-1h") == "no_data"
    assert reason(query="case_valu", since="-1h") == "metric_unknown"
    assert reason(query="sum(up)", since="-1h") == "bad_query"
    assert reason(query="up") == "bad_option"


def test_absent(run_module: RunModule, quick: Options) -> None:
    assert run_module("promql_check", **quick, query=case("base"), operator=">", value=2, expect="absent")["matched"]
    result = run_module("promql_check", **quick, query=case("base"), value=1, expect="absent")
    assert (result["failed"], result["reason"]) == (True, "appeared")
    # A question that can't be asked proves nothing.
    assert run_module("promql_check", **quick, query="sum(", expect="absent")["reason"] == "bad_query"


def test_check_mode(run_module: RunModule, at: Options) -> None:
    result = run_module("promql_check", **at, query=case("base"), operator="==", value=1, hold=3, check_mode=True)
    assert result["matched"] and result["attempts"] == 1
    result = run_module("promql_check", **at, query="case_valu", check_mode=True)
    assert (result["failed"], result["matched"], result["reason"]) == (False, False, "metric_unknown")


@pytest.mark.parametrize("options", [{"hold": 5}, {"hold": -1}, {"max_age": 0}, {"value": "nan"}])
def test_bad_option(run_module: RunModule, at: Options, options: Options) -> None:
    result = run_module("promql_check", **at, query="up", **options)
    assert (result["failed"], result["reason"]) == (True, "bad_option")
    assert next(iter(options)) in result["hint"]
