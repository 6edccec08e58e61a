# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A mailbox behind IMAP (RFC 3501), opened read-only."""

from __future__ import annotations

import calendar
import imaplib
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.mailbox import (
    MAX_MAIL,
    Entry,
    Mail,
    Mailbox,
    Survey,
    parse_mail,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

DAY = 86400.0
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UID = re.compile(rb"\bUID (\d+)")
_INTERNALDATE = re.compile(rb'INTERNALDATE "([^"]+)"')
_LISTED = re.compile(r'\([^)]*\) (?:"[^"]*"|NIL) (.+)$')
_DATE = re.compile(r"^ ?(\d{1,2})-(\w{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)$")


def parse_internaldate(text: str) -> float:
    """Return Unix seconds of an INTERNALDATE such as ``24-Nov-2026 11:03:43 +0100``.

    Raises:
        ValueError: it is none.
    """
    match = _DATE.match(text)
    if not match or match[2].title() not in _MONTHS:
        raise ValueError(f"{text!r} is no IMAP date")
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = match.groups()
    number = _MONTHS.index(month.title()) + 1
    utc = calendar.timegm((int(year), number, int(day), int(hour), int(minute), int(second)))
    offset = int(zone_hours) * 3600 + int(zone_minutes) * 60
    return float(utc - offset if sign == "+" else utc + offset)


def search_date(moment: float) -> str:
    """Return a date for SEARCH SINCE that nothing at ``moment`` or later precedes, whatever the server's time zone."""
    day = time.gmtime(moment - DAY)
    return f"{day.tm_mday}-{_MONTHS[day.tm_mon - 1]}-{day.tm_year}"


class ImapMailbox(Mailbox):
    """A folder of an IMAP account. The connection is kept from look to look.

    Args:
        host: name or address of the server.
        port: TCP port.
        tls: ``implicit``, ``starttls`` or ``none``.
        folder: as the server names it.
        username: account.
        password: of the account.
        ca_path: PEM file with the CA of the server, or None for the system's.
        validate_certs: whether the server's certificate is checked.

    Raises:
        CheckError: ``bad_option`` for values that can't be right.
    """

    resolution = 1.0

    def __init__(
        self,
        *,
        host: str,
        port: int,
        tls: str,
        folder: str,
        username: str,
        password: str,
        ca_path: str | None = None,
        validate_certs: bool = True,
    ) -> None:
        for name, value in (("username", username), ("imap.folder", folder)):
            if not value.isascii() or not value.isprintable():
                raise CheckError(
                    "bad_option",
                    f"endpoint.{name}={value!r} must be printable ASCII; write other characters in IMAP's modified UTF-7.",
                )
        if not password.isprintable():
            raise CheckError("bad_option", "The password of the endpoint has control characters.")
        self._server = (host, port)
        self._tls = tls
        self._folder = folder
        self._username = username
        self._password = password
        self._context = self._tls_context(ca_path, validate_certs) if tls != "none" else None
        self._connection: imaplib.IMAP4 | None = None
        self._validity = ""
        self._arrived: dict[int, float] = {}
        self._total = 0
        self.address = f"folder {folder} of {username} at {host}:{port}"
        self.command = f"curl -s --user {username} imap{'s' if tls == 'implicit' else ''}://{host}:{port}/{folder}"

    def survey(self, since: float | None, timeout: float) -> Survey:
        with self._talk(timeout) as connection:
            self._examine(connection)
            criteria = ["UID", f"{max(self._arrived, default=0) + 1}:*"]
            if since is not None:
                criteria += ["SINCE", search_date(since)]
            found = self._ask(connection, "SEARCH", *criteria)
            # n:* names the last mail even when its number is below n.
            new = [uid for uid in map(int, b" ".join(filter(None, found)).split()) if uid not in self._arrived]
            if new:
                self._learn(self._ask(connection, "FETCH", f"{min(new)}:{max(new)}", "(UID INTERNALDATE)"))
        # A fresh mail may bear the number of the second before the bound.
        bound = None if since is None else since - self.resolution
        return Survey(
            self._total, [self._entry(uid) for uid, at in self._arrived.items() if bound is None or at > bound]
        )

    def newest(self, limit: int, timeout: float) -> list[Entry]:
        if not self._total:
            return []
        with self._talk(timeout) as connection:
            status, answer = connection.fetch(f"{max(1, self._total - limit + 1)}:*", "(UID INTERNALDATE)")
            uids = self._learn(answer if status == "OK" else [])
        return [self._entry(uid) for uid in uids]

    def load(self, entry: Entry, timeout: float) -> Mail | None:
        uid = entry.key.rpartition("/")[2]
        with self._talk(timeout) as connection:
            # PEEK: without it the server would mark the mail as read, were the folder not opened read-only.
            answer = self._ask(connection, "FETCH", uid, f"(UID BODY.PEEK[]<0.{MAX_MAIL}>)")
        raw = next((part[1] for part in answer if isinstance(part, tuple)), None)
        return None if raw is None else parse_mail(raw, entry.arrived)

    def _entry(self, uid: int) -> Entry:
        return Entry(f"{self._validity}/{uid}", self._arrived[uid])

    def _learn(self, answer: list[Any]) -> list[int]:
        """Note when mails arrived; returns their numbers. Answers about something else may be among those asked for."""
        uids = []
        for line in answer:
            text = line[0] if isinstance(line, tuple) else line or b""
            uid, date = _UID.search(text), _INTERNALDATE.search(text)
            if uid and date:
                self._arrived[int(uid[1])] = parse_internaldate(date[1].decode("ascii", "replace"))
                uids.append(int(uid[1]))
        return uids

    def _ask(self, connection: imaplib.IMAP4, command: str, *arguments: str) -> list[Any]:
        status, answer = connection.uid(command, *arguments)
        if status != "OK":
            raise CheckError("bad_answer", f"{self.address} answered {status} to {command}: {_text(answer)}.")
        return answer

    def _examine(self, connection: imaplib.IMAP4) -> None:
        quoted = '"' + self._folder.replace("\\", "\\\\").replace('"', '\\"') + '"'
        status, answer = connection.select(quoted, readonly=True)
        if status != "OK":
            # A line of LIST: (flags) "separator" name
            lines = [_LISTED.match(_text([line])) for line in connection.list()[1] or []]
            listed = [match[1].strip('"') for match in lines if match]
            names = ", ".join(listed[:8]) or "none"
            raise CheckError(
                "imap_folder_missing",
                f"{self._host} has no folder {self._folder} for {self._username} ({_text(answer)}); set endpoint.imap.folder to one of: {names}.",
            )
        self._total = int(answer[0] or 0)
        validity = _text(connection.response("UIDVALIDITY")[1])
        if validity != self._validity:
            # The server numbered its mails anew.
            self._validity = validity
            self._arrived.clear()

    @property
    def _host(self) -> str:
        return f"{self._server[0]}:{self._server[1]}"

    def _confused(self, error: Exception) -> CheckError:
        return CheckError("bad_answer", f"{self._host} doesn't speak IMAP as it should ({_text(error.args)}).")

    def _tls_context(self, ca_path: str | None, validate_certs: bool) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=ca_path)
        except (OSError, ValueError) as error:
            raise CheckError(
                "bad_option", f"endpoint.ca_path={ca_path} can't be used ({error}); it must be a readable PEM file."
            ) from error
        if not validate_certs:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _connect(self, timeout: float) -> imaplib.IMAP4:
        host, port = self._server
        if self._tls == "implicit":
            connection: imaplib.IMAP4 = imaplib.IMAP4_SSL(host, port, ssl_context=self._context, timeout=timeout)
        else:
            connection = imaplib.IMAP4(host, port, timeout=timeout)
        if self._tls == "starttls":
            if "STARTTLS" not in connection.capabilities:
                raise CheckError(
                    "imap_no_starttls",
                    f"{self._host} doesn't offer STARTTLS; set endpoint.imap.tls to implicit (usually port 993).",
                )
            connection.starttls(self._context)
        if "LOGINDISABLED" in connection.capabilities:
            raise CheckError(
                "imap_login_failed", f"{self._host} accepts no login without TLS; set endpoint.imap.tls to starttls."
            )
        try:
            connection.login(self._username, self._password)
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error as error:
            said = _text(error.args)
            raise CheckError(
                "imap_login_failed",
                f"{self._host} rejected the login of {self._username} ({said}); check endpoint.username and password_file.",
                transient="[UNAVAILABLE]" in said or "[INUSE]" in said,
            ) from error
        return connection

    @contextmanager
    def _talk(self, timeout: float) -> Iterator[imaplib.IMAP4]:
        """Give the connection, made if need be, and turn what goes wrong on it into a CheckError."""
        try:
            if self._connection is None:
                self._connection = self._connect(timeout)
            self._connection.sock.settimeout(timeout)
            yield self._connection
        except CheckError:
            raise
        except ssl.SSLCertVerificationError as error:
            self._connection = None
            raise CheckError(
                "tls_untrusted",
                f"The certificate of {self._host} was not accepted ({error.verify_message}); set endpoint.ca_path to the CA that signed it.",
            ) from error
        except ssl.SSLError as error:
            self._connection = None
            raise CheckError(
                "tls_failed",
                f"{self._host} doesn't speak TLS as it should ({error.reason or error}); check endpoint.imap.tls, now {self._tls}.",
            ) from error
        except TimeoutError as error:
            self._connection = None
            raise CheckError(
                "timeout", f"{self._host} gave no answer within {timeout:.1f} s.", transient=True
            ) from error
        except imaplib.IMAP4.abort as error:
            self._connection = None
            if "unexpected" in _text(error.args):
                raise self._confused(error) from error
            raise CheckError(
                "disconnected", f"{self._host} closed the connection ({_text(error.args)}).", transient=True
            ) from error
        except (imaplib.IMAP4.error, ValueError) as error:
            self._connection = None
            raise self._confused(error) from error
        except (OSError, socket.gaierror) as error:
            self._connection = None
            raise CheckError(
                "unreachable",
                f"{self._host} can't be reached ({error.strerror or error}); try 'nc -vz {self._server[0]} {self._server[1]}'.",
                transient=True,
            ) from error


def imap_mailbox(endpoint: Mapping[str, Any], password: str) -> ImapMailbox:
    """Return the mailbox for an endpoint with the suboption ``imap``."""
    return ImapMailbox(
        **{name: endpoint["imap"][name] for name in ("host", "port", "tls", "folder")},
        username=endpoint["username"],
        password=password,
        ca_path=endpoint["ca_path"],
        validate_certs=endpoint["validate_certs"],
    )


def _text(parts: Any) -> str:
    return " ".join(part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in parts or ())[
        :200
    ]
