# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Finding a mail in a mailbox, whatever keeps it, and saying why it is not found.

A Mailbox lists what arrived (cheap) and loads single mails (dear). MailSearch asks it again and again, loads each mail once
at most and only those that can be fresh, and at the last look loads a few older ones to tell the reason.
"""

from __future__ import annotations

import html
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.vigie.observability.plugins.module_utils.timestamps import format_time, parse_time
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

if TYPE_CHECKING:
    from email.message import Message

    from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline

MAX_MAIL = 10 * 1024 * 1024
"""Bytes of a mail that are read at most."""

EXPLAINED = 20
"""How many of the newest mails are looked at to tell why none fits."""

SUBJECT_LIMIT = 80
RUN_ID_HEADER = "x-vigie-run-id"
RECEIVED_HEADER = "x-vigie-received"
_RECIPIENT_HEADERS = ("to", "cc", "delivered-to", "x-original-to", "envelope-to", "x-rcptto")

# The first of these in which alone a mail differs is the reason: what carries our run id or went astray says most.
_SINGLE_MISS = {
    "recipient": "other_recipient",
    "subject": "subject_mismatch",
    "since": "stale_mail",
    "run_id": "run_id_mismatch",
}


@dataclass(frozen=True)
class Entry:
    """A mail as the mailbox lists it.

    Attributes:
        key: names the mail for as long as the mailbox lives.
        arrived: Unix seconds, as far as the list tells.
        recipients: addresses, where the list knows more than the mail's own headers.
    """

    key: str
    arrived: float
    recipients: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mail:
    """A mail that was read.

    Attributes:
        arrived: Unix seconds.
        subject: decoded, on one line.
        sender: address.
        recipients: addresses, in lower case.
        message_id: with its angle brackets; may be empty.
        headers: names in lower case, values decoded.
        texts: decoded text and HTML parts, the latter as they are and without markup.
    """

    arrived: float
    subject: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    message_id: str = ""
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    texts: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return what may be shown of a mail that is not the wanted one: never its body."""
        return {
            "subject": shortened(self.subject),
            "to": list(self.recipients[:5]),
            "arrived": format_time(self.arrived),
        }


@dataclass(frozen=True)
class Wanted:
    """What the mail must be like; what is None or empty is not asked for.

    Attributes:
        recipient: address.
        sender: address.
        subject: pattern to be found in the subject.
        body: texts of which each must be in a text or HTML part.
        headers: name to exact value.
        run_id: must be in the body as ``run_id: <id>``, or in the header X-Vigie-Run-Id.
        since: Unix seconds; the mail arrived then or later.
    """

    recipient: str | None = None
    sender: str | None = None
    subject: re.Pattern[str] | None = None
    body: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    run_id: str | None = None
    since: float | None = None

    def misses(self, mail: Mail, resolution: float = 0.0) -> frozenset[str]:
        """Return in what a mail differs.

        Args:
            mail: the mail.
            resolution: seconds to which its arrival is known; one that may have been in time is taken for fresh.
        """
        found = set()
        if self.since is not None and not fresh(mail.arrived, self.since, resolution):
            found.add("since")
        if self.recipient is not None and self.recipient.lower() not in mail.recipients:
            found.add("recipient")
        if self.sender is not None and self.sender.lower() != mail.sender.lower():
            found.add("sender")
        if self.subject is not None and not self.subject.search(mail.subject):
            found.add("subject")
        if not all(any(text in part for part in mail.texts) for text in self.body):
            found.add("body")
        if not all(value in mail.headers.get(name.lower(), ()) for name, value in self.headers.items()):
            found.add("headers")
        if self.run_id is not None and not carries_run_id(mail, self.run_id):
            found.add("run_id")
        return frozenset(found)


def carries_run_id(mail: Mail, run_id: str) -> bool:
    """Whether a mail has the run id in its header, or in its text as ``run_id: <id>``."""
    # "run-1" must not be found in "run_id: run-10".
    pattern = re.compile(rf"(?<![\w-])run_id:[ \t]*{re.escape(run_id)}(?![A-Za-z0-9._-])")
    return run_id in mail.headers.get(RUN_ID_HEADER, ()) or any(pattern.search(text) for text in mail.texts)


