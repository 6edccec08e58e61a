"""Helpers to run the embedded platform's two programs for real: under supervisord, with TLS, with Alertmanager."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import importlib.util
import ipaddress
import json
import mailbox
import os
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import xmlrpc.client
from collections.abc import Callable, Iterator
from email.message import EmailMessage, Message
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client.parser import text_string_to_metric_families
from supervisor.childutils import getRPCInterface

ROOT = Path(__file__).resolve().parents[2]
EXPORTER = ROOT / "roles/embedded/files/supervisor_exporter.py"
CATCHER = ROOT / "roles/mail/files/catcher.py"
LISTENER = "supervisor-exporter"
DEADLINE = 30.0  # seconds; generous, only a broken program ever waits so long

T = TypeVar("T")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(look: Callable[[], T | None], what: str) -> T:
    """Call `look` until it returns something true, and return that; fail naming `what` after the deadline."""
    deadline = time.monotonic() + DEADLINE
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {DEADLINE:.0f} s; last seen: {found!r}")
        time.sleep(0.05)


def load_program(path: Path) -> ModuleType:
    """Import a program from its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


# --- supervisord ------------------------------------------------------------------------------------------------------

# Runs until USR1 makes it exit with 3; TERM and KILL end it by signal.
CHILD = "trap 'exit 3' USR1\nwhile :; do sleep 0.05; done\n"


