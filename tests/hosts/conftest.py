"""Three hosts, and publishers that they reach, for the whole session."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import machines as machinery
import origin as publishers
from machines import Machine
from origin import Origin
from plays import HERE, Run, play

STATE = "/root/.local/state/vigie"


@pytest.fixture(scope="session")
def machines() -> Iterator[list[Machine]]:
    """Return two hosts of Debian 12 and one of Debian 13."""
    machinery.require(machinery.missing())
    with machinery.machines(["bookworm", "bookworm", "trixie"]) as started:
        yield started


@pytest.fixture(scope="session")
def origin(machines: list[Machine]) -> Iterator[Origin]:
    """Return the publishers' servers, which the hosts reach."""
    with publishers.serving(machines[0].gateway) as started:
        yield started


class Site:
    """The hosts as Ansible sees them.

    Args:
        hosts: the machines.
        origin: where they download from.
        folder: for inventories and keys.
    """

    def __init__(self, hosts: list[Machine], origin: Origin, folder: Path) -> None:
        self.hosts = hosts
        self.origin = origin
        self.folder = folder
        self.address = hosts[0].gateway
        self.version = ""  # that all hosts have: "default", a word of a test for other ones, or none

    def play(
        self,
        *options: str,
        playbook: str = "programs.yml",
        hosts: dict[str, dict[str, Any]] | None = None,
        ssh: bool | str = False,
        **variables: Any,
    ) -> Run:
        """Run a playbook on all hosts, or on those named, with their variables.

        Args:
            options: of ansible-playbook.
            playbook: its path as seen from this folder.
            hosts: name to variables.
            ssh: connect through SSH: as root, or as the user of this name.
            variables: of all hosts, before any other.
        """
        chosen = {machine.name: {} for machine in self.hosts} if hosts is None else hosts
        listed = {name: {**self.connection(name, ssh), **values} for name, values in chosen.items()}
        shared = {
            "vigie_platform": "minikube",
            "vigie_state_dir": STATE,
            "vigie_mirrors": self.origin.mirrors(self.address),
        }
        inventory = machinery.inventory(self.folder / "inventory.json", listed, shared)
        return play((HERE / playbook).resolve(), inventory, *options, vigie_versions=publishers.table(), **variables)

    def connection(self, name: str, ssh: bool | str) -> dict[str, Any]:
        """Return the variables by which Ansible connects to a host."""
        if not ssh:
            return {"ansible_connection": "community.docker.docker"}
        machine = next(machine for machine in self.hosts if machine.name == name)
        key = self.folder / "key"
        user = ssh if isinstance(ssh, str) else "root"
        machinery.authorize(machine, key, user)
        known = f"-o UserKnownHostsFile={self.folder / 'known_hosts'}"
        return {
            "ansible_connection": "ssh",
            "ansible_host": machine.address,
            "ansible_user": user,
            "ansible_ssh_private_key_file": str(key),
            "ansible_ssh_common_args": known,
            # No connection outlives the host for long.
            "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=5s",
        }


@pytest.fixture(scope="session")
def site(machines: list[Machine], origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Return the hosts as Ansible sees them."""
    return Site(machines, origin, tmp_path_factory.mktemp("site"))


@pytest.fixture
def bare(site: Site) -> Site:
    """Return the hosts without anything that a role brings."""
    site.version = ""
    for machine in site.hosts:
        script = f"rm -rf {STATE} /srv/bundle /opt/vigie /usr/local/share/bash-completion && find /usr/local ! -type d -delete"
        machine.run("sh", "-c", script)
    site.origin.seen.clear()
    return site


@pytest.fixture
def finished(request: pytest.FixtureRequest, site: Site) -> Site:
    """Return the hosts with the default versions of all programs."""
    if site.version != "default":
        request.getfixturevalue("bare").play().require_success()
        site.version = "default"
    site.origin.seen.clear()
    return site


@pytest.fixture
def present(request: pytest.FixtureRequest, site: Site) -> Site:
    """Return the hosts with all programs, of whatever versions."""
    return site if site.version else request.getfixturevalue("finished")
