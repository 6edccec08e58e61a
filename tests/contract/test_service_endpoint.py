"""An endpoint that is a Service of a cluster: the modules reach it through an API server, as if it were an address.

The API server is one for tests; what it forwards to are real servers, one of them a process that crashes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Transport, open_transport
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError
from fake_cluster import TOKEN, FakeCluster, Pod
from systems import Json, PrometheusServer, RunModule, WebServer, eventually, free_port, raw_server, self_signed

BIG = random.Random(5).randbytes(10 * 1024 * 1024)
SLICES = "kubectl --kubeconfig {} -n vigie get endpointslices -l kubernetes.io/service-name=flask"
CRASHING_POD = """
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/crash":
            os._exit(1)
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", "1000" if self.path == "/half" else str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        if self.path == "/half":
            os._exit(1)
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Web:
    """What a pod serves in these tests, with TLS when it gets a certificate."""

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        outer = self
        self.seen: list[tuple[str, dict[str, str], bytes]] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                if self.path == "/slow":
                    time.sleep(3)
                if self.path == "/chunked":
                    self.send_response(200)
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    for start in range(0, len(BIG), 100_000):
                        part = BIG[start : start + 100_000]
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                    self.wfile.write(b"0\r\n\r\n")
                    return
                self.send_response({"/503": 503, "/redirect": 302}.get(self.path, 200))
                answer = BIG if self.path in ("/big", "/unsized") else b"hello"
                if self.path == "/redirect":
                    self.send_header("Location", "https://elsewhere/")
                if self.path == "/unsized":
                    self.close_connection = True
                else:
                    self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = _answer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    """A cluster without a pod."""
    one = FakeCluster(tmp_path)
    yield one
    one.stop()


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    one = Web()
    yield one
    one.stop()


@pytest.fixture
def endpoint(cluster: FakeCluster) -> Json:
    """The Service ``flask`` of the cluster."""
    return {
        "service": {"namespace": "vigie", "name": "flask", "port": "metrics"},
        "kubeconfig": cluster.kubeconfig,
    }


@pytest.fixture
def flask(cluster: FakeCluster, endpoint: Json, web: Web) -> Transport:
    """The way to a Service with one pod that is well."""
    cluster.add(Pod("flask-1", web.port))
    return open_transport(endpoint)


@pytest.fixture
def start_pod(cluster: FakeCluster) -> Iterator[Callable[[str], int]]:
    """Return a function that starts a process as a pod of the cluster, and returns its process id."""
    processes = []

    def start(name: str) -> int:
        port = free_port()
        process = subprocess.Popen([sys.executable, "-c", CRASHING_POD, str(port)])
        processes.append(process)

        def listens() -> bool:
            with contextlib.closing(socket.create_connection(("127.0.0.1", port))):
                return True

        eventually(listens, "the start of a pod")
        cluster.add(Pod(name, port))
        return process.pid

    yield start
    for process in processes:
        process.kill()
        process.wait()


def get(transport: Transport, path: str = "/", timeout: float = 10.0, **headers: str) -> Any:
    return transport.send("GET", path, body=None, headers=headers, timeout=timeout)


def refused(function: Callable[..., Any], *arguments: Any, **options: Any) -> CheckError:
    with pytest.raises(CheckError) as caught:
        function(*arguments, **options)
    assert TOKEN not in caught.value.hint
    return caught.value


def test_an_answer(cluster: FakeCluster, flask: Transport, web: Web) -> None:
    answer = flask.send("POST", "/x y?q=ä", body=b"words", headers={"X-Mine": "1"}, timeout=10)
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"hello", "5")
    path, headers, body = web.seen[-1]
    assert (path, headers["x-mine"], body) == ("/x%20y?q=%C3%A4", "1", b"words")
    # A name of a port has no place in Host, and what is for the API server stays there.
    assert headers["host"] == "flask.vigie.svc"
    assert "authorization" not in headers
    assert cluster.asked == ["services", "endpointslices", "pods/portforward"]
    assert flask.address == "http://flask.vigie.svc:metrics"


