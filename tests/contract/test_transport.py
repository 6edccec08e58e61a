"""How every check speaks about a service that can't be reached, doesn't let in, or answers nonsense.

TLS, passwords and refused connections are met with a real Prometheus. It can't be made to answer 500, to redirect, to
be garbled, slow or cut short on purpose, so small servers do that.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from systems import PrometheusServer, RunModule, WebServer, free_port, raw_server, self_signed

Options = dict[str, Any]
USER, PASSWORD = "vigie", "correct horse"
PASSWORD_HASH = "$2b$04$jCPZQKeFWE/Uz48o5zo1HuRVv0cQRC3j5HhphFTB/Sv0f9lh5LpAW"


@pytest.fixture(scope="module")
def guarded(make_prometheus: Callable[[], PrometheusServer]) -> PrometheusServer:
    """A real Prometheus that demands TLS and a password; its CA is the file ca.crt in its folder."""
    server = make_prometheus()
    certificate, key = self_signed(server.folder, "ca", "127.0.0.1")
    self_signed(server.folder, "other", "127.0.0.1")
    web = {
        "tls_server_config": {"cert_file": str(certificate), "key_file": str(key)},
        "basic_auth_users": {USER: PASSWORD_HASH},
    }
    (server.folder / "web.yml").write_text(yaml.safe_dump(web))
    (server.folder / "password").write_text(f"{PASSWORD}\n")
    (server.folder / "wrong").write_text("guessed\n")
    server.configure({})
    server.start(f"--web.config.file={server.folder / 'web.yml'}", wait=False)
    server.scheme = "https"
    ends = time.monotonic() + 20
    while b"Server is ready" not in (server.folder / "log").read_bytes():
        assert time.monotonic() < ends, server.log
        time.sleep(0.05)
    return server


@pytest.fixture
def ask(run_module: RunModule) -> Callable[..., dict[str, Any]]:
    """Run a check that holds on any Prometheus against an endpoint."""

    def run(endpoint: Options, **options: Any) -> dict[str, Any]:
        return run_module(
            "promql_check", **{"endpoint": endpoint, "query": "vector(1)", "timeout": 0.4, "interval": 0.1, **options}
        )

    return run


Ask = Callable[..., dict[str, Any]]


def reason(result: dict[str, Any]) -> str:
    assert result["failed"] and not result["matched"] and result["hint"], result
    return str(result["reason"])


def test_refused(ask: Ask) -> None:
    result = ask({"url": f"http://127.0.0.1:{free_port()}"})
    assert reason(result) == "unreachable"
    assert result["attempts"] > 1, "a refused connection is tried again"
    assert "curl -i" in result["hint"]


def test_a_server_that_comes_up_is_waited_for(ask: Ask) -> None:
    port = free_port()

    def serve(connection: socket.socket) -> None:
        body = json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [time.time(), "1"]}})
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

    import threading

    servers: list[Any] = []

    def later() -> None:
        listener = socket.create_server(("127.0.0.1", port))
        servers.append(listener)
        connection, dummy = listener.accept()
        with connection:
            connection.recv(65536)
            serve(connection)

    timer = threading.Timer(0.3, later)
    timer.start()
    result = ask({"url": f"http://127.0.0.1:{port}"}, timeout=5)
    timer.join()
    servers[0].close()
    assert result["matched"] and result["attempts"] > 1, result


def test_tls_with_its_own_ca_and_a_password(ask: Ask, guarded: PrometheusServer) -> None:
    endpoint = {"url": guarded.url, "ca_path": str(guarded.folder / "ca.crt"), "username": USER}
    assert ask({**endpoint, "password": PASSWORD})["matched"]
    assert ask({**endpoint, "password_file": str(guarded.folder / "password")})["matched"]
    assert ask({**endpoint, "password": PASSWORD, "ca_path": None, "validate_certs": False})["matched"]


@pytest.mark.parametrize("ca", [None, "other.crt"])
def test_an_unknown_ca(ask: Ask, guarded: PrometheusServer, ca: str | None) -> None:
    result = ask({"url": guarded.url, "ca_path": str(guarded.folder / ca) if ca else None})
    assert reason(result) == "tls_untrusted"
    assert result["attempts"] == 1, "waiting can't mend it"
    assert "ca_path" in result["hint"]


def test_a_certificate_for_another_name(ask: Ask, guarded: PrometheusServer) -> None:
    result = ask({"url": f"https://localhost:{guarded.port}", "ca_path": str(guarded.folder / "ca.crt")})
    assert reason(result) == "tls_untrusted"
    assert "localhost" in result["hint"]


@pytest.mark.parametrize("login", [{}, {"username": USER, "password": "guessed"}, {"username": "nobody"}])
def test_access_denied(ask: Ask, guarded: PrometheusServer, login: Options) -> None:
    result = ask({"url": guarded.url, "ca_path": str(guarded.folder / "ca.crt"), **login})
    assert reason(result) == "access_denied"
    assert result["attempts"] == 1
    assert "401" in result["hint"]


def test_secrets_are_never_printed(run_module: RunModule, guarded: PrometheusServer) -> None:
    secret_file = guarded.folder / "wrong"
    with raw_server(
        lambda connection: connection.sendall(b"HTTP/1.1 500 No\r\n\r\nguessed is not the password")
    ) as url:
        endpoint = {
            "url": url,
            "username": USER,
            "password_file": str(secret_file),
            "headers": {"X-Token": "t0ken-of-mine"},
        }
        result = run_module("promql_check", endpoint=endpoint, query="up", timeout=0)
    assert result["reason"] == "server_error"
    text = json.dumps(result)
    assert "guessed" not in text and "t0ken-of-mine" not in text
    # Credentials within the address would be printed with it, so such an address is refused, unprinted.
    result = run_module("promql_check", endpoint={"url": "http://me:pa55w0rd@127.0.0.1/"}, query="up")
    assert reason(result) == "bad_option"
    assert "pa55w0rd" not in result["hint"] + result["msg"]


def test_the_wrong_scheme(ask: Ask, guarded: PrometheusServer, prometheus: PrometheusServer) -> None:
    result = ask({"url": guarded.url.replace("https:", "http:")})
    assert reason(result) == "bad_request"
    assert "HTTPS server" in result["hint"]
    result = ask({"url": prometheus.url.replace("http:", "https:")})
    assert reason(result) == "tls_failed"
    assert "http://" in result["hint"]


def test_a_server_error_is_tried_again(ask: Ask) -> None:
    server = WebServer()
    server.text("/api/v1/query", "database is gone", status=500)
    result = ask({"url": server.url})
    server.stop()
    assert reason(result) == "server_error"
    assert result["attempts"] > 1
    assert result["observed"] == {"status": 500, "body": "database is gone"}


def test_a_redirect_is_not_followed(ask: Ask, prometheus: PrometheusServer) -> None:
    server = WebServer()
    server.answers["/api/v1/query"] = (302, {"Location": f"{prometheus.url}/api/v1/query"}, b"")
    result = ask({"url": server.url, "username": USER, "password": PASSWORD})
    server.stop()
    assert reason(result) == "redirected"
    assert prometheus.url in result["hint"] and result["attempts"] == 1


@pytest.mark.parametrize(
    "body",
    ["<html>hello</html>", "[]", "{}", '"text"', '{"status": "success", "data": {"resultType": "vector"}}', "nul"],
)
def test_nonsense(ask: Ask, body: str) -> None:
    server = WebServer()
    server.text("/api/v1/query", body)
    result = ask({"url": server.url})
    server.stop()
    assert reason(result) == "bad_answer"


def test_another_program_at_this_address(ask: Ask) -> None:
    server = WebServer()
    result = ask({"url": server.url})
    server.stop()
    assert reason(result) == "bad_request"
    assert "404" in result["hint"]


def test_no_http_at_all(ask: Ask) -> None:
    with raw_server(lambda connection: connection.sendall(b"220 mail.example.com ESMTP\r\n")) as url:
        assert reason(ask({"url": url})) == "bad_answer"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"status":',
        b"HTTP/1.1 500 No\r\nContent-Length: 500\r\n\r\nout of",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhe",
        b"HTTP/1.1 200 O",
    ],
)
def test_an_answer_cut_short(ask: Ask, answer: bytes) -> None:
    with raw_server(lambda connection: connection.sendall(answer)) as url:
        result = ask({"url": url})
    assert (
        reason(result) in ("disconnected", "bad_answer") if answer.endswith(b"O") else reason(result) == "disconnected"
    )
    assert result["attempts"] > 1 or result["reason"] == "bad_answer"


def test_no_answer_within_the_time(ask: Ask) -> None:
    with raw_server(lambda connection: time.sleep(1)) as url:
        result = ask({"url": url}, request_timeout=0.2)
    assert reason(result) == "timeout"


def test_an_answer_that_drips_for_ever(ask: Ask) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(100):
            connection.sendall(b" ")
            time.sleep(0.05)

    with raw_server(drip) as url:
        result = ask({"url": url}, request_timeout=0.3, timeout=0)
    assert reason(result) == "timeout"
    assert result["elapsed"] < 2


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:9090",
        "ftp://127.0.0.1",
        "http://",
        "http://127.0.0.1:port",
        "http://127.0.0.1:99999",
        "http://a b/",
        "http://x/?q=1",
    ],
)
def test_a_malformed_address(ask: Ask, url: str) -> None:
    result = ask({"url": url}, timeout=5)
    assert reason(result) == "bad_option"
    assert f"endpoint.url={url}" in result["hint"] and result["attempts"] == 0


@pytest.mark.parametrize("option", ["ca_path", "password_file"])
def test_a_missing_file(ask: Ask, option: str) -> None:
    result = ask({"url": "https://127.0.0.1:1", option: "/nowhere/file"})
    assert reason(result) == "bad_option"
    assert f"endpoint.{option}=/nowhere/file" in result["hint"]


def test_the_environments_proxy_is_used_only_on_demand(
    ask: Ask, prometheus: PrometheusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert ask({"url": prometheus.url})["matched"]
    assert reason(ask({"url": prometheus.url, "use_proxy": True})) == "unreachable"
