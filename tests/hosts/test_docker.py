"""Role docker on three hosts with systemd: from the distribution and from the publisher, from nothing to removed."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apt_repository
import machines as machinery
import origin as publishers
import pytest
from apt_repository import RELEASES, AptRepository, version
from conftest import Site
from machines import Machine
from plays import REPOSITORY, Run

sys.path.insert(0, str(REPOSITORY / "roles/docker/filter_plugins"))
import openpgp

OLDER, NEWER = RELEASES
KEY, SOURCES = "/etc/apt/keyrings/docker.asc", "/etc/apt/sources.list.d/docker.sources"
PACKAGES = {"docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin"}
USER = "carol"
# What apt, dpkg, the tools of accounts and Ansible keep of their own work, and a name that the kernel's rules leave behind.
KEPT = (
    "/etc/group-", "/etc/gshadow-", "/etc/passwd-", "/etc/shadow-", "/etc/subgid-", "/etc/subuid-", "/etc/.pwd.lock", "/etc/ld.so.cache",
    "/var/cache/apt/", "/var/cache/ldconfig/", "/var/cache/debconf/", "/var/lib/apt/", "/var/lib/dpkg/", "/root/.local", "/home/carol/.local",
    "/home/carol/.ansible",
)  # fmt: skip


class Docker:
    """The hosts, the repository, and a user who may become root."""

    def __init__(self, site: Site, repository: AptRepository) -> None:
        self.site = site
        self.hosts = site.hosts
        self.repository = repository

    def play(self, *options: str, hosts: dict[str, dict[str, Any]] | None = None, **variables: Any) -> Run:
        """Bring Docker."""
        return self.site.play(*options, playbook="docker.yml", hosts=hosts, **variables)

    def remove(self, *options: str, hosts: dict[str, dict[str, Any]] | None = None, **variables: Any) -> Run:
        """Remove it."""
        return self.site.play(*options, playbook="docker_remove.yml", hosts=hosts, **variables)

    def published(self, release: str = "", variant: str = "good") -> dict[str, dict[str, Any]]:
        """Return the hosts with the variables of the publisher's repository, which is a mirror with a key of its own."""
        own = {
            "docker_source": "docker",
            "docker_key_fingerprint": self.repository.key.fingerprint,
            "vigie_mirrors": self.repository.mirrors(variant),
        }
        return {
            machine.name: {**own, "docker_version": version(machine.suite, release) if release else ""}
            for machine in self.hosts
        }


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """Return hosts of their own, as what Docker leaves in the kernel is no concern of others."""
    machinery.require(machinery.missing(), apt_repository.missing())
    suites = ["bookworm", "bookworm", "trixie"]
    with machinery.machines(suites) as hosts, publishers.serving(hosts[0].gateway) as origin:
        for machine in hosts:
            machine.run("useradd", "--create-home", "--shell", "/bin/bash", USER)
            machine.write(f"/etc/sudoers.d/{USER}", f"{USER} ALL=(ALL) NOPASSWD: ALL\n", "0440")
        with apt_repository.publishing(hosts[0].gateway, hosts[0], set(suites)) as repository:
            yield Docker(Site(hosts, origin, tmp_path_factory.mktemp("docker")), repository)


@pytest.fixture
def sockets() -> Iterator[Path]:
    """Return a folder with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="vigie-", dir="/tmp") as folder:
        yield Path(folder)


def installed(machine: Machine) -> dict[str, str]:
    """Return packages and their versions."""
    listed = machine.run("dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n").stdout
    return {line.split()[1]: line.split()[2] for line in listed.splitlines() if line.startswith("installed ")}


def left(machine: Machine, before: dict[str, str]) -> set[str]:
    """Return files that came, without what the system keeps of its own work."""
    return {path for path in set(machine.files()) - set(before) if not path.startswith(KEPT)}


def members(machine: Machine) -> set[str]:
    return set(filter(None, machine.run("getent", "group", "docker").stdout.strip().rpartition(":")[2].split(",")))


def runs(machine: Machine) -> str:
    """Return the version of the daemon that runs."""
    return machine.run("docker", "version", "--format", "{{.Server.Version}}").stdout.strip()


def apt(machine: Machine, *arguments: str) -> None:
    """Let apt do what somebody else than the role wants."""
    command = (
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "--quiet=2",
        "--yes",
        "--no-install-recommends",
        *arguments,
    )
    machinery.run("docker", "exec", machine.name, *command, timeout=300)


def main_pid(machine: Machine, unit: str) -> str:
    return machine.run("systemctl", "show", "--property", "MainPID", "--value", unit).stdout.strip()


def nothing_changes(docker: Docker, hosts: dict[str, dict[str, Any]] | None = None, **variables: Any) -> Run:
    for options in (("--check", "--diff"), ()):
        again = docker.play(*options, hosts=hosts, **variables).require_success()
        assert {machine.name: again.changed(machine.name) for machine in docker.hosts} == {
            machine.name: [] for machine in docker.hosts
        }
        assert not [event for event in again.events if event["differs"]]
    return again


def told_as_done(told: Run, done: Run, machine: Machine) -> None:
    """Check mode told what was done, but for what can't be foreseen before packages are there."""
    unforeseen = {"Docker is started by systemd", "Docker's options have a folder"}
    assert set(told.changed(machine.name)) - unforeseen == set(done.changed(machine.name)) - unforeseen


