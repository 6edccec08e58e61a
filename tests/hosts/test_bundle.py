"""A bundle is made on this machine, of publishers and a registry with all their faults, and a host without any network lives on it."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machines as machinery
import origin as publishers
import pytest
import registry as registries
import yaml
from ansible_collections.vigie.observability.plugins.module_utils.bundle import Bundle
from conftest import STATE, Site
from origin import Origin, program
from plays import REPOSITORY, Run, collections_path, play
from registry import Registry

from vigielab import archive

PLAYBOOK = REPOSITORY / "playbooks/bundle.yml"
CHART, CRDS, WHEEL = "kube-prometheus-stack", "prometheus-operator-crds", "kubernetes.core"
COMPONENTS = ["helm", "kubectl", "mailpit", "pause", CHART, CRDS, WHEEL]
CONTENTS = {CHART: b"chart" * 9000, CRDS: b"# crds\n" * 9000}
VERSIONS = {name: publishers.TABLE[name]["version"] for name in publishers.TABLE}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel(requirement: str = publishers.TABLE[WHEEL]["wheel"], tag: str = "py3-none-any") -> bytes:
    """A wheel under the name of a package; without one, of that which carries the collections."""
    raw = io.BytesIO()
    package, _equals, version = requirement.partition("==")
    info = f"{package}-{version}.dist-info"
    files = {
        f"{package}_x.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(raw, "w") as file:
        for name, content in files.items():
            file.writestr(zipfile.ZipInfo(name), content)
    return raw.getvalue()


class Handler(publishers.Handler):
    """Publishers of charts and manifests besides those of programs."""

    def do_GET(self) -> None:
        content = self.server.origin.others.get(self.path.partition("/good/")[2])  # type: ignore[attr-defined]
        if content is None:
            super().do_GET()
            return
        self.server.origin.seen.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Publishers(Origin):
    """All that a bundle comes from: HTTP servers, a registry and a folder that pip looks into.

    Attributes:
        table: the table of versions, with the checksums of what is served.
        registry: filled with the images.
        others: address without its scheme to content, of charts and manifests.
    """

    def __init__(self, registry: Registry, folder: Path) -> None:
        super().__init__()
        self.registry = registry
        self.folder = folder
        self.table = copy.deepcopy(publishers.table())
        self.others: dict[str, bytes] = {}
        chart = self.table[CHART]
        # As the table would say it: a chart's file beside the index of its repository.
        urls = {CHART: f"{chart['repository']}/{chart['chart']}-{chart['version']}.tgz", CRDS: self.table[CRDS]["url"]}
        for name, url in urls.items():
            self.table[name]["sha256"] = digest(CONTENTS[name])
            self.others[url.removeprefix("https://")] = CONTENTS[name]
        self.published |= {f"/{address}": ("", "", "") for address in self.others}
        self.table[WHEEL]["sha256"] = digest(wheel())
        for name in ("mailpit", "pause"):
            repository, _colon, tag = self.table[name]["ref"].partition("/")[2].rpartition(":")
            content = {architecture: f"{name} {architecture}" for architecture in ("amd64", "arm64")}
            pushed = registry.push(f"hub/{repository}", tag, content)
            self.table[name]["digest"] = pushed if name == "mailpit" else None

    def all_mirrors(self, registry: str = "", **faults: str) -> dict[str, str]:
        """Return the table of mirrors; a fault for a host replaces every letter but those by an underscore."""
        mirrors = self.mirrors("127.0.0.1")
        for host, fault in faults.items():
            origin = f"https://{host.replace('_', '.')}"
            mirrors[origin] = self.mirrors("127.0.0.1", fault)[origin]
        where = f"{registry or self.registry.address}/hub"
        return mirrors | {"docker.io": where, "registry.k8s.io": where}


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publishers]:
    machinery.require(registries.missing())
    folder = tmp_path_factory.mktemp("upstream")
    (folder / "wheels").mkdir()
    name = publishers.TABLE[WHEEL]["wheel"].replace("==", "-")
    (folder / "wheels" / f"{name}-py3-none-any.whl").write_bytes(wheel())
    with registries.serving(folder) as registry:
        origin = Publishers(registry, folder)
        server = publishers.Server("127.0.0.1", origin)
        server.RequestHandlerClass = Handler
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        origin.addresses["127.0.0.1"] = f"http://127.0.0.1:{server.server_port}"
        try:
            yield origin
        finally:
            origin.ended.set()
            server.shutdown()
            server.server_close()


class Maker:
    """Runs the playbook.

    Attributes:
        folder: of the bundle.
    """

    def __init__(self, upstream: Publishers, folder: Path) -> None:
        self.upstream = upstream
        self.folder = folder / "bundle"
        self.state = folder / "state"
        (folder / "hosts.json").write_text("{}")
        self.inventory = folder / "hosts.json"

    def variables(self, **changed: Any) -> dict[str, Any]:
        return {
            "bundle_dir": str(self.folder),
            "bundle_architecture": "amd64",
            "bundle_components": COMPONENTS,
            "bundle_skopeo": str(self.upstream.registry.skopeo),
            "bundle_download_timeout": 30,
            "vigie_state_dir": str(self.state),
            "vigie_mirrors": self.upstream.all_mirrors(),
            "vigie_versions": self.upstream.table,
            **changed,
        }

    def run(self, *options: str, **changed: Any) -> Run:
        self.upstream.seen.clear()
        self.upstream.registry.log.write_text("")
        return play(PLAYBOOK, self.inventory, *options, **self.variables(**changed))

    def asked(self) -> list[str]:
        """What was asked of all servers since the run began."""
        return self.upstream.seen + [path for path in self.upstream.registry.requests() if path != "/v2/"]

    def files(self) -> dict[str, tuple[int, float]]:
        """The files of the bundle, with inode and time of change."""
        found = [path for path in self.folder.rglob("*") if not path.is_dir()]
        return {str(path.relative_to(self.folder)): (path.stat().st_ino, path.stat().st_mtime) for path in found}

    def unfinished(self) -> list[str]:
        return [name for name in map(str, self.folder.rglob("*")) if ".part-" in name]


@pytest.fixture
def maker(upstream: Publishers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(upstream.folder / "wheels")}.items():
        monkeypatch.setenv(name, value)
    return Maker(upstream, tmp_path)


def names(bundle: Bundle) -> dict[tuple[str, str, str], str]:
    return {(entry.name, entry.version, entry.architecture): entry.kind for entry in bundle.artifacts}


def test_a_bundle_is_told_made_whole_read_by_the_reader_and_then_left_alone(maker: Maker) -> None:
    told = maker.run("--check", "--diff").require_success()
    assert maker.asked() == []
    assert not maker.folder.exists()

    done = maker.run().require_success()
    assert set(told.changed("localhost")) == set(done.changed("localhost"))
    bundle = Bundle(maker.folder)
    architectures = dict.fromkeys(COMPONENTS, "amd64") | dict.fromkeys([CHART, CRDS, WHEEL], "noarch")
    assert {(name, architecture) for name, _version, architecture in names(bundle)} == set(architectures.items())
    contents = {artifact.name: bundle.verify(artifact).read_bytes() for artifact in bundle.artifacts}
    assert contents["kubectl"] == program("kubectl", VERSIONS["kubectl"], "amd64")
    assert contents["helm"] == program("helm", VERSIONS["helm"], "amd64")  # out of its archive
    assert {name: contents[name] for name in CONTENTS} == CONTENTS
    assert contents[WHEEL] == wheel()
    assert os.access(bundle.path(next(a for a in bundle.artifacts if a.name == "kubectl")), os.X_OK)
    entries = {entry["name"]: entry for entry in yaml.safe_load((maker.folder / "manifest.yml").read_text())}
    for name in ("mailpit", "pause"):
        assert entries[name]["ref"] == publishers.TABLE[name]["ref"]
        config = image(contents[name], entries[name]["ref"])
        assert config["architecture"] == "amd64"
    assert entries["mailpit"]["digest"] == maker.upstream.table["mailpit"]["digest"]
    assert entries["pause"]["digest"].startswith("sha256:")

    before = maker.files()
    for options in ((), ("--check", "--diff")):
        again = maker.run(*options).require_success()
        assert again.changed("localhost") == []
        assert maker.asked() == []
    assert maker.files() == before
    print(f"\n7 components: check {told.seconds:.0f} s, first run {done.seconds:.0f} s, last run {again.seconds:.0f} s")


def image(content: bytes, ref: str) -> dict[str, Any]:
    """Return the configuration of an archive that has this one name."""
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        file = tar.extractfile("manifest.json")
        assert file
        (listed,) = json.load(file)
        assert listed["RepoTags"] == [ref]
        config = tar.extractfile(listed["Config"])
        assert config
        return dict(json.load(config))


def test_both_architectures_and_several_versions_come_one_after_the_other(maker: Maker) -> None:
    few = {"bundle_components": ["kubectl", "pause"]}
    maker.run(**few).require_success()
    other = maker.run(**few, bundle_architecture="arm64", kubectl_version="1.36.4").require_success()
    assert "The bundle is whole" in other.tasks()
    bundle = Bundle(maker.folder)
    assert names(bundle) == {
        ("kubectl", VERSIONS["kubectl"], "amd64"): "binary",
        ("kubectl", "1.36.4", "arm64"): "binary",
        ("pause", VERSIONS["pause"], "amd64"): "image",
        ("pause", VERSIONS["pause"], "arm64"): "image",
    }
    arm = bundle.verify(bundle.find("pause", None, "image", "arm64"))
    assert image(arm.read_bytes(), publishers.TABLE["pause"]["ref"])["architecture"] == "arm64"
    found = bundle.verify(bundle.find("kubectl", "1.36.4", "binary", "arm64"))
    assert found.read_bytes() == program("kubectl", "1.36.4", "arm64")
    assert maker.run(**few).require_success().changed("localhost") == []

    # What was altered is brought again; what is right is not.
    found.write_bytes(b"altered")
    mended = maker.run(**few, bundle_architecture="arm64", kubectl_version="1.36.4").require_success()
    assert found.read_bytes() == program("kubectl", "1.36.4", "arm64")
    assert "Images are in the bundle" not in mended.changed("localhost")


@pytest.mark.parametrize(
    ("faults", "part"),
    [
        ({"dl_k8s_io": "wrong"}, "with sha256"),
        ({"dl_k8s_io": "short"}, "with sha256"),
        ({"dl_k8s_io": "missing"}, "it answered 404 Not Found"),
        ({"dl_k8s_io": "stalled"}, "timed out"),
        ({"dl_k8s_io": "refused"}, "refused"),
    ],
)
def test_what_a_publisher_does_is_told_and_the_rest_is_kept(maker: Maker, faults: dict[str, str], part: str) -> None:
    mirrors = maker.upstream.all_mirrors(**faults)
    failed = maker.run(bundle_components=["kubectl", "helm"], bundle_download_timeout=3, vigie_mirrors=mirrors)
    fault = failed.fault("localhost")
    assert failed.status != 0
    assert all(word in fault for word in (f"kubectl {VERSIONS['kubectl']}: ", "/dl.k8s.io/release/v", part)), fault
    assert "helm" not in fault
    assert not (maker.folder / "manifest.yml").exists()
    assert sorted(maker.files()) == sorted(
        [f"binaries/helm-{VERSIONS['helm']}-amd64", f"binaries/.helm-{VERSIONS['helm']}-amd64.source"]
    )


def test_what_a_registry_does_is_told_all_at_once(maker: Maker) -> None:
    upstream = maker.upstream
    table = copy.deepcopy(upstream.table)
    moved = table["mailpit"]["digest"]
    table["mailpit"]["digest"] = f"sha256:{'0' * 64}"
    table["pause"]["ref"] = "registry.k8s.io/pause:9.9"
    upstream.registry.push("hub/etcd", VERSIONS["etcd"], {"arm64": "etcd"}, indexed=False)
    upstream.registry.push("hub/coredns/coredns", f"v{VERSIONS['coredns']}", {"arm64": "coredns"})
    wanted = ["mailpit", "pause", "etcd", "coredns", "kubectl"]
    failed = maker.run(bundle_components=wanted, vigie_versions=table)
    assert failed.status != 0
    fault = failed.fault("localhost")
    for part in (
        f"has the digest {moved}, expected sha256:000",
        f"{upstream.registry.address}/hub/pause:9.9 could not be copied",
        "manifest unknown",
        f"{upstream.registry.address}/hub/etcd:{VERSIONS['etcd']} is not there for amd64 (it is for linux/arm64)",
        f"{upstream.registry.address}/hub/coredns/coredns:v{VERSIONS['coredns']} is not there for amd64",
    ):
        assert part in fault, fault
    assert "Traceback" not in failed.output
    assert not (maker.folder / "manifest.yml").exists()
    assert list(maker.files()) == [f"binaries/kubectl-{VERSIONS['kubectl']}-amd64"]


def test_a_registry_that_does_not_answer_is_told(maker: Maker) -> None:
    with registries.silence() as address:
        for where, part in ((address, "stood still for 3 s"), ("127.0.0.1:1", "connection refused")):
            mirrors = maker.upstream.all_mirrors(registry=where)
            failed = maker.run(bundle_components=["mailpit"], bundle_download_timeout=3, vigie_mirrors=mirrors)
            assert failed.status != 0
            assert part in failed.fault("localhost")
            assert f"{where}/hub/axllent/mailpit:v{VERSIONS['mailpit']}" in failed.fault("localhost")
            assert maker.files() == {}


def test_another_wheel_of_the_same_name_is_refused(maker: Maker) -> None:
    table = copy.deepcopy(maker.upstream.table)
    table[WHEEL]["sha256"] = "0" * 64
    failed = maker.run(bundle_components=[WHEEL], vigie_versions=table)
    assert failed.status != 0
    assert f"is not the one with sha256 {'0' * 64}" in failed.fault("localhost")
    assert maker.files() == {}


@pytest.fixture
def packages(upstream: Publishers, tmp_path: Path) -> dict[str, Any]:
    """Return the choices for two packages of the hosts' Python, one of them for two versions and both architectures."""
    native = [f"cp{python}-cp{python}-manylinux_2_28_{name}" for python in (311, 313) for name in ("x86_64", "aarch64")]
    lines = []
    for name, tags in {"pure": ["py3-none-any"], "native": native}.items():
        contents = {tag: wheel(f"{name}==1.0", tag) for tag in tags}
        for tag, content in contents.items():
            (upstream.folder / "wheels" / f"{name}-1.0-{tag}.whl").write_bytes(content)
        lines.append(" ".join([f"{name}==1.0", *(f"--hash=sha256:{digest(content)}" for content in contents.values())]))
    (tmp_path / "requirements.txt").write_text("\n".join([*lines, ""]))
    return {
        "bundle_components": ["kubectl"],
        "bundle_host_requirements": str(tmp_path / "requirements.txt"),
        "bundle_python_versions": ["3.11", "3.13"],
    }


