"""Real mail servers on 127.0.0.1 for the tests: aiosmtpd relays, a Dovecot; and certificates for both.

Mailpit is a program in Go that no package brings, so `FakeMailpit` stands in for it. It answers as recorded from Mailpit 1.30's
documentation and source, and like the original it marks a mail as read when /api/v1/message/ID is asked for.
"""

from __future__ import annotations

import asyncio
import datetime
import email
import grp
import http.server
import ipaddress
import json
import mailbox
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import getaddresses
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from ansible_collections.vigie.observability.plugins.module_utils.packages import PackageFolder, folder_version
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER = "alertmanager"
PASSWORD = "correct horse"


def compose(**changes: Any) -> EmailMessage:
    """Return an alert's mail; ``body`` and header names in changes, underscores for hyphens, None to leave one out."""
    headers = {
        "Subject": "[FIRING] PodCrashLoop vigie/flask-metrics-abcde",
        "From": "vigie@localhost",
        "To": "oncall@example.org",
        "X-Vigie-Alert": "PodCrashLoop",
        "Message-ID": "<1@localhost>",
    }
    body = changes.pop("body", "The pod restarts again and again.\nrun_id: drill-1\n")
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    message = EmailMessage()
    for name, value in headers.items():
        if value is not None:
            message[name] = value
    message.set_content(body)
    return message


def deliver(path: Path, message: EmailMessage, arrived: float | None = None) -> Path:
    """Put a mail into a Maildir as mailbox.Maildir does; returns its file."""
    box = mailbox.Maildir(str(path))
    file = path / "new" / box.add(message)
    if arrived is not None:
        os.utime(file, (arrived, arrived))
    return file


# --- certificates ---


