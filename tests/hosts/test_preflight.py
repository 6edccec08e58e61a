"""What speaks against a host comes in one list. Needs no container: every host is this one, with other choices."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import origin as publishers
import pytest
from machines import inventory
from origin import Origin
from plays import REPOSITORY, Run, play

REGISTRIES = ("gcr.io", "registry.k8s.io", "docker.io", "quay.io")
FAULTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    # What is wrong with the choices of several roles.
    "chosen": (
        {
            "kubectl_version": "v1",
            "helm_download_timeout": 0,
            "docker_source": "nowhere",
            "minikube_cpus": 1 << 20,
            "app_image_name": "No Name",
        },
        [
            "kubectl_version=v1 is no version",
            "helm_download_timeout=0 is below 1",
            "docker_source=nowhere is unknown",
            f"minikube_cpus={1 << 20}, but chosen has ",
            "app_image_name=No Name is no name",
        ],
    ),
    # What is wrong with the host and what it reaches.
    "found": (
        {
            "preflight_free": 1 << 40,
            "preflight_ports": ["{{ busy_port }}"],
            "preflight_releases": {"Debian": ["3.1"]},
            "preflight_sysctls": {"kernel.pid_max": 1 << 60},
            "vigie_mirrors": {
                "https://dl.k8s.io": "http://127.0.0.1:1/k8s",
                "https://get.helm.sh": "{{ missing['https://get.helm.sh'] }}",
                "https://github.com": "https://nowhere.invalid",
                "gcr.io": "127.0.0.1:1",
                "registry.k8s.io": "{{ vigie_mirrors_registry }}",
            },
        },
        [
            "MiB free; make room",
            "on which somebody listens",
            "but preflight_releases has Debian 3.1",
            f"run 'sudo sysctl -w kernel.pid_max={1 << 60}'",
            "from which kubectl comes, is not reached: the connection is refused; let the host reach it",
            f"from which kubelet {publishers.TABLE['kubelet']['version']} comes, is not reached: the connection is refused",
            "from which helm comes, answers 404",
            "from which minikube comes, is not reached: its name is not known to DNS",
            "https://127.0.0.1:1/v2/, from which an image comes, is not reached: the connection is refused",
        ],
    ),
    # A version that nobody publishes.
    "unpublished": (
        {"minikube_kubernetes_version": "1.35.99"},
        ["/dl.k8s.io/release/v1.35.99/bin/linux/", "from which kubelet 1.35.99 comes, answers 404"],
    ),
    # Where the parts on the cluster come from.
    "lab": (
        {
            "vigie_whole_lab": True,
            "vigie_mirrors": "{{ good_mirrors | combine({'quay.io': '127.0.0.1:1', chart_origin: missing[chart_origin]}) }}",
        },
        [
            "https://127.0.0.1:1/v2/, from which an image comes, is not reached: the connection is refused",
            "/index.yaml, from which the chart comes, answers 404",
        ],
    ),
    "lab_with_own_chart": (
        {"vigie_whole_lab": True, "monitoring_chart": "http://127.0.0.1:1/stack-1.0.0.tgz"},
        [
            "from which the chart comes, is not reached: the connection is refused; let the host reach it, or correct monitoring_chart."
        ],
    ),
    # One fault, and not one of each address behind it.
    "proxied": (
        {"ansible_shell_executable": "{{ proxied_shell }}"},
        [
            "http_proxy=http://127.0.0.1:1 does not answer: the connection is refused; correct the variable, or unset it."
        ],
    ),
}
SILENT: dict[str, dict[str, Any]] = {
    "good": {},
    "good_lab": {"vigie_whole_lab": True},
    # Nobody asks for a file.
    "good_lab_with_own_chart": {"vigie_whole_lab": True, "monitoring_chart": "/srv/stack-1.0.0.tgz"},
}
# Whether these are reached depends on where the tests run; whom they ask does not.
ASKING: dict[str, tuple[dict[str, Any], list[str]]] = {
    "direct": (
        {"vigie_mirrors": {}, "preflight_timeout": 1},
        [
            "dl.k8s.io",
            "gcr.io",
            "get.helm.sh",
            "github.com",
            "registry-1.docker.io",
            "registry.k8s.io",
            "storage.googleapis.com",
        ],
    ),
    # Nothing goes past mirrors, and there is none for that archive.
    "partly_mirrored": (
        {"vigie_mirrors": {"registry.k8s.io": "127.0.0.1:1/k8s"}, "preflight_timeout": 1},
        ["127.0.0.1:1", "dl.k8s.io", "gcr.io", "get.helm.sh", "github.com", "registry-1.docker.io"],
    ),
    "own_node_image": (
        {
            "vigie_mirrors": {"docker.io": "127.0.0.1:1"},
            "preflight_timeout": 1,
            "minikube_base_image": "mine.example/kicbase:v1",
        },
        ["127.0.0.1:1", "dl.k8s.io", "get.helm.sh", "github.com", "registry.k8s.io"],
    ),
    "lab_direct": (
        {"vigie_whole_lab": True, "vigie_mirrors": {}, "preflight_timeout": 1},
        [
            "dl.k8s.io",
            "gcr.io",
            "get.helm.sh",
            "github.com",
            "prometheus-community.github.io",
            "quay.io",
            "registry-1.docker.io",
            "registry.k8s.io",
            "storage.googleapis.com",
        ],
    ),
    # The node knows no mirror of a part of a registry.
    "lab_partly_mirrored": (
        {
            "vigie_whole_lab": True,
            "vigie_mirrors": {"quay.io": "127.0.0.1:1", "registry.k8s.io/kube-state-metrics": "127.0.0.1:2"},
            "preflight_timeout": 1,
            "monitoring_chart": "oci://mine.example/charts/kube-prometheus-stack",
        },
        [
            "127.0.0.1:1",
            "dl.k8s.io",
            "gcr.io",
            "get.helm.sh",
            "github.com",
            "mine.example",
            "registry-1.docker.io",
            "registry.k8s.io",
        ],
    ),
}


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with publishers.serving("127.0.0.1") as started:
        yield started


def run(folder: Path, origin: Origin, hosts: dict[str, dict[str, Any]], **variables: Any) -> Run:
    registry = origin.addresses["127.0.0.1"].removeprefix("http://")
    mirrors = {**origin.mirrors("127.0.0.1"), **dict.fromkeys(REGISTRIES, registry)}
    shared = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "vigie_platform": "minikube",
        "vigie_state_dir": str(folder / "state"),
        **{f"{name}_bin_dir": str(folder / "bin") for name in publishers.PROGRAMS},
        "minikube_memory": 1800,
        "preflight_timeout": 5,
        "vigie_mirrors": mirrors,
        "good_mirrors": mirrors,
        "chart_origin": "https://" + urlsplit(publishers.TABLE["kube-prometheus-stack"]["repository"]).netloc,
        "missing": origin.mirrors("127.0.0.1", "missing"),
        "proxied_shell": str(folder / "shell"),
        "vigie_mirrors_registry": registry,
    }
    playbook = REPOSITORY / "playbooks/host.yml"
    options = ("--tags", "preflight", "--check")
    # Not asked here: this machine's package sources, and what its own Docker has.
    variables |= {"preflight_docker_is_there": True, "preflight_needs_apt": False, "preflight_docker_tags": []}
    variables["vigie_versions"] = publishers.table()
    return play(playbook, inventory(folder / "hosts.json", hosts, shared), *options, **variables)


def listed(run: Run, host: str) -> list[str]:
    """The one list, a fault a line; empty without any."""
    lists = [
        event["message"]
        for event in run.events
        if event["host"] == host and event["task"] == "Nothing speaks against this host" and event["kind"] == "failed"
    ]
    assert len(lists) <= 1
    return lists[0].splitlines()[1:] if lists else []


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Run:
    """Return one run in which every host has other faults, or none."""
    folder = tmp_path_factory.mktemp("preflight")
    shell = folder / "shell"
    shell.write_text('#!/bin/sh\nexport http_proxy=http://me:secret@127.0.0.1:1 no_proxy=\nexec /bin/sh "$@"\n')
    shell.chmod(0o755)
    with socket.create_server(("", 0)) as busy:
        hosts = {**{name: variables for name, (variables, _parts) in (FAULTS | ASKING).items()}, **SILENT}
        done = run(folder, origin, hosts, busy_port=busy.getsockname()[1])
    assert {path.name for path in folder.iterdir()} == {"hosts.json", "shell"}
    return done


@pytest.mark.parametrize("name", FAULTS)
def test_all_faults_of_all_roles_come_in_one_list(told: Run, name: str) -> None:
    lines = listed(told, name)
    for part in FAULTS[name][1]:
        assert [line for line in lines if part in line], (part, lines)
    assert told.changed(name) == []


@pytest.mark.parametrize("name", SILENT)
def test_nothing_speaks_against_a_good_host(told: Run, name: str) -> None:
    assert listed(told, name) == []
    assert "Nothing speaks against this host" in [event["task"] for event in told.events if event["host"] == name]


def test_what_will_be_used_is_said_before(told: Run) -> None:
    (said,) = [
        event["message"] for event in told.events if event["host"] == "good" and event["task"] == "What will be used"
    ]
    words = {line.split()[0]: line for line in said.splitlines()}
    assert list(words) == ["host", "size", "docker", "kubectl", "helm", "minikube", "image", "from", "asked"]
    assert publishers.TABLE["helm"]["version"] in words["helm"]
    assert "127.0.0.1:" in words["asked"]


@pytest.mark.parametrize("name", ASKING)
def test_whoever_has_what_a_new_cluster_needs_is_asked(told: Run, name: str) -> None:
    (said,) = [
        event["message"] for event in told.events if event["host"] == name and event["task"] == "What will be used"
    ]
    (asked,) = [line.split(maxsplit=1)[1] for line in said.splitlines() if line.startswith("asked")]
    assert asked.split(", ") == ASKING[name][1]


def test_a_dead_proxy_is_the_one_fault_and_its_password_is_not_told(told: Run) -> None:
    assert len([line for line in listed(told, "proxied") if "127.0.0.1" in line]) == 1
    assert "secret" not in told.output
