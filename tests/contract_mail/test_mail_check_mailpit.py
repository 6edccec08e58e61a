"""mail_check against the stand-in for Mailpit, see mail_servers."""

from __future__ import annotations

import base64
import time

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import open_transport
from ansible_collections.vigie.observability.plugins.module_utils.mailbox import MailSearch, Wanted
from ansible_collections.vigie.observability.plugins.module_utils.mailbox_mailpit import MailpitMailbox
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from mail_servers import compose, unused_port

OURS = {"recipient": "oncall@example.org", "subject": "FIRING", "run_id": "drill-1"}
NOW = time.time()


def test_found(run_module, mailpit) -> None:
    mailpit.add(compose(Subject="Watchdog"))
    mailpit.add(compose(), arrived=NOW)
    result = run_module("mail_check", **OURS, since=NOW - 1, endpoint={"url": mailpit.url}, timeout=0)
    assert (result["failed"], result["matched"], result["reason"]) == (False, True, "ok")
    assert result["times"]["arrived"] == pytest.approx(NOW, abs=0.002)
    assert result["observed"]["headers"] == {"x-vigie-alert": "PodCrashLoop"}


def test_blind_copy_is_known_by_the_envelope(run_module, mailpit) -> None:
    mailpit.add(compose(To=None), bcc="Blind@example.org")
    assert run_module("mail_check", recipient="blind@example.org", endpoint={"url": mailpit.url}, timeout=0)["matched"]


def test_no_mail_is_marked_as_read(run_module, mailpit) -> None:
    mailpit.add(compose())
    assert run_module("mail_check", **OURS, endpoint={"url": mailpit.url}, timeout=0)["matched"]
    assert not run_module("mail_check", subject="RESOLVED", endpoint={"url": mailpit.url}, timeout=0)["matched"]
    assert [message["Read"] for message in mailpit.messages] == [False]
    mailpit.answer("/api/v1/message/id0")
    assert [message["Read"] for message in mailpit.messages] == [True], "the stand-in would have told"


@pytest.mark.parametrize(
    ("message", "wanted", "reason"),
    [
        (None, {}, "mailbox_empty"),
        (compose(To="bob@example.org"), {}, "other_recipient"),
        (compose(Subject="[RESOLVED]"), {}, "subject_mismatch"),
        (compose(body="run_id: drill-0"), {}, "run_id_mismatch"),
        (compose(), {"since": NOW - 60}, "stale_mail"),
        (compose(), {"count": 2}, "too_few"),
        (compose(Subject="x", body="y"), {}, "no_match"),
    ],
)
def test_reasons(run_module, mailpit, message, wanted, reason) -> None:
    if message:
        mailpit.add(message, arrived=NOW - 3600)
    result = run_module("mail_check", **OURS, **wanted, endpoint={"url": mailpit.url}, timeout=0)
    assert (result["failed"], result["reason"]) == (True, reason)
    assert f"curl -s {mailpit.url}/api/v1/messages" in result["hint"]


def test_pages_end_at_the_bound_and_mails_are_read_once(mailpit) -> None:
    for number in range(450):
        mailpit.add(compose(Subject=f"old {number}"), arrived=NOW - 7200 - number)
    for number in range(120):
        mailpit.add(compose(Subject=f"new {number}"), arrived=NOW - number / 10)
    box = MailpitMailbox(open_transport({"url": mailpit.url}))
    search = MailSearch(box, Wanted(run_id="drill-9", since=NOW - 60))
    search.look(Deadline(60))
    assert search.loaded == 120
    assert sum("/messages" in path for path in mailpit.requests) == 2
    mailpit.requests.clear()
    mailpit.add(compose(Subject="one more"))
    search.look(Deadline(60))
    assert search.loaded == 121
    assert sum("/raw" in path for path in mailpit.requests) == 1


def test_all_pages_without_a_bound(mailpit) -> None:
    for number in range(250):
        mailpit.add(compose(Subject=f"mail {number}"), arrived=NOW - number)
    box = MailpitMailbox(open_transport({"url": mailpit.url}))
    assert len(box.survey(None, 5).entries) == 250
    mailpit.requests.clear()
    assert len(box.survey(None, 5).entries) == 250
    assert len(mailpit.requests) == 1, "a page without news ends the list"


def test_mail_deleted_between_list_and_load(run_module, mailpit) -> None:
    identity = mailpit.add(compose())
    del mailpit.raw[identity]
    result = run_module("mail_check", **OURS, endpoint={"url": mailpit.url}, timeout=0)
    assert (result["failed"], result["reason"]) == (True, "mailbox_empty")


def test_password(run_module, mailpit, tmp_path) -> None:
    mailpit.credentials = f"Basic {base64.b64encode(b'me:s3cr3t-word').decode()}"
    mailpit.add(compose())
    (tmp_path / "password").write_text("s3cr3t-word\n")
    endpoint = {"url": mailpit.url, "username": "me", "password_file": str(tmp_path / "password")}
    result = run_module("mail_check", **OURS, endpoint=endpoint, timeout=0)
    assert result["matched"]
    assert "s3cr3t-word" not in str(result)
    result = run_module("mail_check", **OURS, endpoint={"url": mailpit.url}, timeout=60)
    assert (result["failed"], result["reason"], result["attempts"]) == (True, "access_denied", 1)


def test_nobody_listens(run_module) -> None:
    result = run_module("mail_check", endpoint={"url": f"http://127.0.0.1:{unused_port()}"}, timeout=0)
    assert (result["failed"], result["reason"]) == (True, "unreachable")


def test_something_else_than_mailpit(run_module, mailpit) -> None:
    result = run_module("mail_check", endpoint={"url": f"{mailpit.url}/elsewhere"}, timeout=0)
    assert (result["failed"], result["reason"]) == (True, "bad_request")
    mailpit.answer = lambda target: (200, b'{"status": "ok"}')
    result = run_module("mail_check", endpoint={"url": mailpit.url}, timeout=0)
    assert (result["failed"], result["reason"]) == (True, "bad_answer")
