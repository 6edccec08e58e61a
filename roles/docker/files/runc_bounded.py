#!/usr/bin/python3 -IS
"""An OCI runtime for hosts whose capability bounding set is not whole: asks for no more than the host can give, then runs runc.

A privileged container is given every capability that the kernel knows, and the kernel refuses those that are outside the
bounding set of whoever starts it (in some virtual machines and nested containers CAP_SYS_RESOURCE). So what is missing here
is taken out of the container's specification, and where CAP_SYS_RESOURCE is missing the container is not preferred to
other processes when memory runs out, as that needs it. Everything else is runc's own.

    runc_bounded.py missing-capabilities [pid, pid file, or "self"] ...    prints what the first of them that lives lacks
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

# In the order of linux/capability.h: the number of each is its bit in the sets of /proc/<pid>/status.
CAPABILITIES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]

# runc's options before the command that take a value of their own.
VALUED = ("--log", "--log-format", "--root", "--criu", "--rootless")


def missing_capabilities(status: str, last: int) -> list[str]:
    """Return the capabilities that a process can't give.

    Args:
        status: text of /proc/<pid>/status.
        last: number of the newest capability that the kernel knows (/proc/sys/kernel/cap_last_cap).
    """
    bounding = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapBnd:"))
    return [f"CAP_{name}" for number, name in enumerate(CAPABILITIES[: last + 1]) if not bounding >> number & 1]


def of_process(pid: str) -> list[str]:
    """Return the capabilities that a living process can't give."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))
    return missing_capabilities(Path("/proc", pid, "status").read_text(encoding="utf-8"), last)


def restrict(process: dict[str, Any], missing: list[str], own_score: int) -> None:
    """Take out of the `process` of an OCI specification what can't be had.

    Args:
        process: changed in place.
        missing: names of capabilities.
        own_score: this process's oom_score_adj; below it CAP_SYS_RESOURCE is needed.
    """
    for name, wanted in (process.get("capabilities") or {}).items():
        process["capabilities"][name] = [capability for capability in wanted or [] if capability not in missing]
    lowest = min(own_score, 0)
    if "CAP_SYS_RESOURCE" in missing and (process.get("oomScoreAdj") or 0) < lowest:
        process["oomScoreAdj"] = lowest


def specification(arguments: list[str]) -> tuple[Path, bool] | None:
    """Return the file that a call of runc takes its process from, and whether the file is that process alone; or None."""
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        at += 2 if arguments[at] in VALUED else 1
    command, rest = "".join(arguments[at : at + 1]), arguments[at + 1 :]
    if command in ("create", "run", "restore"):
        return Path(option(rest, "--bundle", "-b") or ".", "config.json"), False
    if command == "exec" and (file := option(rest, "--process", "-p")):
        return Path(file), True
    return None


def option(arguments: list[str], *names: str) -> str:
    """Return the value of an option, or an empty text."""
    for at, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            return value if equals else "".join(arguments[at + 1 : at + 2])
    return ""


def rewrite(file: Path, alone: bool, missing: list[str], own_score: int) -> None:
    """Restrict the process in a specification; the file is replaced as a whole, and only when something changes."""
    before = file.read_text(encoding="utf-8")
    whole = json.loads(before)
    restrict(whole if alone else whole.get("process") or {}, missing, own_score)
    if whole == json.loads(before):
        return
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(whole, stream)
        Path(temporary).chmod(stat.S_IMODE(file.stat().st_mode))
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink()
        raise


def runc(me: Path) -> str:
    """Return the path of the real runc: the one this program was put in the place of, else the one on PATH."""
    replaced = me.with_name("runc.real")
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return str(replaced) if replaced.exists() else shutil.which("runc", path=path) or "/usr/bin/runc"


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["missing-capabilities"]:
        for place in arguments[1:]:
            pid = Path(place).read_text(encoding="ascii").strip() if Path(place).is_file() else place
            if Path("/proc", pid, "status").is_file():
                print(" ".join(of_process(pid)))
                return
        sys.exit(f"None of these is a living process: {' '.join(arguments[1:])}")
    try:
        if found := specification(arguments):
            own_score = int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))
            rewrite(*found, of_process("self"), own_score)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        # runc says best what is wrong with its input.
        print(f"runc_bounded: the specification stays as it is: {error}", file=sys.stderr)
    real = runc(Path(__file__).resolve())
    os.execv(real, ["runc", *arguments])  # noqa: S606


if __name__ == "__main__":
    main()
