# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Keys of a chart's values that the chart does not have: Helm takes them and does nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
name: unknown_values
short_description: List the values that a Helm chart does not know
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Gives the paths that are in some values and not in the default values of a chart. Helm would take them and do nothing.
  - What the chart leaves empty or undefined (C({}), C([]), C(null)) is free in form, and so is what stands in a list.
positional: known, free
options:
  _input:
    description: Values for the chart.
    type: dict
    required: true
  known:
    description: Default values of the chart, as C(helm show values) prints them.
    type: dict
    required: true
  free:
    description: Keys at the top that are not looked into, since charts that this one depends on have default values of their own.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
# => ['prometheus.retentoin']
unknown: "{{ {'prometheus': {'retentoin': '7d'}, 'grafana': {'any': 1}} | vigie.observability.unknown_values(defaults, ['grafana']) }}"
"""

RETURN = r"""
_value:
  description: Paths with a dot between their keys, in the order of the values.
  type: list
  elements: str
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any


def unknown_values(values: Mapping[str, Any], known: Mapping[str, Any], free: Collection[str] = ()) -> list[str]:
    """Return the paths in ``values`` that are not in ``known``.

    Args:
        values: for the chart.
        known: the chart's default values.
        free: keys at the top that are not looked into.
    """
    found: list[str] = []
    for key, value in values.items():
        if key in free:
            continue
        if key not in known:
            found.append(str(key))
        elif isinstance(value, Mapping) and isinstance(known[key], Mapping) and known[key]:
            found += [f"{key}.{path}" for path in unknown_values(value, known[key])]
    return found


class FilterModule:
    """The filter under its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return it."""
        return {"unknown_values": unknown_values}