def test_three_bare_hosts_get_docker_of_the_distribution(docker: Docker) -> None:
    before = {machine.name: (machine.files(), installed(machine)) for machine in docker.hosts}
    told = docker.play("--check", "--diff").require_success()
    assert {machine.name: (machine.files(), installed(machine)) for machine in docker.hosts} == before

    done = docker.play().require_success()
    for machine in docker.hosts:
        told_as_done(told, done, machine)
        assert installed(machine)["docker.io"].startswith(runs(machine))
        assert not installed(machine).keys() & PACKAGES
        assert machine.run("systemctl", "is-enabled", "docker").stdout.strip() == "enabled"
    again = nothing_changes(docker)

    gone = docker.remove().require_success()
    for machine in docker.hosts:
        assert installed(machine) == before[machine.name][1]
        assert left(machine, before[machine.name][0]) == set()
        assert machine.run("getent", "group", "docker", check=False).stdout == ""
    assert docker.remove().require_success().changed(docker.hosts[0].name) == []
    print(
        f"\ndistribution, three hosts: {told.seconds:.0f} {done.seconds:.0f} {again.seconds:.0f} {gone.seconds:.0f} s"
    )


def test_what_is_wrong_is_refused_in_one_sentence_before_anything_is_written(docker: Docker) -> None:
    one, two, three = docker.hosts
    before = {machine.name: machine.files() for machine in docker.hosts}
    key, other = docker.repository.key, docker.repository.other
    good, forged = docker.published(), docker.published(variant="forged")
    rounds: list[list[tuple[dict[str, Any], list[str]]]] = [
        [
            (forged[one.name], [f"docker_key_fingerprint={key.fingerprint} is wanted", other.fingerprint, "/linux/debian/gpg"]),
            # The publisher's own key is wanted, and the mirror has another.
            (
                {**good[two.name], "docker_key_fingerprint": ""},
                ["docker_key_fingerprint=9DC858229FC7DD38854AE2D88D81803C0EBFCD88 is wanted", key.fingerprint],
            ),
            ({**good[three.name], "docker_key_sha256": "0" * 64}, ["docker_key_sha256=000", key.sha256]),
        ],
        [
            (docker.published(variant="resigned")[one.name], ["apt can't use", "bookworm", "NO_PUBKEY"]),
            (docker.published(variant="absent")[two.name], ["the key", "/absent/linux/debian/gpg can't be had"]),
            (
                {**good[three.name], "docker_version": "5:1.2.3-1~debian.13~trixie"},
                ["docker_version=5:1.2.3-1~debian.13~trixie is not among", *(version("trixie", name) for name in RELEASES)],
            ),
        ],
        [
            ({"docker_users": [USER, "nobody-here", "1000"]}, ["names nobody-here and 1000, whom", one.name]),
            ({"docker_source": "elsewhere"}, ["docker_source=elsewhere is unknown"]),
            ({**good[three.name], "docker_key_fingerprint": "abc"}, ["docker_key_fingerprint=abc is no fingerprint"]),
        ],
    ]  # fmt: skip
    for number, cases in enumerate(rounds):
        hosts = {machine.name: values for machine, (values, _parts) in zip(docker.hosts, cases, strict=True)}
        failed = docker.play("--check" if number == 1 else "--diff", hosts=hosts)
        assert failed.status != 0
        for machine, (values, parts) in zip(docker.hosts, cases, strict=True):
            for part in parts:
                assert part in failed.fault(machine.name), (values, failed.output[-3000:])
            assert failed.changed(machine.name) == []
            assert machine.files() == before[machine.name]


