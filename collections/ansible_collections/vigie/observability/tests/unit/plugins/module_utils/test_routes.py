from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.alertmanager import Matcher
from ansible_collections.vigie.observability.plugins.module_utils.routes import (
    Route,
    matchers_of,
    matching_routes,
    parse_routes,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

CONFIGURATION = """
route:
  receiver: "null"
  group_by: [alertname, pod]
  group_wait: 2s
  routes:
  - receiver: deadman
    matchers: ['alertname="Watchdog"']
    group_wait: 0s
    repeat_interval: 1m
  - receiver: pager
    match: {severity: critical}
    continue: true
    group_by: [...]
    routes:
    - receiver: night
      match_re: {shift: "n.*"}
      group_interval: 10s
  - receiver: mail
    matchers: ['severity=~"critical|warning"', 'team!="nobody"']
"""


def receivers(**labels: str) -> list[str]:
    return [route.receiver for route in matching_routes(parse_routes(CONFIGURATION), labels)]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"alertname": "Watchdog", "severity": "critical"}, ["deadman"]),
        ({"severity": "critical"}, ["pager", "mail"]),
        ({"severity": "critical", "shift": "night"}, ["night", "mail"]),
        ({"severity": "critical", "team": "nobody"}, ["pager"]),
        ({"severity": "warning"}, ["mail"]),
        ({"severity": "criticality"}, ["null"]),
        ({}, ["null"]),
    ],
)
def test_the_tree_is_walked_as_alertmanager_does(labels: dict[str, str], expected: list[str]) -> None:
    assert receivers(**labels) == expected


def test_a_route_inherits_what_it_does_not_set() -> None:
    root = parse_routes(CONFIGURATION)
    assert matching_routes(root, {"severity": "critical", "shift": "n1"})[0] == Route(
        "night", ("...",), group_wait=2.0, group_interval=10.0, repeat_interval=14400.0
    )
    assert matching_routes(root, {"alertname": "Watchdog"}) == [
        Route("deadman", ("alertname", "pod"), group_wait=0.0, group_interval=300.0, repeat_interval=60.0)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a="b"', [Matcher("a", "b")]),
        ("a=b", [Matcher("a", "b")]),
        (' a != "b c" ', [Matcher("a", "b c", equal=False)]),
        ('a=~"x|y"', [Matcher("a", "x|y", regex=True)]),
        ('a!~"x"', [Matcher("a", "x", regex=True, equal=False)]),
        ('{a="b,c",d!="e"}', [Matcher("a", "b,c"), Matcher("d", "e", equal=False)]),
        (r'a="say \"hi\" \\ there"', [Matcher("a", 'say "hi" \\ there')]),
        ('"dotted.name"="b"', [Matcher("dotted.name", "b")]),
        ('a=""', [Matcher("a", "")]),
    ],
)
def test_matchers(text: str, expected: list[Matcher]) -> None:
    assert matchers_of({"matchers": [text]}) == expected


def test_a_matcher_that_can_not_be_read_is_no_match() -> None:
    with pytest.raises(CheckError, match="can't be read here"):
        matchers_of({"matchers": ["a ~ b"]})


@pytest.mark.parametrize("text", ["", "route: []", "receivers: []", "a: [", "- 1"])
def test_no_configuration(text: str) -> None:
    with pytest.raises(CheckError) as caught:
        parse_routes(text)
    assert caught.value.reason == "bad_answer"


def test_a_missing_label_is_empty() -> None:
    assert Matcher("a", "").matches({}) and Matcher("a", "b", equal=False).matches({})
    assert not Matcher("a", ".+", regex=True).matches({})


def test_a_regular_expression_matches_the_whole_value() -> None:
    assert not Matcher("a", "b", regex=True).matches({"a": "abc"})


def test_an_expression_that_python_does_not_know_is_reported() -> None:
    with pytest.raises(CheckError, match="can't be tested here"):
        Matcher("a", r"\pL", regex=True).matches({"a": "b"})


def test_strange_intervals_are_reported() -> None:
    root: dict[str, Any] = {"receiver": "x", "group_wait": "soon"}
    with pytest.raises(CheckError) as caught:
        matching_routes(root, {})
    assert caught.value.reason == "bad_answer"
