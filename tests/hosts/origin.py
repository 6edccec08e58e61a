"""The publishers of programs, on this machine: their addresses, stand-ins as content, and what can go wrong on the way.

The stand-ins are shell scripts that answer the two questions which the roles ask, their version and their completion, in the form in
which the real programs answer. The real ones run in the tests of a whole cluster.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

TABLE: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parents[2] / "vars/versions.yml").read_text())[
    "vigie_versions"
]
PROGRAMS = ("kubectl", "helm", "minikube")
# What Minikube and Helm download themselves, and the preflight asks for: nobody gets it here.
ASKED = ("kubelet", "kube-prometheus-stack")
FAULTS = ("wrong", "short", "missing", "cut", "stalled", "slow", "redirected")

KUBECTL = """#!/bin/sh
case "$*" in
"version --client --output=json") printf '{\\n  "clientVersion": {\\n    "major": "1",\\n    "gitVersion": "v%s",\\n    "goVersion": "go1.25"\\n  },\\n  "kustomizeVersion": "v5.7.1"\\n}\\n' @VERSION@ ;;
"completion bash") echo "complete -W 'apply get @VERSION@' kubectl" ;;
*) echo "unknown: $*" >&2; exit 1 ;;
esac
exit 0
"""
HELM = """#!/bin/sh
case "$*" in
"version --template {{.Version}}") printf 'v%s' @VERSION@ ;;
"completion bash") echo "complete -W 'install list @VERSION@' helm" ;;
*) echo "unknown: $*" >&2; exit 1 ;;
esac
exit 0
"""
MINIKUBE = """#!/bin/sh
case "$*" in
"version --short --logtostderr") echo v@VERSION@ ;;
"completion bash --logtostderr") echo "complete -W 'start stop @VERSION@' minikube" ;;
*) echo "unknown: $*" >&2; exit 1 ;;
esac
exit 0
"""


def program(name: str, version: str, architecture: str) -> bytes:
    """Return a stand-in; long enough to be sent in several pieces, and another for each architecture."""
    text = {"kubectl": KUBECTL, "helm": HELM, "minikube": MINIKUBE}[name].replace("@VERSION@", version)
    return (text + f"# {architecture} {version} {'x' * 90}\n" * 4000).encode()


@functools.cache
def download(name: str, version: str, architecture: str) -> bytes:
    """Return what the publisher's address gives: the program, or the archive that holds it."""
    content = program(name, version, architecture)
    member = TABLE[name]["architectures"][architecture].get("member")
    if not member:
        return content
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", compresslevel=0) as tar:
        for path, data in ((f"linux-{architecture}/README.md", b"# Helm\n"), (member, content)):
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return raw.getvalue()


def sha256(name: str, version: str, architecture: str) -> str:
    """Return the SHA-256 of what the publisher's address gives."""
    return hashlib.sha256(download(name, version, architecture)).hexdigest()


def table() -> dict[str, Any]:
    """Return the table of versions as it is, with the checksums of the stand-ins."""
    changed = copy.deepcopy(TABLE)
    for name in PROGRAMS:
        entry = changed[name]
        for architecture, file in entry["architectures"].items():
            file["sha256"] = sha256(name, entry["version"], architecture)
            for other, checksums in entry.get("others", {}).items():
                checksums[architecture] = sha256(name, other, architecture)
    return changed


def published() -> dict[str, tuple[str, str, str]]:
    """Return host and path of each address, and what it gives."""
    found = {}
    chart = TABLE["kube-prometheus-stack"]
    url = urlsplit(chart["repository"])
    found[f"/{url.netloc}{url.path}/index.yaml"] = ("kube-prometheus-stack", chart["version"], "")
    for name in (*PROGRAMS, "kubelet"):
        entry = TABLE[name]
        for version in [entry["version"], *entry.get("others", {})]:
            for architecture, file in entry["architectures"].items():
                url = urlsplit(file["url"].replace(entry["version"], version))
                found[f"/{url.netloc}{url.path}"] = (name, version, architecture)
    return found


class Handler(BaseHTTPRequestHandler):
    """``/FAULT/HOST/PATH`` gives what ``https://HOST/PATH`` would give, with that fault; FAULT ``good`` has none."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.origin.seen.append(self.path)
        fault, _slash, rest = self.path[1:].partition("/")
        key = self.server.origin.published.get(f"/{rest}")
        self.close_connection = True
        if key is None or key[0] in ASKED or fault == "missing" or fault not in ("good", *FAULTS):
            self.send_error(404)
            return
        if fault == "redirected":
            self.send_response(302)
            self.send_header("Location", f"/good/{rest}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = download(*key)
        if fault == "wrong":
            content = content.replace(b"x", b"y")
        if fault == "short":  # by whoever stored it: the server doesn't know
            content = content[: len(content) // 2]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "cut":
            self.wfile.write(content[: len(content) // 2])
        elif fault == "stalled":
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.server.origin.ended.wait(30)
        elif fault == "slow":  # takes longer in all than it may stand still
            for part in range(6):
                time.sleep(0.5)
                self.wfile.write(content[part * len(content) // 6 : (part + 1) * len(content) // 6])
                self.wfile.flush()
        else:
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        """Answer whether it is there; as it is no download, it is not noted."""
        fault, _slash, rest = self.path[1:].partition("/")
        known = self.server.origin.published.get(f"/{rest}")
        self.close_connection = True
        self.send_response(404 if known is None or fault == "missing" else 200)
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        """Keep the output of the tests readable."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: str, origin: Origin) -> None:
        super().__init__((address, 0), Handler)
        self.origin = origin

    def handle_error(self, *_args: Any) -> None:
        """A client that went away is no fault of the server."""


class Origin:
    """The running servers.

    Attributes:
        seen: paths that were asked for.
        addresses: base address by which each listening address is reached.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.addresses: dict[str, str] = {}
        self.published = published()
        self.ended = threading.Event()

    def mirrors(self, address: str, fault: str = "good") -> dict[str, str]:
        """Return the table of mirrors that leads every publisher here; with the fault ``refused`` to a port where nobody listens."""
        base = f"http://{address}:1" if fault == "refused" else self.addresses[address]
        hosts = sorted({key.split("/")[1] for key in self.published})
        return {f"https://{host}": f"{base}/{fault}/{host}" for host in hosts}


@contextmanager
def serving(*addresses: str) -> Iterator[Origin]:
    """Serve on free ports of these addresses and no others."""
    origin = Origin()
    servers = []
    try:
        assert all(addresses), "an empty address would mean every interface"
        for address in addresses:
            server = Server(address, origin)
            servers.append(server)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
            origin.addresses[address] = f"http://{address}:{server.server_port}"
        yield origin
    finally:
        origin.ended.set()
        for server in servers:
            server.shutdown()
            server.server_close()
