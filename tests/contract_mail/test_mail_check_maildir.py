"""mail_check on Maildirs written by mailbox.Maildir and by a real SMTP server."""

from __future__ import annotations

import functools
import mailbox
import os
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.handlers import Mailbox as MaildirHandler
from ansible_collections.vigie.observability.plugins.module_utils import check
from ansible_collections.vigie.observability.plugins.module_utils.mailbox import Maildir, MailSearch, Wanted
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from mail_servers import compose, deliver, smtp_server

RESULT_KEYS = {
    "changed",
    "matched",
    "observed",
    "elapsed",
    "attempts",
    "reason",
    "hint",
    "times",
    "failed",
    "invocation",
}
OURS: dict[str, Any] = {"recipient": "oncall@example.org", "subject": "FIRING", "run_id": "drill-1"}
NOW = time.time()


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    path = tmp_path / "Maildir"
    mailbox.Maildir(str(path))
    return path


@pytest.fixture
def options(maildir: Path) -> dict[str, Any]:
    return {"endpoint": {"maildir": str(maildir)}, "timeout": 0}


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Functions to be called instead of the next pauses between looks."""
    planned: list[Any] = []

    def pause(seconds: float) -> None:
        planned.pop(0)()

    monkeypatch.setattr(check, "wait_for", functools.partial(check.wait_for, sleep=pause))
    yield planned
    assert not planned, "not every look was taken"


def test_mail_that_came_by_smtp(run_module, maildir, options) -> None:
    started = time.time()
    with smtp_server(MaildirHandler(maildir)) as port, smtplib.SMTP("127.0.0.1", port) as client:
        client.send_message(compose(), from_addr="vigie@localhost", to_addrs=["oncall@example.org"])
    result = run_module("mail_check", **OURS, sender="vigie@localhost", since=started, **options)
    assert set(result) == RESULT_KEYS
    assert (result["failed"], result["changed"], result["matched"], result["reason"]) == (False, False, True, "ok")
    assert result["observed"]["subject"] == "[FIRING] PodCrashLoop vigie/flask-metrics-abcde"
    assert result["observed"]["from"] == "vigie@localhost"
    assert result["observed"]["to"] == ["oncall@example.org"]
    assert result["observed"]["headers"] == {"x-vigie-alert": "PodCrashLoop"}
    assert started - 0.1 <= result["times"]["arrived"] <= time.time()
    assert "run_id" not in str(result["observed"]), "the body is not shown"


def test_blind_copy_is_known_by_the_envelope(run_module, maildir, options) -> None:
    with smtp_server(MaildirHandler(maildir)) as port, smtplib.SMTP("127.0.0.1", port) as client:
        client.send_message(compose(To=None), from_addr="vigie@localhost", to_addrs=["blind@example.org"])
    assert run_module("mail_check", recipient="blind@example.org", **options)["matched"]


def test_maildir_is_left_as_it_was(run_module, maildir, options) -> None:
    file = deliver(maildir, compose())
    before = file.stat().st_mtime_ns
    assert run_module("mail_check", **OURS, **options)["matched"]
    assert [path.name for path in (maildir / "new").iterdir()] == [file.name]
    assert not list((maildir / "cur").iterdir())
    assert file.stat().st_mtime_ns == before


def test_mail_that_comes_while_waiting(run_module, maildir, options, waits) -> None:
    deliver(maildir, compose(Subject="Watchdog"))
    waits += [lambda: None, lambda: deliver(maildir, compose())]
    result = run_module("mail_check", **OURS, **{**options, "timeout": 60})
    assert (result["matched"], result["attempts"]) == (True, 3)


def test_maildir_that_is_made_while_waiting(run_module, tmp_path, waits) -> None:
    waits.append(lambda: deliver(tmp_path / "later", compose()))
    result = run_module("mail_check", **OURS, endpoint={"maildir": str(tmp_path / "later")}, timeout=60)
    assert (result["matched"], result["attempts"]) == (True, 2)


@pytest.mark.parametrize(
    "case",
    [
        ([], {}, "mailbox_empty"),
        ([compose(To="bob@example.org")], {}, "other_recipient"),
        ([compose(Subject="[RESOLVED] PodCrashLoop")], {}, "subject_mismatch"),
        ([compose(body="run_id: drill-12")], {}, "run_id_mismatch"),
        ([compose()], {"since": NOW - 60}, "stale_mail"),
        ([compose(Subject="other", body="other")], {}, "no_match"),
        ([compose(Subject="other")], {"since": NOW - 60}, "no_match"),
        ([compose()], {"headers": {"X-Vigie-Alert": "Other"}}, "no_match"),
        ([compose()], {"body": ["again", "not there"]}, "no_match"),
        ([compose()], {"sender": "other@localhost"}, "no_match"),
        ([compose()], {"count": 2}, "too_few"),
    ],
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_reasons(run_module, maildir, options, case, check_mode) -> None:
    mails, wanted, reason = case
    for message in mails:
        deliver(maildir, message, arrived=NOW - 3600)
    result = run_module("mail_check", check_mode=check_mode, **OURS, **wanted, **{**options, "timeout": 0})
    assert (result["failed"], result["matched"], result["reason"]) == (not check_mode, False, reason)
    assert set(result) - {"msg"} == RESULT_KEYS
    assert str(maildir) in result["hint"]
    assert result["observed"]["count"] == len(mails)
    assert not any("again and again" in str(value) for value in result.values())


def test_stale_mail_of_an_earlier_run_tells_its_time(run_module, maildir, options) -> None:
    deliver(maildir, compose(), arrived=1_764_000_000)
    result = run_module("mail_check", subject="FIRING", since=1_764_000_060, **options)
    assert result["reason"] == "stale_mail"
    assert "2025-11-24T16:00:00.000Z, before 2025-11-24T16:01:00.000Z" in result["hint"]
    assert "PodCrashLoop vigie/flask-metrics-abcde" in result["hint"]


def test_time_noted_by_the_catcher_counts(run_module, maildir, options) -> None:
    deliver(maildir, compose(X_Vigie_Received="2025-11-24T16:00:00.250Z"))
    result = run_module("mail_check", **OURS, **options)
    assert result["times"] == {"arrived": 1_764_000_000.25}
    assert run_module("mail_check", **OURS, since=1_764_000_000.5, **options)["reason"] == "stale_mail"


def test_since_in_the_future(run_module, maildir, options) -> None:
    deliver(maildir, compose())
    result = run_module("mail_check", **OURS, since=time.time() + 3600, **{**options, "timeout": 60})
    assert (result["failed"], result["reason"], result["attempts"]) == (True, "since_in_future", 0)


def test_mail_that_must_stay_away(run_module, maildir, options, waits) -> None:
    deliver(maildir, compose(), arrived=NOW - 3600)
    absent = {**OURS, "expect": "absent", "since": NOW - 60}
    result = run_module("mail_check", **absent, **options)
    assert (result["failed"], result["matched"], result["reason"]) == (False, True, "ok")
    waits += [lambda: None, lambda: deliver(maildir, compose())]
    result = run_module("mail_check", **absent, **{**options, "timeout": 60})
    assert (result["failed"], result["reason"], result["attempts"]) == (True, "appeared", 3)
    assert result["observed"]["message_id"] == "<1@localhost>"


def test_absence_in_a_mailbox_that_is_not_there_is_no_proof(run_module, tmp_path) -> None:
    result = run_module("mail_check", endpoint={"maildir": str(tmp_path / "none")}, expect="absent", timeout=0)
    assert (result["failed"], result["reason"]) == (True, "mailbox_unreadable")


def test_file_instead_of_a_maildir_fails_at_once(run_module, tmp_path) -> None:
    (tmp_path / "mbox").touch()
    result = run_module("mail_check", endpoint={"maildir": str(tmp_path / "mbox")}, timeout=60)
    assert (result["failed"], result["reason"], result["attempts"]) == (True, "mailbox_unreadable", 1)


CHILD = """
import email.errors, email.header, email.parser, email.utils, encodings.idna, os, sys
from ansible_collections.vigie.observability.plugins.module_utils.mailbox import Maildir, MailSearch, Wanted
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError
if os.getuid() == 0:  # root may read everything
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    print(MailSearch(Maildir(sys.argv[1]), Wanted()).look(Deadline(0)))
except CheckError as error:
    print(error, error.transient)
