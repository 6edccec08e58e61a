#!/usr/bin/env python3
"""Measure Vigie: the way from a restart to its mail, a check beside ping, and a request of the application.

Builds labs of its own in temporary folders, one for each profile, and removes them. Prints each figure beside its bound and
ends with 1 when one is exceeded.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
STATE = Path(os.environ.get("VIGIE_STATE_DIR", "~/.local/state/vigie")).expanduser()
BOUNDS = {"standard": (8.0, 12.0), "fast": (4.0, 7.0)}
"""Profile to the p50 and p95, in seconds, that the way from the last restart to its mail may take."""
CHECK_BOUND = 1.5
"""A check that already holds may take this many times as long as ``ansible.builtin.ping``."""
PORTS = ("prometheus", "alertmanager", "node_exporter", "supervisor_exporter", "app", "smtp")


def percentile(values: list[float], share: float) -> float:
    """Return the nearest-rank percentile: a value that was really measured."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


class Lab:
    """A lab in a temporary state directory."""

    def __init__(self, profile: str) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="vigie-bench-"))
        self.out = self.state / "out"
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.extra = {"vigie_profile": profile, "vigie_ports": ports, "vigie_out_dir": str(self.out)}
        packages = STATE / "packages"
        if packages.is_dir():
            shutil.copytree(packages, self.state / "packages", symlinks=True)

    def play(self, playbook: str, **extra: Any) -> None:
        """Run a playbook; leave with its output when it fails."""
        command = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            str(REPOSITORY / "inventory" / "embedded"),
        ]
        command += ["-e", json.dumps({**self.extra, **extra}), str(REPOSITORY / playbook)]
        environment = {
            **os.environ,
            "VIGIE_STATE_DIR": str(self.state),
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": f"{REPOSITORY / 'collections'}:{STATE / 'collections'}",
        }
        done = subprocess.run(
            command, check=False, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            raise SystemExit(f"{playbook} failed:\n{done.stdout[-4000:]}{done.stderr[-1000:]}")

    def remove(self) -> None:
        """Stop and remove everything."""
        self.play("playbooks/teardown.yml")
        shutil.rmtree(self.state)


def seconds_between(report: dict[str, Any]) -> float:
    """Return the seconds from the last restart to its mail."""
    from datetime import datetime

    at = {stage["name"]: datetime.fromisoformat(stage["finished"]) for stage in report["stages"]}
    return (at["mailed"] - at["restart"]).total_seconds()


def bench_drills(profile: str, drills: int, lab: Lab) -> bool:
    """Run drills and print each stage beside its budget; return whether the bounds hold."""
    reports = []
    for number in range(drills):
        lab.play("playbooks/drill.yml", drill_negative=False)
        reports.append(json.loads((lab.out / "drill" / "latest" / "report.json").read_text()))
        print(f"  {profile} drill {number + 1}/{drills}: {seconds_between(reports[-1]):.2f} s", flush=True)
    print(f"\nRestart to mail, profile {profile}, {drills} drills (seconds)")
    print(f"  {'stage':<12}{'p50':>8}{'p95':>8}{'max':>8}{'budget':>9}")
    for index, stage in enumerate(reports[0]["stages"]):
        values = [report["stages"][index]["seconds"] for report in reports]
        budget = "-" if stage["budget_seconds"] is None else f"{stage['budget_seconds']:.2f}"
        print(
            f"  {stage['name']:<12}{percentile(values, 0.5):>8.2f}{percentile(values, 0.95):>8.2f}{max(values):>8.2f}{budget:>9}"
        )
    totals = [seconds_between(report) for report in reports]
    p50, p95 = percentile(totals, 0.5), percentile(totals, 0.95)
    bound50, bound95 = BOUNDS[profile]
    holds = p50 <= bound50 and p95 <= bound95
    word = "holds" if holds else "EXCEEDED"
    print(f"  restart -> mail p50 {p50:.2f} (bound {bound50:.0f}), p95 {p95:.2f} (bound {bound95:.0f}): {word}\n")
    return holds


def bench_checks(lab: Lab) -> bool:
    """Print the time of each check that holds, as a multiple of ping; return whether the bound holds."""
    result = lab.state / "checks.json"
    lab.play("bench/checks.yml", bench_result=str(result))
    seconds = {name: median(values) for name, values in json.loads(result.read_text()).items()}
    ping = seconds.pop("ping")
    print(f"A check that already holds, beside ansible.builtin.ping ({ping * 1000:.0f} ms), bound {CHECK_BOUND} x")
    for name, value in seconds.items():
        print(f"  {name:<14}{value * 1000:>6.0f} ms {value / ping:>6.2f} x")
    holds = max(seconds.values()) <= CHECK_BOUND * ping
    print(f"  {'holds' if holds else 'EXCEEDED'}\n")
    return holds


def bench_application() -> bool:
    """Print the cost of a request; return whether its bounds hold."""
    print("A request of the application", flush=True)
    return subprocess.run([sys.executable, str(REPOSITORY / "app" / "bench.py")], check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drills", type=int, default=10, help="drills for each profile (default: %(default)s)")
    parser.add_argument("--profile", choices=sorted(BOUNDS), action="append", help="only this profile (repeatable)")
    args = parser.parse_args()
    results = [bench_application()]
    for profile in args.profile or sorted(BOUNDS, reverse=True):
        lab = Lab(profile)
        try:
            lab.play("site.yml")
            results.append(bench_checks(lab))
            results.append(bench_drills(profile, args.drills, lab))
        finally:
            lab.remove()
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
