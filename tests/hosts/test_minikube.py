"""Role minikube on three hosts with systemd, up to the cluster itself: its program, what it tells the node, its start with the host; and what
Minikube downloads, by the program of the lab's bundle.
"""

from __future__ import annotations

import copy
import hashlib
import io
import os
import platform
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import machines as machinery
import origin as publishers
import pytest
import yaml
from ansible_collections.vigie.observability.plugins.module_utils import minikube as logic
from conftest import STATE, Site
from machines import Machine
from plays import HERE, Run, play

DEFAULT, OTHER = publishers.TABLE["minikube"]["version"], "1.39.0"
KUBERNETES = publishers.TABLE["kubelet"]["version"]
COMPLETION = "/usr/local/share/bash-completion/completions/minikube"
UNIT = "/etc/systemd/system/vigie-minikube-vigie.service"
ENABLED = f"/etc/systemd/system/multi-user.target.wants/{Path(UNIT).name}"
USER = "lab"
HOME = f"/home/{USER}"
MIRRORS = {
    "registry.k8s.io": "mirror.example:5000/k8s",
    "gcr.io": "plain.example:5000",
    "docker.io/library": "unused.example",
}
MINIKUBE = """#!/bin/sh
case "$*" in
"version --short --logtostderr") echo v@VERSION@ ;;
"completion bash --logtostderr") echo "complete -W 'start stop @VERSION@' minikube" ;;
start*) echo "$(id -un) $MINIKUBE_HOME $KUBECONFIG $TMPDIR $*" >> "$MINIKUBE_HOME/started" ;;
*) echo "unknown: $*" >&2; exit 1 ;;
esac
exit 0
"""


def stand_in(version: str, architecture: str) -> bytes:
    return (MINIKUBE.replace("@VERSION@", version) + f"# {architecture} {version} {'x' * 90}\n" * 4000).encode()


@pytest.fixture
def hosts(bare: Site) -> Iterator[Site]:
    """Return the hosts without anything, Minikube at its publisher's, and an unprivileged user on the second."""
    table = copy.deepcopy(publishers.TABLE)
    table["minikube"].setdefault("others", {})[OTHER] = {"amd64": None, "arm64": None}
    others = publishers.program

    def program(name: str, version: str, architecture: str) -> bytes:
        return stand_in(version, architecture) if name == "minikube" else others(name, version, architecture)

    user = bare.hosts[1]
    script = f"useradd --create-home --shell /bin/bash {USER} && echo '{USER} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{USER}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishers, "TABLE", table)
        patch.setattr(publishers, "PROGRAMS", tuple(dict.fromkeys((*publishers.PROGRAMS, "minikube"))))
        patch.setattr(publishers, "program", program)
        publishers.download.cache_clear()
        patch.setattr(bare.origin, "published", publishers.published())
        user.run("sh", "-c", script)
        yield bare
        user.run("sh", "-c", f"userdel --remove --force {USER}; rm -f /etc/sudoers.d/{USER}", check=False)
        for machine in bare.hosts:
            machine.run("rm", "-f", UNIT, ENABLED)
    publishers.download.cache_clear()


def state(machine: Machine, site: Site) -> str:
    return f"{HOME}/.local/state/vigie" if machine is site.hosts[1] else STATE


def converge(
    site: Site,
    *options: str,
    playbook: str = "minikube.yml",
    only: Machine | None = None,
    fault: str = "good",
    **variables: Any,
) -> Run:
    """Run the playbook on all hosts, or on one: on the second as an unprivileged user."""
    listed: dict[str, dict[str, Any]] = {}
    for machine in [only] if only else site.hosts:
        listed[machine.name] = {"vigie_mirrors": {**site.origin.mirrors(site.address, fault), **MIRRORS}}
        if machine is site.hosts[1]:
            listed[machine.name] |= {"ansible_user": USER, "vigie_state_dir": state(machine, site)}
    return site.play(*options, playbook=playbook, hosts=listed, **{"minikube_memory": 2048, **variables})


def version(machine: Machine) -> str:
    """What a user who logs in gets."""
    return machine.run("bash", "-lc", "minikube version --short --logtostderr").stdout.strip().removeprefix("v")


def files(machine: Machine) -> dict[str, str]:
    """What there is, without what Ansible and sudo keep of an unprivileged user."""
    found = machine.files()
    return {path: what for path, what in found.items() if not path.startswith((f"{HOME}/.ansible", "/var/lib/sudo"))}


def ours(machine: Machine) -> set[str]:
    return {path for path in files(machine) if "minikube" in path}


