"""Bootstrap refuses what can't work, in one sentence, before it writes anything; and takes up an interrupted run."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "tools" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bootstrap = load("bootstrap")
collections = load("install_collections")


def test_a_missing_venv_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "ensurepip" else find(name, *rest)
    )
    with pytest.raises(
        bootstrap.BootstrapError, match=r"no working 'venv' module; run 'sudo apt-get install python3-venv'"
    ):
        bootstrap.check_python()


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    version = namedtuple("version", "major minor micro")
    monkeypatch.setattr(bootstrap.sys, "version_info", version(3, 10, 12))
    with pytest.raises(bootstrap.BootstrapError, match=r"python3 is 3\.10\.12, but Vigie needs 3\.11 or newer"):
        bootstrap.check_python()


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    command = [sys.executable, str(REPOSITORY / "tools/bootstrap.py"), "--state", str(occupied / "state")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(rf"bootstrap: VIGIE_STATE_DIR={occupied}/state can't be made \(.+\); choose .+\n", done.stderr)


def test_a_broken_environment_is_not_taken_for_a_working_one(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    assert not bootstrap.works(python)
    python.parent.mkdir()
    python.symlink_to(tmp_path / "gone")
    assert not bootstrap.works(python)
    python.unlink()
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert not bootstrap.works(python)


def test_an_interrupted_installation_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(bootstrap, "works", lambda python: True)

    def run(command: list[str], what: str) -> None:
        ran.append(what)
        if len(ran) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "run", run)
    with pytest.raises(KeyboardInterrupt):
        bootstrap.install_packages(tmp_path, ["runtime"])
    bootstrap.install_packages(tmp_path, ["runtime"])
    bootstrap.install_packages(tmp_path, ["runtime"])
    assert ran == ["Installing requirements/runtime.txt"] * 2


def write_manifest(root: Path, name: str, version: Any) -> None:
    folder = root / "ansible_collections" / Path(*name.split("."))
    folder.mkdir(parents=True)
    (folder / "MANIFEST.json").write_text(json.dumps({"collection_info": {"version": version}}))


def test_installed_collections_are_known(tmp_path: Path) -> None:
    assert collections.installed_version(tmp_path, "a.b") is None
    write_manifest(tmp_path, "a.b", "1.2.3")
    assert collections.installed_version(tmp_path, "a.b") == "1.2.3"


def test_collections_come_out_of_the_pinned_wheel(tmp_path: Path) -> None:
    """The real wheel, as on a machine that can't reach Galaxy: the versions of both files agree."""
    command = [
        sys.executable,
        str(REPOSITORY / "tools/install_collections.py"),
        "--state",
        str(tmp_path),
        "--from",
        "wheel",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wanted = collections.wanted_collections(REPOSITORY / "requirements.yml")
    root = tmp_path / "collections"
    assert {name: collections.installed_version(root, name) for name in wanted} == wanted
    assert [path.name for path in root.iterdir()] == ["ansible_collections"]
    namespaces = {name.split(".")[0] for name in wanted}
    assert {path.name for path in (root / "ansible_collections").iterdir()} == namespaces


def test_another_version_than_the_wheel_carries_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        collections.CollectionError, match=r"requirements\.yml wants community\.crypto 0\.0\.1, but .+ carries"
    ):
        collections.from_wheel(tmp_path, {"community.crypto": "0.0.1"})
    assert not (tmp_path / "ansible_collections" / "community").exists()


def test_every_pin_has_a_hash() -> None:
    for path in (REPOSITORY / "requirements").glob("*.txt"):
        text = path.read_text()
        pins = re.findall(r"^[a-z0-9.-]+==", text, re.MULTILINE)
        assert pins
        for block in re.split(r"\n(?=[a-z0-9.-]+==)", text):
            if re.match(r"[a-z0-9.-]+==", block):
                assert "--hash=sha256:" in block, block.splitlines()[0]


def test_collections_used_are_required() -> None:
    """A collection that a role uses and requirements.yml lacks would only be missed on a fresh machine."""
    required = {entry["name"] for entry in yaml.safe_load((REPOSITORY / "requirements.yml").read_text())["collections"]}
    used = set()
    for path in [*REPOSITORY.glob("roles/*/tasks/**/*.yml"), *REPOSITORY.glob("playbooks/**/*.yml")]:
        used |= set(re.findall(r"^\s+(?:- )?([a-z_]+\.[a-z_]+)\.[a-z0-9_]+:", path.read_text(), re.MULTILINE))
    # Callbacks are used by the configuration alone.
    used |= set(re.findall(r"\b([a-z_]+\.[a-z_]+)\.profile_", (REPOSITORY / "ansible.cfg").read_text()))
    assert used - {"ansible.builtin", "vigie.observability"} == required
