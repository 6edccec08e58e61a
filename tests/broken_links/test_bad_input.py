"""Bad input is refused in one sentence that names variable, value and remedy, before anything is changed."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from own_lab import ADDRESS, lab_ports, run_playbook

LONG_FOLDER = f"/tmp/vigie-{'x' * 80}"
RELAY = {"mail_smarthost": "smtp.example.org:587"}

REFUSALS: dict[str, tuple[dict[str, Any], str, str]] = {
    # name: what is set, how the sentence begins, and the remedy in it
    "platform": ({"vigie_platform": "mars"}, "vigie_platform=mars is not known", "choose one of: embedded, minikube."),
    "profile": ({"vigie_profile": "warp"}, "vigie_profile=warp is not known", "choose one of: standard, fast."),
    "namespace": ({"vigie_namespace": "My_Lab"}, "vigie_namespace=My_Lab is no DNS label", "use lower-case letters"),
    "long state directory": (
        {"vigie_state_dir": LONG_FOLDER},
        f"vigie_state_dir={LONG_FOLDER} is {len(LONG_FOLDER)} characters long",
        "choose a path of at most 79 characters.",
    ),
    "state directory": (
        {"vigie_state_dir": "vigie"},
        "vigie_state_dir=vigie is no absolute path",
        "begin it with a slash.",
    ),
    "release": (
        {"embedded_supported_releases": {"Debian": ["7"], "Ubuntu": ["4.10"]}},
        "localhost runs ",
        "supports Debian 7, Ubuntu 4.10. Use one of these, or try another by adding it to embedded_supported_releases.",
    ),
    "interpreter": (
        {"embedded_python": "/bin/false"},
        "embedded_python=/bin/false can't import what the lab's processes need",
        "run 'make up'",
    ),
    "source without code": (
        {"app_source": "/proc/self"},
        "app_source=/proc/self holds no flask_metrics/*.py",
        "point it at the folder 'app' of the repository.",
    ),
    "threads": ({"app_threads": 0}, "app_threads=0 is below 1", "give at least 1."),
    "span endpoint": (
        {"app_otlp_endpoint": "localhost:4318"},
        "app_otlp_endpoint=localhost:4318 is no address",
        "begin it with http:// or https://",
    ),
    "retention": (
        {"monitoring_retention": "7 days"},
        "monitoring_retention=7 days is no Prometheus duration",
        "write it like 15s, 2m or 7d.",
    ),
    "recipient": (
        {"mail_to": "nobody"},
        "mail_to=nobody is no mail address",
        "write it like oncall@example.org.",
    ),
    "two recipients": (
        {"mail_to": "a@example.org, b@example.org"},
        "mail_to=a@example.org, b@example.org is no mail address",
        "write it like oncall@example.org.",
    ),
    "relay without a port": (
        {"mail_smarthost": "smtp.example.org", "mail_password_file": "/etc/hostname"},
        "mail_smarthost=smtp.example.org is not host:port",
        "write it like smtp.gmail.com:587.",
    ),
    "no password file": (
        RELAY,
        "mail_password_file= is empty, but mail_smarthost=smtp.example.org:587 wants a login",
        "name a file that holds only the password.",
    ),
    "password file missing": (
        {**RELAY, "mail_password_file": "/nowhere/smtp_pass"},
        "mail_password_file=/nowhere/smtp_pass does not exist on localhost",
        "write the password into it and run 'chmod 600' on it.",
    ),
    "mailbox": ({"mail_maildir": "/etc/hostname"}, "mail_maildir=/etc/hostname is no folder", "choose another path."),
    "threshold 0": (
        {"alerting_restart_threshold": 0},
        "alerting_restart_threshold=0 must be a whole number of at least 1",
        "a single restart is no loop.",
    ),
    "threshold -1": (
        {"alerting_restart_threshold": -1},
        "alerting_restart_threshold=-1 must be a whole number of at least 1",
        "a single restart is no loop.",
    ),
    "threshold two": (
        {"alerting_restart_threshold": "two"},
        "alerting_restart_threshold=two must be a whole number of at least 1",
        "a single restart is no loop.",
    ),
    "restart rule": (
        {"alerting_restart_rule": "clever"},
        "alerting_restart_rule=clever is not known",
        "choose exact or seed.",
    ),
    "no Node.js": (
        {"vigie_catalog": True, "app_node": "/nowhere/node"},
        "vigie_catalog=true needs Node.js 18.19, or 20.6 or newer, on localhost, where /nowhere/node is not to be had",
        "or set vigie_catalog to false.",
    ),
    "no npm": (
        {"vigie_catalog": True, "app_npm": "/nowhere/npm"},
        "vigie_catalog=true needs npm on localhost, where /nowhere/npm is not to be had",
        "or set vigie_catalog to false.",
    ),
    "window": (
        {"alerting_restart_window": "ten minutes"},
        "alerting_restart_window=ten minutes is no Prometheus duration",
        "write it like 15s, 2m or 4h.",
    ),
    "negative window": (
        {"alerting_restart_for": "-5m"},
        "alerting_restart_for=-5m is no Prometheus duration",
        "write it like 15s, 2m or 4h.",
    ),
}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory that must not come into being."""
    return Path("/tmp") / f"vigie-{tmp_path.parent.name}-{tmp_path.name[-8:]}"


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.create_server((ADDRESS, 0)) as server:
        yield server.getsockname()[1]


def refusal(state: Path, variables: dict[str, Any], *options: str) -> str:
    """Run site.yml, which must refuse, and return its one sentence."""
    done = run_playbook("site.yml", state, {"vigie_ports": lab_ports(), **variables}, *options)
    assert done.returncode != 0, done.stdout
    assert not state.exists() and not Path(LONG_FOLDER).exists(), "something was made"
    recap = done.stdout.partition("PLAY RECAP")[2]
    assert re.search(r"changed=0 .*failed=1 ", recap), recap
    sentences = re.findall(r"^\[ERROR\]: Task failed: (?:Action|Module) failed: (.*)$", done.stdout, re.MULTILINE)
    assert len(sentences) == 1, done.stdout
    return str(sentences[0])


@pytest.mark.parametrize("name", REFUSALS)
def test_refused(state: Path, name: str) -> None:
    variables, beginning, remedy = REFUSALS[name]
    sentence = refusal(state, variables)
    assert sentence.startswith(beginning), sentence
    assert remedy in sentence, sentence


def test_busy_port(state: Path, taken_port: int) -> None:
    sentence = refusal(state, {"vigie_ports": {**lab_ports(), "app": taken_port}})
    assert sentence.startswith(f"vigie_ports.app={taken_port} is held by process "), sentence
    assert "or set vigie_ports.app to a free port" in sentence


def test_refused_in_check_mode_too(state: Path) -> None:
    sentence = refusal(state, {"mail_from": "x"}, "--check")
    assert sentence.startswith("mail_from=x is no mail address"), sentence


def test_number_given_as_text_is_fine(state: Path) -> None:
    """``-e alerting_restart_threshold=3`` gives a text; the next mistake is refused instead."""
    sentence = refusal(state, {"alerting_restart_rule": "clever"}, "-e", "alerting_restart_threshold=3")
    assert sentence.startswith("alerting_restart_rule=clever"), sentence
