from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.modules import content_hash

PATTERNS = ["Dockerfile", "pkg/*.py"]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "pkg").mkdir(parents=True)
    (root / "Dockerfile").write_text("FROM scratch\n")
    (root / "pkg/a.py").write_text("A = 1\n")
    (root / "pkg/ä b.py").write_text("B = 2\n")
    (root / "pkg/notes.txt").write_text("of no account")
    return root


@pytest.fixture
def hashed(run_main: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def call(path: Path, **options: Any) -> dict[str, Any]:
        return run_main(content_hash.main, {"path": str(path), "patterns": PATTERNS, **options})

    return call


def test_the_hash_is_this_one_for_ever(context: Path, hashed: Callable[..., dict[str, Any]]) -> None:
    """Another one would build and send every image again."""
    result = hashed(context, extra=["sha256:base"])
    assert result["sha256"] == "fbcaf3ee1be3ef4c484ce9e7285e901340dc275f468a2bb501b3d27356e3b486"
    assert result["hash"] == result["sha256"][:12]
    assert result["files"] == ["Dockerfile", "pkg/a.py", "pkg/ä b.py"]
    assert (result["changed"], result["reason"], result["hint"]) == (False, "ok", "")


def test_only_names_and_contents_count(context: Path, hashed: Callable[..., dict[str, Any]]) -> None:
    before = hashed(context)["sha256"]
    other = context.parent / "elsewhere"
    (other / "pkg").mkdir(parents=True)
    for name in ("pkg/ä b.py", "pkg/a.py", "Dockerfile"):  # another order on the disk
        shutil.copyfile(context / name, other / name)
        (other / name).chmod(0o600)
        os.utime(other / name, (1, 1))
    assert hashed(other)["sha256"] == before
    assert hashed(other, patterns=["pkg/*.py", "*", "Dockerfile"])["sha256"] == before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "pkg/a.py").write_text("A = 2\n"),
        lambda root: (root / "pkg/a.py").rename(root / "pkg/c.py"),
        lambda root: (root / "pkg/empty.py").touch(),
        lambda root: (root / "pkg/a.py").unlink(),
        # The same bytes, cut elsewhere.
        lambda root: [(root / "pkg/a.py").write_text("A = 1\nB"), (root / "pkg/ä b.py").write_text(" = 2\n")],
    ],
    ids=["content", "name", "more", "less", "border"],
)
def test_what_counts(change: Callable[[Path], Any], context: Path, hashed: Callable[..., dict[str, Any]]) -> None:
    before = hashed(context)["sha256"]
    change(context)
    assert hashed(context)["sha256"] != before


def test_extra_texts_count(context: Path, hashed: Callable[..., dict[str, Any]]) -> None:
    hashes = [hashed(context, extra=extra)["sha256"] for extra in ([], ["a"], ["b"], ["a", "b"], ["b", "a"], ["ab"])]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize(
    ("options", "reason", "part"),
    [
        ({"path": "/nonexistent"}, "folder_missing", "/nonexistent"),
        ({"patterns": ["Dockerfile", "*.rb"]}, "nothing_matches", "*.rb"),
        ({"patterns": ["/etc/passwd"]}, "bad_option", "/etc/passwd"),
        ({"patterns": ["../*"]}, "bad_option", "../*"),
        ({"patterns": [""]}, "bad_option", "patterns"),
        ({"length": 7}, "bad_option", "length=7"),
        ({"length": 65}, "bad_option", "length=65"),
    ],
)
def test_bad_input_is_named(
    options: dict[str, Any], reason: str, part: str, context: Path, hashed: Callable[..., dict[str, Any]]
) -> None:
    result = hashed(**{"path": context, **options})
    assert result["failed"] and result["reason"] == reason
    assert part in result["msg"]
    assert result["msg"] == result["hint"]


def test_links_are_refused(context: Path, hashed: Callable[..., dict[str, Any]]) -> None:
    (context / "pkg/link.py").symlink_to("a.py")
    assert hashed(context)["reason"] == "not_a_file"
    (context / "pkg/link.py").unlink()
    (context / "linked").symlink_to("pkg")
    result = hashed(context, patterns=["linked/*.py"])
    assert result["reason"] == "not_a_file" and "linked" in result["hint"]


def test_a_file_that_cannot_be_read_is_named(
    context: Path, hashed: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)  # as root may read everything
    result = hashed(context)
    assert result["reason"] == "permission_denied" and "Dockerfile" in result["hint"]
