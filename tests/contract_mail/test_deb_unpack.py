"""deb_unpack with the real apt: a small repository served here for the failures, the distribution's mirror for the real thing."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="no apt on this host")


class Repository:
    """A flat repository of packages made on the spot, and an apt that knows no other."""

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.config = root.parent / "test-apt.conf"
        self.lists = root.parent / "system-lists"
        self.sources = root.parent / "sources.list"
        (self.lists / "partial").mkdir(parents=True)
        parts = root.parent / "apt.conf.d"
        parts.mkdir()
        (parts / "99hook").write_text(f'APT::Update::Post-Invoke {{ "touch {root.parent}/hook-ran"; }};\n')
        self.sources.write_text(f"deb [trusted=yes] http://127.0.0.1:{port}/ ./\n")
        self.config.write_text(
            f'Dir::State::lists "{self.lists}";\n'
            f'Dir::Etc::sourcelist "{self.sources}";\n'
            'Dir::Etc::sourceparts "/dev/null";\n'
            f'Dir::Etc::parts "{parts}";\n'
            'Acquire::http::Proxy "DIRECT";\n'
            'Acquire::Retries "0";\n'
        )

    def add(self, name: str, version: str, size: int = 10) -> Path:
        """Build a package that holds one file and offer it."""
        tree = self.root.parent / "build" / name
        shutil.rmtree(tree, ignore_errors=True)
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN" / "control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: test\n"
        )
        (tree / "DEBIAN" / "postinst").write_text(f"#!/bin/sh\ntouch {self.root.parent}/script-ran\n")
        (tree / "DEBIAN" / "postinst").chmod(0o755)
        (tree / "usr" / "share" / name).mkdir(parents=True)
        (tree / "usr" / "share" / name / "version").write_text(version)
        (tree / "usr" / "share" / name / "data").write_bytes(os.urandom(size))
        file = self.root / f"{name}_{version.replace(':', '%3a')}_all.deb"
        subprocess.run(["dpkg-deb", "-Znone", "-b", tree, file], check=True, capture_output=True)
        self.publish()
        return file

    def publish(self) -> None:
        """Write the index of the packages that are there."""
        entries = []
        for file in sorted(self.root.glob("*.deb")):
            control = subprocess.run(["dpkg-deb", "-f", file], check=True, capture_output=True, text=True).stdout
            data = file.read_bytes()
            entries.append(
                f"{control}Filename: ./{file.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
            )
        (self.root / "Packages.gz").write_bytes(gzip.compress("\n".join(entries).encode()))

    def update_system(self) -> None:
        """What an administrator's `apt-get update` does to the system's lists."""
        subprocess.run(
            ["apt-get", "update"],
            check=True,
            capture_output=True,
            env={**os.environ, "APT_CONFIG": str(self.config)},
        )


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    root = tmp_path / "mirror"
    root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def send_head(self) -> Any:
            # Two indexes of the same second must not be taken for one.
            del self.headers["If-Modified-Since"]
            return super().send_head()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    repository = Repository(root, server.server_port)
    monkeypatch.setenv("APT_CONFIG", str(repository.config))
    try:
        yield repository
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def options(tmp_path: Path) -> dict[str, str]:
    return {"name": "tiny", "dest": str(tmp_path / "packages"), "cache": str(tmp_path / "cache")}


def content(result: dict[str, Any]) -> str:
    return Path(result["path"], "usr/share/tiny/version").read_text()


def names(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def test_system_lists_are_used_when_they_know_the_package(repository, run_module, options, tmp_path) -> None:
    repository.add("tiny", "1.0-1")
    repository.update_system()
    forecast = run_module("deb_unpack", check_mode=True, **options)
    assert (forecast["changed"], forecast["version"]) == (True, "1.0-1")
    assert not Path(options["dest"]).exists()
    assert not Path(options["cache"]).exists()
    result = run_module("deb_unpack", **options)
    assert (result["changed"], result["version"], result["failed"]) == (True, "1.0-1", False)
    assert result["folder"] == forecast["folder"]
    assert content(result) == "1.0-1"
    assert names(options["dest"]) == {"tiny", "tiny_1.0-1_all"}
    assert not Path(options["cache"], "apt", "lists").exists()
    assert (tmp_path / "hook-ran").exists(), "the hook of this test doesn't work"
    assert not list(Path(options["cache"]).glob("*.deb"))
    assert not (repository.root.parent / "script-ran").exists()


def test_second_run_changes_nothing_and_needs_no_mirror(repository, run_module, options) -> None:
    repository.add("tiny", "1.0-1")
    run_module("deb_unpack", **options)
    repository.sources.write_text("deb [trusted=yes] http://127.0.0.1:1/ ./\n")
    for check_mode in (True, False):
        again = run_module("deb_unpack", check_mode=check_mode, **options)
        assert (again["changed"], again["version"], again["failed"]) == (False, "1.0-1", False)


def test_private_lists_when_the_system_has_none(repository, run_module, options, tmp_path) -> None:
    repository.add("tiny", "1:1.0-1")
    forecast = run_module("deb_unpack", check_mode=True, **options)
    assert (forecast["changed"], forecast["version"], forecast["failed"]) == (True, "", False)
    assert not Path(options["cache"]).exists()
    result = run_module("deb_unpack", keep=True, **options)
    assert (result["changed"], result["version"]) == (True, "1:1.0-1")
    assert content(result) == "1:1.0-1"
    assert names(str(repository.lists)) == {"partial"}, "the system's lists were touched"
    assert not (tmp_path / "hook-ran").exists(), "a hook of the system ran"
    assert [file.name for file in Path(options["cache"]).glob("*.deb")] == ["tiny_1%3a1.0-1_all.deb"]


def test_stale_system_lists_are_passed_over(repository, run_module, options) -> None:
    repository.add("tiny", "1.0-1").rename(repository.root / "gone")
    (repository.root / "gone").rename(repository.root / "tiny_1.0-1_all.deb")
    repository.update_system()
    (repository.root / "tiny_1.0-1_all.deb").unlink()
    repository.add("tiny", "1.0-2")
    result = run_module("deb_unpack", **options)
    assert (result["failed"], result["version"]) == (False, "1.0-2")


def test_upgrade_is_only_made_when_asked_for(repository, run_module, options) -> None:
    repository.add("tiny", "1.9-1")
    repository.update_system()
    run_module("deb_unpack", **options)
    repository.add("tiny", "1.10-1")
    repository.update_system()
    assert not run_module("deb_unpack", **options)["changed"]
    forecast = run_module("deb_unpack", check_mode=True, upgrade=True, **options)
    assert (forecast["changed"], forecast["version"]) == (True, "1.10-1")
    result = run_module("deb_unpack", upgrade=True, **options)
    assert (result["changed"], result["version"], content(result)) == (True, "1.10-1", "1.10-1")
    assert not run_module("deb_unpack", upgrade=True, **options)["changed"]
    back = run_module("deb_unpack", version="1.9-1", **options)
    assert (back["changed"], content(back)) == (True, "1.9-1")


@pytest.mark.parametrize("path", ["usr/share", "/", "/usr//share", "/usr/share/"])
def test_relocate_takes_absolute_folders(repository, run_module, options, path) -> None:
    result = run_module("deb_unpack", relocate=[path], **options)
    assert (result["failed"], result["reason"]) == (True, "bad_option")


def test_relocate_in_check_mode_on_a_bare_host(repository, run_module, options, monkeypatch) -> None:
    monkeypatch.chdir("/")  # where a relative usr/bin would be the system's
    result = run_module("deb_unpack", check_mode=True, relocate=["/usr/lib"], **options)
    assert (result["failed"], result["changed"], result["folder"]) == (False, True, "")


def test_absent_removes_everything(repository, run_module, options) -> None:
    repository.add("tiny", "1.0-1")
    run_module("deb_unpack", keep=True, **options)
    forecast = run_module("deb_unpack", check_mode=True, state="absent", **options)
    assert forecast["changed"]
    assert content(forecast) == "1.0-1"
    assert run_module("deb_unpack", state="absent", **options)["changed"]
    assert names(options["dest"]) == set()
    assert not run_module("deb_unpack", state="absent", **options)["changed"]


def test_unknown_package_names_the_component(repository, run_module, options) -> None:
    repository.add("tiny", "1.0-1")
    result = run_module("deb_unpack", **{**options, "name": "nowhere"})
    assert (result["failed"], result["reason"]) == (True, "package_unknown")
    assert "component" in result["hint"]
    assert "nowhere" in result["hint"]


def test_unknown_version_names_the_one_offered(repository, run_module, options) -> None:
    repository.add("tiny", "1.0-1")
    result = run_module("deb_unpack", version="7.0-1", **options)
    assert (result["failed"], result["reason"]) == (True, "version_unknown")
    assert "1.0-1" in result["hint"]


def test_mirror_out_of_reach_without_lists(repository, run_module, options) -> None:
    repository.sources.write_text("deb [trusted=yes] http://127.0.0.1:1/ ./\n")
    result = run_module("deb_unpack", **options)
    assert (result["failed"], result["reason"]) == (True, "lists_failed")
    assert "127.0.0.1" in result["hint"]


def test_file_gone_from_the_mirror(repository, run_module, options) -> None:
    file = repository.add("tiny", "1.0-1")
    file.unlink()
    result = run_module("deb_unpack", **options)
    assert (result["failed"], result["reason"]) == (True, "download_failed")
    assert "404" in result["hint"]


def test_altered_file_is_refused(repository, run_module, options) -> None:
    file = repository.add("tiny", "1.0-1")
    data = bytearray(file.read_bytes())
    data[-600] ^= 1
    file.write_bytes(bytes(data))
    result = run_module("deb_unpack", **options)
    assert (result["failed"], result["reason"]) == (True, "download_failed")
    assert not Path(options["dest"], "tiny").exists()


def test_file_that_is_no_package(repository, run_module, options) -> None:
    file = repository.add("tiny", "1.0-1")
    repository.update_system()
    Path(options["cache"]).mkdir()
    # apt verified it once; then the disk lost its end, and the index agrees with the broken file.
    file.write_bytes(file.read_bytes()[:300])
    packages = gzip.decompress((repository.root / "Packages.gz").read_bytes()).decode()
    fixed = [
        f"Size: {file.stat().st_size}" if line.startswith("Size:") else line
        for line in packages.splitlines()
        if not line.startswith("SHA256:")
    ]
    fixed.append(f"SHA256: {hashlib.sha256(file.read_bytes()).hexdigest()}")
    (repository.root / "Packages.gz").write_bytes(gzip.compress("\n".join(fixed).encode() + b"\n"))
    repository.update_system()
    result = run_module("deb_unpack", **options)
    assert (result["failed"], result["reason"]) == (True, "bad_package")
    assert names(options["dest"]) == set()


def test_full_disk(repository, run_module, options, tmp_path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "x", small], check=False, capture_output=True
    ).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        repository.add("tiny", "1.0-1", size=300_000)
        result = run_module("deb_unpack", **{**options, "dest": str(small)})
        assert (result["failed"], result["reason"]) == (True, "disk_full")
        assert str(small) in result["hint"]
        assert names(str(small)) == set()
    finally:
        subprocess.run(["umount", small], check=True)


CHILD = """
import os, sys
from pathlib import Path
from ansible_collections.vigie.observability.plugins.module_utils import packages
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError
if os.getuid() == 0:  # root may write everywhere
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    packages.PackageFolder("tiny", Path(sys.argv[1]), Path(sys.argv[2])).present(
        version=None, upgrade=False, keep=False, check_mode=sys.argv[3] == "check", temporary=Path("/tmp"))
