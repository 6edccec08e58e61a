"""An API server on 127.0.0.1 whose pods are local servers: the questions and the port-forward that the transport needs.

The port-forward speaks as the kubelet's streaming server does (k8s.io/kubelet/pkg/cri/streaming/portforward): subprotocol
``v4.channel.k8s.io``, the port's number first on both channels, errors as text on channel 1, a close frame at the end.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import select
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from systems import Json, self_signed

MONITORING = "monitoring.coreos.com/v1"
TOKEN = "t0ken-of-the-cluster"
PLURALS = {
    "Endpoints": "endpoints",
    "EndpointSlice": "endpointslices",
    "Event": "events",
    "Namespace": "namespaces",
    "Pod": "pods",
    "Prometheus": "prometheuses",
    "Service": "services",
    "ServiceMonitor": "servicemonitors",
}
GROUPS = {"EndpointSlice": "discovery.k8s.io/v1", "Prometheus": MONITORING, "ServiceMonitor": MONITORING}


@dataclass
class Pod:
    """A pod; its container listens on a port of 127.0.0.1, or nothing does."""

    name: str
    port: int
    labels: dict[str, str] = field(default_factory=lambda: {"app": "flask"})
    created: str = "2026-11-24T11:00:00Z"
    ready: bool = True
    waiting: str = ""

    def data(self) -> Json:
        state = {"waiting": {"reason": self.waiting}} if self.waiting else {"running": {}}
        return {
            "metadata": {"name": self.name, "creationTimestamp": self.created, "labels": self.labels},
            "status": {"phase": "Running", "containerStatuses": [{"state": state}]},
        }


class FakeCluster:
    """One namespace ``vigie`` with a Service ``flask``, whose port ``metrics`` is 80.

    Attributes:
        pods: name to pod; a test changes them as it likes.
        services: name to spec.
        forbidden: resources that the user may not use.
        delays: resource to seconds before the API server answers.
        broken: resource to status and text that it answers instead.
        asked: resources in the order in which they were asked for.
        forwards: connections that are being forwarded now.
        objects: objects with kind and metadata. When there are any, only they are served, of all resources and namespaces.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pods: dict[str, Pod] = {}
        self.services: dict[str, Json] = {
            "flask": {
                "type": "ClusterIP",
                "selector": {"app": "flask"},
                "ports": [{"name": "metrics", "port": 80, "targetPort": "http", "protocol": "TCP"}],
            }
        }
        self.forbidden: set[str] = set()
        self.delays: dict[str, float] = {}
        self.broken: dict[str, tuple[int, str]] = {}
        self.asked: list[str] = []
        self.forwards = 0
        self.objects: list[Json] = []
        self.unnamed_target = False
        certificate, key = self_signed(folder, "apiserver", "127.0.0.1")
        self.client = self_signed(folder, "client", "client")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(self.client[0])
        outer = self

        class Handler(_Handler):
            cluster = outer

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def finish_request(self, request: Any, client_address: Any) -> None:
                # The handshake belongs to the thread of the connection.
                with contextlib.suppress(OSError), context.wrap_socket(request, server_side=True) as tls:
                    super().finish_request(tls, client_address)

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.kubeconfig = self.write_kubeconfig()

    def add(self, *pods: Pod) -> None:
        """Add pods."""
        self.pods.update({pod.name: pod for pod in pods})

    def write_kubeconfig(self, name: str = "config", *, user: Json | None = None, **cluster: Any) -> str:
        """Write a kubeconfig with the contexts ``lab`` (current) and ``other``, and return its path."""
        authority = base64.b64encode((self.folder / "apiserver.crt").read_bytes()).decode()
        data = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority-data": authority, **cluster}
        path = self.folder / name
        path.write_text(
            yaml.safe_dump(
                {
                    "current-context": "lab",
                    "contexts": [
                        {"name": "lab", "context": {"cluster": "lab", "user": "me"}},
                        {"name": "other", "context": {"cluster": "elsewhere", "user": "me"}},
                    ],
                    "clusters": [
                        {"name": "lab", "cluster": data},
                        {"name": "elsewhere", "cluster": {"server": "https://127.0.0.1:1"}},
                    ],
                    "users": [{"name": "me", "user": {"token": TOKEN} if user is None else user}],
                }
            )
        )
        return str(path)

    def slices(self, service: str) -> list[Json]:
        """Return the EndpointSlices of a Service, one for each pod."""
        spec = self.services[service]
        found = []
        for pod in self.pods.values():
            if not spec.get("selector") or not spec["selector"].items() <= pod.labels.items():
                continue
            ports = [{"name": port.get("name", ""), "port": pod.port} for port in spec["ports"]]
            ready = pod.ready and not pod.waiting
            target = {"kind": "Pod", "name": pod.name}
            endpoint = {"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": target}
            found.append({"ports": None if self.unnamed_target else ports, "endpoints": [endpoint]})
        return found

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    cluster: FakeCluster
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # as a server in Go does; else a reset overtakes the error that explains it

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if self.cluster.objects:
            return self._object(url.path, {name: values[0] for name, values in parse_qs(url.query).items()})
        parts = url.path.strip("/").split("/")
        # api/v1/namespaces/NS[/RESOURCE[/NAME[/SUBRESOURCE]]], with one more part before for a group
        names = parts[parts.index("namespaces") + 1 :]
        resource = names[1] if len(names) > 1 else "namespaces"
        if len(names) > 3:
            resource = f"{resource}/{names[3]}"
        self.cluster.asked.append(resource)
        time.sleep(self.cluster.delays.get(resource, 0))
        certificate = self.connection.getpeercert()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and not certificate:
            return self._status(401, "Unauthorized")
        if resource in self.cluster.forbidden:
            verb = "create" if "/" in resource else "list" if len(names) == 2 else "get"
            return self._status(
                403,
                f'{resource} is forbidden: User "me" cannot {verb} resource "{resource}" in the namespace "{names[0]}"',
            )
        if resource in self.cluster.broken:
            return self._status(*self.cluster.broken[resource])
        if names[0] != "vigie":
            return self._status(404, f'{resource} "{names[-1]}" not found')
        if resource == "pods/portforward":
            return self._forward(names[2], int(parse_qs(url.query)["ports"][0]))
        label = parse_qs(url.query).get("labelSelector", [""])[0]
        if resource == "services":
            spec = self.cluster.services.get(names[2])
            return self._json(200, {"spec": spec}) if spec else self._status(404, f'services "{names[2]}" not found')
        if resource == "endpointslices":
            return self._json(200, {"items": self.cluster.slices(label.removeprefix("kubernetes.io/service-name="))})
        if resource == "pods":
            wanted = dict(pair.split("=") for pair in label.split(",") if pair)
            pods = [pod.data() for pod in self.cluster.pods.values() if wanted.items() <= pod.labels.items()]
            return self._json(200, {"items": pods})
        return self._json(200, {"metadata": {"name": names[0]}})

    def _object(self, path: str, query: dict[str, str]) -> None:
        """Answer for one of the objects, or for a list of them, as an API server does."""
        found = re.fullmatch(
            r"(?:/api|/apis/([^/]+))/(v1)(?:/namespaces/([^/]+)(?=/))?(?:/([^/]+)(?:/([^/]+))?)?", path
        )
        assert found, path
        group = f"{found[1]}/v1" if found[1] else "v1"
        scope, resource, name = found[3] or "", found[4] or "", found[5] or ""
        self.cluster.asked.append(resource or group)
        time.sleep(self.cluster.delays.get(resource, 0))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._status(401, "Unauthorized")
        served = [one for one in self.cluster.objects if GROUPS.get(one["kind"], "v1") == group]
        if not resource:
            if not served:
                return self._text(404, "404 page not found")
            return self._json(200, {"resources": [{"name": PLURALS[one["kind"]]} for one in served]})
        if resource in self.cluster.forbidden:
            place = f'in the namespace "{scope}"' if scope else "at the cluster scope"
            verb = "get" if name else "list"
            return self._status(403, f'{resource} is forbidden: User "me" cannot {verb} resource "{resource}" {place}')
        if resource in self.cluster.broken:
            return self._status(*self.cluster.broken[resource])
        items = [one for one in served if PLURALS[one["kind"]] == resource]
        if not items and group == MONITORING:
            return self._text(404, "404 page not found")
        items = [one for one in items if scope in ("", one["metadata"].get("namespace"))]
        if name:
            items = [one for one in items if one["metadata"]["name"] == name]
            return self._json(200, items[0]) if items else self._status(404, f'{resource} "{name}" not found')
        wanted = dict(pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if pair)
        items = [one for one in items if wanted.items() <= one["metadata"].get("labels", {}).items()]
        fields = [pair.split("=", 1) for pair in query.get("fieldSelector", "").split(",") if pair]
        for field_name, value in fields:
            first, second = field_name.split(".")
            items = [one for one in items if one[first][second] == value]
        return self._json(200, {"items": items})

    def _text(self, code: int, text: str) -> None:
        # What is not a resource of its is answered in plain text.
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _status(self, code: int, message: str) -> None:
        self._json(code, {"kind": "Status", "status": "Failure", "message": message, "code": code})

    def _json(self, code: int, data: Json) -> None:
        body = json.dumps(data).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _forward(self, name: str, port: int) -> None:
        pod = self.cluster.pods.get(name)
        if pod is None:
            return self._status(404, f'pods "{name}" not found')
        if self.headers.get("Upgrade") != "websocket":
            return self._status(400, "Upgrade request required")
        assert "v4.channel.k8s.io" in self.headers["Sec-WebSocket-Protocol"]
        accept = f"{self.headers['Sec-WebSocket-Key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(accept).digest()).decode())
        self.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
        self.end_headers()
        self.close_connection = True
        self.cluster.forwards += 1
        try:
            for channel in (0, 1):
                self._send(2, bytes([channel]) + struct.pack("<H", port))
            if error := self._copy(port):
                text = (
                    f"error forwarding port {port} to pod 7f3a, uid : failed to execute portforward in network namespace "
                    f'"/var/run/netns/cni-1": {error}'
                )
                self._send(2, b"\x01" + text.encode())
            self._send(8, struct.pack("!H", 1000))
        except OSError:
            pass  # the client went away
        finally:
            self.cluster.forwards -= 1

    def _copy(self, port: int) -> str:
        """Copy in both directions until the pod closes; return what went wrong."""
        try:
            pod = socket.create_connection(("127.0.0.1", port))
        except OSError as error:
            return f"failed to connect to localhost:{port} inside namespace, IPv4: dial tcp4 127.0.0.1:{port}: {error}"
        client: Any = self.connection
        with pod:
            while True:
                ready: list[Any] = [client] if client.pending() else select.select([client, pod], [], [])[0]
                if client in ready:
                    opcode, payload = self._receive()
                    if opcode == 8:
                        return ""
                    if opcode == 2:
                        with contextlib.suppress(OSError):
                            pod.sendall(payload[1:])
                if pod in ready:
                    try:
                        data = pod.recv(32 * 1024)
                    except OSError as error:
                        return f"read tcp4 127.0.0.1:40000->127.0.0.1:{port}: read: {str(error).lower()}"
                    if not data:
                        return ""
                    self._send(2, b"\x00" + data)

    def _receive(self) -> tuple[int, bytes]:
        # Not from rfile, whose buffer select can't see. A client sends nothing before the upgrade is answered.
        head = self._exactly(2)
        if len(head) < 2:
            return 8, b""
        assert head[1] & 0x80, "what a client sends must be masked"
        size = head[1] & 0x7F
        if size == 126:
            size = struct.unpack("!H", self._exactly(2))[0]
        mask = self._exactly(4)
        payload = self._exactly(size)
        return head[0] & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self.connection.recv(size - len(data))):
            data += more
        return data

    def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        head = bytes([0x80 | opcode, size]) if size < 126 else struct.pack("!BBH", 0x80 | opcode, 126, size)
        self.connection.sendall(head + payload)
