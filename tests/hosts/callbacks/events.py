"""Write each result of a playbook run as a line of JSON to the file that VIGIE_EVENTS names, for tests to read."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: events
type: aggregate
short_description: Each result as a line of JSON
description: For the tests of this repository.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._started: dict[tuple[str, str], float] = {}

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._started[host.get_name(), task._uuid] = time.monotonic()

    def _write(self, kind: str, result: Any) -> None:
        # The accessors became public in ansible-core 2.19.
        task = getattr(result, "task", None) or result._task
        host = getattr(result, "host", None) or result._host
        content = getattr(result, "result", None) or result._result
        event = {
            "kind": kind,
            "host": host.get_name(),
            "role": task._role.get_name() if task._role else "",
            "task": task.get_name().rpartition(" : ")[2],
            "changed": bool(content.get("changed")) and kind == "ok",
            "message": str(content.get("msg", "")),
            "items": [str(item.get("msg", "")) for item in content.get("results", []) if item.get("failed")],
            "seconds": time.monotonic() - self._started.get((host.get_name(), task._uuid), time.monotonic()),
            "differs": bool(content.get("diff")) and bool(content.get("changed")),
        }
        with Path(os.environ["VIGIE_EVENTS"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write("ok", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._write("skipped", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._write("unreachable", result)