def test_the_packages_of_the_hosts_python_are_in_it_for_every_version(maker: Maker, packages: dict[str, Any]) -> None:
    told = maker.run("--check", **packages).require_success()
    assert not maker.folder.exists()
    done = maker.run(**packages).require_success()
    assert "Packages of the hosts' Python are in the bundle" in done.changed("localhost")
    assert set(told.changed("localhost")) == set(done.changed("localhost"))
    names = ["pure-1.0-py3-none-any.whl", *(f"native-1.0-cp{v}-cp{v}-manylinux_2_28_x86_64.whl" for v in (311, 313))]
    assert sorted(path.name for path in (maker.folder / "wheels").iterdir()) == sorted(names)
    assert maker.run(**packages).require_success().changed("localhost") == []

    # What was altered is brought again, and the other architecture comes along.
    (maker.folder / "wheels" / names[0]).write_bytes(b"altered")
    maker.run(**packages, bundle_architecture="arm64").require_success()
    assert (maker.folder / "wheels" / names[0]).read_bytes() == wheel("pure==1.0")
    assert len(list((maker.folder / "wheels").iterdir())) == 5

    failed = maker.run(**{**packages, "bundle_python_versions": ["3.12"]})
    assert "Python 3.12: the wheels of " in failed.fault("localhost")
    assert "No matching distribution found for native==1.0" in failed.fault("localhost")
    failed = maker.run(**{**packages, "bundle_python_versions": ["three"]})
    assert "bundle_python_versions=three has what is no version of Python" in failed.fault("localhost")


