# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Programs, images, charts and collections from a bundle, or from their upstream address: verified before anything uses them.

A bundle is a folder with ``manifest.yml``, a list of artifacts. A host takes all it needs from there, without the internet.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import posixpath
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from ansible.module_utils.urls import ConnectionError as UrlsError
from ansible.module_utils.urls import open_url
from ansible_collections.vigie.observability.plugins.module_utils.action import require_timeout
from ansible_collections.vigie.observability.plugins.module_utils.packages import disk_full
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

MANIFEST = "manifest.yml"
KINDS = ("binary", "image", "chart", "collection", "manifest")
ARCHITECTURES = ("amd64", "arm64", "noarch")
KEYS = ("name", "version", "kind", "architecture", "file", "sha256")
"""What every entry of the manifest has; further keys are ignored."""

REASONS = (
    "bundle_missing",
    "manifest_invalid",
    "path_escape",
    "artifact_missing",
    "version_missing",
    "version_ambiguous",
    "architecture_missing",
    "file_missing",
    "checksum_mismatch",
    "no_checksum",
    "download_failed",
    "bad_archive",
    "member_missing",
    "dest_occupied",
    "disk_full",
    "permission_denied",
    "missing_library",
    "bad_option",
)
"""Reasons that this file gives; the module documents them."""

SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
# What the interpreter calls them, for the sentences of a malformed manifest.
_FOUND = {"float": "a number", "int": "a number", "bool": "true or false", "dict": "a mapping"}


@dataclass(frozen=True)
class Artifact:
    """An entry of a manifest.

    Attributes:
        name: as in the table of versions.
        version: as upstream writes it, without a leading v.
        kind: one of KINDS.
        architecture: one of ARCHITECTURES.
        file: path below the bundle.
        sha256: of the file, 64 hex digits in lower case.
    """

    name: str
    version: str
    kind: str
    architecture: str
    file: str
    sha256: str

    @property
    def label(self) -> str:
        """Return the artifact for people."""
        return f"{self.name} {self.version} ({self.kind}, {self.architecture})"