def test_nothing_is_left_behind(cluster: FakeCluster, flask: Transport) -> None:
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for path in ("/", "/503", "/slow"):
        with contextlib.suppress(CheckError):
            get(flask, path, timeout=0.3)
    eventually(lambda: cluster.forwards == 0, "the end of the forwarded connections", 5)
    eventually(lambda: threading.active_count() <= threads + 1, "the end of the server's threads", 5)
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= files, "the end of sockets", 5)


@pytest.mark.parametrize("path", ["/big", "/chunked", "/unsized"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_ten_megabytes(cluster: FakeCluster, endpoint: Json, path: str, scheme: str) -> None:
    certificate = self_signed(cluster.folder, "web", "flask.vigie.svc")
    server = Web(certificate if scheme == "https" else None)
    cluster.add(Pod("flask-1", server.port))
    service = {**endpoint["service"], "scheme": scheme}
    transport = open_transport({**endpoint, "service": service, "ca_path": str(certificate[0])})
    body = get(transport, path, timeout=60).body
    server.stop()
    assert hashlib.sha256(body).digest() == hashlib.sha256(BIG).digest()


def test_a_long_request(flask: Transport, web: Web) -> None:
    flask.send("POST", "/", body=BIG[:300_000], headers={}, timeout=30)
    assert web.seen[-1][2] == BIG[:300_000]


def test_basic_auth_reaches_the_service(cluster: FakeCluster, endpoint: Json, web: Web, tmp_path: Path) -> None:
    cluster.add(Pod("flask-1", web.port))
    (tmp_path / "password").write_text("correct horse\n")
    login = {"username": "vigie", "password_file": str(tmp_path / "password"), "headers": {"X-Scope-OrgID": "a"}}
    transport = open_transport({**endpoint, **login})
    get(transport)
    headers = web.seen[-1][1]
    assert (headers["authorization"], headers["x-scope-orgid"]) == ("Basic dmlnaWU6Y29ycmVjdCBob3JzZQ==", "a")
    assert {"correct horse", "dmlnaWU6Y29ycmVjdCBob3JzZQ==", TOKEN} <= transport.secrets


@pytest.mark.parametrize(("path", "reason"), [("/503", "server_error"), ("/redirect", "redirected")])
def test_statuses_are_those_of_the_service(flask: Transport, path: str, reason: str) -> None:
    error = refused(flask.request, "GET", path)
    assert error.reason == reason
    assert "http://flask.vigie.svc:metrics" in error.hint


# --- TLS of the service ---


def tls(cluster: FakeCluster, endpoint: Json, name: str, ca: str, **more: Any) -> Any:
    """Ask a service whose certificate is for ``name``, trusting the CA in ``ca``.crt."""
    server = Web(self_signed(cluster.folder, "web", name))
    self_signed(cluster.folder, "another", name)
    cluster.add(Pod("flask-1", server.port))
    service = {**endpoint["service"], "scheme": "https"}
    try:
        return get(
            open_transport({**endpoint, "service": service, "ca_path": str(cluster.folder / f"{ca}.crt"), **more})
        )
    finally:
        server.stop()


def test_tls_with_the_right_ca(cluster: FakeCluster, endpoint: Json) -> None:
    assert tls(cluster, endpoint, "flask.vigie.svc", "web").body == b"hello"


def test_tls_unchecked(cluster: FakeCluster, endpoint: Json) -> None:
    assert tls(cluster, endpoint, "other", "another", validate_certs=False).body == b"hello"


@pytest.mark.parametrize(
    ("name", "ca", "words"),
    [("flask.vigie.svc", "another", "self-signed"), ("flask.other.svc", "web", "flask.vigie.svc")],
)
def test_tls_untrusted(cluster: FakeCluster, endpoint: Json, name: str, ca: str, words: str) -> None:
    error = refused(tls, cluster, endpoint, name, ca)
    assert (error.reason, error.transient) == ("tls_untrusted", False)
    assert words in error.hint and "-servername flask.vigie.svc" in error.hint and "endpoint.ca_path" in error.hint


def test_tls_where_there_is_none(cluster: FakeCluster, endpoint: Json, web: Web) -> None:
    cluster.add(Pod("flask-1", web.port))
    error = refused(get, open_transport({**endpoint, "service": {**endpoint["service"], "scheme": "https"}}))
    assert error.reason == "tls_failed"
    assert "endpoint.service.scheme: http" in error.hint and "port-forward service/flask :metrics" in error.hint


# --- pods that come and go ---


def test_a_crash_is_a_lost_connection_and_the_next_request_finds_the_next_pod(
    cluster: FakeCluster, endpoint: Json, start_pod: Callable[[str], int], run_module: RunModule
) -> None:
    first = start_pod("flask-1")
    ask: Json = {"endpoint": endpoint, "timeout": 5}
    assert run_module("service_request", **ask)["last"]["body"] == str(first)
    crash = run_module("service_request", path="/crash", allow_disconnect=True, disruptive=True, **ask)
    assert (crash["failed"], crash["disconnected"], crash["changed"]) == (False, 1, True)
    # The cluster takes a while to see it.
    down = run_module("service_request", allow_disconnect=True, **ask)
    assert (down["failed"], down["reason"]) == (True, "unreachable")
    assert "Connection refused" in down["hint"] and "get pod flask-1" in down["hint"]
    cluster.pods["flask-1"].waiting = "CrashLoopBackOff"
    assert "flask-1 (CrashLoopBackOff)" in run_module("service_request", **ask)["hint"]
    del cluster.pods["flask-1"]
    second = start_pod("flask-2")
    assert run_module("service_request", **ask)["last"]["body"] == str(second) != str(first)


@pytest.mark.parametrize("path", ["/crash", "/half"])
def test_a_lost_connection_that_was_not_allowed(
    endpoint: Json, start_pod: Callable[[str], int], run_module: RunModule, path: str
) -> None:
    start_pod("flask-1")
    result = run_module("service_request", endpoint=endpoint, path=path)
    assert (result["failed"], result["reason"], result["disconnected"]) == (True, "disconnected", 1)
    assert "http://flask.vigie.svc:metrics" in result["hint"]


def test_one_transport_over_restarts(cluster: FakeCluster, endpoint: Json, start_pod: Callable[[str], int]) -> None:
    transport = open_transport(endpoint)
    for number in range(3):
        pid = start_pod(f"flask-{number}")
        assert get(transport).text == str(pid)
        assert refused(get, transport, "/crash").reason == "disconnected"
        del cluster.pods[f"flask-{number}"]


def test_a_reset_is_a_lost_connection_too(cluster: FakeCluster, endpoint: Json) -> None:
    def reset(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with raw_server(reset) as url:
        cluster.add(Pod("flask-1", int(url.rpartition(":")[2])))
        error = refused(get, open_transport(endpoint))
    assert (error.reason, error.transient) == ("disconnected", True)


def test_the_newest_of_the_ready_pods(cluster: FakeCluster, flask: Transport, start_pod: Callable[[str], int]) -> None:
    pid = start_pod("flask-2")
    cluster.pods["flask-2"].created = "2026-11-24T12:00:00Z"
    cluster.add(Pod("flask-3", 1, created="2026-11-24T13:00:00Z", ready=False))
    assert get(flask).text == str(pid)
    # Who may not see pods reaches one all the same.
    cluster.forbidden = {"pods"}
    assert get(flask).status == 200


# --- what is wrong in the cluster ---


def test_nobody_listens_in_the_pod(cluster: FakeCluster, endpoint: Json) -> None:
    port = free_port()
    cluster.add(Pod("flask-1", port))
    for scheme in ("http", "https"):
        error = refused(get, open_transport({**endpoint, "service": {**endpoint["service"], "scheme": scheme}}))
        assert (error.reason, error.transient) == ("unreachable", True)
        assert f"Port {port} of pod vigie/flask-1" in error.hint and "Connection refused" in error.hint


@pytest.mark.parametrize(
    ("resource", "question"),
    [
        ("services", "auth can-i get services -n vigie"),
        ("endpointslices", "auth can-i list endpointslices.discovery.k8s.io -n vigie"),
        ("pods/portforward", "auth can-i create pods --subresource=portforward -n vigie"),
    ],
)
def test_forbidden(cluster: FakeCluster, flask: Transport, resource: str, question: str) -> None:
    cluster.forbidden = {resource}
    error = refused(get, flask)
    assert (error.reason, error.transient) == ("access_denied", False)
    assert f'resource "{resource}"' in error.hint and question in error.hint


def test_no_such_namespace(cluster: FakeCluster, endpoint: Json) -> None:
    transport = open_transport({**endpoint, "service": {**endpoint["service"], "namespace": "nowhere"}})
    error = refused(get, transport)
    assert (error.reason, error.transient) == ("unreachable", True)
    assert "no namespace nowhere" in error.hint and "get namespaces" in error.hint
    cluster.forbidden = {"namespaces"}
    assert "no Service nowhere/flask" in refused(get, transport).hint


def test_no_such_service(endpoint: Json) -> None:
    error = refused(get, open_transport({**endpoint, "service": {**endpoint["service"], "name": "falsk"}}))
    assert (error.reason, error.transient) == ("unreachable", True)
    assert "no Service vigie/falsk" in error.hint and "-n vigie get services" in error.hint


def test_no_such_port(cluster: FakeCluster, endpoint: Json) -> None:
    cluster.services["flask"]["ports"].append({"port": 8080})
    error = refused(get, open_transport({**endpoint, "service": {**endpoint["service"], "port": "5000"}}))
    assert (error.reason, error.transient) == ("bad_option", False)
    assert "no port 5000, only metrics (80), 8080" in error.hint and "get service flask" in error.hint


def test_a_port_by_number(cluster: FakeCluster, endpoint: Json, web: Web) -> None:
    cluster.add(Pod("flask-1", web.port))
    get(open_transport({**endpoint, "service": {**endpoint["service"], "port": "80"}}))
    assert web.seen[-1][1]["host"] == "flask.vigie.svc:80"


def test_what_every_path_begins_with(cluster: FakeCluster, endpoint: Json, web: Web) -> None:
    cluster.add(Pod("flask-1", web.port))
    transport = open_transport({**endpoint, "service": {**endpoint["service"], "path": "/jaeger"}})
    transport.send("GET", "/api/x?y=1", body=None, headers={}, timeout=5)
    assert web.seen[-1][0] == "/jaeger/api/x?y=1"
    assert transport.address == "http://flask.vigie.svc:metrics/jaeger"


def test_no_pods(cluster: FakeCluster, endpoint: Json) -> None:
    error = refused(get, open_transport(endpoint))
    assert (error.reason, error.transient) == ("unreachable", True)
    assert "no pod with the labels app=flask" in error.hint and SLICES.format(cluster.kubeconfig) in error.hint


def test_pods_that_are_not_ready(cluster: FakeCluster, endpoint: Json) -> None:
    cluster.add(*(Pod(f"flask-{number}", 1, ready=False) for number in range(7)), Pod("other", 1, labels={}))
    error = refused(get, open_transport(endpoint))
    assert "flask-0 (not ready)" in error.hint and "and 2 more" in error.hint and "other" not in error.hint


def test_a_target_port_that_no_container_has(cluster: FakeCluster, flask: Transport) -> None:
    cluster.unnamed_target = True
    error = refused(get, flask)
    assert (error.reason, error.transient) == ("unreachable", True)
    assert "targetPort" in error.hint


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"type": "ExternalName", "externalName": "db.example.org"}, "ExternalName for db.example.org"),
        ({"ports": [{"name": "metrics", "port": 80}]}, "selects no pods"),
    ],
)
def test_services_without_pods(cluster: FakeCluster, endpoint: Json, spec: Json, words: str) -> None:
    cluster.services["flask"] = spec
    error = refused(get, open_transport(endpoint))
    assert (error.reason, error.transient) == ("bad_option", False)
    assert words in error.hint and "endpoint.url" in error.hint


