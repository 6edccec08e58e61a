# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Where a Kubernetes API server is and how to be let in, read from a kubeconfig as kubectl reads it.

The ``kubernetes`` client does this too, but loading it takes longer than a whole check may.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import shlex
import ssl
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds the credentials of its service account."""

CREDENTIAL_COMMAND_SECONDS = 30.0
"""Seconds that a command may take that a kubeconfig names for credentials, such as ``aws eks get-token``."""

_UNSUPPORTED_OF_USER = ("auth-provider", "as", "as-uid", "as-groups", "as-user-extra")

_Data = dict[str, Any]


@dataclass(frozen=True)
class ApiServer:
    """An API server and the way in.

    Attributes:
        host: name or address.
        port: TCP port.
        prefix: what goes before every path, without a slash at its end.
        tls: how to speak TLS; None for plain HTTP.
        server_name: name that its certificate must be for.
        headers: to send with every request.
        secrets: texts that must never be printed.
        kubectl: kubectl with the options that choose the same cluster, for messages.
    """

    host: str
    port: int
    prefix: str
    tls: ssl.SSLContext | None
    server_name: str
    headers: Mapping[str, str]
    secrets: frozenset[str]
    kubectl: str

    @property
    def url(self) -> str:
        """Its address, for people."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}{self.prefix}"


def load_api_server(kubeconfig: str | None, context: str | None, name: str) -> ApiServer:
    """Return the API server of a context.

    Args:
        kubeconfig: path; without it KUBECONFIG, ~/.kube/config or, in a pod, its service account.
        context: name; without it the current one.
        name: name of the option that holds the endpoint, for messages.

    Raises:
        CheckError: ``bad_option`` when nothing there can be used.
    """
    source, paths = _files(kubeconfig, name)
    present = [path for path in paths if path.exists()]
    if not kubeconfig and not present and not context and (SERVICE_ACCOUNT / "token").exists():
        return _of_service_account()
    if not present:
        raise CheckError(
            "bad_option",
            f"{source} is missing; set {name}.kubeconfig to the cluster's, and check it with 'kubectl config view'.",
        )
    kubectl = [
        "kubectl",
        *(["--kubeconfig", kubeconfig] if kubeconfig else []),
        *(["--context", context] if context else []),
    ]
    return _Loader(source, [(_read(path, source), path.parent) for path in present], name, shlex.join(kubectl)).load(
        context
    )


def _files(kubeconfig: str | None, name: str) -> tuple[str, list[Path]]:
    """Return how to call the place that was looked at, and the files."""
    if kubeconfig:
        return f"{name}.kubeconfig={kubeconfig}", [Path(kubeconfig).expanduser()]
    if os.environ.get("KUBECONFIG"):
        value = os.environ["KUBECONFIG"]
        return f"KUBECONFIG={value}", [Path(path).expanduser() for path in value.split(os.pathsep) if path]
    default = "~/.kube/config"
    return default, [Path(default).expanduser()]


def _read(path: Path, source: str) -> _Data:
    """Return the data of a kubeconfig."""
    try:
        import yaml
    except ImportError as error:
        raise CheckError(
            "bad_option", "A service in a cluster needs PyYAML on the host that runs the module; install python3-yaml."
        ) from error
    # libyaml where there is one: certificates within make these files long.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - a safe loader
    except OSError as error:
        raise CheckError(
            "bad_option", f"{source} can't be read ({error.strerror}); check it with 'ls -l {path}'."
        ) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        # Not what the parser says: it quotes the file, which holds secrets.
        raise CheckError(
            "bad_option", f"{source} is no YAML; check it with 'kubectl --kubeconfig {path} config view'."
        ) from error
    if not isinstance(data, dict):
        raise CheckError(
            "bad_option", f"{source} is no kubeconfig; check it with 'kubectl --kubeconfig {path} config view'."
        )
    return data