def host_architecture() -> str:
    """Return the architecture of this host in the words of the manifest.

    Raises:
        CheckError: ``architecture_missing`` for one that no bundle knows.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise CheckError(
            "architecture_missing",
            f"This host is {machine} ('uname -m'), but there are artifacts for {' and '.join(_MACHINES)} only.",
        )
    return _MACHINES[machine]


def architecture_for(kind: str, runs_on: str | None = None) -> str:
    """Return what an artifact of a kind must run on to be of use.

    Args:
        kind: one of KINDS.
        runs_on: architecture of the host that is meant; this one's when empty.

    Raises:
        CheckError: ``architecture_missing`` for a host that no bundle knows.
    """
    return (runs_on or host_architecture()) if kind in ("binary", "image") else "noarch"


class Bundle:
    """A folder of artifacts, as its manifest lists them.

    Args:
        root: the folder.
        manifest: the manifest, when it hasn't got its name yet.

    Attributes:
        entries: the manifest as it is, with all its keys.
        artifacts: the same, checked.

    Raises:
        CheckError: ``bundle_missing``, ``manifest_invalid``, ``path_escape``, ``permission_denied``, ``missing_library``.
    """

    def __init__(self, root: Path, manifest: Path | None = None) -> None:
        self.root = root
        self.manifest = manifest or root / MANIFEST
        self.entries: list[dict[str, Any]] = []
        self.artifacts = self._read()

    def _invalid(self, fault: str) -> CheckError:
        return CheckError(
            "manifest_invalid", f"{self.manifest}: {fault}; make the bundle anew or correct the manifest."
        )

    def _read(self) -> list[Artifact]:
        try:
            import yaml  # a host that downloads doesn't need it
        except ImportError as error:
            raise CheckError(
                "missing_library",
                "Reading a bundle's manifest needs PyYAML for the Python that runs the module; install python3-yaml.",
            ) from error
        try:
            if not self.root.is_dir():
                raise CheckError(
                    "bundle_missing", f"There is no bundle: {self.root} is no folder; look with 'ls -ld {self.root}'."
                )
            listed = yaml.safe_load(self.manifest.read_text(encoding="utf-8"))
        except (FileNotFoundError, IsADirectoryError) as error:
            raise CheckError(
                "bundle_missing",
                f"{self.root} is no bundle: it has no file {MANIFEST}; look with 'ls -l {self.root}'.",
            ) from error
        except PermissionError as error:
            raise _denied(self.manifest, "read") from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self._invalid(f"line {mark.line + 1 if mark else '?'} is no YAML ({error.problem})") from error
        except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
            raise self._invalid(f"it is no YAML text ({str(error).splitlines()[0]})") from error
        if not isinstance(listed, list) or not listed:
            raise self._invalid("it is no list of artifacts")
        artifacts: list[Artifact] = []
        known: dict[tuple[str, str, str, str], int] = {}
        for number, entry in enumerate(listed, start=1):
            artifact = self._checked(number, entry)
            key = (artifact.name, artifact.version, artifact.kind, artifact.architecture)
            if key in known:
                raise self._invalid(f"entries {known[key]} and {number} are both {artifact.label}")
            known[key] = number
            artifacts.append(artifact)
        self.entries = listed
        return artifacts

    def _checked(self, number: int, entry: Any) -> Artifact:
        if not isinstance(entry, dict):
            raise self._invalid(f"entry {number} is no mapping with the keys {', '.join(KEYS)}")
        name = entry.get("name")
        where = f"entry {number} ({name})" if isinstance(name, str) else f"entry {number}"
        for key in KEYS:
            if key not in entry:
                raise self._invalid(f"{where} has no {key}")
            value = entry[key]
            if value is None or not str(value).strip():
                raise self._invalid(f"{key} of {where} is empty")
            if not isinstance(value, str):
                found = _FOUND.get(type(value).__name__, f"a {type(value).__name__}")
                raise self._invalid(f"{key} of {where} is {found}, not text: write it in quotes")
        for key, allowed in (("kind", KINDS), ("architecture", ARCHITECTURES)):
            if entry[key] not in allowed:
                raise self._invalid(f"{key} of {where} is {entry[key]!r}, not one of {', '.join(allowed)}")
        if not SHA256.fullmatch(entry["sha256"]):
            raise self._invalid(f"sha256 of {where} is {entry['sha256']!r}, not 64 hex digits in lower case")
        file = PurePosixPath(entry["file"])
        if "\0" in entry["file"] or file.is_absolute() or ".." in file.parts or not file.parts:
            raise CheckError(
                "path_escape",
                f"{self.manifest}: file of {where} is {entry['file']!r}, which is no path below the bundle; "
                "nothing was read from there.",
            )
        return Artifact(**{key: entry[key] for key in KEYS})

    def find(self, name: str, version: str | None, kind: str, architecture: str) -> Artifact:
        """Return the artifact of that name, kind and architecture.

        Args:
            name: as in the manifest.
            version: exactly this one, or None for the only one that is there.
            kind: one of KINDS.
            architecture: one of ARCHITECTURES; what is listed as noarch fits every host.

        Raises:
            CheckError: ``artifact_missing``, ``version_missing``, ``architecture_missing``, ``version_ambiguous``.
        """
        listed = [artifact for artifact in self.artifacts if artifact.name == name]
        named = [artifact for artifact in listed if artifact.kind == kind]
        if not named:
            kinds = _and(artifact.kind for artifact in listed)
            others = _and(artifact.name for artifact in self.artifacts if artifact.kind == kind)
            found = f"{name} as {kinds}" if listed else others or "none"
            raise CheckError(
                "artifact_missing",
                f"The bundle {self.root} has no {kind} {name} (it has {found}); see 'grep name: {self.manifest}'.",
            )
        exact = [artifact for artifact in named if version in (None, artifact.version)]
        if not exact:
            raise CheckError(
                "version_missing",
                f"The bundle {self.root} has {kind} {name} in version {_and(artifact.version for artifact in named)}, "
                f"not {version}; make a bundle of the wanted version, or ask for the one that is there.",
            )
        fitting = [artifact for artifact in exact if artifact.architecture in (architecture, "noarch")]
        if not fitting:
            raise CheckError(
                "architecture_missing",
                f"The bundle {self.root} has {kind} {name} {_and(artifact.version for artifact in exact)} for "
                f"{_and(artifact.architecture for artifact in exact)}, not for {architecture}; "
                f"make a bundle for {architecture}, the host shows its own with 'uname -m'.",
            )
        versions = {artifact.version for artifact in fitting}
        if len(versions) > 1:
            raise CheckError(
                "version_ambiguous",
                f"The bundle {self.root} has {kind} {name} in versions {_and(versions)}; say which one.",
            )
        return next((artifact for artifact in fitting if artifact.architecture == architecture), fitting[0])

    def path(self, artifact: Artifact) -> Path:
        """Return the file of an artifact, which is there and truly below the bundle; what it holds is not looked at.

        Raises:
            CheckError: ``file_missing``, ``path_escape``.
        """
        path = self.root / artifact.file
        try:
            real = path.resolve()
            there = real.is_file()
        except RuntimeError as error:  # a loop of links, before Python 3.13
            raise self._file_missing(artifact, path) from error
        except PermissionError as error:
            raise _denied(path, "read") from error
        if not real.is_relative_to(self.root.resolve()):
            raise CheckError(
                "path_escape",
                f"{path} of {artifact.label} leads out of the bundle to {real}; look with 'ls -l {path}'.",
            )
        if not there:
            raise self._file_missing(artifact, path)
        return path

    def _file_missing(self, artifact: Artifact, path: Path) -> CheckError:
        return CheckError(
            "file_missing",
            f"The bundle lists {artifact.label}, but {path} is no file; the bundle is incomplete, copy it again.",
        )

    def verify(self, artifact: Artifact) -> Path:
        """Return the file of an artifact after its content was verified.

        Raises:
            CheckError: ``file_missing``, ``path_escape``, ``checksum_mismatch``, ``permission_denied``.
        """
        path = self.path(artifact)
        try:
            found = sha256_of(path)
        except PermissionError as error:
            raise _denied(path, "read") from error
        if found != artifact.sha256:
            raise altered(artifact, path, found)
        return path


def altered(artifact: Artifact, path: Path, found: str) -> CheckError:
    """Return the error for a file that isn't what the manifest says."""
    size = path.stat().st_size
    return CheckError(
        "checksum_mismatch",
        f"{path} of {artifact.label} is altered or incomplete ({size} bytes): sha256 is {found}, the manifest says "
        f"{artifact.sha256}; copy the bundle again and compare with 'sha256sum {path}'.",
    )


