"""What makes a mail the wanted one, how mails are parsed, and which reason is given when none fits."""

from __future__ import annotations

import os
import re
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import ENDPOINT_OPTIONS
from ansible_collections.vigie.observability.plugins.module_utils.mailbox import (
    Entry,
    Mail,
    Mailbox,
    Maildir,
    MailSearch,
    Survey,
    Wanted,
    decode_header_text,
    parse_mail,
    shortened,
)
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict
from ansible_collections.vigie.observability.plugins.modules.mail_check import ENDPOINT_SPEC

T0 = 1_764_000_000.0
GOOD = Mail(
    arrived=T0,
    subject="[FIRING] PodCrashLoop vigie/flask-metrics-abcde",
    sender="Vigie@localhost",
    recipients=("oncall@example.org", "boss@example.org"),
    headers={"x-vigie-alert": ("PodCrashLoop",), "x-spaced": ("a", "b")},
    texts=("Hello\nrun_id: drill-1\nbye", "<b>html</b>"),
)


class Memory(Mailbox):
    """Mails in a dict, and a note of which were loaded."""

    address = "memory"
    command = "look memory"
    resolution = 0.0

    def __init__(self, *mails: Mail) -> None:
        self.mails = {str(number): mail for number, mail in enumerate(mails)}
        self.loads: list[str] = []

    def entries(self) -> list[Entry]:
        return [Entry(key, mail.arrived) for key, mail in self.mails.items()]

    def survey(self, since: float | None, timeout: float) -> Survey:
        return Survey(len(self.mails), [e for e in self.entries() if since is None or e.arrived >= since])

    def newest(self, limit: int, timeout: float) -> list[Entry]:
        return sorted(self.entries(), key=lambda entry: entry.arrived, reverse=True)[:limit]

    def load(self, entry: Entry, timeout: float) -> Mail | None:
        self.loads.append(entry.key)
        return self.mails.get(entry.key)


def mail(**changes: Any) -> Mail:
    return Mail(**{**{name: getattr(GOOD, name) for name in Mail.__dataclass_fields__}, **changes})


def last_look(*mails: Mail, count: int = 1, **wanted: Any) -> Verdict:
    return MailSearch(Memory(*mails), Wanted(**wanted), count).look(Deadline(0))


# --- what is wanted ---


def test_nothing_wanted_is_fulfilled_by_any_mail() -> None:
    assert Wanted().misses(Mail(0.0)) == frozenset()


def test_everything_wanted_is_found() -> None:
    wanted = Wanted(
        recipient="OnCall@example.org",
        sender="vigie@LOCALHOST",
        subject=re.compile(r"^\[FIRING\] PodCrashLoop"),
        body=("Hello", "<b>"),
        headers={"X-Vigie-Alert": "PodCrashLoop", "x-spaced": "b"},
        run_id="drill-1",
        since=T0,
    )
    assert wanted.misses(GOOD) == frozenset()


@pytest.mark.parametrize(
    ("wanted", "miss"),
    [
        ({"recipient": "nobody@example.org"}, "recipient"),
        ({"recipient": "oncall@example"}, "recipient"),
        ({"sender": "other@localhost"}, "sender"),
        ({"subject": re.compile("RESOLVED")}, "subject"),
        ({"subject": re.compile("^PodCrashLoop")}, "subject"),
        ({"body": ("Hello", "nowhere")}, "body"),
        ({"headers": {"X-Vigie-Alert": "podcrashloop"}}, "headers"),
        ({"headers": {"X-Missing": ""}}, "headers"),
        ({"run_id": "drill-2"}, "run_id"),
        ({"since": T0 + 0.001}, "since"),
    ],
)
def test_each_miss(wanted: dict[str, Any], miss: str) -> None:
    assert Wanted(**wanted).misses(GOOD) == {miss}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("run_id: drill-1", True),
        ("run_id:drill-1\n", True),
        ("(run_id: drill-1)", True),
        ("run_id: drill-1, next", True),
        ("run_id: drill-10", False),
        ("run_id: drill-1.2", False),
        ("run_id: xdrill-1", False),
        ("old_run_id: drill-1", False),
        ("run_id:\ndrill-1", False),
        ("drill-1", False),
    ],
)
def test_run_id_in_the_text(text: str, found: bool) -> None:
    assert Wanted(run_id="drill-1").misses(Mail(0.0, texts=(text,))) == (frozenset() if found else {"run_id"})