def test_bad_choices_are_one_list_before_anything_is_there(maker: Maker) -> None:
    failed = maker.run(
        bundle_components=["kubectl", "helm", "nope", "kubelet", "mailpit"],
        kubectl_version="1.99.0",
        helm_version="v4",
        bundle_skopeo="/nowhere/skopeo",
        bundle_download_timeout=0,
    )
    assert failed.status != 0
    fault = failed.fault("localhost")
    for part in (
        "bundle_components=nope is not known; choose of: ",
        "kubectl_version=1.99.0 has no known checksum for amd64; choose one of ",
        "helm_version=v4 is no version; write it like ",
        "bundle_skopeo=/nowhere/skopeo is not there",
        "apt-get install skopeo",
        "bundle_download_timeout=0 is below 1",
    ):
        assert part in fault, fault
    # What was not chosen otherwise has a checksum in the table.
    assert "kubelet has no known checksum" not in fault and f"kubelet {VERSIONS['kubelet']}" not in fault
    assert maker.asked() == []
    assert not maker.folder.exists()


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"bundle_dir": ""}, "bundle_dir= is no absolute path"),
        ({"bundle_dir": "bundle"}, "bundle_dir=bundle is no absolute path"),
        ({"bundle_dir": "/etc/hostname/bundle"}, "bundle_dir=/etc/hostname/bundle: /etc/hostname is no folder"),
        ({"bundle_dir": "/proc/nowhere"}, "/proc"),
        ({"bundle_architecture": "s390x"}, "bundle_architecture=s390x is not known; choose one of: amd64, arm64."),
        ({"bundle_components": "kubectl"}, "bundle_components=kubectl is no list"),
        ({"bundle_components": ["go"]}, "bundle_components=go is not known"),
        ({"kubectl_sha256": "0" * 64}, "kubectl_sha256="),
        ({"vigie_mirrors": {"https://dl.k8s.io": "mirror"}}, "mirrors holds"),
    ],
)
def test_a_bad_choice_is_one_sentence(maker: Maker, changed: dict[str, Any], part: str) -> None:
    failed = maker.run(**{"bundle_components": ["kubectl"], **changed})
    assert failed.status != 0
    assert part in failed.fault("localhost"), failed.output[-3000:]
    assert "Traceback" not in failed.output
    assert maker.asked() == []


