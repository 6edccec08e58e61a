# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The one shape in which every check answers, and the one family of exceptions that checks raise."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

OBSERVED_LIMIT = 2000
"""Characters of an observation that are kept in a result: enough to understand, little enough to read."""


COMMON_REASONS = (
    "ok",
    "appeared",
    "bad_option",
    "since_in_future",
    "unreachable",
    "timeout",
    "disconnected",
    "server_error",
    "access_denied",
    "redirected",
    "bad_request",
    "bad_answer",
    "tls_untrusted",
    "tls_failed",
)
"""Reasons that every check may give; the doc fragment ``check`` lists them."""


class CheckError(Exception):
    """Something a check can't get past.

    Args:
        reason: machine word, one of the reasons documented by the module.
        hint: one sentence for people, with the command that shows the cause.
        transient: True when the same question may succeed later (connection refused, 5xx, 429).
        observed: what was seen, if anything.
    """

    def __init__(self, reason: str, hint: str, *, transient: bool = False, observed: Any = None) -> None:
        super().__init__(f"{reason}: {hint}")
        self.reason = reason
        self.hint = hint
        self.transient = transient
        self.observed = observed


@dataclass
class Verdict:
    """One look at the system.

    Attributes:
        matched: the condition held at this look.
        reason: ``ok`` when it held, else the machine word for why not.
        hint: one sentence with the command that shows the cause; empty when it held.
        observed: what was seen, as plain data.
        times: name to unix seconds, read from the observed systems' own clocks.
        extra: further return values of the module.
    """

    matched: bool
    reason: str = "ok"
    hint: str = ""
    observed: Any = None
    times: dict[str, float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def yes(cls, observed: Any = None, times: dict[str, float] | None = None) -> Verdict:
        """The condition holds."""
        return cls(True, observed=observed, times=times or {})

    @classmethod
    def no(cls, reason: str, hint: str, observed: Any = None, times: dict[str, float] | None = None) -> Verdict:
        """The condition does not hold (yet)."""
        return cls(False, reason, hint, observed, times or {})


def trimmed(observed: Any, limit: int = OBSERVED_LIMIT) -> Any:
    """Return ``observed`` itself when its JSON form is short, else the first ``limit`` characters of that form."""
    text = json.dumps(observed, default=str, ensure_ascii=False)
    if len(text) <= limit:
        return observed
    return f"{text[:limit]}... ({len(text) - limit} characters more)"