def fresh(arrived: float, since: float, resolution: float) -> bool:
    """Whether an arrival that is known to ``resolution`` seconds may have been at ``since`` or later."""
    return arrived >= since or arrived + resolution > since


@dataclass(frozen=True)
class Survey:
    """What a mailbox lists.

    Attributes:
        total: number of all mails in it.
        entries: those that may have arrived since the bound; older ones may be among them.
    """

    total: int
    entries: list[Entry]


class Mailbox(ABC):
    """A place that keeps mails. Nothing here changes it: no mail is marked as read, moved or deleted."""

    address: str
    """Where it is, for people."""
    command: str
    """Shows people what is in it."""
    resolution: float
    """Seconds to which the arrival of a mail is known."""

    @abstractmethod
    def survey(self, since: float | None, timeout: float) -> Survey:
        """List the mails that may have arrived at ``since`` or later (all, if None); ``timeout`` is per request.

        Raises:
            CheckError: the mailbox can't be looked into.
        """

    @abstractmethod
    def newest(self, limit: int, timeout: float) -> list[Entry]:
        """List the newest mails; survey was called before."""

    @abstractmethod
    def load(self, entry: Entry, timeout: float) -> Mail | None:
        """Read a mail; None when it is gone."""


@dataclass(frozen=True)
class _Seen:
    mail: Mail
    misses: frozenset[str]


class MailSearch:
    """The search for a mail, over several looks.

    Args:
        mailbox: where to search.
        wanted: what to search for.
        count: how many such mails there must be at least.

    Attributes:
        loaded: number of mails that were read so far.
    """

    def __init__(self, mailbox: Mailbox, wanted: Wanted, count: int = 1) -> None:
        self._mailbox = mailbox
        self._wanted = wanted
        self._count = count
        self._seen: dict[str, _Seen] = {}
        self.loaded = 0

    def look(self, deadline: Deadline) -> Verdict:
        """Look once; the reason why nothing was found is only worked out at the last look."""
        timeout = deadline.request_timeout
        since = self._wanted.since
        survey = self._mailbox.survey(since, timeout)
        matches: list[Mail] = []
        for entry in sorted(survey.entries, key=lambda entry: entry.arrived, reverse=True):
            seen = self._read(entry, timeout)
            if seen and not seen.misses:
                matches.append(seen.mail)
                if since is None and len(matches) >= self._count:
                    break  # the newest will do, so that a full mailbox need not be read to its end
        if len(matches) >= self._count:
            mail = matches[0] if since is None else min(matches, key=lambda mail: mail.arrived)
            return Verdict.yes(self._shown(mail), {"arrived": mail.arrived})
        if not deadline.final:
            return Verdict.no("no_match", "")
        return self._explain(survey.total, len(matches), timeout)

    def _read(self, entry: Entry, timeout: float) -> _Seen | None:
        seen = self._seen.get(entry.key)
        if seen is None:
            mail = self._mailbox.load(entry, timeout)
            if mail is None:
                return None
            self.loaded += 1
            if entry.recipients:
                mail = replace(mail, recipients=tuple(dict.fromkeys((*mail.recipients, *entry.recipients))))
            misses = self._wanted.misses(mail, self._mailbox.resolution)
            seen = _Seen(replace(mail, texts=()), misses)  # thousands of bodies need not be kept
            self._seen[entry.key] = seen
        return seen

    def _shown(self, mail: Mail) -> dict[str, Any]:
        asked = {name.lower() for name in self._wanted.headers}
        return {
            "subject": mail.subject,
            "from": mail.sender,
            "to": list(mail.recipients),
            "arrived": format_time(mail.arrived),
            "message_id": mail.message_id,
            "headers": {
                name: values[0] for name, values in mail.headers.items() if name in asked or name.startswith("x-vigie-")
            },
        }

    def _explain(self, total: int, found: int, timeout: float) -> Verdict:
        for entry in self._mailbox.newest(EXPLAINED, timeout):
            self._read(entry, timeout)
        seen = sorted(self._seen.values(), key=lambda one: one.mail.arrived, reverse=True)
        observed = {"count": total, "newest": [one.mail.summary() for one in seen[:3]]}
        where = self._mailbox.address
        if not seen:
            return Verdict.no(
                "mailbox_empty", f"No mail has arrived in {where}; see '{self._mailbox.command}'.", observed
            )
        reason, text = self._reason(seen, found)
        subjects = ", ".join(f'"{shortened(one.mail.subject)}"' for one in seen[:3])
        return Verdict.no(reason, f"{text}; newest in {where}: {subjects}; see '{self._mailbox.command}'.", observed)

    def _reason(self, seen: list[_Seen], found: int) -> tuple[str, str]:
        wanted = self._wanted
        if found:
            return "too_few", f"{found} of the {self._count} wanted mails arrived"
        for miss, reason in _SINGLE_MISS.items():
            near = next((one.mail for one in seen if one.misses == {miss}), None)
            if near is None:
                continue
            at = format_time(near.arrived)
            if miss == "recipient":
                to = ", ".join(near.recipients[:3]) or "nobody"
                return reason, f"A mail that fits arrived at {at}, but for {to} instead of {wanted.recipient}"
            if miss == "subject":
                pattern = wanted.subject.pattern if wanted.subject else ""
                return reason, f"A mail that fits arrived at {at}, but {pattern!r} is not in its subject"
            if miss == "run_id":
                return reason, f"A mail that fits arrived at {at}, but without run_id {wanted.run_id}"
            return reason, f"A mail that fits arrived at {at}, before {format_time(wanted.since or 0)}, and none after"
        new = [one for one in seen if "since" not in one.misses]
        if not new:
            return "no_match", f"No mail arrived since {format_time(wanted.since or 0)}"
        nearest = min(new, key=lambda one: len(one.misses))
        differs = " and ".join(sorted(nearest.misses)).replace("_", " ")
        return "no_match", f"No mail fits, the nearest differs in {differs}"


