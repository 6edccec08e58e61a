"""The kubeconfig as kubectl reads it, and a sentence for each way in which it can be no use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.vigie.observability.plugins.module_utils import kubeconfig
from ansible_collections.vigie.observability.plugins.module_utils.kubeconfig import load_api_server
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

SERVER = "https://api.example.org:6443"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without a kubeconfig of its own, outside a cluster."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", tmp_path / "account")


def config(name: str = "lab", *, user: Any = None, **cluster: Any) -> dict[str, Any]:
    return {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": {"server": SERVER, **cluster}}],
        "users": [{"name": name, "user": {"token": "t0ken"} if user is None else user}],
    }


def written(path: Path, data: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return str(path)


def refused(path: str | None, context: str | None = None) -> str:
    with pytest.raises(CheckError) as caught:
        load_api_server(path, context, "endpoint")
    assert (caught.value.reason, caught.value.transient) == ("bad_option", False)
    return caught.value.hint


def test_a_context(tmp_path: Path) -> None:
    path = written(tmp_path / "c", config())
    server = load_api_server(path, None, "endpoint")
    assert (server.url, server.host, server.port, server.prefix) == (SERVER, "api.example.org", 6443, "")
    assert (server.server_name, server.headers) == ("api.example.org", {"Authorization": "Bearer t0ken"})
    assert server.secrets == {"t0ken"}
    assert server.kubectl == f"kubectl --kubeconfig {path}"
    assert load_api_server(path, "lab", "endpoint").kubectl == f"kubectl --kubeconfig {path} --context lab"


def test_a_prefix_and_another_name(tmp_path: Path) -> None:
    path = written(tmp_path / "c", config(server="https://host/k8s/clusters/a/", **{"tls-server-name": "kubernetes"}))
    server = load_api_server(path, None, "endpoint")
    assert (server.url, server.server_name) == ("https://host:443/k8s/clusters/a", "kubernetes")


def test_ways_in(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from file\n")

    def login(user: Any) -> tuple[Any, Any]:
        server = load_api_server(written(tmp_path / "c", config(user=user)), None, "endpoint")
        return server.headers.get("Authorization"), server.secrets

    assert login({"tokenFile": "token"}) == ("Bearer from file", {"from file"})
    assert login({"username": "me", "password": "pa55"}) == ("Basic bWU6cGE1NQ==", {"bWU6cGE1NQ==", "pa55"})
    assert login({}) == (None, frozenset())


def test_where_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(None).startswith("~/.kube/config is missing; set endpoint.kubeconfig")
    written(tmp_path / "home/.kube/config", config(server="https://home"))
    assert load_api_server(None, None, "endpoint").host == "home"
    # Like kubectl: of several files each gives what those before it don't have, and a missing one is passed over.
    first = written(tmp_path / "first", {**config("one", server="https://one"), "users": None})
    second = written(tmp_path / "second", {**config("two", server="https://two"), "current-context": "one"})
    third = written(tmp_path / "third", {"users": [{"name": "one", "user": {"token": "late"}}]})
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none:{first}:{second}:{third}")
    server = load_api_server(None, None, "endpoint")
    assert (server.host, server.secrets, server.kubectl) == ("one", {"late"}, "kubectl")
    assert load_api_server(None, "two", "endpoint").host == "two"
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/none")
    assert refused(None).startswith(f"KUBECONFIG={tmp_path}/none is missing")


def test_in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = tmp_path / "account"
    written(account / "token", "of the pod\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert f"The service account in {account} can't be used" in refused(None)
    monkeypatch.setattr(kubeconfig, "_tls_context", lambda cafile: cafile)
    server = load_api_server(None, None, "endpoint")
    assert (server.url, server.secrets) == ("https://10.0.0.1:443", {"of the pod"})
    assert server.tls == str(account / "ca.crt")
    assert "is missing" in refused(f"{tmp_path}/none"), "what was asked for is not replaced"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{", "is no YAML"),
        ("token: hushed: {", "is no YAML"),
        ("just words", "is no kubeconfig"),
        ({}, "has no current context, and endpoint.context is not set"),
        ({"current-context": "x"}, "has no context x, only none at all"),
        ({**config(), "current-context": "labb"}, "has no context labb, only lab"),
        ({**config(), "clusters": []}, "has no cluster lab"),
        ({**config(), "users": []}, "has no user lab"),
        ({**config(), "contexts": ["lab"]}, "has contexts that are no mappings"),
        (config(server="api.example.org"), "has no usable address of a server"),
        (config(server="https://h:port"), "has no usable address of a server"),
        (config(**{"proxy-url": "http://proxy"}), "proxy-url, which is not supported"),
        (config(user={"auth-provider": {"name": "gcp"}}), "auth-provider, which is not supported"),
        (config(user={"token": "t", "as": "admin"}), "a user with as, which is not supported"),
        (config(user={"tokenFile": "nowhere"}), "names tokenFile"),
        (config(**{"certificate-authority": "nowhere.crt"}), "nowhere.crt, which can't be read (No such file"),
        (config(**{"certificate-authority-data": "?"}), "has a certificate-authority that can't be decoded"),
        (config(**{"certificate-authority-data": "Zm9v"}), "has a certificate-authority that can't be used"),
        (config(user={"client-certificate-data": "Zm9v", "client-key-data": "Zm9v"}), "has a client-certificate"),
        (config(user={"exec": {"command": "no-such-command-here"}}), "no-such-command-here, which failed (No such"),
        (config(user={"exec": {"command": "sh", "args": ["-c", "echo log in first >&2; exit 1"]}}), "log in first"),
        (config(user={"exec": {"command": "echo", "args": ["{}"]}}), "gave no ExecCredential"),
    ],
)
def test_no_use(tmp_path: Path, data: Any, words: str) -> None:
    path = written(tmp_path / "c", data)
    hint = refused(path)
    assert words in hint and f"endpoint.kubeconfig={path} " in hint and "config view" in hint
    assert "hushed" not in hint.replace(path, "")


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "can't be read (Is a directory); check it with 'ls -l" in refused(str(tmp_path / "folder"))


def test_no_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "c", config())
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "needs PyYAML" in refused(path)


def test_a_command_for_credentials(tmp_path: Path) -> None:
    script = tmp_path / "bin/credential"
    written(
        script,
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "token = f\"{sys.argv[1]} {os.environ['MINE']} {info['kind']} {info['spec']['cluster']['server']}\"\n"
        "print(json.dumps({'status': {'token': token}}))\n",
    )
    script.chmod(0o755)
    command = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "bin/credential",
        "args": ["get"],
        "env": [{"name": "MINE", "value": "mine"}],
        "provideClusterInfo": True,
    }
    server = load_api_server(written(tmp_path / "c", config(user={"exec": command})), None, "endpoint")
    assert server.secrets == {f"get mine ExecCredential {SERVER}"}


def test_certificates_from_a_command(tmp_path: Path) -> None:
    status = '{"status": {"clientCertificateData": "x", "clientKeyData": "y"}}'
    path = written(tmp_path / "c", config(user={"exec": {"command": "echo", "args": [status]}}))
    assert "client-certificate that can't be used" in refused(path)
