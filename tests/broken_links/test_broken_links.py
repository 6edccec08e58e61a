"""Each link of the chain broken once in a real lab, named by the check whose task that is, and mended again.

Every test asks the same question twice: while the link is broken, when the check must fail with exactly the right reason
and a hint that names the culprit, and after the repair, when it must pass.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from mail_servers import make_certificates
from own_lab import ADDRESS, APP, Lab, Loop, Result, free_ports

PATIENT = 20
"""Seconds that a mended chain gets at most to work again; what holds is found at once."""

NOBODY = 65534
WATCHDOG = {"alert": "Watchdog", "receiver": "deadman"}
HEARTBEAT = r"\[FIRING\] Watchdog"


def assert_named(result: Result, reason: str, *culprits: str) -> None:
    """A check failed for this reason, and its hint names what is to blame."""
    assert (result["failed"], result["matched"], result["reason"]) == (True, False, reason), result
    for culprit in culprits:
        assert culprit in result["hint"], result


def assert_mended(result: Result) -> None:
    """A check passes."""
    assert (result["failed"], result["matched"], result["reason"]) == (False, True, "ok"), result


@pytest.fixture
def loop(lab: Lab) -> Loop:
    """A pod that crashed once too often: its alert fires, is routed and was mailed."""
    return lab.looping()


# The application and its metrics


def app_scraped(lab: Lab, **options: Any) -> Result:
    since = time.time()
    return lab.check("scrape_check", job=APP, origin=lab.endpoint("app"), since=since, **options)


def test_application_down(lab: Lab) -> None:
    with lab.stopped(APP):
        assert_named(app_scraped(lab), "exporter_down", f"{lab.url('app')}/metrics", "connection refused", "start it")
    assert_mended(app_scraped(lab, timeout=PATIENT))


def test_restart_exporter_down(lab: Lab) -> None:
    scraped = {"job": "supervisor", "origin": lab.endpoint("supervisor_exporter")}
    with lab.stopped("supervisor-exporter"):
        result = lab.check("scrape_check", **scraped, since=time.time())
        assert_named(result, "exporter_down", f"{lab.url('supervisor_exporter')}/metrics")
    assert_mended(lab.check("scrape_check", **scraped, since=time.time(), timeout=PATIENT))


def test_wrong_port_in_the_scrape_configuration(lab: Lab) -> None:
    right, wrong = f"{ADDRESS}:{lab.ports['app']}", f"{ADDRESS}:{free_ports(1)[0]}"
    with lab.edited(lab.prometheus_config, (right, wrong), retargeted=True):
        assert_named(app_scraped(lab), "wrong_address", f"scrapes http://{wrong}/metrics", f"answers at http://{right}")
    assert_mended(app_scraped(lab, timeout=PATIENT))


def test_wrong_path_in_the_scrape_configuration(lab: Lab) -> None:
    path = f"job_name: {APP}\n    metrics_path: /metriks\n"
    with lab.edited(lab.prometheus_config, (f"job_name: {APP}\n", path), retargeted=True):
        assert_named(app_scraped(lab), "scrape_failed", "/metriks", "404")
    assert_mended(app_scraped(lab, timeout=PATIENT))


def test_job_missing(lab: Lab) -> None:
    with lab.edited(lab.prometheus_config, ("job_name: node\n", "job_name: nodes\n"), retargeted=True):
        assert_named(lab.check("scrape_check", job="node"), "job_unknown", "no job node;", f"{APP}, ", "/config")
    assert_mended(lab.check("scrape_check", job="node", timeout=PATIENT))


def test_target_dropped_by_relabelling(lab: Lab) -> None:
    drop = "job_name: node\n    relabel_configs:\n      - {action: drop, source_labels: [job], regex: node}\n"
    with lab.edited(lab.prometheus_config, ("job_name: node\n", drop), retargeted=True):
        result = lab.check("scrape_check", job="node")
        assert_named(result, "target_dropped", str(lab.ports["node_exporter"]), "relabel_configs")
    assert_mended(lab.check("scrape_check", job="node", timeout=PATIENT))


def test_metric_renamed(lab: Lab) -> None:
    asked = {"query": f'http_requests_total{{job="{APP}"}}'}
    rename = (
        "    metric_relabel_configs:\n"
        "      - {source_labels: [__name__], regex: http_requests_total, "
        "target_label: __name__, replacement: http_request_total}\n"
    )
    with lab.edited(lab.prometheus_config, (f"job_name: {APP}\n", f"job_name: {APP}\n{rename}")):
        result = lab.check("promql_check", **asked, since=time.time())
        assert_named(result, "metric_unknown", "No series is called http_requests_total", "http_request_total,")
    assert_mended(lab.check("promql_check", **asked, since=time.time(), timeout=PATIENT))


def test_prometheus_down(lab: Lab) -> None:
    questions: list[tuple[str, dict[str, Any]]] = [
        ("scrape_check", {"job": APP}),
        ("promql_check", {"query": "up"}),
        ("alert_check", {"alert": "PodCrashLoop", "state": "loaded"}),
    ]
    with lab.stopped("prometheus"):
        for module, options in questions:
            assert_named(lab.check(module, **options, timeout=0.5), "unreachable", lab.url("prometheus"), "refused")
    for module, options in questions:
        assert_mended(lab.check(module, **options, timeout=PATIENT))


# Rules


def test_rule_file_invalid(lab: Lab) -> None:
    loaded = {"alert": "PodCrashLoop", "state": "loaded"}
    with lab.edited(lab.rules, ("expr: vector(1)", "expr: vector(1"), accepted=False):
        assert_named(lab.check("alert_check", **loaded), "rule_config_rejected", "rule file", "promtool check config")
    assert_mended(lab.check("alert_check", **loaded, timeout=PATIENT))


def test_rule_not_loaded(lab: Lab) -> None:
    loaded = {"alert": "PodCrashLoop", "state": "loaded"}
    with lab.edited(lab.rules, ("alert: PodCrashLoop\n", "alert: PodCrashLop\n")):
        result = lab.check("alert_check", **loaded)
        assert_named(result, "rule_not_loaded", "No rule is called PodCrashLoop", "PodCrashLop,", str(lab.rules))
    assert_mended(lab.check("alert_check", **loaded, timeout=PATIENT))


def test_rule_fails_when_it_is_evaluated(lab: Lab) -> None:
    loaded = {"alert": "Watchdog", "state": "loaded"}
    with lab.edited(lab.rules, ("expr: vector(1)", "expr: up * on () group_left () up")):
        assert_named(lab.check("alert_check", **loaded), "rule_unhealthy", "many-to-many")
    assert_mended(lab.check("alert_check", **loaded, timeout=PATIENT))


def test_expression_false(lab: Lab, loop: Loop) -> None:
    firing = {"alert": "PodCrashLoop", "labels": loop.labels}
    with lab.edited(lab.rules, ("> 2\n", "> 200\n")):
        assert_mended(lab.check("alert_check", **firing, state="inactive", timeout=PATIENT))
        assert_named(lab.check("alert_check", **firing, timeout=0), "expression_false", loop.pod, "> 200")
    assert_mended(routed(lab, loop, timeout=PATIENT))


def test_alert_of_another_pod_does_not_count(lab: Lab, loop: Loop) -> None:
    other = {**loop.labels, "pod": f"{APP}-00000"}
    result = lab.check("alert_check", alert="PodCrashLoop", labels=other, timeout=1)
    assert_named(result, "expression_false", f"'pod': '{other['pod']}'", "only [{", loop.pod)
    assert_mended(lab.check("alert_check", alert="PodCrashLoop", labels=loop.labels, since=loop.since))


def test_for_too_long(lab: Lab, loop: Loop) -> None:
    firing = {"alert": "PodCrashLoop", "labels": loop.labels, "since": loop.since}
    with lab.edited(lab.rules, ("for: 0s\n", "for: 10m\n")):
        # The reload carries a firing alert over; only a new one has to wait.
        lab.restart("prometheus")
        result = lab.check("alert_check", **firing)
        assert_named(result, "for_running", "'for' of 600 s ends in 5")
    assert_mended(lab.check("alert_check", **firing, timeout=PATIENT))


# Routes


def routed(lab: Lab, loop: Loop, **options: Any) -> Result:
    wanted = {"alert": "PodCrashLoop", "labels": loop.labels, "state": "routed", "receiver": "mail"}
    return lab.check("alert_check", **{**wanted, "since": loop.since, "timeout": 1, **options})


def test_route_to_null(lab: Lab, loop: Loop) -> None:
    with lab.edited(lab.alertmanager_config, (r"notify=\"mail\"", r"notify=\"male\"")):
        assert_named(
            routed(lab, loop), "routed_elsewhere", "to 'null', which by its name sends nothing", "not to 'mail'"
        )
    assert_mended(routed(lab, loop, timeout=PATIENT))


def test_inhibited(lab: Lab, loop: Loop) -> None:
    inhibit = (
        "inhibit_rules:\n"
        "  - {source_matchers: ['alertname=Watchdog'], target_matchers: ['severity=critical'], equal: []}\n"
    )
    with lab.edited(lab.alertmanager_config, ("receivers:\n", f"{inhibit}receivers:\n")):
        assert_named(routed(lab, loop), "inhibited", "Watchdog", "inhibit_rules")
    assert_mended(routed(lab, loop, timeout=PATIENT))


def test_silence_active(lab: Lab, loop: Loop) -> None:
    silence = {"matchers": {"namespace": "vigie"}, "comment": "too quiet"}
    made = lab.check("alert_silence", **silence)
    try:
        assert_named(
            routed(lab, loop),
            "silenced",
            f"amtool silence expire --alertmanager.url={lab.url('alertmanager')} {made['silence_id']}",
        )
    finally:
        lab.check("alert_silence", **silence, state="absent")
    assert_mended(routed(lab, loop, timeout=PATIENT))


def test_alertmanager_down(lab: Lab, loop: Loop) -> None:
    with lab.stopped("alertmanager"):
        assert_named(routed(lab, loop), "alertmanager_unreachable", lab.url("alertmanager"), "refused")
    assert_mended(routed(lab, loop, timeout=PATIENT))


def sending_to(target: str) -> str:
    """Return the end of the section of prometheus.yml that names Alertmanager."""
    return f"- targets: [{target}]\n\nscrape_configs"


def test_prometheus_knows_no_alertmanager(lab: Lab, loop: Loop) -> None:
    right = f'"{ADDRESS}:{lab.ports["alertmanager"]}"'
    with lab.edited(lab.prometheus_config, (sending_to(right), sending_to(""))):
        lab.restart("alertmanager")  # it forgets what it was told before
        assert_named(routed(lab, loop), "no_alertmanager", "knows no Alertmanager", lab.url("prometheus"))
    assert_mended(routed(lab, loop, timeout=PATIENT))


def test_prometheus_sends_to_a_wrong_port(lab: Lab, loop: Loop) -> None:
    right, wrong = f"{ADDRESS}:{lab.ports['alertmanager']}", f"{ADDRESS}:{free_ports(1)[0]}"
    with lab.edited(lab.prometheus_config, (sending_to(f'"{right}"'), sending_to(f'"{wrong}"'))):
        lab.restart("alertmanager")
        # Prometheus takes up another address some seconds after the reload.
        result = routed(lab, loop, timeout=6)
        assert_named(result, "not_sent", f"sends to http://{wrong}", f"http://{right} doesn't hold it")
    assert_mended(routed(lab, loop, timeout=PATIENT))


# The mail's way out


def relay_address(lab: Lab) -> str:
    return f"{ADDRESS}:{lab.ports['smtp']}"


def beat(lab: Lab, **options: Any) -> Result:
    """Ask for a mail of the dead man's switch that arrived from now on."""
    since = time.time()
    return lab.check("mail_check", **{"subject": HEARTBEAT, "since": since, "relay": lab.relay, **options})


