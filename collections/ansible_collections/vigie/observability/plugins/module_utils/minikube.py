# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The life of a Minikube profile on Docker: what there is of it, whose it is, and how it gets to the state that is wanted.

Minikube keeps a profile below MINIKUBE_HOME and its node as a container, with a network and a volume, all three of the
profile's name. Two homes can't tell each other's containers apart: Minikube removes a container of its name without asking.
So the node's own key decides whose it is, before anything is done.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

REASONS = (
    "ok",
    "foreign_profile",
    "needs_recreate",
    "download_failed",
    "start_failed",
    "stop_failed",
    "delete_failed",
    "not_running",
    "docker_unavailable",
    "program_missing",
    "bad_option",
)
"""Reasons that this file gives; the module documents them."""

STAMP = "vigie.json"
"""Written into the profile's folder after its first complete start: only a profile without it may be deleted for repair."""

QUICK = 60.0
"""Seconds that a question to Docker or Minikube may take."""

DOWNLOADS = 1800.0
"""Seconds that Minikube gets for its downloads, gigabytes in all, besides the time for the start itself."""

FROM_CACHE = 600.0
"""Seconds that it gets where everything is in its cache."""

Run = Callable[[list[str], dict[str, str], float], "Answer"]


@dataclass(frozen=True)
class Answer:
    """What a program answered."""

    status: int
    output: bytes
    errors: str

    @property
    def text(self) -> str:
        """Return the output as text."""
        return self.output.decode("utf-8", "replace")