def shortened(text: str, limit: int = SUBJECT_LIMIT) -> str:
    """Return text on one line, without control characters, cut to ``limit`` characters."""
    line = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return line if len(line) <= limit else f"{line[:limit]}..."


def parse_mail(raw: bytes, arrived: float) -> Mail:
    """Return a mail read from its bytes; what is malformed in it is taken as it is, never an error."""
    from email.parser import BytesParser  # only what finds a mail needs it
    from email.utils import getaddresses

    message = BytesParser().parsebytes(raw)
    headers: dict[str, tuple[str, ...]] = {}
    for name, value in message.raw_items():
        headers[name.lower()] = (*headers.get(name.lower(), ()), decode_header_text(str(value)))
    named = [value for name in _RECIPIENT_HEADERS for value in headers.get(name, ())]
    senders = [address for _name, address in getaddresses(list(headers.get("from", ()))) if address]
    return Mail(
        arrived=arrived,
        subject=headers.get("subject", ("",))[0],
        sender=senders[0] if senders else "",
        recipients=tuple(dict.fromkeys(address.lower() for _name, address in getaddresses(named) if address)),
        message_id=headers.get("message-id", ("",))[0],
        headers=headers,
        texts=tuple(_texts(message)),
    )


def decode_header_text(value: str) -> str:
    """Return a header on one line, with encoded words (RFC 2047) and raw UTF-8 decoded."""
    from email.errors import HeaderParseError
    from email.header import decode_header, make_header

    line = " ".join(value.encode("utf-8", "surrogateescape").decode("utf-8", "replace").split())
    if "=?" not in line:
        return line
    try:
        return " ".join(str(make_header(decode_header(line))).split())
    except (HeaderParseError, ValueError, LookupError):
        return line


