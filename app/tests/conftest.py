"""Fixtures of the application's tests: applications, child processes and a trace collector."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse, RemoteDisconnected
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flask import Flask
from flask_metrics.config import Settings
from flask_metrics.logs import JsonLog
from flask_metrics.web import create_app, service_of
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

APP_DIR = Path(__file__).resolve().parents[1]
WAIT = 60
"""Seconds after which something that should happen at once is given up; no test depends on the speed."""


class MemoryStream:
    """Log stream that keeps what was written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes, /) -> int:
        self.data += data
        return len(data)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.data.splitlines()]


@pytest.fixture
def stream() -> MemoryStream:
    return MemoryStream()


@pytest.fixture
def make_app(stream: MemoryStream) -> Iterator[Callable[..., Flask]]:
    """Factory of ready applications that log to ``stream``; takes the fields of `Settings`."""
    apps: list[Flask] = []

    def make(**settings: Any) -> Flask:
        app = create_app(Settings(**settings), JsonLog(stream))
        service_of(app).phase = "ready"
        apps.append(app)
        return app

    yield make
    for app in apps:
        tracing = service_of(app).tracing
        if tracing:
            tracing.shutdown(WAIT)


class Collector:
    """OTLP/HTTP collector on a free port that keeps the spans it was sent."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = _body(self)
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def spans(self) -> list[dict[str, Any]]:
        """The spans as plain dicts; ids in hexadecimal, the resource's attributes under ``resource``."""
        return [
            {
                "name": span.name,
                "kind": span.kind,
                "trace_id": span.trace_id.hex(),
                "span_id": span.span_id.hex(),
                "parent_span_id": span.parent_span_id.hex(),
                "status": span.status.code,
                "events": [event.name for event in span.events],
                "resource": _attributes(resource_spans.resource.attributes),
                **_attributes(span.attributes),
            }
            for request in list(self.requests)
            for resource_spans in request.resource_spans
            for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    """Read what was sent, in one piece or, as OpenTelemetry for JavaScript does, in chunks."""
    if "Content-Length" in handler.headers:
        return handler.rfile.read(int(handler.headers["Content-Length"]))
    body = b""
    while size := int(handler.rfile.readline(), 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


class Child:
    """A service in a process of its own, on a free port."""

    def __init__(self, command: list[str], env: dict[str, str], directory: Path | None = None) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("APP_", "OTEL_"))}
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env={**inherited, "APP_PORT": "0", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read_line(self) -> dict[str, Any]:
        """Wait for the next log line."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.process.communicate(timeout=WAIT)[1]
        fields: dict[str, Any] = json.loads(line)
        return fields

    def wait_until_listening(self) -> dict[str, Any]:
        listening = self.read_line()
        self.port = int(listening["port"])
        return listening

    def request(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> HTTPResponse:
        """Send one request on a connection of its own; the response has been read (``body``, ``json()``)."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=WAIT)
        try:
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            response.body = response.read()  # type: ignore[attr-defined]
            response.json = lambda: json.loads(response.body)  # type: ignore[attr-defined]
            return response
        finally:
            connection.close()

    def begin(self, path: str) -> tuple[threading.Thread, list[Any]]:
        """Send one request meanwhile; the list gets the status of its answer, or the type of the error."""
        answers: list[Any] = []

        def send() -> None:
            try:
                answers.append(self.request(path).status)
            except (OSError, RemoteDisconnected) as error:
                answers.append(type(error))

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        return thread, answers

    @staticmethod
    def wait_for(condition: Callable[[], Any]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + WAIT
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def finish(self) -> tuple[int, list[dict[str, Any]], str]:
        """Wait for the end: exit code, the log lines not read yet, standard error."""
        out, err = self.process.communicate(timeout=WAIT)
        return self.process.returncode, [json.loads(line) for line in out.splitlines()], err

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def children() -> Iterator[list[Child]]:
    """Processes that end with the test."""
    children: list[Child] = []
    yield children
    for child in children:
        child.close()


@pytest.fixture
def start_child(children: list[Child]) -> Callable[..., Child]:
    """Factory of Flask services; takes environment variables and the optional ``code`` to run instead."""

    def start(code: str | None = None, **env: str) -> Child:
        command = [sys.executable, *(["-c", code] if code else ["-m", "flask_metrics"])]
        children.append(Child(command, {"PYTHONPATH": str(APP_DIR), **env}))
        return children[-1]

    return start


@pytest.fixture(scope="session")
def catalog_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalogue as its image has it: a copy of the code beside the packages.

    The packages are brought once for each lock file and kept below `~/.cache/vigie`. Without Node.js these tests are
    skipped; where it is there, packages that can't be brought are a failure.
    """
    source = APP_DIR / "catalog"
    if not shutil.which("node"):
        pytest.skip("Node.js is not installed, and the catalogue is a Node.js service")
    if not shutil.which("npm"):
        pytest.fail("Node.js is installed, but not npm, which brings the catalogue's packages; install it")
    listed = [source / name for name in (".npmrc", "package.json", "package-lock.json")]
    version = subprocess.run(["node", "--version"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(b"\0".join([version, *(path.read_bytes() for path in listed)])).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    packages = cache / "vigie" / "catalog" / digest[:16]
    if not packages.exists():
        packages.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=packages.parent))
        for path in listed:
            shutil.copy(path, partial)
        result = subprocess.run(["npm", "ci"], cwd=partial, capture_output=True, text=True, timeout=600, check=False)
        if result.returncode != 0:
            shutil.rmtree(partial)
            pytest.fail(f"npm ci in app/catalog ended with {result.returncode}: {result.stderr[-2000:]}")
        # The name exists only when all packages do; of two that bring them at a time the first one stays.
        with contextlib.suppress(OSError):
            partial.rename(packages)
        shutil.rmtree(partial, ignore_errors=True)
    directory = tmp_path_factory.mktemp("catalog")
    shutil.copy(source / "package.json", directory)
    shutil.copytree(source / "src", directory / "src")
    (directory / "node_modules").symlink_to(packages / "node_modules")
    return directory


@pytest.fixture
def start_catalog(catalog_dir: Path, children: list[Child]) -> Callable[..., Child]:
    """Factory of catalogues; takes environment variables and the optional ``code`` to run instead."""

    def start(code: str | None = None, **env: str) -> Child:
        command = ["node", *(["--input-type=module", "--eval", code] if code else ["src/main.js"])]
        children.append(Child(command, env, catalog_dir))
        return children[-1]

    return start
