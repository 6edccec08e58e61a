"""Hosts with systemd, as containers of root file systems that are made of the distribution's packages."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

LABEL = "vigie.test-hosts"
# What a host of a cloud has besides the essential packages, as far as the roles and Ansible need it.
PACKAGES = (
    "bash-completion", "ca-certificates", "dbus", "iproute2", "openssh-server", "python3", "python3-yaml", "sudo", "systemd", "systemd-sysv",
)  # fmt: skip
DROPPED = ("man", "locale", "doc", "info")
OPTIONS = (
    "--privileged", "--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw", "--tmpfs=/run", "--tmpfs=/tmp",
    "--volume=/etc/ssl/certs:/etc/ssl/certs:ro", "--env=container=docker", "--stop-signal=SIGRTMIN+3",
)  # fmt: skip
DEADLINE = 60


def run(*command: str | Path, check: bool = True, timeout: float = DEADLINE) -> subprocess.CompletedProcess[str]:
    """Run a command on this machine."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    assert not check or done.returncode == 0, (
        f"{' '.join(map(str, command))}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    )
    return done


def missing() -> str:
    """Return why there can be no hosts here; empty when there can."""
    if not shutil.which("docker"):
        return "no docker command: role docker brings it"
    if run("docker", "version", "--format", "{{.Server.Version}}", check=False).returncode:
        return "no Docker daemon answers: role docker starts it"
    if not shutil.which("mmdebstrap"):
        return "no mmdebstrap, which makes the hosts' root file systems: apt-get install mmdebstrap"
    if os.geteuid() != 0:
        return "no root, whom mmdebstrap and privileged containers need here"
    return ""


def require(*reasons: str) -> None:
    """Skip for the first reason that is not empty, all of which say what is missing; fail where VIGIE_TEST_HOSTS says that these tests are wanted."""
    for reason in filter(None, reasons):
        if os.environ.get("VIGIE_TEST_HOSTS"):
            pytest.fail(f"VIGIE_TEST_HOSTS wants these tests, but there is {reason}", pytrace=False)
        pytest.skip(reason)


def cache() -> Path:
    """Return where root file systems are kept between runs."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vigie" / "hosts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def root_file_system(suite: str) -> Path:
    """Return a root file system as a tar file, made when there is none of these packages yet."""
    recipe = json.dumps([suite, PACKAGES, DROPPED])
    path = cache() / f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.tar"
    if not path.exists():
        unfinished = path.with_name(f".{path.stem}.{os.getpid()}.tar")
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", "--skip=output/dev"]
        command += [
            '--aptopt=Acquire::Retries "5"',
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in DROPPED),
        ]
        try:
            run(*command, suite, unfinished, timeout=900)
            for older in cache().glob(f"{suite}-*.tar"):
                older.unlink()
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


@dataclass(frozen=True)
class Machine:
    """A host.

    Attributes:
        name: of the container, and in the inventory.
        suite: code name of the distribution's release.
        address: by which this machine reaches it.
        gateway: address of this machine, by which it is reached from there.
    """

    name: str
    suite: str
    address: str
    gateway: str

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on it."""
        return run("docker", "exec", self.name, *command, check=check)

    def write(self, path: str, content: str | bytes, mode: str = "0644") -> None:
        """Write a file on it, with the folders above it."""
        data = content.encode() if isinstance(content, str) else content
        script = 'mkdir -p "$(dirname "$0")" && cat > "$0" && chmod "$1" "$0"'
        subprocess.run(
            ["docker", "exec", "-i", self.name, "sh", "-c", script, path, mode],
            input=data,
            check=True,
            timeout=DEADLINE,
        )

    def files(self) -> dict[str, str]:
        """Return what there is, path to mode, size and times; without what Ansible itself and the system's own services write."""
        script = (
            "find /etc /home /opt /root /srv /usr /var -xdev \\( -path /root/.ansible -o -path /var/log -o -path /var/lib/systemd "
            "-o -path /etc/.updated -o -path /var/.updated -o -name __pycache__ \\) -prune "
            "-o -type d -printf '%p\\t%m\\n' -o -printf '%p\\t%m %s %T@ %l\\n'"
        )
        return dict(line.split("\t", 1) for line in self.run("sh", "-c", script).stdout.splitlines())