def test_it_comes_stays_starts_with_the_host_and_goes(hosts: Site) -> None:
    before = {machine.name: files(machine) for machine in hosts.hosts}
    told = converge(hosts, "--check", "--diff").require_success()
    assert {machine.name: files(machine) for machine in hosts.hosts} == before
    assert hosts.origin.seen == []

    done = converge(hosts, minikube_insecure_registries=["plain.example:5000"]).require_success()
    for machine in hosts.hosts:
        assert sorted(told.changed(machine.name)) == sorted(done.changed(machine.name)) != []
        assert version(machine) == DEFAULT
        assert DEFAULT in machine.run("cat", COMPLETION).stdout
        assert machine.run("systemctl", "is-enabled", Path(UNIT).name).stdout.strip() == "enabled"
        assert machine.run("systemd-analyze", "verify", UNIT, check=False).stderr == ""
        certs = f"{state(machine, hosts)}/minikube/.minikube/files/etc/containerd/certs.d"
        assert machine.run("ls", certs).stdout.split() == ["gcr.io", "registry.k8s.io"]
        assert (
            'server = "https://mirror.example:5000/v2/k8s"'
            in machine.run("cat", f"{certs}/registry.k8s.io/hosts.toml").stdout
        )
        assert '[host."http://plain.example:5000/v2"]' in machine.run("cat", f"{certs}/gcr.io/hosts.toml").stdout
        assert not machine.run("sh", "-c", "ls -d /root/.minikube /home/*/.minikube /tmp/minikube* || :").stdout

    after = {machine.name: files(machine) for machine in hosts.hosts}
    for options in ((), ("--check", "--diff")):
        again = converge(hosts, *options, minikube_insecure_registries=["plain.example:5000"]).require_success()
        assert [again.changed(machine.name) for machine in hosts.hosts] == [[], [], []]
    assert {machine.name: files(machine) for machine in hosts.hosts} == after
    print(f"\nthree hosts: check {told.seconds:.0f} s, first run {done.seconds:.0f} s, last run {again.seconds:.0f} s")

    for machine in hosts.hosts[1:]:
        machinery.run("docker", "restart", "--time=20", machine.name)
    for machine in hosts.hosts[1:]:
        machinery.await_boot(machine)
        user, folder = (USER if machine is hosts.hosts[1] else "root"), state(machine, hosts)
        started = machine.run("cat", f"{folder}/minikube/started").stdout
        assert started == (
            f"{user} {folder}/minikube {folder}/kubeconfig {folder}/minikube/tmp start --profile=vigie --force --interactive=false "
            "--wait-timeout=360s --preload=false --cache-images=false\n"
        )

    # A mirror that is no more is none for a node that has it, and no start with the host leaves nothing of it.
    machine = hosts.hosts[2]
    converge(
        hosts, only=machine, minikube_start_at_boot=False, vigie_mirrors=hosts.origin.mirrors(hosts.address)
    ).require_success()
    assert not {UNIT, ENABLED} & set(files(machine))
    certs = f"{state(machine, hosts)}/minikube/.minikube/files/etc/containerd/certs.d"
    assert machine.run("cat", f"{certs}/gcr.io/hosts.toml").stdout == "# Written by role minikube.\n"

    told = converge(hosts, "--check", playbook="minikube_remove.yml").require_success()
    gone = converge(hosts, playbook="minikube_remove.yml").require_success()
    for machine in hosts.hosts:
        assert sorted(told.changed(machine.name)) == sorted(gone.changed(machine.name)) != []
        assert ours(machine) - set(before[machine.name]) == set()
    again = converge(hosts, playbook="minikube_remove.yml").require_success()
    assert [again.changed(machine.name) for machine in hosts.hosts] == [[], [], []]


def test_whatever_happens_to_a_download_the_old_program_stays_and_up_and_down_work(hosts: Site) -> None:
    converge(hosts).require_success()
    before = {machine.name: files(machine) for machine in hosts.hosts}
    faults = {
        "wrong": "with sha256",
        "short": "with sha256",
        "missing": "404",
        "cut": "the connection ended after",
        "stalled": "timed out",
    }
    names = list(faults)
    for number, fault in enumerate(names):
        machine = hosts.hosts[number % 3]
        failed = converge(
            hosts, "--tags", "minikube", only=machine, fault=fault, minikube_version=OTHER, minikube_download_timeout=2
        )
        assert faults[fault] in failed.fault(machine.name), fault
        assert f"v{OTHER}/minikube-linux-" in failed.fault(machine.name)
        assert files(machine) == before[machine.name]
        assert version(machine) == DEFAULT

    told = converge(hosts, "--check", "--diff", minikube_version=OTHER).require_success()
    assert {machine.name: files(machine) for machine in hosts.hosts} == before
    converge(hosts, minikube_version=OTHER).require_success()
    for machine in hosts.hosts:
        assert told.changed(machine.name) == ["The program is in place: minikube"]
        assert (version(machine), OTHER in machine.run("cat", COMPLETION).stdout) == (OTHER, True)
        assert not [path for path in files(machine) if ".part-" in path]
    converge(hosts).require_success()
    assert [version(machine) for machine in hosts.hosts] == [DEFAULT] * 3


