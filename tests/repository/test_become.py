"""Minikube asks Docker as the user who connects, whose membership in Docker's group may be newer than the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCKS = ("block", "rescue", "always")
PROGRAMS = ("app_image_minikube ", "app_image_node_shell ", "cluster_minikube_program")
SELF = "{{ ansible_facts.user_id }}"


def tasks(listed: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield tasks, those of blocks too."""
    for task in listed:
        yield task
        for block in BLOCKS:
            yield from tasks(task.get(block, []))


def asks_docker(task: dict[str, Any]) -> bool:
    """Return whether a task runs Minikube for more than its version."""
    argv = task.get("ansible.builtin.command", {}).get("argv", "")
    return "vigie.observability.minikube_profile" in task or any(name in str(argv) for name in PROGRAMS)


def becomes_self(task: dict[str, Any]) -> bool:
    return str(task.get("become", "")).endswith("_become }}") and task.get("become_user") == SELF


def test_whoever_runs_minikube_becomes_the_same_user() -> None:
    found = [
        (path.parent.parent.name, task["name"], becomes_self(task))
        for path in (REPOSITORY / "roles").glob("*/tasks/*.yml")
        for task in tasks(yaml.safe_load(path.read_text()) or [])
        if asks_docker(task)
    ]
    assert {role for role, _name, _becomes in found} == {"app_image", "cluster", "minikube"}
    assert [entry for entry in found if not entry[2]] == []


def test_ansible_is_told_to_heed_it() -> None:
    assert "\n[privilege_escalation]\nbecome_allow_same_user = true\n" in (REPOSITORY / "ansible.cfg").read_text()