def make_certificates(folder: Path) -> None:
    """Write ca.pem, server.pem, server.key, signed by that CA, and other-ca.pem, which signed nothing."""
    now = datetime.datetime.now(datetime.timezone.utc)

    def build(name: str, key: Any, issuer: str, signer: Any, is_ca: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if not is_ca:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(signer, hashes.SHA256())

    def pem(certificate: x509.Certificate) -> bytes:
        return certificate.public_bytes(serialization.Encoding.PEM)

    ca_key, server_key, other_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    (folder / "ca.pem").write_bytes(pem(build("test CA", ca_key, "test CA", ca_key, True)))
    (folder / "other-ca.pem").write_bytes(pem(build("other CA", other_key, "other CA", other_key, True)))
    (folder / "server.pem").write_bytes(pem(build("localhost", server_key, "test CA", ca_key, False)))
    (folder / "server.key").write_bytes(
        server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


# --- SMTP ---


def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    """Let in who knows the password."""
    right = isinstance(data, LoginPassword) and data.login == USER.encode() and data.password == PASSWORD.encode()
    return AuthResult(success=right, handled=False)


class RefusingStarttls(SMTP):
    """Offers STARTTLS and then refuses it, as a relay does whose certificate expired."""

    async def smtp_STARTTLS(self, arg: str) -> None:
        await self.push("454 TLS not available due to temporary reason")


@contextmanager
def smtp_server(handler: Any, kind: type[SMTP] = SMTP, ssl_context: Any = None, **options: Any) -> Iterator[int]:
    """Run an aiosmtpd server; gives its port. ``ssl_context`` begins TLS at once."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(
        loop.create_server(
            lambda: kind(handler, hostname="localhost", loop=loop, **options), "127.0.0.1", 0, ssl=ssl_context
        )
    )
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:

        async def end() -> None:
            server.close()
            for task in asyncio.all_tasks():
                if task is not asyncio.current_task():
                    task.cancel()

        asyncio.run_coroutine_threadsafe(end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def script_server(*lines: bytes) -> Iterator[int]:
    """A server that only says the given lines, one per line it is told; for answers that real servers don't give."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                for line in lines:
                    stream.write(line)
                    stream.flush()
                    if not stream.readline():
                        break
                if lines:
                    stream.read()  # until the client gives up

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        # Closing alone would not wake the thread that waits in accept.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def unused_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- Mailpit ---


@dataclass
class FakeMailpit:
    """The part of Mailpit's API that reads mails.

    Attributes:
        messages: newest first, as the API lists them.
        raw: ID to source.
        requests: paths that were asked for.
        credentials: value that the header Authorization must have, if any.
    """

    url: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    raw: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    credentials: str | None = None

    def add(self, message: EmailMessage, arrived: float | None = None, bcc: str | None = None) -> str:
        """Catch a mail."""
        identity = f"id{len(self.raw)}"
        created = datetime.datetime.fromtimestamp(arrived or time.time(), tz=datetime.timezone.utc)

        def people(*values: str | None) -> list[dict[str, str]]:
            named = getaddresses([str(value) for value in values if value])
            return [{"Name": name, "Address": address} for name, address in named]

        self.messages.append(
            {
                "ID": identity,
                "From": people(message["From"])[0],
                "To": people(message["To"]),
                "Cc": people(message["Cc"]),
                "Bcc": people(bcc),
                "Subject": message["Subject"],
                "Created": created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "Read": False,
                "Snippet": "",
            }
        )
        self.messages.sort(key=lambda entry: entry["Created"], reverse=True)
        self.raw[identity] = message.as_bytes()
        return identity

    def answer(self, target: str) -> tuple[int, bytes]:
        """Return status and body for a GET."""
        self.requests.append(target)
        parts = urlsplit(target)
        if parts.path == "/api/v1/messages":
            query = parse_qs(parts.query)
            start, limit = int(query.get("start", ["0"])[0]), int(query.get("limit", ["50"])[0])
            page = self.messages[start : start + limit]
            body = {
                "total": len(self.messages),
                "count": len(page),
                "messages_count": len(self.messages),
                "start": start,
            }
            return 200, json.dumps({**body, "messages": page}).encode()
        match = re.fullmatch(r"/api/v1/message/(\w+)(/raw)?", parts.path)
        if match and match[1] in self.raw:
            if match[2]:
                return 200, self.raw[match[1]]
            for message in self.messages:
                message["Read"] |= message["ID"] == match[1]
            text = email.message_from_bytes(self.raw[match[1]]).get_payload()
            return 200, json.dumps({"ID": match[1], "Text": text}).encode()
        return 404, b"404 page not found"


@contextmanager
def mailpit_server() -> Iterator[FakeMailpit]:
    """Serve a FakeMailpit."""
    fake = FakeMailpit()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if fake.credentials and self.headers.get("Authorization") != fake.credentials:
                status, body = 401, b"Unauthorised"
            else:
                status, body = fake.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- IMAP ---


class NoDovecot(Exception):
    """There is no Dovecot to be had here; says why."""


@dataclass
class Dovecot:
    """A running server. Every user name is let in with PASSWORD and has a Maildir of its own.

    Attributes:
        plain_port: offers STARTTLS, and lets in without it too.
        tls_port: begins TLS at once.
        owner: user and group id that the mails must belong to.
    """

    root: Path
    plain_port: int
    tls_port: int
    owner: tuple[int, int]

    def deliver(self, user: str, message: EmailMessage, arrived: float | None = None) -> Path:
        """Put a mail into a user's Maildir; Dovecot takes the file's time for its arrival."""
        file = deliver(self.root / "mail" / user, message, arrived)
        os.chown(file, *self.owner)
        for folder in ("", "new", "cur", "tmp"):
            os.chown(self.root / "mail" / user / folder, *self.owner)
        return file


def unpack_dovecot(packages: Path, cache: Path, temporary: Path) -> list[Path]:
    """Unpack Dovecot from the distribution's packages; returns its folders."""
    if not all(shutil.which(tool) for tool in ("apt-get", "dpkg-deb", "ldd")):
        raise NoDovecot("this is no Debian or Ubuntu")

    def unpack(name: str) -> Path:
        done = PackageFolder(name, packages, cache).present(
            version=None, upgrade=False, keep=False, check_mode=False, temporary=temporary
        )
        return Path(done.folder)

    core, imap = unpack("dovecot-core"), unpack("dovecot-imapd")
    if not folder_version(core.name).startswith("1:2.3."):
        raise NoDovecot(
            f"the configuration here is for Dovecot 2.3, and the distribution has {folder_version(core.name)}"
        )
    programs = [core / "usr/sbin/dovecot", core / "usr/bin/doveconf", imap / "usr/lib/dovecot/imap"]
    programs += [core / "usr/lib/dovecot" / name for name in ("anvil", "auth", "config", "log", "stats")]
    linked = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    missing = set(re.findall(r"(lib\S+)\.so\.(\w+) => not found", linked))
    libraries = {package_of(name, version) for name, version in missing if not name.startswith("libdovecot")}
    return [core, imap, *map(unpack, sorted(libraries))]


def package_of(library: str, version: str) -> str:
    """Return the package of a library, by Debian's rule for their names."""
    if library.startswith("libicu"):
        library = "libicu"  # several libraries in one package
    return f"{library}{'-' if library[-1].isdigit() else ''}{version}".lower()


CONFIGURATION = """
base_dir = {root}/base
state_dir = {root}/state
log_path = {root}/log
protocols = imap
listen = 127.0.0.1
default_internal_user = {user}
default_login_user = {user}
default_internal_group = {group}
first_valid_uid = 1
mail_location = maildir:{root}/mail/%u
auth_mechanisms = plain
auth_failure_delay = 0
disable_plaintext_auth = no
ssl = yes
ssl_cert = <{root}/server.pem
ssl_key = <{root}/server.key
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={root}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {plain_port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""


@contextmanager
def dovecot_server(
    folders: list[Path], certificates: Path, wait: Callable[[float], None] = time.sleep
) -> Iterator[Dovecot]:
    """Run an unpacked Dovecot without installing it and without root.

    The folder /usr/lib/dovecot is compiled into its programs. A folder whose path is as long takes its place in copies of them.
    """
    root = Path(tempfile.mkdtemp(prefix="dv-", dir="/tmp"))
    assert len(str(root)) == len("/usr/lib/dovecot")
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        uid = gid = 65534  # Dovecot hands mails of root to nobody
    server: subprocess.Popen | None = None
    try:
        for folder in folders:
            if (folder / "usr/lib/dovecot").is_dir():
                shutil.copytree(folder / "usr/lib/dovecot", root, dirs_exist_ok=True, symlinks=True)
            for library in folder.glob("usr/lib/*/*.so*"):
                shutil.copy(library, root)
        for program in ("usr/bin/doveconf", "usr/sbin/dovecot"):
            shutil.copy(folders[0] / program, root)
        for path in root.rglob("*"):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                if b"/usr/lib/dovecot" in data:
                    path.write_bytes(data.replace(b"/usr/lib/dovecot", str(root).encode()))
        for name in ("base", "mail", "state"):
            (root / name).mkdir()
        for name in ("server.pem", "server.key"):
            shutil.copy(certificates / name, root)
        dovecot = Dovecot(root, unused_port(), unused_port(), (uid, gid))
        (root / "dovecot.conf").write_text(
            CONFIGURATION.format(
                root=root,
                user=pwd.getpwuid(uid).pw_name,
                group=grp.getgrgid(gid).gr_name,
                uid=uid,
                gid=gid,
                password=PASSWORD.replace(" ", "_"),
                plain_port=dovecot.plain_port,
                tls_port=dovecot.tls_port,
            )
        )
        for path in (root, *root.rglob("*")):
            os.chown(path, uid, gid, follow_symlinks=False)
        root.chmod(0o755)
        identity: dict[str, Any] = {"user": uid, "group": gid, "extra_groups": []} if os.getuid() == 0 else {}
        # Started by hand, dovecot would look for doveconf in /usr/bin; started by doveconf, it has its configuration already.
        configuration = f"-c {root}/dovecot.conf"
        server = subprocess.Popen(
            [
                *f"{root}/doveconf -f service=master -m master {configuration}".split(),
                *f"-e {root}/dovecot -F {configuration}".split(),
            ],
            cwd=root,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **identity,
        )
        for _attempt in range(200):
            try:
                socket.create_connection(("127.0.0.1", dovecot.plain_port), 1).close()
                break
            except OSError:
                wait(0.05)
            if server.poll() is not None:
                break
        else:
            server.terminate()
        if server.poll() is not None:
            log = root / "log"
            raise NoDovecot(f"it ended: {log.read_text()[-500:] if log.exists() else 'no log'}")
        yield dovecot
    finally:
        if server is not None:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        shutil.rmtree(root, ignore_errors=True)
