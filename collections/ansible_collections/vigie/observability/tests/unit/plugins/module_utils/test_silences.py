"""Which request a wanted silence takes; the requests themselves are met by tests/contract/test_alert_silence.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.alertmanager import Matcher, Silence
from ansible_collections.vigie.observability.plugins.module_utils.silences import Plan, Wanted, parse_wanted, plan

NOW = 1000.0
MATCHERS = frozenset({Matcher("alertname", "X")})
WANTED = Wanted(MATCHERS, duration=600.0, min_remaining=300.0, comment="why", created_by="me")
MINE = Silence("id", "active", MATCHERS, NOW - 100, NOW + 400, "why", "me")


def planned(*silences: Silence, present: bool = True) -> Plan:
    return plan(WANTED, silences, NOW, present=present)


def test_nothing_there() -> None:
    todo = planned()
    assert todo.changed and todo.before is None
    assert todo.after == Silence("", "active", MATCHERS, NOW, NOW + 600, "why", "me")
    assert not planned(present=False).changed


@pytest.mark.parametrize("state", ["active", "pending"])
def test_long_enough_is_left_alone(state: str) -> None:
    assert not planned(replace(MINE, state=state)).changed


def test_too_short_is_prolonged_in_place() -> None:
    short = replace(MINE, ends_at=NOW + 299)
    todo = planned(short)
    assert todo.changed and todo.after == replace(short, ends_at=NOW + 600)


def test_longer_than_wanted_is_not_shortened() -> None:
    assert not planned(replace(MINE, ends_at=NOW + 99999)).changed


@pytest.mark.parametrize(
    "other",
    [
        replace(MINE, state="expired"),
        replace(MINE, created_by="someone"),
        replace(MINE, matchers=MATCHERS | {Matcher("a", "b")}),
        replace(MINE, matchers=frozenset({Matcher("alertname", "X", regex=True)})),
    ],
)
def test_another_silence_is_no_silence_of_ours(other: Silence) -> None:
    assert planned(other).before is None
    assert planned(other, present=False).expire == ()


def test_the_longest_of_several_counts_and_all_are_ended() -> None:
    second = replace(MINE, id="second", ends_at=NOW + 100)
    assert planned(second, MINE).before == MINE
    gone = planned(second, MINE, present=False)
    assert gone.changed and {one.id for one in gone.expire} == {"id", "second"}


def test_half_of_the_duration_is_the_default() -> None:
    wanted = parse_wanted({"a": "b"}, "1h30m", None, "c", "d")
    assert (wanted.duration, wanted.min_remaining) == (5400.0, 2700.0)
    assert wanted.matchers == frozenset({Matcher("a", "b")})
