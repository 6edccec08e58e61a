"""The mail catcher, over real SMTP with real TLS."""

from __future__ import annotations

import base64
import os
import re
import smtplib
import ssl
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from conftest import CATCHER, load_program

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Authority, Catcher


def test_a_good_mail_is_kept_with_its_headers(catcher: Catcher) -> None:
    catcher.start()
    before = time.time()
    catcher.send("crash loop", "oncall@example.com", "boss@example.com")
    (mail,) = catcher.mails()
    assert mail["Subject"] == "crash loop"
    assert mail["Return-Path"] == "<lab@example.com>"
    assert mail.get_all("Delivered-To") == ["oncall@example.com", "boss@example.com"]
    assert mail["Received"].startswith("from ") and "with ESMTPSA" in mail["Received"]
    assert mail.get_payload() == "run_id: r-1\n.a line that begins with a dot\n"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", mail["X-Vigie-Received"])
    received = datetime.fromisoformat(mail["X-Vigie-Received"].replace("Z", "+00:00")).timestamp()
    assert before - 0.001 <= received <= time.time()
    (file,) = (catcher.maildir / "new").iterdir()
    assert abs(file.stat().st_mtime - received) < 0.002, "the file's time is the arrival"
    assert file.stat().st_mode & 0o777 == 0o600
    assert b"\r" not in file.read_bytes(), "lines end as files here do"
    assert list((catcher.maildir / "tmp").iterdir()) == []
    (entry,) = (line for line in catcher.log() if line["event"] == "mail")
    assert (entry["file"], entry["subject"]) == (file.name, "crash loop")
    assert (entry["mail_from"], entry["rcpt_to"]) == ("lab@example.com", ["oncall@example.com", "boss@example.com"])
    assert catcher.stop() == 0


@pytest.mark.parametrize("mechanism", ["auth_plain", "auth_login"])
def test_both_mechanisms(catcher: Catcher, mechanism: str) -> None:
    catcher.start()
    with catcher.connect() as client:
        assert set(client.esmtp_features["auth"].split()) == {"PLAIN", "LOGIN"}
        client.user, client.password = catcher.username, catcher.password
        code, _ = client.auth(mechanism.removeprefix("auth_").upper(), getattr(client, mechanism))
        assert code == 235


def test_login_prompts_are_the_ones_that_every_client_knows(catcher: Catcher) -> None:
    catcher.start()
    with catcher.connect() as client:
        prompts = [client.docmd("AUTH LOGIN"), client.docmd(base64.b64encode(b"vigie").decode())]
        assert [(code, base64.b64decode(text)) for code, text in prompts] == [(334, b"Username:"), (334, b"Password:")]
        assert client.docmd("*")[0] == 501


@pytest.mark.parametrize(("username", "password"), [("vigie", "wrong"), ("vigie", ""), ("nobody", "correct horse")])
def test_wrong_credentials_are_535_and_leave_no_trace(catcher: Catcher, username: str, password: str) -> None:
    catcher.start()
    with catcher.connect() as client:
        with pytest.raises(smtplib.SMTPAuthenticationError) as refusal:
            client.login(username, password)
        assert refusal.value.smtp_code == 535
        assert client.docmd("MAIL FROM:<lab@example.com>")[0] == 530
    assert catcher.mails() == []
    assert any(line["event"] == "login_rejected" for line in catcher.log())


def test_the_log_has_no_secret(catcher: Catcher) -> None:
    catcher.start()
    catcher.send()
    with catcher.connect() as client, pytest.raises(smtplib.SMTPAuthenticationError):
        client.login("typed-the-password-here", "wrong guess")
    catcher.stop()
    log = (catcher.directory / "log").read_text()
    plain = base64.b64encode(f"\0{catcher.username}\0{catcher.password}".encode()).decode()
    words = [catcher.password, plain, "typed-the-password-here", "wrong guess"]
    words += [base64.b64encode(word.encode()).decode() for word in words]
    assert [word for word in words if word in log] == []


def test_nothing_goes_without_tls_and_nothing_without_a_login(catcher: Catcher) -> None:
    catcher.start()
    with catcher.connect(tls=False) as client:
        assert client.has_extn("starttls") and not client.has_extn("auth")
        assert client.docmd("MAIL FROM:<lab@example.com>")[0] == 530
        assert client.docmd("AUTH PLAIN", "AGEAYg==")[0] == 530
    with catcher.connect() as client:
        assert client.docmd("MAIL FROM:<lab@example.com>")[0] == 530
        assert client.docmd("RCPT TO:<oncall@example.com>")[0] == 530
        assert client.docmd("DATA")[0] == 530


def test_a_client_refuses_an_unknown_authority(catcher: Catcher, other_authority: Authority) -> None:
    catcher.start()
    with pytest.raises(ssl.SSLCertVerificationError):
        catcher.connect(authority=other_authority)
    catcher.send()  # and the server goes on
    assert any(line["event"] == "tls_failed" for line in catcher.log())


def test_a_new_password_needs_no_restart(catcher: Catcher) -> None:
    catcher.start()
    catcher.send()
    catcher.set_password("battery staple")
    with pytest.raises(smtplib.SMTPAuthenticationError):
        catcher.send()
    catcher.send(password="battery staple")
    catcher.password_file.unlink()
    with pytest.raises(smtplib.SMTPAuthenticationError) as refusal:
        catcher.send(password="battery staple")
    assert refusal.value.smtp_code == 454, "our fault, and not for ever"
    assert len(catcher.mails()) == 2