# --- the API server ---


def test_the_api_server_is_gone(cluster: FakeCluster, flask: Transport) -> None:
    cluster.stop()
    error = refused(get, flask)
    assert (error.reason, error.transient) == ("unreachable", True)
    assert f"The API server https://127.0.0.1:{cluster.port}" in error.hint and "get --raw /readyz" in error.hint


def test_the_api_server_closes_the_connection(cluster: FakeCluster, endpoint: Json, run_module: RunModule) -> None:
    """It must not be taken for a crash of the service."""
    with raw_server(lambda connection: None) as url:
        config = cluster.write_kubeconfig("lost", server=url)
        result = run_module("service_request", endpoint={**endpoint, "kubeconfig": config}, allow_disconnect=True)
    assert (result["failed"], result["reason"], result["disconnected"]) == (True, "unreachable", 0)
    assert "The API server" in result["hint"]


def test_an_untrusted_api_server(cluster: FakeCluster, endpoint: Json) -> None:
    self_signed(cluster.folder, "another", "127.0.0.1")
    config = cluster.write_kubeconfig(
        "untrusting", **{"certificate-authority-data": None, "certificate-authority": "another.crt"}
    )
    error = refused(get, open_transport({**endpoint, "kubeconfig": config}))
    assert (error.reason, error.transient) == ("tls_untrusted", False)
    assert "The API server" in error.hint and "endpoint.kubeconfig" in error.hint
    # The name in its certificate is another one than asked for.
    config = cluster.write_kubeconfig("misnamed", **{"tls-server-name": "kubernetes"})
    assert refused(get, open_transport({**endpoint, "kubeconfig": config})).reason == "tls_untrusted"
    config = cluster.write_kubeconfig(
        "careless", **{"certificate-authority-data": None, "insecure-skip-tls-verify": True}
    )
    assert "no ready pod" in refused(get, open_transport({**endpoint, "kubeconfig": config})).hint


