"""Three hosts through the project's own playbooks: two through Docker's connection, one through SSH as a user who may become root."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import STATE, Site
from machines import Machine
from origin import TABLE
from plays import REPOSITORY, Run

HOST, TEARDOWN, UPGRADE = (f"../../playbooks/{name}.yml" for name in ("host", "teardown", "upgrade"))
# What needs no Docker on the hosts; the preflight looks at everything.
PARTS = ("host_python", "kubectl", "helm")
USER = "ops"
USER_STATE = f"/home/{USER}/.local/state/vigie"
MODULES = "docker", "jmespath", "kubernetes"


class Hosts:
    """The three hosts, as one inventory."""

    def __init__(self, site: Site) -> None:
        self.site = site
        registry = site.origin.addresses[site.address].removeprefix("http://")
        mirrors = {
            **site.origin.mirrors(site.address),
            **dict.fromkeys(("gcr.io", "registry.k8s.io", "docker.io"), registry),
        }
        shared: dict[str, Any] = {"minikube_memory": 1800, "vigie_mirrors": mirrors}
        self.hosts: dict[str, dict[str, Any]] = {machine.name: dict(shared) for machine in site.hosts}
        through_ssh = site.hosts[2].name
        self.hosts[through_ssh] |= {**site.connection(through_ssh, USER), "vigie_state_dir": USER_STATE}

    def play(self, *options: str, playbook: str = HOST, only: Machine | None = None, **variables: Any) -> Run:
        hosts = {only.name: self.hosts[only.name]} if only else self.hosts
        if playbook == HOST and not any(option.startswith("--tags") for option in options):
            options += (f"--tags={','.join(PARTS)}",)
        return self.site.play(*options, playbook=playbook, hosts=hosts, **variables)

    def state(self, machine: Machine) -> str:
        return USER_STATE if machine is self.site.hosts[2] else STATE

    def python(self, machine: Machine) -> str:
        return f"{self.state(machine)}/host_python/venv/bin/python"


@pytest.fixture
def hosts(bare: Site) -> Hosts:
    for machine in bare.hosts:
        machine.run("rm", "-rf", USER_STATE)
    return Hosts(bare)


def files(machine: Machine) -> dict[str, str]:
    """What there is, without what Ansible, sudo and apt keep for themselves."""
    kept = (f"/home/{USER}/.ansible", "/var/lib/sudo", "/var/lib/apt", "/var/cache", "/var/lib/dpkg", "/var/log")
    return {path: what for path, what in machine.files().items() if not path.startswith(kept)}


def packages(machine: Machine) -> set[str]:
    return set(machine.run("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n").stdout.splitlines())


def part(event: dict[str, Any]) -> str:
    """The role that a task belongs to; of the shared role of programs, the one that imports it."""
    return str(event["task"].rpartition(": ")[2] if event["role"] == "program" else event["role"])


def seconds(run: Run) -> dict[str, float]:
    """Seconds that each role took, of each task those of the slowest host."""
    slowest: dict[tuple[str, str], float] = {}
    for event in run.events:
        key = (part(event), event["task"])
        slowest[key] = max(slowest.get(key, 0.0), event["seconds"])
    found: dict[str, float] = {}
    for (name, _task), value in slowest.items():
        found[name] = found.get(name, 0.0) + value
    return found


def report(hosts: int, **runs: Run) -> str:
    """A table of role and run."""
    times = {name: {**seconds(run), "all": run.seconds} for name, run in runs.items()}
    roles = [role for role in dict.fromkeys(role for time in times.values() for role in time) if role]
    lines = [f"{f'{hosts} hosts at once, seconds':28}" + "".join(f"{name:>14}" for name in runs)]
    lines += [f"{role:28}" + "".join(f"{time.get(role, 0.0):14.1f}" for time in times.values()) for role in roles]
    return "\n".join(lines) + "\n"


def test_three_hosts_come_stay_and_go_in_one_run_each(hosts: Hosts) -> None:
    all_hosts = hosts.site.hosts
    before = {machine.name: files(machine) for machine in all_hosts}
    had = {machine.name: packages(machine) for machine in all_hosts}

    told = hosts.play("--check", "--diff").require_success()
    assert {machine.name: files(machine) for machine in all_hosts} == before
    assert {machine.name: packages(machine) for machine in all_hosts} == had

    done = hosts.play().require_success()
    for machine in all_hosts:
        # Check mode does not see that the one role makes a folder of the other, nor what only an installed package can tell.
        also = {"Completions have a folder: helm"}
        once = {"What is brought is recorded", "The virtual environment is complete"}
        assert set(told.changed(machine.name)) - also == set(done.changed(machine.name)) - once
        versions = machine.run(
            hosts.python(machine), "-c", f"import {', '.join(MODULES)}; print(kubernetes.__version__)"
        )
        assert versions.stdout.strip()
        for name in ("kubectl", "helm"):
            assert f"{name} {TABLE[name]['version']} (/usr/local/bin/{name})." in [
                event["message"] for event in done.events if event["host"] == machine.name
            ]
        assert "python3-venv installed" in packages(machine) - had[machine.name]

    after = {machine.name: files(machine) for machine in all_hosts}
    again = hosts.play().require_success()
    finished = hosts.play("--check", "--diff").require_success()
    for run in (again, finished):
        assert {name: run.changed(name) for name in before} == {name: [] for name in before}
        assert not [event for event in run.events if event["differs"]]
    assert {machine.name: files(machine) for machine in all_hosts} == after

    gone = hosts.play(playbook=TEARDOWN).require_success()
    for machine in all_hosts:
        left = {
            path
            for path in files(machine).keys() - before[machine.name].keys()
            if not hosts.state(machine).startswith(path)
        }
        assert left <= {"/usr/local/share/bash-completion", "/usr/local/share/bash-completion/completions"}
        assert packages(machine) == had[machine.name]
    bare_again = hosts.play(playbook=TEARDOWN, only=all_hosts[0]).require_success()
    assert bare_again.changed(all_hosts[0].name) == []

    table = report(len(all_hosts), check=told, first=done, second=again, finished=finished, teardown=gone)
    print(f"\n{table}")
    (REPOSITORY / "out").mkdir(exist_ok=True)
    (REPOSITORY / "out/hosts.txt").write_text(table)


def test_each_tag_runs_that_part_alone(hosts: Hosts) -> None:
    machine = hosts.site.hosts[2]

    failed = hosts.play("--tags=host_python_verify", only=machine)
    assert f"{hosts.python(machine)} is not there, or lacks packages; run" in failed.fault(machine.name)

    done = hosts.play("--tags=host_python_install", only=machine).require_success()
    assert {part(event) for event in done.events if event["changed"]} == {"host_python"}
    assert not [task for task in done.tasks() if task.startswith("The program is in place")]

    # What the environment holds, an interruption may have left unfinished.
    stamp = f"{hosts.state(machine)}/host_python/venv/.requirements.sha256"
    machine.run("rm", stamp)
    failed = hosts.play("--tags=host_python_verify", only=machine)
    assert "is of another list of packages" in failed.fault(machine.name)

    # Modules run with it from then on, in whatever play.
    done = hosts.play("--tags=preflight", only=machine).require_success()
    assert done.changed(machine.name) == []
    gone = hosts.play("--tags=host_python_remove", only=machine, playbook=TEARDOWN).require_success()
    assert {part(event) for event in gone.events if event["changed"]} == {"host_python"}
    assert machine.run("ls", f"{hosts.state(machine)}/host_python", check=False).returncode != 0


def test_an_upgrade_tells_from_what_to_what_and_refuses_what_kubernetes_does_not_stand(hosts: Hosts) -> None:
    machine = hosts.site.hosts[0]
    tags = "--tags=kubectl,helm"
    hosts.play(tags, only=machine).require_success()
    newer = {"kubectl_version": "1.36.4", "helm_version": "4.3.0"}
    told = hosts.play(tags, playbook=UPGRADE, only=machine, **newer).require_success()
    (said,) = [event["message"] for event in told.events if event["task"] == "From what to what"]
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines()[1:]}
    assert rows["kubectl"] == [TABLE["kubectl"]["version"], "->", "1.36.4", "*"]
    assert rows["helm"] == [TABLE["helm"]["version"], "->", "4.3.0", "*"]
    answer = json.loads(machine.run("kubectl", "version", "--client", "--output=json").stdout)
    assert answer["clientVersion"]["gitVersion"] == "v1.36.4"

    failed = hosts.play(
        tags,
        playbook=UPGRADE,
        only=machine,
        kubectl_version="1.34.11",
        minikube_kubernetes_version="1.36.4",
        minikube_version="1.39.0",
    )
    assert "kubectl_version=1.34.11 is 2 minor versions from Kubernetes 1.36.4" in failed.fault(machine.name)
    assert failed.changed(machine.name) == []
