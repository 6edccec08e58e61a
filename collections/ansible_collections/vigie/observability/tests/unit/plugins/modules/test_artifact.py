"""The module itself, against bundles in a folder and a server on this host: verified content, or nothing under the final name."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.vigie.observability.plugins.module_utils import bundle as logic
from ansible_collections.vigie.observability.plugins.modules import artifact

Run = Callable[..., dict[str, Any]]
PROGRAM = b"#!/bin/sh\necho program\n" * 1000
OTHER = b"#!/bin/sh\necho other\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def archive(**members: bytes) -> bytes:
    """Return a tar.gz; a member whose content begins with -> is a link."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            if content.startswith(b"->"):
                info.type, info.linkname = tarfile.SYMTYPE, content[2:].decode()
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_main: Run) -> Run:
    """Return a function that runs the module and returns its result."""
    monkeypatch.setattr(logic.platform, "machine", lambda: "x86_64")

    def call(**options: Any) -> dict[str, Any]:
        given = {"name": "helm", "version": "4.2.4", "dest": str(tmp_path / "bin" / "helm"), **options}
        result = run_main(artifact.main, {key: value for key, value in given.items() if value is not None})
        assert {"reason", "hint"} <= result.keys()
        return result

    return call


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "bin" / "helm"


def alone(dest: Path, *beside: str) -> bool:
    """Whether the folder holds the file, what is named beside it, and nothing else."""
    return {path.name for path in dest.parent.iterdir()} == {dest.name, *beside}


def nothing(dest: Path) -> bool:
    """Whether nothing is left, neither under the final name nor beside it."""
    return not dest.parent.exists() or not list(dest.parent.iterdir())


class Server(ThreadingHTTPServer):
    """Serves what a test puts there, and counts the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content: dict[str, bytes] = {}
        self.seen: list[str] = []
        self.release = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append(self.path)
        word, _slash, rest = self.path[1:].partition("/")
        if word == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/{rest}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = self.server.content.get(rest or word)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        if word != "unsized":
            self.send_header("Content-Length", str(len(content)))
        if word == "gzip":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if word == "cut":
            content = content[: len(content) // 2]
        if word == "stall":
            self.wfile.write(content[:10])
            self.wfile.flush()
            self.server.release.wait(30)
            return
        self.wfile.write(content)

    def log_message(self, *_args: Any) -> None:
        """Keep the output of the tests readable."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as started:
        threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield started
        started.release.set()
        started.shutdown()


# From upstream


def test_a_download_is_verified_and_installed(run: Run, server: Server, dest: Path) -> None:
    server.content["helm"] = PROGRAM
    result = run(url=f"{server.url}/helm", sha256=sha256(PROGRAM))
    assert result == {
        "changed": True,
        "path": str(dest),
        "version": "4.2.4",
        "architecture": "amd64",
        "source": "upstream",
        "sha256": sha256(PROGRAM),
        "diff": {"before": {}, "after": {"mode": "0755", "sha256": sha256(PROGRAM), "version": "4.2.4"}},
        "reason": "ok",
        "hint": "",
    }
    assert dest.read_bytes() == PROGRAM
    assert dest.stat().st_mode & 0o7777 == 0o755
    assert alone(dest)


def test_a_second_run_asks_nobody(run: Run, server: Server) -> None:
    server.content["helm"] = PROGRAM
    options = {"url": f"{server.url}/helm", "sha256": sha256(PROGRAM)}
    assert [run(**options)["changed"], run(**options)["changed"]] == [True, False]
    assert server.seen == ["/helm"]


@pytest.mark.parametrize("way", ["unsized", "redirect", "gzip"])
def test_ways_of_serving_the_same_content(run: Run, server: Server, dest: Path, way: str) -> None:
    """Release pages redirect; and some servers call a .gz encoded, which must not be undone."""
    content = archive(helm=PROGRAM)
    server.content["file"] = content
    assert run(url=f"{server.url}/{way}/file", sha256=sha256(content))["reason"] == "ok"
    assert dest.read_bytes() == content