def remove_left_behind() -> None:
    """Remove hosts and images of sessions that were killed."""
    for listing, removal in ((("ps", "--all"), ("rm", "--force", "--volumes")), (("images",), ("rmi", "--force"))):
        found = run("docker", *listing, "--filter", f"label={LABEL}", "--format", "{{.ID}}").stdout.split()
        for identifier in dict.fromkeys(found):
            asked = run(
                "docker", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', identifier, check=False
            )
            if asked.stdout.strip().isdigit() and not Path("/proc", asked.stdout.strip()).exists():
                run("docker", *removal, identifier, check=False)


@contextmanager
def machines(suites: Sequence[str]) -> Iterator[list[Machine]]:
    """Start a host of each of these releases, all at once; they and their images are gone afterwards."""
    remove_left_behind()
    session = uuid.uuid4().hex[:6]
    with ExitStack() as stack:
        images = {}
        for suite in dict.fromkeys(suites):
            images[suite] = f"vigie-test-host-{suite}:{session}"
            label = f"LABEL {LABEL}={os.getpid()}"
            stack.callback(run, "docker", "rmi", "--force", images[suite], check=False)
            tar = root_file_system(suite)
            run(
                "docker", "import", "--change", label, "--change", 'CMD ["/sbin/init"]', tar, images[suite], timeout=120
            )
        names = []
        for number, suite in enumerate(suites, start=1):
            name = f"vigie-{suite}-{number}-{session}"
            names.append(name)
            stack.callback(run, "docker", "rm", "--force", "--volumes", name, check=False)
            run("docker", "run", "--detach", f"--name={name}", f"--hostname={name}", *OPTIONS, images[suite])
        found = []
        for name, suite in zip(names, suites, strict=True):
            network = json.loads(run("docker", "inspect", "--format", "{{json .NetworkSettings}}", name).stdout)
            found.append(Machine(name, suite, network["IPAddress"], network["Gateway"]))
        for machine in found:
            await_boot(machine)
        yield found


def await_boot(machine: Machine) -> None:
    """Wait until systemd has started everything and sshd listens."""
    state = ""
    for _ in range(DEADLINE * 5):
        state = machine.run("systemctl", "is-system-running", check=False).stdout.strip()
        if state in ("running", "degraded"):
            return
        time.sleep(0.2)
    failed = machine.run("systemctl", "--failed", "--no-legend", check=False).stdout
    raise AssertionError(f"{machine.name} did not start: {state}; {failed}")


def authorize(machine: Machine, key: Path, user: str = "root") -> None:
    """Let the owner of a key, made when it isn't there, log in as a user; one that is unknown is made, and may become root."""
    if not key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    if user != "root":
        script = (
            'id "$0" 2>/dev/null || { useradd --create-home --shell /bin/bash "$0" && '
            'echo "$0 ALL=(ALL) NOPASSWD: ALL" > "/etc/sudoers.d/$0"; }'
        )
        machine.run("sh", "-c", script, user)
    home = machine.run("sh", "-c", 'getent passwd "$0" | cut -d: -f6', user).stdout.strip()
    machine.write(f"{home}/.ssh/authorized_keys", key.with_name(f"{key.name}.pub").read_text(), "0600")
    machine.run("chown", "-R", f"{user}:", f"{home}/.ssh")


def inventory(path: Path, hosts: Mapping[str, Mapping[str, object]], shared: Mapping[str, object]) -> Path:
    """Write an inventory: hosts with their variables, and those of all."""
    path.write_text(
        json.dumps({"all": {"hosts": {name: dict(values) for name, values in hosts.items()}, "vars": dict(shared)}})
    )
    return path
