"""Label selectors by the rules of Kubernetes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.selectors import (
    Requirement,
    difference,
    joined,
    nearest,
    requirements,
    unmet,
)

LABELS = {"app": "flask", "tier": ""}


@pytest.mark.parametrize(
    ("selector", "holds", "text"),
    [
        ({}, True, ""),
        ({"matchLabels": None, "matchExpressions": None}, True, ""),
        ({"matchLabels": {"app": "flask"}}, True, "app=flask"),
        ({"matchLabels": {"app": "flask", "tier": ""}}, True, "app=flask,tier="),
        ({"matchLabels": {"app": "Flask"}}, False, "app=Flask"),
        ({"matchLabels": {"none": ""}}, False, "none="),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "flask"]}]}, True, "app in (a,flask)"),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]}, False, "app=a"),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}, True, "app notin (a)"),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["flask"]}]}, False, "app notin (flask)"),
        ({"matchExpressions": [{"key": "none", "operator": "NotIn", "values": ["a"]}]}, True, "none notin (a)"),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, True, "tier"),
        ({"matchExpressions": [{"key": "none", "operator": "Exists"}]}, False, "none"),
        ({"matchExpressions": [{"key": "none", "operator": "DoesNotExist"}]}, True, "!none"),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, False, "!tier"),
        ({"matchExpressions": [{"key": "app", "operator": "in", "values": ["flask"]}]}, False, "app in (flask)"),
        (
            {"matchLabels": {"app": "flask"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]},
            False,
            "app=flask,!tier",
        ),
    ],
)
def test_a_selector(selector: dict[str, Any], holds: bool, text: str) -> None:
    wanted = requirements(selector)
    assert (not unmet(wanted, LABELS)) is holds
    assert joined(wanted) == text


def test_what_differs() -> None:
    wanted = requirements({"matchLabels": {"app": "web", "release": "prometheus", "tier": ""}})
    assert (
        difference(wanted, LABELS) == "app=flask instead of app=web and no label release (release=prometheus is wanted)"
    )


def item(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


@pytest.mark.parametrize(
    ("items", "name"),
    [
        ([item("a", app="web"), item("b", app="flask"), item("c")], "b"),
        ([item("a", app="grafana"), item("b", app="flaskk"), item("c", other="flask")], "b"),
        ([item("c"), item("a", app="elastic")], "a"),
        # As many conditions are met, and the port of b is the right one.
        ([item("a", app="flas"), item("b", app="grafana")], "a"),
        ([item("a", app="flas"), item("ported", app="grafana")], "ported"),
    ],
)
def test_the_nearest(items: list[dict[str, Any]], name: str) -> None:
    wanted = [Requirement("app", "In", ("flask",)), Requirement("tier", "Exists")]
    found = nearest(wanted, items, lambda one: one["metadata"]["name"] == "ported")
    assert found is not None and found["metadata"]["name"] == name


def test_nothing_is_near_where_there_is_nothing() -> None:
    assert nearest([Requirement("app", "Exists")], []) is None
