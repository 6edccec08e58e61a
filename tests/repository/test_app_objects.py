"""The application's objects for a cluster, and what is said when its pods don't become ready."""

from __future__ import annotations

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
ENVIRONMENT.filters["dict2items"] = lambda value, key, item: [{key: k, item: v} for k, v in value.items()]


def render(name: str, **variables: Any) -> str:
    template = ENVIRONMENT.from_string((ROLE / "templates" / name).read_text())
    values = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    values |= {"vigie_namespace": "lab", "app_name": "flask-metrics", "app_labels": {"app": "flask"}}
    return template.render(values | variables)


def objects() -> dict[str, dict[str, Any]]:
    values = {
        "app_image_ref": "flask-metrics:0123456789ab",
        "app_image_node": {"status": {"id": "sha256:0"}},
        "app_environment": {"APP_THREADS": "8"},
    }
    return {name: yaml.safe_load(render(f"{name}.yml.j2", **values)) for name in ("namespace", "deployment", "service")}


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
    assert {each["metadata"].get("namespace", "lab") for each in made.values()} == {"lab"}
    assert made["namespace"]["metadata"]["name"] == "lab"


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
    return {"image": "flask-metrics:0", "ready": False, "restartCount": 0, "state": {}, "lastState": {}, **parts}


def pod(*containers: dict[str, Any], conditions: list[dict[str, Any]] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "flask-metrics-abc", **metadata},
        "status": {"containerStatuses": list(containers), "conditions": conditions or []},
    }


def fault(*pods: dict[str, Any], conditions: list[dict[str, Any]] | None = None) -> str:
    text = render(
        "rollout_fault.j2",
        app_pods={"resources": list(pods)},
        app_deployment={"resources": [{"status": {"conditions": conditions or []}}]},
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
QUOTA = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}


@pytest.mark.parametrize(
    ("pods", "conditions", "parts"),
    [
        (
            [pod(container(state={"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}}))],
            [],
            ["flask-metrics-abc with flask-metrics:0 waits: ErrImageNeverPull (not present)."],
        ),
        (
            [pod(container(state=BACK_OFF, lastState=ENDED, restartCount=4))],
            [],
            ["CrashLoopBackOff (back-off 40s), restarted 4 times, last after exit code 2: APP_PORT is 'x'."],
        ),
        ([pod(container(state=ENDED))], [], ["ended: Error, exit code 2."]),
        ([pod(container(state={"running": {}}))], [], ["runs, but /readyz does not answer with 200."]),
        ([pod(conditions=[UNSCHEDULED])], [], ["flask-metrics-abc is not scheduled: 0/1 nodes: Too many pods."]),
        ([], [QUOTA], ["It has no pod.", "No pod can be made: exceeded quota: small."]),
        ([pod(container(state=BACK_OFF), deletionTimestamp="2026-11-24T00:00:00Z")], [], ["It has no pod."]),
    ],
    ids=["image", "crash-loop", "ended", "not-ready", "unscheduled", "quota", "going"],
)
def test_what_keeps_a_pod_is_named(pods: list[Any], conditions: list[Any], parts: list[str]) -> None:
    text = fault(*pods, conditions=conditions)
    assert text.startswith("The Deployment lab/flask-metrics did not become available within 90 s.")
    assert text.endswith("Look with 'kubectl -n lab describe pod -l app=flask'.")
    for part in parts:
        assert part in text


def test_a_pod_that_is_ready_is_not_blamed() -> None:
    assert "Pod " not in fault(pod(container(ready=True, state={"running": {}})))
