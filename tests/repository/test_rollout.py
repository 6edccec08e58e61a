"""When a rollout has ended, by what the API server says of the workloads."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

VARS = Path(__file__).parents[2] / "roles" / "cluster" / "vars" / "main.yml"
ENVIRONMENT = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
ENVIRONMENT.filters["from_json"] = json.loads
ENVIRONMENT.filters["flatten"] = lambda lists: list(itertools.chain(*lists))
DONE = ENVIRONMENT.from_string(yaml.safe_load(VARS.read_text())["cluster_rollout_done"])
WANTED = {"Deployment": ["app"], "DaemonSet": ["agent"]}


def deployment(name: str = "app", *, generation: int = 2, **status: int) -> dict[str, Any]:
    seen = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, **status}
    return {
        "kind": "Deployment",
        "metadata": {"name": name, "generation": generation},
        "spec": {"replicas": 1},
        "status": seen,
    }


def daemons(**status: int) -> dict[str, Any]:
    seen = {"observedGeneration": 1, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 2}
    return {"kind": "DaemonSet", "metadata": {"name": "agent", "generation": 1}, "spec": {}, "status": seen | status}


def done(*found: dict[str, Any], wanted: dict[str, list[str]] = WANTED) -> bool:
    answer = {"stdout": json.dumps({"items": list(found)})}
    return DONE.render(cluster_workload=answer, cluster_workloads=wanted) == "True"


def test_all_are_there_and_ready() -> None:
    assert done(deployment(), daemons())
    # Others in the namespace are nobody's business, even one of that name and another kind.
    assert done(
        deployment(),
        daemons(),
        deployment("other", readyReplicas=0),
        {**daemons(readyReplicas=0), "kind": "StatefulSet"},
    )


@pytest.mark.parametrize(
    "found",
    [
        [],
        [deployment()],
        [deployment(generation=3), daemons()],
        [deployment(updatedReplicas=0), daemons()],
        [deployment(readyReplicas=0), daemons()],
        [deployment(replicas=2), daemons()],
        [deployment(), daemons(numberReady=1)],
        [deployment(), daemons(updatedNumberScheduled=1)],
    ],
    ids=["nothing", "one is missing", "not seen yet", "old form", "not ready", "old pod", "node not ready", "node old"],
)
def test_what_has_not_ended(found: list[dict[str, Any]]) -> None:
    assert not done(*found)


def test_an_api_server_that_does_not_answer_is_no_end() -> None:
    assert (
        DONE.render(cluster_workload={"rc": 1, "stdout": ""}, cluster_workloads={"Deployment": ["app"]}).strip()
        == "False"
    )
