"""The reader of bundles: each fault is one reason and one sentence that names it."""

from __future__ import annotations

import ast
import builtins
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.vigie.observability.plugins.module_utils import bundle as subject
from ansible_collections.vigie.observability.plugins.module_utils.bundle import (
    REASONS,
    Bundle,
    Destination,
    Upstream,
    host_architecture,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError
from ansible_collections.vigie.observability.plugins.modules import artifact as module

CONTENT = b"#!/bin/sh\necho helm\n"


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "name": "helm",
        "version": "4.2.4",
        "kind": "binary",
        "architecture": "amd64",
        "file": "binaries/helm",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        **changes,
    }


def write(root: Path, *entries: Any, text: str | None = None) -> Path:
    """Make a bundle with the one file that entry() names."""
    (root / "binaries").mkdir(parents=True, exist_ok=True)
    (root / "binaries" / "helm").write_bytes(CONTENT)
    (root / "manifest.yml").write_text(yaml.safe_dump(list(entries)) if text is None else text)
    return root


def refused(call: Any, *args: Any) -> CheckError:
    with pytest.raises(CheckError) as caught:
        call(*args)
    assert caught.value.reason in REASONS
    return caught.value


def test_a_listed_artifact_is_found_and_verified(tmp_path: Path) -> None:
    bundle = Bundle(write(tmp_path, entry(), entry(architecture="arm64", file="binaries/other"), entry(name="kubectl")))
    found = bundle.find("helm", "4.2.4", "binary", "amd64")
    assert found.file == "binaries/helm"
    assert bundle.verify(found) == tmp_path / "binaries/helm"
    assert bundle.find("helm", "4.2.4", "binary", "arm64").file == "binaries/other"


def test_the_only_version_is_found_without_naming_it(tmp_path: Path) -> None:
    assert Bundle(write(tmp_path, entry())).find("helm", None, "binary", "amd64").version == "4.2.4"


def test_noarch_fits_every_host_and_the_exact_one_is_preferred(tmp_path: Path) -> None:
    bundle = Bundle(write(tmp_path, entry(architecture="noarch"), entry(architecture="arm64")))
    assert bundle.find("helm", "4.2.4", "binary", "amd64").architecture == "noarch"
    assert bundle.find("helm", "4.2.4", "binary", "arm64").architecture == "arm64"


def test_further_keys_are_ignored(tmp_path: Path) -> None:
    assert Bundle(write(tmp_path, entry(ref="docker.io/x:1"))).artifacts[0].name == "helm"


def test_a_link_within_the_bundle_is_fine(tmp_path: Path) -> None:
    bundle = Bundle(write(tmp_path, entry(file="binaries/link")))
    (tmp_path / "binaries/link").symlink_to("helm")
    assert bundle.verify(bundle.artifacts[0]) == tmp_path / "binaries/link"


def test_a_bundle_behind_a_link_is_fine(tmp_path: Path) -> None:
    write(tmp_path / "real", entry())
    (tmp_path / "link").symlink_to("real")
    bundle = Bundle(tmp_path / "link")
    assert bundle.verify(bundle.artifacts[0]).is_file()


def test_no_folder_and_no_manifest_are_told_apart(tmp_path: Path) -> None:
    error = refused(Bundle, tmp_path / "gone")
    assert (error.reason, "gone is no folder" in error.hint) == ("bundle_missing", True)
    error = refused(Bundle, tmp_path)
    assert (error.reason, "has no file manifest.yml" in error.hint) == ("bundle_missing", True)
    (tmp_path / "file").touch()
    assert refused(Bundle, tmp_path / "file").reason == "bundle_missing"


