"""The OCI runtime that asks for no more than the host can give: units, and whole calls with a runc that tells how it was called."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "roles/docker/files/runc_bounded.py"
SPEC = importlib.util.spec_from_file_location("runc_bounded", PROGRAM)
assert SPEC and SPEC.loader
runc_bounded = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(runc_bounded)

WHOLE = "Name:\tx\nCapBnd:\t000001ffffffffff\n"
WITHOUT_RESOURCE = "Name:\tx\nCapBnd:\t000001fffeffffff\n"


@pytest.mark.parametrize(
    ("status", "last", "missing"),
    [
        (WHOLE, 40, []),
        (WITHOUT_RESOURCE, 40, ["CAP_SYS_RESOURCE"]),
        ("CapBnd:\t0000003fffffffff\n", 37, []),  # an older kernel does not lack what it does not know
        ("CapBnd:\t0000003fffffffff\n", 40, ["CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"]),
        (WHOLE, 45, []),  # capabilities newer than this program
        ("CapBnd:\t000001fffffffffe\n", 40, ["CAP_CHOWN"]),
    ],
)
def test_what_is_missing_is_computed(status: str, last: int, missing: list[str]) -> None:
    assert runc_bounded.missing_capabilities(status, last) == missing


def test_the_numbers_of_capabilities_are_the_kernels() -> None:
    numbers = {name: number for number, name in enumerate(runc_bounded.CAPABILITIES)}
    known = {"NET_ADMIN": 12, "SYS_ADMIN": 21, "SYS_RESOURCE": 24, "SETFCAP": 31, "SYSLOG": 34, "BPF": 39}
    assert {name: numbers[name] for name in known} == known
    assert len(numbers) == 41


@pytest.mark.parametrize(
    ("own", "wanted", "given"), [(0, -999, 0), (-500, -999, -500), (-500, -300, -300), (1, -999, 0), (1, 500, 500)]
)
def test_a_score_that_needs_the_capability_is_raised(own: int, wanted: int, given: int) -> None:
    process = {"oomScoreAdj": wanted}
    runc_bounded.restrict(process, ["CAP_SYS_RESOURCE"], own)
    assert process == {"oomScoreAdj": given}


def test_a_score_that_can_be_had_stays() -> None:
    process = {"oomScoreAdj": -999, "capabilities": {"bounding": ["CAP_BPF", "CAP_KILL"], "ambient": None}}
    runc_bounded.restrict(process, ["CAP_BPF"], 0)
    assert process == {"oomScoreAdj": -999, "capabilities": {"bounding": ["CAP_KILL"], "ambient": []}}


@pytest.mark.parametrize("process", [{}, {"capabilities": None}, {"oomScoreAdj": None}])
def test_nothing_asked_is_nothing_changed(process: dict[str, Any]) -> None:
    before = dict(process)
    runc_bounded.restrict(process, ["CAP_SYS_RESOURCE"], 0)
    assert process == before


GLOBAL = ["--root", "/run/create", "--log=/x/log.json", "--log-format", "json", "--systemd-cgroup"]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ([*GLOBAL, "create", "--bundle", "/b", "--pid-file", "/p", "exec"], ("/b/config.json", False)),
        ([*GLOBAL, "run", "-b=/b", "name"], ("/b/config.json", False)),
        (["create", "name"], ("config.json", False)),
        ([*GLOBAL, "exec", "--process", "/tmp/p.json", "--detach", "create"], ("/tmp/p.json", True)),
        (["exec", "name", "sh"], None),
        ([*GLOBAL, "delete", "--force", "run"], None),
        (["--root", "create", "state", "run"], None),
        (["--version"], None),
        (["create", "--bundle"], ("config.json", False)),
        ([], None),
    ],
)
def test_the_specification_is_found_by_the_command_and_not_by_names(
    arguments: list[str], found: tuple[str, bool] | None
) -> None:
    answer = runc_bounded.specification(arguments)
    assert (answer and (str(answer[0]), answer[1])) == found


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program with a runc that prints its arguments."""
    runc = folder / "runc"
    runc.write_text('#!/bin/sh\necho "runc $*"\n')
    runc.chmod(0o755)
    return subprocess.run(
        [sys.executable, "-IS", str(PROGRAM), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
    )


def test_runc_gets_every_argument_and_only_what_can_be_had(tmp_path: Path) -> None:
    lacks = runc_bounded.of_process("self")
    every = [f"CAP_{name}" for name in runc_bounded.CAPABILITIES]
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"ociVersion": "1.0.2", "process": {"capabilities": {"bounding": every}}}))
    config.chmod(0o640)
    done = call(tmp_path, "--log-format", "json", "create", "--bundle", str(tmp_path), "a b")
    assert (done.returncode, done.stdout) == (0, f"runc --log-format json create --bundle {tmp_path} a b\n")
    spec = json.loads(config.read_text())
    assert spec["process"]["capabilities"]["bounding"] == [name for name in every if name not in lacks]
    assert config.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "runc"]


@pytest.mark.parametrize("content", [None, "", "[]", '{"process": 7}'])
def test_what_is_no_specification_is_left_to_runc(tmp_path: Path, content: str | None) -> None:
    config = tmp_path / "config.json"
    if content is not None:
        config.write_text(content)
    done = call(tmp_path, "create", "--bundle", str(tmp_path), "name")
    assert (done.returncode, "runc create" in done.stdout) == (0, True), done.stderr
    assert "Traceback" not in done.stderr
    if content is not None:
        assert config.read_text() == content


def test_a_specification_is_replaced_as_a_whole_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.json"
    before = json.dumps({"process": {"capabilities": {"bounding": ["CAP_BPF"]}}})
    config.write_text(before)

    def full(*_args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(runc_bounded.json, "dump", full)
    with pytest.raises(OSError, match="disk full"):
        runc_bounded.rewrite(config, False, ["CAP_BPF"], 0)
    assert config.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_in_the_place_of_runc_it_runs_the_one_it_replaced(tmp_path: Path) -> None:
    (tmp_path / "runc.real").touch()
    assert runc_bounded.runc(tmp_path / "runc") == str(tmp_path / "runc.real")


def test_it_tells_what_the_first_living_process_lacks(tmp_path: Path) -> None:
    stale = tmp_path / "docker.pid"
    stale.write_text("4194305\n")
    done = call(tmp_path, "missing-capabilities", str(stale), "/nonexistent.pid", "self")
    assert (done.returncode, done.stdout.split()) == (0, runc_bounded.of_process("self"))
    done = call(tmp_path, "missing-capabilities", str(stale))
    assert (done.returncode, "None of these" in done.stderr) == (1, True)
