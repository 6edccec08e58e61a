"""Patterns, sizes and documents; what Elasticsearch answers is met in tests/contract/test_log_check.py."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.elasticsearch import (
    expressions,
    free_space,
    leaves,
    overlapping,
    values_at,
)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("logs-*", "logs-app-default", True),
        ("logs-*", "logs-*-*", True),
        ("logs-app-*", "*-default", True),
        ("logs-app-*", "logs-*-x", True),
        ("*", "*", True),
        ("", "*", True),
        ("logs-app", "logs-app", True),
        ("logs-app", "logs-ap", False),
        ("logs-*", "metrics-*", False),
        ("logs-app-*", "logs-node-*", False),
        ("*a", "*b", False),
        ("", "a", False),
    ],
)
def test_patterns_that_meet(one: str, other: str, meet: bool) -> None:
    assert [overlapping(*pair) for pair in ((one, other), (other, one))] == [meet, meet]


def test_what_is_excluded_is_no_name() -> None:
    assert expressions("logs-*,-logs-old,metrics-app,") == ["logs-*", "metrics-app"]


@pytest.mark.parametrize(
    ("watermark", "headroom", "free"),
    [
        ("90%", "-1", 100.0),
        ("0.9", "-1", 100.0),
        ("85.5%", "-1", 145.0),
        ("90%", "50b", 50.0),
        ("90%", "150GB", 100.0),
        ("500mb", "150GB", 500 * 1024**2),
        ("2tb", "-1", 2 * 1024**4),
        ("20b", "-1", 20.0),
    ],
)
def test_the_space_that_a_watermark_wants(watermark: str, headroom: str, free: float) -> None:
    assert free_space(watermark, headroom, 1000) == pytest.approx(free)


def test_a_watermark_that_is_none() -> None:
    with pytest.raises(ValueError, match="no size"):
        free_space("a lot", "-1", 1000)


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ({"a": {"b": {"c": 1}}}, [1]),
        ({"a.b.c": 1}, [1]),
        ({"a.b": {"c": 1}, "a": {"b.c": 2}}, [2, 1]),
        ({"a": [{"b": {"c": 1}}, {"b": {"c": [2, None, 3]}}]}, [1, 2, 3]),
        ({"a": {"b": {"c": {"d": 1}}}}, []),
        ({"a": {"b": "c"}}, []),
        ({}, []),
        ("text", []),
    ],
)
def test_values_of_a_field_whatever_the_layout(source: Any, values: list[Any]) -> None:
    assert values_at(source, "a.b.c") == values


def test_leaves_are_in_the_order_of_the_document() -> None:
    assert leaves({"b": 1, "a": {"x": [1, {"y": 2}]}, "c": None}) == [("b", 1), ("a.x", 1), ("a.x.y", 2), ("c", None)]
