# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A Service inside a Kubernetes cluster, reached through the API server.

Each request looks the Service up anew and goes to the newest pod that is ready then, so that the crash of a pod ends one
request and not the next. It is forwarded to the port of that pod, not sent through the API server's HTTP proxy, which drops
the Authorization header and ends TLS: password and certificate are between this host and the service.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from ansible_collections.vigie.observability.plugins.module_utils.endpoint import (
    Disconnected,
    HttpTransport,
    Peer,
    Response,
    explained,
    read_body,
)
from ansible_collections.vigie.observability.plugins.module_utils.kubeconfig import ApiServer, load_api_server
from ansible_collections.vigie.observability.plugins.module_utils.portforward import (
    PortForward,
    Stream,
    TlsStream,
    handshake,
    left,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PORT_NAME = re.compile(r"(?=[0-9-]*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_LISTED_PODS = 5

_Object = dict[str, Any]


class Api(http.client.HTTPConnection):
    """A connection to the API server: questions first, and then, if wanted, it becomes the forwarded port.

    Args:
        server: the API server.
        name: name of the option that holds the endpoint, for messages.
        timeout: seconds for all of it.
    """

    def __init__(self, server: ApiServer, name: str, timeout: float) -> None:
        super().__init__(server.host, server.port)
        self._server = server
        self._seconds = timeout
        self._option = f"{name}.kubeconfig"
        self.ends = time.monotonic() + timeout

    def renew(self, timeout: float) -> None:
        """Give what comes next ``timeout`` seconds of its own."""
        self._seconds = timeout
        self.ends = time.monotonic() + timeout

    def connect(self) -> None:
        """Open the connection; called by the first request."""
        self.sock = socket.create_connection((self.host, self.port), timeout=left(self.ends))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._server.tls:
            self.sock = self._server.tls.wrap_socket(self.sock, server_hostname=self._server.server_name)

    def ask(self, path: str, what: str) -> _Object | None:
        """Return an object or a list, or None when there is no such thing.

        Args:
            path: of the API.
            what: resource, as in ``kubectl get``, for messages.

        Raises:
            CheckError: ``access_denied``, ``tls_untrusted``, ``tls_failed``, ``bad_answer`` are permanent; ``unreachable``,
                ``server_error`` and ``timeout`` transient.
        """
        answer = self._exchange(path, {"Accept": "application/json"})
        body = self._body(answer)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._refusal(answer.status, body, what)
        try:
            return dict(json.loads(body))
        except (ValueError, TypeError) as error:
            raise CheckError(
                "bad_answer", f"{self._name} answered no JSON, so another program or a proxy may be listening there."
            ) from error

    def forward(self, namespace: str, pod: str, port: int) -> Stream:
        """Turn the connection into one to a port of a pod.

        Raises:
            CheckError: as ``ask``; also ``unreachable`` when the pod is gone.
        """
        query, headers, accept = handshake(port)
        answer = self._exchange(f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward{query}", headers)
        show = f"'{self._server.kubectl} -n {namespace} get pod {pod}'"
        if answer.status == 101 and answer.getheader("Sec-WebSocket-Accept") == accept:
            return PortForward(self.sock, answer.fp, f"Port {port} of pod {namespace}/{pod}", show, self.ends)
        body = self._body(answer)
        if answer.status == 404:
            raise CheckError("unreachable", f"Pod {namespace}/{pod} is gone already; see {show}.", transient=True)
        raise self._refusal(answer.status, body, f"pods --subresource=portforward -n {namespace}")

    @property
    def _name(self) -> str:
        return f"The API server {self._server.url}"

    def _exchange(self, path: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        try:
            if self.sock:
                self.sock.settimeout(left(self.ends))
            self.request("GET", f"{self._server.prefix}{path}", headers={**self._server.headers, **headers})
            self.sock.settimeout(left(self.ends))
            return self.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(error) from error

    def _body(self, answer: http.client.HTTPResponse) -> bytes:
        try:
            with (
                answer
            ):  # read to its end by read1, an answer is not closed yet, and the next question must wait for that
                return read_body(answer, self.ends)
        except (OSError, http.client.HTTPException) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> CheckError:
        """Return the CheckError for a connection that failed before the service had a part in it."""
        command = f"'{self._server.kubectl} get --raw /readyz'"
        words = Peer(
            address=self._name,
            call=command,
            talk=command,
            certificate=f"'openssl s_client -connect {self._server.host}:{self._server.port}'",
            trust=f"take the certificate-authority from the cluster's own {self._option}",
            plain=f"another {self._option}",
        )
        found = explained(error, words, self._seconds)
        if isinstance(found, Disconnected):
            # That word is for the service: who crashes it on purpose takes it for a success.
            return CheckError("unreachable", f"{self._name} closed the connection; try {command}.", transient=True)
        return found

    def _refusal(self, status: int, body: bytes, what: str) -> CheckError:
        """Return the CheckError for a status of the API server; ``what`` is the resource, as in ``kubectl auth can-i``."""
        text = body.decode("utf-8", "replace")
        with contextlib.suppress(ValueError, AttributeError):
            text = str(json.loads(text).get("message") or text)
        for secret in self._server.secrets:
            text = text.replace(secret, "...")
        text = text.strip()[:300]
        if status == 401:
            return CheckError(
                "access_denied",
                f"{self._name} doesn't accept the credentials of {self._option} (401); try '{self._server.kubectl} auth whoami'.",
            )
        if status == 403:
            # Newer servers want create for a forwarded port, older ones get; theirs is the word.
            denied = re.search(r"cannot (\w+) resource", text)
            return CheckError(
                "access_denied",
                f"{self._name} doesn't allow it ({text}); ask with "
                f"'{self._server.kubectl} auth can-i {denied[1] if denied else 'get'} {what}'.",
            )
        if status == 429 or status >= 500:
            return CheckError(
                "server_error",
                f"{self._name} answered {status} ({text}); try '{self._server.kubectl} get --raw /readyz'.",
                transient=True,
            )
        return CheckError(
            "bad_answer",
            f"{self._name} answered {status} ({text}), so something between may not pass WebSockets on; "
            f"try '{self._server.kubectl} port-forward'.",
        )


class _Forwarder(urllib.request.HTTPHandler):
    """Makes connections by a function that takes seconds and returns a stream."""

    def __init__(self, dial: Any) -> None:
        super().__init__()
        self._dial = dial

    def _connection(self, host: str, timeout: float, **_options: Any) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(host, timeout=timeout)
        connection.sock = self._dial(timeout)
        return connection

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)  # type: ignore[arg-type]

    https_open = http_open
    https_request = urllib.request.HTTPHandler.http_request


class ServiceTransport(HttpTransport):
    """HTTP or HTTPS to a Service of a cluster.

    Args:
        endpoint: the suboptions documented in the doc fragment ``endpoint``.
        name: name of the option that holds them, for messages.

    Raises:
        CheckError: ``bad_option`` for a value or a file that can't be used.
    """

    def __init__(self, endpoint: Mapping[str, Any], name: str = "endpoint") -> None:
        service = endpoint["service"]
        self._namespace = str(service.get("namespace"))
        self._service = str(service.get("name"))
        self._port = str(service.get("port"))
        scheme = service.get("scheme") or "http"
        for key, value in (("namespace", self._namespace), ("name", self._service)):
            if not _NAME.fullmatch(value):
                raise CheckError(
                    "bad_option",
                    f"{name}.service.{key}={value} is no name in Kubernetes; it has lower-case letters, digits and hyphens.",
                )
        numbered = self._port.isdecimal() and self._port.isascii()
        if not (0 < int(self._port) < 65536 if numbered else _PORT_NAME.fullmatch(self._port)):
            raise CheckError(
                "bad_option", f"{name}.service.port={self._port} is neither a number nor the name of a port."
            )
        if scheme not in ("http", "https"):
            raise CheckError("bad_option", f"{name}.service.scheme={scheme} must be http or https.")
        self._path = str(service.get("path") or "").rstrip("/")
        if not _PATH.fullmatch(self._path):
            raise CheckError(
                "bad_option",
                f"{name}.service.path={self._path} is no path; begin it with a slash, and leave out queries.",
            )
        if endpoint.get("use_proxy"):
            raise CheckError("bad_option", f"{name}.use_proxy goes with {name}.url, not with {name}.service.")
        self._host = f"{self._service}.{self._namespace}.svc"
        self._address = f"{scheme}://{self._host}:{self._port}"
        self._api: Api | None = None
        self._context: ssl.SSLContext | None = None
        self._server = load_api_server(endpoint.get("kubeconfig"), endpoint.get("context"), name)
        # The header Host has the port as other clients within the cluster send it; a name has no place in it.
        base = self._address if numbered else f"{scheme}://{self._host}"
        super().__init__(endpoint, name, f"{base}{self._path}")
        self.secrets |= self._server.secrets

    @property
    def address(self) -> str:
        return f"{self._address}{self._path}"

    def command(self, path: str, query: Mapping[str, str] | None = None) -> str:
        # The API server's HTTP proxy: it takes no password along, but is a command of one line.
        secure = "https:" if self._address.startswith("https:") else ""
        proxy = f"/api/v1/namespaces/{self._namespace}/services/{secure}{self._service}:{self._port}/proxy{self._path}"
        raw = f"'{proxy}{path}?{urlencode(query)}'" if query else f"{proxy}{path}"
        return f"{self._server.kubectl} get --raw {raw}"

    def send(
        self, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Response:
        """Send one request to the newest pod of the service that is ready now."""
        try:
            return super().send(method, path, body=body, headers=headers, timeout=timeout)
        finally:
            if self._api:
                self._api.close()
                self._api = None

    def _connector(self, context: ssl.SSLContext | None) -> urllib.request.BaseHandler:
        self._context = context
        return _Forwarder(self._dial)

    def _peer(self, url: str) -> Peer:
        forward = f"'{self._kubectl} port-forward service/{self._service} :{self._port}'"
        return Peer(
            address=self._address,
            call=self._look,
            talk=f"{forward} and 'curl -iv' with the port that it prints",
            certificate=f"{forward} and 'openssl s_client -servername {self._host} -connect' with the address that it prints",
            trust=f"set {self._name}.ca_path to the CA that signed it for {self._host}",
            plain=f"{self._name}.service.scheme: http",
        )

    @property
    def _kubectl(self) -> str:
        return f"{self._server.kubectl} -n {self._namespace}"

    @property
    def _look(self) -> str:
        return f"'{self._kubectl} get endpointslices -l kubernetes.io/service-name={self._service}'"

    def _dial(self, timeout: float) -> Stream:
        """Return a connection to the service, made within ``timeout`` seconds that are also the bound of its use."""
        self._api = api = Api(self._server, self._name, timeout)
        forwarded = api.forward(self._namespace, *self._find(api))
        return TlsStream(forwarded, self._context, self._host) if self._context else forwarded

    def _find(self, api: Api) -> tuple[str, int]:
        """Return name and port of the newest pod of the service that is ready.

        Raises:
            CheckError: ``unreachable`` when there is none now; ``bad_option`` when the service can't have one.
        """
        spec = self._spec(api)
        port = self._service_port(spec)
        query = urlencode({"labelSelector": f"kubernetes.io/service-name={self._service}"})
        what = f"endpointslices.discovery.k8s.io -n {self._namespace}"
        slices = api.ask(f"/apis/discovery.k8s.io/v1/namespaces/{self._namespace}/endpointslices?{query}", what) or {}
        ready: dict[str, int | None] = {}
        foreign = False
        for item in slices.get("items") or []:
            number = next((p.get("port") for p in item.get("ports") or [] if (p.get("name") or "") == port), None)
            for endpoint in item.get("endpoints") or []:
                # Not told means ready.
                if (endpoint.get("conditions") or {}).get("ready") is False:
                    continue
                target = endpoint.get("targetRef") or {}
                if target.get("kind") != "Pod":
                    foreign = True
                else:
                    ready[target["name"]] = ready.get(target["name"]) or number
        if not ready and (foreign or not spec.get("selector")):
            raise CheckError(
                "bad_option",
                f"Service {self._namespace}/{self._service} selects no pods, so no port can be forwarded; give {self._name}.url "
                f"instead, and see {self._look}.",
            )
        if not ready:
            raise CheckError(
                "unreachable",
                f"{self._address} has no ready pod: {self._why(api, spec)}; see {self._look}.",
                transient=True,
            )
        listening = {name: number for name, number in ready.items() if number}
        if not listening:
            raise CheckError(
                "unreachable",
                f"No container in the pods of {self._address} has the targetPort of this port; see {self._look}.",
                transient=True,
            )
        name = next(iter(listening)) if len(listening) == 1 else self._newest(api, spec, listening)
        return name, listening[name]

    def _spec(self, api: Api) -> _Object:
        """Return what the Service is meant to be."""
        where = f"/api/v1/namespaces/{self._namespace}"
        service = api.ask(f"{where}/services/{self._service}", f"services -n {self._namespace}")
        if service is None:
            try:
                missing = api.ask(where, "namespaces") is None
            except CheckError:  # who may not see namespaces is told about the Service
                missing = False
            if missing:
                hint = f"There is no namespace {self._namespace}; see '{self._server.kubectl} get namespaces'."
            else:
                hint = f"There is no Service {self._namespace}/{self._service}; see '{self._kubectl} get services'."
            # Whoever installs it may be at it still.
            raise CheckError("unreachable", hint, transient=True)
        spec: _Object = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            raise CheckError(
                "bad_option",
                f"Service {self._namespace}/{self._service} is an ExternalName for {spec.get('externalName')} outside the cluster; "
                f"give {self._name}.url instead.",
            )
        return spec

    def _service_port(self, spec: _Object) -> str:
        """Return the name of the service's port, which may be empty."""
        ports = spec.get("ports") or []
        for port in ports:
            if self._port in (port.get("name"), str(port.get("port"))):
                return str(port.get("name") or "")
        known = ", ".join(
            f"{port['name']} ({port.get('port')})" if port.get("name") else str(port.get("port")) for port in ports
        )
        raise CheckError(
            "bad_option",
            f"Service {self._namespace}/{self._service} has no port {self._port}, only {known or 'none at all'}; see "
            f"'{self._kubectl} get service {self._service}'.",
        )

    def _pods(self, api: Api, spec: _Object) -> list[_Object]:
        """Return the pods that the service selects; none when they may not be seen."""
        selector = ",".join(f"{key}={value}" for key, value in (spec.get("selector") or {}).items())
        query = urlencode({"labelSelector": selector})
        with contextlib.suppress(CheckError):
            answer = api.ask(f"/api/v1/namespaces/{self._namespace}/pods?{query}", "pods") or {}
            return list(answer.get("items") or [])
        return []

    def _newest(self, api: Api, spec: _Object, names: Mapping[str, Any]) -> str:
        """Return the pod among ``names`` that was created last."""
        created = {
            pod["metadata"]["name"]: pod["metadata"].get("creationTimestamp") or "" for pod in self._pods(api, spec)
        }
        return max(names, key=lambda name: created.get(name, ""))

    def _why(self, api: Api, spec: _Object) -> str:
        """Return which pods there are and what they wait for."""
        found = []
        for pod in self._pods(api, spec):
            status = pod.get("status") or {}
            waiting = [
                container["state"]["waiting"].get("reason") or "waiting"
                for container in status.get("containerStatuses") or []
                if (container.get("state") or {}).get("waiting")
            ]
            state = waiting[0] if waiting else status.get("phase") or "unknown"
            found.append(f"{pod['metadata']['name']} ({'not ready' if state == 'Running' else state})")
        if not found:
            selector = ",".join(f"{key}={value}" for key, value in (spec.get("selector") or {}).items())
            return f"no pod with the labels {selector} is seen"
        more = f" and {len(found) - _LISTED_PODS} more" if len(found) > _LISTED_PODS else ""
        return f"{', '.join(found[:_LISTED_PODS])}{more}"