def test_the_oldest_mails_are_pruned(catcher: Catcher) -> None:
    catcher.options["--max-mails"] = "3"
    catcher.start()
    for number in range(3):
        catcher.send(f"mail {number}")
    seen = min((catcher.maildir / "new").iterdir())
    seen.rename(catcher.maildir / "cur" / f"{seen.name}:2,S")  # as a mail reader does
    for number in range(3, 5):
        catcher.send(f"mail {number}")
    assert [mail["Subject"] for mail in catcher.mails()] == ["mail 2", "mail 3", "mail 4"]


def test_a_mail_that_is_too_large_is_refused(catcher: Catcher) -> None:
    catcher.options["--max-size"] = "2000"
    catcher.start()
    with catcher.connect() as client:
        assert client.esmtp_features["size"] == "2000"
        client.login(catcher.username, catcher.password)
        assert client.mail("lab@example.com")[0] == 250
        assert client.rcpt("oncall@example.com")[0] == 250
        assert client.data("word\n" * 1000)[0] == 552
    assert catcher.mails() == []
    catcher.send()
    assert len(catcher.mails()) == 1


def test_concurrent_senders_lose_nothing(catcher: Catcher) -> None:
    catcher.start()
    senders = [
        threading.Thread(target=lambda name=name: [catcher.send(f"{name}{number}") for number in range(10)])
        for name in ("a", "b")
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    expected = {f"{name}{number}" for name in ("a", "b") for number in range(10)}
    assert sorted(mail["Subject"] for mail in catcher.mails()) == sorted(expected)


def test_a_mail_that_cannot_be_stored_is_not_accepted(catcher: Catcher) -> None:
    catcher.start()
    (catcher.maildir / "tmp").rmdir()
    with pytest.raises(smtplib.SMTPDataError) as refusal:
        catcher.send()
    assert refusal.value.smtp_code == 452
    (catcher.maildir / "tmp").mkdir()
    catcher.send()
    assert len(catcher.mails()) == 1


def test_sigterm_with_a_client_connected(catcher: Catcher) -> None:
    catcher.start()
    client = catcher.connect()
    try:
        assert catcher.stop() == 0
    finally:
        client.close()
    assert (catcher.directory / "log").read_text().count("\n") == 2, "listening, stopped, and no traceback"


def test_headers_cannot_be_forged_from_the_envelope(tmp_path: Path) -> None:
    program = load_program(CATCHER)
    envelope = program.Envelope()
    envelope.mail_from, envelope.rcpt_tos = "a@b\r\nX-Forged: 1", ["c@d\nX-Forged: 1"]
    session = program.Session.__new__(program.Session)
    session.host_name, session.peer = "host\rX-Forged: 1\udcff", ("127.0.0.1", 1)
    text = program.Handler(None, None, "here")._headers(session, envelope, 0.0)
    assert [line.partition(b":")[0] for line in text.splitlines()] == [
        b"Return-Path",
        b"Delivered-To",
        b"Received",
        b"X-Vigie-Received",
    ]


# --- refusals ---------------------------------------------------------------------------------------------------------


def refused(catcher: Catcher, *names: str) -> None:
    """The program must end with status 2 and one sentence that contains all `names`."""
    done = catcher.run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert [name for name in names if name not in done.stderr] == [], done.stderr


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_password_file_open_to_others(catcher: Catcher, mode: int) -> None:
    catcher.password_file.chmod(mode)
    refused(catcher, "--password-file", str(catcher.password_file), f"{mode:04o}", "chmod 600")


def test_a_missing_or_empty_password_file(catcher: Catcher) -> None:
    catcher.set_password("")
    refused(catcher, "--password-file", str(catcher.password_file), "empty")
    catcher.password_file.unlink()
    refused(catcher, "--password-file", str(catcher.password_file), "cannot be read")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_files_of_somebody_else(catcher: Catcher) -> None:
    catcher.password_file.chmod(0)
    refused(catcher, "--password-file", "Permission denied")


@pytest.mark.parametrize("option", ["--cert", "--key"])
def test_an_unreadable_certificate_or_key(catcher: Catcher, option: str) -> None:
    catcher.options[option] = str(catcher.directory / "missing.pem")
    refused(catcher, option, "missing.pem", "cannot be read")
    (catcher.directory / "missing.pem").write_text("this is no certificate")
    refused(catcher, option, "missing.pem", "PEM")


def test_a_key_of_another_certificate(catcher: Catcher, other_authority: Authority) -> None:
    other_authority.issue(catcher.directory / "unused.pem", catcher.directory / "other-key.pem")
    catcher.options["--key"] = str(catcher.directory / "other-key.pem")
    refused(catcher, "--key", "other-key.pem", "belongs to")


def test_an_encrypted_key_asks_nobody(catcher: Catcher) -> None:
    from cryptography.hazmat.primitives import serialization

    file = catcher.directory / "key.pem"
    key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    file.write_bytes(key.private_bytes(*form, encryption))
    refused(catcher, "--key", "unencrypted")


def test_a_maildir_that_cannot_be_written(catcher: Catcher) -> None:
    (catcher.directory / "file").write_text("in the way")
    catcher.options["--maildir"] = str(catcher.directory / "file" / "Maildir")
    refused(catcher, "--maildir", "Not a directory", "file/Maildir")


def test_a_busy_port(catcher: Catcher) -> None:
    catcher.start()
    refused(catcher, "--port", str(catcher.port), "free port")


@pytest.mark.parametrize(
    ("option", "value"), [("--port", "0"), ("--port", "smtp"), ("--max-mails", "0"), ("--max-size", "-1")]
)
def test_bad_numbers(catcher: Catcher, capsys: pytest.CaptureFixture[str], option: str, value: str) -> None:
    catcher.options[option] = value
    with pytest.raises(SystemExit) as leaving:
        load_program(CATCHER).parse_arguments(catcher.command[2:])
    assert leaving.value.code == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert option in sentence and value in sentence
