#!/usr/bin/env python3
"""Mail catcher: an SMTP server that delivers nothing and keeps every mail in a Maildir, where it can be read back.

It makes the same demands as a relay on the internet, so that a configuration that works here works there: STARTTLS before
anything else (530), then a login by PLAIN or LOGIN (530 without, 535 with wrong credentials). Any recipient is accepted.

Each mail is one file, written to ``tmp`` and moved to ``new`` when it is safely on disk; only then the sender gets its 250.
These headers are put on top: ``Return-Path``, ``Delivered-To`` (one per recipient), ``Received`` and ``X-Vigie-Received`` (RFC
3339, UTC, milliseconds). The modification time of the file is the same arrival time.

The password file is read at every login, so a new password needs no restart. Standard output is the log, one JSON object per
line; passwords and rejected user names never appear in it.

Exit status: 0 after SIGTERM or SIGINT, 2 for a bad option or surroundings, with one sentence that says which.
"""

from __future__ import annotations

import argparse
import asyncio
import email.parser
import email.policy
import email.utils
import hmac
import itertools
import json
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session, TLSSetupException


class SetupError(Exception):
    """A bad option or surroundings; the text is one sentence with the variable, the value and the remedy."""


def rfc3339(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC with milliseconds: 2026-11-24T11:03:43.123Z."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def log(event: str, **facts: Any) -> None:
    """Write one JSON line to standard output."""
    print(json.dumps({"time": rfc3339(time.time()), "event": event, **facts}), flush=True)


class Maildir:
    """Writes mails into a Maildir and keeps at most `max_mails` of them. Safe to use from several threads."""

    def __init__(self, path: Path, max_mails: int) -> None:
        """Create what is missing; raises SetupError when the directory cannot be written."""
        self.path = path
        self.max_mails = max_mails
        self._counter = itertools.count()
        self._prune_lock = threading.Lock()
        # The two characters that a Maildir file name may not take from the host name.
        self._host = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
        try:
            for part in ("tmp", "new", "cur"):
                (path / part).mkdir(mode=0o700, parents=True, exist_ok=True)
                probe = path / part / self._unique_name(time.time())
                probe.touch(mode=0o600)
                probe.unlink()
        except OSError as error:
            raise SetupError(
                f"--maildir {path} cannot be written ({error.strerror}): give a directory that this user may write to."
            ) from error

    def _unique_name(self, received: float) -> str:
        seconds, fraction = divmod(received, 1)
        return f"{int(seconds)}.M{int(fraction * 1e6):06d}P{os.getpid()}Q{next(self._counter)}.{self._host}"

    def deliver(self, content: bytes, received: float) -> Path:
        """Store one mail that arrived at `received` (Unix seconds) durably; raises OSError."""
        name = self._unique_name(received)
        temporary, final = self.path / "tmp" / name, self.path / "new" / name
        try:
            with temporary.open("xb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(content)
                file.flush()
                os.utime(file.fileno(), (received, received))
                os.fsync(file.fileno())
            temporary.rename(final)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)  # the name, too, must be on disk before the sender forgets the mail
        finally:
            os.close(directory)
        self._prune()
        return final

    def _prune(self) -> None:
        with self._prune_lock:
            mails = [entry for part in ("new", "cur") for entry in os.scandir(self.path / part)]
            surplus = len(mails) - self.max_mails
            if surplus <= 0:
                return
            # By name, which begins with the arrival time; a reader may move or remove a mail at any moment.
            mails.sort(key=lambda entry: entry.name)
            for entry in mails[:surplus]:
                Path(entry.path).unlink(missing_ok=True)


class Credentials:
    """The one login that is accepted."""

    def __init__(self, username: str, password_file: Path) -> None:
        """Check the file; raises SetupError when it is missing, empty or open to others."""
        self.username = username
        self.password_file = password_file
        try:
            mode = password_file.stat().st_mode & 0o777
            password = self.password()
        except OSError as error:
            raise SetupError(
                f"--password-file {password_file} cannot be read ({error.strerror}): give a file that holds the password."
            ) from error
        if mode & 0o077:
            raise SetupError(
                f"--password-file {password_file} is open to others (mode {mode:04o}): chmod 600 {password_file}"
            )
        if not password:
            raise SetupError(f"--password-file {password_file} is empty: write the password into it.")

    def password(self) -> bytes:
        """The password as of now, without the line end; raises OSError."""
        return self.password_file.read_bytes().rstrip(b"\r\n")

    def accept(self, username: bytes, password: bytes) -> bool:
        """Compare in constant time; raises OSError when the password file cannot be read."""
        expected = self.password()
        same_name = hmac.compare_digest(username, self.username.encode())
        return hmac.compare_digest(password, expected) and same_name and bool(expected)


class Handler:
    """What aiosmtpd calls for each login, mail and mishap."""

    def __init__(self, credentials: Credentials, maildir: Maildir, hostname: str) -> None:
        self.credentials = credentials
        self.maildir = maildir
        self.hostname = hostname

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        """Judge one login."""
        assert isinstance(data, LoginPassword)  # PLAIN and LOGIN give nothing else
        try:
            accepted = self.credentials.accept(data.login, data.password)
        except OSError as error:
            log(
                "login_error",
                peer=peer(session),
                password_file=str(self.credentials.password_file),
                error=error.strerror,
            )
            return AuthResult(success=False, handled=False, message="454 4.7.0 Temporary authentication failure")
        if accepted:
            log("login", peer=peer(session), mechanism=mechanism, username=self.credentials.username)
            return AuthResult(success=True)
        # The name is kept out of the log: people type their password there.
        log("login_rejected", peer=peer(session), mechanism=mechanism, reply=535)
        return AuthResult(success=False, handled=False)  # aiosmtpd answers 535

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Store one mail and answer for it."""
        received = time.time()
        content = envelope.original_content or b""
        mail = self._headers(session, envelope, received) + content.replace(b"\r\n", b"\n")
        try:
            file = await asyncio.to_thread(self.maildir.deliver, mail, received)
        except OSError as error:
            log("mail_not_stored", peer=peer(session), maildir=str(self.maildir.path), error=error.strerror)
            return "452 4.3.1 The mail cannot be stored now"
        headers = email.parser.BytesHeaderParser(policy=email.policy.compat32).parsebytes(content)
        log(
            "mail",
            peer=peer(session),
            file=file.name,
            received=rfc3339(received),
            mail_from=envelope.mail_from,
            rcpt_to=envelope.rcpt_tos,
            subject=str(headers.get("Subject", "")),
            bytes=len(content),
        )
        return f"250 2.0.0 Kept as {file.name}"

    def _headers(self, session: Session, envelope: Envelope, received: float) -> bytes:
        lines = [
            f"Return-Path: <{envelope.mail_from}>",
            *(f"Delivered-To: {recipient}" for recipient in envelope.rcpt_tos),
            f"Received: from {session.host_name} ({peer(session)}) by {self.hostname} with ESMTPSA; "
            f"{email.utils.formatdate(received)}",
            f"X-Vigie-Received: {rfc3339(received)}",
        ]
        # Nothing a client says may begin a header of its own.
        return "".join("".join(filter(str.isprintable, line)) + "\n" for line in lines).encode()

    async def handle_exception(self, error: Exception) -> str:
        """Log what went wrong with a client and give it a temporary error."""
        if isinstance(error, TLSSetupException):  # most often a client that does not know our CA
            log("tls_failed", error=str(error.__cause__ or error))
        else:
            log("error", error=repr(error))
        return "451 4.3.0 Internal error"


def peer(session: Session) -> str:
    """Address of the client, host:port."""
    return ":".join(str(part) for part in (session.peer or ())[:2])


class Server(SMTP):
    """aiosmtpd's server with the prompts of AUTH LOGIN that every client understands.

    Alertmanager refuses any other words than "Username:" and "Password:", and takes LOGIN first because it is offered first.
    """

    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"


def tls_context(cert: Path, key: Path) -> ssl.SSLContext:
    """TLS of the server; raises SetupError when the files cannot be used."""
    for option, path in (("--cert", cert), ("--key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise SetupError(
                f"{option} {path} cannot be read ({error.strerror}): give a PEM file that this user can read."
            ) from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key, password=lambda: "")  # never ask a terminal for the password of the key
    except ssl.SSLError as error:
        raise SetupError(
            f"--cert {cert} and --key {key} cannot be used ({error.reason or error}): "
            "give a PEM certificate and the unencrypted private key that belongs to it."
        ) from error
    return context


async def serve(options: argparse.Namespace) -> None:
    """Check everything, then accept mail until SIGTERM or SIGINT; raises SetupError."""
    context = tls_context(options.cert, options.key)
    credentials = Credentials(options.username, options.password_file)
    maildir = Maildir(options.maildir, options.max_mails)
    hostname = socket.gethostname()
    handler = Handler(credentials, maildir, hostname)
    loop = asyncio.get_running_loop()

    def connection() -> Server:
        return Server(
            handler,
            hostname=hostname,
            ident="Vigie mail catcher",
            data_size_limit=options.max_size,
            enable_SMTPUTF8=True,
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=handler.authenticate,
            timeout=60,
            loop=loop,
        )

    try:
        server = await loop.create_server(connection, options.host, options.port)
    except OSError as error:
        raise SetupError(
            f"--port {options.port} cannot be bound on --host {options.host} ({error.strerror}): "
            "choose a free port on an address of this machine."
        ) from error
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log("listening", host=options.host, port=options.port, maildir=str(options.maildir), username=options.username)
    await stop.wait()
    server.close()
    # Leaving cancels the open connections; a mail that is being written is finished first (asyncio.run joins its threads).
    log("stopped")


class Parser(argparse.ArgumentParser):
    """argparse with one-sentence errors."""

    def error(self, message: str) -> NoReturn:
        """Print the sentence and leave with status 2."""
        self.exit(2, f"catcher: {message} (see --help).\n")


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 1 to 65535")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number: give 1 or more")
    return int(text)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; leaves with status 2 when it is wrong."""
    parser = Parser(
        prog="catcher", description="SMTP server with STARTTLS and login that keeps every mail in a Maildir."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, required=True, help="port to listen on")
    parser.add_argument("--cert", type=Path, required=True, help="certificate (chain), PEM")
    parser.add_argument("--key", type=Path, required=True, help="private key of the certificate, PEM")
    parser.add_argument("--username", required=True, help="user name that may send")
    parser.add_argument(
        "--password-file", type=Path, required=True, help="file with the password, mode 0600; read at every login"
    )
    parser.add_argument("--maildir", type=Path, required=True, help="directory of the mails, created when missing")
    parser.add_argument(
        "--max-mails", type=_positive, default=5000, help="mails kept, the oldest go (default: %(default)s)"
    )
    parser.add_argument(
        "--max-size", type=_positive, default=10_000_000, help="largest mail in bytes (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Run until told to stop; returns the exit status."""
    options = parse_arguments()
    # aiosmtpd's own log repeats ours in another format, and at debug level what clients send.
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    try:
        asyncio.run(serve(options))
    except SetupError as error:
        print(f"catcher: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