def test_a_small_disk_and_a_foreign_manifest_are_told_first(maker: Maker) -> None:
    maker.folder.mkdir()
    (maker.folder / "manifest.yml").write_text("- name: [")
    failed = maker.run(bundle_components=["kubectl"], bundle_sizes={"binary": 10**9})
    assert "MiB free, but what is to be downloaded takes about 1000000000; make room" in failed.fault("localhost")
    assert f"{maker.folder}/manifest.yml: line" in failed.fault("localhost")
    assert maker.asked() == []
    assert (maker.folder / "manifest.yml").read_text() == "- name: ["


def test_a_download_that_was_cut_is_taken_up_and_nothing_twice(maker: Maker) -> None:
    few = ["helm", "kubectl", "mailpit"]
    cut = maker.run(bundle_components=few, vigie_mirrors=maker.upstream.all_mirrors(dl_k8s_io="cut"))
    assert "the connection ended after" in cut.fault("localhost")
    kept = maker.files()
    assert not (maker.folder / "manifest.yml").exists()
    maker.run(bundle_components=few).require_success()
    assert [path for path in maker.asked() if "kubectl" not in path] == []
    assert {name: state for name, state in maker.files().items() if name in kept} == kept
    assert {entry.name for entry in Bundle(maker.folder).artifacts} == set(few)


