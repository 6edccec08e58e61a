# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Silences as a wanted state: which request, if any, brings Alertmanager there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.alertmanager import Matcher, Silence
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import format_time, parse_duration
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

_LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Wanted:
    """What the user asks for.

    Attributes:
        matchers: the alerts that are meant.
        duration: seconds from now that a new silence lasts.
        min_remaining: seconds; a silence that lasts at least that long is left alone.
        comment: why.
        created_by: who; silences of others are never touched.
    """

    matchers: frozenset[Matcher]
    duration: float
    min_remaining: float
    comment: str
    created_by: str


@dataclass(frozen=True)
class Plan:
    """What has to be done: nothing, put ``after``, or expire every silence of ``expire``."""

    before: Silence | None
    after: Silence | None
    expire: tuple[Silence, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether there is anything to do."""
        return self.before != self.after

    def diff(self) -> dict[str, Any]:
        """Return both states for ``--diff``."""
        return {"before": _shown(self.before), "after": _shown(self.after)}


def parse_matchers(given: Any) -> frozenset[Matcher]:
    """Return the matchers of the option ``matchers``: a dict of names and values, or a list of dicts.

    Raises:
        CheckError: ``bad_option`` when nothing or something malformed is given.
    """
    if isinstance(given, dict):
        given = [{"name": name, "value": value} for name, value in given.items()]
    if not isinstance(given, list) or not given:
        raise CheckError(
            "bad_option", "matchers must be a dict such as {alertname: PodCrashLoop} or a list of dicts, and not empty."
        )
    matchers = frozenset(_matcher(one) for one in given)
    if not any(one.equal and (one.value if not one.regex else not re.fullmatch(one.value, "")) for one in matchers):
        raise CheckError(
            "bad_option", "matchers would silence every alert: at least one must demand a value that is not empty."
        )
    return matchers


def _matcher(given: Any) -> Matcher:
    if not isinstance(given, dict) or not {"name", "value"} <= given.keys() <= {"name", "value", "regex", "equal"}:
        raise CheckError("bad_option", f"matchers: {given!r} must have name and value, and may have regex and equal.")
    name, value = str(given["name"]), str(given["value"])
    flags = {flag: given.get(flag, default) for flag, default in (("regex", False), ("equal", True))}
    for flag, setting in flags.items():
        if not isinstance(setting, bool):
            raise CheckError("bad_option", f"matchers: {flag}={setting!r} of {name} must be true or false.")
    if not _LABEL_NAME.fullmatch(name):
        raise CheckError("bad_option", f"matchers: {name!r} is no label name.")
    if flags["regex"]:
        try:
            re.compile(value)
        except re.error as error:
            raise CheckError(
                "bad_option", f"matchers: {value!r} of {name} is no regular expression ({error})."
            ) from error
    return Matcher(name, value, flags["regex"], flags["equal"])


def parse_wanted(matchers: Any, duration: str, min_remaining: str | None, comment: str, created_by: str) -> Wanted:
    """Return the options as a wanted silence.

    Raises:
        CheckError: ``bad_option``.
    """
    seconds: dict[str, float] = {}
    for option, text in (("duration", duration), ("min_remaining", min_remaining)):
        try:
            seconds[option] = parse_duration(text) if text is not None else seconds["duration"] / 2
        except ValueError as error:
            raise CheckError("bad_option", f"{option}: {error}.") from error
    if seconds["duration"] < 1:
        raise CheckError("bad_option", f"duration={duration} must be at least 1s.")
    if seconds["min_remaining"] > seconds["duration"]:
        raise CheckError(
            "bad_option",
            f"min_remaining={min_remaining} is longer than duration={duration}, so no run would find things in order.",
        )
    for option, text in (("comment", comment), ("created_by", created_by)):
        if not text.strip():
            raise CheckError("bad_option", f"{option} must not be empty; Alertmanager refuses such a silence.")
    return Wanted(parse_matchers(matchers), seconds["duration"], seconds["min_remaining"], comment, created_by)


def plan(wanted: Wanted, silences: Iterable[Silence], now: float, *, present: bool) -> Plan:
    """Return what has to be done.

    Args:
        wanted: what is asked for.
        silences: what Alertmanager has.
        now: Alertmanager's time in Unix seconds.
        present: whether the silence shall exist.
    """
    same = [
        one
        for one in silences
        if one.state != "expired" and one.matchers == wanted.matchers and one.created_by == wanted.created_by
    ]
    before = max(same, key=lambda one: one.ends_at, default=None)
    if not present:
        return Plan(before, None, tuple(same))
    if before is None:
        return Plan(
            None,
            Silence("", "active", wanted.matchers, now, now + wanted.duration, wanted.comment, wanted.created_by),
        )
    ends_at = before.ends_at
    if ends_at - now < wanted.min_remaining:
        ends_at = now + wanted.duration
    return Plan(before, replace(before, ends_at=ends_at, comment=wanted.comment))


def _shown(silence: Silence | None) -> dict[str, Any]:
    if silence is None:
        return {}
    return {
        "matchers": [str(one) for one in sorted(silence.matchers)],
        "ends_at": format_time(silence.ends_at),
        "comment": silence.comment,
        "created_by": silence.created_by,
    }
