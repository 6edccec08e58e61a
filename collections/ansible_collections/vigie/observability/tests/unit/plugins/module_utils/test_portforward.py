"""The stream of a forwarded port, fed frame by frame; whole conversations are in tests/contract/test_service_endpoint.py."""

from __future__ import annotations

import http.client
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.portforward import PortForward, handshake, left
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

BEGUN = b"\x82\x03\x00\x88\x13\x82\x03\x01\x88\x13"
CLOSED = b"\x88\x02\x03\xe8"


def frame(channel: int, data: bytes, head: int = 0x82) -> bytes:
    size = len(data) + 1
    length = (
        bytes([size])
        if size < 126
        else struct.pack("!BH", 126, size)
        if size < 65536
        else struct.pack("!BQ", 127, size)
    )
    return bytes([head]) + length + bytes([channel]) + data


class Wire:
    """A forwarded port and the other end of its connection."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.far.settimeout(10)
        self.port = PortForward(self.near, self.near.makefile("rb"), "Port 5000", "'kubectl'", time.monotonic() + 10)

    def fed(self, *frames: bytes, end: bool = True) -> PortForward:
        self.far.sendall(b"".join(frames))
        if end:
            self.far.shutdown(socket.SHUT_WR)
        return self.port


@pytest.fixture
def wire() -> Iterator[Wire]:
    one = Wire()
    yield one
    one.near.close()
    one.far.close()


def everything(port: PortForward) -> bytes:
    parts = []
    while part := port.recv(1000):
        parts.append(part)
    return b"".join(parts)


def test_handshake() -> None:
    query, headers, accept = handshake(5000)
    assert query == "?ports=5000"
    assert headers["Sec-WebSocket-Protocol"] == "v4.channel.k8s.io"
    assert len(accept) == 28 and accept != handshake(5000)[2]


@pytest.mark.parametrize("size", [1, 124, 125, 126, 65534, 65535, 100_000])
def test_frames_of_every_length(wire: Wire, size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    near, far = wire.near, wire.far
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    assert everything(wire.fed(BEGUN, frame(0, data), CLOSED)) == data


def test_fragments_pings_and_empty_frames(wire: Wire) -> None:
    head, tail = frame(0, b"he", head=0x02), b"\x80\x03llo"
    port = wire.fed(BEGUN, head, b"\x89\x02hi", tail, b"\x82\x00", frame(0, b""), CLOSED)
    assert everything(port) == b"hello"
    assert wire.far.recv(100)[0] == 0x8A, "a ping is answered"


@pytest.mark.parametrize("end", [CLOSED, b"", b"\x82\x7e\x00"])
def test_the_end(wire: Wire, end: bytes) -> None:
    port = wire.fed(BEGUN, frame(0, b"hello"), end)
    assert everything(port) == b"hello"
    assert port.recv(10) == b""


@pytest.mark.parametrize("junk", [b"\x82\x83abcdefg", b"\x82\x7f\x00\x00\x00\x00\x7f\xff\xff\xff"])
def test_no_websocket(wire: Wire, junk: bytes) -> None:
    with pytest.raises(http.client.HTTPException):
        wire.fed(junk).recv(1)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("dial tcp4 127.0.0.1:5000: connect: connection refused", CheckError),
        ("socat[7] E connect(5, AF=2 127.0.0.1:5000, 16): Connection refused", CheckError),
        ("container not running", CheckError),
        ("read tcp4 127.0.0.1:1->127.0.0.1:5000: read: connection reset by peer", ConnectionResetError),
        ("write: broken pipe", ConnectionResetError),
        ("unexpected EOF", ConnectionResetError),
    ],
)
def test_errors(wire: Wire, text: str, kind: type[Exception]) -> None:
    port = wire.fed(BEGUN, frame(0, b"hel"), frame(1, text.encode()), frame(0, b"lo"), CLOSED)
    assert port.recv(3) == b"hel", "what came before the error is no less true"
    assert port.recv(3) == b"lo"
    with pytest.raises(kind) as caught:
        port.recv(1)
    if isinstance(caught.value, CheckError):
        assert (caught.value.reason, caught.value.transient) == ("unreachable", True)
        assert text in caught.value.hint and "'kubectl'" in caught.value.hint


def test_why_a_port_was_closed_before_the_request_was_sent(wire: Wire) -> None:
    port = wire.fed(BEGUN, frame(1, b"connection refused"), CLOSED)
    wire.far.close()
    with pytest.raises(CheckError, match="connection refused"):
        port.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100_000)


def test_what_is_sent(wire: Wire) -> None:
    wire.port.sendall(b"hello")
    sent = wire.far.recv(100)
    assert sent[:2] == b"\x82\x86"
    mask, payload = sent[2:6], sent[6:]
    assert bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)) == b"\x00hello"


def test_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Any = iter([5.0, 10.0, 10.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    assert left(10.0) == 5.0
    for dummy in range(2):
        with pytest.raises(TimeoutError):
            left(10.0)
