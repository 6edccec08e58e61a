"""The relay's part in a mail that stays away, against real SMTP servers."""

from __future__ import annotations

import mailbox
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.handlers import Sink
from ansible_collections.vigie.observability.plugins.module_utils import smtp_probe
from ansible_collections.vigie.observability.plugins.module_utils.smtp_probe import Relay, probe
from mail_servers import (
    PASSWORD,
    USER,
    RefusingStarttls,
    authenticate,
    compose,
    deliver,
    script_server,
    smtp_server,
    unused_port,
)


@pytest.fixture
def tls(certificates: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    return context


@pytest.fixture
def strict(tls: ssl.SSLContext) -> dict[str, Any]:
    """A relay as it should be: STARTTLS and a password."""
    return {
        "tls_context": tls,
        "require_starttls": True,
        "auth_required": True,
        "auth_require_tls": True,
        "authenticator": authenticate,
    }


@pytest.fixture
def relay(tmp_path: Path, certificates: Path) -> dict[str, Any]:
    """The relay's options as they should be, but for the port."""
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    return {
        "host": "127.0.0.1",
        "username": USER,
        "password_file": str(tmp_path / "password"),
        "ca_path": str(certificates / "ca.pem"),
    }


@pytest.fixture
def ask(run_module, tmp_path: Path):
    """Return a function that looks into an empty mailbox once and gives the result."""
    mailbox.Maildir(str(tmp_path / "Maildir"))

    def run(relay: dict[str, Any], **options: Any) -> dict[str, Any]:
        endpoint = {"maildir": str(tmp_path / "Maildir")}
        result = run_module("mail_check", **{"endpoint": endpoint, "timeout": 0, "relay": relay, **options})
        assert PASSWORD not in str(result)
        return result

    return run


def test_login_that_works_leaves_the_mailbox_reason(ask, relay, strict) -> None:
    with smtp_server(Sink(), **strict) as port:
        result = ask({**relay, "port": port})
    assert (result["failed"], result["reason"]) == (True, "mailbox_empty")


def test_wrong_password(ask, relay, strict, tmp_path) -> None:
    (tmp_path / "password").write_text("not the right one\n")
    with smtp_server(Sink(), **strict) as port:
        result = ask({**relay, "port": port})
    assert (result["failed"], result["reason"]) == (True, "smtp_auth_rejected")
    assert f"rejected the login of {USER} with 535 " in result["hint"]
    assert result["observed"] == {"count": 0, "newest": [], "mailbox": "mailbox_empty"}
    assert "not the right one" not in str(result)


def test_no_starttls(ask, relay) -> None:
    with smtp_server(Sink()) as port:
        result = ask({**relay, "port": port})
    assert (result["failed"], result["reason"]) == (True, "smtp_no_starttls")
    assert "doesn't offer STARTTLS" in result["hint"]


def test_starttls_refused(ask, relay, strict) -> None:
    with smtp_server(Sink(), RefusingStarttls, **strict) as port:
        result = ask({**relay, "port": port})
    assert (result["failed"], result["reason"]) == (True, "smtp_no_starttls")
    assert "refused STARTTLS with 454 " in result["hint"]


@pytest.mark.parametrize("ca", ["other-ca.pem", None])
def test_unknown_ca(ask, relay, strict, certificates, ca) -> None:
    with smtp_server(Sink(), **strict) as port:
        result = ask({**relay, "port": port, "ca_path": ca and str(certificates / ca)})
    assert (result["failed"], result["reason"]) == (True, "smtp_tls_untrusted")
    assert "relay.ca_path" in result["hint"]


def test_name_that_is_not_in_the_certificate(strict, certificates, monkeypatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *a, **k: [(2, 1, 6, "", ("127.0.0.1", a[1]))])
    with smtp_server(Sink(), **strict) as port:
        trouble = probe(Relay("mail.example.org", port, ca_path=str(certificates / "ca.pem")), 5)
    assert trouble
    assert trouble.reason == "smtp_tls_untrusted"
    assert "mail.example.org" in trouble.hint


def test_port_that_nobody_serves(ask, relay) -> None:
    port = unused_port()
    result = ask({**relay, "port": port})
    assert (result["failed"], result["reason"]) == (True, "smtp_unreachable")
    assert f"nc -vz 127.0.0.1 {port}" in result["hint"]


def test_catcher_that_was_never_up_explains_the_missing_maildir(ask, relay, tmp_path) -> None:
    result = ask({**relay, "port": unused_port()}, endpoint={"maildir": str(tmp_path / "never-made")})
    assert (result["failed"], result["reason"]) == (True, "smtp_unreachable")
    assert result["observed"] == {"mailbox": "mailbox_unreadable"}


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ([b"554 no service here\r\n"], "554 no service here"),
        ([], "unexpectedly closed"),
        ([b"SSH-2.0-OpenSSH\r\n"], "127.0.0.1"),
    ],
)
def test_something_else_than_a_relay(ask, relay, lines, word) -> None:
    """No SMTP server says this on demand, so a script does."""
    with script_server(*lines) as port:
        result = ask({**relay, "port": port})
    assert (result["failed"], result["reason"]) == (True, "smtp_unreachable")
    assert word in result["hint"]


