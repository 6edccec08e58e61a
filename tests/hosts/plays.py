"""Run a playbook and read what it did, task by task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
DEADLINE = 900


@dataclass(frozen=True)
class Run:
    """What a playbook did.

    Attributes:
        status: exit status of ansible-playbook.
        output: what it printed.
        events: results as the callback ``events`` writes them.
        seconds: how long it took.
    """

    status: int
    output: str
    events: list[dict[str, Any]]
    seconds: float

    def changed(self, host: str) -> list[str]:
        """Return the tasks that changed something on a host, or in check mode would."""
        return [event["task"] for event in self.events if event["host"] == host and event["changed"]]

    def fault(self, host: str) -> str:
        """Return why a host failed; empty when it did not."""
        faults = [
            event for event in self.events if event["host"] == host and event["kind"] in ("failed", "unreachable")
        ]
        return "\n".join("\n".join(event["items"]) or event["message"] for event in faults)

    def roles(self) -> set[str]:
        """Return the roles of which tasks ran, without what every play begins with."""
        return {event["role"] for event in self.events if event["kind"] != "skipped"} - {"", "vigie"}

    def tasks(self) -> list[str]:
        """Return the tasks that ran, each once, in their order."""
        return list(dict.fromkeys(event["task"] for event in self.events if event["kind"] != "skipped"))

    def require_success(self) -> Run:
        """Return this run; fails with its output when it did not succeed."""
        assert self.status == 0, self.output[-6000:]
        return self


def collections_path() -> str:
    """Return where the collections are: ours, and those that the caller installed."""
    state = os.environ.get("VIGIE_STATE_DIR") or str(Path("~/.local/state/vigie").expanduser())
    return f"{REPOSITORY / 'collections'}:{state}/collections"


def play(playbook: Path, inventory: Path, *options: str, **variables: Any) -> Run:
    """Run a playbook with extra variables."""
    with tempfile.TemporaryDirectory(prefix="vigie-") as folder:
        events = Path(folder) / "events"
        events.touch()
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": collections_path(),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "events",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_HOST_KEY_CHECKING": "false",
            "ANSIBLE_CACHE_PLUGIN": "memory",
            "VIGIE_EVENTS": str(events),
        }
        program = Path(sys.executable).parent / "ansible-playbook"
        command: list[str | Path] = [program, "-i", inventory, playbook, "-e", json.dumps(variables), *options]
        started = time.monotonic()
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        lines = [json.loads(line) for line in events.read_text().splitlines()]
        return Run(done.returncode, done.stdout, lines, time.monotonic() - started)
