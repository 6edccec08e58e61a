"""Labels and annotations of PodCrashLoop as Alertmanager gets them, and that it stays one alert throughout a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from promtool_runner import run_suite
from restart_series import Pod
from rule_rendering import render

POD = Pod("flask-metrics-abcde", life=60, latency=1, born=100, phase=14, moved=2500)
LABELS = {
    "severity": "critical",
    "namespace": "vigie",
    "pod": "flask-metrics-abcde",
    "container": "flask-metrics",
    "uid": "uid-flask-metrics-abcde",
}


def run_ids(*seen: tuple[str, str, str, str]) -> list[dict[str, str]]:
    """Return series of the application's last run: (namespace, container, run id, samples at 1 s)."""
    name = "vigie_run_last_seen_timestamp_seconds"
    return [
        {"series": f'{name}{{namespace="{namespace}",container="{container}",run_id="{run}"}}', "values": values}
        for namespace, container, run, values in seen
    ]


def suite(directory: Path, series: list[dict[str, str]], **tests: Any) -> dict[str, Any]:
    """Return a promtool suite over the loop of POD; the rule file goes into `directory`."""
    (directory / "vigie.yml").write_text(render(alerting_keep_firing_for="10m", alerting_team_labels={}))
    return {
        "rule_files": ["vigie.yml"],
        "evaluation_interval": "30s",
        "tests": [{"interval": "1s", "input_series": [*POD.series(1, 4000), *series], **tests}],
    }


def alert(at: str, restarts: int, run_id: str) -> dict[str, Any]:
    """Return the expectation of the one alert at a time of the test."""
    annotations = {
        "summary": "Crash loop: vigie/flask-metrics-abcde, container flask-metrics",
        "description": (
            "Container flask-metrics of pod flask-metrics-abcde in namespace vigie keeps dying: more than 2 restarts in 10m "
            f"or in a loop slowed down by its back-off, {restarts} restarts since the pod was created."
        ),
        "run_id": run_id,
    }
    expected = [{"exp_labels": LABELS, "exp_annotations": annotations}]
    return {"alertname": "PodCrashLoop", "eval_time": at, "exp_alerts": expected}


def test_the_alert_carries_the_run_that_the_application_saw_last(promtool: Path, tmp_path: Path) -> None:
    series = run_ids(
        ("vigie", "flask-metrics", "run-1", "_x150 150 _x9 150 stale"),
        ("vigie", "flask-metrics", "run-2", "_x160 160 _x9 160 stale"),
        ("other", "flask-metrics", "run-of-another-namespace", "_x170 170x3500"),
        ("vigie", "other", "run-of-another-container", "_x170 170x3500"),
    )
    # 6m10s falls between evaluations; the third restart is at 314 s. Fifteen minutes after its last sample (170 s) the run is
    # forgotten, in a loop that has outlived its cause.
    expected = [
        {"alertname": "PodCrashLoop", "eval_time": "5m10s", "exp_alerts": []},
        alert("6m10s", 3, "run-2"),
        alert("17m40s", 6, "run-2"),
        alert("18m10s", 6, "-"),
    ]
    result = run_suite(promtool, tmp_path, suite(tmp_path, series, alert_rule_test=expected))
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_wrong_expectation_is_noticed(promtool: Path, tmp_path: Path) -> None:
    result = run_suite(promtool, tmp_path, suite(tmp_path, [], alert_rule_test=[alert("6m10s", 3, "run-2")]))
    assert result.returncode == 1
    assert 'run_id="-"' in result.stdout + result.stderr


def test_it_stays_one_alert_while_the_reason_and_the_exporter_change(promtool: Path, tmp_path: Path) -> None:
    """The loop passes all parts of the expression: new pod, ten-minute difference, back-off; and a new exporter at 2500 s."""
    identities = 'count(count_over_time(ALERTS{alertname="PodCrashLoop"}[4000s]))'
    restarted = 'max(changes(ALERTS_FOR_STATE{alertname="PodCrashLoop"}[4000s]))'
    expected = [
        {"expr": identities, "eval_time": "3990s", "exp_samples": [{"labels": "{}", "value": 1}]},
        {"expr": restarted, "eval_time": "3990s", "exp_samples": [{"labels": "{}", "value": 0}]},
    ]
    result = run_suite(promtool, tmp_path, suite(tmp_path, [], promql_expr_test=expected))
    assert result.returncode == 0, result.stdout + result.stderr
