"""Every role's argument spec says the same as its defaults: names, types and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).parents[2] / "roles").iterdir() if path.is_dir())
TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "path": (str,),
    "raw": (str, int, bool, list, dict, float),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}


def is_template(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value


def differences(defaults: dict[str, Any], options: dict[str, Any]) -> list[str]:
    """What a reader of the spec would be told wrong."""
    found = [f"{name} has a default but no spec" for name in sorted(defaults.keys() - options.keys())]
    found += [f"{name} has a spec but no default" for name in sorted(options.keys() - defaults.keys())]
    for name in sorted(defaults.keys() & options.keys()):
        value, spec = defaults[name], options[name]
        if "type" not in spec or "description" not in spec:
            found.append(f"{name} lacks a type or a description")
            continue
        if spec.get("default") != value:
            found.append(f"{name}: the spec says {spec.get('default')!r}, the default is {value!r}")
        wrong = not isinstance(value, TYPES[spec["type"]]) or (isinstance(value, bool) and spec["type"] != "bool")
        if wrong and not is_template(value):
            found.append(f"{name}: {value!r} is no {spec['type']}")
        if spec["type"] == "list" and "elements" not in spec:
            found.append(f"{name}: a list without elements")
    return found


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_specs_equal_defaults(role: Path) -> None:
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text()) or {}
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    assert differences(defaults, specs["main"]["options"]) == []


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_knobs_carry_the_name_of_their_role(role: Path) -> None:
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text()) or {}
    prefix = f"{role.name}_"
    assert [name for name in defaults if not name.startswith(prefix)] == []


@pytest.mark.parametrize(
    ("defaults", "options", "part"),
    [
        ({"a": 1}, {}, "no spec"),
        ({}, {"a": {"type": "int", "description": "x"}}, "no default"),
        ({"a": 1}, {"a": {"type": "int", "description": "x", "default": 2}}, "the spec says 2"),
        ({"a": "1"}, {"a": {"type": "int", "description": "x", "default": "1"}}, "is no int"),
        ({"a": True}, {"a": {"type": "int", "description": "x", "default": True}}, "is no int"),
        ({"a": []}, {"a": {"type": "list", "description": "x", "default": []}}, "without elements"),
        ({"a": 1}, {"a": {"default": 1}}, "lacks a type"),
    ],
)
def test_the_checker_sees_differences(defaults: dict[str, Any], options: dict[str, Any], part: str) -> None:
    assert part in "\n".join(differences(defaults, options))
