"""Names, parsing and the paths of PackageFolder that need no apt; apt itself is met in tests/contract_mail."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.vigie.observability.plugins.module_utils import packages
from ansible_collections.vigie.observability.plugins.module_utils.packages import (
    Apt,
    PackageFolder,
    Unpacked,
    first_error,
    folder_version,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError


@pytest.fixture
def folder(tmp_path: Path) -> PackageFolder:
    return PackageFolder("hello", tmp_path / "packages", tmp_path / "cache")


def unpacked(folder: PackageFolder, version: str, *, linked: bool = True) -> Path:
    path = folder.dest / f"hello_{version}_amd64"
    path.mkdir(parents=True)
    if linked:
        folder.link.unlink(missing_ok=True)
        folder.link.symlink_to(path.name)
    return path


def present(folder: PackageFolder, tmp_path: Path, **options) -> Unpacked:
    arguments = {"version": None, "upgrade": False, "keep": False, "check_mode": False, "temporary": tmp_path}
    return folder.present(**{**arguments, **options})


@pytest.fixture
def no_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever calls apt here is wrong."""
    monkeypatch.setattr(packages.subprocess, "run", lambda *a, **k: pytest.fail(f"called {a}"))


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("hello_2.10-3_amd64", "2.10-3"),
        ("dovecot-core_1%3a2.3.19_amd64", "1:2.3.19"),
        ("prometheus_2.42.0+ds-5_amd64", "2.42.0+ds-5"),
        ("hello", ""),
        ("hello_2.10-3", ""),
    ],
)
def test_version_of_a_folder(name: str, version: str) -> None:
    assert folder_version(name) == version


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("W: old\nE: Unable to locate package x\n", "Unable to locate package x"),
        ("W: Failed to fetch http://m/x\n", "Failed to fetch http://m/x"),
        ("something\nlast words\n", "last words"),
        ("", "no message"),
    ],
)
def test_first_error_prefers_errors(text: str, line: str) -> None:
    assert first_error(text) == line


@pytest.mark.parametrize("name", ["Hello", "../x", "x", "a b", "-oDir=/x", ""])
def test_names_that_are_no_package(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckError) as caught:
        PackageFolder(name, tmp_path, tmp_path)
    assert caught.value.reason == "bad_option"


def test_version_that_is_none(folder: PackageFolder, tmp_path: Path) -> None:
    with pytest.raises(CheckError) as caught:
        present(folder, tmp_path, version="1 2")
    assert caught.value.reason == "bad_option"


@pytest.mark.usefixtures("no_apt")
@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("version", [None, "2.10-3"])
def test_unpacked_already_needs_no_apt(
    folder: PackageFolder, tmp_path: Path, version: str | None, check_mode: bool
) -> None:
    path = unpacked(folder, "2.10-3")
    done = present(folder, tmp_path, version=version, check_mode=check_mode)
    assert done == Unpacked(False, "2.10-3", str(path))


@pytest.mark.usefixtures("no_apt")
def test_an_exact_version_that_was_kept_is_linked_again(folder: PackageFolder, tmp_path: Path) -> None:
    old = unpacked(folder, "2.9-1")
    new = unpacked(folder, "2.10-3")
    assert present(folder, tmp_path, version="2.9-1", check_mode=True) == Unpacked(True, "2.9-1", str(old))
    assert folder.current() == new
    assert present(folder, tmp_path, version="2.9-1") == Unpacked(True, "2.9-1", str(old))
    assert folder.current() == old


@pytest.mark.usefixtures("no_apt")
def test_leftovers_are_removed_and_reported(folder: PackageFolder, tmp_path: Path) -> None:
    unpacked(folder, "2.10-3")
    leftover = folder.dest / ".hello.unpack-abc"
    (leftover / "usr").mkdir(parents=True)
    neighbour = folder.dest / ".hello-traditional.unpack-abc"
    neighbour.mkdir()
    assert present(folder, tmp_path, check_mode=True).changed
    assert leftover.exists()
    assert present(folder, tmp_path).changed
    assert not leftover.exists()
    assert neighbour.exists()
    assert not present(folder, tmp_path).changed