def _texts(message: Message) -> list[str]:
    texts = []
    for part in message.walk():
        if part.get_content_maintype() != "text" or part.get_content_disposition() == "attachment":
            continue
        payload = part.get_payload(decode=True)
        if not isinstance(payload, bytes):
            continue
        try:
            text = payload.decode(part.get_content_charset() or "utf-8", "replace")
        except LookupError:
            text = payload.decode("utf-8", "replace")
        text = text.replace("\r\n", "\n")
        texts.append(text)
        if part.get_content_subtype() == "html":
            texts.append(html.unescape(re.sub(r"<[^>]*>", "", text)))
    return texts


class Maildir(Mailbox):
    """A folder with one file per mail, in ``new`` or ``cur``.

    A mail arrived when its header X-Vigie-Received says so, else when its file was last written.

    Args:
        path: the folder.
    """

    # A file's time comes from a clock that the kernel moves on every few milliseconds only.
    resolution = 0.02

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._paths: dict[str, Path] = {}
        self._written: dict[str, float] = {}
        self.address = f"Maildir {path}"
        self.command = f"ls -lt {path}/new {path}/cur"

    def survey(self, since: float | None, timeout: float) -> Survey:
        self._scan()
        entries = [
            Entry(key, written)
            for key, written in self._written.items()
            # A mail is written after it was received, so nothing fresh is passed over.
            if since is None or fresh(written, since, self.resolution)
        ]
        return Survey(len(self._written), entries)

    def newest(self, limit: int, timeout: float) -> list[Entry]:
        latest = sorted(self._written.items(), key=lambda item: item[1], reverse=True)[:limit]
        return [Entry(key, written) for key, written in latest]

    def load(self, entry: Entry, timeout: float) -> Mail | None:
        for _attempt in range(2):
            path = self._paths.get(entry.key)
            if path is None:
                return None
            try:
                with path.open("rb") as file:
                    raw = file.read(MAX_MAIL)
                break
            except FileNotFoundError:
                self._scan()  # a mail program moved it from new to cur
            except PermissionError as error:
                raise self._denied(path) from error
        else:
            return None
        mail = parse_mail(raw, entry.arrived)
        for value in mail.headers.get(RECEIVED_HEADER, ())[:1]:
            try:
                return replace(mail, arrived=parse_time(value))
            except ValueError:
                break
        return mail

    def _scan(self) -> None:
        paths: dict[str, Path] = {}
        written: dict[str, float] = {}
        folders = 0
        for name in ("new", "cur"):
            folder = self._path / name
            try:
                with os.scandir(folder) as files:
                    folders += 1
                    for file in files:
                        if file.name.startswith(".") or not file.is_file():
                            continue
                        key = file.name.partition(":")[0]  # flags behind the colon may change
                        try:
                            written[key] = self._written.get(key) or file.stat().st_mtime
                        except FileNotFoundError:
                            continue
                        paths[key] = Path(file.path)
            except FileNotFoundError:
                continue
            except PermissionError as error:
                raise self._denied(folder) from error
            except NotADirectoryError as error:
                raise CheckError(
                    "mailbox_unreadable",
                    f"{self._path} is no Maildir but a file; give the folder that has new and cur in it, see 'ls -ld {self._path}'.",
                ) from error
            except OSError as error:
                raise CheckError(
                    "mailbox_unreadable", f"{folder} can't be read ({error.strerror}).", transient=True
                ) from error
        if not folders:
            missing = "has neither new nor cur in it" if self._path.is_dir() else "does not exist"
            raise CheckError(
                "mailbox_unreadable",
                f"{self._path} {missing}, so nothing was ever delivered there; check the path with 'ls -la {self._path.parent}'.",
                transient=True,  # it is made with the first delivery
            )
        self._paths, self._written = paths, written

    def _denied(self, path: Path) -> CheckError:
        return CheckError(
            "mailbox_unreadable",
            f"{path} may not be read by user id {os.geteuid()}; check owner and mode with 'ls -ld {path}', or run the task as the mailbox's owner.",
        )
