"""The modules as Ansible sends them to a host: packed with what they import, and with defaults set once for a play."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from systems import AlertmanagerServer, PrometheusServer

REPOSITORY = Path(__file__).parents[2]


def test_a_play_with_group_defaults(
    tmp_path: Path, prometheus: PrometheusServer, alertmanager: AlertmanagerServer
) -> None:
    receiving = {"url": alertmanager.url}
    prefix = "vigie.observability"
    tasks: list[dict[str, Any]] = [
        {f"{prefix}.scrape_check": {"job": "app"}},
        {f"{prefix}.promql_check": {"query": "up", "value": 1}},
        {f"{prefix}.alert_check": {"alert": "Fires"}},
        {f"{prefix}.chain_budget": {"alert": "Fires", "job": "app", "alertmanager": receiving}},
        {f"{prefix}.alert_silence": {"endpoint": receiving, "matchers": {"alertname": "Play"}}},
    ]
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "module_defaults": {
            f"group/{prefix}.observability": {"timeout": 5},
            f"group/{prefix}.prometheus": {"endpoint": {"url": prometheus.url}, "interval": 0.1},
        },
        "tasks": [{"name": next(iter(task)), **task} for task in tasks],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    answer = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", str(tmp_path / "play.yml")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"),
            "ANSIBLE_CONFIG": str(tmp_path / "none.cfg"),
        },
    )
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-1000:]
    assert f"ok={len(tasks)}" in answer.stdout and "changed=1" in answer.stdout
