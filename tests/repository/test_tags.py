"""docs/tags.md says what the playbooks say, and no page shows a tag that isn't there."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
SHOWN = re.compile(r"--(?:skip-)?tags[= ]+[\"']?([A-Za-z0-9_,]+)")
OUTPUT = """
playbook: playbooks/host.yml

  play #1 (all): First\tTAGS: []
    tasks:
      vigie : Validating arguments against arg spec 'main' - What\tTAGS: [always]
      vigie : Looked at\tTAGS: [always]
      program : Is compared: {{ program_wanted.name }}\tTAGS: [always, helm_preflight, kubectl_preflight]

  play #2 (all): Second\tTAGS: []
    tasks:
      docker : A | B\tTAGS: [docker, docker_install]
      Without a role\tTAGS: []
"""


@pytest.fixture(scope="module")
def tags() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tags", REPOSITORY / "tools" / "tags.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def listings(tags: ModuleType) -> dict[str, dict[str, dict[str, list[str]]]]:
    return tags.listings()


def unknown(text: str, known: set[str]) -> list[str]:
    shown = {tag for tags in SHOWN.findall(text) for tag in tags.split(",") if tag}
    return sorted(shown - known)


def test_the_page_is_current(tags: ModuleType, listings: dict[str, dict[str, dict[str, list[str]]]]) -> None:
    assert tags.PAGE.read_text() == tags.page(listings), "run 'python tools/tags.py'"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_tags_that_a_page_shows_exist(path: Path, listings: dict[str, dict[str, dict[str, list[str]]]]) -> None:
    assert unknown(path.read_text(), {tag for listing in listings.values() for tag in listing}) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("--tags docker", []),
        ("--tags=docker,helm_instal", ["helm_instal"]),
        ("`--skip-tags 'dokcer'`", ["dokcer"]),
        ('ARGS="--tags helm"', ["helm"]),
    ],
)
def test_the_checker_sees_unknown_tags(text: str, found: list[str]) -> None:
    assert unknown(text, {"docker"}) == found


def test_roles_of_the_host_have_the_tags_of_their_phases(
    listings: dict[str, dict[str, dict[str, list[str]]]],
) -> None:
    """Each phase that a role has as a file is a tag of its own in the playbook that runs it."""
    for role in sorted(
        {tag for tag in listings["playbooks/host.yml"] if "_" not in tag or tag in ("app_image", "host_python")}
        - {"always"}
    ):
        for phase in ("preflight", "install", "configure", "verify"):
            if (REPOSITORY / "roles" / role / "tasks" / f"{phase}.yml").exists():
                assert f"{role}_{phase}" in listings["playbooks/host.yml"], (role, phase)
        if (REPOSITORY / "roles" / role / "tasks" / "remove.yml").exists():
            assert {role, f"{role}_remove"} <= listings["playbooks/teardown.yml"].keys(), role


def test_output_is_read_as_it_is_printed(tags: ModuleType) -> None:
    listing = tags.parse(OUTPUT)
    assert listing["always"] == {"First": ["Looked at", "Is compared"]}
    assert listing["kubectl_preflight"] == listing["helm_preflight"] == {"First": ["Is compared"]}
    assert listing["docker"] == {"Second": ["A | B"]}
    assert "| `docker_install` | **Second**: A \\| B |" in tags.section("x", listing)


@pytest.mark.parametrize("spoil", [lambda text: text.replace("kubectl", "kubekettle"), lambda text: ""])
def test_the_check_tells_an_old_page(
    tags: ModuleType,
    listings: dict[str, dict[str, dict[str, list[str]]]],
    spoil: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = tmp_path / "tags.md"
    monkeypatch.setattr(tags, "PAGE", page)
    monkeypatch.setattr(tags, "listings", lambda: listings)
    monkeypatch.setattr("sys.argv", ["tags.py", "--check"])
    page.write_text(spoil(tags.page(listings)))
    assert tags.main() == 1
    page.write_text(tags.page(listings))
    assert tags.main() == 0
