"""What every module of the collection keeps to: its documentation is what it does."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from ansible_collections.vigie.observability.plugins.module_utils import (
    alerts,
    budget,
    dashboards,
    logs,
    promql,
    scraping,
    traces,
)
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import ENDPOINT_OPTIONS
from ansible_collections.vigie.observability.plugins.module_utils.verdict import COMMON_REASONS

COLLECTION = Path(__file__).parents[4]
PACKAGE = "ansible_collections.vigie.observability.plugins"
MODULES = sorted(path.stem for path in (COLLECTION / "plugins/modules").glob("*.py") if path.stem != "__init__")
REASONS = {
    "scrape_check": scraping.REASONS,
    "promql_check": promql.REASONS,
    "alert_check": alerts.REASONS,
    "chain_budget": budget.REASONS,
    "alert_silence": (),
    "dashboard_check": dashboards.REASONS,
    "log_check": logs.REASONS,
    "trace_check": traces.REASONS,
}
LOGIC = {
    "scraping": scraping.REASONS,
    "monitors": scraping.REASONS,
    "selectors": (),
    # The client, the routing tree and the wanted silence are parts of several modules.
    "promql": promql.REASONS,
    "alerts": alerts.REASONS,
    "budget": budget.REASONS,
    "dashboards": dashboards.REASONS,
    "grafana": dashboards.REASONS,
    "logs": logs.REASONS,
    "shippers": logs.REASONS,
    "elasticsearch": (),
    "traces": traces.REASONS,
    "jaeger": (),
    "prometheus": promql.REASONS,
    "alertmanager": (),
    "routes": budget.REASONS,
    "silences": (),
    "endpoint": (),
    "cluster": (),
    "kubeconfig": (),
    "portforward": (),
    "timestamps": (),
    "check": (),
    "poll": (),
}


class _Stop(Exception):
    """Raised instead of running the module."""


@functools.cache
def all_documentation() -> dict[str, Any]:
    """Return what ansible-doc knows of all modules, doc fragments merged."""
    answer = subprocess.run(
        [sys.executable, "-m", "ansible", "doc", "--json", *(f"vigie.observability.{name}" for name in MODULES)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTION.parents[2])},
    )
    return dict(json.loads(answer.stdout))


def documentation(name: str) -> dict[str, Any]:
    """Return the documentation of a module with the keys doc, examples and return."""
    return dict(all_documentation()[f"vigie.observability.{name}"])


def argument_spec(name: str) -> dict[str, Any]:
    """Return the argument spec that a module gives to AnsibleModule."""
    module = importlib.import_module(f"{PACKAGE}.modules.{name}")
    seen: dict[str, Any] = {}

    def stop(*_args: Any, argument_spec: dict[str, Any], **_kwargs: Any) -> None:
        seen.update(argument_spec)
        raise _Stop

    with mock.patch("ansible.module_utils.basic.AnsibleModule.__init__", stop), pytest.raises(_Stop):
        module.main()
    return seen


def facts_of_spec(options: dict[str, Any]) -> dict[str, Any]:
    """Return what documentation and code must agree on, from the code."""
    return {
        name: {
            "type": option.get("type", "str"),
            "required": bool(option.get("required", False)),
            "default": option.get("default"),
            "choices": option.get("choices"),
            "elements": option.get("elements"),
            "suboptions": facts_of_spec(option.get("options") or {}),
        }
        for name, option in options.items()
    }


def facts_of_docs(options: dict[str, Any]) -> dict[str, Any]:
    """Return what documentation and code must agree on, from the documentation."""
    return {
        name: {
            "type": option.get("type"),
            "required": bool(option.get("required", False)),
            "default": option.get("default"),
            "choices": option.get("choices"),
            "elements": option.get("elements"),
            "suboptions": facts_of_docs(option.get("suboptions") or {}),
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize("name", MODULES)
def test_options_are_as_documented(name: str) -> None:
    assert facts_of_docs(documentation(name)["doc"]["options"]) == facts_of_spec(argument_spec(name))


@pytest.mark.parametrize("name", MODULES)
def test_documentation_is_complete(name: str) -> None:
    docs = documentation(name)
    assert docs["doc"]["module"] == name
    assert {"check_mode", "diff_mode"} <= docs["doc"]["attributes"].keys()
    examples = yaml.safe_load(docs["examples"])
    assert all(task["name"] for task in examples)
    assert any(f"vigie.observability.{name}" in task for task in examples)
    for key, value in docs["return"].items():
        assert value["description"] and value["type"] and value["returned"], key


@pytest.mark.parametrize("name", MODULES)
def test_examples_use_options_that_exist(name: str) -> None:
    docs = documentation(name)
    for task in yaml.safe_load(docs["examples"]):
        arguments = task.get(f"vigie.observability.{name}") or {}
        assert set(arguments) <= set(docs["doc"]["options"]), task["name"]


@pytest.mark.parametrize("name", MODULES)
def test_who_has_an_endpoint_is_in_the_action_group_and_documents_it_once(name: str) -> None:
    group = yaml.safe_load((COLLECTION / "meta/runtime.yml").read_text())["action_groups"]["observability"]
    endpoint = argument_spec(name).get("endpoint")
    assert (name in group) == (endpoint is not None)
    shared = endpoint is not None and endpoint["options"] is ENDPOINT_OPTIONS
    source = (COLLECTION / f"plugins/modules/{name}.py").read_text()
    assert ("- vigie.observability.endpoint\n" in source) == shared


def test_the_action_groups_name_modules_that_exist() -> None:
    for group in yaml.safe_load((COLLECTION / "meta/runtime.yml").read_text())["action_groups"].values():
        assert set(group) <= set(MODULES) and group == sorted(group)


def test_defaults_of_a_group_fit_all_its_modules() -> None:
    groups = yaml.safe_load((COLLECTION / "meta/runtime.yml").read_text())["action_groups"]
    for name in groups["observability"]:
        assert {"endpoint", "timeout"} <= argument_spec(name).keys(), name
    for name in groups["prometheus"]:
        assert {"endpoint", "timeout", "interval", "request_timeout"} <= argument_spec(name).keys(), name


def words(description: str | list[str]) -> set[str]:
    text = description if isinstance(description, str) else "\n".join(description)
    return set(re.findall(r"(?<!R)V\(([a-z_]+)\)", text))


@pytest.mark.parametrize("name", REASONS)
def test_reasons_are_documented(name: str) -> None:
    documented = words(documentation(name)["return"]["reason"]["description"])
    assert set(REASONS[name]) <= documented
    assert documented <= {*REASONS[name], *COMMON_REASONS}


def test_the_shared_reasons_are_documented() -> None:
    fragment = importlib.import_module(f"{PACKAGE}.doc_fragments.check").ModuleDocFragment.DOCUMENTATION
    notes = "\n".join(yaml.safe_load(fragment)["notes"])
    assert set(COMMON_REASONS) <= words(notes)


def reasons_in(source: str) -> set[str]:
    """Return the reasons that code gives: first arguments of CheckError and Verdict.no, and first of a tuple with a hint."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        first: ast.AST | None = None
        if isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("CheckError", "Disconnected", "no", "failed"):
                first = node.args[0]
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            first = node.value.elts[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            found.add(first.value)
    return found


@pytest.mark.parametrize("name", LOGIC)
def test_reasons_in_the_code_are_declared(name: str) -> None:
    given = reasons_in((COLLECTION / f"plugins/module_utils/{name}.py").read_text())
    assert given <= {*LOGIC[name], *COMMON_REASONS}


def test_declared_reasons_are_given() -> None:
    given = set().union(*(reasons_in((COLLECTION / f"plugins/module_utils/{name}.py").read_text()) for name in LOGIC))
    declared = set().union(*LOGIC.values(), COMMON_REASONS) - {"ok", "appeared"}
    assert declared <= given | {"appeared"}
    assert "appeared" in given


def test_modules_are_thin_and_licensed() -> None:
    for name in MODULES:
        source = (COLLECTION / f"plugins/modules/{name}.py").read_text()
        assert "GNU General Public License v3.0+" in source


@pytest.mark.parametrize("name", REASONS)
def test_a_check_loads_nothing_heavy(name: str) -> None:
    """A check that holds may cost half as much again as a ping, so a module must not load what it seldom needs."""
    script = f"import sys; import {PACKAGE}.modules.{name}; print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    loaded = set(answer.stdout.split())
    assert not loaded & {"yaml", "difflib", "cryptography", "ansible.module_utils.urls", "asyncio", "imaplib"}