class Lab:
    """A real supervisord with the exporter as its listener, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.state_file = directory / "state.json"
        self.child = directory / "child.sh"
        self.child.write_text(CHILD)
        self.programs: dict[str, str] = {}
        self.listener_options = "autorestart=true\nbuffer_size=1000"
        self._supervisord: subprocess.Popen[bytes] | None = None
        self._seen_pids: set[int] = set()

    def add(self, name: str, options: str = "", command: str = "") -> None:
        """Add a child to the configuration; restarted at once after each exit unless `options` say otherwise."""
        self.programs[name] = f"command={command or f'/bin/sh {self.child}'}\n{options or 'autorestart=true'}"

    def write_configuration(self) -> None:
        """Write supervisord.conf."""
        sections = {
            "supervisord": f"logfile={self.directory}/supervisord.log\npidfile={self.directory}/supervisord.pid",
            "unix_http_server": f"file={self.directory}/s.sock",
            "rpcinterface:supervisor": "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
            "supervisorctl": f"serverurl=unix://{self.directory}/s.sock",
            f"eventlistener:{LISTENER}": (
                f"command={sys.executable} {EXPORTER} --port {self.port} --state-file {self.state_file}\n"
                "events=PROCESS_STATE,PROCESS_GROUP,REMOTE_COMMUNICATION\n"
                f"stdout_logfile=NONE\nstderr_logfile={self.directory}/exporter.log\n{self.listener_options}"
            ),
        }
        for name, text in self.programs.items():
            # startsecs 0: RUNNING at once, so that the tests needn't wait a second for each start
            sections[f"program:{name}"] = "stdout_logfile=NONE\nstderr_logfile=NONE\nstartsecs=0\n" + text
        text = "\n".join(f"[{section}]\n{body}\n" for section, body in sections.items())
        (self.directory / "supervisord.conf").write_text(text)

    def start(self) -> None:
        """Start supervisord and wait until the exporter agrees with it."""
        self.write_configuration()
        self._supervisord = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self.directory / "supervisord.conf")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.wait_synced()

    def stop(self) -> None:
        """End supervisord and everything it started."""
        if self._supervisord:
            self._supervisord.send_signal(signal.SIGTERM)
            supervisord, self._supervisord = self._supervisord, None

            def look() -> bool:
                self.wake()
                return supervisord.poll() is not None

            try:
                wait_for(look, "the end of supervisord")
            finally:
                supervisord.kill()
                supervisord.wait()

    def kill_supervisord(self) -> None:
        """kill -9 of supervisord; its orphans are ended too."""
        assert self._supervisord
        orphans = [info["pid"] for info in self.rpc.supervisor.getAllProcessInfo() if info["pid"]]
        self._supervisord.kill()
        self._supervisord.wait()
        self._supervisord = None
        wait_for(lambda: not self.listening(), "the exporter's exit after supervisord's death")
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def server_url(self) -> str:
        """Value of SUPERVISOR_SERVER_URL."""
        return f"unix://{self.directory}/s.sock"

    @property
    def rpc(self) -> Any:
        """XML-RPC interface of supervisord."""
        return getRPCInterface({"SUPERVISOR_SERVER_URL": self.server_url})

    def wake(self) -> None:
        """Make supervisord's loop turn, which otherwise sleeps up to a second."""
        with contextlib.suppress(OSError, xmlrpc.client.Error, http.client.HTTPException):
            self.rpc.supervisor.getState()

    def ctl(self, *arguments: str) -> str:
        """Run supervisorctl."""
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.directory / "supervisord.conf")]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=DEADLINE, check=False)
        return done.stdout + done.stderr

    def start_process(self, name: str) -> None:
        """Start a process without waiting for the outcome, as supervisorctl would."""
        with contextlib.suppress(xmlrpc.client.Fault):  # it may have died before the answer
            self.rpc.supervisor.startProcess(name, False)

    def info(self, name: str) -> dict[str, Any]:
        """What supervisord itself says about a process."""
        return dict(self.rpc.supervisor.getProcessInfo(name))

    def listening(self) -> bool:
        """Whether the exporter's port is open."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def get(self, path: str, accept: str = "") -> tuple[int, str, str]:
        """Status, content type and body of one HTTP request to the exporter."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read().decode()

    def wait_synced(self) -> None:
        """Wait until the exporter says that its counts agree with supervisord."""

        def look() -> bool:
            self.wake()
            with contextlib.suppress(OSError):
                return self.get("/healthz")[0] == 200
            return False

        wait_for(look, "the exporter's first agreement with supervisord")

    def process(self, name: str) -> dict[str, Any] | None:
        """The exporter's JSON about one process, None when it knows no such process or is away."""
        try:
            processes = json.loads(self.get("/api/v1/processes")[2])["processes"]
        except OSError:
            return None
        return next((process for process in processes if process["container"] == name), None)

    def wait_process(self, name: str, what: str, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Wait until the exporter's JSON about a process meets a condition, and return it."""

        def look() -> dict[str, Any] | None:
            self.wake()
            process = self.process(name)
            return process if process and condition(process) else None

        try:
            return wait_for(look, f"{name}: {what}")
        except pytest.fail.Exception as failure:
            log = (self.directory / "exporter.log").read_text()
            pytest.fail(f"{failure}\nJSON: {self.process(name)}\nsupervisord: {self.info(name)}\nexporter's log: {log}")

    def samples(self, name: str) -> dict[str, tuple[dict[str, str], float]]:
        """Metric name -> (labels, value) of one process, without `namespace` and `container`."""
        found = {}
        for family in text_string_to_metric_families(self.get("/metrics")[2]):
            for sample in family.samples:
                pod = sample.labels.get("pod", "").rpartition("-")[0]
                if name in (sample.labels.get("container"), pod):
                    assert sample.labels["namespace"] == "vigie"
                    labels = {key: sample.labels[key] for key in sample.labels if key not in ("namespace", "container")}
                    assert sample.name not in found, "two series for one process"
                    found[sample.name] = (labels, sample.value)
        return found

    def crash(self, name: str, number: int = signal.SIGKILL) -> int:
        """End a running child and wait until supervisord has a new one; returns its pid."""
        pid = wait_for(lambda: self.running_pid(name), f"{name} running")
        os.kill(pid, number)
        return wait_for(lambda: self.running_pid(name, other_than=pid), f"{name} restarted by supervisord")

    def running_pid(self, name: str, other_than: int = 0) -> int:
        """Pid of a process that supervisord takes as RUNNING, 0 when there is none or it is `other_than`."""
        info = self.info(name)
        return int(info["pid"]) if info["statename"] == "RUNNING" and info["pid"] != other_than else 0


@pytest.fixture
def new_lab() -> Iterator[Callable[[], Lab]]:
    """Factory of labs, not started; all are stopped at the end."""
    with contextlib.ExitStack() as stack:

        def make() -> Lab:
            # Not tmp_path: a Unix socket's path may have 107 characters only.
            lab = Lab(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vigie-"))))
            stack.callback(lab.stop)
            return lab

        yield make


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One running lab for the tests that leave supervisord and listener alone, each with children of its own."""
    with tempfile.TemporaryDirectory(prefix="vigie-") as directory:
        lab = Lab(Path(directory))
        for name in ("counted", "redeployed", "stopped", "formats", "undisturbed"):
            lab.add(name)
        lab.add("dies", "autostart=false\nautorestart=true\nstartsecs=1\nstartretries=2", '/bin/sh -c "exit 7"')
        lab.add("missing", "startretries=0", "/no/such/program")
        lab.add("oneshot", "autostart=false\nautorestart=unexpected", '/bin/sh -c "exit 0"')
        try:
            lab.start()
            yield lab
        finally:
            lab.stop()


# --- mail -------------------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority for one test."""

    def __init__(self, directory: Path, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._build(self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=0))
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, constraints: x509.BasicConstraints
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(constraints, critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, cert: Path, key: Path) -> None:
        """Write a server certificate for localhost and its key."""
        private = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        certificate = self._build(subject, private.public_key(), x509.BasicConstraints(ca=False, path_length=None))
        cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key.write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


class Catcher:
    """The mail catcher with all it needs, in a directory of its own; options may be changed before start()."""

    username = "vigie"
    password = "correct horse"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.authority = Authority(directory, "ca")
        self.maildir = directory / "Maildir"
        self.password_file = directory / "password"
        self.set_password(self.password)
        self.options = {
            "--port": str(self.port),
            "--cert": str(directory / "cert.pem"),
            "--key": str(directory / "key.pem"),
            "--username": self.username,
            "--password-file": str(self.password_file),
            "--maildir": str(self.maildir),
        }
        self.authority.issue(directory / "cert.pem", directory / "key.pem")
        self._process: subprocess.Popen[bytes] | None = None

    def set_password(self, password: str) -> None:
        """Write the password file as an editor does, with a line end."""
        self.password_file.write_text(password + "\n")
        self.password_file.chmod(0o600)

    @property
    def command(self) -> list[str]:
        """The command line."""
        return [sys.executable, str(CATCHER), *(word for option in self.options.items() for word in option)]

    def run(self) -> subprocess.CompletedProcess[str]:
        """Run it to its end: for options that it must refuse."""
        return subprocess.run(self.command, capture_output=True, text=True, timeout=DEADLINE, check=False)

    def start(self) -> None:
        """Start it and wait until it listens."""
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT)
        wait_for(lambda: any(line["event"] == "listening" for line in self.log()), "the catcher listening")

    def stop(self) -> int:
        """Send SIGTERM; returns the exit status."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process = None

    def log(self) -> list[dict[str, Any]]:
        """Its log; fails when a line isn't JSON."""
        assert self._process is None or self._process.poll() is None, (self.directory / "log").read_text()
        return [json.loads(line) for line in (self.directory / "log").read_text().splitlines()]

    def connect(self, *, tls: bool = True, authority: Authority | None = None) -> smtplib.SMTP:
        """A client that has said EHLO, over TLS that trusts `authority` (default: the right one)."""
        client = smtplib.SMTP("localhost", self.port, timeout=DEADLINE)
        client.ehlo()
        if tls:
            client.starttls(context=ssl.create_default_context(cafile=str((authority or self.authority).file)))
            client.ehlo()
        return client

    def send(self, subject: str = "a subject", *recipients: str, password: str | None = None) -> None:
        """Log in and send one mail."""
        message = EmailMessage()
        message["Subject"] = subject
        message["From"] = "lab@example.com"
        message["To"] = ", ".join(recipients or ("oncall@example.com",))
        message.set_content("run_id: r-1\n.a line that begins with a dot\n")
        with self.connect() as client:
            client.login(self.username, self.password if password is None else password)
            client.send_message(message)

    def mails(self) -> list[Message]:
        """The mails, oldest first, as any reader of a Maildir sees them."""
        box = mailbox.Maildir(self.maildir, factory=None, create=False)
        return [box[key] for key in sorted(box.keys())]


@pytest.fixture
def catcher(tmp_path: Path) -> Iterator[Catcher]:
    """A catcher that is not started yet; stopped at the end."""
    catcher = Catcher(tmp_path)
    try:
        yield catcher
    finally:
        catcher.stop()


@pytest.fixture
def other_authority(tmp_path: Path) -> Authority:
    """A certificate authority that signed nothing."""
    return Authority(tmp_path, "other")


@pytest.fixture
def alertmanager_binary(tmp_path: Path) -> tuple[Path, Path]:
    """The real Alertmanager and the folder to run it in: VIGIE_ALERTMANAGER, else the state directory's, else PATH's."""
    state = Path.home() / ".local/state/vigie/packages"
    candidates = [
        os.environ.get("VIGIE_ALERTMANAGER"),
        *sorted(str(path) for path in state.glob("*/usr/bin/prometheus-alertmanager")),
        shutil.which("prometheus-alertmanager"),
        shutil.which("alertmanager"),
    ]
    found = next((Path(path).resolve() for path in candidates if path and os.access(path, os.X_OK)), None)
    if found is None:
        pytest.fail(
            "no Alertmanager found: set VIGIE_ALERTMANAGER to its path, or run `make up` once, which unpacks it"
        )
    # Debian's opens its templates by an absolute path, which an unpacked package doesn't have. Same length, relative: the
    # role `embedded` does this to the packages that it unpacks, so its program is taken as it is.
    templates, program = "/usr/share/prometheus/alertmanager", found.read_bytes()
    if templates.encode() in program and not Path(templates).is_dir():
        relocated = tmp_path / "alertmanager"
        relocated.write_bytes(program.replace(templates.encode(), f"{templates[1:]}/".encode()))
        relocated.chmod(0o755)
        return relocated, found.parents[2]
    return found, found.parents[2]
