"""What the services' images are made of is said in three places: they must agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
FOLDERS = {"flask": REPOSITORY / "app", "catalog": REPOSITORY / "app/catalog"}
DOCKERFILES = {service: (folder / "Dockerfile").read_text() for service, folder in FOLDERS.items()}
MAKINGS = yaml.safe_load((REPOSITORY / "roles/app_image/vars/main.yml").read_text())["app_image_makings"]
SOME = {
    "flask": {"requirements.txt", "flask_metrics/__main__.py"},
    "catalog": {".npmrc", "package-lock.json", "src/main.js"},
}
each_service = pytest.mark.parametrize("service", FOLDERS)


def copied(service: str) -> set[str]:
    """Return the files that the Dockerfile copies out of a checkout."""
    lines = re.findall(r"^COPY (.+) \S+$", DOCKERFILES[service], re.MULTILINE)
    folder = FOLDERS[service]
    sources = [folder / name for line in lines for name in line.split()]
    found = {path for source in sources for path in [source, *source.rglob("*")] if path.is_file()}
    return {path.relative_to(folder).as_posix() for path in found if "__pycache__" not in path.parts}


def test_every_image_is_looked_at() -> None:
    assert MAKINGS.keys() == FOLDERS.keys()


@each_service
def test_the_role_brings_what_the_dockerfile_copies(service: str) -> None:
    """A file that isn't hashed would change without a new tag; one that isn't brought would be missing in the image."""
    folder = FOLDERS[service]
    patterns = MAKINGS[service]["patterns"]
    brought = {path.relative_to(folder).as_posix() for pattern in patterns for path in folder.glob(pattern)}
    assert brought - {"Dockerfile"} == copied(service)
    assert copied(service) >= SOME[service]


@each_service
def test_a_checkout_is_no_larger_a_context(service: str) -> None:
    """Without the role, .dockerignore keeps the rest of the folder out."""
    text = (FOLDERS[service] / ".dockerignore").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert allowed == {name.split("/")[0] for name in copied(service)}


def test_the_image_starts_what_the_embedded_platform_starts() -> None:
    tasks = (REPOSITORY / "roles/app/tasks/process.yml").read_text()
    command = re.search(r'command: \["{{ embedded_python }}", (.+)\]', tasks)
    entrypoint = re.search(r'^ENTRYPOINT \["python3", (.+)\]$', DOCKERFILES["flask"], re.MULTILINE)
    assert command and entrypoint and command[1] == entrypoint[1]


@each_service
def test_the_image_listens_where_the_role_looks(service: str) -> None:
    workloads = yaml.safe_load((REPOSITORY / "roles/app/vars/main.yml").read_text())["app_workloads"]
    port = workloads[service]["port"]
    assert f"\nEXPOSE {port}\n" in DOCKERFILES[service]
    assert re.search(rf"^ENV APP_HOST=0\.0\.0\.0 APP_PORT={port}\b", DOCKERFILES[service], re.MULTILINE)


@each_service
def test_the_image_runs_without_root_and_without_a_shell(service: str) -> None:
    """The pods' security context says the same: what runs there must run so without it, too."""
    assert re.findall(r"^USER (.+)$", DOCKERFILES[service], re.MULTILINE) == ["65532:65532"]
    assert len(re.findall(r"^ENTRYPOINT \[", DOCKERFILES[service], re.MULTILINE)) == 1
    assert not re.search(r"^CMD", DOCKERFILES[service], re.MULTILINE)


@each_service
def test_images_that_the_role_removes_are_marked(service: str) -> None:
    (label,) = re.findall(r"^LABEL ([\w.]+)=", DOCKERFILES[service], re.MULTILINE)
    assert f"label: {label}\n" in (REPOSITORY / "roles/app_image/tasks/prune.yml").read_text()
