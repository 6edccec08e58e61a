"""Docker's publisher, on this machine: a signed apt repository with the layout of its address and packages that really run.

Their programs are those of Debian's own packages docker.io, containerd and runc, under the names and in the division of the publisher's.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from machines import Machine, cache, run

ORIGIN = "https://download.docker.com"
SOURCES = ("docker.io", "containerd", "runc")
NUMBERS = {"bookworm": "12", "trixie": "13"}
RELEASES = ("28.5.2", "29.7.2")  # older, newer
OWN = "5:{release}-1~debian.{number}~{suite}"
LIBRARIES = "libc6, libdevmapper1.02.1, libsystemd0, libseccomp2, iptables"
# Where a file of Debian's packages goes; all others go nowhere.
DIVISION = {
    "docker-ce": r"(usr/sbin/(dockerd|docker-proxy)|lib/systemd/system/docker\.(service|socket))",
    "docker-ce-cli": r"usr/bin/docker",
    "containerd.io": r"(usr/s?bin/(containerd|containerd-shim-runc-v2|ctr|runc)|lib/systemd/system/containerd\.service)",
    "docker-buildx-plugin": r"-",
}
DEPENDS = {
    "docker-ce": f"docker-ce-cli, containerd.io, {LIBRARIES}",
    "docker-ce-cli": "libc6",
    "containerd.io": "libc6, libseccomp2",
    "docker-buildx-plugin": "docker-ce-cli",
}
CONFLICTS = {
    "docker-ce": "docker.io",
    "docker-ce-cli": "docker.io, docker-cli",
    "containerd.io": "containerd, runc",
    "docker-buildx-plugin": "docker-buildx",
}
UNITS = {"docker-ce": "docker.service docker.socket", "containerd.io": "containerd.service"}
# As debhelper writes them: a policy can forbid to start, and a removed package stops.
POSTINST = """#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
getent group docker > /dev/null || groupadd --system docker
for unit in @UNITS@; do deb-systemd-helper unmask "$unit" > /dev/null || true; deb-systemd-helper enable "$unit" > /dev/null; done
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
deb-systemd-invoke restart @UNITS@ > /dev/null || true
"""
PRERM = """#!/bin/sh
set -e
[ "$1" = remove ] && [ -d /run/systemd/system ] && deb-systemd-invoke stop @UNITS@ > /dev/null
exit 0
"""
POSTRM = """#!/bin/sh
set -e
if [ "$1" = purge ]; then for unit in @UNITS@; do deb-systemd-helper purge "$unit" > /dev/null; done; fi
exit 0
"""


def missing() -> str:
    """Return which program is missing here; empty when none is."""
    absent = [name for name in ("dpkg-deb", "gpg") if not shutil.which(name)]
    return f"no {' and no '.join(absent)}, with which the repository is made" if absent else ""


def version(suite: str, release: str) -> str:
    """Return the version of Docker's own packages as apt writes it."""
    return OWN.format(release=release, number=NUMBERS[suite], suite=suite)


def debian_packages(machine: Machine) -> list[Path]:
    """Return Debian's packages, which a host of its release fetches when there are none yet."""
    folder = cache() / f"debs-{machine.suite}"
    if len(list(folder.glob("*.deb"))) != len(SOURCES):
        shutil.rmtree(folder, ignore_errors=True)
        script = f"mkdir -p /srv/debs && cd /srv/debs && apt-get -qq update && apt-get -qq download {' '.join(SOURCES)}"
        run("docker", "exec", machine.name, "sh", "-c", script, timeout=300)
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
        run("docker", "cp", f"{machine.name}:/srv/debs", unfinished, timeout=120)
        unfinished.rename(folder)
        machine.run("sh", "-c", "rm -rf /srv/debs && find /var/lib/apt/lists -type f -delete")
    return sorted(folder.glob("*.deb"))


class Key:
    """A key of an own keyring."""

    def __init__(self, home: Path, name: str) -> None:
        self.home = home
        self.name = name
        self._gpg("--passphrase", "", "--quick-generate-key", name, "ed25519", "sign", "never")
        listed = self._gpg("--with-colons", "--list-keys", name)
        self.fingerprint = re.search(r"^fpr:+([0-9A-F]{40}):", listed, re.MULTILINE)[1]  # type: ignore[index]
        self.public = self._gpg("--armor", "--export", self.fingerprint)
        self.sha256 = hashlib.sha256(self.public.encode()).hexdigest()

    def sign(self, source: Path, target: Path) -> None:
        """Write a file with its signature around it."""
        self._gpg("--local-user", self.fingerprint, "--clear-sign", "--output", str(target), str(source))

    def _gpg(self, *arguments: str) -> str:
        return run("gpg", "--homedir", self.home, "--batch", "--yes", "--pinentry-mode", "loopback", *arguments).stdout


