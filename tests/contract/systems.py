"""Real Prometheus and Alertmanager processes, an exporter that a test can change, and servers that misbehave on purpose."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PACKAGES = Path(os.environ.get("VIGIE_STATE_DIR", "~/.local/state/vigie")).expanduser() / "packages"
COMPILED_FOLDERS = ("/usr/share/prometheus/alertmanager", "/usr/share/prometheus/web")
STARTUP_SECONDS = 30.0

Json = dict[str, Any]
RunModule = Callable[..., Json]
"""Runs a module by its name with its options, and returns its result."""

CRITICAL = {"severity": "critical"}


def find_program(variable: str, name: str) -> Path:
    """Return a program from the environment variable, the lab's unpacked packages or PATH.

    Raises:
        RuntimeError: it is nowhere.
    """
    if os.environ.get(variable):
        return Path(os.environ[variable])
    for found in sorted(PACKAGES.glob(f"*/usr/bin/{name}"), reverse=True):
        return found
    for alias in (name, name.removeprefix("prometheus-")):
        if on_path := shutil.which(alias):
            return Path(on_path)
    raise RuntimeError(
        f"{name} is missing: run 'make up' once, install the package {name}, or set {variable} to the program."
    )


def runnable(program: Path, folder: Path) -> tuple[Path, Path]:
    """Return a program that runs although its package is only unpacked, and the working directory that it needs.

    The distribution compiles absolute folders into its programs. Where they are missing, a copy is made that looks for
    them below its working directory; everything else in it is as built.
    """
    root = program.resolve().parents[2]
    content = program.read_bytes()
    changed = content
    for path in COMPILED_FOLDERS:
        if not Path(path).exists():
            changed = changed.replace(path.encode(), f"{path[1:]}/".encode())
    if changed == content:
        return program, root
    copy = folder / program.name
    copy.write_bytes(changed)
    copy.chmod(0o755)
    return copy, root


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(question: Callable[[], Any], what: str, seconds: float = STARTUP_SECONDS) -> Any:
    """Return the first true answer to a question; fail the test when none comes."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with contextlib.suppress(OSError, ValueError):
            if answer := question():
                return answer
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds:g} s")


def self_signed(folder: Path, name: str, alternative: str) -> tuple[Path, Path]:
    """Write a self-signed certificate, its own CA, and return the files of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    address: x509.GeneralName = x509.DNSName(alternative)
    if alternative[0].isdigit():
        address = x509.IPAddress(ipaddress.ip_address(alternative))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.crt", folder / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


class Server:
    """A real server process with its own folder, port and log."""

    def __init__(self, program: Path, folder: Path, cwd: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.scheme = "http"
        self._program = program
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def run(self, *arguments: str) -> None:
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(self._program), *arguments], cwd=self._cwd, stdout=log, stderr=subprocess.STDOUT
            )

    def wait_ready(self, address: str = "", seconds: float = STARTUP_SECONDS) -> None:
        """Wait until an address answers, by default Prometheus' and Alertmanager's own."""

        def ready() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"{self._program.name} ended: {self.log[-2000:]}")
            return fetch(address or f"{self.url}/-/ready")[0] == 200

        eventually(ready, f"the start of {self._program.name}", seconds)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class PrometheusServer(Server):
    """Prometheus with a configuration and rules given as data."""

    def configure(self, config: Json, groups: list[Json] | str = "") -> None:
        """Write the configuration; rules given as text are written as they are, to break them."""
        rules = groups if isinstance(groups, str) else yaml.safe_dump({"groups": groups})
        (self.folder / "rules.yml").write_text(rules or "groups: []")
        config = {"rule_files": [str(self.folder / "rules.yml")], **config}
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def start(self, *arguments: str, wait: bool = True) -> None:
        self.run(
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-lifecycle",
            *arguments,
        )
        if wait:
            self.wait_ready()

    def reload(self) -> int:
        """Return the status of the answer to a reload."""
        return fetch(f"{self.url}/-/reload", b"")[0]


class AlertmanagerServer(Server):
    """Alertmanager with a configuration given as data."""

    def start(self, config: Json) -> None:
        (self.folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
        self.run(
            f"--config.file={self.folder / 'alertmanager.yml'}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        )
        self.wait_ready()

    def post_alert(self, **labels: str) -> None:
        """Hand an alert to Alertmanager as Prometheus would."""
        status, text = fetch(f"{self.url}/api/v2/alerts", json.dumps([{"labels": labels}]).encode())
        assert status == 200, text


def fetch(url: str, data: bytes | None = None) -> tuple[int, str]:
    """Return status and body of a plain request."""
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


class WebServer:
    """A small HTTP server whose answers a test sets: path -> (status, headers, body, or what makes it for each request)."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes | Callable[[], bytes]]] = {}
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append(self.path)
                status, headers, body = outer.answers.get(self.path.partition("?")[0], (404, {}, b"not found"))
                if callable(body):
                    body = body()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = _answer
            do_POST = _answer

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def text(self, path: str, body: str, status: int = 200, content_type: str = "text/plain; version=0.0.4") -> None:
        self.answers[path] = (status, {"Content-Type": content_type}, body.encode())

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def raw_server(behaviour: Callable[[socket.socket], None]) -> Iterator[str]:
    """Yield the address of a server that treats each connection as ``behaviour`` says, after it has read the request."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, dummy = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), connection:
                connection.recv(65536)
                behaviour(connection)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


class Exporter:
    """A real exporter whose gauges a test sets: ``case_value{case=...}`` drives the rules, and ``case_old`` is always 100 s old."""

    def __init__(self) -> None:
        self.web = WebServer()
        self.web.text("/html", "<html><body>It works!</body></html>", content_type="text/html")
        self.web.text("/broken", "out of order", status=500)
        self._values: dict[str, float] = {}
        self.web.answers["/metrics"] = (200, {"Content-Type": "text/plain; version=0.0.4"}, self._metrics)
        self.set(base=1)

    @property
    def url(self) -> str:
        return self.web.url

    def set(self, **values: float | None) -> None:
        """Set gauges by the name of their case; None removes one."""
        self._values.update({name: value for name, value in values.items() if value is not None})
        for name in [name for name, value in values.items() if value is None]:
            self._values.pop(name, None)

    def _metrics(self) -> bytes:
        lines = [f'case_value{{case="{name}"}} {value}' for name, value in list(self._values.items())]
        # A sample with its own time, as an exporter gives it that copies old data: Prometheus keeps showing it for five minutes.
        return "\n".join([*lines, f"case_old 7 {(time.time() - 100) * 1000:.0f}", ""]).encode()


def rule(name: str, case: str, **more: Any) -> dict[str, Any]:
    """An alerting rule that fires while ``case_value{case=...}`` is above 0."""
    return {"alert": name, "expr": f'case_value{{case="{case}"}} > 0', "labels": CRITICAL, **more}
