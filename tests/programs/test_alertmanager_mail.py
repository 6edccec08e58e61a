"""The real Alertmanager sends one alert to the catcher; the mail is read back."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from conftest import DEADLINE, free_port, wait_for

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

    from conftest import Authority, Catcher

CONFIGURATION = """\
global:
  smtp_smarthost: localhost:{smtp}
  smtp_from: lab@example.com
  smtp_auth_username: {username}
  smtp_auth_password_file: {password_file}
  smtp_require_tls: true
route:
  receiver: mail
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: mail
    email_configs:
      - to: oncall@example.com
        send_resolved: true
        tls_config:
          ca_file: {ca_file}
        headers:
          Subject: "[{{{{ .Status | toUpper }}}}] {{{{ .CommonLabels.alertname }}}}"
          X-Vigie-Alert: "{{{{ .CommonLabels.alertname }}}}"
        text: "run_id: {{{{ .CommonAnnotations.run_id }}}}"
        html: ""
"""


class Alertmanager:
    """A running Alertmanager."""

    def __init__(self, port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = log

    def get(self, path: str) -> str:
        """Body of a GET, empty while it does not answer."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=DEADLINE) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    def post_alert(self) -> None:
        """Post one alert through the API."""
        alert = {"labels": {"alertname": "PodCrashLoop"}, "annotations": {"run_id": "r-1"}}
        request = urllib.request.Request(
            f"{self.url}/api/v2/alerts",
            data=json.dumps([alert]).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            assert answer.status == 200


@pytest.fixture
def start_alertmanager(
    catcher: Catcher, alertmanager_binary: tuple[Path, Path], tmp_path: Path
) -> Iterator[Callable[..., Alertmanager]]:
    """Factory of an Alertmanager that mails to the catcher; ended afterwards."""
    processes: list[subprocess.Popen[bytes]] = []
    program, folder = alertmanager_binary

    def start(ca_file: Path) -> Alertmanager:
        # Without a line end: Alertmanager before 0.27 sends the file as it is.
        (tmp_path / "smtp_pass").write_text(catcher.password)
        configuration = tmp_path / "alertmanager.yml"
        configuration.write_text(
            CONFIGURATION.format(
                smtp=catcher.port,
                username=catcher.username,
                password_file=tmp_path / "smtp_pass",
                ca_file=ca_file,
            )
        )
        port = free_port()
        log = tmp_path / "alertmanager.log"
        with log.open("wb") as output:
            processes.append(
                subprocess.Popen(
                    [
                        str(program),
                        f"--config.file={configuration}",
                        f"--storage.path={tmp_path / 'data'}",
                        f"--web.listen-address=127.0.0.1:{port}",
                        "--cluster.listen-address=",
                    ],
                    cwd=folder,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            )
        alertmanager = Alertmanager(port, log)
        wait_for(lambda: alertmanager.get("/-/ready") or processes[-1].poll() is not None, "Alertmanager ready")
        assert processes[-1].poll() is None, log.read_text()
        return alertmanager

    yield start
    for process in processes:
        process.kill()
        process.wait()


def one_mail(catcher: Catcher, alertmanager: Alertmanager) -> Message:
    """The one mail in the Maildir, once it is there."""

    def look() -> list[Message]:
        return catcher.mails()

    try:
        (mail,) = wait_for(look, "the mail")
    except pytest.fail.Exception as failure:
        pytest.fail(f"{failure}; Alertmanager's log: {alertmanager.log.read_text()}")
    return mail


def test_an_alert_becomes_a_mail(catcher: Catcher, start_alertmanager: Callable[..., Alertmanager]) -> None:
    catcher.start()
    alertmanager = start_alertmanager(catcher.authority.file)
    alertmanager.post_alert()
    mail = one_mail(catcher, alertmanager)
    assert mail["Subject"] == "[FIRING] PodCrashLoop"
    assert mail["X-Vigie-Alert"] == "PodCrashLoop"
    assert mail["Delivered-To"] == "oncall@example.com"
    body = "".join(str(part.get_payload(decode=True), "utf-8") for part in mail.walk() if not part.is_multipart())  # type: ignore[arg-type]
    assert "run_id: r-1" in body
    assert any(line["event"] == "login" and line["username"] == catcher.username for line in catcher.log())


def test_no_mail_to_an_unknown_authority(
    catcher: Catcher, other_authority: Authority, start_alertmanager: Callable[..., Alertmanager]
) -> None:
    catcher.start()
    alertmanager = start_alertmanager(other_authority.file)
    alertmanager.post_alert()
    wait_for(lambda: any(line["event"] == "tls_failed" for line in catcher.log()), "Alertmanager's refusal of the CA")
    assert catcher.mails() == []
