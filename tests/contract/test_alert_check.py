"""alert_check against a real Prometheus and Alertmanager: each state, and each link of the chain broken."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from systems import (
    AlertmanagerServer,
    Exporter,
    PrometheusServer,
    RunModule,
    WebServer,
    eventually,
    fetch,
    free_port,
    rule,
)

Options = dict[str, Any]


@pytest.fixture
def am(alertmanager: AlertmanagerServer) -> Options:
    return {"alertmanager": {"url": alertmanager.url}}


# What holds


def test_loaded(run_module: RunModule, at: Options) -> None:
    result = run_module("alert_check", **at, alert="Idle", labels={"severity": "critical"}, state="loaded")
    assert result["matched"] and result["reason"] == "ok", result
    assert abs(result["times"]["last_evaluation"] - time.time()) < 10


def test_inactive(run_module: RunModule, at: Options) -> None:
    since = time.time()
    result = run_module("alert_check", **at, alert="Idle", state="inactive", since=since)
    assert result["matched"] and result["times"]["last_evaluation"] > since


def test_inactive_for_these_labels_while_others_fire(run_module: RunModule, at: Options) -> None:
    assert run_module("alert_check", **at, alert="Fires", labels={"pod": "another"}, state="inactive")["matched"]


def test_pending(run_module: RunModule, at: Options) -> None:
    result = run_module("alert_check", **at, alert="Waits", state="pending")
    assert result["matched"] and result["times"]["active_at"] < time.time()


def test_firing(run_module: RunModule, at: Options) -> None:
    result = run_module("alert_check", **at, alert="Fires", labels={"case": "fires"})
    assert result["matched"] and result["attempts"] == 1
    assert result["times"]["fired_at"] == result["times"]["active_at"]
    assert result["observed"]["alerts"][0]["labels"]["team"] == "red"


def test_fired_at_is_later_by_the_rules_for(run_module: RunModule, at: Options, exporter: Exporter) -> None:
    started = time.time()
    exporter.set(ripens=1)
    result = run_module("alert_check", **at, alert="Ripens", since=started)
    assert result["matched"], result
    # Samples have whole milliseconds, activeAt has nanoseconds.
    assert 0.999 <= result["times"]["fired_at"] - result["times"]["active_at"] < 2.0
    assert result["times"]["fired_at"] <= time.time()


def test_routed(run_module: RunModule, at: Options, am: Options) -> None:
    result = run_module("alert_check", **at, **am, alert="Fires", state="routed", receiver="hook")
    assert result["matched"], result
    assert result["times"]["starts_at"] <= result["times"]["received_at"] < result["times"]["ends_at"]
    firing = run_module("alert_check", **at, alert="Fires")
    assert result["times"]["starts_at"] == pytest.approx(firing["times"]["fired_at"], abs=0.002)


def test_notified(run_module: RunModule, at: Options, am: Options, hook: WebServer) -> None:
    result = run_module("alert_check", **at, **am, alert="Fires", state="notified", receiver="hook")
    assert result["matched"], result
    assert "/" in hook.requests


def test_silenced(run_module: RunModule, at: Options, am: Options, alertmanager: AlertmanagerServer) -> None:
    silence = run_module("alert_silence", endpoint=am["alertmanager"], matchers={"alertname": "Hushed"}, duration="10m")
    result = run_module("alert_check", **at, **am, alert="Hushed", state="silenced", receiver="hook")
    assert result["matched"], result
    assert result["observed"]["alerts"][0]["silenced_by"] == [silence["silence_id"]]


def test_resolved(run_module: RunModule, at: Options, am: Options, exporter: Exporter) -> None:
    started = time.time()
    exporter.set(passes=1)
    assert run_module("alert_check", **at, **am, alert="Passes", state="routed", since=started)["matched"]
    asked = time.time()
    exporter.set(passes=0)
    result = run_module("alert_check", **at, **am, alert="Passes", state="resolved", since=started)
    assert result["matched"], result
    # keep_firing_for is one second.
    assert asked + 0.9 < result["times"]["ends_at"] < time.time() + 1
    assert result["times"]["last_firing"] < result["times"]["ends_at"]


def test_the_state_is_waited_for(run_module: RunModule, at: Options, exporter: Exporter) -> None:
    exporter.set(comes=1)
    result = run_module("alert_check", **at, alert="Comes", state="firing")
    assert result["matched"], result
    exporter.set(comes=0)
    assert run_module("alert_check", **at, alert="Comes", state="inactive")["matched"]


# What does not

CASES: dict[str, tuple[Options, str]] = {
    "rule_not_loaded": ({"alert": "Missing"}, "Prometheus knows Broken, Comes, Fires"),
    "rule_not_loaded for lack of labels": ({"alert": "Fires", "labels": {"severity": "low"}}, "but with labels"),
    "rule_not_loaded though wanted": ({"alert": "Missing", "state": "loaded"}, "look at rule_files"),
    "rule_unhealthy": ({"alert": "Broken"}, "many-to-many"),
    "rule_unhealthy though wanted": ({"alert": "Broken", "state": "loaded"}, "many-to-many"),
    "expression_false": ({"alert": "Idle"}, 'case_value{case="idle"} > 0'),
    "expression_false for these labels": ({"alert": "Fires", "labels": {"case": "other"}}, "'case': 'fires'"),
    "for_running": ({"alert": "Waits"}, "'for' of 3600 s ends in 3"),
    "already_firing": ({"alert": "Fires", "state": "pending"}, "ask for state=firing"),
    "still_firing": ({"alert": "Fires", "state": "inactive"}, "is firing since"),
    "still_firing while it waits": ({"alert": "Waits", "state": "inactive"}, "is pending since"),
}


@pytest.mark.parametrize("name", CASES)
def test_reason_in_prometheus(run_module: RunModule, quick: Options, name: str) -> None:
    options, words = CASES[name]
    result = run_module("alert_check", **quick, **options)
    assert result["failed"], result
    assert result["reason"] == name.split(maxsplit=1)[0], result["hint"]
    assert words in result["hint"]


LATER_CASES: dict[str, tuple[Options, str]] = {
    "routed_elsewhere": ({"alert": "Nobody"}, "to 'null', which by its name sends nothing, to no other"),
    "routed_elsewhere than to the receiver": ({"alert": "Fires", "receiver": "mail"}, "to 'hook', not to 'mail'"),
    "inhibited": ({"alert": "Inhibited"}, "Another alert inhibits it: alertname=Fires"),
    "not_silenced": ({"alert": "Fires", "state": "silenced"}, "No silence matches"),
    "still_firing": ({"alert": "Fires", "state": "resolved"}, "stays so while its expression is true"),
    "not_fired": ({"alert": "Idle", "state": "resolved"}, "did not fire after"),
    # The first broken link is named, not the last one.
    "expression_false": ({"alert": "Idle"}, "gives nothing"),
    "for_running": ({"alert": "Waits"}, "ends in"),
    "rule_not_loaded": ({"alert": "Missing"}, "No rule is called Missing"),
    "rule_unhealthy": ({"alert": "Broken", "state": "resolved"}, "many-to-many"),
}


@pytest.mark.parametrize("name", LATER_CASES)
def test_reason_in_alertmanager(run_module: RunModule, quick: Options, am: Options, name: str) -> None:
    options, words = LATER_CASES[name]
    result = run_module("alert_check", **quick, **am, **{"state": "routed", **options})
    assert result["failed"], result
    assert result["reason"] == name.split(maxsplit=1)[0], result["hint"]
    assert words in result["hint"]


def test_a_rule_that_breaks_keeps_its_alert(
    run_module: RunModule, at: Options, quick: Options, exporter: Exporter
) -> None:
    exporter.set(twin_a=1)
    assert run_module("alert_check", **at, alert="Twins")["matched"]
    exporter.set(twin_b=1)
    eventually(
        lambda: run_module("alert_check", **at, alert="Twins", state="loaded", check_mode=True)["reason"] != "ok",
        "the failure of the rule",
    )
    assert run_module("alert_check", **quick, alert="Twins")["matched"]
    result = run_module("alert_check", **quick, alert="Twins", state="inactive")
    assert (result["failed"], result["reason"]) == (True, "rule_unhealthy"), result


def test_silenced_though_it_should_be_routed(
    run_module: RunModule, at: Options, quick: Options, am: Options, alertmanager: AlertmanagerServer
) -> None:
    run_module("alert_silence", endpoint=am["alertmanager"], matchers={"alertname": "Hushed"}, duration="10m")
    result = run_module("alert_check", **quick, **am, alert="Hushed", state="routed")
    assert (result["failed"], result["reason"]) == (True, "silenced"), result
    assert "amtool silence expire" in result["hint"]


@pytest.mark.parametrize("state", ["firing", "pending", "routed", "silenced"])
def test_stale_alert(run_module: RunModule, quick: Options, am: Options, state: str) -> None:
    alert = {"pending": "Waits", "silenced": "Hushed"}.get(state, "Fires")
    result = run_module("alert_check", **quick, **am, alert=alert, state=state, since=time.time())
    assert (result["failed"], result["reason"]) == (True, "stale_alert"), result
    assert "let that one resolve first" in result["hint"]


def test_resolved_before_since_is_not_fired(run_module: RunModule, quick: Options, am: Options) -> None:
    result = run_module("alert_check", **quick, **am, alert="Comes", state="resolved", since=time.time())
    assert result["reason"] == "not_fired"


def test_alertmanager_unreachable(run_module: RunModule, quick: Options) -> None:
    closed = {"url": f"http://127.0.0.1:{free_port()}"}
    result = run_module("alert_check", **quick, alertmanager=closed, alert="Fires", state="routed")
    assert result["reason"] == "alertmanager_unreachable"
    assert closed["url"] in result["hint"]
    # An earlier broken link comes first.
    result = run_module("alert_check", **quick, alertmanager=closed, alert="Idle", state="routed")
    assert result["reason"] == "expression_false"
    # Nobody knows what is absent from an Alertmanager that doesn't answer.
    result = run_module("alert_check", **quick, alertmanager=closed, alert="Idle", state="routed", expect="absent")
    assert (result["failed"], result["reason"]) == (True, "alertmanager_unreachable")


@pytest.fixture(scope="module")
def failing(make_alertmanager: Callable[[], AlertmanagerServer]) -> AlertmanagerServer:
    """A real Alertmanager to which Prometheus doesn't send, and whose mail server refuses connections."""
    server = make_alertmanager()
    mail = {
        "to": "a@example.com",
        "from": "b@example.com",
        "smarthost": f"127.0.0.1:{free_port()}",
        "require_tls": False,
    }
    server.start(
        {
            "route": {"receiver": "mail", "group_by": ["alertname"], "group_wait": "100ms", "group_interval": "1s"},
            "receivers": [{"name": "mail", "email_configs": [mail]}],
        }
    )
    return server