def test_the_difference_is_told_and_gone_afterwards(run: Run, server: Server, dest: Path) -> None:
    server.content["helm"] = PROGRAM
    dest.parent.mkdir()
    dest.write_bytes(OTHER)
    dest.chmod(0o644)
    options = {"url": f"{server.url}/helm", "sha256": sha256(PROGRAM)}
    expected = {
        "before": {"mode": "0644", "sha256": sha256(OTHER)},
        "after": {"mode": "0755", "sha256": sha256(PROGRAM), "version": "4.2.4"},
    }
    assert run(**options, _ansible_check_mode=True)["diff"] == expected
    assert run(**options)["diff"] == expected
    again = run(**options)["diff"]
    assert again["before"] == again["after"] == {"mode": "0755", "sha256": sha256(PROGRAM)}


def test_an_older_file_is_replaced(run: Run, server: Server, dest: Path) -> None:
    server.content["helm"] = PROGRAM
    dest.parent.mkdir()
    dest.write_bytes(OTHER)
    assert run(url=f"{server.url}/helm", sha256=sha256(PROGRAM))["changed"] is True
    assert dest.read_bytes() == PROGRAM


@pytest.mark.parametrize(
    ("path", "digest", "reason", "part"),
    [
        ("helm", sha256(OTHER), "checksum_mismatch", f"sha256 {sha256(PROGRAM)}, expected {sha256(OTHER)}"),
        ("gone", sha256(PROGRAM), "download_failed", "it answered 404 Not Found"),
        ("redirect/gone", sha256(PROGRAM), "download_failed", "it answered 404"),
        ("cut/helm", sha256(PROGRAM), "download_failed", f"ended after {len(PROGRAM) // 2} of {len(PROGRAM)} bytes"),
        ("helm", None, "no_checksum", "has no sha256"),
        ("helm", "", "no_checksum", "has no sha256"),
        ("helm", "abc", "bad_option", "sha256=abc"),
    ],
)
def test_what_goes_wrong_is_named_and_leaves_nothing(
    run: Run, server: Server, dest: Path, *, path: str, digest: str | None, reason: str, part: str
) -> None:
    server.content["helm"] = PROGRAM
    result = run(url=f"{server.url}/{path}", sha256=digest)
    assert (result["failed"], result["reason"], result["msg"]) == (True, reason, result["hint"])
    assert part in result["hint"]
    assert nothing(dest)


def test_a_failed_download_leaves_the_older_file(run: Run, server: Server, dest: Path) -> None:
    dest.parent.mkdir()
    dest.write_bytes(OTHER)
    server.content["helm"] = PROGRAM
    assert run(url=f"{server.url}/cut/helm", sha256=sha256(PROGRAM))["failed"]
    assert dest.read_bytes() == OTHER
    assert alone(dest)


def test_nobody_listens(run: Run, server: Server, dest: Path) -> None:
    # While the loop still waits for a connection the kernel takes one.
    server.shutdown()
    server.server_close()
    result = run(url=f"{server.url}/helm", sha256=sha256(PROGRAM))
    assert result["reason"] == "download_failed"
    assert "refused" in result["hint"]
    assert nothing(dest)


def test_a_download_that_stands_still_ends(run: Run, server: Server, dest: Path) -> None:
    server.content["helm"] = PROGRAM
    result = run(url=f"{server.url}/stall/helm", sha256=sha256(PROGRAM), timeout=0.2)
    assert (result["reason"], "timed out" in result["hint"]) == ("download_failed", True)
    assert nothing(dest)


