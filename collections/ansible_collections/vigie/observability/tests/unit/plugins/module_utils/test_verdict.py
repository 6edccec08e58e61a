from __future__ import annotations

from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict, trimmed


def test_yes_and_no() -> None:
    assert Verdict.yes({"a": 1}, {"t": 2.0}) == Verdict(True, "ok", "", {"a": 1}, {"t": 2.0}, {})
    assert Verdict.no("late", "Wait.") == Verdict(False, "late", "Wait.", None, {}, {})


def test_verdicts_share_nothing() -> None:
    Verdict.yes().times["x"] = 1.0
    assert Verdict.yes().times == {} and Verdict.yes().extra == {}


def test_an_error_reads_as_reason_and_hint() -> None:
    error = CheckError("unreachable", "Start it.")
    assert str(error) == "unreachable: Start it."
    assert not error.transient


def test_what_is_short_stays_data() -> None:
    assert trimmed({"a": [1, None]}) == {"a": [1, None]}


def test_what_is_long_becomes_the_beginning_of_a_text() -> None:
    text = trimmed({"a": "x" * 3000})
    assert text.startswith('{"a": "xxx') and text.endswith("... (1009 characters more)")
    assert len(text) < 2050


def test_what_is_no_json_is_no_obstacle() -> None:
    assert trimmed({"a": {1, 2}}, 5).startswith('{"a":')
