# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Images and wheels as files: brought by the programs that speak to registries and package indexes, skopeo and pip."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.action import require_timeout
from ansible_collections.vigie.observability.plugins.module_utils.bundle import SHA256, sha256_of
from ansible_collections.vigie.observability.plugins.module_utils.packages import disk_full
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

REASONS = (
    "program_missing",
    "download_failed",
    "digest_mismatch",
    "checksum_mismatch",
    "architecture_missing",
    "disk_full",
    "bad_option",
)
"""Reasons that this file gives; the modules document them."""

# registry/repository:tag; the registry has a dot, a port, or is localhost, so that no default is meant.
REFERENCE = re.compile(
    r"(?:localhost|[a-z0-9-]+(?:\.[a-z0-9-]+)+|[a-z0-9-]+(?=:\d))(?::\d+)?(?:/[a-z0-9._-]+)+:[\w][\w.-]{0,127}"
)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.+!-]*")
_FATAL = re.compile(r'level=fatal msg=("(?:[^"\\]|\\.)*")')
_STEP = 0.2


def _size(folder: Path) -> int:
    """Return the bytes below a folder in which files come and go."""
    total = 0
    for root, _folders, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(root) / name).lstat().st_size
    return total


@dataclass(frozen=True)
class Done:
    """A program that ended.

    Attributes:
        status: its exit status.
        output: what it printed.
        error: what it printed to standard error, or that it stood still.
    """

    status: int
    output: bytes
    error: str


