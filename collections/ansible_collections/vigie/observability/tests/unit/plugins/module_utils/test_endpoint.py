"""What of the transport needs no server; the rest is met by tests/contract/test_transport.py."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import (
    Response,
    Transport,
    open_transport,
    read_secret,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError


class Canned(Transport):
    """A transport that gives a fixed answer and keeps what it was asked."""

    address = "http://service"

    def __init__(self, response: Response) -> None:
        self.response = response
        self.sent: list[tuple[str, str, bytes | None, Mapping[str, str]]] = []

    def send(
        self, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Response:
        self.sent.append((method, path, body, headers))
        return self.response


def refused(function: Any, *arguments: Any, **options: Any) -> CheckError:
    with pytest.raises(CheckError) as caught:
        function(*arguments, **options)
    return caught.value


@pytest.mark.parametrize(
    ("status", "reason", "transient"),
    [
        (401, "access_denied", False),
        (403, "access_denied", False),
        (302, "redirected", False),
        (308, "redirected", False),
        (404, "bad_request", False),
        (429, "server_error", True),
        (500, "server_error", True),
        (503, "server_error", True),
    ],
)
def test_statuses(status: int, reason: str, transient: bool) -> None:
    error = refused(Canned(Response(status, b"words", {"location": "http://else"})).request, "GET", "/x?y=z")
    assert (error.reason, error.transient) == (reason, transient)
    assert str(status) in error.hint and "http://service/x" in error.hint and "y=z" not in error.hint
    assert error.observed["status"] == status


def test_an_accepted_status_is_an_answer() -> None:
    assert Canned(Response(404)).request("GET", "/", accept=(200, 404)).status == 404


def test_query_and_data() -> None:
    transport = Canned(Response(200))
    transport.request("POST", "/x", query=[("filter", 'a="b c"'), ("filter", "d")], data={"k": 1})
    method, path, body, headers = transport.sent[0]
    assert (method, path) == ("POST", "/x?filter=a%3D%22b+c%22&filter=d")
    assert (body, headers["Content-Type"]) == (b'{"k": 1}', "application/json")


def test_answers_as_data() -> None:
    assert Response(200, b'{"a": 1}').json() == {"a": 1}
    assert Response(200, b"\xff").text == "\ufffd"
    assert refused(Response(200, b"<html>").json).reason == "bad_answer"


def test_the_services_clock() -> None:
    assert Response(200, b"", {"date": "Tue, 24 Nov 2026 11:29:30 GMT"}).date == 1795519770.0
    for headers in ({}, {"date": "soon"}):
        assert abs(Response(200, b"", headers).date - time.time()) < 60


def test_an_endpoint_needs_a_place() -> None:
    for endpoint in ({"url": None}, {"url": "http://h", "service": {"name": "x"}}):
        error = refused(open_transport, endpoint, "alertmanager")
        assert (error.reason, error.hint) == ("bad_option", "alertmanager needs one of: url, service.")


@pytest.mark.parametrize("option", ["kubeconfig", "context"])
def test_what_belongs_to_a_cluster_goes_with_a_service(option: str) -> None:
    error = refused(open_transport, {"url": "http://h", option: "x"})
    assert error.reason == "bad_option"
    assert error.hint == f"endpoint.{option} goes with endpoint.service, not with endpoint.url."


def test_commands_that_show_an_answer() -> None:
    transport = open_transport({"url": "http://h/prefix/"})
    assert transport.command("/x?y=1") == "curl -s http://h/prefix/x?y=1"
    shown = transport.command("/x", {"query": "up == 'a'"})
    assert shlex.split(shown) == ["curl", "-s", "--get", "http://h/prefix/x", "--data-urlencode", "query=up == 'a'"]


def test_messages_name_the_option_that_holds_the_endpoint() -> None:
    assert "origin.url=x" in refused(open_transport, {"url": "x"}, "origin").hint


def test_a_trailing_slash_is_no_part_of_the_address() -> None:
    assert open_transport({"url": "http://host/prefix/"}).address == "http://host/prefix"


def test_secrets_are_known(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from file\n")
    assert open_transport({"url": "http://h"}).secrets == frozenset()
    with_password = open_transport({"url": "http://h", "username": "me", "password": "from option"})
    # The second is what goes over the wire: the encoded login.
    assert with_password.secrets == {"from option", "bWU6ZnJvbSBvcHRpb24="}
    from_file = {"url": "http://h", "username": "me", "password_file": str(tmp_path / "secret")}
    assert "from file" in open_transport(from_file).secrets
    headers = {"Authorization": "Bearer a", "X-Api-Key": "b", "X-Scope-OrgID": "c"}
    assert open_transport({"url": "http://h", "headers": headers}).secrets == {"Bearer a", "b"}


@pytest.mark.parametrize(
    "url", ["http://me:hushed@host", "http://me:hushed@host:port/", "http://me:hus/hed@host", "ftp://hushed@host"]
)
def test_credentials_in_an_address_are_refused_and_not_repeated(url: str) -> None:
    error = refused(open_transport, {"url": url})
    assert error.reason == "bad_option"
    assert "hushed" not in error.hint and "hus/hed" not in error.hint


def test_a_password_without_a_user_is_a_mistake() -> None:
    assert "no endpoint.username" in refused(open_transport, {"url": "http://h", "password": "x"}).hint


def test_read_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("s p\r\n")
    assert read_secret(str(path), "x") == "s p"
    path.write_text("\n")
    assert "is empty" in refused(read_secret, str(path), "x").hint
    path.write_bytes(b"\xff\xfe")
    assert "no UTF-8" in refused(read_secret, str(path), "x").hint
    error = refused(read_secret, str(tmp_path / "none"), "endpoint.password_file")
    assert error.reason == "bad_option"
    assert f"endpoint.password_file={tmp_path / 'none'} can't be read" in error.hint