def test_an_unreadable_bundle_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Played, as root may read everything."""

    def denied(*_args: Any, **_kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    bundle = Bundle(write(tmp_path, entry()))
    monkeypatch.setattr(subject, "sha256_of", denied)
    error = refused(bundle.verify, bundle.artifacts[0])
    assert (error.reason, f"{tmp_path}/binaries/helm can't be read" in error.hint) == ("permission_denied", True)
    monkeypatch.setattr(subject.Path, "read_text", denied)
    error = refused(Bundle, tmp_path)
    assert (error.reason, f"{tmp_path}/manifest.yml can't be read" in error.hint) == ("permission_denied", True)


def test_without_a_yaml_reader_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_yaml(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_yaml)
    error = refused(Bundle, tmp_path)
    assert (error.reason, "install python3-yaml" in error.hint) == ("missing_library", True)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "it is no list of artifacts"),
        ("[]", "it is no list of artifacts"),
        ("artifacts: []", "it is no list of artifacts"),
        ("- name: [", "line 1 is no YAML"),
        ("- name: a\n  name : : b\n", "line 2 is no YAML"),
        ("- {? [a]: b}", "line 1 is no YAML"),
        ("\0", "it is no YAML text"),
        ("[" * 5000, "it is no YAML text"),
        ("- helm", "entry 1 is no mapping"),
        ("- {}", "entry 1 has no name"),
    ],
)
def test_a_malformed_manifest_is_one_sentence(tmp_path: Path, text: str, part: str) -> None:
    error = refused(Bundle, write(tmp_path, text=text))
    assert error.reason == "manifest_invalid"
    assert part in error.hint and "\n" not in error.hint


def test_a_manifest_that_is_no_text(tmp_path: Path) -> None:
    write(tmp_path, entry())
    (tmp_path / "manifest.yml").write_bytes(b"\xff\xfe\x00\x80")
    assert refused(Bundle, tmp_path).reason == "manifest_invalid"


@pytest.mark.parametrize("key", ["name", "version", "kind", "architecture", "file", "sha256"])
def test_a_missing_key_is_named_with_its_entry(tmp_path: Path, key: str) -> None:
    broken = entry()
    del broken[key]
    error = refused(Bundle, write(tmp_path, entry(name="kubectl"), broken))
    assert error.reason == "manifest_invalid"
    assert re.search(rf"entry 2( \(helm\))? has no {key};", error.hint)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"version": 1.1}, "version of entry 2 (helm) is a number, not text: write it in quotes"),
        ({"version": True}, "version of entry 2 (helm) is true or false"),
        ({"version": None}, "version of entry 2 (helm) is empty"),
        ({"name": " "}, "is empty"),
        ({"name": 7}, "name of entry 2 is a number"),
        ({"file": ["a"]}, "file of entry 2 (helm) is a list"),
        ({"kind": "program"}, "kind of entry 2 (helm) is 'program', not one of binary, image, chart, collection"),
        ({"architecture": "x86_64"}, "architecture of entry 2 (helm) is 'x86_64', not one of amd64, arm64, noarch"),
        ({"sha256": "abc"}, "sha256 of entry 2 (helm) is 'abc'"),
        ({"sha256": "A" * 64}, "not 64 hex digits in lower case"),
        ({"sha256": "a" * 64 + "\n"}, "not 64 hex digits in lower case"),
    ],
)
def test_a_wrong_value_is_named_with_entry_and_key(tmp_path: Path, changes: dict[str, Any], part: str) -> None:
    error = refused(Bundle, write(tmp_path, entry(name="kubectl"), entry(**changes)))
    assert error.reason == "manifest_invalid"
    assert part in error.hint


def test_a_duplicate_names_both_entries(tmp_path: Path) -> None:
    error = refused(Bundle, write(tmp_path, entry(), entry(name="kubectl"), entry(file="other")))
    assert error.reason == "manifest_invalid"
    assert "entries 1 and 3 are both helm 4.2.4 (binary, amd64)" in error.hint


@pytest.mark.parametrize("file", ["../helm", "binaries/../../helm", "/etc/passwd", ".", "a\0b"])
def test_a_path_out_of_the_bundle_is_refused(tmp_path: Path, file: str) -> None:
    error = refused(Bundle, write(tmp_path, entry(file=file)))
    assert error.reason == "path_escape"
    assert "entry 1 (helm)" in error.hint


@pytest.mark.parametrize("link", ["binaries/link", "elsewhere/helm"])
def test_a_link_out_of_the_bundle_is_refused(tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "helm").write_bytes(CONTENT)
    root = write(tmp_path / "bundle", entry(file=link))
    (root / "binaries/link").symlink_to(outside / "helm")
    (root / "elsewhere").symlink_to(outside)
    bundle = Bundle(root)
    error = refused(bundle.verify, bundle.artifacts[0])
    assert (error.reason, str(outside / "helm") in error.hint) == ("path_escape", True)


@pytest.mark.parametrize(
    ("wanted", "reason", "part"),
    [
        (("jq", "1.7", "binary", "amd64"), "artifact_missing", "has no binary jq (it has helm, kubectl)"),
        (("helm", "4.2.4", "chart", "noarch"), "artifact_missing", "has no chart helm (it has helm as binary)"),
        (("jq", "1.7", "image", "amd64"), "artifact_missing", "has no image jq (it has none)"),
        (("helm", "4.2.3", "binary", "amd64"), "version_missing", "helm in version 4.2.4, 4.3.1, not 4.2.3"),
        (("helm", "4.2.4", "binary", "arm64"), "architecture_missing", "helm 4.2.4 for amd64, not for arm64"),
        (("helm", None, "binary", "amd64"), "version_ambiguous", "helm in versions 4.2.4, 4.3.1"),
    ],
)
def test_what_is_not_listed_is_named(tmp_path: Path, wanted: tuple[Any, ...], reason: str, part: str) -> None:
    bundle = Bundle(write(tmp_path, entry(), entry(version="4.3.1"), entry(name="kubectl")))
    error = refused(bundle.find, *wanted)
    assert error.reason == reason
    assert part in error.hint


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"\n", b"other"])
def test_an_altered_or_partial_file_is_told_with_both_checksums(tmp_path: Path, content: bytes) -> None:
    bundle = Bundle(write(tmp_path, entry()))
    (tmp_path / "binaries/helm").write_bytes(content)
    error = refused(bundle.verify, bundle.artifacts[0])
    assert error.reason == "checksum_mismatch"
    assert f"({len(content)} bytes)" in error.hint
    assert entry()["sha256"] in error.hint and hashlib.sha256(content).hexdigest() in error.hint


@pytest.mark.parametrize("place", ["gone", "binaries", "dangling", "loop"])
def test_a_listed_file_that_is_not_there_is_named(tmp_path: Path, place: str) -> None:
    bundle = Bundle(write(tmp_path, entry(file=place)))
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    error = refused(bundle.verify, bundle.artifacts[0])
    assert (error.reason, str(tmp_path / place) in error.hint) == ("file_missing", True)


def test_the_architecture_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, word in (("x86_64", "amd64"), ("aarch64", "arm64")):
        monkeypatch.setattr(subject.platform, "machine", lambda machine=machine: machine)
        assert host_architecture() == word
    monkeypatch.setattr(subject.platform, "machine", lambda: "riscv64")
    error = refused(host_architecture)
    assert (error.reason, "This host is riscv64" in error.hint) == ("architecture_missing", True)


@pytest.mark.parametrize(
    "url", ["", "helm", "file:///etc/passwd", "ftp://host/x", "https://", "https://[", "http://h/a b"]
)
def test_an_address_that_cannot_be_used_is_refused(url: str) -> None:
    assert refused(Upstream, url, "0" * 64).reason == "bad_option"


def test_credentials_in_an_address_are_refused_and_not_shown() -> None:
    error = refused(Upstream, "https://me:hunter2@host/x", "0" * 64)
    assert (error.reason, "hunter2" in error.hint) == ("bad_option", False)


def test_without_a_checksum_nothing_is_downloaded() -> None:
    assert refused(Upstream, "https://host/x", "").reason == "no_checksum"
    assert refused(Upstream, "https://host/x", "abc").reason == "bad_option"
    assert refused(Upstream, "https://host/x", "0" * 64, "", 0).reason == "bad_option"


def test_a_destination_that_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nothing")
    for name in ("folder", "link", "dangling"):
        assert refused(Destination(tmp_path / name, 0o755).holds, "0" * 64).reason == "dest_occupied"
    assert refused(Destination, Path("/"), 0o755).reason == "bad_option"


def test_every_reason_is_given_and_documented() -> None:
    given = set()
    for file in (subject.__file__, module.__file__):
        for node in ast.walk(ast.parse(Path(file).read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "CheckError" and node.args:
                given.add(ast.literal_eval(node.args[0]))
    assert {*given, "disk_full"} == set(REASONS)  # disk_full is made by the packages' helper
    documented = re.findall(r"V\(([a-z_0-9]+)\)", "\n".join(yaml.safe_load(module.RETURN)["reason"]["description"]))
    assert sorted(documented) == sorted({*REASONS, "ok"})
