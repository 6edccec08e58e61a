"""Role app_image against a fake Docker and a fake Minikube: what it does when, and what it says when something is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_docker import FakeDocker, FakeMinikube, fake_docker, image_id

ROOT = Path(__file__).resolve().parents[2]
BASE = yaml.safe_load((ROOT / "vars/versions.yml").read_text())["vigie_versions"]["python"]
INSTALL = ["preflight", "main", "verify"]


class Lab:
    """A state directory, a bundle, a copy of the application's source, and both fakes."""

    def __init__(self, folder: Path, docker: FakeDocker) -> None:
        self.folder, self.docker = folder, docker
        self.state = folder / "state"
        self.minikube = FakeMinikube(self.state / "bin")
        self.source = folder / "app"
        shutil.copytree(ROOT / "app", self.source, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        self.bundle = folder / "bundle"
        self.bundle.mkdir()
        self.put_base(image_id("base"))

    def put_base(self, key: str, name: str = BASE["ref"]) -> None:
        """Make the bundle hold a base image with this id."""
        archive = json.dumps({"name": name, "id": key}).encode()
        (self.bundle / "python.tar").write_bytes(archive)
        entry = {"name": "python", "version": BASE["version"], "kind": "image", "architecture": "noarch"}
        entry |= {"file": "python.tar", "sha256": hashlib.sha256(archive).hexdigest()}
        (self.bundle / "manifest.yml").write_text(yaml.safe_dump([entry]))

    def play(self, phases: list[str], *options: str, **variables: Any) -> str:
        """Run phases of the role; return the output without line ends, so that sentences are found in it."""
        self.docker.asked.clear()
        values = {"phases": phases, "vigie_state_dir": str(self.state), "vigie_bundle_dir": str(self.bundle)}
        values["minikube_bin_dir"] = str(self.minikube.program.parent)
        values |= {"app_image_source": str(self.source), **variables}
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "ansible-playbook"),
                "-i",
                "localhost,",
                "-e",
                json.dumps(values),
                *options,
                "app_image.yml",
            ],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
            env={
                **os.environ,
                "DOCKER_HOST": f"unix://{self.docker.socket}",
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
                "ANSIBLE_CALLBACK_FORMAT_PRETTY": "false",
                "COLUMNS": "10000",
            },
        )
        return " ".join((done.stdout + done.stderr).split())

    @property
    def built(self) -> list[str]:
        """Names of the images that the role made."""
        return sorted(tag for value in self.docker.images.values() for tag in value["tags"] if tag.startswith("flask"))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with fake_docker(tmp_path / "docker.sock") as docker:
        yield Lab(tmp_path, docker)


def recap(output: str) -> dict[str, int]:
    """Return the counts of the last line."""
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", output[output.index("PLAY RECAP") :])}


def test_what_changed_is_built_and_loaded_and_nothing_else(lab: Lab) -> None:
    checked = recap(lab.play(INSTALL, "--check"))
    assert checked["failed"] == 0 and checked["changed"] > 0
    assert lab.docker.asked == [] and lab.minikube.images == {} and not (lab.state / "app_image").exists()

    first = lab.play(INSTALL)
    assert recap(first)["failed"] == 0, first
    (name,) = lab.built
    assert lab.minikube.images == {f"docker.io/library/{name}": lab.docker.image(name)}
    assert lab.minikube.files == []
    kept = sorted(path.name for path in (lab.state / "app_image").iterdir())
    assert kept == ["base_python.json", f"built_{name.partition(':')[2]}"]

    second = recap(lab.play(INSTALL))
    assert (second["failed"], second["changed"]) == (0, 0)
    assert lab.docker.asked == []

    # Another content, or another base under the old name, is another name; the older one goes on request, but not from below a container.
    with (lab.source / "flask_metrics" / "web.py").open("a") as file:
        file.write("# edited\n")
    lab.put_base(image_id("newer-base"))
    lab.minikube.set(used=[lab.docker.image(name)])
    assert recap(lab.play(INSTALL, app_image_prune=True))["failed"] == 0
    (newer,) = lab.built
    assert newer != name and lab.docker.image(BASE["ref"]) == image_id("newer-base")
    assert set(lab.minikube.images) == {f"docker.io/library/{name}", f"docker.io/library/{newer}"}

    # What others made or use stays.
    others = ["flask-metrics:0123456789ab", "flask-metrics:mine"]
    for tag in others:
        lab.docker.tag(tag, image_id(tag), "vigie.image")
    lab.docker.used = [lab.docker.image(newer) or ""]
    assert recap(lab.play(["remove"]))["failed"] == 0
    assert lab.built == sorted([*others, newer])
    assert lab.docker.image(image_id("newer-base")) is None
    lab.docker.used = []
    assert recap(lab.play(["remove"]))["failed"] == 0
    assert lab.built == others and not (lab.state / "app_image").exists()


def test_a_failed_build_shows_the_builders_last_lines(lab: Lab) -> None:
    lab.docker.build_error = [f"line {number}" for number in range(30)] + [
        "ERROR: No matching distribution for it's-me"
    ]
    output = lab.play(INSTALL)
    assert (
        "could not be built: Error building flask-metrics - code: 1, message: exit 1. The builder's last lines:"
        in output
    )
    shown = output[output.rindex("last lines:") :]
    assert "ERROR: No matching distribution for it's-me" in shown and "line 29" in shown and "line 18 " not in shown
    assert not (lab.state / "app_image" / "context").exists()
    # What it left without a name goes too.
    lab.play(["remove"])
    assert lab.docker.images == {}


@pytest.mark.parametrize(
    ("mode", "sentences"),
    [
        ("down", ["node vigie does not answer (* The control-plane node host is not running: state=Stopped)"]),
        ("full", ["the node has none of that name", "no space left on device", "/dev/vda1 80G 80G 0 100% /var"]),
        ("stale", ["the node has sha256:older, Docker has sha256:"]),
    ],
)
def test_a_node_without_the_image_is_named(lab: Lab, mode: str, sentences: list[str]) -> None:
    lab.minikube.set(mode=mode)
    output = lab.play(INSTALL)
    assert recap(output)["failed"] == 1
    for sentence in sentences:
        assert sentence in output
    assert not list(lab.state.glob("app_image/*.tar")) and lab.minikube.files == []


def test_an_archive_of_another_image_is_named(lab: Lab) -> None:
    lab.put_base(image_id("base"), "docker.io/library/node:22")
    assert "holds docker.io/library/node:22, but the application is built upon" in lab.play(INSTALL)
    assert lab.built == []


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"app_image_source": "/nonexistent"}, "app_image_source=/nonexistent holds no Dockerfile"),
        ({"app_image_name": "Flask"}, "app_image_name=Flask is no name of an image"),
        ({"app_image_build_timeout": 1}, "app_image_build_timeout=1 is below 10"),
    ],
)
def test_bad_choices_are_named_before_anything_changes(lab: Lab, variables: dict[str, Any], sentence: str) -> None:
    assert sentence in lab.play(["preflight"], **variables)
    assert lab.docker.asked == []