@pytest.mark.parametrize("user", [{}, {"token": "wrong"}, {"username": "me", "password": "pa55"}])
def test_the_api_server_does_not_know_the_user(cluster: FakeCluster, endpoint: Json, user: Json) -> None:
    config = cluster.write_kubeconfig("unknown", user=user)
    error = refused(get, open_transport({**endpoint, "kubeconfig": config}))
    assert (error.reason, error.transient) == ("access_denied", False)
    assert "401" in error.hint and "auth whoami" in error.hint


def test_a_client_certificate(cluster: FakeCluster, endpoint: Json, web: Web) -> None:
    cluster.add(Pod("flask-1", web.port))
    config = cluster.write_kubeconfig(
        "by-certificate", user={"client-certificate": "client.crt", "client-key": "client.key"}
    )
    assert get(open_transport({**endpoint, "kubeconfig": config})).status == 200


def test_a_command_that_gives_credentials(cluster: FakeCluster, endpoint: Json, web: Web) -> None:
    cluster.add(Pod("flask-1", web.port))
    command = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", 'test -n "$KUBERNETES_EXEC_INFO" && echo "{\\"status\\": {\\"token\\": \\"$MINE\\"}}"'],
        "env": [{"name": "MINE", "value": TOKEN}],
    }
    transport = open_transport({**endpoint, "kubeconfig": cluster.write_kubeconfig("exec", user={"exec": command})})
    assert get(transport).status == 200
    assert TOKEN in transport.secrets


