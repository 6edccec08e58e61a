"""Dates of IMAP, and what is said when a server misbehaves; a real server is met in tests/contract_mail."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils import mailbox_imap
from ansible_collections.vigie.observability.plugins.module_utils.mailbox_imap import (
    ImapMailbox,
    parse_internaldate,
    search_date,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

OPTIONS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 143,
    "tls": "none",
    "folder": "INBOX",
    "username": "me",
    "password": "secret",
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("24-Nov-2025 16:00:00 +0000", 1_764_000_000),
        ("24-Nov-2025 17:30:00 +0130", 1_764_000_000),
        ("24-nov-2025 10:00:00 -0600", 1_764_000_000),
        (" 1-Jan-1970 00:00:01 +0000", 1),
    ],
)
def test_internaldate(text: str, seconds: float) -> None:
    assert parse_internaldate(text) == seconds


@pytest.mark.parametrize("text", ["", "24-Foo-2025 16:00:00 +0000", "2025-11-24 16:00:00", "24-Nov-2025 16:00:00"])
def test_no_internaldate(text: str) -> None:
    with pytest.raises(ValueError, match="no IMAP date"):
        parse_internaldate(text)


def test_search_date_is_a_day_early() -> None:
    # SEARCH SINCE knows days only, in the server's time zone.
    assert search_date(1_764_000_000) == "23-Nov-2025"
    assert search_date(1_764_000_000 - 23 * mailbox_imap.DAY) == "31-Oct-2025"


@pytest.mark.parametrize(
    "change", [{"folder": "Entwürfe"}, {"folder": "a\r\nb"}, {"username": "a\nb"}, {"password": "a\nb"}]
)
def test_values_that_would_break_the_protocol_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(CheckError) as caught:
        ImapMailbox(**{**OPTIONS, **change})
    assert caught.value.reason == "bad_option"
    assert "secret" not in caught.value.hint


def test_missing_ca_file_is_named() -> None:
    with pytest.raises(CheckError) as caught:
        ImapMailbox(**{**OPTIONS, "tls": "starttls", "ca_path": "/nonexistent/ca.pem"})
    assert caught.value.reason == "bad_option"
    assert "/nonexistent/ca.pem" in caught.value.hint


class Connection:
    """As much of imaplib as a login takes."""

    capabilities = ("IMAP4REV1", "LOGINDISABLED")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass


def test_login_that_needs_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_imap.imaplib, "IMAP4", type("IMAP4", (Connection,), {"abort": Exception}))
    with pytest.raises(CheckError) as caught:
        ImapMailbox(**OPTIONS)._connect(1)
    assert caught.value.reason == "imap_login_failed"
    assert "endpoint.imap.tls" in caught.value.hint
