"""Keys that a chart does not have are found at any depth, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.filter.unknown_values import FilterModule, unknown_values

KNOWN = {"a": {"b": 1, "free": {}, "list": []}, "c": None}


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"a": {"b": 2, "free": {"any": {"thing": 1}}, "list": [1]}, "c": {"x": 1}}, []),
        ({"a": {"x": 1}, "d": {}}, ["a.x", "d"]),
        ({"a": {"b": {"deep": 1}}}, []),
    ],
)
def test_unknown_values(values: dict[str, Any], found: list[str]) -> None:
    assert unknown_values(values, KNOWN) == found


def test_charts_below_have_values_of_their_own() -> None:
    values = {"grafana": {"theirs": 1}, "grafna": {}}
    assert unknown_values(values, {"grafana": {"enabled": True}}, ["grafana"]) == ["grafna"]
    assert unknown_values(values, {"grafana": {"enabled": True}}) == ["grafana.theirs", "grafna"]


def test_ansible_knows_it_by_its_name() -> None:
    assert FilterModule().filters() == {"unknown_values": unknown_values}
