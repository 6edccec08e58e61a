"""The runs of a container, from looks at what the kubelet remembers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

SOURCE = Path(__file__).parents[2] / "roles" / "drill" / "filter_plugins" / "container_runs.py"
SPEC = importlib.util.spec_from_file_location("container_runs", SOURCE)
assert SPEC and SPEC.loader
MODULE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MODULE)


def ended(began: int, end: int) -> dict[str, Any]:
    return {
        "terminated": {
            "startedAt": f"2026-01-31T12:00:{began:02d}Z",
            "finishedAt": f"2026-01-31T12:00:{end:02d}Z",
            "exitCode": 1,
            "reason": "Error",
        }
    }


def status(restarts: int, began: int, last: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "restartCount": restarts,
        "state": {"running": {"startedAt": f"2026-01-31T12:00:{began:02d}Z"}},
        "lastState": last or {},
    }


def test_times_are_unix_seconds() -> None:
    assert MODULE.unix_seconds("2026-01-31T12:00:05Z") == 1769860805.0
    with pytest.raises(AnsibleFilterError, match="'soon' is no time"):
        MODULE.unix_seconds("soon")


def test_looks_at_every_run_give_all_of_them() -> None:
    first = MODULE.container_runs(status(0, 1))
    second = MODULE.container_runs(status(1, 6, ended(1, 5)), first)
    third = MODULE.container_runs(status(2, 20, ended(6, 9)), second)
    minute = 1769860800.0
    assert [(run["started"], run["exited"]) for run in third] == [
        (minute + 1, minute + 5),
        (minute + 6, minute + 9),
        (minute + 20, None),
    ]
    assert third[0]["exit_reason"] == "Error, exit code 1"


def test_a_run_that_nobody_looked_at_is_unknown_and_not_made_up() -> None:
    runs = MODULE.container_runs(status(3, 40, ended(20, 30)), MODULE.container_runs(status(0, 1)))
    assert [run["exited"] is None for run in runs] == [True, True, False, True]
    assert runs[0]["started"] is None


def test_a_container_that_waits_has_no_run_now() -> None:
    waiting = {"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended(1, 2)}
    assert len(MODULE.container_runs(waiting)) == 1
