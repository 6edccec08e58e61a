"""The wait loop, on a clock that the tests move."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.poll import (
    MIN_REQUEST_TIMEOUT,
    Deadline,
    Outcome,
    wait_for,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

YES = Verdict.yes("seen", {"at": 1.0})
NO = Verdict.no("not_there", "Look elsewhere.", "nothing")
TRANSIENT = CheckError("unreachable", "Start it.", transient=True)
PERMANENT = CheckError("bad_query", "Write it right.", observed="sum(")


class Clock:
    """Time that passes only by sleeping, and by ``work`` seconds with each look."""

    def __init__(self, work: float = 0.0) -> None:
        self.now = 1000.0
        self.work = work
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def waited(
    looks: Iterable[Verdict | CheckError], clock: Clock | None = None, **options: Any
) -> tuple[Outcome, list[Deadline], Clock]:
    """Wait with scripted looks, the last of which repeats; return the outcome, the deadlines seen, and the clock."""
    clock = clock or Clock()
    script = list(looks)
    seen: list[Deadline] = []

    def look(deadline: Deadline) -> Verdict:
        seen.append(deadline)
        clock.now += clock.work
        result = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(result, CheckError):
            raise result
        return result

    outcome = wait_for(look, clock=clock, sleep=clock.sleep, **{"timeout": 10.0, **options})
    return outcome, seen, clock


def test_what_holds_costs_one_look_and_no_sleep() -> None:
    outcome, _seen, clock = waited([YES])
    assert (outcome.verdict, outcome.attempts, clock.slept) == (YES, 1, [])


def test_it_waits_until_it_holds() -> None:
    outcome, _seen, clock = waited([NO, NO, YES])
    assert (outcome.verdict, outcome.attempts) == (YES, 3)
    assert outcome.elapsed == pytest.approx(clock.now - 1000.0)


def test_sleeps_are_jittered_by_a_tenth() -> None:
    _outcome, _seen, clock = waited([NO], interval=1.0, timeout=100.0)
    full = clock.slept[:-1]
    assert all(0.9 <= pause <= 1.1 for pause in full)
    assert len(set(full)) > 1


def test_the_last_look_is_taken_at_the_deadline() -> None:
    outcome, _seen, clock = waited([NO], timeout=10.0, interval=3.0)
    assert outcome.verdict is NO
    assert clock.now == pytest.approx(1010.0)


def test_only_the_last_look_is_final() -> None:
    finals: list[bool] = []

    def look(deadline: Deadline) -> Verdict:
        finals.append(deadline.final)
        return NO

    clock = Clock()
    wait_for(look, timeout=2.5, interval=1.0, clock=clock, sleep=clock.sleep)
    assert finals[-1] is True and finals[:-1] == [False] * (len(finals) - 1) and len(finals) > 1


@pytest.mark.parametrize("absent", [False, True])
def test_no_timeout_means_one_final_look(absent: bool) -> None:
    outcome, seen, clock = waited([NO], timeout=0.0, absent=absent)
    assert (outcome.attempts, outcome.verdict.matched, seen[0].final, clock.slept) == (1, absent, True, [])


def test_a_transient_error_is_tried_again() -> None:
    outcome, _seen, _clock = waited([TRANSIENT, TRANSIENT, YES])
    assert (outcome.verdict, outcome.attempts) == (YES, 3)


def test_a_transient_error_that_lasts_is_reported() -> None:
    outcome, _seen, clock = waited([TRANSIENT])
    assert (outcome.verdict.matched, outcome.verdict.reason, outcome.verdict.hint) == (
        False,
        "unreachable",
        "Start it.",
    )
    assert clock.now == pytest.approx(1010.0)


@pytest.mark.parametrize("absent", [False, True])
def test_a_permanent_error_ends_the_wait_at_once(absent: bool) -> None:
    outcome, _seen, clock = waited([PERMANENT], absent=absent)
    assert (outcome.verdict.reason, outcome.verdict.observed, outcome.attempts) == ("bad_query", "sum(", 1)
    assert not outcome.verdict.matched and clock.slept == []


def test_absent_watches_the_whole_window() -> None:
    outcome, _seen, clock = waited([NO], absent=True)
    assert outcome.verdict.matched and outcome.verdict.reason == "ok" and outcome.verdict.observed == "nothing"
    assert clock.now == pytest.approx(1010.0)


def test_absent_fails_as_soon_as_it_appears() -> None:
    outcome, _seen, clock = waited([NO, YES], absent=True)
    assert (outcome.verdict.matched, outcome.verdict.reason) == (False, "appeared")
    assert (outcome.verdict.observed, outcome.verdict.times) == ("seen", {"at": 1.0})
    assert clock.now < 1002.0


def test_absent_is_not_proven_by_a_question_without_an_answer() -> None:
    outcome, _seen, _clock = waited([TRANSIENT], absent=True)
    assert (outcome.verdict.matched, outcome.verdict.reason) == (False, "unreachable")


def test_a_look_that_outlasts_the_deadline_is_followed_by_the_final_one_at_once() -> None:
    outcome, _seen, clock = waited([NO], clock=Clock(work=6.0), timeout=10.0, interval=1.0)
    assert outcome.attempts == 3
    assert clock.now == pytest.approx(1018.0 + clock.slept[0])
    assert clock.slept[-1] == 0.0


def test_a_request_is_cut_to_what_is_left() -> None:
    clock = Clock()
    deadline = Deadline(30.0, 10.0, clock)
    assert deadline.request_timeout == 10.0
    clock.now += 25.0
    assert (deadline.request_timeout, deadline.left, deadline.elapsed) == (5.0, 5.0, 25.0)
    clock.now += 50.0
    assert (deadline.request_timeout, deadline.left) == (MIN_REQUEST_TIMEOUT, 0.0)


def test_a_short_request_timeout_is_never_stretched() -> None:
    clock = Clock()
    deadline = Deadline(30.0, 0.3, clock)
    assert deadline.request_timeout == 0.3
    clock.now += 100.0
    assert deadline.request_timeout == 0.3


def test_a_single_look_gets_the_whole_request_timeout() -> None:
    deadline = Deadline(0.0, 7.0, Clock())
    assert (deadline.request_timeout, deadline.final) == (7.0, True)