def test_not_sent(
    run_module: RunModule, quick: Options, failing: AlertmanagerServer, alertmanager: AlertmanagerServer
) -> None:
    result = run_module("alert_check", **quick, alertmanager={"url": failing.url}, alert="Fires", state="routed")
    assert (result["failed"], result["reason"]) == (True, "not_sent"), result
    assert alertmanager.url in result["hint"] and failing.url in result["hint"]
    result = run_module(
        "alert_check", **quick, alertmanager={"url": failing.url}, alert="Fires", state="routed", expect="absent"
    )
    assert (result["failed"], result["reason"]) == (True, "not_sent"), result


def test_notification_failed(run_module: RunModule, at: Options, failing: AlertmanagerServer) -> None:
    failing.post_alert(alertname="Undeliverable")
    options = {**at, "alertmanager": {"url": failing.url}, "alert": "Undeliverable", "state": "notified"}
    eventually(
        lambda: 'requests_failed_total{integration="email"} 0' not in fetch(f"{failing.url}/metrics")[1],
        "a failed mail",
    )
    result = run_module("alert_check", **{**options, "timeout": 0.5})
    assert (result["failed"], result["reason"]) == (True, "notification_failed"), result
    assert "by email" in result["hint"] and "log" in result["hint"]
    # Routed it is all the same: the mail is another stage.
    assert run_module("alert_check", **{**options, "state": "routed"})["matched"]


