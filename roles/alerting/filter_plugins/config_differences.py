"""Where a configuration that runs is not the one that is wanted."""

from __future__ import annotations

import re
from typing import Any

_DURATION = re.compile(r"(?:[0-9]+(?:ms|[smhdwy]))+")
_MILLISECONDS = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "y": 31_536_000_000,
}


def _plain(value: Any) -> Any:
    """Return a scalar so that two spellings of one duration are equal: 60s and 1m."""
    if isinstance(value, str) and _DURATION.fullmatch(value):
        return sum(int(number) * _MILLISECONDS[unit] for number, unit in re.findall(r"([0-9]+)(ms|[smhdwy])", value))
    return value


def config_differences(running: Any, wanted: Any, path: str = "") -> list[str]:
    """Return a sentence for each place where `running` is not what is `wanted`; empty when it is.

    What is wanted must be there with its value, in its order. What runs may have more: defaults are written out, and
    routes and receivers of AlertmanagerConfig objects are put in between.
    """
    here = path or "the configuration"
    if isinstance(wanted, dict):
        if not isinstance(running, dict):
            return [f"{here} is {running!r}"]
        return [
            found
            for key, value in wanted.items()
            for found in config_differences(running.get(key), value, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(wanted, list):
        rest = list(running) if isinstance(running, list) else []
        for number, value in enumerate(wanted):
            misses = [config_differences(candidate, value, f"{path}[{number}]") for candidate in rest]
            hit = next((at for at, miss in enumerate(misses) if not miss), None)
            if hit is None:
                # The nearest miss tells the most.
                return min(misses, key=len) if misses else [f"{path}[{number}] is missing"]
            del rest[: hit + 1]
        return []
    return [] if _plain(running) == _plain(wanted) else [f"{here} is {running!r}, wanted is {wanted!r}"]


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, Any]:
        """Return name to function."""
        return {"config_differences": config_differences}
