"""Many artifacts of a bundle at once: every fault is told, and nothing is taken on trust."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.vigie.observability.plugins.module_utils import bundle as logic
from ansible_collections.vigie.observability.plugins.modules import bundle_check

AMD64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x3e\x00" + b"program"
ARM64 = AMD64.replace(b"\x3e\x00", b"\xb7\x00")
WANTED = [
    {"name": "minikube", "version": "1.38.1", "kind": "binary"},
    {"name": "kicbase", "version": "0.0.50", "kind": "image"},
    {"name": "stack", "version": "88.5.3", "kind": "chart"},
    {"name": "crds", "version": "0.93.1", "kind": "manifest"},
]


def entry(name: str, version: str, kind: str, architecture: str, content: bytes) -> dict[str, str]:
    return {
        **{"name": name, "version": version, "kind": kind, "architecture": architecture, "file": name},
        "sha256": hashlib.sha256(content).hexdigest(),
    }


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a bundle with that minikube in it."""

    def bundle(minikube: bytes = AMD64, architecture: str = "amd64") -> Path:
        entries = [
            entry("minikube", "1.38.1", "binary", architecture, minikube),
            entry("kicbase", "0.0.50", "image", architecture, b"image"),
            entry("stack", "88.5.3", "chart", "noarch", b"chart"),
            entry("crds", "0.93.1", "manifest", "noarch", b"crds"),
        ]
        for name, content in (("minikube", minikube), ("kicbase", b"image"), ("stack", b"chart"), ("crds", b"crds")):
            (tmp_path / name).write_bytes(content)
        (tmp_path / "manifest.yml").write_text(yaml.safe_dump(entries))
        return tmp_path

    return bundle


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    monkeypatch.setattr(logic.platform, "machine", lambda: "x86_64")

    def call(bundle: Path, wanted: list[dict[str, str]] | None = None, **options: Any) -> dict[str, Any]:
        artifacts = WANTED if wanted is None else wanted
        return run_main(bundle_check.main, {"bundle_dir": str(bundle), "artifacts": artifacts, **options})

    return call


def test_a_whole_bundle(make: Callable[..., Path], run: Callable[..., dict[str, Any]]) -> None:
    bundle = make()
    result = run(bundle)
    assert (result["changed"], result["reason"], result["architecture"]) == (False, "ok", "amd64")
    assert result["artifacts"]["kicbase"] == {
        "path": str(bundle / "kicbase"),
        "sha256": hashlib.sha256(b"image").hexdigest(),
        "bytes": 5,
    }
    assert set(result["artifacts"]) == {"minikube", "kicbase", "stack", "crds"}


def test_what_is_in_use_is_not_read_again(make: Callable[..., Path], run: Callable[..., dict[str, Any]]) -> None:
    bundle = make()
    (bundle / "kicbase").unlink()
    known = hashlib.sha256(b"image").hexdigest()
    assert run(bundle, known=[known])["artifacts"]["kicbase"] == {"path": str(bundle / "kicbase"), "sha256": known}
    assert run(bundle, known=["0" * 64])["reason"] == "file_missing"


def test_every_fault_is_told_at_once(make: Callable[..., Path], run: Callable[..., dict[str, Any]]) -> None:
    bundle = make()
    (bundle / "minikube").write_bytes(AMD64[:-1])
    (bundle / "kicbase").unlink()
    result = run(bundle, [*WANTED, {"name": "kubectl", "version": "1.35.8", "kind": "binary"}])
    assert (result["failed"], result["reason"]) == (True, "checksum_mismatch")
    assert all(part in result["hint"] for part in ("minikube 1.38.1", "kicbase 0.0.50", "no binary kubectl"))
    assert "stack" not in result["hint"].replace("Traceback", "")


def test_a_bundle_for_another_architecture(make: Callable[..., Path], run: Callable[..., dict[str, Any]]) -> None:
    result = run(make(ARM64, "arm64"))
    assert result["reason"] == "architecture_missing"
    assert "binary minikube 1.38.1 for arm64, not for amd64" in result["hint"]
    assert "image kicbase" in result["hint"]


def test_a_bundle_for_hosts_of_another_architecture_than_this_one(
    make: Callable[..., Path], run: Callable[..., dict[str, Any]]
) -> None:
    result = run(make(ARM64, "arm64"), architecture="arm64")
    assert (result["reason"], result["architecture"]) == ("ok", "arm64")
    assert set(result["artifacts"]) == {"minikube", "kicbase", "stack", "crds"}
    result = run(make(), architecture="arm64")
    assert result["reason"] == "architecture_missing"
    assert "binary minikube 1.38.1 for amd64, not for arm64" in result["hint"]
    result = run(make(AMD64, "arm64"), architecture="arm64")
    assert (result["reason"], "is a program for amd64" in result["hint"]) == ("wrong_architecture", True)


def test_a_machine_that_no_bundle_is_for_can_make_one(
    make: Callable[..., Path], run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logic.platform, "machine", lambda: "riscv64")
    assert run(make(), architecture="amd64")["reason"] == "ok"
    assert run(make())["reason"] == "architecture_missing"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (AMD64, "ok"),
        (ARM64, "wrong_architecture"),
        (AMD64.replace(b"\x3e\x00", b"\xf3\x00"), "wrong_architecture"),
        (b"#!/bin/sh\n", "ok"),
        (b"", "ok"),
    ],
    ids=["fits", "arm64", "riscv", "script", "empty"],
)
def test_the_program_itself_is_asked(
    make: Callable[..., Path], run: Callable[..., dict[str, Any]], program: bytes, reason: str
) -> None:
    result = run(make(program))
    assert result["reason"] == reason
    if reason != "ok":
        assert f"file {make(program)}/minikube" in result["hint"]


def test_no_bundle(tmp_path: Path, run: Callable[..., dict[str, Any]]) -> None:
    assert run(tmp_path / "nothing")["reason"] == "bundle_missing"
