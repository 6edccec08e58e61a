"""Keys of a chart's values that the chart does not have: Helm takes them and does nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def unknown_values(values: dict[str, Any], known: dict[str, Any], free: Collection[str] = ()) -> list[str]:
    """Return the paths in `values` that are not in `known`, the default values of a chart.

    What the chart leaves empty or undefined (``{}``, ``[]``, null) is free in form, and so is what stands in a list. `free`
    are top-level keys that are not looked into: charts that this one depends on have default values of their own.
    """
    found: list[str] = []
    for key, value in values.items():
        if key in free:
            continue
        if key not in known:
            found.append(str(key))
        elif isinstance(value, dict) and isinstance(known[key], dict) and known[key]:
            found += [f"{key}.{path}" for path in unknown_values(value, known[key])]
    return found


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Return name to function."""
        return {"unknown_values": unknown_values}