def test_the_publishers_packages_come_go_up_and_down_and_leave_nothing(docker: Docker) -> None:
    before = {machine.name: (machine.files(), installed(machine)) for machine in docker.hosts}
    older, newer = docker.published(OLDER), docker.published(NEWER)
    told = docker.play("--check", "--diff", hosts=older).require_success()
    assert {machine.name: (machine.files(), installed(machine)) for machine in docker.hosts} == before

    done = docker.play(hosts=older).require_success()
    for machine in docker.hosts:
        told_as_done(told, done, machine)
        assert {name: installed(machine)[name] for name in ("docker-ce", "docker-ce-cli")} == dict.fromkeys(
            ("docker-ce", "docker-ce-cli"), version(machine.suite, OLDER)
        )
        assert installed(machine).keys() >= PACKAGES
        assert runs(machine)
        assert hashlib.sha256(machine.run("cat", KEY).stdout.encode()).hexdigest() == docker.repository.key.sha256
        assert machine.run("stat", "-c", "%a %U", KEY, SOURCES).stdout.splitlines() == ["644 root", "644 root"]
        assert f"Signed-By: {KEY}" in machine.run("cat", SOURCES).stdout
        assert machine.run("apt-get", "-qq", "update").stderr == ""
    docker.repository.seen.clear()
    again = nothing_changes(docker, older)
    assert docker.repository.seen == []

    # Any version will do when none is asked for.
    any_version = docker.play("--check", hosts=docker.published()).require_success()
    assert [any_version.changed(machine.name) for machine in docker.hosts] == [[], [], []]

    one = docker.hosts[0]
    told_newer = docker.play("--check", "--diff", hosts=newer).require_success()
    daemon = main_pid(one, "docker")
    upgraded = docker.play("--tags", "docker", hosts=newer).require_success()
    for machine in docker.hosts:
        told_as_done(told_newer, upgraded, machine)
        assert installed(machine)["docker-ce"] == installed(machine)["docker-ce-cli"] == version(machine.suite, NEWER)
        assert runs(machine)
    assert main_pid(one, "docker") != daemon  # the program that was replaced runs no more
    assert "Docker is restarted by systemd" in upgraded.changed(one.name)

    only = {one.name: older[one.name]}
    docker.play("--tags", "docker_install", hosts=only).require_success()
    assert installed(one)["docker-ce"] == version(one.suite, OLDER)
    verified = docker.play("--tags", "docker_verify", hosts=only).require_success()
    assert verified.changed(one.name) == []
    failed = docker.play("--tags", "docker_verify", hosts={one.name: newer[one.name]})
    assert f"docker_version={version(one.suite, NEWER)}" in failed.fault(one.name)
    docker.play("--tags", "docker_configure", hosts=only).require_success()

    gone = docker.remove(hosts=newer).require_success()
    for machine in docker.hosts:
        assert installed(machine) == before[machine.name][1]
        assert left(machine, before[machine.name][0]) == set()
    print(f"\npublisher, three hosts: {told.seconds:.0f} {done.seconds:.0f} {again.seconds:.0f} {gone.seconds:.0f} s")


