"""Real child processes, read through the real /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.vigie.observability.plugins.module_utils import processes
from ansible_collections.vigie.observability.plugins.module_utils.processes import (
    ancestors,
    descendants,
    find_supervised,
    marked,
    read_process,
    stop,
)

# A child says "ready" when its handlers are set, so that no test has to guess how long that takes.
SLEEPER = "import sys, time; print('ready', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
PARENT = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE);"
    "child.stdout.readline(); print(child.pid, flush=True); sys.stdin.read()"
)

Start = Callable[..., subprocess.Popen]


@pytest.fixture
def marker() -> str:
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def start(marker: str) -> Iterator[Start]:
    """Return a function that starts Python code under the marker and waits for its first line."""
    children: list[subprocess.Popen] = []

    def run(code: str, *arguments: str, **environment: str) -> subprocess.Popen:
        child = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "VIGIE_SUPERVISED": marker, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        assert child.stdout
        child.first_line = child.stdout.readline().strip()  # type: ignore[attr-defined]
        return child

    yield run
    for child in children:
        child.kill()
        child.communicate()
    for left in find_supervised(marker):
        os.kill(left.pid, 9)


def test_own_process_is_read() -> None:
    process = read_process(os.getpid())
    assert process
    assert process.parent == os.getppid()
    assert "py" in process.command
    assert process.started > 0


def test_no_process() -> None:
    assert read_process(2**22 + 1) is None
    assert not marked(2**22 + 1, "x")


def test_a_name_with_brackets_is_parsed(start: Start) -> None:
    child = start(f"open('/proc/self/comm', 'w').write('a) (b 1 2'); {SLEEPER}")
    process = read_process(child.pid)
    assert process
    assert process.parent == os.getpid()
    assert process.program == "a) (b 1 2"


def test_long_commands_are_shortened(start: Start) -> None:
    child = start(SLEEPER, "x" * 500)
    process = read_process(child.pid)
    assert process
    assert len(process.command) == processes.COMMAND_LIMIT + 3


def test_marked_processes_are_found_with_their_supervisor_name(start: Start, marker: str) -> None:
    child = start(SLEEPER, SUPERVISOR_PROCESS_NAME="prometheus")
    start(SLEEPER, VIGIE_SUPERVISED=f"{marker}-other")
    found = find_supervised(marker)
    assert [(process.pid, process.program) for process in found] == [(child.pid, "prometheus")]
    assert found[0].summary()["pid"] == child.pid
    assert find_supervised(marker[:-1]) == []


def test_children_of_a_running_supervisor_are_fine(start: Start, marker: str) -> None:
    supervisor = start(PARENT, SLEEPER)
    orphan = start(SLEEPER)
    grandchild = int(supervisor.first_line)  # type: ignore[attr-defined]
    assert {p.pid for p in find_supervised(marker)} == {supervisor.pid, grandchild, orphan.pid}
    assert [p.pid for p in find_supervised(marker, supervisor.pid)] == [orphan.pid]


def test_the_caller_and_its_ancestors_are_never_found(start: Start, marker: str) -> None:
    code = (
        "import os, sys, subprocess\n"
        "from ansible_collections.vigie.observability.plugins.module_utils.processes import find_supervised\n"
        "print(len(find_supervised(sys.argv[1])), flush=True)\n"
    )
    outer = (
        "import subprocess, sys\n"
        "print(subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]], stdout=subprocess.PIPE, text=True).stdout)"
    )
    child = start(outer, code, marker, PYTHONPATH=os.pathsep.join(sys.path))
    assert child.first_line == "0"  # type: ignore[attr-defined]


def test_family() -> None:
    assert {os.getpid(), os.getppid()} <= ancestors(os.getpid())
    fake = [processes.Process(pid, parent, 1, "", "") for pid, parent in ((2, 1), (3, 2), (4, 3), (5, 1))]
    assert descendants(2, fake) == {2, 3, 4}


def test_stop_ends_processes(start: Start, marker: str) -> None:
    child = start(SLEEPER)
    assert stop(find_supervised(marker), grace=30) == []
    assert child.wait() == -15


def test_stop_kills_what_ignores_the_polite_way(start: Start, marker: str) -> None:
    child = start(STUBBORN)
    assert stop(find_supervised(marker), grace=0.1) == []
    assert child.wait() == -9


def test_a_zombie_counts_as_gone(start: Start, marker: str) -> None:
    child = start(SLEEPER)
    found = find_supervised(marker)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, but not collected yet
    assert read_process(child.pid) is None
    assert stop(found, grace=0) == []


def test_a_pid_that_was_used_again_is_not_signalled(start: Start, marker: str) -> None:
    child = start(SLEEPER)
    real = find_supervised(marker)[0]
    former = processes.Process(real.pid, real.parent, real.started - 1, real.command, real.program)
    assert stop([former], grace=0) == []
    assert child.poll() is None


def test_what_outlives_a_kill_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    stuck = processes.Process(7, 1, 1, "stuck", "stuck")
    monkeypatch.setattr(processes, "read_process", lambda pid: stuck)
    monkeypatch.setattr(processes.os, "kill", lambda pid, number: sent.append((pid, int(number))))
    now = [0.0]
    left = stop([stuck], 2, clock=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds))
    assert left == [stuck]
    assert sent == [(7, 15), (7, 9)]
