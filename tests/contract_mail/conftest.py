"""Runs modules in process, as Ansible would call them, against real servers on 127.0.0.1."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Return a function that runs a module of the collection and returns its result, ``failed`` included."""

    def run(module_name: str, /, *, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
        module = importlib.import_module(f"ansible_collections.vigie.observability.plugins.modules.{module_name}")
        capsys.readouterr()
        with patch_module_args({**arguments, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        result.setdefault("failed", False)
        return result

    return run