def test_packages_in_the_way_are_named_or_replaced(docker: Docker) -> None:
    one, two, three = docker.hosts
    good = docker.published(NEWER)
    only = {machine.name: good[machine.name] for machine in (one, two)}
    before = {machine.name: (machine.files(), installed(machine)) for machine in docker.hosts}
    url = f"{docker.repository.mirrors()[apt_repository.ORIGIN]}/linux/debian"
    apt(one, "update")
    apt(one, "install", "runc")
    two.write(
        "/etc/apt/sources.list.d/docker.list", f"deb [signed-by=/usr/share/keyrings/x.gpg] {url} bookworm stable\n"
    )
    try:
        failed = docker.play(hosts=only)
        assert "can't be installed beside runc; remove it, set docker_replace_conflicting=true" in failed.fault(
            one.name
        )
        assert "/etc/apt/sources.list.d/docker.list names" in failed.fault(two.name)
        assert "'sudo rm /etc/apt/sources.list.d/docker.list'" in failed.fault(two.name)
        assert "another Signed-By" in failed.fault(two.name)
        assert [failed.changed(machine.name) for machine in (one, two)] == [[], []]
    finally:
        two.run("rm", "/etc/apt/sources.list.d/docker.list")

    only = {one.name: good[one.name]}
    done = docker.play(hosts=only, docker_replace_conflicting=True).require_success()
    assert "Packages that conflict are removed" in done.changed(one.name)
    assert "runc" not in installed(one)
    assert runs(one)
    gone = docker.remove(hosts=only).require_success()
    assert "these packages had been removed: runc." in gone.output
    assert installed(one).keys() >= before[one.name][1].keys()
    assert left(one, before[one.name][0]) == set()
    apt(one, "autoremove", "--purge", "runc")

    # Also what this very role brought from elsewhere.
    docker.play(hosts={three.name: {}}).require_success()
    only = {three.name: good[three.name]}
    told = docker.play("--check", hosts=only)
    assert "beside containerd and docker-cli and docker.io and runc" in told.fault(three.name)
    docker.play(hosts=only, docker_replace_conflicting=True).require_success()
    assert installed(three).keys() & {"docker.io", "docker-ce"} == {"docker-ce"}
    assert runs(three)
    docker.remove(hosts=only).require_success()
    assert installed(three) == before[three.name][1]
    assert left(three, before[three.name][0]) == set()


