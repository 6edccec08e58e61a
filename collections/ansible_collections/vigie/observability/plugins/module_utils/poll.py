# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The one wait loop: monotonic deadline, first look at once, jittered sleep, errors split by what waiting can mend."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

MIN_REQUEST_TIMEOUT = 2.0
"""Seconds that a request always gets if its own bound allows, so that the last look, taken at the deadline, can still be
answered on a busy host, and its reason is about the system and not about the clock."""


class Deadline:
    """A point on the monotonic clock.

    Args:
        seconds: how far away it is; 0 means that one look is all there is.
        request_timeout: upper bound, in seconds, of one request within it.
    """

    def __init__(
        self, seconds: float, request_timeout: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._started = clock()
        self._end = self._started + max(0.0, seconds)
        self._request_timeout = request_timeout
        self.final = seconds <= 0
        """Whether this look is the last one: its reason will be reported, so it is worth asking for the cause."""

    @property
    def left(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self._end - self._clock())

    @property
    def elapsed(self) -> float:
        """Seconds since the deadline was set."""
        return self._clock() - self._started

    @property
    def request_timeout(self) -> float:
        """Seconds that a single request may take now: below what is left, above a useful minimum."""
        if self._end == self._started:
            return self._request_timeout
        return min(self._request_timeout, max(MIN_REQUEST_TIMEOUT, self.left))


@dataclass
class Outcome:
    """The last look of a wait, with how long and how often was looked."""

    verdict: Verdict
    elapsed: float
    attempts: int


def wait_for(
    look: Callable[[Deadline], Verdict],
    *,
    timeout: float,
    interval: float = 1.0,
    request_timeout: float = 10.0,
    absent: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Look until the condition holds, or, with ``absent``, make sure that it never holds for the whole window.

    Args:
        look: asks the system once; returns a verdict or raises CheckError.
        timeout: seconds; 0 looks once.
        interval: seconds between looks, jittered by 10 %.
        request_timeout: upper bound of one request in seconds.
        absent: the condition must stay false; its becoming true ends the wait with reason ``appeared``. A question
            that could not be answered proves nothing, so an error at the last look fails the check.

    Returns:
        The last look. A permanent error ends the wait at once; a transient one is retried and reported if it lasts.
    """
    deadline = Deadline(timeout, request_timeout, clock)
    attempts = 0
    while True:
        attempts += 1
        final = deadline.final = deadline.left <= 0
        permanent = False
        unanswered = False
        try:
            verdict = look(deadline)
        except CheckError as error:
            verdict = Verdict.no(error.reason, error.hint, error.observed)
            permanent = not error.transient
            unanswered = True
        if absent and not unanswered:
            if verdict.matched:
                hint = "It was expected to stay away for the whole window; see 'observed' for what appeared."
                return Outcome(
                    Verdict.no("appeared", hint, verdict.observed, verdict.times), deadline.elapsed, attempts
                )
            if final:
                return Outcome(Verdict.yes(verdict.observed, verdict.times), deadline.elapsed, attempts)
        elif verdict.matched or permanent or final:
            return Outcome(verdict, deadline.elapsed, attempts)
        # The last look is always taken at the deadline itself, not up to one interval before it.
        pause = min(interval * random.uniform(0.9, 1.1), deadline.left)  # noqa: S311 - jitter, not a secret
        sleep(pause)
