"""Ports against real sockets."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils import ports
from ansible_collections.vigie.observability.plugins.module_utils.ports import (
    bind_error,
    check_ports,
    decode_address,
    port_number,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

HOME = ip_address("127.0.0.1")
SERVER = """
import socket, sys
server = socket.socket(socket.AF_INET6 if sys.argv[1] == "::" else socket.AF_INET)
server.bind((sys.argv[1], 0))
server.listen()
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


def check(table: dict[str, Any], marker: str | None = None) -> Verdict:
    return check_ports(table, "127.0.0.1", marker, "vigie_ports")


@pytest.fixture
def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen, int, str]]:
    marker = uuid.uuid4().hex
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, getattr(request, "param", "127.0.0.1")],
        env={**os.environ, "VIGIE_SUPERVISED": marker},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout
        yield child, int(child.stdout.readline()), marker
        child.kill()


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1),
        (65535, 65535),
        ("9090", 9090),
        (0, None),
        (65536, None),
        (-1, None),
        ("x", None),
        (True, None),
        (9.5, None),
        (None, None),
    ],
)
def test_port_number(value: Any, number: int | None) -> None:
    assert port_number(value) == number


@pytest.mark.skipif(sys.byteorder != "little", reason="the samples are from a little-endian machine")
@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000", "0.0.0.0"),
        ("00000000000000000000000001000000", "::1"),
        ("0000000000000000FFFF00000100007F", "127.0.0.1"),
    ],
)
def test_addresses_of_proc(text: str, address: str) -> None:
    assert decode_address(text) == ip_address(address)


def test_free_ports(free: int) -> None:
    verdict = check({"app": free})
    assert (verdict.matched, verdict.reason, verdict.hint, verdict.observed) == (True, "ok", "", [])


@pytest.mark.parametrize("server", ["127.0.0.1", "0.0.0.0", "::"], indirect=True)
def test_busy_port_names_entry_value_holder_and_remedy(server: tuple[subprocess.Popen, int, str]) -> None:
    child, port, _marker = server
    verdict = check({"prometheus": port})
    assert (verdict.matched, verdict.reason) == (False, "port_busy")
    assert f"vigie_ports.prometheus={port} is held by process {child.pid} (" in verdict.hint
    assert f"ps -fp {child.pid}" in verdict.hint
    assert verdict.hint.count(". ") == 0, "one sentence"
    assert verdict.observed[0]["pid"] == child.pid


def test_ports_of_our_own_processes_are_fine(server: tuple[subprocess.Popen, int, str]) -> None:
    child, port, marker = server
    verdict = check({"prometheus": port}, marker)
    assert verdict.matched
    assert [(entry["pid"], entry["ours"]) for entry in verdict.observed] == [(child.pid, True)]
    assert check({"prometheus": port}, f"{marker}x").reason == "port_busy"


def test_recently_closed_connections_are_no_false_alarm() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _address = server.accept()
            accepted.close()  # the side that closes first waits
            assert client.recv(1) == b""
    with socket.socket() as plain, pytest.raises(OSError, match="in use"):
        plain.bind(("127.0.0.1", port))  # the port does wait: the test would prove nothing otherwise
    assert check({"app": port}).matched


def test_a_connection_on_the_port_is_told_from_a_server() -> None:
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        port = client.getsockname()[1]
        verdict = check({"app": port})
    assert verdict.reason == "port_busy"
    assert f"in use for a connection of process {os.getpid()}" in verdict.hint


@pytest.mark.parametrize("value", [0, 70000, "http", True, None])
def test_invalid(value: Any) -> None:
    verdict = check({"app": value})
    assert verdict.reason == "port_invalid"
    assert f"vigie_ports.app={value} is no port number" in verdict.hint


def test_twice(free: int) -> None:
    verdict = check({"app": free, "prometheus": str(free)})
    assert verdict.reason == "port_twice"
    assert f"vigie_ports.prometheus={free} is the port of vigie_ports.app too" in verdict.hint


def test_privileged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "bind_error", lambda address, port: 13)
    verdict = check({"app": 80})
    assert verdict.reason == "privileged"
    assert "vigie_ports.app=80 is reserved for root" in verdict.hint


def test_all_faults_are_named_and_the_gravest_is_the_reason(server: tuple[subprocess.Popen, int, str]) -> None:
    _child, port, _marker = server
    verdict = check({"app": port, "node": 0})
    assert verdict.reason == "port_invalid"
    assert re.search(r"vigie_ports\.node=0 .*vigie_ports\.app=", verdict.hint)


def test_a_holder_that_may_not_be_looked_at_is_named_by_user(
    server: tuple[subprocess.Popen, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "socket_owners", dict)
    verdict = check({"app": server[1]})
    assert verdict.reason == "port_busy"
    assert "is held by a process of user " in verdict.hint
    assert "ss -ltnp" in verdict.hint


@pytest.mark.parametrize("host", ["203.0.113.1", "no such host"])
def test_host_that_is_not_here(host: str, free: int) -> None:
    with pytest.raises(CheckError) as caught:
        check_ports({"app": free}, host, None, "vigie_ports")
    assert caught.value.reason == "bad_option"
    assert host in caught.value.hint


def test_bind_error_of_a_free_port(free: int) -> None:
    assert bind_error(HOME, free) == 0
