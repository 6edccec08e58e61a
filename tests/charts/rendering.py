"""What the roles hand to a cluster and what the lab's chart makes of it, as data; no cluster is asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "lab" / "charts" / "kube-prometheus-stack"
KEYS = Path(__file__).with_name("kube-prometheus-stack-88.5.3.keys.tsv")


class LabMissing(RuntimeError):
    """Something that only `make lab` makes isn't there."""


def from_lab(find: Callable[[], Path]) -> Path:
    """Return what the lab made; without it the test is skipped, unless VIGIE_REQUIRE_LAB says that it must be there."""
    try:
        return find()
    except LabMissing as error:
        if os.environ.get("VIGIE_REQUIRE_LAB"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


def bundle() -> Path:
    """Return the folder of the bundle that `make lab` makes, whether it is there or not."""
    return Path(os.environ.get("VIGIE_LAB_DIR") or "~/.cache/vigie/lab").expanduser() / "bundle"


def find_helm() -> Path:
    """Return Helm: the lab's own, else the one on PATH. Raises LabMissing with the remedy."""
    for candidate in (bundle() / "binaries" / "helm", shutil.which("helm")):
        if candidate and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise LabMissing(f"helm is neither in {bundle()}/binaries nor on PATH; run `make lab`, or set VIGIE_LAB_DIR.")


def find_crds() -> Path:
    """Return the manifest of the operator's definitions. Raises LabMissing with the remedy."""
    path = bundle() / "manifests" / "prometheus-operator-crds.yml"
    if path.exists():
        return path
    raise LabMissing(f"{path} is not there; run `make lab`, or set VIGIE_LAB_DIR.")


def official_keys() -> dict[str, str]:
    """Return the value keys of the official chart, path to type of the default."""
    lines = [line.split("\t") for line in KEYS.read_text().splitlines() if not line.startswith("#")]
    return {line[0]: line[1] for line in lines}


def leaves(values: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every value that is no filled mapping."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path


def render_roles(
    folder: Path,
    *,
    name: str = "objects.yml",
    roles: tuple[str, ...] = ("monitoring", "alerting", "mail", "app"),
    **variables: Any,
) -> dict[str, Any]:
    """Run the roles' templates with `variables` as extra variables, in an empty folder, and return the `objects` of a play.

    Args:
        folder: where it is done.
        name: of the play, beside this file.
        roles: whose templates it needs.
        variables: extra variables.

    Raises:
        RuntimeError: with Ansible's output, when a choice is refused.
    """
    (folder / "templates").mkdir(parents=True)
    for role in roles:
        for template in (REPOSITORY / "roles" / role / "templates").iterdir():
            link = folder / "templates" / template.name
            if not link.exists():
                link.symlink_to(template)
    play, output = folder / "objects.yml", folder / "objects.json"
    play.symlink_to(Path(__file__).with_name(name))
    (folder / "ansible.cfg").touch()
    chosen = {
        "vigie_platform": "minikube",
        "app_source": str(REPOSITORY / "app"),
        "output": str(output),
        "vigie_state_dir": str(folder / "state"),
        **variables,
    }
    run_play(play, folder, chosen, ANSIBLE_CONFIG=str(folder / "ansible.cfg"))
    return json.loads(output.read_text())


def run_play(play: Path, folder: Path, chosen: dict[str, Any], *options: str, **environment: str) -> str:
    """Run a play on this machine, with `chosen` as extra variables, and return what it printed.

    Raises:
        RuntimeError: with that, when it fails.
    """
    collections = [str(REPOSITORY / "collections"), os.environ.get("ANSIBLE_COLLECTIONS_PATH", "")]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", *options),
            *(str(play), "-e", json.dumps(chosen)),
        ],
        cwd=folder,
        env=os.environ
        | {
            "ANSIBLE_ROLES_PATH": str(REPOSITORY / "roles"),
            "ANSIBLE_COLLECTIONS_PATH": ":".join(filter(None, collections)),
            "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
            "ANSIBLE_REMOTE_TEMP": str(folder / "remote"),
        }
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout + done.stderr


def render_chart(helm: Path, values: dict[str, Any], release: str, namespace: str) -> list[dict[str, Any]]:
    """Return the objects that the lab's chart makes of `values`. Raises RuntimeError with what Helm says."""
    done = subprocess.run(
        [helm, "template", release, CHART, f"--namespace={namespace}", "--values=-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return [document for document in yaml.safe_load_all(done.stdout) if document]
