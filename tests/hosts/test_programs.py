"""Roles kubectl and helm on three hosts with systemd: from nothing to removed, whatever happens on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from conftest import STATE, Site
from machines import Machine
from origin import TABLE, program, sha256

KUBECTL, HELM = TABLE["kubectl"]["version"], TABLE["helm"]["version"]
NEWER = {"kubectl_version": "1.36.4", "helm_version": "4.3.0"}
OLDER = {"kubectl_version": "1.34.11", "helm_version": "3.21.4"}
COMPLETIONS = "/usr/local/share/bash-completion/completions"
PARTS = ("kubectl", "helm")


def architecture(machine: Machine) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[machine.run("uname", "-m").stdout.strip()]


def kubectl_version(machine: Machine) -> str:
    """What a user who logs in gets."""
    answer = json.loads(machine.run("bash", "-lc", "kubectl version --client --output=json").stdout)
    return str(answer["clientVersion"]["gitVersion"]).removeprefix("v")


def helm_version(machine: Machine) -> str:
    return machine.run("bash", "-lc", "helm version --template '{{.Version}}'").stdout.removeprefix("v")


def completes(machine: Machine, name: str) -> str:
    """What the shell knows of a program after its completion was asked for, as with the tab key."""
    load = f"_comp_load {name} || _completion_loader {name}"  # it was renamed in Debian 13
    script = f". /usr/share/bash-completion/bash_completion; {{ {load}; }} 2>/dev/null; complete -p {name}"
    return machine.run("bash", "-c", script, check=False).stdout


def installed(machine: Machine, name: str) -> set[str]:
    """Files below /usr/local that have to do with a program."""
    return {path for path in machine.files() if path.startswith("/usr/local/") and name in Path(path).name}


def about(tasks: list[str], name: str) -> list[str]:
    return [task for task in tasks if task.endswith(f": {name}")]


def test_three_bare_hosts_get_the_programs_and_then_nothing_changes(bare: Site) -> None:
    before = {machine.name: machine.files() for machine in bare.hosts}

    told = bare.play("--check", "--diff").require_success()
    assert {machine.name: machine.files() for machine in bare.hosts} == before
    assert bare.origin.seen == []

    done = bare.play().require_success()
    for machine in bare.hosts:
        # Check mode does not see that the one role makes the folder of the other, too.
        assert set(told.changed(machine.name)) - {"Completions have a folder: helm"} == set(done.changed(machine.name))
        assert (kubectl_version(machine), helm_version(machine)) == (KUBECTL, HELM)
        assert f"apply get {KUBECTL}" in completes(machine, "kubectl")
        assert f"install list {HELM}" in completes(machine, "helm")
        assert f"kubectl {KUBECTL} (/usr/local/bin/kubectl)." in [event["message"] for event in done.events]
    assert len(bare.origin.seen) == len(set(bare.origin.seen)) * len(bare.hosts) == 2 * len(bare.hosts)

    after = {machine.name: machine.files() for machine in bare.hosts}
    for options in ((), ("--check", "--diff")):
        again = bare.play(*options).require_success()
        assert {machine.name: again.changed(machine.name) for machine in bare.hosts} == {name: [] for name in before}
        assert not [event for event in again.events if event["differs"]]
    assert {machine.name: machine.files() for machine in bare.hosts} == after
    print(f"\nthree hosts: check {told.seconds:.0f} s, first run {done.seconds:.0f} s, last run {again.seconds:.0f} s")
    bare.version = "default"


def test_whatever_happens_to_a_download_the_old_program_stays_and_a_good_run_mends_it(finished: Site) -> None:
    names = [machine.name for machine in finished.hosts]
    before = {machine.name: machine.files() for machine in finished.hosts}
    kind = architecture(finished.hosts[0])
    wanted = sha256("kubectl", NEWER["kubectl_version"], kind)
    path = f"release/v{NEWER['kubectl_version']}/bin/linux/{kind}/kubectl"
    rounds: list[dict[str, list[str]]] = [
        {
            "wrong": ["with sha256", f"expected {wanted}"],
            "short": ["with sha256", f"expected {wanted}"],
            "missing": ["it answered 404 Not Found"],
        },
        {
            "cut": ["the connection ended after"],
            "stalled": ["timed out"],
            "refused": ["refused"],
        },
    ]
    for faults in rounds:
        hosts = {
            name: {"vigie_mirrors": finished.origin.mirrors(finished.address, fault)}
            for name, fault in zip(names, faults, strict=True)
        }
        failed = finished.play("--tags", "kubectl", hosts=hosts, kubectl_download_timeout=2, **NEWER)
        assert failed.status != 0
        for name, (fault, parts) in zip(names, faults.items(), strict=True):
            for part in [f"{hosts[name]['vigie_mirrors']['https://dl.k8s.io']}/{path}", *parts]:
                assert part in failed.fault(name), fault
        assert {machine.name: machine.files() for machine in finished.hosts} == before
        assert [kubectl_version(machine) for machine in finished.hosts] == [KUBECTL] * 3

    finished.version = "newer"
    ways = ("redirected", "slow", "good")  # slow: longer in all than it may stand still
    hosts = {
        name: {"vigie_mirrors": finished.origin.mirrors(finished.address, way)}
        for name, way in zip(names, ways, strict=True)
    }
    finished.play(hosts=hosts, kubectl_download_timeout=2, helm_download_timeout=2, **NEWER).require_success()
    for machine in finished.hosts:
        assert (kubectl_version(machine), helm_version(machine)) == tuple(NEWER.values())
        assert not [path for path in machine.files() if ".part-" in path]


def test_another_version_is_told_first_then_brought_up_or_down(present: Site) -> None:
    machine = present.hosts[2]
    only: dict[str, dict[str, Any]] = {machine.name: {}}
    before = machine.files()
    told = present.play("--check", "--diff", hosts=only, **OLDER).require_success()
    assert told.changed(machine.name) == [f"The program is in place: {name}" for name in PARTS]
    assert sha256("kubectl", OLDER["kubectl_version"], architecture(machine)) in told.output
    assert machine.files() == before

    present.version = "mixed"
    present.play(hosts=only, **OLDER).require_success()
    assert (kubectl_version(machine), helm_version(machine)) == tuple(OLDER.values())
    assert OLDER["kubectl_version"] in completes(machine, "kubectl")


def test_each_tag_runs_that_part_alone_and_removal_leaves_nothing(bare: Site) -> None:
    machine = bare.hosts[0]
    only: dict[str, dict[str, Any]] = {machine.name: {}}
    before = machine.files()

    failed = bare.play("--tags", "kubectl_verify", hosts=only)
    assert "/usr/local/bin/kubectl is not there" in failed.fault(machine.name)
    assert "--tags kubectl'" in failed.fault(machine.name)
    assert machine.files() == before

    done = bare.play("--tags", "kubectl_install", hosts=only).require_success()
    assert about(done.changed(machine.name), "kubectl") == done.changed(machine.name) != []
    assert not [task for task in done.tasks() if task.startswith("What runs")]
    assert (installed(machine, "helm"), kubectl_version(machine)) == (set(), KUBECTL)

    done = bare.play("--tags", "helm", hosts=only).require_success()
    assert about(done.changed(machine.name), "helm") == done.changed(machine.name) != []
    assert "What runs is what was wanted: helm" in done.tasks()
    assert "What runs is what was wanted: kubectl" not in done.tasks()

    told = bare.play("--check", "--tags", "kubectl_remove", playbook="remove.yml", hosts=only).require_success()
    assert installed(machine, "kubectl") == {"/usr/local/bin/kubectl", f"{COMPLETIONS}/kubectl"}
    gone = bare.play("--tags", "kubectl_remove", playbook="remove.yml", hosts=only).require_success()
    assert told.changed(machine.name) == gone.changed(machine.name) != []
    assert installed(machine, "kubectl") == set()
    assert installed(machine, "helm") == {"/usr/local/bin/helm", "/usr/local/bin/.helm.source", f"{COMPLETIONS}/helm"}

    bare.play(playbook="remove.yml", hosts=only).require_success()
    left = set(machine.files()) - set(before)
    assert left <= {"/usr/local/share/bash-completion", COMPLETIONS, "/root/.local", "/root/.local/state", STATE}
    again = bare.play(playbook="remove.yml", hosts=only).require_success()
    assert again.changed(machine.name) == []


def test_programs_of_another_origin_are_neither_overwritten_nor_removed(bare: Site) -> None:
    other, linked, hidden = bare.hosts
    other.write("/usr/local/bin/kubectl", "#!/bin/sh\necho mine\n", "0755")
    other.write(f"{COMPLETIONS}/kubectl", "complete -W mine kubectl\n")
    linked.run("ln", "-s", "/bin/true", "/usr/local/bin/kubectl")
    hidden.write("/usr/local/sbin/kubectl", "#!/bin/sh\necho v1.2.3\n", "0755")
    before = {machine.name: machine.files() for machine in bare.hosts}

    failed = bare.play("--tags", "kubectl")
    assert "/usr/local/bin/kubectl is there, is not kubectl" in failed.fault(other.name)
    assert f"{STATE}/kubectl/files does not list it" in failed.fault(other.name)
    assert "is no regular file" in failed.fault(linked.name)
    assert "/usr/local/bin/kubectl is hidden by /usr/local/sbin/kubectl, which comes first on PATH" in failed.fault(
        hidden.name
    )
    assert (other.files(), linked.files()) == (before[other.name], before[linked.name])

    # The very program, by whatever way it came.
    other.write("/usr/local/bin/kubectl", program("kubectl", KUBECTL, architecture(other)), "0755")
    only: dict[str, dict[str, Any]] = {other.name: {}}
    bare.play("--tags", "kubectl", hosts=only).require_success()
    assert "mine" in completes(other, "kubectl")
    bare.play("--tags", "kubectl_remove", playbook="remove.yml", hosts=only).require_success()
    assert kubectl_version(other) == KUBECTL
    assert "mine" in completes(other, "kubectl")


def test_a_bundle_serves_without_the_network_and_knows_its_own_versions(bare: Site) -> None:
    machine = bare.hosts[2]
    kind = architecture(machine)
    versions = {"kubectl": "1.35.99", "helm": HELM}
    entries = []
    for name, version in versions.items():
        content = program(name, version, kind)
        machine.write(f"/srv/bundle/binaries/{name}", content)
        entry = {"name": name, "version": version, "kind": "binary", "architecture": kind, "file": f"binaries/{name}"}
        entries.append({**entry, "sha256": machine.run("sha256sum", f"/srv/bundle/binaries/{name}").stdout.split()[0]})
    machine.write("/srv/bundle/manifest.yml", yaml.safe_dump(entries))
    options: dict[str, Any] = {"hosts": {machine.name: {}}, "vigie_bundle_dir": "/srv/bundle"}

    before = machine.files()
    failed = bare.play("--tags", "kubectl", **options)
    assert f"has no version {KUBECTL}" in failed.fault(machine.name) or KUBECTL in failed.fault(machine.name)
    assert machine.files() == before

    bare.play(kubectl_version=versions["kubectl"], **options).require_success()
    assert (kubectl_version(machine), helm_version(machine)) == tuple(versions.values())
    assert bare.origin.seen == []


def test_through_ssh_a_program_comes_moves_house_and_goes(bare: Site) -> None:
    machine = bare.hosts[1]
    options: dict[str, Any] = {"hosts": {machine.name: {}}, "ssh": True}
    bare.play("--tags", "kubectl", **options).require_success()
    moved = "/opt/vigie/bin"
    bare.play("--tags", "kubectl", **options, kubectl_bin_dir=moved).require_success()
    assert installed(machine, "kubectl") == {f"{COMPLETIONS}/kubectl"}
    assert KUBECTL in machine.run(f"{moved}/kubectl", "version", "--client", "--output=json").stdout
    bare.play("--tags", "kubectl_remove", **options, playbook="remove.yml").require_success()
    assert not [path for path in machine.files() if "kubectl" in Path(path).name]
