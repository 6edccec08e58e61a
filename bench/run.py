#!/usr/bin/env python3
"""Measure Vigie: the way from a restart to its mail, a check beside ping, and a request of the application.

Builds labs of its own in temporary folders, one for each profile, and removes them. With --inventory it measures the lab that is there instead,
on a cluster: drills with each profile, a run with nothing to change, and the memory of every pod. Prints each figure beside its bound and ends
with 1 when one is exceeded.
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
import time
from pathlib import Path
from statistics import median
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
STATE = Path(os.environ.get("VIGIE_STATE_DIR", "~/.local/state/vigie")).expanduser()
BOUNDS = {"standard": (8.0, 12.0), "fast": (4.0, 7.0)}
"""Profile to the p50 and p95, in seconds, that the way from the last restart to its mail may take."""
CHECK_BOUND = 1.5
"""A check that already holds may take this many times as long as ``ansible.builtin.ping``."""
RERUN_BOUND = 60.0
"""Seconds that a run of the site with nothing to change may take on a cluster."""
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

    inventory = REPOSITORY / "inventory" / "embedded"

    def __init__(self, profile: str) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="vigie-bench-"))
        self.out = self.state / "out"
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.extra = {"vigie_profile": profile, "vigie_ports": ports, "vigie_out_dir": str(self.out)}
        packages = STATE / "packages"
        if packages.is_dir():
            shutil.copytree(packages, self.state / "packages", symlinks=True)

    def play(self, playbook: str, *options: str, **extra: Any) -> str:
        """Run a playbook and return what it prints; leave with that when it fails."""
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.inventory), *options]
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
        return done.stdout

    def remove(self) -> None:
        """Stop and remove everything."""
        self.play("playbooks/teardown.yml")
        shutil.rmtree(self.state)


class Cluster(Lab):
    """The lab of an inventory with a cluster, as it is.

    Args:
        inventory: of one host.
    """

    def __init__(self, inventory: Path) -> None:
        self.inventory = inventory
        self.state = STATE
        self.out = Path(tempfile.mkdtemp(prefix="vigie-bench-"))
        self.extra = {"vigie_out_dir": str(self.out)}

    def choose(self, profile: str) -> None:
        """Give the lab a profile."""
        self.extra["vigie_profile"] = profile
        self.play("site.yml", "--tags=monitoring,alerting")

    def remove(self) -> None:
        """Give the lab its own profile back; the reports go."""
        del self.extra["vigie_profile"]
        self.play("site.yml", "--tags=monitoring,alerting")
        shutil.rmtree(self.out)

    def get(self, *words: str) -> Any:
        """Ask the cluster."""
        command = ["kubectl", f"--kubeconfig={self.state / 'kubeconfig'}", "get", *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: {done.stderr}")
        return json.loads(done.stdout)


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


def bench_rerun(lab: Cluster) -> bool:
    """Print the time of a run with nothing to change, split by role; return whether the bound holds and nothing changed."""
    began = time.monotonic()
    said = lab.play("site.yml")
    seconds = time.monotonic() - began
    holds = seconds <= RERUN_BOUND and "changed=0 " in said
    print(said[said.index("ROLES RECAP") :])
    print(
        f"  site.yml with nothing to change {seconds:.0f} s (bound {RERUN_BOUND:.0f}): {'holds' if holds else 'EXCEEDED'}\n"
    )
    return holds


def bytes_of(quantity: str) -> float:
    """Return the bytes of a quantity of memory as Kubernetes writes it."""
    for unit, size in (("Ki", 2**10), ("Mi", 2**20), ("Gi", 2**30), ("k", 1e3), ("M", 1e6), ("G", 1e9)):
        if quantity.endswith(unit):
            return float(quantity.removesuffix(unit)) * size
    return float(quantity)


def bench_memory(lab: Cluster) -> bool:
    """Print the memory of every container beside its request and limit, in MiB; return whether all are below their limits."""
    specs = {
        (pod["metadata"]["namespace"], pod["metadata"]["name"], container["name"]): container.get("resources", {})
        for pod in lab.get("pods", "--all-namespaces", "--output=json")["items"]
        for container in pod["spec"]["containers"]
    }
    print(f"  {'memory, MiB':<74}{'rss':>7}{'working':>9}{'request':>9}{'limit':>7}")
    holds, total = True, 0.0
    for node in lab.get("nodes", "--output=json")["items"]:
        summary = lab.get(f"--raw=/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary")
        for pod in sorted(summary["pods"], key=lambda one: (one["podRef"]["namespace"], one["podRef"]["name"])):
            for container in pod.get("containers", []):
                key = (pod["podRef"]["namespace"], pod["podRef"]["name"], container["name"])
                memory = container.get("memory", {})
                working, rss = memory.get("workingSetBytes", 0), memory.get("rssBytes", 0)
                total += working
                bounds = [specs.get(key, {}).get(kind, {}).get("memory") for kind in ("requests", "limits")]
                request, limit = (f"{bytes_of(bound) / 2**20:.0f}" if bound else "-" for bound in bounds)
                holds = holds and (not bounds[1] or working < bytes_of(bounds[1]))
                print(f"  {'/'.join(key):<74}{rss / 2**20:>7.0f}{working / 2**20:>9.0f}{request:>9}{limit:>7}")
    print(f"  all of them {total / 2**20:.0f} MiB: {'below their limits' if holds else 'A LIMIT IS REACHED'}\n")
    return holds


def bench_application() -> bool:
    """Print the cost of a request; return whether its bounds hold."""
    print("A request of the application", flush=True)
    return subprocess.run([sys.executable, str(REPOSITORY / "app" / "bench.py")], check=False).returncode == 0


def bench_cluster(inventory: Path, profiles: list[str], drills: int) -> list[bool]:
    """Measure the lab on a cluster; return whether each bound holds."""
    lab = Cluster(inventory)
    results = [bench_rerun(lab), bench_memory(lab)]
    try:
        for profile in profiles:
            lab.choose(profile)
            results.append(bench_drills(profile, drills, lab))
    finally:
        lab.remove()
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drills", type=int, default=10, help="drills for each profile (default: %(default)s)")
    parser.add_argument("--profile", choices=sorted(BOUNDS), action="append", help="only this profile (repeatable)")
    parser.add_argument("--inventory", type=Path, help="measure the lab on the cluster of this inventory")
    args = parser.parse_args()
    if args.inventory:
        return 0 if all(bench_cluster(args.inventory, args.profile or sorted(BOUNDS, reverse=True), args.drills)) else 1
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
