# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Which TCP ports are free, and who holds those that are not."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.processes import marked, read_process
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

_LISTEN = "0A"


@dataclass(frozen=True)
class Finding:
    """A port that can't be used.

    Attributes:
        name: key in the table of ports.
        port: the value as given.
        reason: machine word.
        text: what is wrong with it, to follow "<variable>.<name>=<port>".
        pid: holder, if it could be seen.
        command: of the holder, if it could be seen.
        ours: the holder carries the marker, so the port is fine.
    """

    name: str
    port: Any
    reason: str
    text: str
    pid: int | None = None
    command: str = ""
    ours: bool = False


@dataclass(frozen=True)
class Holder:
    """A socket that holds a port.

    Attributes:
        uid: user that made the socket.
        inode: by which the process is found.
        listening: waits for connections; else it is one, or was bound and not used.
    """

    uid: int
    inode: str
    listening: bool


def check_ports(ports: Mapping[str, Any], host: str, marker: str | None, variable: str) -> Verdict:
    """Say whether all ports of a table can be used.

    Args:
        ports: name to port number.
        host: address on which servers will listen.
        marker: processes whose environment has VIGIE_SUPERVISED with this value are ours, so their ports are fine.
        variable: name of the table, for the hint.

    Raises:
        CheckError: ``bad_option`` when the host is no address of this machine.
    """
    address = _local_address(host)
    findings: list[Finding] = []
    first: dict[int, str] = {}
    for name, value in ports.items():
        port = port_number(value)
        if port is None:
            findings.append(Finding(name, value, "port_invalid", "is no port number from 1 to 65535"))
        elif port in first:
            findings.append(Finding(name, port, "port_twice", f"is the port of {variable}.{first[port]} too"))
        else:
            first[port] = name
    pids: dict[str, int] | None = None
    for port, name in first.items():
        problem = bind_error(address, port)
        if problem == errno.EACCES:
            findings.append(
                Finding(name, port, "privileged", f"is reserved for root, and this is user id {os.geteuid()}")
            )
        elif problem == errno.EADDRINUSE:
            if pids is None:
                pids = socket_owners()
            findings.append(_busy(name, port, holder_of(address, port), pids, marker))
        elif problem:
            raise CheckError("bad_option", f"host={host} can't be bound ({os.strerror(problem)}); see 'ip address'.")
    bad = [finding for finding in findings if not finding.ours]
    observed = [{key: value for key, value in asdict(finding).items() if key != "text"} for finding in findings]
    if not bad:
        return Verdict.yes(observed)
    bad.sort(key=lambda finding: ("port_invalid", "port_twice", "privileged", "port_busy").index(finding.reason))
    faults = ", ".join(f"{variable}.{finding.name}={finding.port} {finding.text}" for finding in bad)
    return Verdict.no(bad[0].reason, f"{faults}; {_remedy(bad, variable)}.", observed)


def port_number(value: Any) -> int | None:
    """Return a port as int, or None when it is none; templates hand numbers on as text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        number = int(value)
    except ValueError:
        return None
    return number if 1 <= number <= 65535 else None


def bind_error(address: IPv4Address | IPv6Address, port: int) -> int:
    """Try to bind a port as servers do; return 0 or the error number.

    With SO_REUSEADDR, as connections that were closed a moment ago hold no server up.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(address), port))
        except OSError as error:
            return error.errno or errno.EIO
    return 0


def holder_of(address: IPv4Address | IPv6Address, port: int) -> Holder | None:
    """Return the socket that keeps others from binding a port: the listening one, if there is."""
    found = []
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            local, dummy, hexadecimal = fields[1].partition(":")
            if int(hexadecimal, 16) != port:
                continue
            bound = decode_address(local)
            if bound in (address, IPv4Address(0), IPv6Address(0)) or int(address) == 0:
                found.append(Holder(int(fields[7]), fields[9], fields[3] == _LISTEN))
    # A closed connection has no inode any more and holds nothing.
    return next(iter(sorted((h for h in found if h.inode != "0"), key=lambda h: not h.listening)), None)


def decode_address(text: str) -> IPv4Address | IPv6Address:
    """Return an address of /proc/net/tcp: 32-bit words, each in the byte order of the host."""
    words = [int(text[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(text), 8)]
    address = ip_address(b"".join(words))
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def socket_owners() -> dict[str, int]:
    """Return, for every socket of the processes that may be looked at, inode to process id."""
    owners: dict[str, int] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            for descriptor in os.scandir(f"/proc/{entry.name}/fd"):
                target = os.readlink(descriptor.path)  # noqa: PTH115 - thousands of them
                if target.startswith("socket:["):
                    owners.setdefault(target[8:-1], int(entry.name))
        except OSError:
            continue
    return owners


def _busy(name: str, port: int, holder: Holder | None, pids: Mapping[str, int], marker: str | None) -> Finding:
    if holder is None:
        return Finding(name, port, "port_busy", "is taken by a process that can't be seen")
    pid = pids.get(holder.inode)
    process = read_process(pid) if pid else None
    if process is None:
        return Finding(name, port, "port_busy", f"is held by a process of user {_user(holder.uid)}")
    ours = marker is not None and marked(process.pid, marker)
    text = f"is held by process {process.pid} ({process.command})"
    if not holder.listening:
        text = f"is in use for a connection of process {process.pid} ({process.command})"
    return Finding(name, port, "port_busy", text, process.pid, process.command, ours)


def _remedy(bad: list[Finding], variable: str) -> str:
    entry = f"{variable}.{bad[0].name}"
    if bad[0].reason == "port_busy":
        who = f"see 'ps -fp {bad[0].pid}' and stop it" if bad[0].pid else f"see 'sudo ss -ltnp sport = {bad[0].port}'"
        return f"{who}, or set {entry} to a free port"
    if bad[0].reason == "privileged":
        return f"set {entry} to a port from 1024 on"
    return f"set {entry} to a port of its own from 1024 to 65535"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"id {uid}"


def _local_address(host: str) -> IPv4Address | IPv6Address:
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return ip_address(answers[0][4][0])
    except (OSError, ValueError) as error:
        raise CheckError("bad_option", f"host={host} is no address ({error}); give one such as 127.0.0.1.") from error
