# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Alertmanager's routing tree: where an alert with given labels goes, and when."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.alertmanager import Matcher
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import reading
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import parse_duration
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

_MATCHER = re.compile(
    r"""\s*(?P<name>"(?:[^"\\]|\\.)*"|[^\s"=!~{},]+)\s*(?P<sign>=~|!~|!=|=)\s*(?P<value>"(?:[^"\\]|\\.)*"|[^",{}]*)\s*(?:,|$)"""
)


@dataclass(frozen=True)
class Route:
    """A route with everything that it inherits; times in seconds. ``group_by`` of ``...`` means every label."""

    receiver: str = ""
    group_by: tuple[str, ...] = ()
    group_wait: float = 30.0
    group_interval: float = 300.0
    repeat_interval: float = 14400.0


def parse_routes(configuration: str) -> dict[str, Any]:
    """Return the root of the routing tree of an Alertmanager configuration.

    Raises:
        CheckError: ``missing_library`` without PyYAML, ``bad_answer`` for text that holds no route.
    """
    try:
        import yaml  # only this module needs it
    except ImportError as error:
        raise CheckError(
            "missing_library",
            "Reading Alertmanager's configuration needs PyYAML for the Python that runs the module; install python3-yaml.",
        ) from error
    try:
        root = yaml.safe_load(configuration)["route"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise CheckError(
            "bad_answer", f"Alertmanager's configuration has no route ({type(error).__name__})."
        ) from error
    if not isinstance(root, dict):
        raise CheckError("bad_answer", "Alertmanager's configuration has no route.")
    return root


def matching_routes(root: Mapping[str, Any], labels: Mapping[str, str]) -> list[Route]:
    """Return the routes that an alert with these labels takes, in the order of the configuration."""
    with reading("routing tree of Alertmanager"):
        return list(_walk(root, labels, Route()))


def _walk(node: Mapping[str, Any], labels: Mapping[str, str], parent: Route) -> Iterator[Route]:
    route = _inherited(node, parent)
    found = False
    for child in node.get("routes") or []:
        if all(matcher.matches(labels) for matcher in matchers_of(child)):
            found = True
            yield from _walk(child, labels, route)
            if not child.get("continue"):
                break
    if not found:
        yield route


def _inherited(node: Mapping[str, Any], parent: Route) -> Route:
    own: dict[str, Any] = {
        key: parse_duration(node[key]) for key in ("group_wait", "group_interval", "repeat_interval") if key in node
    }
    if node.get("receiver"):
        own["receiver"] = str(node["receiver"])
    if node.get("group_by") is not None:
        own["group_by"] = tuple(node["group_by"])
    return replace(parent, **own)


def matchers_of(node: Mapping[str, Any]) -> list[Matcher]:
    """Return the matchers of a route, in the present form and in the two old ones.

    Raises:
        CheckError: ``bad_answer`` for a matcher that can't be read.
    """
    old = [Matcher(str(name), str(value)) for name, value in (node.get("match") or {}).items()]
    old += [Matcher(str(name), str(value), regex=True) for name, value in (node.get("match_re") or {}).items()]
    return old + [matcher for text in node.get("matchers") or [] for matcher in _parse(str(text))]


def _parse(text: str) -> list[Matcher]:
    """Return the matchers in one text: ``a="b"``, or several with commas, with or without braces."""
    inner = text.strip()
    if inner.startswith("{") and inner.endswith("}"):
        inner = inner[1:-1]
    matchers = []
    at = 0
    while at < len(inner):
        match = _MATCHER.match(inner, at)
        if not match:
            raise CheckError("bad_answer", f"The matcher {text!r} in Alertmanager's configuration can't be read here.")
        sign = match["sign"]
        matchers.append(
            Matcher(
                _unquoted(match["name"]), _unquoted(match["value"]), regex="~" in sign, equal=not sign.startswith("!")
            )
        )
        at = match.end()
    return matchers


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text[1:-1])
    return text