def _tls_context(**authority: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(**authority)
    # On from Python 3.13, and unlike kubectl it turns down the certificates of many clusters (no Authority Key Identifier).
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _of_service_account() -> ApiServer:
    """Return the API server of the cluster in whose pod this runs."""
    try:
        token = (SERVICE_ACCOUNT / "token").read_text(encoding="utf-8").strip()
        tls = _tls_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
    except (OSError, KeyError, ValueError) as error:
        raise CheckError(
            "bad_option",
            f"The service account in {SERVICE_ACCOUNT} can't be used ({error}); check it with 'ls -l {SERVICE_ACCOUNT}'.",
        ) from error
    return ApiServer(host, port, "", tls, host, {"Authorization": f"Bearer {token}"}, frozenset({token}), "kubectl")


class _Loader:
    """Takes what a context needs from the files, the first that has an entry of a name."""

    def __init__(self, source: str, documents: list[tuple[_Data, Path]], name: str, kubectl: str) -> None:
        self._source = source
        self._documents = documents
        self._name = name
        self._kubectl = kubectl

    def load(self, context: str | None) -> ApiServer:
        wanted = context or next(
            (
                str(document["current-context"])
                for document, dummy in self._documents
                if document.get("current-context")
            ),
            "",
        )
        if not wanted:
            raise self._wrong(f"has no current context, and {self._name}.context is not set")
        chosen, dummy = self._entry("contexts", wanted)
        cluster, folder = self._entry("clusters", chosen.get("cluster"))
        user, user_folder = self._entry("users", chosen["user"]) if chosen.get("user") else ({}, folder)
        if cluster.get("proxy-url"):
            raise self._wrong("reaches its cluster through proxy-url, which is not supported")
        if unsupported := [key for key in _UNSUPPORTED_OF_USER if user.get(key)]:
            raise self._wrong(
                f"has a user with {unsupported[0]}, which is not supported; use a certificate, a token or exec"
            )
        address = str(cluster.get("server") or "")
        try:
            parts = urlsplit(address)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise self._wrong(f"has no usable address of a server ({address!r})")
        if user.get("exec"):
            user = {**user, **self._from_command(user["exec"], cluster, user_folder)}
        headers, secrets = self._login(user, user_folder)
        tls = self._tls(cluster, folder, user, user_folder) if parts.scheme == "https" else None
        server_name = str(cluster.get("tls-server-name") or parts.hostname)
        return ApiServer(
            parts.hostname, port, parts.path.rstrip("/"), tls, server_name, headers, frozenset(secrets), self._kubectl
        )

    def _wrong(self, what: str) -> CheckError:
        return CheckError("bad_option", f"{self._source} {what}; see '{self._kubectl} config view'.")

    def _entry(self, kind: str, wanted: Any) -> tuple[_Data, Path]:
        """Return the entry of a name, and the folder to which its paths are relative."""
        names = []
        for document, folder in self._documents:
            for entry in document.get(kind) or []:
                if not isinstance(entry, dict):
                    raise self._wrong(f"has {kind} that are no mappings")
                if entry.get("name") == wanted:
                    return entry.get(kind[:-1]) or {}, folder
                names.append(str(entry.get("name")))
        raise self._wrong(f"has no {kind[:-1]} {wanted}, only {', '.join(names) or 'none at all'}")

    def _pem(self, entry: _Data, key: str, folder: Path) -> str:
        """Return a certificate or key that an entry holds or names, or an empty text."""
        try:
            if entry.get(f"{key}-data"):
                return base64.b64decode(entry[f"{key}-data"], validate=True).decode()
            return (folder / str(entry[key])).read_text(encoding="utf-8") if entry.get(key) else ""
        except OSError as error:
            raise self._wrong(f"names {key} {error.filename}, which can't be read ({error.strerror})") from error
        except (binascii.Error, UnicodeDecodeError, TypeError) as error:
            raise self._wrong(f"has a {key} that can't be decoded") from error

    def _tls(self, cluster: _Data, folder: Path, user: _Data, user_folder: Path) -> ssl.SSLContext:
        authority = self._pem(cluster, "certificate-authority", folder)
        certificate = self._pem(user, "client-certificate", user_folder)
        key = self._pem(user, "client-key", user_folder)
        try:
            context = _tls_context(cadata=authority or None)
        except (OSError, ValueError) as error:
            raise self._wrong(f"has a certificate-authority that can't be used ({error})") from error
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate:
            try:
                # The standard library takes them from a file only.
                with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
                    file.write(f"{certificate}\n{key}")
                    file.flush()
                    context.load_cert_chain(file.name)
            except OSError as error:
                raise self._wrong(
                    f"has a client-certificate that can't be used with its client-key ({error})"
                ) from error
        return context

    def _login(self, user: _Data, folder: Path) -> tuple[dict[str, str], set[str]]:
        """Return the headers that let in, and what of them is secret."""
        token = str(user.get("token") or "")
        if not token and user.get("tokenFile"):
            token = self._pem({"tokenFile": user["tokenFile"]}, "tokenFile", folder).strip()
        if token:
            return {"Authorization": f"Bearer {token}"}, {token}
        if user.get("username"):
            password = str(user.get("password") or "")
            login = base64.b64encode(f"{user['username']}:{password}".encode()).decode()
            return {"Authorization": f"Basic {login}"}, {secret for secret in (login, password) if secret}
        return {}, set()

    def _from_command(self, spec: _Data, cluster: _Data, folder: Path) -> _Data:
        """Run the command that gives credentials and return them like those of a user.

        https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
        """
        command = str(spec.get("command") or "")
        if os.sep in command:
            command = str(folder / command)
        info: _Data = {"apiVersion": spec.get("apiVersion"), "kind": "ExecCredential", "spec": {"interactive": False}}
        if spec.get("provideClusterInfo"):
            info["spec"]["cluster"] = {
                key: cluster[key]
                for key in ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data")
                if key in cluster
            }
        variables = {str(item["name"]): str(item["value"]) for item in spec.get("env") or []}
        try:
            done = subprocess.run(
                [command, *(str(argument) for argument in spec.get("args") or [])],
                check=True,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=CREDENTIAL_COMMAND_SECONDS,
                env={**os.environ, **variables, "KUBERNETES_EXEC_INFO": json.dumps(info)},
            )
            status = json.loads(done.stdout)["status"]
        except (OSError, subprocess.SubprocessError) as error:
            detail = str(getattr(error, "stderr", None) or getattr(error, "strerror", None) or error).strip()[-300:]
            raise self._wrong(f"gets credentials from {command}, which failed ({detail})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise self._wrong(f"gets credentials from {command}, which gave no ExecCredential") from error
        return {
            "token": status.get("token"),
            **{
                f"{key}-data": base64.b64encode(status[given].encode()).decode()
                for key, given in (("client-certificate", "clientCertificateData"), ("client-key", "clientKeyData"))
                if status.get(given)
            },
        }