def test_an_interrupted_download_leaves_nothing(
    run: Run, server: Server, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content["helm"] = PROGRAM

    def interrupted(*_args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(logic, "_write", interrupted)
        artifact.run(
            {
                **dict.fromkeys(("bundle_dir", "mode", "member", "architecture")),
                **{"name": "helm", "version": "4.2.4", "kind": "binary", "dest": str(dest), "timeout": 5.0},
                **{"url": f"{server.url}/helm", "sha256": sha256(PROGRAM)},
            },
            check_mode=False,
        )
    assert nothing(dest)


def test_what_a_killed_run_left_is_removed(run: Run, server: Server, dest: Path) -> None:
    server.content["helm"] = PROGRAM
    dest.parent.mkdir()
    (dest.parent / ".helm.part-abc").write_bytes(PROGRAM[:10])
    (dest.parent / ".other.part-abc").touch()
    run(url=f"{server.url}/helm", sha256=sha256(PROGRAM))
    assert alone(dest, ".other.part-abc")


def test_a_full_disk_is_named(run: Run, server: Server, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.content["helm"] = PROGRAM

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(logic.os, "fsync", full)
    result = run(url=f"{server.url}/helm", sha256=sha256(PROGRAM))
    assert (result["reason"], f"df -h {dest.parent}" in result["hint"]) == ("disk_full", True)
    assert nothing(dest)


@pytest.mark.parametrize("member", ["helm", ""])
def test_a_disk_that_fills_during_the_download_is_no_fault_of_the_network(
    run: Run, server: Server, dest: Path, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    content = archive(helm=PROGRAM)
    server.content["helm"] = content
    real = logic._write

    def full(into: Any, chunk: bytes) -> None:
        if not member or chunk == PROGRAM:  # with a member, the disk fills while it is unpacked
            raise logic._Storage(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        real(into, chunk)

    monkeypatch.setattr(logic, "_write", full)
    assert run(url=f"{server.url}/helm", sha256=sha256(content), member=member)["reason"] == "disk_full"
    assert nothing(dest)


def test_check_mode_downloads_nothing(run: Run, server: Server, dest: Path) -> None:
    server.content["helm"] = PROGRAM
    options = {"url": f"{server.url}/helm", "sha256": sha256(PROGRAM), "_ansible_check_mode": True}
    assert run(**options)["changed"] is True
    assert (server.seen, dest.parent.exists()) == ([], False)
    assert run(**{**options, "sha256": ""})["reason"] == "no_checksum"
    dest.parent.write_text("a file")
    assert run(**options)["reason"] == "bad_option"


@pytest.mark.parametrize("missing", ["dest", "version", "url"])
def test_options_that_a_download_needs(run: Run, missing: str) -> None:
    options = {"url": "http://127.0.0.1:1/helm", "sha256": sha256(PROGRAM), missing: None}
    result = run(**options)
    assert (result["reason"], f"{missing} must be set" in result["hint"]) == ("bad_option", True)


# Out of an archive


def test_a_member_is_installed_and_recorded(run: Run, server: Server, dest: Path) -> None:
    content = archive(linux__README=b"read me", linux__helm=PROGRAM)
    server.content["helm.tgz"] = content
    options = {"url": f"{server.url}/helm.tgz", "sha256": sha256(content), "member": "linux/helm"}
    result = run(**options)
    assert (result["changed"], result["sha256"]) == (True, sha256(content))
    assert dest.read_bytes() == PROGRAM
    assert dest.stat().st_mode & 0o7777 == 0o755
    assert json.loads((dest.parent / ".helm.source").read_text()) == {
        "source": sha256(content),
        "member": "linux/helm",
        "content": sha256(PROGRAM),
    }
    assert alone(dest, ".helm.source")
    assert run(**options)["changed"] is False
    assert run(**options, _ansible_check_mode=True)["changed"] is False
    assert server.seen == ["/helm.tgz"]


@pytest.mark.parametrize("record", [None, "", "{}", "[]", '{"source": "x"}'])
def test_without_a_usable_record_it_is_fetched_again(run: Run, server: Server, dest: Path, record: str | None) -> None:
    content = archive(helm=PROGRAM)
    server.content["helm.tgz"] = content
    options = {"url": f"{server.url}/helm.tgz", "sha256": sha256(content), "member": "./helm"}
    run(**options)
    file = dest.parent / ".helm.source"
    file.unlink()
    if record is not None:
        file.write_text(record)
    assert [run(**options)["changed"], run(**options)["changed"]] == [True, False]


def test_an_altered_member_is_replaced(run: Run, server: Server, dest: Path) -> None:
    content = archive(helm=PROGRAM)
    server.content["helm.tgz"] = content
    options = {"url": f"{server.url}/helm.tgz", "sha256": sha256(content), "member": "helm"}
    run(**options)
    dest.write_bytes(OTHER)
    assert run(**options)["changed"] is True
    assert dest.read_bytes() == PROGRAM


@pytest.mark.parametrize(
    ("content", "member", "reason", "part"),
    [
        (archive(a__helm=PROGRAM), "b/helm", "member_missing", "holds no file b/helm (it holds a/helm)"),
        (archive(helm=b"->/etc/passwd"), "helm", "member_missing", "holds no file helm"),
        (archive(), "helm", "member_missing", "it holds nothing"),
        (PROGRAM, "helm", "bad_archive", "is no archive"),
        (archive(helm=random.Random(1).randbytes(5000))[:-2000], "helm", "bad_archive", "is no archive"),
    ],
    ids=["elsewhere", "link", "empty", "no archive", "cut archive"],
)
def test_archives_that_do_not_hold_it(
    run: Run, server: Server, dest: Path, *, content: bytes, member: str, reason: str, part: str
) -> None:
    server.content["helm.tgz"] = content
    result = run(url=f"{server.url}/helm.tgz", sha256=sha256(content), member=member)
    assert (result["reason"], part in result["hint"]) == (reason, True), result["hint"]
    assert nothing(dest)


def test_no_path_of_the_archive_reaches_the_host(run: Run, server: Server, dest: Path, tmp_path: Path) -> None:
    content = archive(**{"..__..__evil": OTHER, "helm": PROGRAM})
    server.content["helm.tgz"] = content
    assert run(url=f"{server.url}/helm.tgz", sha256=sha256(content), member="helm")["changed"] is True
    assert {path.name for path in tmp_path.iterdir()} == {"bin"}
    assert alone(dest, ".helm.source")


# From a bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a bundle of Helm for amd64 and a chart."""
    root = tmp_path / "bundle"
    (root / "binaries").mkdir(parents=True)
    (root / "binaries/helm").write_bytes(PROGRAM)
    (root / "chart.tgz").write_bytes(OTHER)
    helm = {"name": "helm", "version": "4.2.4", "kind": "binary", "architecture": "amd64"}
    chart = {"name": "stack", "version": "88.5.3", "kind": "chart", "architecture": "noarch"}
    entries = [
        {**helm, "file": "binaries/helm", "sha256": sha256(PROGRAM)},
        {**chart, "file": "chart.tgz", "sha256": sha256(OTHER)},
    ]
    (root / "manifest.yml").write_text(yaml.safe_dump(entries))
    return root


def test_a_bundle_serves_without_the_network(run: Run, bundle: Path, dest: Path) -> None:
    options = {"bundle_dir": str(bundle), "url": "http://127.0.0.1:1/helm", "sha256": sha256(OTHER), "member": "x/helm"}
    result = run(**options)
    assert (result["changed"], result["source"], result["sha256"]) == (True, "bundle", sha256(PROGRAM))
    assert (dest.read_bytes(), dest.stat().st_mode & 0o7777) == (PROGRAM, 0o755)
    assert alone(dest)
    assert run(**options)["changed"] is False


def test_a_bundle_after_an_archive_takes_the_record_away(run: Run, server: Server, bundle: Path, dest: Path) -> None:
    content = archive(helm=OTHER)
    server.content["helm.tgz"] = content
    run(url=f"{server.url}/helm.tgz", sha256=sha256(content), member="helm")
    assert run(bundle_dir=str(bundle))["changed"] is True
    assert dest.read_bytes() == PROGRAM
    assert alone(dest)


def test_the_version_of_the_bundle_is_told(run: Run, bundle: Path) -> None:
    assert run(bundle_dir=str(bundle), version=None)["version"] == "4.2.4"


def test_a_chart_is_for_every_host_and_no_program(run: Run, bundle: Path, dest: Path) -> None:
    result = run(bundle_dir=str(bundle), name="stack", version="88.5.3", kind="chart")
    assert (result["architecture"], result["reason"]) == ("noarch", "ok")
    assert dest.stat().st_mode & 0o7777 == 0o644


def test_without_dest_it_is_verified_in_its_place(run: Run, bundle: Path) -> None:
    options = {"bundle_dir": str(bundle), "dest": None}
    result = run(**options)
    assert (result["changed"], result["path"]) == (False, str(bundle / "binaries/helm"))
    (bundle / "binaries/helm").write_bytes(PROGRAM[:-1])
    assert run(**options)["reason"] == "checksum_mismatch"


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("content", [b"", PROGRAM[:-1], OTHER], ids=["empty", "partial", "other"])
def test_an_altered_bundle_changes_nothing(
    run: Run, bundle: Path, dest: Path, content: bytes, check_mode: bool
) -> None:
    (bundle / "binaries/helm").write_bytes(content)
    result = run(bundle_dir=str(bundle), _ansible_check_mode=check_mode)
    assert result["reason"] == "checksum_mismatch"
    assert sha256(content) in result["hint"] and sha256(PROGRAM) in result["hint"]
    assert nothing(dest)


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"bundle_dir": "/nonexistent/bundle"}, "bundle_missing"),
        ({"name": "jq"}, "artifact_missing"),
        ({"version": "4.2.3"}, "version_missing"),
        ({"architecture": "arm64"}, "architecture_missing"),
        ({"mode": "493"}, "bad_option"),
        ({"mode": "rwx"}, "bad_option"),
    ],
)
def test_what_a_bundle_cannot_give_is_named_before_anything_changes(
    run: Run, bundle: Path, dest: Path, *, options: dict[str, Any], reason: str, check_mode: bool
) -> None:
    result = run(**{"bundle_dir": str(bundle), "_ansible_check_mode": check_mode, **options})
    assert (result["failed"], result["reason"]) == (True, reason)
    assert nothing(dest)


def test_a_missing_file_of_a_bundle(run: Run, bundle: Path, dest: Path) -> None:
    (bundle / "binaries/helm").unlink()
    assert run(bundle_dir=str(bundle))["reason"] == "file_missing"
    assert nothing(dest)


def test_check_mode_writes_nothing(run: Run, bundle: Path, dest: Path) -> None:
    assert run(bundle_dir=str(bundle), _ansible_check_mode=True)["changed"] is True
    assert nothing(dest)
    run(bundle_dir=str(bundle))
    assert run(bundle_dir=str(bundle), _ansible_check_mode=True)["changed"] is False


def test_permissions_are_corrected(run: Run, bundle: Path, dest: Path) -> None:
    run(bundle_dir=str(bundle))
    dest.chmod(0o600)
    assert run(bundle_dir=str(bundle), _ansible_check_mode=True)["changed"] is True
    assert dest.stat().st_mode & 0o7777 == 0o600
    assert [run(bundle_dir=str(bundle))["changed"], run(bundle_dir=str(bundle))["changed"]] == [True, False]
    assert dest.stat().st_mode & 0o7777 == 0o755
    assert run(bundle_dir=str(bundle), mode="0700")["changed"] is True


@pytest.mark.parametrize("occupant", ["folder", "link"])
def test_a_place_that_is_taken_is_left_alone(run: Run, bundle: Path, dest: Path, occupant: str) -> None:
    dest.parent.mkdir()
    if occupant == "folder":
        dest.mkdir()
    else:
        dest.symlink_to("elsewhere")
    assert run(bundle_dir=str(bundle))["reason"] == "dest_occupied"
    assert alone(dest)


def test_a_folder_that_cannot_be_made(run: Run, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run(bundle_dir=str(bundle), dest=str(tmp_path / "file" / "helm"))
    assert (result["reason"], f"dest={tmp_path}/file/helm" in result["hint"]) == ("bad_option", True)


def test_a_folder_that_may_not_be_written(run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_args: Any, **_kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/bin/x")

    monkeypatch.setattr(logic.tempfile, "mkstemp", denied)
    result = run(bundle_dir=str(bundle))
    assert (result["reason"], result["hint"].startswith("/bin/x can't be written")) == ("permission_denied", True)


def test_documented_kinds_are_the_real_ones() -> None:
    options = yaml.safe_load(artifact.DOCUMENTATION)["options"]
    assert options["kind"]["choices"] == list(logic.KINDS)
    assert options["architecture"]["choices"] == list(logic.ARCHITECTURES)
