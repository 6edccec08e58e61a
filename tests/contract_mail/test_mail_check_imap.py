"""mail_check against a real Dovecot, which is unpacked and run without root."""

from __future__ import annotations

import functools
import imaplib
import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils import check
from ansible_collections.vigie.observability.plugins.module_utils.mailbox import MailSearch, Wanted
from ansible_collections.vigie.observability.plugins.module_utils.mailbox_imap import ImapMailbox
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from mail_servers import PASSWORD, Dovecot, compose, script_server, unused_port

SECRET = PASSWORD.replace(" ", "_")
_numbers = itertools.count()


@pytest.fixture
def user() -> str:
    return f"user{next(_numbers)}"


@pytest.fixture
def options(dovecot: Dovecot, user: str, certificates: Path) -> dict[str, Any]:
    return {
        "endpoint": {
            "imap": {"host": "127.0.0.1", "port": dovecot.tls_port},
            "username": user,
            "password": SECRET,
            "ca_path": str(certificates / "ca.pem"),
        },
        "timeout": 0,
    }


def changed(options: dict[str, Any], *, imap: dict[str, Any] | None = None, **endpoint: Any) -> dict[str, Any]:
    """Return the options with another endpoint."""
    new = {**options["endpoint"], **endpoint}
    new["imap"] = {**new["imap"], **(imap or {})}
    return {**options, "endpoint": new}


def test_found(run_module, dovecot, user, options) -> None:
    started = time.time()
    dovecot.deliver(user, compose())
    result = run_module(
        "mail_check", recipient="oncall@example.org", subject="PodCrashLoop", run_id="drill-1", since=started, **options
    )
    assert (result["failed"], result["matched"], result["reason"]) == (False, True, "ok")
    assert result["observed"]["message_id"] == "<1@localhost>"
    assert result["observed"]["headers"] == {"x-vigie-alert": "PodCrashLoop"}
    # IMAP tells the arrival to the second only.
    assert int(started) <= result["times"]["arrived"] <= time.time()


@pytest.mark.parametrize(
    ("tls", "port"), [("starttls", "plain_port"), ("none", "plain_port"), ("implicit", "tls_port")]
)
def test_each_kind_of_tls(run_module, dovecot, options, tls, port) -> None:
    dovecot.deliver(options["endpoint"]["username"], compose())
    result = run_module("mail_check", **changed(options, imap={"tls": tls, "port": getattr(dovecot, port)}))
    assert (result["matched"], result["reason"]) == (True, "ok")


