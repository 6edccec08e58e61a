"""A registry on this machine, filled with small images, and skopeo: both are Debian packages that are unpacked, not installed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from machines import cache, run

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "lab"))

from vigielab import archive  # noqa: E402 - after the path to it

PACKAGES = ("docker-registry", "skopeo", "libgpgme11", "libassuan0", "libdevmapper1.02.1")
"""Those of this distribution, with the libraries that a small machine lacks."""
DEADLINE = 30
USER = ("lab", "secret")
HASH = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
"""bcrypt of the password."""


def missing() -> str:
    """Return why there can be no registry here; empty when there can."""
    return "" if shutil.which("apt-get") else "no apt-get: registry and skopeo are Debian packages here"


def unpacked() -> Path:
    """Return a folder with the packages, which are downloaded when they are not there yet."""
    root = cache() / "packages"
    if not (root / "usr/bin/skopeo").exists() or not (root / "usr/bin/docker-registry").exists():
        with tempfile.TemporaryDirectory(dir=root.parent, prefix="packages-") as folder:
            # On Debian 13 and Ubuntu some have another name, and are there already.
            known = [
                name for name in PACKAGES if run("apt-cache", "show", "--no-all-versions", name, check=False).stdout
            ]
            subprocess.run(["apt-get", "download", *known], cwd=folder, check=True, capture_output=True, timeout=300)
            fresh = Path(folder) / "root"
            for package in Path(folder).glob("*.deb"):
                run("dpkg", "-x", package, fresh)
            shutil.rmtree(root, ignore_errors=True)
            fresh.rename(root)
    return root


def program(folder: Path, name: str, home: Path) -> Path:
    """Write a program that is one of the packages', with a home and the libraries of its own."""
    root = unpacked()
    libraries = ":".join(str(path) for path in sorted((root / "usr/lib").glob("*-linux-gnu*")))
    path = folder / name
    path.write_text(
        f'#!/bin/sh\nHOME={home} XDG_RUNTIME_DIR= LD_LIBRARY_PATH={libraries} exec {root}/usr/bin/{name} "$@"\n'
    )
    path.chmod(0o755)
    return path


@dataclass(frozen=True)
class Registry:
    """A registry that runs.

    Attributes:
        address: host:port, without TLS.
        skopeo: that trusts it.
        log: what it was asked for.
    """

    address: str
    skopeo: Path
    log: Path

    def pushes(self) -> list[str]:
        """Return the addresses to which something was sent, in their order."""
        return re.findall(r'"(?:POST|PUT|PATCH) (/v2/\S+) HTTP', self.log.read_text())

    def requests(self) -> list[str]:
        """Return the addresses that were asked for, in their order."""
        return re.findall(r'"(?:GET|HEAD) (/v2/\S+) HTTP', self.log.read_text())

    def push(self, repository: str, tag: str, architectures: Mapping[str, str], *, indexed: bool = True) -> str:
        """Make an image of each architecture, put it into the registry, and return the digest by which it is there.

        Args:
            repository: without the registry.
            tag: of the index, or of the only image.
            architectures: to the content of the image.
            indexed: with an index above, or one image alone.
        """
        with tempfile.TemporaryDirectory(prefix="vigie-image-") as scratch:
            folder = Path(scratch)
            entries = []
            for architecture, content in architectures.items():
                layer, tar = folder / "layer.tar", folder / f"{architecture}.tar"
                archive.layer(layer, {"/content": content.encode() * 10_000})
                config = {"Cmd": ["/content"]}
                archive.image(
                    tar, f"made.test/x:{architecture}", [layer], architecture=architecture, config=config, origin="test"
                )
                name = f"{tag}-{architecture}" if indexed else tag
                target = f"docker://{self.address}/{repository}:{name}"
                run(self.skopeo, "copy", "--quiet", "--format=v2s2", f"docker-archive:{tar}", target)
                raw = subprocess.run([self.skopeo, "inspect", "--raw", target], check=True, capture_output=True).stdout
                entries.append((architecture, len(raw), f"sha256:{hashlib.sha256(raw).hexdigest()}"))
            if not indexed:
                return entries[0][2]
            return self._index(repository, tag, entries)

    def _index(self, repository: str, tag: str, entries: list[tuple[str, int, str]]) -> str:
        kind = "application/vnd.docker.distribution.manifest"
        manifests = [
            {
                **{"mediaType": f"{kind}.v2+json", "size": size, "digest": digest},
                "platform": {"architecture": architecture, "os": "linux"},
            }
            for architecture, size, digest in entries
        ]
        raw = json.dumps({"schemaVersion": 2, "mediaType": f"{kind}.list.v2+json", "manifests": manifests}).encode()
        request = urllib.request.Request(
            f"http://{self.address}/v2/{repository}/manifests/{tag}",
            data=raw,
            headers={"Content-Type": f"{kind}.list.v2+json"},
            method="PUT",
        )
        urllib.request.urlopen(request, timeout=DEADLINE).close()
        return f"sha256:{hashlib.sha256(raw).hexdigest()}"


@contextmanager
def serving(folder: Path, *, login: bool = False) -> Iterator[Registry]:
    """Run an empty registry on a free port of this machine, for everybody or for USER alone; it is gone afterwards."""
    home = folder / "home"
    (home / ".config/containers").mkdir(parents=True)
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{accesslog: {{disabled: false}}}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        "http: {addr: '127.0.0.1:0'}\n"
        + (f"auth: {{htpasswd: {{realm: test, path: {folder}/users}}}}\n" if login else "")
    )
    (folder / "users").write_text(f"{USER[0]}:{HASH}\n")
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [program(folder, "docker-registry", home), "serve", folder / "config.yml"],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        address = _address(server, log)
        (home / ".config/containers/policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (home / ".config/containers/registries.conf").write_text(
            f'[[registry]]\nlocation = "{address}"\ninsecure = true\n'
        )
        yield Registry(address, program(folder, "skopeo", home), log)
    finally:
        server.terminate()
        server.wait(DEADLINE)


def _address(server: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(DEADLINE * 10):
        if found := re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text()):
            return found[1]
        assert server.poll() is None, log.read_text()[-2000:]
        time.sleep(0.1)
    raise AssertionError(f"the registry does not listen: {log.read_text()[-2000:]}")


@contextmanager
def silence() -> Iterator[str]:
    """Listen on a free port and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
