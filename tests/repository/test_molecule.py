"""The shorter scenario is the whole one with actions left out: molecule has no way for two scenarios to share their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MOLECULE = Path(__file__).parents[2] / "molecule"


def scenario(name: str) -> dict[str, Any]:
    """Return a scenario with its paths as those of the whole one."""
    text = (MOLECULE / name / "molecule.yml").read_text()
    for path in (
        "${MOLECULE_PROJECT_DIRECTORY}/molecule/cluster/inventory",
        "${MOLECULE_SCENARIO_DIRECTORY}/inventory",
    ):
        text = text.replace(path, "INVENTORY")
    read: dict[str, Any] = yaml.safe_load(text.replace("../cluster/", ""))
    return read


def test_the_short_scenario_differs_in_its_sequence_alone() -> None:
    whole, short = scenario("cluster"), scenario("cluster_core")
    actions, left = short["scenario"].pop("test_sequence"), whole["scenario"].pop("test_sequence")
    assert short == whole
    remaining = iter(left)
    assert all(action in remaining for action in actions), "another order"
    assert actions[0] == "destroy" and actions[-1] == left[-1] == "verify gone.yml"


def test_what_it_calls_by_name_is_the_whole_one_s() -> None:
    for path in MOLECULE.glob("cluster_core/*.yml"):
        if path.name != "molecule.yml":
            (play,) = yaml.safe_load(path.read_text())
            assert play["ansible.builtin.import_playbook"] == f"../cluster/{path.name}"
            assert (MOLECULE / "cluster" / path.name).exists()