def test_mail_that_comes_later_is_seen_on_the_open_connection(run_module, dovecot, user, options, monkeypatch) -> None:
    dovecot.deliver(user, compose(Subject="Watchdog"))
    waits: list[float] = []

    def deliver_instead(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            dovecot.deliver(user, compose())

    monkeypatch.setattr(check, "wait_for", functools.partial(check.wait_for, sleep=deliver_instead))
    result = run_module("mail_check", subject="FIRING", **{**options, "timeout": 60})
    assert (result["matched"], result["attempts"]) == (True, 3)


@pytest.fixture
def commands(monkeypatch) -> list[tuple[Any, ...]]:
    """What is sent to IMAP servers."""
    sent: list[tuple[Any, ...]] = []
    real = imaplib.IMAP4._command  # type: ignore[attr-defined]

    def recorded(self, *words):
        sent.append(words)
        return real(self, *words)

    monkeypatch.setattr(imaplib.IMAP4, "_command", recorded)
    return sent


def test_no_mail_is_marked_as_read(run_module, dovecot, options, commands) -> None:
    user = options["endpoint"]["username"]
    dovecot.deliver(user, compose())
    assert run_module("mail_check", subject="FIRING", **options)["matched"]
    assert not run_module("mail_check", subject="RESOLVED", **options)["matched"]
    assert "EXAMINE" in {words[0] for words in commands}
    assert "SELECT" not in {words[0] for words in commands}
    assert "BODY[" not in str(commands)
    with imaplib.IMAP4("127.0.0.1", dovecot.plain_port) as connection:
        connection.login(user, SECRET)
        connection.select("INBOX", readonly=True)
        _status, flags = connection.fetch("1:*", "(FLAGS)")
    assert len(flags) == 1
    assert "\\Seen" not in str(flags[0])


NOW = int(time.time())


@pytest.mark.parametrize(
    "case",
    [
        (None, None, {}, "mailbox_empty"),
        (compose(To="bob@example.org"), None, {}, "other_recipient"),
        (compose(Subject="[RESOLVED] PodCrashLoop"), None, {}, "subject_mismatch"),
        (compose(body="run_id: drill-0"), None, {}, "run_id_mismatch"),
        (compose(), NOW - 3600, {"since": NOW - 60}, "stale_mail"),
        (compose(), NOW - 3 * 86400, {"since": NOW - 60}, "stale_mail"),
        (compose(), None, {"count": 2}, "too_few"),
        (compose(Subject="x", body="y"), None, {}, "no_match"),
    ],
)
def test_mailbox_reasons(run_module, dovecot, user, options, case) -> None:
    message, arrived, wanted, reason = case
    if message:
        dovecot.deliver(user, message, arrived)
    ours = {"recipient": "oncall@example.org", "subject": "FIRING", "run_id": "drill-1"}
    result = run_module("mail_check", **ours, **wanted, **options)
    assert (result["failed"], result["reason"]) == (True, reason)
    assert result["observed"]["count"] == (1 if message else 0)
    assert SECRET not in str(result)


def test_mail_of_the_second_of_the_bound_is_fresh(run_module, dovecot, user, options) -> None:
    dovecot.deliver(user, compose(), arrived=NOW - 100 + 0.7)
    assert run_module("mail_check", since=NOW - 100 + 0.5, **options)["matched"]
    assert run_module("mail_check", since=NOW - 99, **options)["reason"] == "stale_mail"


def test_many_mails_are_not_all_read(dovecot, user, commands) -> None:
    for number in range(300):
        dovecot.deliver(user, compose(Subject=f"old {number}"), arrived=NOW - 7200)
    dovecot.deliver(user, compose(), arrived=NOW - 10)
    box = ImapMailbox(
        host="127.0.0.1", port=dovecot.plain_port, tls="none", folder="INBOX", username=user, password=SECRET
    )
    search = MailSearch(box, Wanted(run_id="drill-1", since=NOW - 60))
    assert search.look(Deadline(60)).matched
    commands.clear()
    assert search.look(Deadline(60)).matched
    assert search.loaded == 1
    assert [words[:2] for words in commands] == [("EXAMINE", '"INBOX"'), ("UID", "SEARCH")]
    assert commands[1][3] == "302:*"
    search = MailSearch(box, Wanted(run_id="drill-9", since=NOW - 60))
    verdict = search.look(Deadline(0))
    assert (verdict.reason, verdict.observed["count"]) == ("run_id_mismatch", 301)
    assert search.loaded == 20


def test_wrong_password(run_module, dovecot, options) -> None:
    result = run_module("mail_check", **changed({**options, "timeout": 60}, password="wrong-one"))
    assert (result["failed"], result["reason"], result["attempts"]) == (True, "imap_login_failed", 1)
    assert "AUTHENTICATIONFAILED" in result["hint"]
    assert "wrong-one" not in str(result)


def test_password_file(run_module, dovecot, user, options, tmp_path) -> None:
    dovecot.deliver(user, compose())
    (tmp_path / "password").write_text(f"{SECRET}\n")
    endpoint = {name: value for name, value in options["endpoint"].items() if name != "password"}
    result = run_module("mail_check", endpoint={**endpoint, "password_file": str(tmp_path / "password")}, timeout=0)
    assert result["matched"]
    assert SECRET not in str(result)


def test_missing_folder_names_those_that_exist(run_module, dovecot, options) -> None:
    result = run_module("mail_check", **changed(options, imap={"folder": "Alerts"}))
    assert (result["failed"], result["reason"]) == (True, "imap_folder_missing")
    assert "one of: INBOX" in result["hint"]


@pytest.mark.parametrize(
    "case",
    [
        ({}, {"ca_path": "other-ca.pem"}, "tls_untrusted"),
        ({}, {"ca_path": None}, "tls_untrusted"),
        ({"port": "plain_port"}, {}, "tls_failed"),
        ({"port": 0}, {}, "unreachable"),
        ({}, {"password": None}, "bad_option"),
        ({}, {"username": None}, "bad_option"),
        ({}, {"ca_path": "missing.pem"}, "bad_option"),
        ({"folder": "Entwürfe"}, {}, "bad_option"),
    ],
)
def test_connection_reasons(run_module, dovecot, certificates, options, case) -> None:
    imap, endpoint, reason = case
    if endpoint.get("ca_path"):
        endpoint = {"ca_path": str(certificates / endpoint["ca_path"])}
    if "port" in imap:
        imap = {"port": dovecot.plain_port if imap["port"] else unused_port()}
    result = run_module("mail_check", **changed(options, imap=imap, **endpoint))
    assert (result["failed"], result["reason"]) == (True, reason)


@pytest.mark.parametrize(
    ("lines", "tls", "reason"),
    [
        ([], "none", "disconnected"),
        ([b"* OK ready\r\n"], "none", "timeout"),
        ([b"HTTP/1.1 400 Bad Request\r\n"], "none", "bad_answer"),
        ([b"* OK ready\r\n", b"* CAPABILITY IMAP4rev1\r\nAAAA0 OK done\r\n"], "starttls", "imap_no_starttls"),
    ],
)
def test_servers_that_misbehave(run_module, lines, tls, reason, monkeypatch) -> None:
    """No real server does this on demand, so these few lines are played by a script."""
    monkeypatch.setattr(imaplib, "Int2AP", lambda number: b"AAAA")  # the tag is random otherwise
    with script_server(*lines) as port:
        endpoint = {"imap": {"host": "127.0.0.1", "port": port, "tls": tls}, "username": "me", "password": SECRET}
        result = run_module("mail_check", endpoint=endpoint, timeout=0, request_timeout=0.5)
    assert (result["failed"], result["reason"]) == (True, reason)
