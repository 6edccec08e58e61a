"""Runs a module's own main(), and takes the result with which it leaves."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from ansible.module_utils import basic


class Left(Exception):
    """The module has left with a result."""


@contextlib.contextmanager
def module_args(args: dict[str, Any]) -> Iterator[None]:
    """Hand arguments to AnsibleModule as the running core expects them."""
    try:
        from ansible.module_utils.testing import patch_module_args
    except ImportError:  # ansible-core before 2.17
        with mock.patch.object(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": args}).encode()):
            yield
    else:
        with patch_module_args(args):
            yield


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return a function that runs a module's main() with arguments and returns its result."""
    results: list[dict[str, Any]] = []

    def leave(_module: basic.AnsibleModule, **result: Any) -> None:
        results.append(result)
        raise Left

    def fail(_module: basic.AnsibleModule, msg: str, **result: Any) -> None:
        leave(_module, failed=True, msg=msg, **result)

    monkeypatch.setattr(basic.AnsibleModule, "exit_json", leave)
    monkeypatch.setattr(basic.AnsibleModule, "fail_json", fail)

    def call(main: Callable[[], None], args: dict[str, Any]) -> dict[str, Any]:
        with module_args(args), pytest.raises(Left):
            main()
        return results[-1]

    return call
