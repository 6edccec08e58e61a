"""Images by skopeo and wheels by pip: verified before they have a name, and each failure in one sentence."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils import fetching
from ansible_collections.vigie.observability.plugins.module_utils.bundle import Destination
from ansible_collections.vigie.observability.plugins.module_utils.fetching import Image, Wheel, Wheels
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

REF = "docker.io/axllent/mailpit:v1.30.5"
RAW = b'{"manifests": []}'
DIGEST = f"sha256:{hashlib.sha256(RAW).hexdigest()}"


def archive(architecture: str = "amd64", names: list[str] | None = None) -> bytes:
    """Return an archive as skopeo writes it."""
    raw = io.BytesIO()
    members: dict[str, Any] = {
        "config.json": {"os": "linux", "architecture": architecture},
        "manifest.json": [{"Config": "config.json", "RepoTags": names or [REF], "Layers": []}],
    }
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in members.items():
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return raw.getvalue()


@pytest.fixture
def skopeo(tmp_path: Path) -> Callable[..., str]:
    """Return a function that makes a stand-in for skopeo, which records how it is called."""

    def make(copied: bytes = b"", told: str = "", status: int = 0, inspected: bytes = RAW, copy: str = "") -> str:
        (tmp_path / "raw").write_bytes(inspected)
        (tmp_path / "copied").write_bytes(copied or archive())
        (tmp_path / "told").write_text(told)
        script = f"""#!/bin/sh
