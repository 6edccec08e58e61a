"""What a query is made of; how Prometheus answers it is met by tests/contract/test_promql_check.py."""

from __future__ import annotations

import math

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.promql import Condition, Selector, selectors


def texts(query: str) -> list[str]:
    return [one.text for one in selectors(query)]


@pytest.mark.parametrize(
    "query", ["up", "  up  ", 'up{job="x"}', '{job="x", a=~"b}|c"}', "job:rate:5m", "up # a comment"]
)
def test_a_query_that_is_one_selector(query: str) -> None:
    found = selectors(query)
    assert len(found) == 1 and found[0].whole and not found[0].shifted


@pytest.mark.parametrize(
    "query", ["up > 0", "(up)", "-up", "up[5m]", "up offset 5m", "up @ 12", "sum(up)", "time()", "1"]
)
def test_a_query_that_is_more_or_less_than_one_selector(query: str) -> None:
    assert not any(one.whole for one in selectors(query))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("sum by (job) (rate(http_requests_total{code=~'5..'}[5m])) > 0", ["http_requests_total{code=~'5..'}"]),
        ("sum(a) by (b) / ignoring (c) group_left (d) count without (e) (f)", ["a", "f"]),
        ('a{x="}"} and on(x, y) b unless c or d', ['a{x="}"}', "b", "c", "d"]),
        ("max_over_time(a[5m:1m]) + rate(b{}[1m])", ["a", "b{}"]),
        ('label_replace(a, "x", "$1", "y", "(.*)")', ["a"]),
        ("a == bool 1 and time() - b < 600", ["a", "b"]),
        ("quantile(0.9, a) * 1e3 + 0x1F - Inf", ["a"]),
        ("topk by (x) (3, a)", ["a"]),
        ("scalar(a) ^ b % c", ["a", "b", "c"]),
        ("vector(1)", []),
        ("", []),
        ("sum(", []),
    ],
)
def test_selectors_of_an_expression(query: str, found: list[str]) -> None:
    assert texts(query) == found


def test_names_and_modifiers() -> None:
    assert selectors('a - a{b="c"} offset 10m') == [Selector("a", "a"), Selector('a{b="c"}', "a", shifted=True)]
    assert [one.shifted for one in selectors("rate(a[5m] @ start()) + rate(b[5m] offset -1m) + rate(c[5m])")] == [
        True,
        True,
        False,
    ]
    assert [one.metric for one in selectors('{__name__="x", a="b"} + {"dotted.name", a="b"} + {a="b"}')] == [
        "x",
        "dotted.name",
        "",
    ]


def test_the_exact_restart_rule() -> None:
    restarts = "kube_pod_container_status_restarts_total"
    query = f"({restarts} - {restarts} offset 10m) > 2 or (({restarts} unless {restarts} offset 10m) > 2)"
    assert [(one.metric, one.shifted) for one in selectors(query)] == [(restarts, False), (restarts, True)] * 2


@pytest.mark.parametrize(
    ("operator", "value", "holds", "fails"),
    [("==", 2, 2, 3), ("!=", 2, 3, 2), (">", 2, 3, 2), (">=", 2, 2, 1), ("<", 2, 1, 2), ("<=", 2, 2, 3)],
)
def test_conditions(operator: str, value: float, holds: float, fails: float) -> None:
    condition = Condition(operator, value)
    assert condition.holds(holds) and not condition.holds(fails)
    assert not condition.holds(math.nan), "what is no number satisfies nothing, not even !="
    assert str(condition) == f"{operator} {value}"


def test_any_sample_will_do() -> None:
    assert Condition().holds(math.nan) and Condition(">", None).holds(0)
