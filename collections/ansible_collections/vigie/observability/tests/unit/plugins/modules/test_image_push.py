"""Nothing is pushed that is there, and what Docker says becomes one sentence."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils import pushing
from ansible_collections.vigie.observability.plugins.modules import image_push
from docker import errors

NAME = "registry.example:5000/team/app:3f8a"
OURS, THEIRS = (f"sha256:{letter * 64}" for letter in "ab")
Call = Callable[..., dict[str, Any]]


class Docker:
    """Docker with one image, and the registry behind it."""

    def __init__(self) -> None:
        self.images: dict[str, list[str]] = {"app:3f8a": []}
        self.registry: dict[str, str] = {}
        self.logins: list[dict[str, Any]] = []
        self.pushed = 0
        self.says = ""
        self.asked: Exception | None = None

    def inspect_image(self, name: str) -> dict[str, Any]:
        if name not in self.images:
            raise errors.ImageNotFound(f"No such image: {name}")
        return {"RepoDigests": self.images[name]}

    def inspect_distribution(self, name: str, auth_config: dict[str, Any]) -> dict[str, Any]:
        self.logins.append(auth_config)
        if self.asked:
            raise self.asked  # pylint: disable=raising-bad-type
        if name not in self.registry:
            raise errors.NotFound("manifest unknown")
        return {"Descriptor": {"digest": self.registry[name]}}

    def tag(self, source: str, repository: str, tag: str) -> None:
        self.images[f"{repository}:{tag}"] = self.images[source]

    def push(self, repository: str, tag: str, **options: Any) -> Iterator[dict[str, str]]:
        self.logins.append(options["auth_config"])
        self.pushed += 1
        if self.says:
            yield {"error": self.says}
        self.registry[f"{repository}:{tag}"] = OURS
        self.images[f"{repository}:{tag}"].append(f"{repository}@{OURS}")
        yield {"status": "Pushed"}


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Docker:
    made = Docker()
    monkeypatch.setattr(image_push, "connect", lambda _timeout: made)
    return made


@pytest.fixture
def push(docker: Docker, run_main: Call) -> Call:
    def call(check: bool = False, **changed: Any) -> dict[str, Any]:
        return run_main(image_push.main, {"source": "app:3f8a", "name": NAME, "_ansible_check_mode": check, **changed})

    return call


def test_an_image_is_told_pushed_and_then_there(docker: Docker, push: Call) -> None:
    told = push(check=True)
    assert (told["changed"], told["digest"], docker.pushed, docker.registry) == (True, "", 0, {})
    done = push()
    assert (done["changed"], done["digest"], docker.registry) == (True, OURS, {NAME: OURS})
    assert done["diff"] == {"before": {}, "after": {"name": NAME, "digest": OURS}}
    for check in (True, False):
        again = push(check=check)
        assert (again["changed"], again["digest"], docker.pushed) == (False, OURS, 1)
        assert again["diff"]["before"] == again["diff"]["after"]
    assert all(login == {} for login in docker.logins)


def test_another_image_of_that_name_is_replaced(docker: Docker, push: Call) -> None:
    docker.registry[NAME] = THEIRS
    assert push(check=True)["changed"] is True
    done = push()
    assert (done["changed"], done["diff"]["before"]["digest"], done["digest"]) == (True, THEIRS, OURS)


def test_what_the_registry_has_already_is_no_change_though_docker_forgot_it(docker: Docker, push: Call) -> None:
    docker.registry[NAME] = OURS
    done = push()
    assert (done["changed"], docker.pushed) == (False, 1)
    docker.images["app:3f8a"] = [f"other.example/team/app@{OURS}"]
    assert push(check=True)["changed"] is True  # of another registry it proves nothing


def test_without_the_image_check_mode_tells_and_a_run_fails(docker: Docker, push: Call) -> None:
    docker.images.clear()
    assert push(check=True)["changed"] is True
    failed = push()
    assert (failed["failed"], failed["reason"]) == (True, "image_missing")


@pytest.mark.parametrize(
    ("says", "reason", "part"),
    [
        ("denied: requested access to the resource is denied", "access_denied", "docker login registry.example:5000"),
        ("no basic auth credentials", "access_denied", "refuses"),
        ('Get "https://x/v2/": http: server gave HTTP response to HTTPS client', "push_failed", "insecure-registries"),
        ("dial tcp: lookup registry.example: no such host", "push_failed", "no such host"),
    ],
)
def test_what_a_registry_says_is_one_sentence(docker: Docker, push: Call, says: str, reason: str, part: str) -> None:
    docker.says = says
    failed = push()
    assert (failed["failed"], failed["reason"]) == (True, reason)
    assert part in failed["hint"] and says[:20] in failed["hint"]
    docker.asked = errors.APIError("500 Server Error", explanation=says)
    assert push(check=True)["reason"] == reason


def test_a_registry_that_ends_up_with_another_image_is_told(
    docker: Docker, push: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(repository: str, tag: str, **_options: Any) -> Iterator[dict[str, str]]:
        docker.registry[f"{repository}:{tag}"] = THEIRS
        yield {"status": "Pushed"}

    monkeypatch.setattr(docker, "push", overtaken)
    failed = push()
    assert (failed["reason"], THEIRS in failed["hint"]) == ("push_failed", True)


def test_the_login_is_that_of_the_file_and_of_this_registry(docker: Docker, push: Call, tmp_path: Path) -> None:
    login = tmp_path / "config.json"
    secret = base64.b64encode(b"me:pass").decode()
    login.write_text(json.dumps({"auths": {"registry.example:5000": {"auth": secret}}}))
    push(login=str(login)).keys()
    assert {(one["username"], one["password"]) for one in docker.logins} == {("me", "pass")}
    for content in ("{", "[]", json.dumps({"auths": {"other.example": {"auth": secret}}}), "{}"):
        login.write_text(content)
        failed = push(login=str(login))
        assert (failed["failed"], failed["reason"]) == (True, "login_invalid"), content
        assert str(login) in failed["hint"] and "docker --config" in failed["hint"]
        assert "pass" not in failed["hint"]
    login.unlink()
    assert "No such file" in push(login=str(login))["hint"]


@pytest.mark.parametrize("changed", [{"name": "app:1"}, {"name": "registry.example/app"}, {"timeout": 0}])
def test_bad_options(push: Call, changed: dict[str, Any]) -> None:
    assert push(**changed)["reason"] == "bad_option"


def test_without_docker_or_its_library(monkeypatch: pytest.MonkeyPatch, run_main: Call) -> None:
    arguments = {"source": "app:1", "name": NAME}
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert run_main(image_push.main, arguments)["reason"] == "docker_unreachable"
    monkeypatch.setattr(pushing, "docker", None)
    assert run_main(image_push.main, arguments)["reason"] == "missing_library"
