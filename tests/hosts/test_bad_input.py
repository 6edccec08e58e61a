"""What the roles of programs refuse before anything changes. Needs no container: every host is this one, with another fault."""

from __future__ import annotations

import platform
import shutil
import sys
from typing import Any

import pytest
from machines import inventory
from origin import TABLE
from plays import HERE, Run, play

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "")
KUBECTL = TABLE["kubectl"]
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown": (
        {"kubectl_version": "1.36.99"},
        [
            f"kubectl_version=1.36.99 has no known checksum for {ARCHITECTURE}",
            f"choose one of {', '.join([KUBECTL['version'], *KUBECTL['others']])}",
            f"set kubectl_sha256 to the SHA-256 of https://dl.k8s.io/release/v1.36.99/bin/linux/{ARCHITECTURE}/kubectl",
        ],
    ),
    "other_program": ({"helm_version": "4.9.9"}, ["helm_version=4.9.9 has no known checksum", "4.3.0"]),
    "letter": ({"kubectl_version": "v1.36.4"}, ["kubectl_version=v1.36.4 is no version", "without a leading v"]),
    "number": ({"kubectl_version": 1.36}, ["kubectl_version=1.36 is no version"]),
    "checksum_alone": ({"kubectl_sha256": "0" * 64}, ["is set without kubectl_version"]),
    "checksum_short": ({"kubectl_version": "1.36.99", "kubectl_sha256": "abc"}, ["kubectl_sha256=abc is not 64"]),
    "checksum_other": (
        {"kubectl_version": "1.36.4", "kubectl_sha256": "0" * 64},
        ["is not what vars/versions.yml has for kubectl 1.36.4", KUBECTL["others"]["1.36.4"].get(ARCHITECTURE, "")],
    ),
    "relative": ({"kubectl_bin_dir": "bin"}, ["kubectl_bin_dir=bin is no absolute path"]),
    "impatient": ({"kubectl_download_timeout": 0}, ["kubectl_download_timeout=0 is below 1"]),
    "architecture": ({"ansible_python_interpreter": "{{ narrow_python }}"}, ["('uname -m')", "amd64 and arm64 only"]),
    "mirror": ({"vigie_mirrors": {"https://dl.k8s.io": "mirror.example"}}, ["either both have a scheme"]),
    "no_bundle": ({"vigie_bundle_dir": "/no/such/bundle"}, ["/no/such/bundle"]),
}
GOOD: dict[str, dict[str, Any]] = {
    "as_is": {},
    "known": {"kubectl_version": "1.36.4", "helm_version": "3.21.4"},
    "own_checksum": {"kubectl_version": "1.36.99", "kubectl_sha256": "0" * 64},
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return one run in which every host has another fault, or none."""
    folder = tmp_path_factory.mktemp("bad_input")
    narrow = folder / "python"
    setarch = shutil.which("setarch")
    assert setarch, "util-linux is essential"
    shared = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "vigie_platform": "minikube",
        "vigie_state_dir": str(folder / "state"),
        "kubectl_bin_dir": str(folder / "bin"),
        "helm_bin_dir": str(folder / "bin"),
        "narrow_python": str(narrow),
    }
    hosts = {**{name: variables for name, (variables, _parts) in CASES.items()}, **GOOD}
    narrow.write_text(f'#!/bin/sh\nexec {setarch} linux32 {sys.executable} "$@"\n')
    narrow.chmod(0o755)
    run = play(HERE / "programs.yml", inventory(folder / "hosts.json", hosts, shared), "--tags", "kubectl_preflight")
    assert [path.name for path in folder.iterdir() if path.name in ("state", "bin")] == []
    return run


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_in_one_sentence(told: Run, name: str) -> None:
    for part in CASES[name][1]:
        assert part in told.fault(name)


@pytest.mark.parametrize("name", GOOD)
def test_nothing_else_is_refused(told: Run, name: str) -> None:
    assert told.fault(name) == ""
    assert told.changed(name) == []


def test_every_host_was_asked(told: Run) -> None:
    assert {event["host"] for event in told.events} == {*CASES, *GOOD}
