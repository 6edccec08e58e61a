# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Images from Docker to a registry: nothing is pushed that is there, and each failure is one sentence."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.fetching import REFERENCE
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

try:
    import docker
    from docker import auth, errors
    from requests.exceptions import RequestException
except ImportError:  # the module says so
    docker = None

REASONS = (
    "bad_option",
    "missing_library",
    "docker_unreachable",
    "image_missing",
    "login_invalid",
    "access_denied",
    "push_failed",
)
"""Reasons that this file gives; the module documents them."""

_DENIED = re.compile(r"unauthorized|authentication required|denied|no basic auth credentials", re.IGNORECASE)
_PLAIN = "server gave HTTP response to HTTPS client"
_HUB = re.compile(r"^docker\.io/(library/)?")


def connect(timeout: float) -> Any:
    """Return a client of the Docker that runs here.

    Raises:
        CheckError: ``missing_library``, ``docker_unreachable``.
    """
    if docker is None:
        raise CheckError(
            "missing_library", "The Python library docker is missing on this host; run the role host_python."
        )
    try:
        return docker.DockerClient.from_env(version="auto", timeout=timeout).api
    except errors.DockerException as error:
        raise CheckError(
            "docker_unreachable",
            f"Docker does not answer ({error}); look with 'docker version', or run the role docker.",
        ) from error


def login_for(registry: str, config: Path | None) -> dict[str, Any]:
    """Return the login for a registry out of a file as ``docker login`` writes it; empty without a file.

    Raises:
        CheckError: ``login_invalid``.
    """
    if config is None:
        return {}
    try:
        if not isinstance(json.loads(config.read_text(encoding="utf-8")), dict):
            raise ValueError("it is no object")
        found = auth.load_config(str(config)).resolve_authconfig(registry)
    except (OSError, ValueError, errors.DockerException) as error:
        cause = getattr(error, "strerror", None) or error
        raise CheckError(
            "login_invalid",
            f"{config} is no file with logins ({cause}); write it by 'docker --config {config.parent} login {registry}'.",
        ) from error
    if not found:
        raise CheckError(
            "login_invalid",
            f"{config} has no login for {registry}; add it by 'docker --config {config.parent} login {registry}', or name no such file.",
        )
    return dict(found)


@dataclass
class Push:
    """An image of Docker that is to be in a registry.

    Args:
        client: of the Docker that has it.
        source: its name or id there.
        name: registry/repository:tag.
        login: for the registry; empty for none.

    Attributes:
        repository: the name without its tag.
        tag: the tag.
    """

    client: Any
    source: str
    name: str
    login: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not REFERENCE.fullmatch(self.name):
            raise CheckError(
                "bad_option",
                f"name={self.name} is no image in a registry; write it like registry.example:5000/team/name:tag.",
            )
        self.repository, _colon, self.tag = self.name.rpartition(":")

    def known(self) -> set[str]:
        """Return the digests under which Docker knows that registries have the image.

        Raises:
            CheckError: ``image_missing``, ``docker_unreachable``.
        """
        try:
            listed = self.client.inspect_image(self.source).get("RepoDigests") or []
        except errors.NotFound as error:
            raise CheckError(
                "image_missing", f"Docker has no image {self.source}; run the role app_image, which builds it."
            ) from error
        except (errors.DockerException, RequestException) as error:
            raise self._failed(str(error)) from error
        pairs = (entry.rpartition("@") for entry in listed)
        return {
            digest for name, _at, digest in pairs if name == _HUB.sub("", self.repository) or name == self.repository
        }

    def there(self) -> str:
        """Return the digest that the registry has under this name; empty when it has none.

        Raises:
            CheckError: ``access_denied``, ``push_failed``.
        """
        try:
            return str(self.client.inspect_distribution(self.name, auth_config=self.login)["Descriptor"]["digest"])
        except errors.NotFound:
            return ""
        except (errors.DockerException, RequestException) as error:
            said = str(getattr(error, "explanation", None) or error)
            # How Docker says it depends on its version.
            if "manifest unknown" in said or "name unknown" in said:
                return ""
            raise self._failed(said) from error

    def push(self) -> str:
        """Give the image this name, push it, and return the digest by which the registry has it.

        Raises:
            CheckError: ``image_missing``, ``access_denied``, ``push_failed``.
        """
        try:
            self.client.tag(self.source, self.repository, self.tag)
            for line in self.client.push(self.repository, self.tag, stream=True, decode=True, auth_config=self.login):
                if line.get("error"):
                    raise self._failed(str(line["error"]))
        except (errors.DockerException, RequestException) as error:
            raise self._failed(str(getattr(error, "explanation", None) or error)) from error
        digest = self.there()
        if digest not in self.known():
            raise CheckError(
                "push_failed",
                f"{self.name} was pushed, but the registry has {digest or 'nothing'} under this name; see whether somebody else pushes it, and "
                "try it again.",
            )
        return digest

    def _failed(self, said: str) -> CheckError:
        said = " ".join(said.split())[:400]
        registry = self.name.partition("/")[0]
        if _DENIED.search(said):
            return CheckError(
                "access_denied",
                f"{registry} refuses {self.name} ({said}); log in by 'docker login {registry}' and give the file that this writes, with a user who "
                "may push there.",
            )
        remedy = f"look with 'docker push {self.name}'"
        if _PLAIN in said:
            remedy = f"give it TLS, or name {registry} in Docker's insecure-registries (docker_daemon_options)"
        return CheckError("push_failed", f"{self.name} can't be pushed ({said}); {remedy}.")
