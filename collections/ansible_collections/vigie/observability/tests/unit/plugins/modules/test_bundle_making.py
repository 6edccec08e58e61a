"""The modules that make a bundle, and that its own reader reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.vigie.observability.plugins.module_utils import bundle as logic
from ansible_collections.vigie.observability.plugins.module_utils import fetching
from ansible_collections.vigie.observability.plugins.module_utils.bundle import Bundle
from ansible_collections.vigie.observability.plugins.modules import (
    bundle_manifest,
    image_archive,
    python_wheel,
    python_wheels,
)

KUBECTL = {
    **{"name": "kubectl", "version": "1.10", "kind": "binary", "architecture": "amd64"},
    "file": "binaries/kubectl",
}
MAILPIT = {
    **{"name": "mailpit", "version": "1.30.5", "kind": "image", "architecture": "arm64", "file": "images/mailpit.tar"},
    **{"ref": "docker.io/axllent/mailpit:v1.30.5", "digest": f"sha256:{'0' * 64}"},
}
Call = Callable[..., dict[str, Any]]


@pytest.fixture
def manifest(tmp_path: Path, run_main: Call) -> Call:
    def call(*artifacts: dict[str, str], check: bool = False) -> dict[str, Any]:
        arguments = {"bundle_dir": str(tmp_path), "artifacts": list(artifacts), "_ansible_check_mode": check}
        return run_main(bundle_manifest.main, arguments)

    return call


def put(root: Path, entry: dict[str, str], content: bytes = b"content") -> None:
    path = root / entry["file"]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def test_the_reader_reads_what_is_written(tmp_path: Path, manifest: Call) -> None:
    put(tmp_path, KUBECTL)
    put(tmp_path, MAILPIT, b"image")
    result = manifest(MAILPIT, KUBECTL)
    assert (result["changed"], result["entries"], result["bytes"]) == (True, 2, 12)
    assert "+" not in result["diff"]["before"] and "kubectl" in result["diff"]["after"]
    bundle = Bundle(tmp_path)
    assert [artifact.name for artifact in bundle.artifacts] == ["kubectl", "mailpit"]
    assert [bundle.verify(artifact).name for artifact in bundle.artifacts] == ["kubectl", "mailpit.tar"]
    assert yaml.safe_load((tmp_path / "manifest.yml").read_text())[1]["ref"] == MAILPIT["ref"]
    assert manifest(KUBECTL, MAILPIT)["changed"] is False
    assert sorted(path.name for path in tmp_path.iterdir()) == ["binaries", "images", "manifest.yml"]


def test_what_was_listed_stays_until_it_is_listed_anew_or_gone(tmp_path: Path, manifest: Call) -> None:
    older = {**KUBECTL, "version": "1.9", "file": "binaries/older"}
    for entry in (KUBECTL, older, MAILPIT):
        put(tmp_path, entry)
    manifest(older, KUBECTL)
    manifest(MAILPIT)
    assert [artifact.version for artifact in Bundle(tmp_path).artifacts] == ["1.10", "1.9", "1.30.5"]
    put(tmp_path, KUBECTL, b"another")
    (tmp_path / older["file"]).unlink()
    assert manifest(KUBECTL)["changed"] is True
    artifacts = Bundle(tmp_path).artifacts
    assert [artifact.version for artifact in artifacts] == ["1.10", "1.30.5"]
    assert artifacts[0].sha256 == hashlib.sha256(b"another").hexdigest()


def test_check_mode_tells_and_leaves_everything(tmp_path: Path, manifest: Call) -> None:
    result = manifest(KUBECTL, check=True)
    assert result["changed"] is True and "kubectl" in result["diff"]["after"]
    assert list(tmp_path.iterdir()) == []
    put(tmp_path, KUBECTL)
    manifest(KUBECTL)
    assert manifest(KUBECTL, check=True)["changed"] is False
    assert manifest(check=True)["entries"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"file": "binaries/nothing"}, "file_missing"),
        ({"file": "../outside"}, "path_escape"),
        ({"version": " "}, "manifest_invalid"),
    ],
)
def test_a_faulty_entry_leaves_the_old_manifest(
    tmp_path: Path, manifest: Call, change: dict[str, str], reason: str
) -> None:
    (tmp_path.parent / "outside").write_bytes(b"x")
    put(tmp_path, KUBECTL)
    manifest(KUBECTL)
    before = (tmp_path / "manifest.yml").read_text()
    result = manifest({**KUBECTL, "name": "other", **change})
    assert (result["failed"], result["reason"]) == (True, reason)
    assert (tmp_path / "manifest.yml").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["binaries", "manifest.yml"]


def test_a_malformed_manifest_and_a_missing_folder_are_told(tmp_path: Path, manifest: Call, run_main: Call) -> None:
    (tmp_path / "manifest.yml").write_text("- name: [")
    result = manifest(check=True)
    assert (result["failed"], result["reason"]) == (True, "manifest_invalid")
    assert str(tmp_path / "manifest.yml") in result["hint"]
    result = run_main(bundle_manifest.main, {"bundle_dir": str(tmp_path / "none"), "artifacts": [KUBECTL]})
    assert result["reason"] == "bundle_missing"


def test_a_full_disk_leaves_the_old_manifest(tmp_path: Path, manifest: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, KUBECTL)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logic.os, "fsync", full)
    assert manifest(KUBECTL)["reason"] == "disk_full"
    assert not (tmp_path / "manifest.yml").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["binaries"]


def made(content: bytes, origin: dict[str, str]) -> Callable[[Any, Path], tuple[Path, dict[str, str]]]:
    def make(_wanted: Any, folder: Path) -> tuple[Path, dict[str, str]]:
        path = folder / "made"
        path.write_bytes(content)
        return path, origin

    return make


def test_an_image_is_told_copied_and_then_there(
    tmp_path: Path, run_main: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = f"sha256:{'1' * 64}"
    origin = {"ref": MAILPIT["ref"], "architecture": "arm64", "digest": digest}
    monkeypatch.setattr(fetching.Image, "make", made(b"image", origin))
    arguments = {"ref": MAILPIT["ref"], "architecture": "arm64", "dest": str(tmp_path / "images/mailpit.tar")}
    told = run_main(image_archive.main, {**arguments, "digest": digest, "_ansible_check_mode": True})
    assert (told["changed"], told["digest"], told["diff"]["before"]) == (True, digest, {})
    assert list(tmp_path.iterdir()) == []
    done = run_main(image_archive.main, arguments)
    assert (done["changed"], done["digest"], done["reason"]) == (True, digest, "ok")
    assert done["diff"] == {"before": {}, "after": origin}
    again = run_main(image_archive.main, arguments)
    assert (again["changed"], again["digest"]) == (False, digest)
    assert again["diff"]["before"] == again["diff"]["after"]


def test_a_wheel_is_told_downloaded_and_then_there(
    tmp_path: Path, run_main: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching.Wheel, "make", made(b"wheel", {}))
    sha256 = hashlib.sha256(b"wheel").hexdigest()
    arguments = {"requirement": "ansible==14.5.0", "sha256": sha256, "dest": str(tmp_path / "out/ansible.whl")}
    assert run_main(python_wheel.main, {**arguments, "_ansible_check_mode": True})["changed"] is True
    assert list(tmp_path.iterdir()) == []
    assert run_main(python_wheel.main, arguments)["changed"] is True
    again = run_main(python_wheel.main, arguments)
    assert (again["changed"], again["diff"]["before"]) == (False, {"mode": "0644", "sha256": sha256})


def test_wheels_are_told_downloaded_and_then_there(
    tmp_path: Path, run_main: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    dest = tmp_path / "wheels"
    monkeypatch.setattr(fetching.Wheels, "are_in", lambda _wheels, folder: folder.exists())
    monkeypatch.setattr(fetching.Wheels, "bring", lambda _wheels, folder: folder.mkdir())
    (tmp_path / "list.txt").touch()
    arguments = {"requirements": str(tmp_path / "list.txt"), "dest": str(dest), "python_version": "3.13"}
    arguments["architecture"] = "amd64"
    assert run_main(python_wheels.main, {**arguments, "_ansible_check_mode": True})["changed"] is True
    assert not dest.exists()
    done = run_main(python_wheels.main, arguments)
    assert (done["changed"], done["path"], done["reason"]) == (True, str(dest), "ok")
    assert run_main(python_wheels.main, arguments)["changed"] is False
    failed = run_main(python_wheels.main, {**arguments, "python_version": "three"})
    assert (failed["failed"], failed["reason"]) == (True, "bad_option")


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (image_archive.main, {"ref": MAILPIT["ref"], "architecture": "arm64"}),
        (python_wheel.main, {"requirement": "ansible==14.5.0", "sha256": "0" * 64}),
    ],
)
def test_a_folder_in_the_place_of_the_file_is_refused(
    tmp_path: Path, run_main: Call, main: Callable[[], None], arguments: dict[str, str]
) -> None:
    (tmp_path / "taken").mkdir()
    result = run_main(main, {**arguments, "dest": str(tmp_path / "taken")})
    assert (result["failed"], result["reason"]) == (True, "dest_occupied")
    assert str(tmp_path / "taken") in result["hint"]
