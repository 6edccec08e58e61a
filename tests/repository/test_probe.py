"""What role preflight asks a host and the network: each probe on its own, with servers of this test."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import threading
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "roles/preflight/files/probe.py"
PATIENCE = 5.0


@pytest.fixture(scope="module")
def probe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("probe", PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Handler(BaseHTTPRequestHandler):
    """``/CODE`` is answered with that code; as a proxy, every address with 200."""

    asked: list[str] = []

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        code = self.path.rpartition("/")[2]
        self.send_response(int(code) if code.isdigit() else 200)
        if code == "302":
            self.send_header("Location", "/404")
        self.end_headers()

    do_GET = do_HEAD  # Python before 3.13 follows a redirect by it

    def log_message(self, *_args: Any) -> None:
        """Keep the output of the tests readable."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as started:
        threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{started.server_port}"
        started.shutdown()


@pytest.fixture
def closed() -> Iterator[int]:
    """Return a port on which nobody listens, and nobody else can."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


@pytest.mark.parametrize(
    ("path", "registry", "part"),
    [
        ("/200", False, ""),
        ("/403", False, ""),  # it is there, and would ask who wants it
        ("/405", False, ""),
        ("/501", False, ""),
        ("/404", False, "answers 404"),
        ("/302", False, "answers 404"),  # what it leads to counts
        ("/503", False, "answers 503"),
        ("/401", True, ""),
        ("/404", True, ""),
        ("/503", True, "answers 503"),
    ],
)
def test_what_an_address_answers(probe: ModuleType, server: str, path: str, registry: bool, part: str) -> None:
    fault = probe.ask("helm", server + path, {}, PATIENCE, registry=registry)
    assert (part in fault and f"{server}{path}, from which helm comes" in fault) if part else fault == ""


def test_nobody_answers(probe: ModuleType, closed: int) -> None:
    assert "is not reached: the connection is refused" in probe.ask("x", f"http://127.0.0.1:{closed}/", {}, PATIENCE)


def test_a_name_that_is_not_known(probe: ModuleType) -> None:
    assert "its name is not known to DNS" in probe.ask("x", "https://nowhere.invalid/x", {}, PATIENCE)


def test_a_server_that_says_nothing(probe: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert "does not answer in time" in probe.ask("x", url, {}, 0.2)


def test_plain_http_where_tls_is_expected(probe: ModuleType, server: str) -> None:
    url = server.replace("http:", "https:") + "/v2/"
    assert probe.ask("an image", url, {}, PATIENCE, registry=True) == ""
    assert "is not reached" in probe.ask("x", url, {}, PATIENCE)


def test_an_untrusted_certificate_is_named(probe: ModuleType) -> None:
    import ssl

    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_message = "self-signed certificate"
    assert probe.cause(urllib.error.URLError(error)) == "its certificate is not trusted (self-signed certificate)"


def test_proxy_variables(probe: ModuleType, server: str, closed: int) -> None:
    dead = f"http://user:secret@127.0.0.1:{closed}"
    found = probe.proxies({"HTTPS_PROXY": dead, "http_proxy": server, "HTTP_PROXY": "ignored", "all_proxy": ""})
    assert found == {"HTTPS_PROXY": dead, "http_proxy": server}
    (fault,) = probe.dead_proxies(found, PATIENCE).values()
    assert fault == (
        f"HTTPS_PROXY=http://127.0.0.1:{closed} does not answer: the connection is refused; correct the variable, or unset it."
    )
    assert "is no address of a proxy" in probe.dead_proxies({"http_proxy": "http://x:port"}, PATIENCE)["http_proxy"]
    assert "is no address of a proxy" in probe.dead_proxies({"http_proxy": "http://"}, PATIENCE)["http_proxy"]


def run(question: dict[str, Any], **environment: str) -> dict[str, Any]:
    """The whole program, as the role runs it."""
    default = {"origins": [], "registries": [], "apt": False, "paths": [], "sysctls": [], "ports": [], "timeout": 5}
    command = [sys.executable, str(PROGRAM), json.dumps({**default, **question})]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout))


def test_origins_behind_a_dead_proxy_are_one_fault_and_the_others_are_asked(server: str, closed: int) -> None:
    origins = [{"name": name, "url": f"https://{name}.invalid/"} for name in ("one", "two")]
    origins.append({"name": "three", "url": f"{server}/404"})
    found = run({"origins": origins}, https_proxy=f"http://me:secret@127.0.0.1:{closed}")
    assert len(found["dead_proxies"]) == 1
    assert ["three" in fault for fault in found["unreached"]] == [True]
    assert found["proxies"] == {"https_proxy": f"http://127.0.0.1:{closed}"}
    assert "secret" not in json.dumps(found)


def test_a_proxy_that_answers_is_used_unless_the_host_is_excepted(probe: ModuleType, server: str) -> None:
    Handler.asked.clear()
    origin = {"origins": [{"name": "x", "url": "http://far.invalid/x"}]}
    assert run(origin, http_proxy=server)["unreached"] == []
    assert Handler.asked == ["http://far.invalid/x"]
    (fault,) = run(origin, http_proxy=server, no_proxy="far.invalid")["unreached"]
    assert "not known to DNS" in fault
    (fault,) = run({"origins": [{"name": "x", "url": "http://far.invalid/404"}]}, http_proxy=server)["unreached"]
    assert fault.endswith(f"through http_proxy={server}; {probe.REMEDY}")


def test_ports_space_and_parameters(probe: ModuleType, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert probe.taken([port]) == [port]
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm/max_map_count").write_text("65530\n")
    assert probe.sysctls(["vm.max_map_count", "vm.other"], tmp_path) == {"vm.max_map_count": 65530, "vm.other": None}
    missing = str(tmp_path / "not/yet/there")
    assert probe.nearest(missing) == tmp_path
    assert probe.free([missing])[missing] > 0
    assert probe.memory_available("MemTotal: 1 kB\nMemAvailable:    2097152 kB\n") == 2048
    assert probe.memory_available("") == 0


@pytest.mark.parametrize(("path", "version"), [("cgroup.controllers", 2), ("memory/x", 1), ("other", 0)])
def test_control_groups(probe: ModuleType, tmp_path: Path, path: str, version: int) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text("")
    assert probe.cgroup_version(tmp_path) == version


def test_package_sources(probe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert probe.apt_uris() == []  # no apt at all
    printed = {
        "apt-config": 'Acquire::http::Proxy "";',
        "apt-get": "'http://deb.example/debian/dists/x/InRelease' x 0\n'http://deb.example/b' x\n'cdrom:/x' y\n'https://sec.example/s' z",
    }
    for name, text in printed.items():
        (tmp_path / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n".replace("cat", "/bin/cat"))
        (tmp_path / name).chmod(0o755)
    assert probe.apt_uris() == ["http://deb.example/debian/dists/x/InRelease", "https://sec.example/s"]
    (tmp_path / "apt-config").write_text("#!/bin/sh\necho 'Acquire::http::Proxy \"http://proxy.example:3142\";'\n")
    assert probe.apt_uris() == []  # reached in apt's own way


def test_docker_hub_has_a_registry_of_another_name() -> None:
    found = run({"registries": ["docker.io", "nowhere.invalid"], "timeout": 0.01})
    assert found["asked"] == ["nowhere.invalid", "registry-1.docker.io"]