class AptRepository:
    """The repository.

    Attributes:
        key: the one that signs it.
        other: one that does not.
        base: address by which the hosts reach it.
        seen: paths that were asked for.
    """

    def __init__(self, folder: Path, debs: list[Path], suites: set[str]) -> None:
        self.folder = folder
        self.base = ""
        self.seen: list[str] = []
        home = folder / "gnupg"
        home.mkdir(mode=0o700)
        self.key, self.other = Key(home, "Publisher <publisher@example.com>"), Key(home, "Other <other@example.com>")
        self.architecture = run("dpkg-deb", "--field", debs[0], "Architecture").stdout.strip()
        trees = self._divide(debs)
        for variant in ("good", "forged", "resigned"):
            for suite in suites:
                self._publish(variant, suite, trees)
            public = self.other.public if variant == "forged" else self.key.public
            self._debian(variant).joinpath("gpg").write_text(public)

    def mirrors(self, variant: str = "good") -> dict[str, str]:
        """Return the table of mirrors that leads the publisher here.

        Args:
            variant: ``good``; ``forged``, another key at the key's address; ``resigned``, signed by another key; ``absent``, nothing is there.
        """
        return {ORIGIN: f"{self.base}/{variant}"}

    def _debian(self, variant: str) -> Path:
        return self.folder / "www" / variant / "linux" / "debian"

    def _divide(self, debs: list[Path]) -> dict[str, Path]:
        whole = self.folder / "whole"
        for deb in debs:
            run("dpkg-deb", "--extract", deb, whole)
        trees = {}
        for name, pattern in DIVISION.items():
            trees[name] = self.folder / "trees" / name
            trees[name].mkdir(parents=True)
            for path in sorted(whole.rglob("*")):
                relative = path.relative_to(whole)
                if not path.is_dir() and re.fullmatch(pattern, str(relative)):
                    target = trees[name] / relative
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(path, target)
        plugin = trees["docker-buildx-plugin"] / "usr/libexec/docker/cli-plugins/docker-buildx"
        plugin.parent.mkdir(parents=True)
        plugin.write_text("#!/bin/sh\necho stand-in\n")
        plugin.chmod(0o755)
        return trees

    def _publish(self, variant: str, suite: str, trees: dict[str, Path]) -> None:
        dists = self._debian(variant) / "dists" / suite
        pool = dists / "pool" / "stable" / self.architecture
        index = dists / "stable" / f"binary-{self.architecture}"
        index.mkdir(parents=True)
        if variant == "good":
            pool.mkdir(parents=True)
            for name, tree in trees.items():
                own = name.startswith("docker-ce")
                for release in RELEASES if own else ("2.1.0",):
                    number = version(suite, release) if own else f"{release}-1~debian.{NUMBERS[suite]}~{suite}"
                    self._build(tree, name, number, pool)
            packages = "\n".join(self._entry(deb, dists.parents[1]) for deb in sorted(pool.glob("*.deb")))
        else:
            good = self._debian("good") / "dists" / suite / index.relative_to(dists)
            packages = (good / "Packages").read_text()
        (index / "Packages").write_text(packages)
        (index / "Packages.gz").write_bytes(gzip.compress(packages.encode(), mtime=0))
        lines = [
            f"Origin: Docker\nLabel: Docker CE\nSuite: {suite}\nCodename: {suite}\nArchitectures: {self.architecture}",
            "Components: stable\nDate: Tue, 01 Sep 2026 00:00:00 UTC\nSHA256:",
        ]
        for path in (index / "Packages", index / "Packages.gz"):
            content = path.read_bytes()
            lines.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} {path.relative_to(dists)}")
        (dists / "Release").write_text("\n".join(lines) + "\n")
        (self.other if variant == "resigned" else self.key).sign(dists / "Release", dists / "InRelease")

    def _build(self, tree: Path, name: str, number: str, pool: Path) -> None:
        control = tree / "DEBIAN"
        control.mkdir(exist_ok=True)
        fields = {
            "Package": name,
            "Version": number,
            "Architecture": self.architecture,
            "Maintainer": "Tests <tests@example.com>",
            "Depends": DEPENDS[name],
            "Conflicts": CONFLICTS[name],
            "Replaces": CONFLICTS[name],
            "Description": "for tests",
        }
        (control / "control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
        for script, content in (("postinst", POSTINST), ("prerm", PRERM), ("postrm", POSTRM)):
            if name in UNITS:
                (control / script).write_text(content.replace("@UNITS@", UNITS[name]))
                (control / script).chmod(0o755)
        file = pool / f"{name}_{number.partition(':')[2] or number}_{self.architecture}.deb"
        run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, file, timeout=120)

    @staticmethod
    def _entry(deb: Path, root: Path) -> str:
        fields = run("dpkg-deb", "--field", deb).stdout
        content = deb.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        return f"{fields}Filename: {deb.relative_to(root)}\nSize: {len(content)}\nSHA256: {digest}\n"


class Handler(SimpleHTTPRequestHandler):
    repository: AptRepository

    def __init__(self, *args: Any, repository: AptRepository, **kwargs: Any) -> None:
        self.repository = repository
        super().__init__(*args, directory=str(repository.folder / "www"), **kwargs)

    def do_GET(self) -> None:
        self.repository.seen.append(self.path)
        super().do_GET()

    def log_message(self, *_args: Any) -> None:
        """Keep the output of the tests readable."""


@contextmanager
def publishing(address: str, machine: Machine, suites: set[str]) -> Iterator[AptRepository]:
    """Serve the repository on a free port of this address and no other.

    Args:
        address: of this machine.
        machine: a host that can fetch Debian's packages.
        suites: code names of the releases.
    """
    assert address, "an empty address would mean every interface"
    with tempfile.TemporaryDirectory(prefix="vigie-apt-") as folder:
        repository = AptRepository(Path(folder), debian_packages(machine), suites)
        server = ThreadingHTTPServer((address, 0), functools.partial(Handler, repository=repository))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        repository.base = f"http://{address}:{server.server_port}"
        try:
            yield repository
        finally:
            server.shutdown()
            server.server_close()
            run("gpgconf", "--homedir", Path(folder) / "gnupg", "--kill", "all", check=False)