class Manifest:
    """The manifest of a bundle that is being made.

    What it lists already stays, except what is listed anew and what is no longer there: a bundle may be made in several runs.

    Args:
        root: folder of the bundle, which may have no manifest yet.

    Raises:
        CheckError: of a manifest that is there, as for Bundle.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / MANIFEST
        self.listed = Bundle(root).entries if self.path.exists() else []

    def merged(self, entries: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """Return all entries, sorted, with the SHA-256 of the files of those that are given.

        Args:
            entries: keys of the manifest without ``sha256``, and further ones. The SHA-256 of a file that isn't there is empty.
        """
        sums: dict[str, str] = {}  # one file may hold several artifacts
        found = {}
        for entry in [*self.listed, *entries]:
            file = entry["file"]
            path = self.root / file
            given = dict(entry)
            if "sha256" not in entry:
                if file not in sums:
                    sums[file] = sha256_of(path) if path.is_file() else ""
                given["sha256"] = sums[file]
            elif not path.is_file():
                continue
            found[tuple(entry[key] for key in ("name", "version", "kind", "architecture"))] = given
        return [found[key] for key in sorted(found)]

    def write(self, entries: Sequence[Mapping[str, str]]) -> bool:
        """Write the manifest, which is read and every file of it looked for before it gets its name. Return whether it differs.

        Raises:
            CheckError: as for Bundle, ``file_missing``, ``disk_full``.
        """
        import yaml  # as for reading

        if entries == self.listed:
            return False
        for entry in entries:
            if not entry["sha256"]:
                raise CheckError(
                    "file_missing",
                    f"{self.root / entry['file']} of {entry['name']} is not there; bring it before it is listed.",
                )
        with _storage_errors(self.path):
            descriptor, name = tempfile.mkstemp(dir=self.root, prefix=f".{MANIFEST}.part-")
            unfinished = Path(name)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    yaml.safe_dump([dict(entry) for entry in entries], file, sort_keys=False, width=1000)
                    file.flush()
                    os.fsync(descriptor)
                candidate = Bundle(self.root, unfinished)
                for artifact in candidate.artifacts:
                    candidate.path(artifact)
                unfinished.chmod(0o644)
                unfinished.replace(self.path)
            finally:
                unfinished.unlink(missing_ok=True)
        return True


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True)
class Upstream:
    """A file on the internet.

    Args:
        url: http:// or https:// address.
        sha256: of what the address gives; empty when unknown, which is refused.
        member: path inside the archive that the address gives; empty for the download as it is.
        timeout: seconds without an answer or a byte.

    Raises:
        CheckError: ``bad_option``, ``no_checksum``.
    """

    url: str
    sha256: str
    member: str = ""
    timeout: float = 30

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            parts, usable = urlsplit(""), False
        if not usable or re.search(r"[\x00-\x20]", self.url):
            raise CheckError("bad_option", f"url={self.url} is no usable address; write it like https://host/path.")
        if parts.username or parts.password:
            raise CheckError(
                "bad_option", f"url holds credentials for {parts.hostname}; artifacts are public, leave them out."
            )
        if not self.sha256:
            raise CheckError(
                "no_checksum",
                f"{self.url} has no sha256 to verify it by, so it is not downloaded; take it from a bundle, or add its sha256.",
            )
        if not SHA256.fullmatch(self.sha256):
            raise CheckError("bad_option", f"sha256={self.sha256} is not 64 hex digits in lower case.")
        require_timeout(self.timeout)

    def download(self, into: BinaryIO) -> None:
        """Write the content to a file, verified at the end.

        Redirects are followed, as release pages use them: the checksum and not the address says what the right content is.

        Raises:
            CheckError: ``download_failed``, ``checksum_mismatch``.
        """
        digest = hashlib.sha256()
        size = 0
        try:
            # As the server has it: a proxy's or server's gzip on top would be undone and give another checksum.
            with open_url(
                self.url, headers={"Accept-Encoding": "identity"}, timeout=self.timeout, decompress=False
            ) as answer:
                announced = answer.headers.get("Content-Length")
                while chunk := answer.read(_CHUNK):
                    size += len(chunk)
                    digest.update(chunk)
                    _write(into, chunk)
        except _Storage as error:
            raise error.cause from error
        except HTTPError as error:
            raise self._failed(f"it answered {error.code} {error.reason}") from error
        except (OSError, HTTPException, ValueError, UrlsError) as error:  # refused, reset and TLS errors are OSErrors
            cause = error.reason if isinstance(error, URLError) else error
            raise self._failed(str(cause) or type(cause).__name__) from error
        if announced and announced.isdigit() and int(announced) != size:
            raise self._failed(f"the connection ended after {size} of {announced} bytes")
        if digest.hexdigest() != self.sha256:
            raise CheckError(
                "checksum_mismatch",
                f"{self.url} gave {size} bytes with sha256 {digest.hexdigest()}, expected {self.sha256}; nothing was installed. "
                "Look at what stands between with 'curl -LI', or correct the table of versions.",
            )

    def _failed(self, cause: str) -> CheckError:
        return CheckError(
            "download_failed",
            f"{self.url} could not be downloaded ({cause}); try 'curl -fLO {self.url}', or use a bundle.",
        )

    def extract(self, archive: BinaryIO, into: BinaryIO) -> None:
        """Write the member of a verified archive to a file.

        Only the content of one regular file is read. No path, link, owner or mode of the archive reaches the host, so that it
        is safe also on a Python whose tarfile has no filters (Debian 12).

        Raises:
            CheckError: ``member_missing``, ``bad_archive``.
        """
        wanted = posixpath.normpath(self.member)
        archive.seek(0)
        try:
            with tarfile.open(fileobj=archive, mode="r:*") as tar:
                names = []
                for info in tar:
                    if posixpath.normpath(info.name) == wanted and info.isreg():
                        content = tar.extractfile(info)
                        while chunk := content.read(_CHUNK) if content else b"":
                            _write(into, chunk)
                        return
                    names.append(info.name)
        except _Storage as error:
            raise error.cause from error
        except (tarfile.TarError, zlib.error, LZMAError, EOFError, OSError) as error:
            raise CheckError(
                "bad_archive",
                f"{self.url} is no archive that can be unpacked ({error}); correct url, sha256 or member in the table of versions.",
            ) from error
        shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
        raise CheckError(
            "member_missing",
            f"{self.url} holds no file {self.member} (it holds {shown or 'nothing'}); correct member in the table of versions.",
        )


class _Storage(Exception):
    """Our own file could not be written: never to be taken for an error of the network or the archive."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _write(into: BinaryIO, chunk: bytes) -> None:
    try:
        into.write(chunk)
    except OSError as error:
        raise _Storage(error) from error