def run_program(command: list[str], environment: dict[str, str], timeout: float) -> Answer:
    """Run a program to its end.

    Raises:
        CheckError: ``program_missing``. A program that doesn't end in time is an answer, of status 124.
    """
    try:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            timeout=timeout,
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise CheckError(
            "program_missing", f"{command[0]} can't be run ({error.strerror}); look with 'ls -l {command[0]}'."
        ) from error
    except OSError as error:
        # What the kernel says of a program for another architecture.
        raise CheckError(
            "program_missing", f"{command[0]} can't be run ({error.strerror}); look with 'file {command[0]}'."
        ) from error
    except subprocess.TimeoutExpired:
        return Answer(124, b"", f"no end after {timeout:.0f} s")
    return Answer(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


@dataclass(frozen=True)
class Wanted:
    """How a profile shall be.

    Attributes:
        kubernetes_version: with or without a leading v.
        base_image: reference of the node image; empty for the one that Minikube has chosen for itself.
        base_image_registry: where that one is taken from, such as ``mirror.example/k8s-minikube``; empty for its own place.
        binary_mirror: address from which Kubernetes' programs are taken instead of the publisher's; empty for the latter.
        container_runtime: as Minikube names it.
        cni: as Minikube names it.
        cpus: number of CPUs of the node.
        memory: MiB of the node.
        extra_config: ``component.key`` to value.
        preload: whether Minikube may download its archive of images.
        cache_images: whether it keeps the images of the control plane in its cache; otherwise the node pulls them.
        force: start although Minikube doubts, above all a version of Kubernetes that it can't look up.
        wait_timeout: seconds until all parts must be healthy.
    """

    kubernetes_version: str
    container_runtime: str
    cni: str
    cpus: int
    memory: int
    base_image: str = ""
    base_image_registry: str = ""
    binary_mirror: str = ""
    extra_config: dict[str, str] = field(default_factory=dict)
    preload: bool = True
    cache_images: bool = True
    force: bool = False
    wait_timeout: int = 360

    @property
    def version(self) -> str:
        """Return the Kubernetes version as Minikube writes it."""
        return f"v{self.kubernetes_version.removeprefix('v')}"

    def arguments(self) -> list[str]:
        """Return the options of ``minikube start``."""
        return [
            "--driver=docker",
            *([f"--base-image={self.base_image}"] if self.base_image else []),
            *([f"--binary-mirror={self.binary_mirror}"] if self.binary_mirror else []),
            f"--kubernetes-version={self.version}",
            f"--container-runtime={self.container_runtime}",
            f"--cni={self.cni}",
            f"--cpus={self.cpus}",
            f"--memory={self.memory}mb",
            f"--preload={'true' if self.preload else 'false'}",
            f"--cache-images={'true' if self.cache_images else 'false'}",
            "--embed-certs",
            "--interactive=false",
            "--wait=all",
            f"--wait-timeout={self.wait_timeout}s",
            # Minikube's driver docker refuses root without it.
            *(["--force"] if self.force or os.geteuid() == 0 else []),
            *(f"--extra-config={key}={value}" for key, value in sorted(self.extra_config.items())),
        ]

    def differences(self, config: dict[str, Any]) -> list[str]:
        """Return in words what Minikube's configuration of the profile has otherwise, and what only a new profile can change."""
        kubernetes = config.get("KubernetesConfig") or {}
        extra = {f"{o.get('Component')}.{o.get('Key')}": o.get("Value") for o in kubernetes.get("ExtraOptions") or []}
        # Noted without the digest where Docker itself can't pull it. Minikube's own choice changes with Minikube.
        had_image = _undigested(config.get("KicBaseImage"))
        pairs: list[tuple[str, Any, Any]] = [
            ("driver", config.get("Driver"), "docker"),
            ("kubernetes_version", kubernetes.get("KubernetesVersion"), self.version),
            ("base_image", had_image, _undigested(self.base_image) or had_image),
            ("container_runtime", kubernetes.get("ContainerRuntime"), self.container_runtime),
            ("cni", kubernetes.get("CNI"), self.cni),
            ("cpus", config.get("CPUs"), self.cpus),
            ("memory", config.get("Memory"), self.memory),
        ]
        pairs += [(f"extra_config {key}", extra.get(key), value) for key, value in sorted(self.extra_config.items())]
        return [f"{name} is {found}, not {wanted}" for name, found, wanted in pairs if found != wanted]


@dataclass
class Seen:
    """What there is of a profile.

    Attributes:
        config: Minikube's own configuration of it, None without, and empty when it can't be read.
        complete: it has been started completely before.
        container: state of the container of its name (``running``, ``exited`` ...), empty without.
        ours: the container is the node of this very profile.
        leftovers: network and volume of its name.
        status: Minikube's words for host, kubelet, API server and kubeconfig.
    """

    config: dict[str, Any] | None = None
    complete: bool = False
    container: str = ""
    ours: bool = False
    leftovers: list[str] = field(default_factory=list)
    status: dict[str, str] = field(default_factory=dict)

    @property
    def foreign(self) -> list[str]:
        """Return what of that name is somebody else's."""
        found = ["container"] if self.container and not self.ours else []
        return found + (self.leftovers if self.config is None and not self.ours else [])

    @property
    def running(self) -> bool:
        """Whether every part is up."""
        wanted = {"Host": "Running", "Kubelet": "Running", "APIServer": "Running", "Kubeconfig": "Configured"}
        return wanted.items() <= self.status.items()

    def summary(self) -> dict[str, Any]:
        """Return what people want to read."""
        found = asdict(self)
        found["config"] = self.config is not None
        return found


class Profile:
    """A profile of one MINIKUBE_HOME.

    Args:
        name: of the profile.
        home: MINIKUBE_HOME.
        kubeconfig: file into which Minikube writes the access.
        executable: path of minikube.
        docker: path or name of Docker's client.
        run: runs a program; another one in tests.
    """

    def __init__(
        self,
        name: str,
        *,
        home: Path,
        kubeconfig: Path,
        executable: str,
        docker: str = "docker",
        run: Run = run_program,
    ) -> None:
        self.name = name
        self.home = home
        self.executable = executable
        self.docker = docker
        self._run = run
        # Minikube adds .minikube to a home that does not end with it.
        self.data = home if home.name == ".minikube" else home / ".minikube"
        self.folder = self.data / "profiles" / name
        self.environment = {
            "MINIKUBE_HOME": str(home),
            "KUBECONFIG": str(kubeconfig),
            # Minikube's locks and logs lie there, and shall be gone with the home.
            "TMPDIR": str(home / "tmp"),
            "MINIKUBE_IN_STYLE": "false",
            "MINIKUBE_WANTUPDATENOTIFICATION": "false",
            "MINIKUBE_WANTREPORTERRORPROMPT": "false",
        }

    def _ask_docker(self, *arguments: str) -> Answer:
        return self._run([self.docker, *arguments], {}, QUICK)

    def _minikube(self, *arguments: str, timeout: float = QUICK) -> Answer:
        (self.home / "tmp").mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._run([self.executable, *arguments, f"--profile={self.name}"], self.environment, timeout)

    def look(self) -> Seen:
        """Return what there is.

        Raises:
            CheckError: ``docker_unavailable``, ``program_missing``.
        """
        seen = Seen(config=self._config(), complete=(self.folder / STAMP).is_file())
        found = self._inspect("container")
        if found is not None:
            seen.container = str(found.get("State", {}).get("Status", "unknown"))
            seen.ours = self._owns_container(seen, found)
        seen.leftovers = [kind for kind in ("network", "volume") if self._inspect(kind) is not None]
        if seen.config and seen.ours:
            seen.status = self._status()
        return seen

    def _config(self) -> dict[str, Any] | None:
        try:
            config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            # A folder without it is what an interruption leaves.
            return {} if self.folder.is_dir() else None
        except ValueError:
            return {}
        return config if isinstance(config, dict) else {}

    def _inspect(self, kind: str) -> dict[str, Any] | None:
        answer = self._ask_docker(kind, "inspect", self.name)
        if answer.status == 0:
            return dict(json.loads(answer.text)[0])
        if re.search(r"no such|not found", answer.errors, re.IGNORECASE):
            return None
        raise CheckError(
            "docker_unavailable",
            f"Docker can't tell about {kind} {self.name} ({_last(answer.errors)}); see 'docker {kind} inspect {self.name}'.",
        )

    def _owns_container(self, seen: Seen, container: dict[str, Any]) -> bool:
        """Whether the container lets in the key of this profile; one without any key was interrupted while it was made."""
        answer = self._ask_docker("cp", f"{self.name}:/home/docker/.ssh/authorized_keys", "-")
        if answer.status != 0:
            # A container of somebody else that is no node has no such file either.
            labels = (container.get("Config") or {}).get("Labels") or {}
            return seen.config is not None and labels.get("created_by.minikube.sigs.k8s.io") == "true"
        try:
            with tarfile.open(fileobj=io.BytesIO(answer.output)) as archive:
                member = archive.extractfile(archive.getmembers()[0])
                accepted = member.read().decode("utf-8", "replace").strip() if member else ""
            key = (self.data / "machines" / self.name / "id_rsa.pub").read_text(encoding="utf-8").strip()
        except (OSError, tarfile.TarError, IndexError):
            return False
        return bool(key) and key in accepted

    def _status(self) -> dict[str, str]:
        # The exit code is a bit mask of what does not run; the words say more.
        answer = self._minikube("status", "--output=json")
        try:
            words = json.loads(answer.text)
        except ValueError:
            return {}
        words = words[0] if isinstance(words, list) and words else words
        return {key: str(value) for key, value in words.items()} if isinstance(words, dict) else {}

    def start(self, wanted: Wanted) -> None:
        """Create or start the profile, and remember that it was complete.

        Raises:
            CheckError: ``download_failed``, ``start_failed``, ``not_running``, ``program_missing``.
        """
        forget_unfinished(self.data / "cache")
        if (self.folder / STAMP).is_file():
            # Its version has run, so whether GitHub, which Minikube would ask, knows it and answers has no meaning any more.
            wanted = replace(wanted, force=True)
        arguments = [*wanted.arguments(), *self._mirrored_base_image(wanted)]
        if wanted.binary_mirror:
            self.download(arguments)
        patience = wanted.wait_timeout + (DOWNLOADS if wanted.preload or not wanted.cache_images else FROM_CACHE)
        answer = self._minikube("start", *arguments, timeout=patience)
        if answer.status != 0:
            raise CheckError(
                "start_failed",
                f"minikube start of profile {self.name} ended with {answer.status}: {_cause(answer)}; see {self._logs_command()}.",
            )
        seen = self.look()
        if not seen.running:
            raise CheckError(
                "not_running",
                f"minikube start succeeded, but then profile {self.name} is {seen.status or 'not there'}; see {self._logs_command()}.",
            )
        self.remember()

    def download(self, arguments: list[str]) -> None:
        """Fill Minikube's cache with Kubernetes' programs, whole and verified or not at all.

        A start would ask the kubeadm in the cache which images its version needs, and without one download it from its publisher,
        whatever mirror there is.

        Args:
            arguments: the options of the start that follows.

        Raises:
            CheckError: ``download_failed``, ``program_missing``.
        """
        forget_unfinished(self.data / "cache")
        answer = self._minikube("start", *arguments, "--download-only", timeout=DOWNLOADS)
        if answer.status != 0:
            raise CheckError(
                "download_failed",
                f"minikube start --download-only of profile {self.name} ended with {answer.status}: {_cause(answer)}; see {self._logs_command()}.",
            )

    def _mirrored_base_image(self, wanted: Wanted) -> list[str]:
        """Return the option for Minikube's own node image at a mirror: name, version and digest are those that Minikube has built in."""
        if wanted.base_image or not wanted.base_image_registry:
            return []
        own = re.search(r"--base-image='[^']*/([^/']+)'", self._minikube("start", "--help").text)
        if not own:
            raise CheckError(
                "start_failed",
                f"{self.executable} does not say which node image it needs; see '{self.executable} start --help', and set base_image.",
            )
        return [f"--base-image={wanted.base_image_registry}/{own[1]}"]

    def remember(self) -> None:
        """Write down that the profile was complete once."""
        (self.folder / STAMP).write_text("{}\n", encoding="utf-8")

    def stop(self) -> None:
        """Stop the node.

        Raises:
            CheckError: ``stop_failed``, ``program_missing``.
        """
        answer = self._minikube("stop", timeout=QUICK * 3)
        if answer.status != 0:
            raise CheckError("stop_failed", f"minikube stop of profile {self.name} failed: {_cause(answer)}.")

    def delete(self) -> None:
        """Remove the profile with its container, network and volume.

        Raises:
            CheckError: ``delete_failed``, ``program_missing``, ``docker_unavailable``.
        """
        answer = self._minikube("delete", timeout=QUICK * 6)
        seen = self.look()
        left = (["container"] if seen.container else []) + seen.leftovers
        if answer.status != 0 or left or seen.config is not None:
            raise CheckError(
                "delete_failed",
                f"minikube delete of profile {self.name} ended with {answer.status} and left {', '.join(left) or 'its folder'}: "
                f"{_cause(answer)}; see 'docker container inspect {self.name}'.",
            )

    def _logs_command(self) -> str:
        return f"'MINIKUBE_HOME={self.home} {self.executable} logs --profile={self.name}'"


def forget_unfinished(cache: Path) -> None:
    """Remove what an interrupted or refused download left in Minikube's cache: it would be continued, or taken for whole."""
    for path in cache.rglob("*.download"):
        path.unlink(missing_ok=True)
    for path in cache.glob("kic/*/*.tar"):
        if not _whole(path):
            path.unlink(missing_ok=True)


def _whole(path: Path) -> bool:
    """Whether an archive of an image has its last member, which lists the others."""
    try:
        with tarfile.open(path, "r:") as archive:
            return archive.getnames()[-1] == "manifest.json"
    except (OSError, tarfile.TarError, IndexError):
        return False


def _undigested(reference: Any) -> str:
    return str(reference).split("@", maxsplit=1)[0]


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no answer"


def _cause(answer: Answer) -> str:
    """Return the line in which Minikube says why it gives up."""
    said = f"{answer.text}\n{answer.errors}"
    reasons = re.findall(r"Exiting due to (.+)", said)
    return (reasons[-1] if reasons else _last(said)).strip()


@dataclass
class Outcome:
    """What was done, or in check mode would be.

    Attributes:
        action: none, created, started, repaired, recreated, stopped or deleted.
        note: one sentence about it where there is something to say.
        seen: the profile before.
    """

    action: str
    note: str
    seen: Seen


def bring_up(profile: Profile, wanted: Wanted, *, recreate: bool, check_mode: bool) -> Outcome:
    """Create, start or repair a profile; one that runs as wanted is left alone.

    Args:
        profile: the profile.
        wanted: how it shall be.
        recreate: a profile that differs may be deleted, with all that its cluster holds.
        check_mode: look only.

    Raises:
        CheckError: with one of REASONS.
    """
    seen = profile.look()
    if seen.foreign:
        raise CheckError("foreign_profile", foreign(profile.name, seen.foreign))
    if seen.config is None:
        if not check_mode:
            profile.start(wanted)
        return Outcome("created", "", seen)
    differences = wanted.differences(seen.config) if seen.config else []
    if differences and seen.complete and not recreate:
        raise CheckError(
            "needs_recreate",
            f"Profile {profile.name} can't be changed while it lives: {'; '.join(differences)}. Set the old values, or delete the cluster and all "
            "that it holds by 'ansible-playbook playbooks/host.yml -e minikube_recreate=true'.",
        )
    if differences or not seen.config:
        if not check_mode:
            profile.delete()
            profile.start(wanted)
        why = "; ".join(differences) or "its configuration can't be read"
        return Outcome("recreated", f"Profile {profile.name} was deleted and made again: {why}.", seen)
    if seen.running:
        if not seen.complete and not check_mode:
            profile.remember()
        return Outcome("none", "", seen)
    if seen.complete:
        if not check_mode:
            profile.start(wanted)
        return Outcome("started", f"Profile {profile.name} did not run and was started.", seen)
    return _repair(profile, wanted, seen, check_mode)


def _repair(profile: Profile, wanted: Wanted, seen: Seen, check_mode: bool) -> Outcome:
    """Finish a start that was interrupted; where that fails, begin anew: nobody has put anything into that cluster."""
    if check_mode:
        return Outcome("repaired", f"Profile {profile.name} is half made, its start would be finished.", seen)
    try:
        profile.start(wanted)
    except CheckError as error:
        profile.delete()
        profile.start(wanted)
        return Outcome(
            "recreated",
            f"Profile {profile.name} was half made and could not be finished ({error.hint}), so it was made again.",
            seen,
        )
    return Outcome("repaired", f"Profile {profile.name} was half made; its start was finished.", seen)


def take_down(profile: Profile, *, check_mode: bool) -> Outcome:
    """Delete a profile, when there is one and it is ours.

    Raises:
        CheckError: with one of REASONS.
    """
    seen = profile.look()
    if seen.config is None and not seen.ours:
        note = foreign(profile.name, seen.foreign) if seen.foreign else ""
        return Outcome("none", note, seen)
    if "container" in seen.foreign:
        raise CheckError("foreign_profile", foreign(profile.name, seen.foreign))
    if not check_mode:
        profile.delete()
    return Outcome("deleted", "", seen)


def halt(profile: Profile, *, check_mode: bool) -> Outcome:
    """Stop a profile's node, when it runs and is ours.

    Raises:
        CheckError: with one of REASONS.
    """
    seen = profile.look()
    if seen.foreign:
        raise CheckError("foreign_profile", foreign(profile.name, seen.foreign))
    if seen.container != "running":
        return Outcome("none", "", seen)
    if not check_mode:
        profile.stop()
    return Outcome("stopped", "", seen)


def foreign(name: str, kinds: list[str]) -> str:
    """Return the sentence about what is somebody else's."""
    remove = "; ".join(f"docker {kind} rm {'--force ' if kind == 'container' else ''}{name}" for kind in kinds)
    return (
        f"Docker has a {' and a '.join(kinds)} {name} that do{'es' if len(kinds) == 1 else ''} not belong to this MINIKUBE_HOME, so minikube_profile={name} "
        f"is somebody else's; choose another name, or remove what is there if nobody needs it ({remove})."
    )