except CheckError as error:
    print(error)
"""


def import_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.parametrize("mode", ["check", "run"])
def test_folder_of_somebody_else(mode: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in (tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, closed / "packages", closed / "cache", mode],
        env=import_path(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("permission_denied: ")
    assert str(closed) in done.stdout


def test_killed_run_leaves_nothing_that_harms(repository, run_module, options, tmp_path) -> None:
    """The unpacker hangs half-way, the run is killed, the next run finds and removes what is left."""
    repository.add("tiny", "1.0-1")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    slow = bin_folder / "dpkg-deb"
    slow.write_text(f'#!/bin/sh\n{shutil.which("dpkg-deb")} "$@"\ntouch {tmp_path}/half-way\nexec sleep 60\n')
    slow.chmod(0o755)
    code = (
        "import sys; from pathlib import Path\n"
        "from ansible_collections.vigie.observability.plugins.module_utils.packages import PackageFolder\n"
        "PackageFolder('tiny', Path(sys.argv[1]), Path(sys.argv[2])).present("
        "version=None, upgrade=False, keep=False, check_mode=False, temporary=Path(sys.argv[3]))\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, options["dest"], options["cache"], str(tmp_path)],
        env={**import_path(), "PATH": f"{bin_folder}:{os.environ['PATH']}"},
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 20
        while not (tmp_path / "half-way").exists() and time.monotonic() < until and run.poll() is None:
            time.sleep(0.02)
        assert (tmp_path / "half-way").exists()
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    left = names(options["dest"])
    assert len(left) == 1
    assert left.pop().startswith(".tiny.unpack-")
    result = run_module("deb_unpack", **options)
    assert (result["failed"], result["changed"], content(result)) == (False, True, "1.0-1")
    assert names(options["dest"]) == {"tiny", "tiny_1.0-1_all"}
    assert not run_module("deb_unpack", **options)["changed"]


def test_hello_from_the_distribution(run_module, options, tmp_path, monkeypatch) -> None:
    """The real mirror, once with the system's lists and once as in a container that has none."""
    options["name"] = "hello"
    result = run_module("deb_unpack", **options)
    if result["reason"] in ("lists_failed", "download_failed"):
        pytest.skip(f"no mirror: {result['hint']}")
    assert (result["failed"], result["changed"]) == (False, True)
    said = subprocess.run([f"{result['path']}/usr/bin/hello"], capture_output=True, text=True, check=True).stdout
    assert said == "Hello, world!\n"
    assert not run_module("deb_unpack", **options)["changed"]
    config = tmp_path / "empty.conf"
    config.write_text(f'Dir::State::lists "{tmp_path}/none";\n')
    monkeypatch.setenv("APT_CONFIG", str(config))
    other = {**options, "dest": str(tmp_path / "other"), "cache": str(tmp_path / "cache2")}
    bare = run_module("deb_unpack", **other)
    assert (bare["failed"], bare["version"]) == (False, result["version"])
    assert (tmp_path / "cache2" / "apt" / "lists").is_dir()
    assert not (tmp_path / "none").exists()
