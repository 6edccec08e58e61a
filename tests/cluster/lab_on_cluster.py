"""What the tests do to the lab on a cluster, and ask it."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
MONITORING = "monitoring"
DEADLINE = 600


@dataclass(frozen=True)
class Run:
    """What a playbook did: exit status, and what it printed on one line."""

    status: int
    output: str

    @property
    def changed(self) -> int:
        """How many tasks changed something."""
        found = re.findall(r"changed=(\d+) ", self.output)
        return int(found[-1]) if found else -1


@dataclass(frozen=True)
class Lab:
    """The lab.

    Attributes:
        inventory: of its host.
        state: VIGIE_STATE_DIR, where the kubeconfig is.
    """

    inventory: Path
    state: Path

    def play(self, playbook: str, *options: str, **variables: Any) -> Run:
        """Run a playbook with extra variables."""
        command = ["ansible-playbook", f"--inventory={self.inventory}", *options, "--extra-vars", json.dumps(variables)]
        done = subprocess.run(
            [*command, str(REPOSITORY / playbook)],
            env={
                **os.environ,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_FORCE_COLOR": "0",
                "ANSIBLE_ROLES_PATH": str(REPOSITORY / "roles"),
            },
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=DEADLINE,
        )
        return Run(done.returncode, " ".join((done.stdout + done.stderr).split()))

    def part(self, part: str, *options: str, **variables: Any) -> Run:
        """Bring one part."""
        return self.play("tests/cluster/part.yml", *options, part=part, **variables)

    def drill(self) -> dict[str, Any]:
        """Run a drill without negative proofs; return its report, whatever it says."""
        latest = self.state / "out" / "drill" / "latest"
        before = latest.resolve() if latest.exists() else None
        run = self.play("playbooks/drill.yml", drill_negative=False)
        assert latest.exists() and latest.resolve() != before, run.output[-4000:]
        report: dict[str, Any] = json.loads((latest / "report.json").read_text())
        return report

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl; return what it prints."""
        done = subprocess.run(
            ["kubectl", f"--kubeconfig={self.state}/kubeconfig", *words],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *words: str) -> Any:
        """Return an object."""
        return json.loads(self.kubectl("get", *words, "--output=json"))

    def patch(self, namespace: str, what: str, patch: dict[str, Any]) -> None:
        """Change an object as somebody would by hand."""
        self.kubectl("patch", f"--namespace={namespace}", what, "--type=merge", f"--patch={json.dumps(patch)}")

    def secret(self, namespace: str, name: str, key: str) -> bytes:
        """Return the value of a key."""
        return base64.b64decode(self.get(f"--namespace={namespace}", "secret", name)["data"][key])

    def change_secret(self, namespace: str, name: str, key: str, value: bytes) -> None:
        """Change the value of a key."""
        self.patch(namespace, f"secret/{name}", {"data": {key: base64.b64encode(value).decode()}})

    def hurry(self, selector: str) -> None:
        """Have the kubelet look at the volumes of pods at once."""
        moment = f"vigie/looked-at={time.time():.0f}"
        self.kubectl("annotate", "pods", f"--namespace={MONITORING}", f"--selector={selector}", "--overwrite", moment)


def wait(
    condition: Callable[[], bool], what: str, seconds: float = 120, each: Callable[[], None] = lambda: None
) -> None:
    """Wait until something is so; `each` is done before every look."""
    end = time.monotonic() + seconds
    while True:
        each()
        if condition():
            return
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(1)