def test_not_notified(run_module: RunModule, at: Options, make_alertmanager: Callable[[], AlertmanagerServer]) -> None:
    server = make_alertmanager()
    server.start(
        {
            "route": {"receiver": "slow", "group_wait": "1h"},
            "receivers": [{"name": "slow", "webhook_configs": [{"url": "http://127.0.0.1:1/"}]}],
        }
    )
    server.post_alert(alertname="Early")
    result = run_module(
        "alert_check", **{**at, "timeout": 0.3}, alertmanager={"url": server.url}, alert="Early", state="notified"
    )
    assert (result["failed"], result["reason"]) == (True, "not_notified"), result


@pytest.fixture(scope="module")
def lonely(make_prometheus: Callable[[], PrometheusServer]) -> PrometheusServer:
    """A real Prometheus without an Alertmanager, whose rules a test may spoil."""
    server = make_prometheus()
    server.configure(
        {"global": {"evaluation_interval": "200ms"}},
        [{"name": "g", "rules": [rule("Alone", "x", expr="vector(1)"), rule("Quiet", "x", expr="vector(1) > 1")]}],
    )
    server.start()
    return server


def test_no_alertmanager_and_a_rejected_rule_file(
    run_module: RunModule, lonely: PrometheusServer, alertmanager: AlertmanagerServer, am: Options
) -> None:
    at = {"endpoint": {"url": lonely.url}, "timeout": 5, "interval": 0.1}
    quick = {**at, "timeout": 0.3}
    assert run_module("alert_check", **at, alert="Alone")["matched"]
    assert run_module("alert_check", **at, alert="Quiet", state="loaded")["matched"]
    result = run_module("alert_check", **quick, **am, alert="Alone", state="routed")
    assert (result["failed"], result["reason"]) == (True, "no_alertmanager"), result

    lonely.configure(
        {"global": {"evaluation_interval": "200ms"}}, "groups: [{name: g, rules: [{alert: New, expr: 'sum('}]}]"
    )
    assert lonely.reload() == 500
    for alert, state in (
        ("New", "loaded"),
        ("Quiet", "loaded"),
        ("New", "firing"),
        ("Quiet", "firing"),
        ("New", "inactive"),
    ):
        result = run_module("alert_check", **quick, alert=alert, state=state)
        assert (result["failed"], result["reason"]) == (True, "rule_config_rejected"), (alert, state, result)
    # The old rule still fires; that state is reached whatever the file on the disk says.
    assert run_module("alert_check", **at, alert="Alone")["matched"]
    # What stays away behind a broken chain proves nothing.
    result = run_module("alert_check", **quick, alert="New", state="firing", expect="absent")
    assert (result["failed"], result["reason"]) == (True, "rule_config_rejected")
    assert "proves nothing" in result["hint"]


