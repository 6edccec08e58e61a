from __future__ import annotations

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import (
    FUTURE_TOLERANCE,
    format_time,
    parse_duration,
    parse_time,
    since_bound,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

NOW = 1795519770.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (1795519770, 1795519770.0),
        ("1795519770.5", 1795519770.5),
        ("2026-11-24T11:29:30Z", 1795519770.0),
        ("2026-11-24T12:29:30+01:00", 1795519770.0),
        ("2026-11-24T11:29:30.125Z", 1795519770.125),
        ("2026-11-24t11:29:30.123456789z", 1795519770.123456789),
        (" 2026-11-24 11:29:30Z ", 1795519770.0),
        ("1970-01-01T00:00:00Z", 0.0),
    ],
)
def test_parse_time(text: str | float, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds, abs=1e-6)


def test_gos_zero_time_lies_before_everything() -> None:
    assert parse_time("0001-01-01T00:00:00Z") < 0


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-11-24", "2026-11-24T11:29:30", "2026-13-24T11:29:30Z", "nan", "inf", ""]
)
def test_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_time(text)


@pytest.mark.parametrize("seconds", [0.0, 1795519770.0, 1795519770.123])
def test_what_is_written_can_be_read(seconds: float) -> None:
    assert parse_time(format_time(seconds)) == pytest.approx(seconds, abs=0.001)


def test_format_time_has_milliseconds_and_z() -> None:
    assert format_time(1795519770) == "2026-11-24T11:29:30.000Z"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15s", 15.0),
        ("1m30s", 90.0),
        ("1h", 3600.0),
        ("250ms", 0.25),
        ("2d", 172800.0),
        ("1w", 604800.0),
        ("1y", 31536000.0),
        ("90", 90.0),
        (1.5, 1.5),
        ("0s", 0.0),
    ],
)
def test_parse_duration(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1x", "30s1m", "-5s", "-5", "nan", "inf", "1.5m"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_duration(text)


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_bound(nothing: str | None) -> None:
    assert since_bound(nothing) is None


@pytest.mark.parametrize(
    ("text", "bound"),
    [("1795519000", 1795519000.0), ("2026-11-24T11:29:00Z", NOW - 30), ("-6m", NOW - 360), ("-90", NOW - 90)],
)
def test_a_bound(text: str, bound: float) -> None:
    assert since_bound(text, NOW) == bound


def test_a_bound_just_ahead_is_a_difference_of_clocks() -> None:
    assert since_bound(NOW + FUTURE_TOLERANCE, NOW) == NOW + FUTURE_TOLERANCE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("yesterday", "bad_option"),
        ("-soon", "bad_option"),
        ("nan", "bad_option"),
        (str(NOW * 1000), "bad_option"),
        (NOW + 60, "since_in_future"),
        ("2027-01-01T00:00:00Z", "since_in_future"),
    ],
)
def test_a_bound_that_is_refused(text: str, reason: str) -> None:
    with pytest.raises(CheckError) as caught:
        since_bound(text, NOW)
    assert caught.value.reason == reason
    assert "since" in caught.value.hint


def test_milliseconds_are_recognized() -> None:
    with pytest.raises(CheckError, match="not milliseconds"):
        since_bound(NOW * 1000, NOW)
