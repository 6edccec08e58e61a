"""Images as ``docker save`` writes them, put together without a Docker: layers, a configuration, and a name."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from vigielab.steps import digest

EPOCH = "1970-01-01T00:00:00Z"
"""Time in everything, so that equal contents make equal images."""


def layer(path: Path, files: Mapping[str, Path | bytes], *, folders: Mapping[str, int] | None = None) -> None:
    """Write a layer.

    Args:
        path: of the layer.
        files: absolute path in the image -> source, whose permission to execute is kept, or contents.
        folders: absolute path -> mode, for folders that must be there besides.
    """
    made = {"/"}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, mode in sorted((folders or {}).items()):
            _add_folders(tar, name, made, mode)
        for name, source in sorted(files.items()):
            _add_folders(tar, str(PurePosixPath(name).parent), made)
            entry = tarfile.TarInfo(name.lstrip("/"))
            if isinstance(source, bytes):
                entry.size, entry.mode = len(source), 0o644
                tar.addfile(entry, io.BytesIO(source))
                continue
            status = source.stat()
            entry.size, entry.mode = status.st_size, 0o755 if status.st_mode & 0o100 else 0o644
            with source.open("rb") as file:
                tar.addfile(entry, file)


def _add_folders(tar: tarfile.TarFile, name: str, made: set[str], mode: int = 0o755) -> None:
    """Add a folder and those above it that aren't there yet."""
    if name in made:
        return
    _add_folders(tar, str(PurePosixPath(name).parent), made)
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)
    made.add(name)


def image(
    path: Path, ref: str, layers: Iterable[Path], *, architecture: str, config: Mapping[str, Any], origin: str
) -> None:
    """Write an image.

    Args:
        path: of the archive.
        ref: registry/repository:tag.
        layers: tar files, lowest first.
        architecture: as Go names it.
        config: what the image runs: ``Entrypoint``, ``Cmd``, ``Env``, ``User`` and so on.
        origin: what the image was made from; a label of it.
    """
    layers = list(layers)
    digests = [digest(source) for source in layers]
    described = {
        "architecture": architecture,
        "os": "linux",
        "created": EPOCH,
        "config": {**config, "Labels": {"org.opencontainers.image.description": f"Built from source: {origin}"}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256}" for sha256 in digests]},
        "history": [{"created": EPOCH, "created_by": "vigie lab"} for _ in layers],
    }
    text = json.dumps(described, sort_keys=True).encode()
    name = f"{hashlib.sha256(text).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [ref], "Layers": [f"{sha256}.tar" for sha256 in digests]}]
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for sha256, source in zip(digests, layers, strict=True):
            entry = tarfile.TarInfo(f"{sha256}.tar")
            entry.size = source.stat().st_size
            with source.open("rb") as file:
                tar.addfile(entry, file)
        for member, content in ((name, text), ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def chart(path: Path, source: Path) -> None:
    """Write a chart as ``helm package`` does, below a folder of its name; equal contents make equal bytes.

    Args:
        path: of the .tgz.
        source: folder of the chart, named like it.
    """
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for member in sorted(path for path in source.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(f"{source.name}/{member.relative_to(source)}")
            content = member.read_bytes()
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))


def place(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it to another file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