def test_run_id_is_no_pattern() -> None:
    assert Wanted(run_id="a.b").misses(Mail(0.0, texts=("run_id: axb",))) == {"run_id"}


def test_run_id_in_the_header() -> None:
    assert not Wanted(run_id="drill-1").misses(Mail(0.0, headers={"x-vigie-run-id": ("drill-1",)}))
    assert Wanted(run_id="drill-1").misses(Mail(0.0, headers={"x-vigie-run-id": ("drill-10",)}))


@pytest.mark.parametrize(
    ("arrived", "resolution", "stale"),
    [(T0, 0.0, False), (T0 - 0.5, 0.0, True), (T0 - 0.5, 1.0, False), (T0 - 1.0, 1.0, True), (T0 + 9, 1.0, False)],
)
def test_arrival_known_to_the_second_gets_the_benefit_of_the_doubt(
    arrived: float, resolution: float, stale: bool
) -> None:
    assert ("since" in Wanted(since=T0).misses(Mail(arrived), resolution)) is stale


# --- parsing ---


def test_parse_multipart() -> None:
    message = EmailMessage()
    message["Subject"] = "Grüße: [FIRING] café"
    message["From"] = "Vigie <vigie@localhost>"
    message["To"] = "On Call <OnCall@Example.org>, second@example.org"
    message["Cc"] = "boss@example.org"
    message["Message-ID"] = "<1@localhost>"
    message["X-Vigie-Alert"] = "PodCrashLoop"
    message.set_content("réponse\nrun_id: drill-1\n" + "long " * 100)
    message.add_alternative("<p>run_id: <b>drill-1</b> &amp; more</p>", subtype="html")
    message.add_attachment("run_id: attached", filename="notes.txt")
    parsed = parse_mail(message.as_bytes(), T0)
    assert parsed.subject == "Grüße: [FIRING] café"
    assert parsed.sender == "vigie@localhost"
    assert parsed.recipients == ("oncall@example.org", "second@example.org", "boss@example.org")
    assert parsed.message_id == "<1@localhost>"
    assert parsed.headers["x-vigie-alert"] == ("PodCrashLoop",)
    assert "réponse" in parsed.texts[0]
    assert "long " * 100 in parsed.texts[0], "soft line breaks are undone"
    assert "run_id: drill-1 & more" in parsed.texts[2], "markup is taken out"
    assert not any("attached" in text for text in parsed.texts)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("folded\r\n  line", "folded line"),
        ("=?utf-8?q?caf=C3=A9?=", "café"),
        ("=?iso-8859-1?q?caf=E9?= ok", "café ok"),
        ("=?utf-8?b?w6k=?=\r\n =?utf-8?b?w6k=?=", "éé"),
        ("=?nonsense?q?abc?=", "=?nonsense?q?abc?="),
        ("=?utf-8?b?abcde?=", "=?utf-8?b?abcde?="),
        ("caf\udcc3\udca9", "café"),
    ],
)
def test_headers_are_decoded(value: str, text: str) -> None:
    assert decode_header_text(value) == text


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\xff",
        b"no header at all",
        b"Subject: x\nContent-Type: multipart/mixed\n\nbody",
        b'Subject: x\nContent-Type: text/plain; charset="no-such"\n\nb\xf6dy',
        b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n!!!",
        b"From: <<<>>>\nTo: ,,,\nSubject: =?utf-8?q?=\n\nx",
        b"Content-Type: message/rfc822\n\nnot a mail",
    ],
)
def test_malformed_mails_are_taken_as_they_are(raw: bytes) -> None:
    assert parse_mail(raw, T0).arrived == T0


def test_subjects_for_people() -> None:
    assert shortened("a\tb\n\x1b[31mred") == "a b [31mred"
    assert shortened("x" * 100) == "x" * 80 + "..."


# --- the search ---


def test_first_match_after_since_is_reported() -> None:
    verdict = last_look(mail(arrived=T0 - 1), mail(arrived=T0 + 9), mail(arrived=T0 + 4), since=T0)
    assert verdict.matched
    assert verdict.times == {"arrived": T0 + 4}
    assert verdict.observed["headers"] == {"x-vigie-alert": "PodCrashLoop"}


