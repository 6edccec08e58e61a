"""The application's objects for a cluster, and what is said when pods don't become ready."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
ROLE = REPOSITORY / "roles" / "app"
ENVIRONMENT = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, autoescape=False)
ENVIRONMENT.filters["to_json"] = json.dumps
ENVIRONMENT.filters["flatten"] = lambda lists: list(itertools.chain(*lists))
ENVIRONMENT.filters["dict2items"] = lambda value, key, item: [{key: k, item: v} for k, v in value.items()]


def render(name: str, *, role: Path = ROLE, **variables: Any) -> str:
    template = ENVIRONMENT.from_string((role / "templates" / name).read_text())
    values = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    values |= {"vigie_namespace": "lab", "app_workload": "flask", "app_labels": {"app": "flask"}}
    values |= {"app_workloads": {"flask": {"name": "flask-metrics", "port": 5000}}}
    return template.render(values | variables)


def objects() -> dict[str, dict[str, Any]]:
    values = {
        "app_workload_image": {"name": "flask-metrics:0123456789ab", "id": "sha256:0"},
        "app_environment": {"APP_THREADS": "8"},
    }
    return {name: yaml.safe_load(render(f"{name}.yml.j2", **values)) for name in ("deployment", "service")}


def test_the_service_finds_the_pods_by_label_and_port() -> None:
    made = objects()
    service, pod = made["service"], made["deployment"]["spec"]["template"]
    assert service["metadata"]["labels"]["app"] == "flask"
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert made["deployment"]["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (port,) = service["spec"]["ports"]
    (container,) = pod["spec"]["containers"]
    assert (port["name"], port["port"]) == ("metrics", 80)
    assert [(each["name"], each["containerPort"]) for each in container["ports"]] == [(port["targetPort"], 5000)]
    assert {each["metadata"]["namespace"] for each in made.values()} == {"lab"}


def test_the_pods_may_do_nothing_that_they_need_not() -> None:
    """As the admission level `restricted` of Kubernetes demands, and a file system that can't be written besides."""
    pod = objects()["deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert container["resources"]["limits"]["memory"] == "192Mi"
    assert container["imagePullPolicy"] == "Never"


def test_the_user_of_the_pods_is_that_of_the_image() -> None:
    security = objects()["deployment"]["spec"]["template"]["spec"]["securityContext"]
    lines = (REPOSITORY / "app" / "Dockerfile").read_text().splitlines()
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}" in lines


def container(**parts: Any) -> dict[str, Any]:
    return {"name": "flask-metrics", "ready": False, "restartCount": 0, "state": {}, "lastState": {}, **parts}


def pod(*containers: dict[str, Any], conditions: list[dict[str, Any]] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "flask-metrics-abc", **metadata},
        "status": {"containerStatuses": list(containers), "conditions": conditions or []},
    }


def warning(kind: str, name: str, message: str) -> dict[str, Any]:
    return {"type": "Warning", "message": message, "involvedObject": {"kind": kind, "name": name}}


def fault(*pods: dict[str, Any], events: list[dict[str, Any]] | None = None) -> str:
    text = render(
        "rollout_fault.j2",
        role=REPOSITORY / "roles" / "cluster",
        cluster_trouble={"results": [{"resources": list(pods)}, {"resources": events or []}]},
        cluster_workloads={"Deployment": ["flask-metrics"]},
        cluster_namespace="lab",
        cluster_rollout_seconds=90,
    )
    return " ".join(text.split())


BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}
ENDED = {"terminated": {"exitCode": 2, "reason": "Error", "message": "APP_PORT is 'x'\n"}}
UNSCHEDULED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes: Too many pods",
}
PROBE = warning("Pod", "flask-metrics-abc", "Readiness probe failed: HTTP probe failed with statuscode: 503")


@pytest.mark.parametrize(
    ("pods", "events", "parts"),
    [
        (
            [pod(container(state={"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}}))],
            [],
            ["Pod flask-metrics-abc, container flask-metrics waits: ErrImageNeverPull (not present)."],
        ),
        (
            [pod(container(state=BACK_OFF, lastState=ENDED, restartCount=4))],
            [],
            ["CrashLoopBackOff (back-off 40s), restarted 4 times, last after exit code 2: APP_PORT is 'x'."],
        ),
        ([pod(container(state=ENDED))], [], ["ended: Error, exit code 2."]),
        (
            [pod(container(state={"running": {}}))],
            [PROBE],
            [
                "runs, but is not ready.",
                "Last warning: Readiness probe failed: HTTP probe failed with statuscode: 503.",
            ],
        ),
        ([pod(conditions=[UNSCHEDULED])], [], ["flask-metrics-abc is not scheduled: 0/1 nodes: Too many pods."]),
        (
            [],
            [warning("ReplicaSet", "flask-metrics-1", "exceeded quota: small")],
            ["There is no pod in namespace lab.", "ReplicaSet flask-metrics-1: exceeded quota: small."],
        ),
        ([pod(container(state=BACK_OFF), deletionTimestamp="2026-11-24T00:00:00Z")], [], ["There is no pod"]),
    ],
    ids=["image", "crash-loop", "ended", "not-ready", "unscheduled", "quota", "going"],
)
def test_what_keeps_a_pod_is_named(pods: list[Any], events: list[Any], parts: list[str]) -> None:
    text = fault(*pods, events=events)
    assert text.startswith("flask-metrics did not become ready within 90 s.")
    assert text.endswith("Look with 'kubectl -n lab describe pods'.")
    for part in parts:
        assert part in text


def test_a_pod_that_is_ready_is_not_blamed() -> None:
    assert "Pod " not in fault(pod(container(ready=True, state={"running": {}})))
