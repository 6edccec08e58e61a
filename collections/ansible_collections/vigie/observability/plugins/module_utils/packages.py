# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Packages of the distribution unpacked into a folder, without installing them and without root.

apt does the choosing, downloading and verifying, with the system's configuration (sources, proxy, keys, pins), but with every
file that it would write redirected below a folder of ours and with its hooks removed, so that the system stays as it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

PACKAGE_NAME = re.compile(r"^[a-z0-9][a-z0-9+.-]+$")
PACKAGE_VERSION = re.compile(r"^[A-Za-z0-9.+~:-]+$")

# A line of `apt-get download --print-uris`: 'uri' file size hash
_URI_LINE = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+\.deb) (?P<size>\d+) ?(?:SHA256:(?P<sha256>[0-9a-f]{64}))?")
_UNWANTED_SETTING = re.compile(
    r"^[^ ]*Invoke"  # hooks of others change the system
    r"|^Acquire::IndexTargets::deb::(?!Packages)"  # icons, contents, translations: nothing here reads them
)
_NO_SPACE = ("No space left on device", "enough free space", "Disk quota exceeded")
_APT_TIMEOUT = 900
"""Seconds for one call of apt: a stalled mirror must not hold a play for ever."""


@dataclass(frozen=True)
class Candidate:
    """A package that apt can download: exact version and the file it comes as."""

    version: str
    file: str
    sha256: str | None


@dataclass(frozen=True)
class Unpacked:
    """What a run left, or in check mode would leave.

    Attributes:
        changed: something is (or would be) different.
        version: of the unpacked package; empty when unknown, as in check mode before any list was fetched.
        folder: the unpacked folder; empty when unknown.
    """

    changed: bool
    version: str = ""
    folder: str = ""


def folder_version(folder: str) -> str:
    """Return the version that a folder ``<name>_<version>_<arch>`` holds; apt writes an epoch's colon as %3a."""
    parts = folder.split("_")
    return unquote(parts[1]) if len(parts) == 3 else ""