def test_absent(run_module: RunModule, quick: Options, am: Options) -> None:
    assert run_module("alert_check", **quick, alert="Idle", expect="absent")["matched"]
    assert run_module("alert_check", **quick, alert="Waits", expect="absent")["matched"]
    assert run_module("alert_check", **quick, **am, alert="Nobody", state="routed", expect="absent")["matched"]
    assert run_module("alert_check", **quick, alert="Missing", state="loaded", expect="absent")["matched"]
    result = run_module("alert_check", **quick, alert="Fires", expect="absent")
    assert (result["failed"], result["reason"]) == (True, "appeared")
    result = run_module("alert_check", **quick, alert="Missing", expect="absent")
    assert (result["failed"], result["reason"]) == (True, "rule_not_loaded")


def test_check_mode(run_module: RunModule, at: Options) -> None:
    result = run_module("alert_check", **at, alert="Idle", check_mode=True)
    assert (result["failed"], result["matched"], result["reason"]) == (False, False, "expression_false")
    assert result["attempts"] == 1


def test_alertmanager_is_demanded_where_it_is_needed(run_module: RunModule, at: Options) -> None:
    for state in ("routed", "notified", "silenced", "resolved"):
        assert "alertmanager" in run_module("alert_check", **at, alert="Fires", state=state)["msg"]


def test_swapped_endpoints(
    run_module: RunModule, prometheus: PrometheusServer, alertmanager: AlertmanagerServer
) -> None:
    swapped = {"endpoint": {"url": alertmanager.url}, "alertmanager": {"url": prometheus.url}}
    for state in ("firing", "routed"):
        result = run_module("alert_check", **swapped, alert="Fires", state=state, timeout=5)
        assert (result["failed"], result["reason"], result["attempts"]) == (True, "bad_request", 1), result