def test_relay_that_gives_no_answer(ask, relay) -> None:
    with script_server(b"220 ready\r\n") as port:
        result = ask({**relay, "port": port}, request_timeout=0.3)
    assert (result["failed"], result["reason"]) == (True, "smtp_unreachable")


def test_relay_that_takes_no_logins(ask, relay, tls) -> None:
    with smtp_server(Sink(), tls_context=tls, auth_exclude_mechanism=["LOGIN", "PLAIN"]) as port:
        result = ask({**relay, "port": port})
    assert (result["failed"], result["reason"]) == (True, "smtp_auth_rejected")


def test_open_relay_without_tls_can_be_meant(ask) -> None:
    with smtp_server(Sink()) as port:
        result = ask({"host": "127.0.0.1", "port": port, "starttls": False})
    assert result["reason"] == "mailbox_empty"


@pytest.mark.filterwarnings(
    "ignore:Requiring AUTH while not requiring TLS"
)  # the server doesn't know what is around it
def test_tls_from_the_beginning(tls, certificates, monkeypatch) -> None:
    login = {"auth_required": True, "auth_require_tls": False, "authenticator": authenticate}
    with smtp_server(Sink(), ssl_context=tls, **login) as port:
        monkeypatch.setattr(smtp_probe, "SUBMISSIONS", port)  # 465 needs root
        good = Relay("127.0.0.1", port, USER, PASSWORD, str(certificates / "ca.pem"))
        assert probe(good, 5) is None
        untrusted = probe(Relay("127.0.0.1", port, USER, PASSWORD, str(certificates / "other-ca.pem")), 5)
        rejected = probe(Relay("127.0.0.1", port, USER, "wrong", str(certificates / "ca.pem")), 5)
    assert untrusted
    assert rejected
    assert (untrusted.reason, rejected.reason) == ("smtp_tls_untrusted", "smtp_auth_rejected")


def test_relay_is_left_alone_when_the_mail_is_there(ask, relay, tmp_path) -> None:
    deliver(tmp_path / "Maildir", compose())
    assert ask({**relay, "port": unused_port()})["matched"]


def test_relay_is_left_alone_when_the_mail_must_stay_away(ask, relay) -> None:
    assert ask({**relay, "port": unused_port()}, expect="absent")["matched"]


def test_check_mode_tells_the_same_and_does_not_fail(ask, relay, run_module, tmp_path) -> None:
    endpoint = {"maildir": str(tmp_path / "Maildir")}
    result = run_module(
        "mail_check", check_mode=True, endpoint=endpoint, relay={**relay, "port": unused_port()}, timeout=60
    )
    assert (result["failed"], result["matched"], result["reason"]) == (False, False, "smtp_unreachable")
