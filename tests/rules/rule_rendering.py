"""Render the alert rules as the role does: Jinja with undefined variables as errors and Ansible's trimming of blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "roles" / "alerting" / "templates" / "rules" / "vigie.yml.j2"

NAMES = (
    "alerting_restart_rule",
    "alerting_restart_threshold",
    "alerting_restart_window",
    "alerting_workload_threshold",
    "alerting_restart_for",
    "alerting_keep_firing_for",
    "alerting_seed_window",
    "alerting_seed_for",
    "alerting_slow_loop_window",
    "alerting_slow_loop_threshold",
    "alerting_run_id_lookback",
    "alerting_chain_jobs",
    "alerting_runbook_url",
    "alerting_team_labels",
)


def defaults() -> dict[str, Any]:
    """Return the role's defaults of every variable of the rules; raises KeyError when one is not there."""
    role = ROOT / "roles" / "alerting"
    values = yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8"))
    kind = yaml.safe_load((role / "vars" / "main.yml").read_text(encoding="utf-8"))["alerting_kinds"]["process"]
    for name in ("keep_firing_for", "chain_jobs"):  # by the kind of platform
        values[f"alerting_{name}"] = kind[name]
    values["alerting_workload_threshold"] = values["alerting_restart_threshold"]
    # The interval comes from the chosen profile.
    return {name: values[name] for name in NAMES} | {"alerting_evaluation_interval": "3s"}


def render(**variables: Any) -> str:
    """Return the rule file for the defaults overridden by `variables`.

    Raises KeyError for a variable that the role does not have, jinja2.UndefinedError when the template needs another one.
    """
    values = defaults()
    if unknown := sorted(set(variables) - set(values)):
        raise KeyError(f"not variables of the rules: {', '.join(unknown)}")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # YAML, not HTML
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(values | variables)


def rules(text: str) -> dict[str, dict[str, Any]]:
    """Return the alert rules of a rendered file by name."""
    return {rule["alert"]: rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}


def restart_rule(mark: str, rule: str = "exact", **variables: Any) -> str:
    """Return a rule file with PodCrashLoop alone, its alerts marked by the label `rule`.

    `rule` is `exact` or `seed`; several of them can be evaluated side by side. Annotations, which ask queries of their own at
    every evaluation, are left out.
    """
    text = render(alerting_restart_rule=rule, alerting_team_labels={"rule": mark}, **variables)
    groups = [group for group in yaml.safe_load(text)["groups"] if group["name"] == "vigie-restarts"]
    for rule_of_group in groups[0]["rules"]:
        del rule_of_group["annotations"]
    return yaml.safe_dump({"groups": groups}, sort_keys=False)
