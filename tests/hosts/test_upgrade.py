"""What an upgrade says and refuses, without a cluster: every host is this one, with a node's file of another version."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.vigie.observability.plugins.module_utils.minikube import STAMP
from machines import inventory
from plays import REPOSITORY, Run, play

TABLE = yaml.safe_load((REPOSITORY / "vars/versions.yml").read_text())["vigie_versions"]
WANTED, KUBECTL = TABLE["kubelet"]["version"], TABLE["kubectl"]["version"]

# What runs; what is wanted; what is said against it.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "same": (WANTED, {}, ""),
    "kept": ("1.34.2", {"minikube_kubernetes_version": "1.34.2", "kubectl_version": "1.34.2"}, ""),
    "bare": ("", {"minikube_kubernetes_version": "1.36.4"}, ""),
    "half_made": ("1.34.2", {}, ""),
    "skew": ("", {"kubectl_version": "1.33.1"}, f"kubectl_version=1.33.1 is 2 minor versions from Kubernetes {WANTED}"),
    "newer_kubectl": (WANTED, {"kubectl_version": "1.37.0"}, "kubectl_version=1.37.0 is 2 minor versions from"),
    "patch": ("1.35.1", {}, f"minikube_kubernetes_version={WANTED}, but the cluster has Kubernetes 1.35.1, and"),
    "minor": ("1.34.2", {}, "set minikube_kubernetes_version=1.34.2, or set minikube_recreate=true"),
    "chosen": (
        WANTED,
        {"minikube_kubernetes_version": "1.36.4"},
        f"minikube_kubernetes_version=1.36.4, but the cluster has Kubernetes {WANTED}, and",
    ),
    "down": ("1.36.4", {}, f"minikube_kubernetes_version={WANTED}, but the cluster has Kubernetes 1.36.4, and"),
    "anew": ("1.36.4", {"minikube_recreate": True}, ""),
}
# Of these Minikube's first start was interrupted.
HALF_MADE = {"half_made"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("upgrade")
    hosts = {}
    for name, (runs, wanted, _part) in CASES.items():
        profile = folder / name / "minikube/.minikube/profiles/vigie"
        profile.mkdir(parents=True)
        if runs:
            node = {
                "Name": "vigie",
                "KubernetesConfig": {"KubernetesVersion": f"v{runs}"},
                "Nodes": [{"KubernetesVersion": f"v{runs}"}],
            }
            (profile / "config.json").write_text(json.dumps(node, indent="\t"))
            if name not in HALF_MADE:
                (profile / STAMP).touch()
        hosts[name] = {"vigie_state_dir": str(folder / name), "kubectl_bin_dir": str(folder / "bin"), **wanted}
    shared = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "vigie_platform": "minikube"}
    tasks = [
        {
            "name": "The table of versions is read",
            "ansible.builtin.include_vars": {"file": str(REPOSITORY / "vars/versions.yml")},
        },
        {"name": "Compare", "ansible.builtin.import_tasks": str(REPOSITORY / "playbooks/tasks/upgrade.yml")},
    ]
    playbook = folder / "upgrade.yml"
    playbook.write_text(yaml.safe_dump([{"name": "Upgrade", "hosts": "all", "gather_facts": False, "tasks": tasks}]))
    return play(Path(playbook), inventory(folder / "hosts.json", hosts, shared))


@pytest.mark.parametrize("name", CASES)
def test_what_kubernetes_does_not_stand_is_refused(told: Run, name: str) -> None:
    part = CASES[name][2]
    assert part in told.fault(name)
    assert bool(told.fault(name)) == bool(part)
    assert told.changed(name) == []


@pytest.mark.parametrize("name", CASES)
def test_from_what_to_what_is_said(told: Run, name: str) -> None:
    (said,) = [
        event["message"] for event in told.events if event["host"] == name and event["task"] == "From what to what"
    ]
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines()[1:]}
    runs, wanted, _part = CASES[name]
    kubernetes = wanted.get("minikube_kubernetes_version", WANTED)
    assert rows["kubernetes"][:3] == [runs or "none", "->", kubernetes]
    assert (rows["kubernetes"][-1] == "*") == (runs != kubernetes)
    assert rows["kubectl"][:3] == ["none", "->", wanted.get("kubectl_version", KUBECTL)]
    assert rows["docker"][2:] == ["as", "it", "is"]