def test_catcher_down(lab: Lab) -> None:
    with lab.heartbeats():
        with lab.stopped("mail"):
            assert_named(beat(lab), "smtp_unreachable", relay_address(lab), "refused")
        assert_mended(beat(lab, timeout=PATIENT))


def test_wrong_smtp_password(lab: Lab) -> None:
    right = lab.relay["password_file"]
    wrong = Path(f"{right}.wrong")
    wrong.write_text("not the password")
    wrong.chmod(0o600)
    try:
        with lab.heartbeats((f'"{right}"', f'"{wrong}"')):
            lab.restart("alertmanager")  # its counters begin anew
            result = beat(lab, relay={**lab.relay, "password_file": str(wrong)})
            assert_named(result, "smtp_auth_rejected", "login of vigie@localhost", "535", relay_address(lab))
            assert "not the password" not in str(result)
            result = lab.check("alert_check", **WATCHDOG, state="notified", timeout=6)
            assert_named(result, "notification_failed", "by email")
        with lab.heartbeats():
            assert_mended(beat(lab, timeout=PATIENT))
            assert_mended(lab.check("alert_check", **WATCHDOG, state="notified", timeout=PATIENT))
    finally:
        wrong.unlink()


def test_relay_without_starttls(lab: Lab) -> None:
    with lab.heartbeats():
        with lab.stopped("mail"):
            plain = Controller(Sink(), hostname=ADDRESS, port=lab.ports["smtp"])
            plain.start()
            try:
                result = beat(lab)
            finally:
                plain.stop()
            assert_named(result, "smtp_no_starttls", relay_address(lab), "doesn't offer STARTTLS")
        assert_mended(beat(lab, timeout=PATIENT))