def run(argv: Sequence[str | Path], folder: Path, timeout: float) -> Done:
    """Run a program that writes below a folder, and end it when nothing is written any more.

    Args:
        argv: the program and its arguments.
        folder: where it writes.
        timeout: seconds for which it may stand still.

    Raises:
        CheckError: ``program_missing``.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
        try:
            process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=error,
                # What it downloads is to be seen growing there.
                env={**os.environ, "LC_ALL": "C", "TMPDIR": str(folder)},
            )
        except (FileNotFoundError, PermissionError) as missing:
            raise CheckError(
                "program_missing",
                f"{argv[0]} can't be run ({missing.strerror}); install its package, such as 'apt-get install {Path(argv[0]).name}'.",
            ) from missing
        try:
            stood_still = _await(process, folder, timeout)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        output.seek(0)
        error.seek(0)
        told = f"it stood still for {timeout:g} s" if stood_still else error.read().decode(errors="replace").strip()
        return Done(-1 if stood_still else process.returncode, output.read(), told)


def _await(process: subprocess.Popen[bytes], folder: Path, timeout: float) -> bool:
    """Wait for the end of a program. Return True when it stood still instead."""
    size, since = -1, time.monotonic()
    while True:
        try:
            process.wait(_STEP)
            return False
        except subprocess.TimeoutExpired:
            now = _size(folder)
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > timeout:
                return True


def _last_words(error: str) -> str:
    """Return why skopeo or pip gave up."""
    fatal = _FATAL.findall(error)
    if fatal:
        return str(json.loads(fatal[-1]))[:400]
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return ((errors or lines or ["it said nothing"])[-1])[:400]


@dataclass(frozen=True)
class Image:
    """An image in a registry, for one architecture.

    Args:
        ref: registry/repository:tag, the name that it has in the archive.
        source: where it is copied from; the same unless it is a mirror.
        architecture: amd64 or arm64.
        digest: of the index or manifest that the source must have, or empty.
        skopeo: the program.
        timeout: seconds that skopeo may stand still.

    Raises:
        CheckError: ``bad_option``.
    """

    ref: str
    source: str
    architecture: str
    digest: str = ""
    skopeo: str = "skopeo"
    timeout: float = 60

    def __post_init__(self) -> None:
        for name, value in (("ref", self.ref), ("source", self.source)):
            if not REFERENCE.fullmatch(value):
                raise CheckError("bad_option", f"{name}={value} is no image; write it like quay.io/name/image:v1.0.0.")
        if self.digest and not DIGEST.fullmatch(self.digest):
            raise CheckError("bad_option", f"digest={self.digest} is not sha256: and 64 hex digits in lower case.")
        require_timeout(self.timeout)

    @property
    def repository(self) -> str:
        """Return the source without its tag."""
        return self.source.rpartition(":")[0]

    def recorded_as(self, origin: dict[str, str]) -> bool:
        """Return whether that record is one of this image."""
        return (
            origin.get("ref") == self.ref
            and origin.get("architecture") == self.architecture
            and (origin.get("digest") == self.digest if self.digest else bool(origin.get("digest")))
        )

    def make(self, folder: Path) -> tuple[Path, dict[str, str]]:
        """Copy the image to an archive in a folder, verified. Return the archive and what is to be recorded of it.

        Raises:
            CheckError: ``program_missing``, ``download_failed``, ``digest_mismatch``, ``architecture_missing``, ``disk_full``.
        """
        digest = self._digest(folder)
        archive = folder / "image.tar"
        # The digest and not the tag: what was asked for can't become another image meanwhile.
        self._skopeo(
            folder,
            *("--override-os=linux", f"--override-arch={self.architecture}", f"--tmpdir={folder}"),
            *("copy", "--quiet", f"docker://{self.repository}@{digest}", f"docker-archive:{archive}:{self.ref}"),
        )
        self._verify(archive)
        return archive, {"ref": self.ref, "architecture": self.architecture, "digest": digest}

    def _skopeo(self, folder: Path, *words: str) -> bytes:
        done = run([self.skopeo, *words], folder, self.timeout)
        if done.status == 0:
            return done.output
        cause = _last_words(done.error)
        if "no space left on device" in cause:
            raise disk_full(folder.parent)
        if "no image found in" in cause and self.architecture in cause:
            raise self._other_architecture(cause)
        raise CheckError(
            "download_failed",
            f"{self.source} could not be copied ({cause}); try '{self.skopeo} inspect --raw docker://{self.source}', or use a mirror.",
        )

    def _digest(self, folder: Path) -> str:
        raw = self._skopeo(folder, "inspect", "--raw", f"docker://{self.source}")
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if self.digest and digest != self.digest:
            raise CheckError(
                "digest_mismatch",
                f"{self.source} has the digest {digest}, expected {self.digest}; the tag was moved or the mirror has another image: "
                f"look with '{self.skopeo} inspect --raw docker://{self.source} | sha256sum', or correct the table of versions.",
            )
        return digest

    def _other_architecture(self, cause: str) -> CheckError:
        return CheckError(
            "architecture_missing",
            f"{self.source} is not there for {self.architecture} ({cause}); leave it out, or use another mirror.",
        )

    def _verify(self, archive: Path) -> None:
        """Demand the name and the architecture: skopeo takes an image without an index as it is."""
        try:
            with tarfile.open(archive) as tar:
                (listed,) = _json(tar, "manifest.json")
                config = _json(tar, listed["Config"])
                found = f"{config['os']}/{config['architecture']}"
                names = listed["RepoTags"]
        except (tarfile.TarError, KeyError, ValueError, TypeError, EOFError) as error:
            raise CheckError(
                "download_failed", f"{self.source} was copied to no usable archive ({error}); try it again."
            ) from error
        if found != f"linux/{self.architecture}":
            raise self._other_architecture(f"it is for {found}")
        if names != [self.ref]:
            raise CheckError(
                "download_failed", f"{self.source} was copied under the names {names}, not {self.ref}; update skopeo."
            )


def _json(tar: tarfile.TarFile, name: str) -> Any:
    content = tar.extractfile(name)
    return json.loads(content.read() if content else b"")


@dataclass(frozen=True)
class Wheel:
    """A Python package as a wheel, from the index that pip is configured for.

    Args:
        requirement: name==version.
        sha256: of the wheel.
        python_version: the Python that it must fit; without one, that of pip.
        python: the Python whose pip is used.
        timeout: seconds that pip may stand still.

    Raises:
        CheckError: ``bad_option``.
    """

    requirement: str
    sha256: str
    python_version: str = ""
    python: str = "python3"
    timeout: float = 60

    def __post_init__(self) -> None:
        if not REQUIREMENT.fullmatch(self.requirement):
            raise CheckError(
                "bad_option", f"requirement={self.requirement} names no exact version; write it like ansible==14.5.0."
            )
        if not SHA256.fullmatch(self.sha256):
            raise CheckError("bad_option", f"sha256={self.sha256} is not 64 hex digits in lower case.")
        require_timeout(self.timeout)

    def make(self, folder: Path) -> tuple[Path, dict[str, str]]:
        """Download the wheel to a folder, verified. Return it, and nothing to record.

        Raises:
            CheckError: ``program_missing``, ``download_failed``, ``checksum_mismatch``, ``disk_full``.
        """
        wanted = folder / "requirements.txt"
        wanted.write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n", encoding="utf-8")
        words = [
            "--disable-pip-version-check",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
        ]
        if self.python_version:
            words += [f"--python-version={self.python_version}"]
        done = run([self.python, "-m", "pip", *words, f"--dest={folder}", "-r", wanted], folder, self.timeout)
        wheels = list(folder.glob("*.whl"))
        if done.status == 0 and len(wheels) == 1 and sha256_of(wheels[0]) == self.sha256:
            return wheels[0], {}
        _require_pip_and_space(self.python, done, folder.parent)
        if "DO NOT MATCH THE HASHES" in done.error:
            raise CheckError(
                "checksum_mismatch",
                f"the wheel of {self.requirement} is not the one with sha256 {self.sha256}; look at what stands between with "
                f"'{self.python} -m pip config list', or correct the table of versions.",
            )
        raise CheckError(
            "download_failed",
            f"the wheel of {self.requirement} could not be downloaded ({_last_words(done.error)}); try "
            f"'{self.python} -m pip download --no-deps {self.requirement}', or configure another index for pip.",
        )


def _require_pip_and_space(python: str, done: Done, folder: Path) -> None:
    """Name the causes of a failure that have nothing to do with what was asked for."""
    if "No space left on device" in done.error:
        raise disk_full(folder)
    if "No module named pip" in done.error:
        raise CheckError(
            "program_missing", f"{python} has no pip; install its package, such as 'apt-get install python3-pip'."
        )


MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
NEWEST_GLIBC = 36
"""Minor version of the oldest C library among the hosts, that of Debian 12: wheels for an older one run there, for a newer one not."""


@dataclass(frozen=True)
class Wheels:
    """All packages of a list as wheels, for one Python on Linux, from the index that pip is configured for.

    Args:
        requirements: file with names, exact versions and SHA-256 of all of them.
        python_version: the Python that they must fit, as 3.13.
        architecture: amd64 or arm64.
        python: the Python whose pip is used.
        timeout: seconds that pip may stand still.

    Raises:
        CheckError: ``bad_option``.
    """

    requirements: Path
    python_version: str
    architecture: str
    python: str = "python3"
    timeout: float = 60

    def __post_init__(self) -> None:
        if not self.requirements.is_file():
            raise CheckError("bad_option", f"requirements={self.requirements} is no file; give the path of the list.")
        if not re.fullmatch(r"3\.\d+", self.python_version):
            raise CheckError(
                "bad_option", f"python_version={self.python_version} is no version of Python; write it like 3.13."
            )
        require_timeout(self.timeout)

    def are_in(self, folder: Path) -> bool:
        """Return whether a folder has all of them, with their hashes, as pip on a host without an index would find it.

        Raises:
            CheckError: ``program_missing``, ``disk_full``.
        """
        if not folder.is_dir():
            return False
        with tempfile.TemporaryDirectory() as scratch:
            done = self._pip(Path(scratch), ["--isolated"], ["--no-index", f"--find-links={folder}"])
            _require_pip_and_space(self.python, done, Path(scratch))
            return done.status == 0

    def bring(self, folder: Path) -> None:
        """Download all of them to a folder; each gets its name there when all are complete and verified.

        Raises:
            CheckError: ``program_missing``, ``download_failed``, ``checksum_mismatch``, ``disk_full``, ``permission_denied``.
        """
        with _locked(folder):
            scratch = Path(tempfile.mkdtemp(dir=folder, prefix=".wheels.part-"))
            try:
                done = self._pip(scratch, [], [])
                if done.status != 0:
                    _require_pip_and_space(self.python, done, folder)
                    raise self._failed(done)
                for wheel in scratch.glob("*.whl"):
                    wheel.chmod(0o644)
                    wheel.replace(folder / wheel.name)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)

    def _pip(self, folder: Path, before: Sequence[str], after: Sequence[str]) -> Done:
        machine = MACHINES[self.architecture]
        names = [f"manylinux_2_{minor}" for minor in range(NEWEST_GLIBC, 4, -1)]
        platforms = [f"--platform={name}_{machine}" for name in (*names, "manylinux2014", "linux")]
        pip = [self.python, "-m", "pip", "--disable-pip-version-check", *before, "download", "--quiet", "--no-deps"]
        fitting = ["--only-binary=:all:", "--implementation=cp", f"--python-version={self.python_version}", *platforms]
        wanted = ["--require-hashes", "-r", str(self.requirements), f"--dest={folder}"]
        return run([*pip, *fitting, *wanted, *after], folder, self.timeout)

    def _failed(self, done: Done) -> CheckError:
        what = f"the wheels of {self.requirements} for Python {self.python_version} on {self.architecture}"
        if "DO NOT MATCH THE HASHES" in done.error:
            package = re.search(r"^\s+([A-Za-z0-9._-]+)==\S+ from ", done.error, re.MULTILINE)
            return CheckError(
                "checksum_mismatch",
                f"{what}: {package[1] if package else 'one'} is not among those with the SHA-256 of the list; look at what stands between with "
                f"'{self.python} -m pip config list', or correct the list.",
            )
        return CheckError(
            "download_failed",
            f"{what} could not be downloaded ({_last_words(done.error)}); let pip reach its index, or configure another one for it.",
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make a folder, hold off other runs in it, and remove what an interrupted run left there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for leftover in folder.glob(".wheels.part-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            yield
        finally:
            os.close(descriptor)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise CheckError(
            "permission_denied",
            f"{folder} can't be written by user id {os.geteuid()} ({error.strerror}); check owner and mode with 'ls -ld {folder}'.",
        ) from error
