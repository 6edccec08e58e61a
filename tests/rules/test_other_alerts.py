"""The slow loop, the Watchdog and the alerts about the chain itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from promtool_runner import Firing, firing
from restart_series import Pod
from rule_rendering import render, restart_rule

HOUR = 3600
SLOW = "PodSlowCrashLoop"


def evaluated(
    promtool: Path, directory: Path, series: dict[str, str], **variables: Any
) -> dict[str, list[tuple[int, int]]]:
    """Evaluate the shipped rules for 20 minutes at 3 s over series (selector -> samples); return the spans by alert."""
    chosen = {"alerting_chain_jobs": ["flask-metrics", "supervisor"], **variables}
    extra = [{"series": selector, "values": values} for selector, values in series.items()]
    result = firing(
        promtool, directory, {"vigie.yml": render(**chosen)}, [], step=3, evaluation=3, until=1200, extra_series=extra
    )
    return {name: spans for (name, _), spans in result.items()}


# Samples are 3 s apart. A fresh installation: Prometheus is the first, its first messages find no Alertmanager.
UP_APP = 'up{job="flask-metrics",instance="127.0.0.1:5000"}'
UP_SUPERVISOR = 'up{job="supervisor",instance="127.0.0.1:9101"}'
FAILED_MAIL = 'alertmanager_notifications_failed_total{integration="email",instance="am"}'
AM_CONFIG = 'alertmanager_config_last_reload_successful{instance="am"}'
PROMETHEUS_CONFIG = 'prometheus_config_last_reload_successful{instance="prom"}'
RULE_FAILURES = 'prometheus_rule_evaluation_failures_total{instance="prom",rule_group="/etc/vigie.yml;vigie-restarts"}'
SEND_ERRORS = 'prometheus_notifications_errors_total{instance="prom",alertmanager="http://am/api/v2/alerts"}'
DISCOVERED = 'prometheus_notifications_alertmanagers_discovered{instance="prom"}'
FRESH = {
    UP_APP: "_x6 0x10 1x390",
    UP_SUPERVISOR: "_x3 1x400",
    FAILED_MAIL: "_x20 0x380",
    AM_CONFIG: "_x20 1x380",
    PROMETHEUS_CONFIG: "_x1 1x400",
    RULE_FAILURES: "_x1 0x400",
    SEND_ERRORS: "0 1 2x18 3x400",
    DISCOVERED: "_x1 1x400",
}


def test_a_fresh_installation_fires_nothing_but_the_watchdog(promtool: Path, tmp_path: Path) -> None:
    assert evaluated(promtool, tmp_path, FRESH) == {"Watchdog": [(0, 1200)]}


def test_without_jobs_to_watch_nothing_is_missed(promtool: Path, tmp_path: Path) -> None:
    without = {selector: values for selector, values in FRESH.items() if not selector.startswith("up")}
    assert set(evaluated(promtool, tmp_path, without, alerting_chain_jobs=[])) == {"Watchdog"}
    assert set(evaluated(promtool, tmp_path, without)) == {"Watchdog", "TargetMissing"}


FAULTS: dict[str, tuple[dict[str, str], str, int, int]] = {
    # name: (changed series, alert, fires at, fires until), in seconds and at most one scrape and evaluation late
    "target down": ({UP_APP: "1x100 0x99 1x200"}, "TargetDown", 303 + 120, 600 + 300),
    "target up for moments": ({UP_APP: "1x100 0x50 1 0x50 1 0x50 1x150"}, "TargetDown", 303 + 120, 762 + 300),
    "target missing": ({UP_SUPERVISOR: "1x50 stale _x350"}, "TargetMissing", 153 + 300, 1200),
    "one notification failed": ({FAILED_MAIL: "0x100 1x300"}, "AlertmanagerNotificationsFailing", 303, 303 + 600),
    # New failures of another kind: a series that starts, and one that goes on.
    "no Alertmanager answers": (
        {SEND_ERRORS: "0x100 " + " ".join(f"{count}x19" for count in range(1, 16))},
        "PrometheusNotConnectedToAlertmanager",
        303 + 300,
        1200,
    ),
    "no Alertmanager known": ({DISCOVERED: "1x100 0x300"}, "PrometheusNotConnectedToAlertmanager", 303 + 300, 1200),
    "a rule fails": ({RULE_FAILURES: "0x100 1x300"}, "PrometheusRuleFailures", 303 + 60, 303 + 600),
    "Alertmanager refused its configuration": ({AM_CONFIG: "1x100 0x300"}, "AlertmanagerConfigReloadFailed", 363, 1200),
    "Prometheus refused its configuration": (
        {PROMETHEUS_CONFIG: "1x100 0x300"},
        "PrometheusConfigReloadFailed",
        363,
        1200,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_the_chain_fires_its_alert_once(promtool: Path, tmp_path: Path, fault: str) -> None:
    changed, alert, fires, ends = FAULTS[fault]
    found = evaluated(promtool, tmp_path, FRESH | changed)
    assert set(found) == {"Watchdog", alert}
    [(first, last)] = found[alert]
    assert fires <= first <= fires + 6
    assert ends - 6 <= last <= ends + 6


def test_third_party_rules_are_not_our_chain(promtool: Path, tmp_path: Path) -> None:
    others = RULE_FAILURES.replace("vigie-restarts", "kubernetes-apps")
    assert set(evaluated(promtool, tmp_path, FRESH | {others: "0x100 1x300"})) == {"Watchdog"}


# Replicas of a workload. Samples are 3 s apart; each crash is one more restart.


def replica(name: str, restarts: str, owner: str, kind: str = "ReplicaSet", born: int = -86400) -> dict[str, str]:
    labels = f'namespace="vigie",pod="{name}",uid="{name}"'
    return {
        f'kube_pod_container_status_restarts_total{{{labels},container="flask-metrics"}}': restarts,
        f"kube_pod_created{{{labels}}}": f"{born}x400",
        f'kube_pod_owner{{{labels},owner_kind="{kind}",owner_name="{owner}",owner_is_controller="true"}}': "1x400",
    }


def workload_alerts(promtool: Path, directory: Path, *pods: dict[str, str]) -> list[tuple[int, int]]:
    series = dict(FRESH)
    for pod in pods:
        series |= pod
    # Once the window is behind, so that there is something to subtract.
    found = evaluated(promtool, directory, series, alerting_restart_window="2m", alerting_keep_firing_for="3s")
    assert "PodCrashLoop" not in found
    return found.get("WorkloadCrashLoop", [])


ONE_AT_600 = "7x200 8x200"
TWO_FROM_600 = "7x200 8x3 9x196"


def test_replicas_that_each_die_seldom_are_a_loop_of_the_workload(promtool: Path, tmp_path: Path) -> None:
    pods = [replica(f"web-{number}", ONE_AT_600, "web-5d4c9") for number in range(3)]
    [(first, last)] = workload_alerts(promtool, tmp_path, *pods)
    assert 603 <= first <= 609
    # The window of two minutes, and what an alert outlives its condition by.
    assert 603 + 120 - 3 <= last <= 603 + 120 + 9


def test_replicas_of_two_rollouts_are_one_workload(promtool: Path, tmp_path: Path) -> None:
    old = replica("web-old", ONE_AT_600, "web-5d4c9")
    assert workload_alerts(promtool, tmp_path, old, replica("web-new", TWO_FROM_600, "web-77f8b"))


@pytest.mark.parametrize(
    "pods",
    [
        [replica("web-1", ONE_AT_600, "web-5d4c9"), replica("web-2", ONE_AT_600, "web-5d4c9")],
        [replica("web-1", TWO_FROM_600, "web-5d4c9"), replica("api-1", ONE_AT_600, "api-5d4c9")],
        # Two DaemonSets whose names begin alike are two workloads.
        [replica("a", TWO_FROM_600, "log-shipper", "DaemonSet"), replica("b", ONE_AT_600, "log-reader", "DaemonSet")],
        [replica("web-1", "7x400", "web-5d4c9"), replica("web-2", "9x400", "web-5d4c9")],
    ],
    ids=["too few", "two workloads", "two daemons", "long ago"],
)
def test_what_is_no_loop_of_a_workload_is_silent(promtool: Path, tmp_path: Path, pods: list[dict[str, str]]) -> None:
    assert workload_alerts(promtool, tmp_path, *pods) == []


# The slow loop.

EVERY_16_MINUTES = Pod("slow-960", life=960)
EVERY_61_MINUTES = Pod("slow-3660", life=3660)  # five or six restarts in six hours, in turns
EVERY_80_MINUTES = Pod("slow-4800", life=4800)
NEW_SLOW = Pod("slow-new", life=960, born=1000)
FIVE = Pod("slow-five", life=960, crashes=5)
FAST = Pod("fast-then-recovered", life=60, crashes=9)
LONG_AGO = Pod("long-ago", history=50, crashes=0)
OUTAGE = Pod("slow-outage", history=50, crashes=0, outages=((10000, 18000),))
UNTIL = 12 * HOUR


@pytest.fixture(scope="module")
def slow(promtool: Path, tmp_path_factory: pytest.TempPathFactory) -> Firing:
    """Evaluate half a day once."""
    pods = [EVERY_16_MINUTES, EVERY_61_MINUTES, EVERY_80_MINUTES, NEW_SLOW, FIVE, FAST, LONG_AGO, OUTAGE]
    return firing(
        promtool,
        tmp_path_factory.mktemp("slow"),
        {
            "vigie.yml": render(alerting_chain_jobs=[], alerting_keep_firing_for="10m"),
            "seed.yml": restart_rule("seed", "seed"),
        },
        [Pod(**{**vars(pod), "phase": 10}) for pod in pods],
        step=10,
        evaluation=60,
        until=UNTIL,
    )


# The difference needs a sample of six hours before; a pod younger than that needs none.
@pytest.mark.parametrize(
    ("pod", "not_before"), [(EVERY_16_MINUTES, 6 * HOUR), (EVERY_61_MINUTES, 6 * HOUR), (NEW_SLOW, 0)]
)
def test_a_slow_loop_fires_once_and_stays(slow: Firing, pod: Pod, not_before: int) -> None:
    [(first, last)] = slow[SLOW, pod.name]
    sixth = max(pod.restarts(UNTIL)[5], not_before)
    assert sixth <= first <= sixth + 120
    assert last == UNTIL
    assert ("PodCrashLoop", pod.name) not in slow
    assert ("seed", pod.name) not in slow


@pytest.mark.parametrize("pod", [EVERY_80_MINUTES, FIVE, LONG_AGO, OUTAGE], ids=lambda pod: pod.name)
def test_five_restarts_in_six_hours_are_not_more_than_five(slow: Firing, pod: Pod) -> None:
    assert (SLOW, pod.name) not in slow


def test_restarts_of_a_crash_loop_are_not_reported_again(slow: Firing) -> None:
    assert len(slow["PodCrashLoop", FAST.name]) == 1
    assert (SLOW, FAST.name) not in slow
