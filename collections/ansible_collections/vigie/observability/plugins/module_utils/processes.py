# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Processes as /proc shows them: which ones a supervisor of ours started, and how to stop those it lost.

A process belongs to a supervisor when its environment has ``VIGIE_SUPERVISED=<marker>``. Children inherit it, so a
process is recognised also after the supervisor died and nobody knows its id any more.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

MARKER_VARIABLE = "VIGIE_SUPERVISED"
COMMAND_LIMIT = 160
"""Characters of a command line that are shown."""

KILL_WAIT = 5.0
"""Seconds that a killed process gets to disappear."""


@dataclass(frozen=True)
class Process:
    """A process.

    Attributes:
        pid: process id.
        parent: id of the parent.
        started: clock ticks since boot; with the pid it names one process for ever, as pids are used again.
        command: command line, shortened.
        program: the name that its supervisor gives it, else of its executable.
    """

    pid: int
    parent: int
    started: int
    command: str
    program: str

    def summary(self) -> dict[str, int | str]:
        """Return what people want to read."""
        return {"pid": self.pid, "command": self.command, "program": self.program}


def read_process(pid: int) -> Process | None:
    """Return a living process, or None when it is gone, is a zombie, or may not be looked at."""
    folder = Path("/proc", str(pid))
    try:
        name, dummy, rest = folder.joinpath("stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
        command_line = folder.joinpath("cmdline").read_bytes()
    except OSError:
        return None
    fields = rest.split()
    if fields[0] in ("Z", "X"):
        return None
    arguments = [part.decode("utf-8", "replace") for part in command_line.split(b"\0") if part]
    short = name.partition("(")[2]
    command = " ".join(arguments) or f"[{short}]"
    if len(command) > COMMAND_LIMIT:
        command = f"{command[:COMMAND_LIMIT]}..."
    program = _environment(pid).get("SUPERVISOR_PROCESS_NAME") or short
    return Process(pid, int(fields[1]), int(fields[19]), command, program)


def marked(pid: int, marker: str) -> bool:
    """Whether the process was started with this marker in its environment."""
    return _environment(pid).get(MARKER_VARIABLE) == marker


def owned_by(uid: int) -> list[int]:
    """Return the ids of all processes of a user."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == uid:
                    found.append(int(entry.name))
            except OSError:
                continue
    return sorted(found)


def ancestors(pid: int) -> set[int]:
    """Return a process and all its parents up to init."""
    line = set()
    while pid > 0 and pid not in line:
        line.add(pid)
        process = read_process(pid)
        pid = process.parent if process else 0
    return line


def descendants(pid: int, processes: Iterable[Process]) -> set[int]:
    """Return a process and all its children and theirs, out of the given processes."""
    children: dict[int, list[int]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process.pid)
    family = set()
    waiting = [pid]
    while waiting:
        member = waiting.pop()
        if member not in family:
            family.add(member)
            waiting += children.get(member, [])
    return family


def find_supervised(marker: str, except_children_of: int | None = None) -> list[Process]:
    """Return this user's processes that carry the marker.

    Args:
        marker: value of the variable.
        except_children_of: this process and its descendants are left out.

    Never among them: the calling process and its ancestors, which may well have inherited the marker.
    """
    own = [process for process in map(read_process, owned_by(os.geteuid())) if process]
    spared = ancestors(os.getpid())
    if except_children_of is not None:
        spared |= descendants(except_children_of, own)
    return [process for process in own if process.pid not in spared and marked(process.pid, marker)]


def stop(
    processes: list[Process],
    grace: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Process]:
    """End processes: TERM to all, KILL to those that are there after ``grace`` seconds.

    Returns:
        Those that are still there a few seconds later; the kernel may hold a process that waits for a disk.
    """
    left = processes
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, KILL_WAIT)):
        for process in left:
            _signal(process, number)
        until = clock() + patience
        left = [process for process in left if _alive(process)]
        while left and clock() < until:
            sleep(0.05)
            left = [process for process in left if _alive(process)]
    return left


def _alive(process: Process) -> bool:
    now = read_process(process.pid)
    return now is not None and now.started == process.started


def _signal(process: Process, number: signal.Signals) -> None:
    # The pid may belong to another process by now: look again directly before.
    if _alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _environment(pid: int) -> dict[str, str]:
    try:
        block = Path("/proc", str(pid), "environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.decode("utf-8", "replace").partition("=") for entry in block.split(b"\0"))
    return {name: value for name, dummy, value in pairs}
