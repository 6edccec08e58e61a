"""What README and docs name exists: make targets, variables, tags, files, modules."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
# docs/tags.md is generated, and has a test of its own.
PAGES = [REPOSITORY / "README.md", *sorted({*(REPOSITORY / "docs").glob("*.md")} - {REPOSITORY / "docs/tags.md"})]
COLLECTION = REPOSITORY / "collections/ansible_collections/vigie/observability"
KNOB = re.compile(
    r"\b((?:vigie|embedded|docker|kubectl|helm|minikube|preflight|host_python|bundle|app|monitoring|mail|alerting|dashboards|drill|logging|tracing)_[a-z_]+)\b"
)
# Words of this shape that are something else: metrics, modules, folders.
OTHER = {
    "bundle_missing",
    "mail_check",
    "app_files",
    "drill_report",
    "alerting_verify",
    "vigie_run_last_seen_timestamp_seconds",
}


@pytest.fixture(params=PAGES, ids=lambda path: path.name)
def page(request: pytest.FixtureRequest) -> str:
    return request.param.read_text()


def knobs() -> set[str]:
    found: set[str] = set()
    for path in [*REPOSITORY.glob("roles/*/defaults/main.yml"), *REPOSITORY.glob("roles/*/vars/main.yml")]:
        found |= (yaml.safe_load(path.read_text()) or {}).keys()
    return found


def test_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) < 200


def test_variables_exist(page: str) -> None:
    assert sorted(set(KNOB.findall(page)) - knobs() - OTHER) == []


def test_make_targets_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert sorted(set(re.findall(r"\bmake (e2e|[a-z-]+)\b", page)) - targets) == []


def test_links_lead_somewhere() -> None:
    for path in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_files_named_exist(page: str) -> None:
    for name in re.findall(r"`((?:roles|inventory|collections|playbooks|app|docs|molecule)/[A-Za-z0-9_./-]+)`", page):
        assert (REPOSITORY / name).exists(), name


def test_modules_named_exist() -> None:
    modules = {path.stem for path in (COLLECTION / "plugins" / "modules").glob("*.py")}
    for path in PAGES:
        named = set(re.findall(r"vigie\.observability\.([a-z_]+)", path.read_text()))
        assert sorted(named - modules) == []


def tag_examples() -> list[tuple[str, str]]:
    found = []
    for path in PAGES:
        found += [(path.name, tags) for tags in re.findall(r'ARGS="--tags ([a-z_,]+)"', path.read_text())]
    return found


@pytest.mark.parametrize(("name", "tags"), tag_examples())
def test_tag_examples_run_that_part_and_no_other(name: str, tags: str) -> None:
    """Tags are OR-ed by Ansible: an example may select its role and what must always run, and no other role."""
    program = Path(sys.executable).parent / "ansible-playbook"
    command = [str(program), "-i", "inventory/embedded", "site.yml", "--tags", tags, "--list-tasks"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    played: dict[str, list[str]] = {}
    play = ""
    for line in done.stdout.splitlines():
        if match := re.match(r"\s+play #\d+ \([^)]*\): (.+?)\s+TAGS", line):
            play = match[1]
        elif "Validating arguments" in line:  # always done, and changes nothing
            continue
        elif match := re.match(r"\s+(?:(\w+) : )?(.+?)\s+TAGS: \[", line):
            played.setdefault(play, []).append(match[1] or "")
    role = tags.split("_", maxsplit=1)[0]
    assert any(role in roles for roles in played.values()), done.stdout
    others = {"embedded", "app", "monitoring", "mail", "alerting"} - {role}
    for play, roles in played.items():
        if "checked before anything" not in play:  # the preflight looks at every part, whatever is asked for
            assert not others & set(roles), f"{play}: {roles}"


def test_the_readme_shows_how_to_test() -> None:
    assert "make test" in (REPOSITORY / "README.md").read_text()
    assert "make test" in (REPOSITORY / ".ci" / "run").read_text()
