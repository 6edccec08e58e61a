"""As much of Docker's API as role app_image asks for, and a `minikube` whose node has or lacks an image.

An archive is a JSON object {"name", "id"} here, which both the server and the program read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

MINIKUBE = """#!{python}
import json, pathlib, sys
profile, *arguments = sys.argv[1:]
state = pathlib.Path({state!r})
node = json.loads(state.read_text())
match arguments:
    case _ if node["mode"] == "down":
        print("* The control-plane node host is not running: state=Stopped\\n* To start a cluster, run: minikube start")
        sys.exit(83)
    case ["image", "load", path]:
        archive = json.loads(pathlib.Path(path).read_text())
        node["files"].append("/var/lib/minikube/images/" + pathlib.Path(path).name)
        if node["mode"] == "full":  # as Minikube does: no word of it in the exit code
            print("! failed to load: no space left on device", file=sys.stderr)
        elif node["mode"] == "stale":
            node["images"]["docker.io/library/" + archive["name"]] = "sha256:older"
        else:
            node["images"]["docker.io/library/" + archive["name"]] = archive["id"]
    case ["ssh", "--", "sudo", "crictl", "--timeout=60s", "inspecti", "--output", "json", ref]:
        if ref not in node["images"]:
            print(f'level=fatal msg="no such image \\\\"{{ref}}\\\\" present"', file=sys.stderr)
            sys.exit(1)
        print(json.dumps({{"status": {{"id": node["images"][ref]}}, "info": {{"imageSpec": {{"rootfs": {{"diff_ids": [node["images"][ref]]}}}}}}}}))
    case ["ssh", "--", "sudo", "crictl", "--timeout=60s", "images", *_]:
        print(json.dumps({{"images": [{{"id": value, "repoTags": [ref]}} for ref, value in node["images"].items()]}}))
    case ["ssh", "--", "sudo", "crictl", "--timeout=60s", "ps", *_]:
        print(json.dumps({{"containers": [{{"imageRef": value}} for value in node["used"]]}}))
    case ["ssh", "--", "sudo", "crictl", "--timeout=60s", "rmi", ref]:
        del node["images"][ref]
    case ["ssh", "--", "sudo", "rm", "-f", path]:
        node["files"] = [file for file in node["files"] if file != path]
    case ["ssh", "--", "df", *_]:
        print("Filesystem Size Used Avail Use% Mounted on\\n/dev/vda1 80G 80G 0 100% /var")
    case _:
        sys.exit(f"not expected: {{arguments}}")
state.write_text(json.dumps(node))
"""


def image_id(text: str) -> str:
    """Return an id as Docker makes them."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class FakeDocker:
    """The daemon.

    Attributes:
        images: id -> {"tags", "labels", "parent"}.
        asked: method and path of every request that changes or sends something.
        build_error: lines that a build says before it fails; without any, builds succeed.
        contexts: files of every build's context.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.images: dict[str, dict[str, Any]] = {}
        self.used: list[str] = []
        self.asked: list[str] = []
        self.build_error: list[str] = []

    def image(self, name: str) -> str | None:
        """Return the id for a name, with or without the registry's host and library, or for an id."""
        short = re.sub(r"^docker\.io/(library/)?", "", name)
        return next((key for key, value in self.images.items() if key == name or short in value["tags"]), None)

    def tag(self, name: str, key: str, label: str | None = None) -> None:
        """Give an image, new or there, a name; the name leaves any other image."""
        short = re.sub(r"^docker\.io/(library/)?", "", name)
        for value in self.images.values():
            value["tags"] = [tag for tag in value["tags"] if tag != short]
        self.images.setdefault(key, {"tags": [], "labels": [label] if label else []})["tags"].append(short)

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, Any]:
        if method != "GET":
            self.asked.append(f"{method} {path}")
        filters = json.loads(query.get("filters", ["{}"])[0])
        match method, path.split("/")[1:]:
            case "GET", ["version"]:
                return 200, {"ApiVersion": "1.41", "Version": "20.10.24"}
            case "GET", ["info"]:
                return 200, {"ServerVersion": "20.10.24"}
            case "GET", ["containers", "json"]:
                return 200, [{"Id": "c", "ImageID": key, "Names": ["/c"]} for key in self.used]
            case "GET", ["images", "json"]:
                keys = [
                    key for key, value in self.images.items() if set(filters.get("label", [])) <= set(value["labels"])
                ]
                if "reference" in filters:
                    name = filters["reference"][0]
                    keys = [key for key in keys if any(tag.split(":")[0] == name for tag in self.images[key]["tags"])]
                return 200, [{"Id": key, "RepoTags": self.images[key]["tags"] or ["<none>:<none>"]} for key in keys]
            case "GET", ["images", name, "json"] if self.image(name):
                key = self.image(name) or ""
                return 200, {"Id": key, "RepoTags": self.images[key]["tags"], "RootFS": {"Layers": [key]}}
            case "GET", ["images", name, "get"]:
                self.asked.append(f"{method} {path}")
                return 200, {"name": name, "id": self.image(name)}
            case "POST", ["images", "load"]:
                archive = json.loads(body)
                self.tag(archive["name"], archive["id"])
                return 200, {"stream": f"Loaded image: {archive['name']}\n"}
            case "POST", ["build"]:
                self.images[image_id("dangling")] = {"tags": [], "labels": ["vigie.image"]}
                if self.build_error:
                    lines: list[dict[str, Any]] = [{"stream": f"{line}\n"} for line in self.build_error]
                    return 200, [*lines, {"error": "exit 1", "errorDetail": {"code": 1, "message": "exit 1"}}]
                del self.images[image_id("dangling")]
                key = image_id(query["t"][0])
                self.tag(query["t"][0], key, "vigie.image")
                return 200, [{"stream": f"Successfully tagged {query['t'][0]}\n"}]
            case "DELETE", ["images", name] if self.image(name):
                key = self.image(name) or ""
                if key in self.used:
                    return 409, {"message": "conflict: unable to remove repository reference"}
                self.images[key]["tags"] = [tag for tag in self.images[key]["tags"] if name not in (tag, key)]
                if not self.images[key]["tags"]:
                    del self.images[key]
                return 200, [{"Untagged": name}]
        return 404, {"message": f"not found: {method} {path}"}