@pytest.mark.parametrize(
    ("resource", "status", "reason"),
    [
        ("services", 503, "server_error"),
        ("endpointslices", 429, "server_error"),
        ("pods/portforward", 500, "server_error"),
        ("pods/portforward", 400, "bad_answer"),
        ("pods/portforward", 404, "unreachable"),
        ("services", 200, "unreachable"),
    ],
)
def test_the_api_server_answers_something_else(
    cluster: FakeCluster, flask: Transport, resource: str, status: int, reason: str
) -> None:
    cluster.broken[resource] = (status, f"etcd said {TOKEN}")
    if status == 200:
        cluster.broken[resource] = (200, "")
        error = refused(get, flask)
        assert (error.reason, "has no port" in error.hint) == ("bad_option", True)
        return
    error = refused(get, flask)
    assert error.reason == reason
    assert error.transient == (reason != "bad_answer")
    assert "kubectl" in error.hint


def test_no_api_server_at_all(cluster: FakeCluster, endpoint: Json, web: Web) -> None:
    config = cluster.write_kubeconfig("plain", server=f"http://127.0.0.1:{web.port}/prefix")
    error = refused(get, open_transport({**endpoint, "kubeconfig": config}))
    assert error.reason == "bad_answer"
    assert web.seen[-1][0] == "/prefix/api/v1/namespaces/vigie/services/flask"


# --- time ---


