"""What the application's image is made of is said in three places: they must agree."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]
APP = REPOSITORY / "app"
DOCKERFILE = (APP / "Dockerfile").read_text()
MAKINGS = yaml.safe_load((REPOSITORY / "roles/app_image/vars/main.yml").read_text())["app_image_makings"]
PATTERNS = MAKINGS["flask"]["patterns"]


def copied() -> set[str]:
    """Return the files that the Dockerfile copies out of a checkout."""
    sources = [Path(name) for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    found = {path for source in sources for path in [APP / source, *(APP / source).rglob("*")] if path.is_file()}
    return {path.relative_to(APP).as_posix() for path in found if "__pycache__" not in path.parts}


def test_the_role_brings_what_the_dockerfile_copies() -> None:
    """A file that isn't hashed would change without a new tag; one that isn't brought would be missing in the image."""
    brought = {path.relative_to(APP).as_posix() for pattern in PATTERNS for path in APP.glob(pattern)}
    assert brought - {"Dockerfile"} == copied()
    assert {"requirements.txt", "flask_metrics/__main__.py"} <= copied()


def test_a_checkout_is_no_larger_a_context() -> None:
    """Without the role, .dockerignore keeps the rest of the folder out."""
    lines = [line for line in (APP / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert allowed == {name.split("/")[0] for name in copied()}


def test_the_image_starts_what_the_embedded_platform_starts() -> None:
    tasks = (REPOSITORY / "roles/app/tasks/process.yml").read_text()
    command = re.search(r'command: \["{{ embedded_python }}", (.+)\]', tasks)
    entrypoint = re.search(r'^ENTRYPOINT \["python3", (.+)\]$', DOCKERFILE, re.MULTILINE)
    assert command and entrypoint and command[1] == entrypoint[1]


def test_images_that_the_role_removes_are_marked() -> None:
    (label,) = re.findall(r"^LABEL ([\w.]+)=", DOCKERFILE, re.MULTILINE)
    assert f"label: {label}\n" in (REPOSITORY / "roles/app_image/tasks/prune.yml").read_text()