def test_certificate_of_an_unknown_authority(lab: Lab, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    pairs = [(lab.state / "tls/smtp.crt", "server.pem"), (lab.state / "tls/smtp.key", "server.key")]
    originals = [(path, path.read_bytes()) for path, _name in pairs]
    with lab.heartbeats():
        try:
            for path, name in pairs:
                path.write_bytes((tmp_path / name).read_bytes())
            lab.restart("mail")
            assert_named(beat(lab), "smtp_tls_untrusted", relay_address(lab), "issuer certificate", "ca_path")
        finally:
            for path, content in originals:
                path.write_bytes(content)
            lab.restart("mail")
        assert_mended(beat(lab, timeout=PATIENT))


# The mailbox


def test_mailbox_of_someone_else(lab: Lab) -> None:
    with lab.heartbeats(('to: "oncall@localhost"', 'to: "somebody@localhost"')):
        result = beat(lab, recipient="oncall@localhost")
        assert_named(result, "other_recipient", "for somebody@localhost instead of oncall@localhost")
    with lab.heartbeats():
        assert_mended(beat(lab, recipient="oncall@localhost", timeout=PATIENT))


def mail_of(lab: Lab, loop: Loop, **options: Any) -> Result:
    """Ask for the mail of a crashed pod, which is there."""
    subject = rf"\[FIRING\] PodCrashLoop vigie/{loop.pod}$"
    wanted = {"recipient": "oncall@localhost", "subject": subject, "run_id": loop.run_id, "since": loop.since}
    return lab.check("mail_check", **{**wanted, "relay": lab.relay, "timeout": 1, **options})


def test_stale_mail_of_an_earlier_run(lab: Lab, loop: Loop) -> None:
    # The newest one: an Alertmanager that an earlier case restarted may have sent another.
    newest = mail_of(lab, loop, since=None)["times"]["arrived"]
    result = mail_of(lab, loop, since=newest + 0.5)
    assert_named(result, "stale_mail", "A mail that fits arrived at", "and none after")
    assert_mended(mail_of(lab, loop))


def test_run_id_of_another_run(lab: Lab, loop: Loop) -> None:
    assert_named(mail_of(lab, loop, run_id=f"{loop.run_id}0"), "run_id_mismatch", f"without run_id {loop.run_id}0")
    assert_mended(mail_of(lab, loop))


def test_empty_mailbox(lab: Lab, loop: Loop) -> None:
    new = lab.maildir / "new"
    with lab.stopped("mail"), aside(new):
        new.mkdir()
        assert_named(mail_of(lab, loop, relay=None), "mailbox_empty", str(lab.maildir))
        new.rmdir()
    assert_mended(mail_of(lab, loop))


def test_maildir_missing(lab: Lab, loop: Loop) -> None:
    with aside(lab.maildir):
        assert_named(mail_of(lab, loop), "mailbox_unreadable", f"{lab.maildir} does not exist")
    assert_mended(mail_of(lab, loop))


def test_maildir_unreadable(lab: Lab, loop: Loop) -> None:
    with forbidden(lab.maildir / "new"):
        assert_named(
            mail_of(lab, loop, relay=None), "mailbox_unreadable", f"{lab.maildir}", "may not be read", "ls -ld"
        )
    assert_mended(mail_of(lab, loop))


@contextlib.contextmanager
def aside(path: Path) -> Iterator[None]:
    """Keep a folder under another name."""
    other = path.with_name(f"{path.name}.aside")
    path.rename(other)
    try:
        yield
    finally:
        other.rename(path)


@contextlib.contextmanager
def forbidden(folder: Path) -> Iterator[None]:
    """Keep a folder unreadable for this process; root, whom no mode stops, becomes nobody."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
        return
    folder.chmod(0)
    try:
        yield
    finally:
        folder.chmod(0o700)


# Questions that can't be answered as they were asked

FUTURE_QUESTIONS: dict[str, dict[str, Any]] = {
    "scrape_check": {"job": APP},
    "promql_check": {"query": "up"},
    "alert_check": {**WATCHDOG, "state": "routed"},
    "mail_check": {"subject": HEARTBEAT},
}


@pytest.mark.parametrize("module", FUTURE_QUESTIONS)
def test_clock_bound_in_the_future(lab: Lab, module: str) -> None:
    question = FUTURE_QUESTIONS[module]
    started = time.monotonic()
    result = lab.check(module, **question, since=time.time() + 3600, timeout=PATIENT)
    assert_named(result, "since_in_future", "3600 s after this host's clock", "date -u")
    assert result["attempts"] == 0 and time.monotonic() - started < PATIENT, "waiting can't help"
    assert_mended(lab.check(module, **question, since="-10m", timeout=PATIENT))


def test_mail_that_should_stay_away_comes(lab: Lab) -> None:
    with lab.heartbeats():
        result = beat(lab, relay=None, expect="absent", timeout=PATIENT)
        assert_named(result, "appeared", "stay away for the whole window")
        assert re.search(HEARTBEAT, result["observed"]["subject"]), result
    assert_mended(beat(lab, relay=None, expect="absent", timeout=1))
