# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Times on the wire: RFC 3339 with up to nanoseconds, Unix seconds, and Prometheus durations."""

from __future__ import annotations

import math
import re
import time
from datetime import datetime, timezone

from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

FUTURE_TOLERANCE = 5.0
"""Seconds by which a bound may lie in the future before it is taken for a mistake: clocks of two hosts differ a little."""

YEAR_9999 = 253402300799.0
"""The last Unix second that can be written as a time."""

_RFC3339 = re.compile(r"^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)$")
_DURATION = re.compile(
    r"^(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$", re.IGNORECASE
)
_DURATION_UNITS = (31536000.0, 604800.0, 86400.0, 3600.0, 60.0, 1.0, 0.001)


def _number(value: str | float) -> float | None:
    """Return a finite number, or None for text that is none; infinity and NaN would make every comparison useless."""
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no finite number")
    return number


def parse_time(value: str | float) -> float:
    """Return Unix seconds for an RFC 3339 time or a number of Unix seconds.

    Raises:
        ValueError: the text is neither.
    """
    number = _number(value)
    if number is not None:
        return number
    match = _RFC3339.match(str(value).strip())
    if not match:
        raise ValueError(f"{value!r} is neither Unix seconds nor an RFC 3339 time such as 2026-01-31T12:00:00Z")
    day, clock, fraction, zone = match.groups()
    offset = "+00:00" if zone in ("Z", "z") else zone
    # Go prints nanoseconds, which datetime can't hold: the fraction is added by hand.
    seconds = datetime.fromisoformat(f"{day}T{clock}{offset}").timestamp()
    return seconds + float(f"0.{fraction}" if fraction else 0)


def format_time(seconds: float) -> str:
    """Return Unix seconds as RFC 3339 in UTC with milliseconds."""
    text = datetime.fromtimestamp(seconds, tz=timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def parse_duration(value: str | float) -> float:
    """Return the seconds of a Prometheus duration such as ``1m30s``, or of a bare number.

    Raises:
        ValueError: the text is no duration.
    """
    number = _number(value)
    if number is not None:
        if number < 0:
            raise ValueError(f"{value!r} is negative, which no duration can be")
        return number
    match = _DURATION.match(str(value).strip())
    if not match or not str(value).strip():
        raise ValueError(f"{value!r} is no duration such as 90s or 1m30s")
    return sum(int(number) * unit for number, unit in zip(match.groups(), _DURATION_UNITS, strict=True) if number)


def since_bound(value: str | float | None, now: float | None = None) -> float | None:
    """Return the freshness bound in Unix seconds, or None without one.

    Raises:
        CheckError: ``bad_option`` for text that is no time, ``since_in_future`` for a bound that nothing can satisfy.
    """
    if value is None or value == "":
        return None
    now = time.time() if now is None else now
    try:
        # A leading minus counts back from now: "-6m" is six minutes ago.
        text = str(value).strip()
        bound = now - parse_duration(text[1:]) if text.startswith("-") else parse_time(value)
    except ValueError as error:
        raise CheckError("bad_option", f"since: {error}.") from error
    if bound > YEAR_9999:
        raise CheckError(
            "bad_option", f"since={value} lies beyond the year 9999; Unix seconds are wanted, not milliseconds."
        )
    if bound > now + FUTURE_TOLERANCE:
        raise CheckError(
            "since_in_future",
            f"since={format_time(bound)} lies {bound - now:.0f} s after this host's clock ({format_time(now)}), so nothing can be "
            "that fresh; compare the clocks with 'date -u' or give an earlier time.",
            observed={"since": bound, "now": now},
        )
    return bound