@pytest.mark.parametrize("resource", ["services", "endpointslices", "pods/portforward"])
def test_a_slow_api_server(cluster: FakeCluster, flask: Transport, resource: str) -> None:
    cluster.delays[resource] = 3
    started = time.monotonic()
    error = refused(get, flask, timeout=0.5)
    assert (error.reason, error.transient) == ("timeout", True)
    assert "The API server" in error.hint and "0.5 s" in error.hint
    assert time.monotonic() - started < 2.5


def test_a_slow_service(flask: Transport) -> None:
    started = time.monotonic()
    error = refused(get, flask, "/slow", timeout=0.5)
    assert (error.reason, error.transient) == ("timeout", True)
    assert "http://flask.vigie.svc:metrics gave no answer within 0.5 s" in error.hint
    assert time.monotonic() - started < 2.5


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
def test_an_answer_that_drips_for_ever(cluster: FakeCluster, endpoint: Json, head: bytes) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(60):
            connection.sendall(b"x")
            time.sleep(0.05)

    with raw_server(drip) as url:
        cluster.add(Pod("flask-1", int(url.rpartition(":")[2])))
        started = time.monotonic()
        assert refused(get, open_transport(endpoint), timeout=0.5).reason == "timeout"
    assert time.monotonic() - started < 2.5


# --- modules ---


def test_a_check_of_prometheus(
    cluster: FakeCluster, endpoint: Json, prometheus: PrometheusServer, run_module: RunModule
) -> None:
    cluster.add(Pod("prometheus-0", prometheus.port))
    result = run_module("scrape_check", endpoint=endpoint, job="app", timeout=5, interval=0.1)
    assert result["matched"], result
    result = run_module("promql_check", endpoint=endpoint, query='up{job="app"}', timeout=5, interval=0.1)
    assert result["matched"], result


def test_a_check_waits_for_the_pod(cluster: FakeCluster, endpoint: Json, run_module: RunModule) -> None:
    server = WebServer()
    body = json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [time.time(), "1"]}})
    server.text("/api/v1/query", body)
    threading.Timer(0.5, lambda: cluster.add(Pod("prometheus-0", server.port))).start()
    result = run_module("promql_check", endpoint=endpoint, query="vector(1)", timeout=10, interval=0.1)
    server.stop()
    assert result["matched"] and result["attempts"] > 1, result


def test_an_alert_check_has_two_services(
    cluster: FakeCluster, endpoint: Json, prometheus: PrometheusServer, alertmanager: Any, run_module: RunModule
) -> None:
    cluster.services["alertmanager"] = {"selector": {"app": "am"}, "ports": [{"port": 9093}]}
    cluster.add(Pod("prometheus-0", prometheus.port), Pod("alertmanager-0", alertmanager.port, labels={"app": "am"}))
    second = {**endpoint, "service": {"namespace": "vigie", "name": "alertmanager", "port": "9093"}}
    result = run_module(
        "alert_check",
        endpoint=endpoint,
        alertmanager=second,
        alert="Fires",
        state="routed",
        receiver="hook",
        timeout=10,
    )
    assert result["matched"], result


def test_mail_in_a_mailpit_of_the_cluster(cluster: FakeCluster, endpoint: Json, run_module: RunModule) -> None:
    server = WebServer()
    server.text("/api/v1/messages", json.dumps({"messages": [], "total": 0, "messages_count": 0}))
    cluster.add(Pod("mailpit-0", server.port))
    result = run_module("mail_check", endpoint=endpoint, timeout=0)
    server.stop()
    assert result["reason"] == "mailbox_empty", result


def test_secrets_are_never_printed(cluster: FakeCluster, endpoint: Json, run_module: RunModule) -> None:
    cluster.broken["services"] = (500, f"no {TOKEN} here")
    result = run_module("service_request", endpoint=endpoint)
    assert result["reason"] == "server_error"
    assert TOKEN not in json.dumps(result)


def test_exactly_one_place(endpoint: Json, run_module: RunModule) -> None:
    result = run_module("service_request", endpoint={**endpoint, "url": "http://127.0.0.1"})
    assert result["failed"] and "mutually exclusive: url|service" in result["msg"]
    result = run_module("service_request", endpoint={})
    assert result["failed"] and "one of the following is required: url, service" in result["msg"]
