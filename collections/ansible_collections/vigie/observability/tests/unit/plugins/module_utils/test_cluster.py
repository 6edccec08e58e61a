"""What of a service in a cluster is decided before anything is sent; the rest is in tests/contract/test_service_endpoint.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import open_transport
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

SERVICE = {"namespace": "vigie", "name": "flask", "port": "metrics", "scheme": "http"}
KUBECONFIG = """
current-context: lab
contexts: [{name: lab, context: {cluster: lab, user: me}}]
clusters: [{name: lab, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: me, user: {token: t0ken}}]
"""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    (tmp_path / "config").write_text(KUBECONFIG)
    return str(tmp_path / "config")


def refused(endpoint: dict[str, Any]) -> str:
    with pytest.raises(CheckError) as caught:
        open_transport(endpoint, "origin")
    assert caught.value.reason == "bad_option"
    return caught.value.hint


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("namespace", ""),
        ("namespace", "Vigie"),
        ("namespace", "a/b"),
        ("name", "flask_metrics"),
        ("name", "-flask"),
        ("name", "x" * 64),
        ("port", ""),
        ("port", "0"),
        ("port", "65536"),
        ("port", "٣"),
        ("port", "80/tcp"),
        ("port", "a-name-that-is-too-long"),
        ("scheme", "tcp"),
        ("path", "jaeger"),
        ("path", "/a?b"),
        ("path", "/a b"),
    ],
)
def test_values_that_can_not_be_right(kubeconfig: str, option: str, value: str) -> None:
    hint = refused({"service": {**SERVICE, option: value}, "kubeconfig": kubeconfig})
    if option == "scheme" or value:
        assert hint.startswith(f"origin.service.{option}={value} ")


@pytest.mark.parametrize("port", ["1", "65535", "http-web", "8080-tcp"])
def test_ports(kubeconfig: str, port: str) -> None:
    transport = open_transport({"service": {**SERVICE, "port": port}, "kubeconfig": kubeconfig})
    assert transport.address == f"http://flask.vigie.svc:{port}"


def test_options_of_every_endpoint_are_checked_too(kubeconfig: str) -> None:
    endpoint = {"service": SERVICE, "kubeconfig": kubeconfig}
    assert "no origin.username" in refused({**endpoint, "password": "x"})
    assert "origin.password_file=/nowhere" in refused({**endpoint, "username": "u", "password_file": "/nowhere"})
    secure = {**endpoint, "service": {**SERVICE, "scheme": "https"}}
    assert "origin.ca_path=/nowhere" in refused({**secure, "ca_path": "/nowhere"})
    assert "origin.use_proxy goes with origin.url" in refused({**endpoint, "use_proxy": True})
    assert "origin.kubeconfig=/nowhere is missing" in refused({**endpoint, "kubeconfig": "/nowhere"})


def test_secrets_are_known(kubeconfig: str) -> None:
    endpoint = {"service": SERVICE, "kubeconfig": kubeconfig, "username": "me", "password": "pa55"}
    assert open_transport(endpoint).secrets == {"t0ken", "pa55", "bWU6cGE1NQ=="}


def test_commands_that_show_an_answer(kubeconfig: str) -> None:
    transport = open_transport({"service": {**SERVICE, "scheme": "https"}, "kubeconfig": kubeconfig})
    proxy = "/api/v1/namespaces/vigie/services/https:flask:metrics/proxy"
    raw = f"kubectl --kubeconfig {kubeconfig} get --raw"
    assert transport.command("/x?y=1") == f"{raw} {proxy}/x?y=1"
    prefixed = open_transport({"service": {**SERVICE, "path": "/jaeger/"}, "kubeconfig": kubeconfig})
    assert prefixed.command("/x") == f"{raw} /api/v1/namespaces/vigie/services/flask:metrics/proxy/jaeger/x"
    assert transport.command("/x", {"query": "up > 'a'"}) == f"{raw} '{proxy}/x?query=up+%3E+%27a%27'"


def test_an_address_loads_nothing_of_clusters(kubeconfig: str) -> None:
    package = "ansible_collections.vigie.observability.plugins.module_utils"
    script = (
        f"import sys; from {package}.endpoint import open_transport as go; go({{'url': 'http://h'}}); "
        f"print('{package}.cluster' in sys.modules, 'yaml' in sys.modules); "
        f"go({{'service': {SERVICE}, 'kubeconfig': {kubeconfig!r}}}); print('kubernetes' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert answer.stdout.split() == ["False", "False", "False"]