class Destination:
    """The file that an artifact becomes on the host.

    It gets its final name as the last step, complete and verified. Of a file out of an archive the checksum of the archive is
    recorded beside it, in ``.<name>.source``, as the file itself can't tell which archive it is from.

    Args:
        path: absolute path of the file.
        mode: its permissions.

    Raises:
        CheckError: ``bad_option`` for a path that can't be a file's.
    """

    def __init__(self, path: Path, mode: int) -> None:
        if not path.name:
            raise CheckError("bad_option", f"dest={path} is no path of a file.")
        self.path = path
        self.mode = mode
        self.record = path.with_name(f".{path.name}.source")

    def holds(self, sha256: str, member: str = "") -> bool:
        """Return whether the file is what came from the source with this checksum.

        Raises:
            CheckError: ``dest_occupied`` by something that is no file, ``permission_denied``.
        """
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
            raise CheckError(
                "dest_occupied",
                f"dest={self.path} is there and is no regular file; choose another dest, or look with 'ls -ld {self.path}'.",
            )
        try:
            if not self.path.exists():
                return False
            content = sha256_of(self.path)
            if not member:
                return content == sha256
            return bool(self._recorded() == {"source": sha256, "member": member, "content": content})
        except PermissionError as error:
            raise _denied(self.path, "read") from error

    def state(self) -> dict[str, str]:
        """Return mode and sha256 of the file that is there, as far as it can be read; empty without one."""
        try:
            if self.path.is_symlink() or not self.path.is_file():
                return {}
            return {"mode": f"{self.path.stat().st_mode & 0o7777:04o}", "sha256": sha256_of(self.path)}
        except OSError:
            return {}

    def _recorded(self) -> Any:
        try:
            return json.loads(self.record.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def origin(self) -> dict[str, str]:
        """Return what is recorded of the file that is there; empty without a record, or when the file was altered since.

        Raises:
            CheckError: ``dest_occupied``, ``permission_denied``.
        """
        recorded = self._recorded()
        if not isinstance(recorded, dict):
            recorded = {}
        if not self.holds(str(recorded.get("content"))):
            return {}
        return {key: str(value) for key, value in recorded.items()}

    def install_made(self, fits: Callable[[], bool], make: Callable[[Path], tuple[Path, dict[str, str]]]) -> bool:
        """Take a file that another program makes. Return whether something changed.

        Args:
            fits: whether what is there is what is wanted.
            make: makes the file in a folder beside the final one, verifies it, and returns it with what is to be recorded of it.
        """
        with self._locked():
            if fits():  # another run may have been faster
                return False
            folder = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=self._prefix))
            try:
                made, origin = make(folder)
                record = folder / "record"
                record.write_text(json.dumps({**origin, "content": sha256_of(made)}) + "\n", encoding="utf-8")
                record.chmod(0o644)
                with made.open("rb") as file:
                    made.chmod(self.mode)
                    os.fsync(file.fileno())
                made.replace(self.path)
                if origin:
                    record.replace(self.record)
                else:
                    self.record.unlink(missing_ok=True)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return True

    def correct_mode(self, *, check_mode: bool) -> bool:
        """Give the file, which is there, its permissions. Return whether they differ, or in check mode would."""
        if self.path.stat().st_mode & 0o7777 == self.mode:
            return False
        if not check_mode:
            with _storage_errors(self.path):
                self.path.chmod(self.mode)
        return True

    def require_possible(self) -> None:
        """Demand that the folder, or the nearest parent that exists, can take the file; for check mode, which doesn't try."""
        nearest = self.path.parent
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir():
            raise CheckError("bad_option", f"dest={self.path}: {nearest} is no folder; choose another dest.")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise _denied(nearest, "written")

    def install_file(self, bundle: Bundle, artifact: Artifact) -> bool:
        """Copy a file of a bundle, verified by what was copied. Return whether something changed."""
        with self._locked():
            if self.holds(artifact.sha256):  # another run may have been faster
                return False
            source = bundle.path(artifact)
            with self._fresh() as (name, fresh):
                digest = hashlib.sha256()
                try:
                    with source.open("rb") as file:
                        while chunk := file.read(_CHUNK):
                            digest.update(chunk)
                            fresh.write(chunk)
                except PermissionError as error:
                    raise _denied(source, "read") from error
                if digest.hexdigest() != artifact.sha256:
                    raise altered(artifact, source, digest.hexdigest())
                self._finish(name, fresh)
                self.record.unlink(missing_ok=True)
            return True

    def install_download(self, upstream: Upstream) -> bool:
        """Download a file, or one file out of an archive. Return whether something changed."""
        with self._locked():
            if self.holds(upstream.sha256, upstream.member):
                return False
            with self._fresh() as (name, fresh):
                upstream.download(fresh)
                if not upstream.member:
                    self._finish(name, fresh)
                    self.record.unlink(missing_ok=True)
                    return True
                with self._fresh() as (inner_name, inner):
                    upstream.extract(fresh, inner)
                    inner.flush()
                    content = sha256_of(inner_name)
                    self._finish(inner_name, inner)
                record = {"source": upstream.sha256, "member": upstream.member, "content": content}
                with self._fresh() as (record_name, file):
                    file.write(json.dumps(record).encode() + b"\n")
                    file.flush()
                    record_name.chmod(0o644)
                    record_name.replace(self.record)
            return True

    @contextmanager
    def _fresh(self) -> Iterator[tuple[Path, BinaryIO]]:
        """Make a file beside the final one, which is gone afterwards unless it was renamed."""
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=self._prefix)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield Path(name), file
        finally:
            Path(name).unlink(missing_ok=True)

    def _finish(self, name: Path, file: BinaryIO) -> None:
        """Give a complete file its permissions and, when it has reached the disk, its name."""
        file.flush()
        name.chmod(self.mode)
        os.fsync(file.fileno())
        name.replace(self.path)

    @property
    def _prefix(self) -> str:
        return f".{self.path.name}.part-"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold off other runs for the same folder, and remove what an interrupted run left of this file."""
        folder = self.path.parent
        with _storage_errors(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                for leftover in folder.glob(f"{_glob_escaped(self._prefix)}*"):
                    if leftover.is_dir():
                        shutil.rmtree(leftover)
                    else:
                        leftover.unlink(missing_ok=True)
                yield
            finally:
                os.close(descriptor)


def _glob_escaped(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _and(words: Any) -> str:
    return ", ".join(sorted(set(words)))


def _denied(path: Path, done: str) -> CheckError:
    return CheckError(
        "permission_denied",
        f"{path} can't be {done} by user id {os.geteuid()}; check owner and mode with 'ls -ld {path}'.",
    )


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Put errors of writing ``path`` into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path.parent) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise _denied(Path(error.filename or path), "written") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EISDIR):
            raise CheckError(
                "bad_option", f"dest={path} is impossible ({error.strerror}); choose another dest."
            ) from error
        raise