def test_without_since_the_newest_match_is_reported_and_no_more_is_read() -> None:
    memory = Memory(*(mail(arrived=T0 + number) for number in range(100)))
    search = MailSearch(memory, Wanted(run_id="drill-1"), 2)
    assert search.look(Deadline(0)).times == {"arrived": T0 + 99}
    assert memory.loads == ["99", "98"]


def test_headers_that_were_asked_for_are_shown() -> None:
    assert last_look(GOOD, headers={"X-Spaced": "b"}).observed["headers"]["x-spaced"] == "a"


def test_a_mail_is_loaded_once() -> None:
    memory = Memory(mail(subject="other"))
    search = MailSearch(memory, Wanted(subject=re.compile("x"), since=T0))
    for dummy in range(3):
        assert not search.look(Deadline(60)).matched
    memory.mails["new"] = mail(subject="x", arrived=T0 + 1)
    assert search.look(Deadline(60)).matched
    assert memory.loads == ["0", "new"]
    assert search.loaded == 2


def test_older_mails_are_only_loaded_at_the_last_look() -> None:
    memory = Memory(*(mail(arrived=T0 - number, subject="other") for number in range(1, 51)))
    search = MailSearch(memory, Wanted(subject=re.compile("x"), since=T0))
    search.look(Deadline(60))
    assert memory.loads == []
    search.look(Deadline(0))
    assert len(memory.loads) == 20


def test_a_mail_that_vanishes_is_not_missed_later() -> None:
    memory = Memory(GOOD)
    memory.load = lambda entry, timeout: None  # type: ignore[method-assign]
    search = MailSearch(memory, Wanted())
    assert not search.look(Deadline(0)).matched
    memory.load = lambda entry, timeout: GOOD  # type: ignore[method-assign]
    assert search.look(Deadline(0)).matched


FIRING = re.compile("FIRING")
OURS: dict[str, Any] = {"recipient": "oncall@example.org", "subject": FIRING, "run_id": "drill-1", "since": T0}


@pytest.mark.parametrize(
    ("mails", "wanted", "reason", "word"),
    [
        ([], OURS, "mailbox_empty", "look memory"),
        ([mail(recipients=("bob@example.org",))], OURS, "other_recipient", "bob@example.org instead of oncall@"),
        ([mail(recipients=())], OURS, "other_recipient", "for nobody"),
        ([mail(subject="[RESOLVED] x")], OURS, "subject_mismatch", "[RESOLVED] x"),
        ([mail(texts=("run_id: drill-0",))], OURS, "run_id_mismatch", "drill-1"),
        ([mail(arrived=T0 - 60)], OURS, "stale_mail", "2025-11-24T15:59:00.000Z"),
        ([mail(subject="Watchdog", texts=())], OURS, "no_match", "run id and subject"),
        ([mail(subject="Watchdog", texts=(), arrived=T0 - 60)], OURS, "no_match", "No mail arrived since"),
        ([GOOD], {"sender": "x@y"}, "no_match", "differs in sender"),
        ([GOOD], {"body": ("nowhere",)}, "no_match", "differs in body"),
        ([GOOD], {"headers": {"X-A": "b"}}, "no_match", "differs in headers"),
        # A mail of an earlier run is background; one that went astray now is the cause.
        ([mail(arrived=T0 - 60), mail(recipients=("bob@example.org",))], OURS, "other_recipient", "bob@"),
        # A mail of this very run that came too early says more than one of another run.
        ([mail(arrived=T0 - 60), mail(texts=("run_id: drill-0",))], OURS, "stale_mail", "before"),
    ],
)  # fmt: skip
def test_reasons(mails: list[Mail], wanted: dict[str, Any], reason: str, word: str) -> None:
    verdict = last_look(*mails, **wanted)
    assert (verdict.matched, verdict.reason) == (False, reason)
    assert word in verdict.hint
    assert verdict.observed["count"] == len(mails)
    assert "\n" not in verdict.hint


def test_too_few() -> None:
    verdict = last_look(GOOD, mail(subject="other"), subject=FIRING, count=2)
    assert verdict.reason == "too_few"
    assert "1 of the 2 wanted mails" in verdict.hint


