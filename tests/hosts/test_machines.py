"""What becomes of the tests where there can be no hosts."""

from __future__ import annotations

import machines
import pytest


def test_what_is_missing_skips_tests_that_nobody_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIGIE_TEST_HOSTS", raising=False)
    machines.require("", "")
    with pytest.raises(pytest.skip.Exception, match=r"^no this$"):
        machines.require("", "no this", "no that")


def test_what_is_missing_fails_tests_that_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIE_TEST_HOSTS", "1")
    machines.require("", "")
    with pytest.raises(pytest.fail.Exception, match=r"there is no this$"):
        machines.require("no this")


def test_every_program_that_is_missing_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert machines.missing() == "no docker command: role docker brings it"