def test_the_access_is_fetched_for_its_owner_alone(hosts: Site, tmp_path: Path) -> None:
    machine = hosts.hosts[0]
    content = "apiVersion: v1\nkind: Config\nusers: [{name: vigie, user: {client-key-data: c2VjcmV0}}]\n"
    machine.write(f"{STATE}/kubeconfig", content, "0600")
    options: dict[str, Any] = {"only": machine, "minikube_fetch_kubeconfig": str(tmp_path / "access")}
    done = converge(hosts, "--tags", "minikube_fetch", **options).require_success()
    fetched = tmp_path / "access" / f"{machine.name}.kubeconfig"
    assert (fetched.read_text(), stat.S_IMODE(fetched.stat().st_mode)) == (content, 0o600)
    assert "c2VjcmV0" not in done.output
    assert converge(hosts, "--tags", "minikube_fetch", **options).require_success().changed(machine.name) == []
    converge(hosts, playbook="minikube_remove.yml", **options).require_success()
    assert (fetched.exists(), "kubeconfig" in machine.run("ls", "-A", STATE, check=False).stdout) == (False, False)


CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown": ({"minikube_version": "1.0.99"}, ["minikube_version=1.0.99 has no known checksum", DEFAULT]),
    "letter": (
        {"minikube_kubernetes_version": f"v{KUBERNETES}"},
        [f"minikube_kubernetes_version=v{KUBERNETES} is no version"],
    ),
    "number": ({"minikube_kubernetes_version": 1.35}, ["minikube_kubernetes_version=1.35 is no version"]),
    "newer": (
        {"minikube_kubernetes_version": "1.36.4"},
        [
            f"minikube_kubernetes_version=1.36.4 can't be run by Minikube {DEFAULT}, which runs 1.28 to 1.35",
            "another minikube_version",
        ],
    ),
    "older": ({"minikube_kubernetes_version": "1.27.9"}, ["minikube_kubernetes_version=1.27.9 can't be run"]),
    "insecure": (
        {"vigie_mirrors": {"gcr.io": "a.example:5000/x"}, "minikube_insecure_registries": ["a.example:5000/x"]},
        ["minikube_insecure_registries=a.example:5000/x", "are a.example:5000;"],
    ),
    "relative": ({"minikube_fetch_kubeconfig": "access"}, ["minikube_fetch_kubeconfig=access is no absolute path"]),
    "cpus": ({"minikube_cpus": 999}, ["minikube_cpus=999, but cpus has"]),
    "memory": ({"minikube_memory": 99999999}, ["minikube_memory=99999999, but memory has"]),
}
GOOD: dict[str, dict[str, Any]] = {
    "as_is": {},
    "home": {
        "minikube_fetch_kubeconfig": "~/access",
        "vigie_mirrors": {"gcr.io": "a.example:5000/x"},
        "minikube_insecure_registries": ["a.example:5000"],
    },
    "own_checksum": {
        "minikube_version": "1.40.0",
        "minikube_sha256": "0" * 64,
        "minikube_kubernetes_version": "1.38.0",
    },
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return one run in which every host, all of them this machine, has another fault, or none."""
    folder = tmp_path_factory.mktemp("bad_input")
    shared = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "vigie_platform": "minikube",
        "vigie_state_dir": str(folder / "state"),
        "minikube_profile": "vigie-test-bad-input",
        "minikube_bin_dir": str(folder / "bin"),
        "minikube_memory": 1800,
    }
    listed = {**{name: variables for name, (variables, _parts) in CASES.items()}, **GOOD}
    run = play(
        HERE / "minikube.yml",
        machinery.inventory(folder / "hosts.json", listed, shared),
        "--tags",
        "minikube_preflight",
    )
    assert [path.name for path in folder.iterdir() if path.name in ("state", "bin")] == []
    return run


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_in_one_sentence(told: Run, name: str) -> None:
    for part in CASES[name][1]:
        assert part in told.fault(name)


@pytest.mark.parametrize("name", GOOD)
def test_nothing_else_is_refused(told: Run, name: str) -> None:
    assert (told.fault(name), told.changed(name)) == ("", [])


# The program itself, by the options that the role gives it, against a mirror of Kubernetes' programs.
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "")
PROGRAMS = {name: f"{name} ".encode() * 100_000 for name in ("kubeadm", "kubectl", "kubelet")}
IMAGE = "127.0.0.1:1/kicbase:v0"


class Mirror(BaseHTTPRequestHandler):
    """``/FAULT/vVERSION/bin/linux/ARCHITECTURE/PROGRAM[.sha256]``; FAULT ``good`` has none. Downloads can be continued, as at the publisher's."""

    protocol_version = "HTTP/1.1"
    asked: list[str] = []
    ended = threading.Event()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.close_connection = True
        fault, _slash, rest = self.path[1:].partition("/")
        name, _dot, suffix = rest.rpartition("/")[2].partition(".")
        content = PROGRAMS[name]
        if suffix:
            content = hashlib.sha256(content).hexdigest().encode()
            fault = "good"
        if fault == "missing" and name == "kubelet":
            self.send_error(404)
            return
        if fault == "wrong" and name == "kubelet":
            content = content.replace(b"k", b"x")
        if fault == "short" and name == "kubelet":
            content = content[: len(content) // 2]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        content = content[start:]
        if fault in ("cut", "stalled") and name == "kubelet":
            content = content[: len(content) // 2]
        pieces = 5 if fault == "slow" else 1
        size = -(-len(content) // pieces)
        for number in range(pieces):
            self.wfile.write(content[number * size : (number + 1) * size])
            self.wfile.flush()
            self.ended.wait(0.2 if fault == "slow" else 0)
        if fault == "stalled" and name == "kubelet":
            self.ended.wait(60)

    def log_message(self, *_args: Any) -> None:
        """Keep the output of the tests readable."""


@pytest.fixture(scope="module")
def mirror() -> Iterator[str]:
    """Return the address of the mirror, without the fault."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Mirror.ended.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def profile(tmp_path: Path) -> logic.Profile:
    """Return a profile that has its node image, or a file of its name, in the cache already."""
    program = bundled("minikube")
    machinery.require(machinery.missing(), "" if program else "no bundle with Minikube: 'make lab' makes one")
    assert program
    made = logic.Profile(
        "vigie-test-downloads", home=tmp_path / "home", kubeconfig=tmp_path / "kubeconfig", executable=program
    )
    archive = made.data / "cache/kic" / ARCHITECTURE / "kicbase_v0.tar"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo("manifest.json"), io.BytesIO())
    return made


def bundled(name: str) -> str:
    """Return the program of a bundle; empty when there is none."""
    lab = Path(os.environ.get("VIGIE_LAB_DIR") or "~/.cache/vigie/lab").expanduser() / "bundle"
    if not (lab / "manifest.yml").is_file():
        return ""
    files = [entry["file"] for entry in yaml.safe_load((lab / "manifest.yml").read_text()) if entry["name"] == name]
    return str(lab / files[0]) if files else ""


def download(profile: logic.Profile, address: str) -> str:
    """Download by the options of the role; return what went wrong."""
    wanted = logic.Wanted(
        KUBERNETES,
        "containerd",
        "bridge",
        2,
        2048,
        base_image=IMAGE,
        binary_mirror=address,
        preload=False,
        cache_images=False,
        force=True,
    )
    try:
        profile.download(wanted.arguments())
    except logic.CheckError as error:
        assert error.reason == "download_failed"
        return error.hint
    return ""


def cached(profile: logic.Profile) -> dict[str, bytes]:
    folder = profile.data / "cache/linux" / ARCHITECTURE / f"v{KUBERNETES}"
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.suffix not in (".download", ".lock")}


@pytest.mark.parametrize("fault", ["wrong", "short", "missing", "cut", "stalled"])
def test_a_spoilt_download_leaves_nothing_that_is_used_and_the_next_run_mends_it(
    profile: logic.Profile, mirror: str, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(logic, "DOWNLOADS", 6.0 if fault == "stalled" else 60.0)
    said = download(profile, f"{mirror}/{fault}")
    assert {"stalled": "no end after 6 s"}.get(
        fault, f"{mirror}/{fault}/v{KUBERNETES}/bin/linux/{ARCHITECTURE}/kubelet"
    ) in said
    assert "kubelet" not in cached(profile)
    assert cached(profile).items() <= PROGRAMS.items()
    monkeypatch.setattr(logic, "DOWNLOADS", 60.0)
    assert download(profile, f"{mirror}/good") == ""
    assert cached(profile) == PROGRAMS


def test_a_slow_mirror_is_waited_for_and_what_is_there_is_not_asked_for_again(
    profile: logic.Profile, mirror: str
) -> None:
    assert download(profile, f"{mirror}/slow") == ""
    assert cached(profile) == PROGRAMS
    Mirror.asked.clear()
    assert download(profile, f"{mirror}/missing") == ""
    assert Mirror.asked == []
    found = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", f"name={profile.name}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == ""