def test_users_options_and_containers(docker: Docker, sockets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through SSH as an unprivileged user, whose session is older than the membership."""
    machine = docker.hosts[0]
    state = f"/home/{USER}/.local/state/vigie"
    before = (machine.files(), installed(machine))
    machine.write("/etc/docker/daemon.json", json.dumps({"debug": True, "log-opts": {"max-size": "1m"}}))
    machine.run("useradd", "other")
    key = docker.site.folder / "key"
    machinery.authorize(machine, key)
    public = machine.run("cat", "/root/.ssh/authorized_keys").stdout
    machine.write(f"/home/{USER}/.ssh/authorized_keys", public, "0600")
    machine.run("chown", "-R", f"{USER}:{USER}", f"/home/{USER}/.ssh")
    as_user = {
        **docker.published(NEWER)[machine.name],
        "ansible_user": USER,
        "vigie_state_dir": state,
        # The session stays open from one run to the next.
        "ansible_ssh_args": f"-o ControlMaster=auto -o ControlPersist=60s -o ControlPath={sockets}/%C",
    }
    hosts = {machine.name: as_user}
    options = {"docker_daemon_options": {"log-opts": {"max-file": "3"}}}

    def bring(*arguments: str, **variables: Any) -> Run:
        return docker.site.play(*arguments, playbook="docker.yml", hosts=hosts, ssh=True, **variables)

    done = bring(docker_users=[USER], **options).require_success()
    assert f"talked to {runs(machine)}, directly" in done.output
    assert members(machine) == {USER}
    written = json.loads(machine.run("cat", "/etc/docker/daemon.json").stdout)
    assert written["debug"] is True
    assert written["log-opts"] == {"max-size": "1m", "max-file": "3"}

    for arguments in (("--check", "--diff"), ()):
        again = bring(*arguments, docker_users=[USER], **options).require_success()
        assert again.changed(machine.name) == []

    # Somebody puts the user in by hand after the session began: not in that of the first runs, which has the group.
    bring(**options).require_success()
    assert members(machine) == set()
    for socket in sockets.iterdir():
        machinery.run("ssh", "-O", "exit", "-o", f"ControlPath={socket}", "none")
    bring("--tags", "docker_verify", **options).require_success()
    machine.run("gpasswd", "--add", USER, "docker")
    machine.run("gpasswd", "--add", "other", "docker")
    # Where there is no session that could begin anew, it is effective only by becoming the same user.
    monkeypatch.setenv("ANSIBLE_BECOME_ALLOW_SAME_USER", "false")
    failed = bring(docker_users=[USER], docker_session=False, **options)
    assert "set become_allow_same_user=true under [privilege_escalation]" in failed.fault(machine.name)
    monkeypatch.setenv("ANSIBLE_BECOME_ALLOW_SAME_USER", "true")
    late = bring(docker_users=[USER], docker_session=False, **options).require_success()
    assert f"talked to {runs(machine)}, by becoming the same user" in late.output
    assert late.changed(machine.name) == []
    monkeypatch.delenv("ANSIBLE_BECOME_ALLOW_SAME_USER")
    late = bring(docker_users=[USER], **options).require_success()
    assert f"talked to {runs(machine)}, directly" in late.output
    assert late.changed(machine.name) == []

    # Containers run on whatever changes, unless docker_restart allows to stop them.
    image = "tar -c -C / --dereference bin/sleep lib64/ld-linux-x86-64.so.2 lib/x86_64-linux-gnu/libc.so.6 | docker import - sleeper"
    machine.run("sh", "-c", image)
    machine.run("docker", "run", "--detach", "--network=none", "--name=sleeper", "sleeper", "/bin/sleep", "3600")
    daemon = main_pid(machine, "docker")
    changed = {"docker_daemon_options": {"log-opts": {"max-file": "5"}}}
    kept = bring(docker_users=[USER], **changed).require_success()
    assert "1 containers run, which a restart would stop" in " ".join(kept.output.split())
    assert main_pid(machine, "docker") == daemon
    hosts[machine.name]["docker_version"] = version(machine.suite, OLDER)
    bring(docker_users=[USER], **changed).require_success()
    assert (main_pid(machine, "docker"), installed(machine)["docker-ce"]) == (daemon, version(machine.suite, OLDER))
    assert machine.run("docker", "ps", "--format", "{{.Names}}").stdout.split() == ["sleeper"]
    bring(docker_users=[USER], docker_restart=True, **changed).require_success()
    assert main_pid(machine, "docker") != daemon

    def take() -> Run:
        return docker.site.play(playbook="docker_remove.yml", hosts=hosts, ssh=True)

    # What this lab did not bring keeps Docker.
    assert "Docker stays, as it holds what this lab did not bring: container sleeper" in take().require_success().output
    assert "docker-ce" in installed(machine)
    machine.run("docker", "rm", "--force", "sleeper")
    machine.run("docker", "rmi", "sleeper")
    take().require_success()
    assert json.loads(machine.run("cat", "/etc/docker/daemon.json").stdout) == {
        "debug": True,
        "log-opts": {"max-size": "1m"},
    }
    assert members(machine) == {USER, "other"}  # put in by hand, so it is not taken out, and its group stays
    assert installed(machine) == before[1]
    machine.run("sh", "-c", "rm -r /etc/docker /home/carol/.ssh && userdel --remove other 2>/dev/null; groupdel docker")
    assert left(machine, before[0]) - {"/root/.ssh", "/root/.ssh/authorized_keys"} == set()


def test_a_docker_of_another_origin_that_runs_is_left_as_it_is(docker: Docker) -> None:
    machine = docker.hosts[1]
    only = {machine.name: docker.published(NEWER)[machine.name]}
    before = installed(machine)
    apt(machine, "update")
    apt(machine, "install", "docker.io")
    theirs = installed(machine)
    machine.write("/etc/docker/daemon.json", "{}")
    done = docker.play(hosts=only, docker_users=[USER], docker_replace_conflicting=True)
    if "so it can't start privileged containers" in done.fault(machine.name):  # where a capability is missing
        assert "of another origin (docker.io)" in done.fault(machine.name)
    else:
        assert "of another origin (docker.io) is there; it is used, and neither replaced nor removed" in done.output
        assert done.changed(machine.name) != []
        assert members(machine) == {USER}
        docker.remove(hosts=only).require_success()
        assert members(machine) == set()
    assert (installed(machine), machine.run("cat", "/etc/docker/daemon.json").stdout) == (theirs, "{}")
    assert runs(machine)
    # By name: apt keeps what came along when others would only like to have it.
    apt(machine, "purge", *sorted(theirs.keys() - before.keys()))
    machine.run("rm", "-rf", "/etc/docker", "/var/lib/docker")
    assert installed(machine) == before


def test_fingerprints_are_those_of_gnupg_and_only_of_whole_armoured_files(tmp_path: Path) -> None:
    machinery.require(apt_repository.missing())
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    one, two = (apt_repository.Key(home, f"{name} <{name}@example.com>") for name in ("one", "two"))
    try:
        assert openpgp.openpgp_fingerprints(one.public) == [one.fingerprint]
        # Who trusts the file trusts both.
        assert openpgp.openpgp_fingerprints(one.public + two.public) == [one.fingerprint, two.fingerprint]
        for text in ("", "404", one.public[:-60], one.public.replace("=", "?", 1).replace("mDM", "m?M")):
            assert openpgp.openpgp_fingerprints(text) == []
    finally:
        machinery.run("gpgconf", "--homedir", home, "--kill", "all", check=False)