def test_a_dangling_link_is_not_taken_for_the_package(folder: PackageFolder) -> None:
    unpacked(folder, "2.10-3").rmdir()
    assert folder.current() is None


def test_something_else_in_the_place_of_the_link_is_left_alone(folder: PackageFolder, tmp_path: Path) -> None:
    folder.link.mkdir(parents=True)
    for action in (lambda: present(folder, tmp_path), lambda: folder.absent(check_mode=False)):
        with pytest.raises(CheckError) as caught:
            action()
        assert caught.value.reason == "dest_occupied"
    assert folder.link.is_dir()


@pytest.mark.usefixtures("no_apt")
def test_absent_removes_all_that_belongs_to_the_package(folder: PackageFolder) -> None:
    unpacked(folder, "2.9-1")
    unpacked(folder, "2.10-3")
    neighbour = folder.dest / "hello-traditional_2.10_amd64"
    neighbour.mkdir()
    folder.cache.mkdir()
    (folder.cache / "hello_2.10-3_amd64.deb").touch()
    assert folder.absent(check_mode=True).changed
    assert folder.link.exists()
    assert folder.absent(check_mode=False).changed
    assert list(folder.dest.iterdir()) == [neighbour]
    assert list(folder.cache.iterdir()) == []
    assert not folder.absent(check_mode=False).changed


def test_absent_of_what_never_was_makes_no_folder(folder: PackageFolder) -> None:
    assert not folder.absent(check_mode=False).changed
    assert not folder.dest.exists()


def test_a_host_without_apt(folder: PackageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for check_mode in (True, False):
        with pytest.raises(CheckError) as caught:
            present(folder, tmp_path, check_mode=check_mode)
        assert caught.value.reason == "apt_missing"
        assert "Debian or Ubuntu" in caught.value.hint


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_file_where_the_folder_should_be(folder: PackageFolder, tmp_path: Path, check_mode: bool) -> None:
    folder.dest.touch()
    with pytest.raises(CheckError) as caught:
        present(folder, tmp_path, check_mode=check_mode)
    assert caught.value.reason == "bad_option"
    assert str(folder.dest) in caught.value.hint


def test_configuration_keeps_the_system_and_drops_hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = (
        'Acquire::http::Proxy "http://p:3128/";\nAPT::Update::Post-Invoke:: "rm -rf /x";\nDir::Cache "var/cache/apt";\n'
    )
    monkeypatch.setattr(packages.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    monkeypatch.setattr(
        packages.subprocess, "run", lambda *a, **k: packages.subprocess.CompletedProcess(a, 0, dump, "")
    )
    config = tmp_path / "apt.conf"
    Apt(tmp_path / "cache", config).configure()
    text = config.read_text()
    assert 'Acquire::http::Proxy "http://p:3128/";' in text
    assert "Invoke" not in text
    assert text.index('Dir::Cache "var/cache/apt"') < text.index(f'Dir::Cache "{tmp_path}/cache/apt/cache"')


def test_relocate_changes_compiled_in_folders_once(folder: PackageFolder) -> None:
    program = unpacked(folder, "2.10-3") / "usr" / "bin" / "hello"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"\0/usr/share/hello\0/usr/share/other\0")
    program.chmod(0o755)
    (program.parent / "alias").symlink_to("hello")
    path = program.parents[2]
    assert folder.relocate(path, ["/usr/share/hello"], check_mode=True)
    assert b"/usr/share/hello" in program.read_bytes()
    assert folder.relocate(path, ["/usr/share/hello"], check_mode=False)
    assert program.read_bytes() == b"\0usr/share/hello/\0/usr/share/other\0"
    assert program.stat().st_mode & 0o777 == 0o755
    assert not folder.relocate(path, ["/usr/share/hello"], check_mode=False)
    assert not folder.leftovers()
