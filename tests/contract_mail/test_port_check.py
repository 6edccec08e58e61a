"""port_check and orphan_processes as modules, with real processes and, for rights, another user."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

RESULT_KEYS = {"changed", "matched", "observed", "elapsed", "attempts", "reason", "hint", "times"}
SERVER = """
import signal, socket, sys
if sys.argv[1:] == ["stubborn"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
signal.pause()
"""


@pytest.fixture
def marker() -> str:
    return f"lab-{uuid.uuid4().hex}"


@pytest.fixture
def lost(marker: str, request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen, int]]:
    """A server that a supervisor started and lost, with its port."""
    child = subprocess.Popen(
        [sys.executable, "-c", SERVER, *getattr(request, "param", [])],
        env={**os.environ, "VIGIE_SUPERVISED": marker, "SUPERVISOR_PROCESS_NAME": "prometheus"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout
    yield child, int(child.stdout.readline())
    child.kill()
    child.communicate()


@pytest.mark.parametrize("check_mode", [False, True])
def test_busy_port_fails_in_check_mode_too(run_module, lost, check_mode) -> None:
    child, port = lost
    result = run_module("port_check", check_mode=check_mode, ports={"prometheus": port})
    assert set(result) >= RESULT_KEYS
    assert (result["failed"], result["changed"], result["matched"], result["reason"]) == (
        True,
        False,
        False,
        "port_busy",
    )
    assert result["msg"] == result["hint"]
    assert f"vigie_ports.prometheus={port} is held by process {child.pid}" in result["hint"]


def test_own_port_passes(run_module, lost, marker) -> None:
    result = run_module("port_check", ports={"prometheus": lost[1]}, marker=marker)
    assert set(result) == RESULT_KEYS | {"failed", "invocation"}
    assert (result["failed"], result["matched"], result["reason"]) == (False, True, "ok")


@pytest.mark.parametrize(
    ("ports", "reason"),
    [({"a": 0}, "port_invalid"), ({"a": 45001, "b": 45001}, "port_twice")],
)
def test_impossible_tables(run_module, ports, reason) -> None:
    result = run_module("port_check", ports=ports, variable="lab_ports")
    assert (result["failed"], result["reason"]) == (True, reason)
    assert "lab_ports." in result["hint"]


def test_host_of_another_machine(run_module) -> None:
    result = run_module("port_check", ports={"a": 45001}, host="203.0.113.1")
    assert (result["failed"], result["reason"]) == (True, "bad_option")


CHILD = """
import os, sys
from ansible_collections.vigie.observability.plugins.module_utils.ports import check_ports
import encodings.ascii, encodings.idna  # not readable by everybody afterwards
if os.getuid() == 0:  # root sees and may do everything
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
verdict = check_ports({"app": int(sys.argv[1])}, "127.0.0.1", None, "vigie_ports")
print(verdict.reason, verdict.hint)
"""


def as_another_user(port: int) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CHILD, str(port)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_privileged_port_without_root() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first <= 1:
        pytest.skip("every port may be bound by everybody here")
    said = as_another_user(first - 1)
    assert said.startswith("privileged ")
    assert f"vigie_ports.app={first - 1}" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_port_held_by_another_user(lost) -> None:
    said = as_another_user(lost[1])
    assert said.startswith("port_busy ")
    assert "is held by a process of user root" in said


def test_lost_processes_are_listed_then_stopped(run_module, lost, marker) -> None:
    child, port = lost
    listed = run_module("orphan_processes", marker=marker, state="listed")
    assert (listed["changed"], listed["failed"]) == (False, False)
    assert [(p["pid"], p["program"]) for p in listed["processes"]] == [(child.pid, "prometheus")]
    forecast = run_module("orphan_processes", check_mode=True, marker=marker)
    assert (forecast["changed"], forecast["processes"]) == (True, listed["processes"])
    assert child.poll() is None
    stopped = run_module("orphan_processes", marker=marker)
    assert (stopped["changed"], stopped["processes"], stopped["reason"]) == (True, listed["processes"], "ok")
    assert child.wait() == -15
    socket.create_server(("127.0.0.1", port)).close()
    again = run_module("orphan_processes", marker=marker)
    assert (again["changed"], again["processes"]) == (False, [])


@pytest.mark.parametrize("lost", [["stubborn"]], indirect=True)
def test_stubborn_processes_are_killed(run_module, lost, marker) -> None:
    assert run_module("orphan_processes", marker=marker, grace=0.1)["changed"]
    assert lost[0].wait() == -9


def test_family_of_the_running_supervisor_is_spared(run_module, lost, marker) -> None:
    result = run_module("orphan_processes", marker=marker, except_children_of=lost[0].pid)
    assert (result["changed"], result["processes"]) == (False, [])
    assert lost[0].poll() is None


@pytest.mark.parametrize(
    ("options", "word"),
    [({"except_children_of": 1}, "except_children_of"), ({"grace": -1}, "grace"), ({"marker": ""}, "marker")],
)
def test_bad_options_are_named(run_module, marker, options, word) -> None:
    result = run_module("orphan_processes", **{"marker": marker, **options})
    assert (result["failed"], result["reason"]) == (True, "bad_option")
    assert word in result["hint"]