echo "$@" >> {tmp_path}/calls
cat {tmp_path}/told >&2
case " $* " in
*" inspect "*) cat {tmp_path}/raw; exit {0 if copy else status} ;;
esac
{copy}
for last; do :; done
path=${{last#docker-archive:}}
cp {tmp_path}/copied "${{path%%:*}}"
exit {status}
"""
        program = tmp_path / "skopeo"
        program.write_text(script)
        program.chmod(0o755)
        return str(program)

    return make


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[str]]:
    return lambda: (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []


def image(program: str, **changed: Any) -> Image:
    return Image(**{"ref": REF, "source": REF, "architecture": "amd64", "skopeo": program, **changed})


def bring(wanted: Image, folder: Path) -> Destination:
    destination = Destination(folder / "images" / "mailpit.tar", 0o644)
    destination.install_made(lambda: wanted.recorded_as(destination.origin()), wanted.make)
    return destination


def fault(wanted: Image, folder: Path) -> CheckError:
    with pytest.raises(CheckError) as caught:
        bring(wanted, folder)
    assert not list((folder / "images").iterdir())
    return caught.value


def test_an_image_is_copied_by_its_digest_for_its_architecture_and_only_once(
    tmp_path: Path, skopeo: Callable[..., str], calls: Callable[[], list[str]]
) -> None:
    mirror = "127.0.0.1:5000/hub/axllent/mailpit:v1.30.5"
    wanted = image(skopeo(archive("arm64")), source=mirror, architecture="arm64", digest=DIGEST)
    destination = bring(wanted, tmp_path)
    inspected, copied = calls()
    assert inspected == f"inspect --raw docker://{mirror}"
    assert f"copy --quiet docker://127.0.0.1:5000/hub/axllent/mailpit@{DIGEST} docker-archive:" in copied
    assert "--override-arch=arm64" in copied and copied.endswith(f":{REF}")
    assert destination.path.read_bytes() == archive("arm64")
    assert destination.path.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in destination.path.parent.iterdir()) == [".mailpit.tar.source", "mailpit.tar"]
    assert wanted.recorded_as(destination.origin())
    bring(wanted, tmp_path)
    assert len(calls()) == 2


@pytest.mark.parametrize(
    ("changed", "fits"),
    [
        ({}, True),
        ({"digest": DIGEST}, True),
        ({"digest": "sha256:" + "0" * 64}, False),
        ({"ref": "docker.io/axllent/mailpit:v2"}, False),
        ({"architecture": "arm64"}, False),
        ({"source": "mirror.example.org/mailpit:v1"}, True),  # whoever it came from, it is the one
    ],
)
def test_what_is_there_is_known_by_its_record(
    tmp_path: Path, skopeo: Callable[..., str], changed: dict[str, str], fits: bool
) -> None:
    program = skopeo()
    destination = bring(image(program), tmp_path)
    assert image(program, **changed).recorded_as(destination.origin()) is fits


def test_an_altered_file_is_copied_again(
    tmp_path: Path, skopeo: Callable[..., str], calls: Callable[[], list[str]]
) -> None:
    wanted = image(skopeo())
    destination = bring(wanted, tmp_path)
    destination.path.write_bytes(b"altered")
    assert destination.origin() == {}
    bring(wanted, tmp_path)
    assert destination.path.read_bytes() == archive()
    assert len(calls()) == 4


def test_what_an_interrupted_run_left_is_removed(tmp_path: Path, skopeo: Callable[..., str]) -> None:
    left = tmp_path / "images" / ".mailpit.tar.part-abc"
    left.mkdir(parents=True)
    (left / "image.tar").write_bytes(b"half")
    bring(image(skopeo()), tmp_path)
    assert not left.exists()


@pytest.mark.parametrize(
    "case",
    [
        ({}, {"digest": "sha256:" + "0" * 64}, "digest_mismatch", [DIGEST, "expected sha256:000", "was moved"]),
        ({"copied": archive("amd64")}, {"architecture": "arm64"}, "architecture_missing", ["not there for arm64", "linux/amd64"]),
        ({"copied": b"no tar"}, {}, "download_failed", ["no usable archive"]),
        ({"copied": archive(names=["x"])}, {}, "download_failed", ["under the names ['x']", REF]),
        (
            {"status": 1, "told": 'time="x" level=fatal msg="reading manifest v1: \\"manifest unknown\\""\n'},
            {},
            "download_failed",
            ['(reading manifest v1: "manifest unknown")', "inspect --raw docker://", "a mirror"],
        ),
        (
            {
                "status": 1,
                "copy": "true",
                "told": 'level=fatal msg="no image found in manifest list for architecture amd64, variant \\"\\", OS linux"',
            },
            {},
            "architecture_missing",
            ["not there for amd64", "manifest list"],
        ),
        ({"status": 1, "told": 'level=fatal msg="write: no space left on device"'}, {}, "disk_full", ["images"]),
        ({"status": 3}, {}, "download_failed", ["it said nothing"]),
        ({"copy": "sleep 60"}, {"timeout": 0.3}, "download_failed", ["stood still for 0.3 s"]),
    ],
)  # fmt: skip
def test_nothing_but_a_whole_and_right_image_gets_a_name(
    tmp_path: Path,
    skopeo: Callable[..., str],
    case: tuple[dict[str, Any], dict[str, Any], str, list[str]],
) -> None:
    options, changed, reason, parts = case
    error = fault(image(skopeo(**options), **changed), tmp_path)
    assert error.reason == reason
    for part in parts:
        assert part in error.hint


def test_who_goes_on_writing_may_take_its_time(tmp_path: Path, skopeo: Callable[..., str]) -> None:
    slow = 'for last; do :; done; path=${last#docker-archive:}; path=${path%%:*}; for n in 1 2 3 4; do echo x >> "${path%/*}/blob"; sleep 0.4; done'
    bring(image(skopeo(copy=slow), timeout=0.9), tmp_path)


def test_without_skopeo_its_package_is_named(tmp_path: Path) -> None:
    error = fault(image(str(tmp_path / "nowhere" / "skopeo")), tmp_path)
    assert error.reason == "program_missing"
    assert "apt-get install skopeo" in error.hint


@pytest.mark.parametrize(
    "ref", ["mailpit", "axllent/mailpit:v1", "docker.io/axllent/mailpit", "docker.io/x:v1 y", "-x.io/y:v1 "]
)
def test_a_reference_names_its_registry_and_its_tag(ref: str) -> None:
    with pytest.raises(CheckError, match="is no image"):
        image("skopeo", ref=ref)


@pytest.mark.parametrize(("option", "value"), [("digest", "sha256:00"), ("timeout", 0)])
def test_impossible_options_of_an_image(option: str, value: Any) -> None:
    with pytest.raises(CheckError, match=option):
        image("skopeo", **{option: value})


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., str]:
    """Return a function that makes a stand-in for a Python with pip."""

    def make(content: bytes | None, told: str = "", status: int = 0) -> str:
        (tmp_path / "told").write_text(told)
        (tmp_path / "content").write_bytes(content or b"")
        bring = f'cp {tmp_path}/content "${{word#--dest=}}/x-1.0-py3-none-any.whl"' if content is not None else "true"
        program = tmp_path / "python"
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ncat {tmp_path}/told >&2\n'
            f'for word; do case "$word" in --dest=*) {bring} ;; esac; done\nexit {status}\n'
        )
        program.chmod(0o755)
        return str(program)

    return make


WHEEL = b"wheel"
SUM = hashlib.sha256(WHEEL).hexdigest()


def test_a_wheel_is_downloaded_by_its_hash(
    tmp_path: Path, python: Callable[..., str], calls: Callable[[], list[str]]
) -> None:
    wheel = Wheel("ansible==14.5.0", SUM, "3.12", python(WHEEL))
    destination = Destination(tmp_path / "out" / "ansible-14.5.0-py3-none-any.whl", 0o644)
    assert destination.install_made(lambda: destination.holds(SUM), wheel.make)
    assert destination.path.read_bytes() == WHEEL
    assert [path.name for path in destination.path.parent.iterdir()] == [destination.path.name]
    (call,) = calls()
    assert all(word in call for word in ("-m pip", "--no-deps", "--require-hashes", "--python-version=3.12"))


@pytest.mark.parametrize(
    "case",
    [
        (None, "WARNING: x\nERROR: No matching distribution found for x==1\n", 1, "download_failed", "(ERROR: No matching distribution"),
        (None, "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", 1, "checksum_mismatch", SUM),
        (b"other", "", 0, "download_failed", "it said nothing"),
        (None, "python: No module named pip", 1, "program_missing", "python3-pip"),
        (None, "ERROR: [Errno 28] No space left on device", 1, "disk_full", "out"),
    ],
)  # fmt: skip
def test_nothing_but_the_right_wheel_gets_a_name(
    tmp_path: Path, python: Callable[..., str], case: tuple[bytes | None, str, int, str, str]
) -> None:
    content, told, status, reason, part = case
    wheel = Wheel("x==1.0", SUM, "", python(content, told, status))
    destination = Destination(tmp_path / "out" / "x.whl", 0o644)
    with pytest.raises(CheckError) as caught:
        destination.install_made(lambda: False, wheel.make)
    assert caught.value.reason == reason
    assert part in caught.value.hint
    assert not list(destination.path.parent.iterdir())


@pytest.mark.parametrize(
    ("requirement", "sha256", "timeout"), [("x", SUM, 1), ("x==1", "0", 1), ("x==1", SUM, 0), ("-r==1", SUM, 1)]
)
def test_impossible_options_of_a_wheel(requirement: str, sha256: str, timeout: float) -> None:
    with pytest.raises(CheckError) as caught:
        Wheel(requirement, sha256, timeout=timeout)
    assert caught.value.reason == "bad_option"


def package(folder: Path, name: str, *tags: str) -> str:
    """Write wheels of a package for pip to find; return its line of the list."""
    folder.mkdir(exist_ok=True)
    sums = []
    for tag in tags:
        path = folder / f"{name}-1.0-{tag}.whl"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            file.writestr(f"{name}-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
            file.writestr(f"{name}-1.0.dist-info/RECORD", "")
        sums.append(f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
    return f"{name}==1.0 {' '.join(sums)}\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Wheels]:
    """Return a function that says which wheels are wanted of two packages, which pip finds in a folder."""
    folder = tmp_path / "index"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    native = [
        f"cp{python}-cp{python}-manylinux_2_28_{machine}" for python in (311, 313) for machine in ("x86_64", "aarch64")
    ]
    lines = [package(folder, "pure", "py3-none-any"), package(folder, "native", *native, "cp313-cp313-win_amd64")]
    (tmp_path / "list.txt").write_text("".join(lines))

    def wheels(python_version: str = "3.13", architecture: str = "amd64", **options: Any) -> Wheels:
        return Wheels(tmp_path / "list.txt", python_version, architecture, **{"python": sys.executable, **options})

    return wheels


def test_the_wheels_of_a_list_are_those_for_that_python_and_machine(
    tmp_path: Path, index: Callable[..., Wheels]
) -> None:
    out = tmp_path / "out" / "wheels"
    wheels = index()
    assert not wheels.are_in(out)
    wheels.bring(out)
    assert wheels.are_in(out)
    assert sorted(path.name for path in out.iterdir()) == [
        "native-1.0-cp313-cp313-manylinux_2_28_x86_64.whl",
        "pure-1.0-py3-none-any.whl",
    ]
    other = index("3.11", "arm64")
    assert not other.are_in(out)
    other.bring(out)
    assert wheels.are_in(out) and other.are_in(out)
    assert len(list(out.iterdir())) == 3


def test_altered_wheels_are_no_wheels_and_are_brought_again(tmp_path: Path, index: Callable[..., Wheels]) -> None:
    wheels = index()
    wheels.bring(tmp_path / "out")
    good = (tmp_path / "out" / "pure-1.0-py3-none-any.whl").read_bytes()
    (tmp_path / "out" / "pure-1.0-py3-none-any.whl").write_bytes(good + b"x")
    (tmp_path / "out" / ".wheels.part-killed").mkdir()
    assert not wheels.are_in(tmp_path / "out")
    wheels.bring(tmp_path / "out")
    assert (tmp_path / "out" / "pure-1.0-py3-none-any.whl").read_bytes() == good
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_wheels_for_a_newer_c_library_are_none(tmp_path: Path, index: Callable[..., Wheels]) -> None:
    line = package(tmp_path / "index", "newer", f"cp313-cp313-manylinux_2_{fetching.NEWEST_GLIBC + 1}_x86_64")
    (tmp_path / "list.txt").write_text(line)
    with pytest.raises(CheckError, match=r"newer==1\.0") as caught:
        index().bring(tmp_path / "out")
    assert caught.value.reason == "download_failed"
    assert list((tmp_path / "out").iterdir()) == []


def test_another_wheel_than_the_lists_is_refused(tmp_path: Path, index: Callable[..., Wheels]) -> None:
    (tmp_path / "list.txt").write_text(f"pure==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(CheckError, match="pure is not among those with the SHA-256 of the list") as caught:
        index().bring(tmp_path / "out")
    assert caught.value.reason == "checksum_mismatch"
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("told", "reason"),
    [("python: No module named pip", "program_missing"), ("ERROR: No space left on device", "disk_full")],
)
def test_what_pip_lacks_is_named(
    tmp_path: Path, index: Callable[..., Wheels], python: Callable[..., str], told: str, reason: str
) -> None:
    wheels = index(python=python(None, told, 1))
    with pytest.raises(CheckError) as caught:
        wheels.bring(tmp_path / "out")
    assert caught.value.reason == reason
    with pytest.raises(CheckError):
        wheels.are_in(tmp_path / "out")


def test_impossible_options_of_wheels(tmp_path: Path, index: Callable[..., Wheels]) -> None:
    for options in ({"python_version": "3"}, {"timeout": 0}):
        with pytest.raises(CheckError, match=next(iter(options))):
            index(**options)
    (tmp_path / "taken").write_text("")
    with pytest.raises(CheckError, match="taken"):
        index().bring(tmp_path / "taken")
    (tmp_path / "list.txt").unlink()
    with pytest.raises(CheckError, match=r"list.txt is no file"):
        index()


def test_a_file_that_vanishes_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").write_bytes(b"123")
    monkeypatch.setattr(os, "walk", lambda _folder: [(str(tmp_path), [], ["there", "gone"])])
    assert fetching._size(tmp_path) == 3