def test_a_run_that_was_killed_leaves_no_bundle_and_the_next_one_completes_it(maker: Maker) -> None:
    few = ["helm", "kubectl"]
    variables = maker.variables(
        bundle_components=few,
        bundle_download_timeout=60,
        vigie_mirrors=maker.upstream.all_mirrors(dl_k8s_io="stalled"),
    )
    maker.upstream.seen.clear()
    command = [
        Path(sys.executable).parent / "ansible-playbook",
        "-i",
        maker.inventory,
        PLAYBOOK,
        "-e",
        json.dumps(variables),
    ]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": collections_path(),
    }
    with (maker.inventory.parent / "killed.log").open("wb") as log:
        running = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        for _ in range(600):
            if maker.unfinished() and any("stalled" in path for path in maker.upstream.seen):
                break
            time.sleep(0.1)
        assert maker.unfinished(), (maker.inventory.parent / "killed.log").read_text()[-3000:]
    finally:
        # The group: a module that the lost ansible-playbook leaves would go on.
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert not (maker.folder / "manifest.yml").exists()
    with pytest.raises(Exception, match="no bundle"):
        Bundle(maker.folder)

    maker.run(bundle_components=few).require_success()
    assert {entry.name for entry in Bundle(maker.folder).artifacts} == set(few)
    assert maker.unfinished() == []