def test_newest_three_are_shown_without_bodies() -> None:
    mails = [mail(subject=f"number {n}", arrived=T0 + n, texts=("secret text",)) for n in range(5)]
    verdict = last_look(*mails, subject=FIRING)
    assert [one["subject"] for one in verdict.observed["newest"]] == ["number 4", "number 3", "number 2"]
    assert '"number 4", "number 3", "number 2"' in verdict.hint
    assert "secret text" not in f"{verdict.observed}{verdict.hint}"


def test_recipients_known_to_the_list_only_count() -> None:
    memory = Memory(mail(recipients=("to@example.org",)))
    memory.entries = lambda: [Entry("0", T0, ("bcc@example.org",))]  # type: ignore[method-assign]
    verdict = MailSearch(memory, Wanted(recipient="bcc@example.org")).look(Deadline(0))
    assert verdict.matched
    assert verdict.observed["to"] == ["to@example.org", "bcc@example.org"]


# --- Maildir ---


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    for name in ("new", "cur", "tmp"):
        (tmp_path / "Maildir" / name).mkdir(parents=True)
    return tmp_path / "Maildir"


def put(folder: Path, name: str, raw: bytes = b"Subject: x\n\nbody", arrived: float = T0) -> Path:
    path = folder / name
    path.write_bytes(raw)
    os.utime(path, (arrived, arrived))
    return path


def test_maildir_lists_new_and_cur(maildir: Path) -> None:
    put(maildir / "new", "1.a", arrived=T0 - 5)
    put(maildir / "cur", "2.b:2,S", arrived=T0 + 5)
    put(maildir / "tmp", "3.c")
    put(maildir / "new", ".hidden")
    (maildir / "new" / "folder").mkdir()
    box = Maildir(str(maildir))
    survey = box.survey(T0, 1)
    assert survey.total == 2
    assert survey.entries == [Entry("2.b", T0 + 5)]
    assert box.newest(1, 1) == [Entry("2.b", T0 + 5)]
    assert len(box.survey(None, 1).entries) == 2


def test_maildir_prefers_the_time_that_the_catcher_noted(maildir: Path) -> None:
    put(maildir / "new", "1.a", b"X-Vigie-Received: 2025-11-24T16:00:01.500Z\nSubject: x\n\n", T0 + 2)
    put(maildir / "new", "2.b", b"X-Vigie-Received: yesterday\nSubject: x\n\n", T0 + 2)
    box = Maildir(str(maildir))
    arrived = {entry.key: box.load(entry, 1) for entry in box.survey(None, 1).entries}
    assert {key: one.arrived for key, one in arrived.items() if one} == {"1.a": T0 + 1.5, "2.b": T0 + 2}


def test_maildir_follows_a_mail_that_is_moved(maildir: Path) -> None:
    path = put(maildir / "new", "1.a")
    box = Maildir(str(maildir))
    (entry,) = box.survey(None, 1).entries
    path.rename(maildir / "cur" / "1.a:2,S")
    assert box.load(entry, 1)
    (maildir / "cur" / "1.a:2,S").unlink()
    assert box.load(entry, 1) is None
    assert box.survey(None, 1).total == 0


@pytest.mark.parametrize("made", [False, True])
def test_maildir_that_is_not_there_yet_may_still_come(tmp_path: Path, made: bool) -> None:
    path = tmp_path / "Maildir"
    if made:
        path.mkdir()
    with pytest.raises(CheckError) as caught:
        Maildir(str(path)).survey(None, 1)
    assert (caught.value.reason, caught.value.transient) == ("mailbox_unreadable", True)
    assert str(path) in caught.value.hint


def test_a_file_is_no_maildir(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.touch()
    with pytest.raises(CheckError) as caught:
        Maildir(str(path)).survey(None, 1)
    assert (caught.value.reason, caught.value.transient) == ("mailbox_unreadable", False)
    assert "no Maildir but a file" in caught.value.hint


# --- the module's options ---


def test_shared_suboptions_are_those_of_every_endpoint() -> None:
    shared = set(ENDPOINT_SPEC) - {"maildir", "imap"}
    assert {name: ENDPOINT_SPEC[name] for name in shared} == {name: ENDPOINT_OPTIONS[name] for name in shared}
