"""Logs: one JSON object per line, written without a buffer in between."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


class Stream(Protocol):
    """The part of an unbuffered binary file that is used here."""

    def write(self, data: bytes, /) -> int | None:
        """Write ``data`` and say how many bytes of it were taken."""


class JsonLog:
    """Writer of log lines that is cheap enough to be called for every request."""

    def __init__(self, stream: Stream | None = None) -> None:
        """Write to ``stream``, by default to the process' standard output.

        The stream must be unbuffered: what `write` returned from has then left the process and survives a crash.
        """
        self._stream = stream or io.FileIO(sys.stdout.fileno(), "w", closefd=False)
        self._lock = threading.Lock()
        self._second = (0, "")

    def write(self, level: str, message: str, **fields: Any) -> None:
        """Write one line; fields that are None are left out.

        A log that cannot be written (closed pipe, full disk) is not a reason to fail a request: it is dropped.
        """
        line: dict[str, Any] = {"time": self._now(), "level": level, "message": message}
        for name, value in fields.items():
            if value is not None:
                line[name] = value
        data = _encode(line).encode() + b"\n"
        try:
            # One write per line keeps lines whole; the lock is for pipes that take only part of it.
            with self._lock:
                while data:
                    data = data[self._stream.write(data) or 0 :]
        except (OSError, ValueError):
            pass

    def _now(self) -> str:
        """RFC 3339 time in UTC with milliseconds."""
        milliseconds = time.time_ns() // 1_000_000
        second, text = self._second
        if second != milliseconds // 1000:
            second = milliseconds // 1000
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        return f"{text}.{milliseconds % 1000:03d}Z"


class JsonLogHandler(logging.Handler):
    """Sends what libraries log through `logging` to the same JSON log."""

    def __init__(self, log: JsonLog, context: Callable[[], dict[str, Any]]) -> None:
        """Write to ``log``; ``context`` gives the fields of the request being served, if there is one."""
        super().__init__()
        self._log = log
        self._context = context
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, with its traceback in the field ``exception``."""
        try:
            exception = self._formatter.formatException(record.exc_info) if record.exc_info else None
            fields = {"logger": record.name, "exception": exception, **self._context()}
            self._log.write(record.levelname.lower(), record.getMessage(), **fields)
        except Exception:
            self.handleError(record)
