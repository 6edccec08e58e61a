# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A connection to a port of a pod through the API server: the WebSocket of Kubernetes' port-forward, as a stream of bytes.

One thread and blocking reads that all end at one deadline, so that nothing hangs and nothing is left behind. The port-forward
of the ``kubernetes`` client has no timeouts, needs a thread, and takes longer to load than a whole check may.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import io
import re
import secrets
import socket
import ssl
import struct
import time
from abc import ABC, abstractmethod
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

PROTOCOL = "v4.channel.k8s.io"
"""Subprotocol in which a byte before each message names its channel."""

DATA, ERROR = 0, 1
"""Channels of the first port. The first message on each is the port's number."""

FRAME = 32 * 1024
"""Bytes sent in one message."""

MAX_FRAME = 16 * 1024 * 1024
"""Bytes in one message of the server that are taken for sane."""

CONTINUATION, BINARY, CLOSE, PING, PONG = 0x0, 0x2, 0x8, 0x9, 0xA
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LOST = re.compile(r"connection reset|broken pipe|\bEOF\b|lost connection", re.IGNORECASE)
"""What the container runtime says when the process in the pod was connected and went away."""


def left(ends: float) -> float:
    """Return the seconds until ``ends`` on the monotonic clock.

    Raises:
        TimeoutError: there are none.
    """
    seconds = ends - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("timed out")
    return seconds


class Stream(ABC):
    """What ``http.client`` needs of a socket. Whoever opened the connection below closes it."""

    @abstractmethod
    def recv(self, size: int) -> bytes:
        """Return at most ``size`` bytes; none at the end."""

    @abstractmethod
    def sendall(self, data: bytes) -> None:
        """Send all of it."""

    def makefile(self, *_args: Any, **_options: Any) -> io.BufferedReader:
        """Return a buffered reader."""
        return io.BufferedReader(_Raw(self), 65536)

    def close(self) -> None:  # noqa: B027
        """Do nothing: an answer is read after ``http.client`` closed its socket."""


class _Raw(io.RawIOBase):
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def handshake(port: int) -> tuple[str, dict[str, str], str]:
    """Return query and headers of the request that opens a port-forward, and the text that its answer must hold."""
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Protocol": PROTOCOL,
    }
    digest = hashlib.sha1(f"{key}{_GUID}".encode(), usedforsecurity=False).digest()
    return f"?ports={port}", headers, base64.b64encode(digest).decode()


class PortForward(Stream):
    """A port of a pod.

    Args:
        connection: it has answered the handshake with 101.
        reader: of that answer; it may hold the first messages already.
        where: the port, for messages.
        show: command that shows what is wrong with it.
        ends: monotonic seconds at which every read and write ends with TimeoutError.
    """

    def __init__(
        self, connection: socket.socket, reader: io.BufferedReader, where: str, show: str, ends: float
    ) -> None:
        self._socket = connection
        self._reader = reader
        self._where = where
        self._show = show
        self._ends = ends
        self._received = bytearray()
        self._data = bytearray()
        self._begun: set[int] = set()
        self._channel = DATA
        self._ended = False
        self._error = ""

    def recv(self, size: int) -> bytes:
        """Return bytes that the pod sent.

        Raises:
            CheckError: ``unreachable``, nobody listens on the port.
            ConnectionResetError: the process in the pod went away.
            TimeoutError: nothing came in time.
        """
        while not self._data and not self._ended:
            self._take_message()
        if not self._data:
            self._raise_error()
        data = bytes(self._data[:size])
        del self._data[:size]
        return data

    def sendall(self, data: bytes) -> None:
        try:
            for start in range(0, len(data), FRAME):
                self._send(BINARY, bytes([DATA]) + data[start : start + FRAME])
        except TimeoutError:
            raise
        except OSError:
            # Why it was closed stands in what was sent before that.
            with contextlib.suppress(OSError, http.client.HTTPException):
                while not self._ended:
                    self._take_message()
            self._raise_error()
            raise

    def _raise_error(self) -> None:
        if not self._error:
            return
        if _LOST.search(self._error):
            raise ConnectionResetError(self._error)
        raise CheckError(
            "unreachable",
            f"{self._where} can't be reached inside the pod ({self._error[-300:].strip()}); see {self._show}.",
            transient=True,
        )

    def _send(self, opcode: int, payload: bytes) -> None:
        mask = secrets.token_bytes(4)
        size = len(payload)
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
        masked = (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")
        length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0xFE, size)
        self._socket.settimeout(left(self._ends))
        self._socket.sendall(bytes([0x80 | opcode]) + length + mask + masked)

    def _take_message(self) -> None:
        """Read one frame and do with it what has to be done."""
        try:
            head = self._exactly(2)
            size = head[1] & 0x7F
            if size >= 126:
                size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
            if head[1] & 0x80 or size > MAX_FRAME:
                raise http.client.HTTPException("no WebSocket of a server")
            payload = self._exactly(size)
        except EOFError:
            self._ended = True
            return
        opcode = head[0] & 0x0F
        if opcode == CLOSE:
            self._ended = True
        elif opcode == PING:
            self._send(PONG, payload)
        elif opcode == BINARY and payload:
            self._channel = payload[0]
            self._take(payload[1:])
        elif opcode == CONTINUATION:
            self._take(payload)

    def _take(self, payload: bytes) -> None:
        if self._channel not in self._begun:
            self._begun.add(self._channel)
        elif self._channel == DATA:
            self._data += payload
        elif self._channel == ERROR:
            self._error += payload.decode("utf-8", "replace")

    def _exactly(self, size: int) -> bytes:
        """Return so many bytes of the connection.

        Raises:
            EOFError: it ended before.
        """
        while len(self._received) < size:
            self._socket.settimeout(left(self._ends))
            data = self._reader.read1(65536)
            if not data:
                raise EOFError
            self._received += data
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken


class TlsStream(Stream):
    """TLS within another stream.

    Args:
        stream: what carries it.
        context: how.
        server_name: name that is sent, and that the certificate must be for.

    Raises:
        ssl.SSLError: as from a socket.
    """

    def __init__(self, stream: Stream, context: ssl.SSLContext, server_name: str) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._carried(self._tls.do_handshake)

    def recv(self, size: int) -> bytes:
        try:
            return bytes(self._carried(self._tls.read, size))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # As with a socket: whether the answer was complete is seen by its length.
            return b""

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._carried(self._tls.write, view[:FRAME]) :]

    def _carried(self, action: Any, *arguments: Any) -> Any:
        """Do something in TLS, carrying what it has to say and to hear."""
        while True:
            try:
                result = action(*arguments)
            except ssl.SSLWantReadError:
                self._flush()
                if data := self._stream.recv(65536):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
                continue
            except ssl.SSLError:
                with contextlib.suppress(OSError, CheckError):
                    self._flush()  # tell the other end why
                raise
            self._flush()
            return result

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._stream.sendall(data)