@contextmanager
def fake_docker(socket: Path) -> Iterator[FakeDocker]:
    """Serve a FakeDocker at a unix socket."""
    docker = FakeDocker(socket)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            parts = urlsplit(self.path)
            body = b""
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            body += self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = re.sub(r"^/v[\d.]+", "", unquote(parts.path))
            # A name holds slashes: what is between the first and the last part is one.
            status, answer = docker.answer(self.command, _joined(path), parse_qs(parts.query), body)
            # What a build says comes in chunks, and is read as a stream only then.
            stream = isinstance(answer, list) and self.command == "POST"
            chunks = (
                [f"{json.dumps(each)}\r\n".encode() for each in answer] if stream else [json.dumps(answer).encode()]
            )
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header(*(("Transfer-Encoding", "chunked") if stream else ("Content-Length", str(len(chunks[0])))))
            self.end_headers()
            for chunk in [*chunks, b""] if stream else chunks:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if stream else chunk)

        do_GET = do_POST = do_DELETE = _handle

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

        def address_string(self) -> str:
            return "unix"

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with Server(str(socket), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield docker
        finally:
            server.shutdown()


def _joined(path: str) -> str:
    """Return the path with the slashes of an image's name replaced, so that it splits into its parts."""
    match = re.fullmatch(r"/images/(.+?)(/json|/get)?", path)
    if not match or path in ("/images/json", "/images/load"):
        return path
    return f"/images/{match[1].replace('docker.io/library/', '')}{match[2] or ''}"


class FakeMinikube:
    """The program in a folder, and what its node has.

    Args:
        folder: where the program goes.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.state = folder / "node.json"
        self.program = folder / "minikube"
        self.program.write_text(MINIKUBE.format(python=sys.executable, state=str(self.state)))
        self.program.chmod(0o755)
        self.set(mode="", images={}, used=[], files=[])

    def set(self, **values: Any) -> None:
        """Change the node: mode (down, full, stale or nothing), images (name -> id), used (ids that a container runs)."""
        known = json.loads(self.state.read_text()) if self.state.exists() else {}
        temporary = self.state.with_suffix(".new")
        temporary.write_text(json.dumps(known | values))
        os.replace(temporary, self.state)

    @property
    def images(self) -> dict[str, str]:
        """Names to ids of the images in the node."""
        return dict(json.loads(self.state.read_text())["images"])

    @property
    def files(self) -> list[str]:
        """Archives that were copied into the node and lie there still."""
        return list(json.loads(self.state.read_text())["files"])