def test_the_lab_writes_the_same_format(maker: Maker, tmp_path: Path) -> None:
    """Kinds, keys and what is in an image: a bundle from source can't be told from this one by a role."""
    from vigielab import plan

    maker.run(bundle_components=["kubectl", "pause", CRDS]).require_success()
    made = {entry["name"]: entry for entry in yaml.safe_load((maker.folder / "manifest.yml").read_text())}
    for keys, _step, _name in plan.entries(["kubectl", plan.image_step("pause"), plan.CRDS], "amd64"):
        ours = made[keys["name"]]
        assert {key: keys[key] for key in ("name", "version", "kind", "architecture")}.items() <= ours.items()
        assert keys.get("ref") == ours.get("ref")
        assert Path(keys["file"]).parent == Path(ours["file"]).parent
    archive.layer(tmp_path / "layer.tar", {"/content": b"x"})
    archive.image(
        tmp_path / "lab.tar", made["pause"]["ref"], [tmp_path / "layer.tar"], architecture="amd64", config={}, origin=""
    )
    for path in (tmp_path / "lab.tar", maker.folder / made["pause"]["file"]):
        assert image(path.read_bytes(), made["pause"]["ref"])["architecture"] == "amd64"


def test_a_host_without_any_network_lives_on_the_bundle(maker: Maker, bare: Site) -> None:
    machine = bare.hosts[2]
    kind = {"x86_64": "amd64", "aarch64": "arm64"}[machine.run("uname", "-m").stdout.strip()]
    maker.run(bundle_components=["kubectl", "helm", "mailpit", "pause"], bundle_architecture=kind).require_success()
    machine.run("rm", "-rf", "/srv/bundle")
    machine.run("mkdir", "-p", "/srv")
    machinery.run("docker", "cp", maker.folder, f"{machine.name}:/srv/bundle")

    bare.origin.seen.clear()
    options: dict[str, Any] = {
        "hosts": {machine.name: {}},
        "vigie_bundle_dir": "/srv/bundle",
        "vigie_mirrors": bare.origin.mirrors(bare.address, "refused"),
    }
    bare.play(**options).require_success()
    for name, arguments in (
        ("kubectl", ["version", "--client", "--output=json"]),
        ("helm", ["version", "--template", "{{.Version}}"]),
    ):
        assert VERSIONS[name] in machine.run(name, *arguments).stdout
    again = bare.play(**options).require_success()
    assert again.changed(machine.name) == []
    assert bare.origin.seen == []


def test_a_host_without_an_index_has_its_python_from_the_bundle(
    maker: Maker, bare: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real packages, from the index that pip is configured for here."""
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name)
    here, there = bare.hosts[0], bare.hosts[2]  # Python 3.11 and 3.13
    kind = {"x86_64": "amd64", "aarch64": "arm64"}[here.run("uname", "-m").stdout.strip()]
    choices = {"bundle_components": ["kubectl"], "bundle_architecture": kind, "bundle_download_timeout": 60}
    maker.run(**choices, bundle_python_versions=["3.13"]).require_success()
    for machine in (here, there):
        machine.run("rm", "-rf", "/srv/bundle")
        machine.run("mkdir", "-p", "/srv")
        machinery.run("docker", "cp", maker.folder, f"{machine.name}:/srv/bundle")
        machine.write("/etc/pip.conf", "[global]\nindex-url = http://127.0.0.1:9/nowhere\n")
    options: dict[str, Any] = {
        "playbook": "host_python.yml",
        "hosts": {machine.name: {} for machine in (here, there)},
        "vigie_bundle_dir": "/srv/bundle",
    }
    try:
        failed = bare.play(**options)
        assert failed.fault(there.name) == ""
        assert "vigie_bundle_dir=/srv/bundle has no wheels of aiohttp, " in failed.fault(here.name)
        assert "for Python 3.11 on " in failed.fault(here.name)
        assert failed.changed(here.name) == []
        for machine, version in ((there, "3.13"), (here, "3.11")):
            if machine is here:
                maker.run(**choices, bundle_python_versions=["3.11", "3.13"]).require_success()
                machinery.run("docker", "cp", f"{maker.folder}/wheels", f"{machine.name}:/srv/bundle")
                bare.play(**options).require_success()
            program = f"{STATE}/host_python/venv/bin/python"
            script = "import docker, jmespath, kubernetes, sys; print('%d.%d' % sys.version_info[:2])"
            assert machine.run(program, "-c", script).stdout.strip() == version
        again = bare.play(**options).require_success()
        assert [again.changed(machine.name) for machine in (here, there)] == [[], []]
    finally:
        for machine in (here, there):
            machine.run("rm", "-rf", "/etc/pip.conf", "/srv/bundle", f"{STATE}/host_python")
