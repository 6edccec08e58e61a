# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Label selectors of Kubernetes: what they ask for, what an object lacks, and which object comes nearest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_Object = dict[str, Any]


@dataclass(frozen=True)
class Requirement:
    """One of the conditions of a selector, all of which must hold.

    Attributes:
        key: the label.
        operator: ``In``, ``NotIn``, ``Exists`` or ``DoesNotExist``; no label meets another one.
        values: for ``In`` and ``NotIn``.
    """

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Return whether labels meet it; those without the label meet ``NotIn``."""
        if self.operator == "In":
            return self.key in labels and labels[self.key] in self.values
        if self.operator == "NotIn":
            return labels.get(self.key) not in self.values
        if self.operator == "Exists":
            return self.key in labels
        return self.operator == "DoesNotExist" and self.key not in labels

    def __str__(self) -> str:
        """The condition as ``kubectl get -l`` takes it."""
        values = ",".join(self.values)
        if self.operator == "In":
            return f"{self.key}={values}" if len(self.values) == 1 else f"{self.key} in ({values})"
        if self.operator == "NotIn":
            return f"{self.key} notin ({values})"
        if self.operator == "DoesNotExist":
            return f"!{self.key}"
        return self.key if self.operator == "Exists" else f"{self.key} {self.operator} ({values})"


def requirements(selector: Mapping[str, Any]) -> list[Requirement]:
    """Return the conditions of a LabelSelector; an empty one has none, so it selects everything.

    That a missing selector selects nothing, or something else, depends on the field that holds it, so it is for the caller.
    """
    exact = [Requirement(str(key), "In", (str(value),)) for key, value in (selector.get("matchLabels") or {}).items()]
    return exact + [
        Requirement(
            str(one.get("key")), str(one.get("operator")), tuple(str(value) for value in one.get("values") or [])
        )
        for one in selector.get("matchExpressions") or []
    ]


def joined(wanted: Iterable[Requirement]) -> str:
    """Return conditions as ``kubectl get -l`` takes them."""
    return ",".join(str(one) for one in wanted)


def labels_of(item: _Object) -> dict[str, str]:
    """Return the labels of an object."""
    return (item.get("metadata") or {}).get("labels") or {}


def unmet(wanted: Iterable[Requirement], labels: Mapping[str, str]) -> list[Requirement]:
    """Return the conditions that labels don't meet."""
    return [one for one in wanted if not one.holds(labels)]


def difference(wanted: Iterable[Requirement], labels: Mapping[str, str]) -> str:
    """Return in words what labels have instead of what is wanted."""
    return " and ".join(
        f"{one.key}={labels[one.key]} instead of {one}"
        if one.key in labels
        else f"no label {one.key} ({one} is wanted)"
        for one in unmet(wanted, labels)
    )


def nearest(
    wanted: list[Requirement], items: list[_Object], bonus: Callable[[_Object], bool] = lambda item: False
) -> _Object | None:
    """Return the object whose labels come nearest to what is wanted, or None when there is no object.

    Args:
        wanted: the conditions.
        items: objects, none of which meets them all.
        bonus: says of an object that another sign speaks for it; it decides between those that meet as many conditions.
    """
    from difflib import SequenceMatcher  # slow to load, and this is asked only when something is broken

    def score(item: _Object) -> tuple[int, bool, int, float]:
        labels = labels_of(item)
        present = [one for one in wanted if one.key in labels]
        likeness = sum(
            max((SequenceMatcher(None, labels[one.key], value).ratio() for value in one.values), default=0.0)
            for one in present
        )
        return len(wanted) - len(unmet(wanted, labels)), bonus(item), len(present), likeness

    return max(items, key=score, default=None)
