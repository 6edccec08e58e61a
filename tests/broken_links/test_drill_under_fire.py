"""The drill while each process of the lab is killed in turn: there is always a report, and it says what broke."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.processes import find_supervised
from own_lab import APP, REPOSITORY, Lab, play_command, play_environment
from systems import eventually, fetch

LONGEST_DRILL = 180
"""Seconds after which a drill must have given up, whatever was killed."""

PORTS = {
    "prometheus": "prometheus",
    "alertmanager": "alertmanager",
    "mail": "smtp",
    "supervisor-exporter": "supervisor_exporter",
    "node-exporter": "node_exporter",
    APP: "app",
}
"""What is killed, and the name of its port."""


def first_restart(lab: Lab) -> bool:
    """The application serves again after the first crash of the drill."""
    return lab.process()["restarts"] == 1 and lab.process()["ready"]


def alert_received(lab: Lab) -> bool:
    """Alertmanager holds the alert and has not mailed it yet."""
    return "PodCrashLoop" in fetch(f"{lab.url('alertmanager')}/api/v2/alerts")[1]


def drill_under_fire(
    lab: Lab, victim: str, folder: Path, moment: Callable[[Lab], bool] = first_restart
) -> dict[str, Any]:
    """Run a drill, kill the victim at a moment of it, and return the report, which there must be."""
    lab.redeploy()
    patience = {"drill_negative": False, "drill_restart_timeout": 30}
    variables = {**lab.variables, **patience, "vigie_out_dir": str(folder)}
    with tempfile.TemporaryFile("w+") as output:
        drill = subprocess.Popen(
            play_command("playbooks/drill.yml", variables),
            cwd=REPOSITORY,
            env=play_environment(lab.state),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            eventually(lambda: moment(lab), f"the moment {moment.__name__}", 90)
            lab.kill(victim)
            status = drill.wait(LONGEST_DRILL)
        finally:
            drill.kill()
            drill.wait()
        output.seek(0)
        said = output.read()
    file = folder / "drill/latest/report.json"
    assert file.exists(), f"no report:\n{said[-6000:]}"
    report = json.loads(file.read_text())
    assert (status == 0) == (report["verdict"] == "pass"), said[-3000:]
    return report


def disturbed(report: dict[str, Any]) -> set[tuple[str, str]]:
    """Return process and end of everything that died without being asked."""
    stages = report["stages"]
    return {(one["process"], one["what"]) for stage in stages for one in stage["evidence"].get("disturbances", [])}


def first_failure(report: dict[str, Any]) -> dict[str, Any]:
    """Return the first stage that failed."""
    return next(stage for stage in report["stages"] if stage["ok"] is False)


def assert_healthy(lab: Lab) -> None:
    """Every process works, and every link from the scrape to the mailbox holds."""
    for program in PORTS:
        lab.await_ready(program)
    for job, port in ((APP, "app"), ("supervisor", "supervisor_exporter"), ("node", "node_exporter")):
        result = lab.check("scrape_check", job=job, origin=lab.endpoint(port), timeout=30)
        assert result["matched"], result
    for wanted in (
        {"alert": "PodCrashLoop", "state": "inactive"},
        {"alert": "Watchdog", "state": "routed", "receiver": "deadman"},
    ):
        result = lab.check("alert_check", **wanted, timeout=30)
        assert result["matched"], result


def assert_told(lab: Lab, report: dict[str, Any], victim: str) -> None:
    """The report names the death, and blames it for a failure if there is one."""
    assert (victim, "signal 9") in disturbed(report), json.dumps(report, indent=1)
    if report["verdict"] == "fail":
        evidence = first_failure(report)["evidence"]
        assert victim in evidence["hint"] or str(lab.ports[PORTS[victim]]) in evidence["hint"], evidence


@pytest.mark.parametrize("victim", PORTS)
def test_process_killed(lab: Lab, victim: str, tmp_path: Path) -> None:
    assert_told(lab, drill_under_fire(lab, victim, tmp_path), victim)
    assert_healthy(lab)


def test_alertmanager_killed_with_the_alert_in_its_hands(lab: Lab, tmp_path: Path) -> None:
    report = drill_under_fire(lab, "alertmanager", tmp_path, alert_received)
    assert_told(lab, report, "alertmanager")
    assert_healthy(lab)


def test_supervisor_killed(lab: Lab, tmp_path: Path) -> None:
    report = drill_under_fire(lab, "supervisord", tmp_path)
    assert report["verdict"] == "fail"
    failure = first_failure(report)
    assert (failure["name"], failure["evidence"]["reason"]) == ("crash", "supervisor_down"), failure
    assert "The supervisor does not run" in failure["evidence"]["hint"] and "make up" in failure["evidence"]["hint"]
    # Nobody restarts anything now. The next run stops what is left, which holds the ports, and begins anew on them.
    orphans = {process.pid for process in find_supervised(str(lab.state))}
    assert orphans
    lab.build()
    assert orphans.isdisjoint(process.pid for process in find_supervised(str(lab.state)))
    assert_healthy(lab)