"""


@pytest.mark.parametrize("closed", [".", "new", "file"])
def test_mailbox_of_somebody_else(maildir, closed) -> None:
    for parent in (maildir.parent, *maildir.parent.parents[:2]):
        parent.chmod(0o755)
    for folder in (maildir, maildir / "new", maildir / "cur"):
        folder.chmod(0o755)
    file = deliver(maildir, compose())
    secret = file if closed == "file" else maildir / closed
    secret.chmod(0)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CHILD, maildir]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    secret.chmod(0o700)
    assert done.stdout.startswith("mailbox_unreadable: ")
    assert "may not be read by user id" in done.stdout
    assert done.stdout.strip().endswith("False"), "waiting mends no permission"


def test_five_thousand_mails_are_not_all_read(maildir) -> None:
    raw = compose(Subject="old").as_bytes()
    for number in range(5000):
        path = maildir / "cur" / f"{number}.old:2,S"
        path.write_bytes(raw)
        os.utime(path, (NOW - 7200 - number, NOW - 7200 - number))
    deliver(maildir, compose(To="bob@example.org"))
    search = MailSearch(Maildir(str(maildir)), Wanted(recipient="oncall@example.org", run_id="drill-1", since=NOW - 60))
    assert not search.look(Deadline(60)).matched
    assert search.loaded == 1
    deliver(maildir, compose(Subject="Watchdog", body="x"))
    assert not search.look(Deadline(60)).matched
    assert search.loaded == 2
    verdict = search.look(Deadline(0))
    assert (verdict.reason, verdict.observed["count"]) == ("other_recipient", 5002)
    assert search.loaded == 20
    deliver(maildir, compose())
    assert search.look(Deadline(60)).matched
    assert search.loaded == 21


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"subject": "["}, "subject="),
        ({"run_id": "two words"}, "run_id="),
        ({"recipient": "a@b, c@d"}, "recipient="),
        ({"sender": "Name <a@b>"}, "sender="),
        ({"count": 0}, "count="),
        ({"since": "yesterday"}, "since"),
        ({"relay": {"host": "localhost", "username": "me"}}, "relay."),
        ({"relay": {"host": "localhost", "ca_path": "/nonexistent/ca.pem"}}, "/nonexistent/ca.pem"),
        ({"relay": {"host": "localhost", "username": "me", "password_file": "/nonexistent/pw"}}, "/nonexistent/pw"),
    ],
)
def test_bad_options(run_module, options, wrong, word) -> None:
    result = run_module("mail_check", **wrong, **options)
    assert (result["failed"], result["reason"], result["attempts"]) == (True, "bad_option", 0)
    assert word in result["hint"]


@pytest.mark.parametrize("endpoint", [{}, {"maildir": "/m", "url": "http://localhost"}])
def test_exactly_one_place(run_module, endpoint) -> None:
    result = run_module("mail_check", endpoint=endpoint)
    assert result["failed"]
    assert "maildir" in result["msg"]