def first_error(text: str) -> str:
    """Return the first error line of apt or dpkg, else the first warning, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for prefix in ("E: ", "Err:", "dpkg-deb: error", "W: "):
        for line in lines:
            if line.startswith(prefix):
                return line.removeprefix(prefix)[:300]
    return lines[-1][:300] if lines else "no message"


class Apt:
    """apt with the system's configuration and private folders.

    Args:
        cache: folder for downloads and private package lists.
        config: file to which the effective configuration is written; may be temporary.
    """

    def __init__(self, cache: Path, config: Path) -> None:
        self._cache = cache
        self._config = config
        self.lists = cache / "apt" / "lists"
        for tool in ("apt-config", "apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise CheckError(
                    "apt_missing",
                    f"{tool} was not found, so packages can't be unpacked here; use a Debian or Ubuntu host.",
                )

    def configure(self) -> None:
        """Write the configuration that every later call uses."""
        dump = self._run(["apt-config", "dump"], own=False).stdout
        lines = [line for line in dump.splitlines() if not _UNWANTED_SETTING.match(line)]
        private = self._cache / "apt"
        lines += [
            # The system's configuration is complete above; reading it again would bring the hooks back.
            'Dir::Etc::parts "/dev/null";',
            'Dir::Etc::main "/dev/null";',
            f'Dir::Cache "{private}/cache";',
            'Dir::Cache::pkgcache "";',
            'Dir::Cache::srcpkgcache "";',
            # What is installed here is of no interest: only what the mirrors offer can be downloaded.
            'Dir::State::status "/dev/null";',
            'Acquire::Languages "none";',
            'Acquire::IndexTargets::deb-src::Sources::DefaultEnabled "false";',
        ]
        if os.geteuid() == 0:
            # The user _apt can't enter a private state directory.
            lines.append('APT::Sandbox::User "root";')
        self._config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def find(self, name: str, version: str | None, *, private: bool) -> Candidate | None:
        """Return what the package lists offer, or None when they don't know the package (in that version)."""
        done = self._apt_get(["download", "--print-uris", _exact(name, version)], private=private)
        for line in done.stdout.splitlines():
            match = _URI_LINE.match(line)
            if match:
                return Candidate(folder_version(match["file"].removesuffix(".deb")), match["file"], match["sha256"])
        return None

    def update(self) -> str:
        """Fetch the private package lists.

        Returns:
            An empty text, or the first complaint: apt succeeds when some sources can't be reached.
        """
        (self.lists / "partial").mkdir(parents=True, exist_ok=True)
        done = self._apt_get(["update"], private=True)
        if _is_full(done.stderr):
            raise disk_full(self._cache)
        failed = done.returncode != 0 or "Failed to fetch" in done.stderr
        return first_error(done.stderr) if failed else ""

    def download(self, name: str, candidate: Candidate, *, private: bool) -> str:
        """Download a package into the cache, verified by apt against the signed lists; returns the complaint, or nothing."""
        target = self._cache / candidate.file
        if target.is_file() and candidate.sha256 and _sha256(target) == candidate.sha256:
            return ""
        (self._cache / "apt" / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        done = self._apt_get(["download", _exact(name, candidate.version)], private=private, cwd=self._cache)
        if _is_full(done.stderr):
            raise disk_full(self._cache)
        if done.returncode != 0 or not target.is_file():
            return first_error(done.stderr)
        return ""

    def _apt_get(
        self, arguments: list[str], *, private: bool, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        lists = ["-o", f"Dir::State::lists={self.lists}"] if private else []
        return self._run(["apt-get", "-q", *lists, *arguments], cwd=cwd)

    def _run(
        self, command: list[str], *, own: bool = True, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "LC_ALL": "C"}
        if own:
            environment["APT_CONFIG"] = str(self._config)
        try:
            return subprocess.run(
                command,
                env=environment,
                cwd=cwd,
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=_APT_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CheckError(
                "download_failed",
                f"{command[0]} was not done after {_APT_TIMEOUT} s; check the mirror with 'apt-get update'.",
            ) from error


class PackageFolder:
    """The folder in which packages are unpacked side by side, each with a link of its plain name.

    Args:
        name: package.
        dest: folder in which ``<name>_<version>_<arch>/`` and the link ``<name>`` are made.
        cache: folder for downloads and private package lists.
    """

    def __init__(self, name: str, dest: Path, cache: Path) -> None:
        if not PACKAGE_NAME.match(name):
            raise CheckError("bad_option", f"name={name} is no package name; use lower-case letters, digits and +.-")
        self.name = name
        self.dest = dest
        self.cache = cache
        self.link = dest / name

    def current(self) -> Path | None:
        """Return the complete folder that the link points to, if any."""
        if not self.link.is_symlink():
            if self.link.exists():
                raise CheckError(
                    "dest_occupied",
                    f"{self.link} is not a link made by this module; move it away or choose another dest.",
                )
            return None
        target = self.dest / self.link.readlink()
        # A folder gets this name only when it is complete: it is renamed to it as the last step.
        return target if target.is_dir() and folder_version(target.name) else None

    def _kept(self, version: str | None) -> Path | None:
        """Return the folder of an exact version that an earlier run unpacked."""
        folders = self.dest.glob(f"{self.name}_*_*") if version else ()
        return next((folder for folder in folders if folder.is_dir() and folder_version(folder.name) == version), None)

    def relocate(self, folder: Path, paths: list[str], *, check_mode: bool) -> bool:
        """Make the package's programs find folders that are compiled into them below their working directory.

        An absolute path is turned into the relative path of the same length (``/usr/share/x`` into ``usr/share/x/``), the
        only kind of change that a binary bears. Looks at what the files hold, so it mends an interrupted run.

        Args:
            folder: an unpacked package.
            paths: absolute folders.
            check_mode: change nothing.

        Returns:
            Whether a program was (or would be) changed.
        """
        changed = False
        for program in sorted((folder / "usr" / "bin").glob("*")):
            if program.is_symlink() or not program.is_file():
                continue
            before = program.read_bytes()
            after = before
            for path in paths:
                after = after.replace(path.encode(), f"{path[1:]}/".encode())
            if after == before:
                continue
            changed = True
            if not check_mode:
                with self._locked():
                    fresh = Path(tempfile.mkdtemp(prefix=f".{self.name}.unpack-", dir=self.dest))
                    try:
                        (fresh / program.name).write_bytes(after)
                        shutil.copymode(program, fresh / program.name)
                        (fresh / program.name).replace(program)
                    finally:
                        _remove_tree(fresh)
        return changed

    def leftovers(self) -> list[Path]:
        """Return what an interrupted run left."""
        return sorted(self.dest.glob(f".{self.name}.unpack-*"))

    def present(self, *, version: str | None, upgrade: bool, keep: bool, check_mode: bool, temporary: Path) -> Unpacked:
        """Make sure that the package is unpacked.

        Args:
            version: the exact version wanted, or None for whatever is there, else the lists' candidate.
            upgrade: look for a newer candidate although a version is there.
            keep: keep the downloaded file.
            check_mode: change nothing.
            temporary: folder for a temporary configuration file of apt.

        Raises:
            CheckError: with one of the reasons documented by the module.
        """
        if version and not PACKAGE_VERSION.match(version):
            raise CheckError("bad_option", f"version={version} is no package version.")
        current = self.current()
        have = folder_version(current.name) if current else ""
        leftovers = bool(self.leftovers())
        if current and not leftovers and (have == version if version else not upgrade):
            return Unpacked(False, have, str(current))
        if check_mode:
            return self._forecast(current, version, upgrade, leftovers, temporary)
        with self._locked():
            for leftover in self.leftovers():
                _remove_tree(leftover)
            current = self.current()  # another run may have been faster
            have = folder_version(current.name) if current else ""
            if current and (have == version if version else not upgrade):
                return Unpacked(leftovers, have, str(current))
            made = self._unpack(version, have if not version else "", keep, temporary)
        return Unpacked(made.changed or leftovers, made.version, made.folder)

    def absent(self, *, check_mode: bool) -> Unpacked:
        """Remove every unpacked version, the link, interrupted runs and downloaded files of the package."""
        self.current()  # refuses to remove what is not ours
        doomed = [*self.leftovers(), *self.dest.glob(f"{self.name}_*_*"), *self.cache.glob(f"{self.name}_*_*.deb")]
        if not (doomed or self.link.is_symlink()):
            return Unpacked(False)
        if not check_mode:
            try:
                with self._locked():
                    self.link.unlink(missing_ok=True)
                    for path in doomed:
                        _remove_tree(path)
            except PermissionError as error:
                raise _denied(error, self.dest) from error
        return Unpacked(True)

    def _forecast(
        self, current: Path | None, version: str | None, upgrade: bool, leftovers: bool, temporary: Path
    ) -> Unpacked:
        """Say what a real run would do, from the lists that are there: check mode fetches none."""
        for folder in (self.dest, self.cache):
            _require_writable(folder)
        have = folder_version(current.name) if current else ""
        if current and (have == version if version else not upgrade):
            return Unpacked(leftovers, have, str(current))
        kept = self._kept(version)
        if kept:
            return Unpacked(True, folder_version(kept.name), str(kept))
        apt = Apt(self.cache, temporary / "apt.conf")
        apt.configure()
        candidate = apt.find(self.name, version, private=False) or apt.find(self.name, version, private=True)
        if candidate is None:
            # A real run would fetch lists first; what they will offer is not known yet.
            return Unpacked(leftovers or not current, version or have, str(current or ""))
        if current and (have == candidate.version or (not version and not _newer(candidate.version, have))):
            return Unpacked(leftovers, have, str(current))
        return Unpacked(True, candidate.version, str(self.dest / candidate.file.removesuffix(".deb")))

    def _unpack(self, version: str | None, have: str, keep: bool, temporary: Path) -> Unpacked:
        kept = self._kept(version)
        if kept:
            self._point_to(kept)
            return Unpacked(True, folder_version(kept.name), str(kept))
        apt = Apt(self.cache, temporary / "apt.conf")
        apt.configure()
        candidate, private = self._choose(apt, version)
        if have and not _newer(candidate.version, have):
            current = self.current()
            return Unpacked(False, have, str(current or ""))
        folder = self.dest / candidate.file.removesuffix(".deb")
        if not folder.is_dir():
            candidate = self._fetch(apt, candidate, version, private)
            folder = self.dest / candidate.file.removesuffix(".deb")
        if not folder.is_dir():
            self._extract(self.cache / candidate.file, folder)
        self._point_to(folder)
        if not keep:
            for file in self.cache.glob(f"{self.name}_*_*.deb"):
                file.unlink(missing_ok=True)
        return Unpacked(True, candidate.version, str(folder))

    def _choose(self, apt: Apt, version: str | None) -> tuple[Candidate, bool]:
        """Return the candidate and whether the private lists know it; they are fetched when no list at hand does."""
        for private in (False, True):
            candidate = apt.find(self.name, version, private=private)
            if candidate:
                return candidate, private
        complaint = apt.update()
        candidate = apt.find(self.name, version, private=True)
        if candidate:
            return candidate, True
        if complaint:
            raise CheckError(
                "lists_failed",
                f"The package lists could not be fetched ({complaint}); check network and mirror with 'apt-get update'.",
            )
        other = apt.find(self.name, None, private=True) if version else None
        if other:
            raise CheckError(
                "version_unknown",
                f"Package {self.name} is not offered in version {version} but in {other.version}; "
                f"see 'apt-cache madison {self.name}'.",
            )
        raise CheckError(
            "package_unknown",
            f"No package {self.name} in the package lists of this host; {_component_advice()}",
        )

    def _fetch(self, apt: Apt, candidate: Candidate, version: str | None, private: bool) -> Candidate:
        """Download the candidate; when the mirror no longer has that file, fetch fresh lists and take what they offer."""
        complaint = apt.download(self.name, candidate, private=private)
        if not complaint:
            return candidate
        stale = apt.update()
        fresh = apt.find(self.name, version, private=True)
        if fresh and not stale:
            complaint = apt.download(self.name, fresh, private=True)
            if not complaint:
                return fresh
        raise CheckError(
            "download_failed",
            f"Package {self.name} {candidate.version} could not be downloaded ({complaint}); "
            "check network and mirror with 'apt-get update'.",
        )

    def _extract(self, archive: Path, folder: Path) -> None:
        """Unpack beside the final place and rename, so that a folder of the final name is always complete."""
        staging = Path(tempfile.mkdtemp(prefix=f".{self.name}.unpack-", dir=self.dest))
        try:
            done = subprocess.run(
                ["dpkg-deb", "-x", str(archive), str(staging)],
                env={**os.environ, "LC_ALL": "C"},
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            if done.returncode != 0:
                if _is_full(done.stderr):
                    raise disk_full(self.dest)
                archive.unlink(missing_ok=True)
                raise CheckError(
                    "bad_package",
                    f"{archive.name} could not be unpacked ({first_error(done.stderr)}); it was removed, so run again.",
                )
            staging.chmod(0o755)
            _flush_tree(staging)
            staging.rename(folder)
            _flush(self.dest)
        except BaseException:
            _remove_tree(staging)
            raise

    def _point_to(self, folder: Path) -> None:
        """Make the link point to a folder in one step: there is no moment without it."""
        fresh = Path(tempfile.mkdtemp(prefix=f".{self.name}.unpack-", dir=self.dest))
        try:
            (fresh / "link").symlink_to(folder.name)
            (fresh / "link").replace(self.link)
        finally:
            _remove_tree(fresh)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold off other runs for the same folders: one must not remove the other's unfinished work."""
        for folder in (self.dest, self.cache):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise CheckError("bad_option", f"{folder} is no folder; choose another dest or cache.") from error
            except PermissionError as error:
                raise _denied(error, folder) from error
            _require_writable(folder)
        try:
            with ExitStack() as stack:
                # One order for everybody, and a folder given twice only once: else two runs could wait for each other.
                for folder in sorted({self.dest.resolve(), self.cache.resolve()}):
                    descriptor = os.open(folder, os.O_RDONLY)
                    stack.callback(os.close, descriptor)
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
        except PermissionError as error:
            raise _denied(error, self.dest) from error
        except OSError as error:
            if _is_full(str(error)):
                raise disk_full(self.dest) from error
            raise


def disk_full(folder: Path) -> CheckError:
    """Return the error for a file system without space."""
    return CheckError("disk_full", f"No space is left on the file system of {folder}; look with 'df -h {folder}'.")


def _exact(name: str, version: str | None) -> str:
    return f"{name}={version}" if version else name


def _is_full(text: str) -> bool:
    return any(phrase in text for phrase in _NO_SPACE)


def _denied(error: PermissionError, folder: Path) -> CheckError:
    path = error.filename or folder
    return CheckError(
        "permission_denied",
        f"{path} can't be written by user id {os.geteuid()}; check its owner and mode with 'ls -ld {folder}'.",
    )


def _require_writable(folder: Path) -> None:
    """Demand that a folder, or the nearest parent that exists, can be written."""
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise CheckError("bad_option", f"{nearest} is no folder; choose another dest or cache.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise CheckError(
            "permission_denied",
            f"{nearest} can't be written by user id {os.geteuid()}; check its owner and mode with 'ls -ld {nearest}'.",
        )


def _newer(version: str, than: str) -> bool:
    done = subprocess.run(["dpkg", "--compare-versions", version, "gt", than], check=False)
    return done.returncode == 0


def _component_advice() -> str:
    try:
        ubuntu = re.search(r"^ID=\"?ubuntu", Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        ubuntu = None
    component = "component universe" if ubuntu else "component (main, contrib)"
    return f"check its spelling and that the {component} is enabled with 'grep -r . /etc/apt/sources.list*'."


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_tree(root: Path) -> None:
    """Bring a tree to the disk before it gets its final name, so that a power failure can't leave a hollow one."""
    for folder, _folders, files in os.walk(root):
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink() and os.access(path, os.R_OK):
                _flush(path)
        _flush(Path(folder))


def _remove_tree(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
