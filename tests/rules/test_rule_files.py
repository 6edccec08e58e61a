"""The rule file as text: every choice of variables gives a file that Prometheus loads and that says what was chosen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from promtool_runner import PromtoolMissing, check_rules, find_promtool
from rule_rendering import TEMPLATE, defaults, render, rules

CHAIN = {
    "TargetDown",
    "TargetMissing",
    "AlertmanagerNotificationsFailing",
    "PrometheusNotConnectedToAlertmanager",
    "PrometheusRuleFailures",
    "AlertmanagerConfigReloadFailed",
    "PrometheusConfigReloadFailed",
}
CHOICES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "seed": {"alerting_restart_rule": "seed", "alerting_seed_window": "15m", "alerting_seed_for": "0s"},
    "kubelet": {"alerting_keep_firing_for": "10m", "alerting_restart_for": "30s"},
    "no-keep-firing": {"alerting_keep_firing_for": "0s"},
    "threshold-as-text": {"alerting_restart_threshold": "3", "alerting_slow_loop_threshold": "7"},
    "one": {"alerting_restart_threshold": 1, "alerting_slow_loop_threshold": 1, "alerting_restart_window": "1h30m"},
    "no-jobs": {"alerting_chain_jobs": []},
    "one-job": {"alerting_chain_jobs": ["kube-state-metrics"]},
    "texts": {
        "alerting_runbook_url": 'https://wiki.example/alerts?page="restart"&x=<1>',
        "alerting_team_labels": {"team": 'ops "night": #1', "severity": "mine", "tier": 1, "paged": True},
    },
    "no-labels": {"alerting_team_labels": {}},
}


@pytest.mark.parametrize("choice", CHOICES)
def test_prometheus_loads_every_rendering(promtool: Path, tmp_path: Path, choice: str) -> None:
    path = tmp_path / "vigie.yml"
    path.write_text(render(**CHOICES[choice]), encoding="utf-8")
    result = check_rules(promtool, path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"SUCCESS: {9 if choice == 'no-jobs' else 11} rules found" in result.stdout


def test_a_wrong_duration_is_found_by_promtool(promtool: Path, tmp_path: Path) -> None:
    path = tmp_path / "vigie.yml"
    path.write_text(render(alerting_restart_window="10 minutes"), encoding="utf-8")
    assert check_rules(promtool, path).returncode != 0


@pytest.mark.parametrize("choice", ["defaults", "seed", "texts"])
def test_ansible_renders_the_same_text(tmp_path: Path, choice: str) -> None:
    variables = tmp_path / "variables.json"
    variables.write_text(json.dumps(defaults() | CHOICES[choice]), encoding="utf-8")
    configuration = tmp_path / "ansible.cfg"
    configuration.touch()
    path = tmp_path / "vigie.yml"
    command = [sys.executable, "-m", "ansible", "adhoc", "localhost", "-m", "ansible.builtin.template"]
    result = subprocess.run(
        [*command, "-a", f"src={TEMPLATE} dest={path}", "-e", f"@{variables}"],
        env=os.environ | {"ANSIBLE_CONFIG": str(configuration), "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert path.read_text(encoding="utf-8") == render(**CHOICES[choice])


def test_a_missing_variable_is_an_error() -> None:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    for name in defaults():
        if not name.startswith("alerting_seed"):  # used by that rule only
            with pytest.raises(jinja2.UndefinedError, match=name):
                template.render({key: value for key, value in defaults().items() if key != name})
    with pytest.raises(KeyError, match="alerting_windwo"):
        render(alerting_windwo="10m")


def test_the_alerts_and_their_severities() -> None:
    severities = {name: rule["labels"]["severity"] for name, rule in rules(render()).items()}
    assert severities == {
        "PodCrashLoop": "critical",
        "WorkloadCrashLoop": "warning",
        "PodSlowCrashLoop": "warning",
        "Watchdog": "none",
        **dict.fromkeys(CHAIN, "warning"),
    }


def test_every_alert_explains_itself() -> None:
    for name, rule in rules(render(alerting_runbook_url="https://wiki.example/a")).items():
        assert {"summary", "description", "runbook"} <= set(rule["annotations"]), name
        assert rule["annotations"]["runbook"] == "https://wiki.example/a", name
    for name, rule in rules(render()).items():
        assert "runbook" not in rule["annotations"], name


def test_team_labels_go_everywhere_and_cannot_change_the_severity() -> None:
    for name, rule in rules(render(**CHOICES["texts"])).items():
        assert rule["labels"]["team"] == 'ops "night": #1', name
        assert (rule["labels"]["tier"], rule["labels"]["paged"]) == ("1", "True"), name
        assert rule["labels"]["severity"] in {"critical", "warning", "none"}, name


def test_keep_firing_for_is_left_out_when_it_is_zero() -> None:
    assert rules(render(alerting_keep_firing_for="10m"))["PodCrashLoop"]["keep_firing_for"] == "10m"
    assert "keep_firing_for" not in rules(render(alerting_keep_firing_for="0s"))["PodCrashLoop"]


def test_the_seed_rule_is_the_one_usually_written() -> None:
    rule = rules(render(alerting_restart_rule="seed"))["PodCrashLoop"]
    assert rule["expr"] == "increase(kube_pod_container_status_restarts_total[5m]) > 2"
    assert rule["for"] == "1m"
    assert "keep_firing_for" not in rule


@pytest.mark.parametrize(
    ("window", "seconds"),
    [("10m", 600), ("90s", 90), ("1h30m", 5400), ("1d", 86400), ("1m30s", 90), ("2h5m500ms", 7500), ("1w1d", 691200)],
)
def test_the_age_of_a_new_pod_follows_the_window(window: str, seconds: int) -> None:
    expression = rules(render(alerting_restart_window=window))["PodCrashLoop"]["expr"]
    assert f"max by (namespace, pod, uid) (kube_pod_created)) < {seconds + 60}\n" in expression
    assert f"offset {window})" in expression


def test_the_memory_of_a_slow_loop_follows_the_threshold() -> None:
    assert "[2700s]" in rules(render())["PodCrashLoop"]["expr"]
    assert "[5400s]" in rules(render(alerting_restart_threshold=5))["PodCrashLoop"]["expr"]


def test_intervals_and_group_names() -> None:
    groups = yaml.safe_load(render(alerting_evaluation_interval="7s"))["groups"]
    assert [group["name"] for group in groups] == [
        "vigie-restarts",
        "vigie-slow-restarts",
        "vigie-watchdog",
        "vigie-chain",
    ]
    assert {group["interval"] for group in groups} == {"7s"}


# Where promtool comes from.


def executable(path: Path) -> Path:
    """Create an executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return path


def test_promtool_is_looked_for_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VIGIE_PROMTOOL", raising=False)
    monkeypatch.setenv("VIGIE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(PromtoolMissing, match="run `make up` once or set VIGIE_PROMTOOL"):
        find_promtool()
    on_path = executable(tmp_path / "bin" / "promtool")
    assert find_promtool() == on_path
    in_state = executable(tmp_path / "state" / "packages" / "prometheus" / "usr" / "bin" / "promtool")
    assert find_promtool() == in_state
    named = executable(tmp_path / "named")
    monkeypatch.setenv("VIGIE_PROMTOOL", str(named))
    assert find_promtool() == named
    monkeypatch.setenv("VIGIE_PROMTOOL", str(tmp_path / "absent"))
    with pytest.raises(PromtoolMissing, match="absent, which is not an executable file"):
        find_promtool()
