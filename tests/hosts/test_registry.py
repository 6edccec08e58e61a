"""The application's image goes to a registry: through the Docker of this machine, by its content, and nothing twice."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machines as machinery
import origin as publishers
import pytest
import registry as registries
from machines import inventory
from plays import HERE, Run, play
from registry import Registry

NAME = "vigie-test-pushed"
BASE = "base.example/python:1"
DOCKERFILE = """ARG BASE_IMAGE
FROM ${BASE_IMAGE}
LABEL vigie.image="flask-metrics"
COPY requirements.txt /
COPY flask_metrics /flask_metrics/
"""


class Lab:
    """The role on this machine, with a base image that has a mirror in the registry."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        self.registry = registry
        self.folder = folder
        self.source = folder / "app"
        (self.source / "flask_metrics").mkdir(parents=True)
        for name, content in {
            "Dockerfile": DOCKERFILE,
            "requirements.txt": "",
            "flask_metrics/x.py": "one = 1",
        }.items():
            (self.source / name).write_text(content)
        self.table = publishers.table()
        self.table["python"]["ref"] = BASE

    def play(self, *options: str, **changed: Any) -> Run:
        self.registry.log.write_text("")
        variables = {
            "vigie_platform": "minikube",
            "vigie_state_dir": str(self.folder / "state"),
            "vigie_versions": self.table,
            "vigie_mirrors": {"base.example": f"{self.registry.address}/hub"},
            "app_image_source": str(self.source),
            "app_image_name": NAME,
            "app_image_registry": f"{self.registry.address}/team",
            "app_image_is_loaded": False,  # there is no cluster
            **changed,
        }
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        hosts = inventory(self.folder / "hosts.json", {"here": local}, {})
        return play(HERE / "app_image.yml", hosts, *options, **variables)


def images() -> list[str]:
    """Names of images in Docker that these tests bring."""
    listed = machinery.run("docker", "images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    return [name for name in listed if NAME in name or "/hub/python" in name or name == BASE]


def digest(registry: Registry, tag: str) -> str:
    """Return the digest that the registry has under a tag."""
    asked = machinery.run(
        registry.skopeo, "inspect", "--format", "{{.Digest}}", f"docker://{registry.address}/team/{NAME}:{tag}"
    )
    return asked.stdout.strip()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    machinery.require(machinery.missing(), registries.missing())
    (tmp_path / "registry").mkdir()
    with registries.serving(tmp_path / "registry") as registry:
        registry.push("hub/python", "1", {"amd64": "base", "arm64": "base"})
        assert images() == []
        yield Lab(registry, tmp_path)
    for name in images():
        machinery.run("docker", "rmi", "--force", name)


def test_an_image_is_pushed_by_its_content_and_nothing_twice(lab: Lab) -> None:
    told = lab.play("--check", "--diff").require_success()
    assert (images(), lab.registry.pushes()) == ([], [])
    done = lab.play().require_success()
    assert "The registry has the image that Docker has" in told.changed("here")
    assert "The registry has the image that Docker has" in done.changed("here")
    (tag,) = {name.rpartition(":")[2] for name in images() if NAME in name}
    first = digest(lab.registry, tag)
    assert f"{lab.registry.address}/team/{NAME}:{tag} is {first} in the registry" in " ".join(done.output.split())

    for options in (("--check", "--diff"), ()):
        again = lab.play(*options).require_success()
        assert (again.changed("here"), lab.registry.pushes()) == ([], [])

    # Somebody else takes the name.
    machine = machinery.run("uname", "-m").stdout.strip()
    lab.registry.push(f"team/{NAME}", tag, {{"x86_64": "amd64", "aarch64": "arm64"}[machine]: "other"}, indexed=False)
    assert digest(lab.registry, tag) != first
    failed = lab.play("--tags", "app_image_verify")
    assert f"The registry has another {lab.registry.address}/team/{NAME}:{tag} than Docker on here" in failed.fault(
        "here"
    )
    mended = lab.play().require_success()
    assert (mended.changed("here"), digest(lab.registry, tag)) == (
        ["The registry has the image that Docker has"],
        first,
    )

    # Another content is another tag; the one before stays there, and in Docker until it is pruned.
    (lab.source / "flask_metrics/x.py").write_text("one = 2")
    lab.play(app_image_prune=True).require_success()
    (newer,) = {name.rpartition(":")[2] for name in images() if NAME in name}
    assert newer != tag
    assert {digest(lab.registry, name) for name in (tag, newer)} > {first}

    lab.play("--tags", "app_image_remove").require_success()
    assert [name for name in images() if NAME in name] == []
    assert digest(lab.registry, newer)


def test_who_may_not_push_is_told_and_a_login_comes_from_a_file(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    with registries.serving(tmp_path / "private", login=True) as private:
        where = {"app_image_registry": f"{private.address}/team"}
        failed = lab.play(**where)
        assert f"{private.address} refuses {private.address}/team/{NAME}:" in failed.fault("here")
        assert f"docker login {private.address}" in failed.fault("here")

        login = tmp_path / "login" / "config.json"
        login.parent.mkdir()

        def write(host: str, password: str) -> None:
            secret = base64.b64encode(f"{registries.USER[0]}:{password}".encode()).decode()
            login.write_text(json.dumps({"auths": {host: {"auth": secret}}}))

        where["app_image_registry_login"] = str(login)
        write(private.address, "wrong-password")
        failed = lab.play(**where)
        assert f"{private.address} refuses " in failed.fault("here")
        write(private.address, registries.USER[1])
        done = lab.play("-vv", **where).require_success()
        assert done.changed("here") == ["The registry has the image that Docker has"]
        assert private.pushes()
        before = len(private.pushes())
        assert lab.play(**where).require_success().changed("here") == []
        assert len(private.pushes()) == before
        for run in (failed, done):
            assert "wrong-password" not in run.output
            assert base64.b64encode(":".join(registries.USER).encode()).decode() not in run.output

        write("other.example", registries.USER[1])
        failed = lab.play(**where)
        assert f"has no login for {private.address}; add it by" in failed.fault("here")
        assert failed.changed("here") == []
    failed = lab.play(**where | {"app_image_registry_login": ""})
    assert "connection refused" in failed.fault("here")


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"app_image_registry": "https://registry.example/team"}, "app_image_registry=https://registry.example/team is no registry"),
        ({"app_image_registry": "team"}, "app_image_registry=team is no registry"),
        ({"app_image_registry": "registry.example/Team"}, "is no registry with a path in it"),
        ({"app_image_registry": "", "vigie_platform_kinds": {"minikube": "kubernetes"}}, "app_image_registry is empty, but vigie_platform="),
        ({"app_image_registry": "", "app_image_registry_login": "/x"}, "app_image_registry_login=/x is a login for no registry"),
        ({"app_image_registry": "r.example", "app_image_registry_login": "x"}, "app_image_registry_login=x is no absolute path"),
        ({"app_image_registry": "r.example", "app_image_registry_login": "/nowhere/x"}, "app_image_registry_login=/nowhere/x is no file with logins"),
    ],
)  # fmt: skip
def test_a_bad_choice_is_one_sentence(tmp_path: Path, changed: dict[str, Any], part: str) -> None:
    nobody = Registry("127.0.0.1:1", Path("skopeo"), tmp_path / "log")
    failed = Lab(nobody, tmp_path).play("--tags", "app_image_preflight", **changed)
    assert part in failed.fault("here"), failed.output[-2000:]
    assert failed.changed("here") == []
