"""What the role logging says to Elasticsearch: the index template to a real one, users to one that does what Elastic's documentation says."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rendering import from_lab, render_roles, run_play
from searching import ElasticsearchServer, elasticsearch_home
from systems import Json, free_port

REPOSITORY = Path(__file__).parents[2]
PASSWORDS = {
    name: f"secret-of-{name}" for name in ("elastic", "kibana_system", "vigie-shipper", "vigie-reader", "vigie-tracing")
}


def run(folder: Path, part: str, address: str, *options: str, **variables: Any) -> tuple[int, str]:
    """Run a part of the role's tasks and return how many changed something, and what was printed.

    Raises:
        RuntimeError: with what was printed, when one fails.
    """
    chosen = {
        "vigie_platform": "minikube",
        "vigie_state_dir": "/tmp/vigie",
        "logging_endpoint_anonymous": {"url": address},
        "part": part,
        **variables,
    }
    output = run_play(Path(__file__).with_name("logging_tasks.yml"), folder, chosen, "-vv", *options)
    changed = re.search(r"changed=(\d+)", output)
    assert changed
    return int(changed[1]), output


def test_the_index_template_is_written_once_and_again_when_it_differs(tmp_path: Path) -> None:
    server = ElasticsearchServer(from_lab(elasticsearch_home), tmp_path / "elasticsearch")
    choices: Json = {"logging_security": False, "logging_data_stream": "logs-once-default"}
    try:
        server.start()
        assert run(tmp_path, "template", server.url, "--check", **choices)[0] == 3
        assert run(tmp_path, "template", server.url, **choices)[0] == 3
        assert run(tmp_path, "template", server.url, **choices)[0] == 0
        server.write("logs-once-default", {"@timestamp": "2026-11-28T22:33:44Z", "n": 1})
        choices["logging_retention"] = "30d"
        assert run(tmp_path, "template", server.url, **choices)[0] == 3
        assert run(tmp_path, "template", server.url, **choices)[0] == 0
        (template,) = server.call("GET", "/_index_template/vigie-logs")["index_templates"]
        assert template["index_template"]["template"]["lifecycle"]["data_retention"] == "30d"
        # What comes from now on is in an index that the new template made.
        (created,) = server.write("logs-once-default", {"@timestamp": "2026-11-28T22:33:45Z", "n": 2})
        assert created["_index"].endswith("-000002")
    finally:
        server.stop()


def test_another_elasticsearch_that_does_not_answer_is_named(tmp_path: Path, security: Security) -> None:
    (tmp_path / "password").write_text("not the one")
    closed = f"http://127.0.0.1:{free_port()}"
    for address, words in (
        (closed, f"logging_elasticsearch_url={closed} can't be used"),
        (security.url, f"logging_elasticsearch_url={security.url} doesn't take user and password"),
    ):
        with pytest.raises(RuntimeError) as refused:
            run(
                tmp_path,
                "look",
                "",
                logging_elasticsearch_url=address,
                logging_elasticsearch_username="elastic",
                logging_elasticsearch_password_file=str(tmp_path / "password"),
            )
        assert words in " ".join(str(refused.value).split())
        assert "not the one" not in str(refused.value)


def test_elasticsearch_takes_the_configuration(tmp_path: Path) -> None:
    rendered = render_roles(
        tmp_path / "play",
        name="signals.yml",
        roles=("tracing", "logging"),
        vigie_state_dir="/tmp/vigie",  # only named, never made: a path of pytest's may be too long
        logging_elasticsearch_port=free_port(),
    )
    server = ElasticsearchServer(from_lab(elasticsearch_home), tmp_path / "elasticsearch")
    (server.folder / "es" / "config").mkdir()
    (server.folder / "es" / "config" / "elasticsearch.yml").write_text(rendered["logging"]["elasticsearch"])
    try:
        server.start(http__host="127.0.0.1")
        (node,) = server.call("GET", "/_nodes/settings?flat_settings=true")["nodes"].values()
        assert node["settings"]["node.store.allow_mmap"] == "false"
        assert node["settings"]["action.destructive_requires_name"] == "true"
        assert node["settings"]["transport.host"] == "127.0.0.1"
    finally:
        server.stop()


class Security:
    """The part of the security API that the role uses, with ``elastic`` as its administrator."""

    def __init__(self) -> None:
        self.roles: dict[str, Json] = {}
        self.passwords = {"elastic": PASSWORDS["elastic"], "kibana_system": "none yet"}
        self.users: dict[str, list[str]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
                login = base64.b64decode(self.headers.get("Authorization", "")[6:]).decode()
                user, dummy, password = login.partition(":")
                status, answer = 401, {}
                if user and outer.passwords.get(user) == password:
                    status, answer = outer.answer(user, self.command, self.path.partition("?")[0].split("/")[2:], body)
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_PUT = do_POST = _serve

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, user: str, method: str, path: list[str], body: Json) -> tuple[int, Json]:
        if path == ["_authenticate"]:
            return 200, {"username": user}
        if user != "elastic":
            return 403, {}
        kind, name, *rest = path
        if kind == "role" and method == "GET":
            return (200, {name: {"metadata": self.roles[name]["metadata"]}}) if name in self.roles else (404, {})
        if kind == "role":
            self.roles[name] = body
        elif rest == ["_password"]:
            self.passwords[name] = body["password"]
        else:
            self.passwords[name], self.users[name] = body["password"], body["roles"]
        return 200, {}

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def security() -> Iterator[Security]:
    """Return a server with the security API."""
    server = Security()
    yield server
    server.stop()


def test_users_are_made_once_and_mended_and_no_password_is_printed(tmp_path: Path, security: Security) -> None:
    kept = {name: base64.b64encode(password.encode()).decode() for name, password in PASSWORDS.items()}
    # Given by a file, as extra variables are printed themselves at this verbosity.
    (tmp_path / "passwords.json").write_text(json.dumps({"logging_passwords": kept}))
    options = ("-e", f"@{tmp_path}/passwords.json")
    names = {"vigie-shipper", "vigie-reader", "vigie-tracing"}

    assert run(tmp_path, "users", security.url, "--check", *options)[0] == 3
    assert security.roles == {}
    changed, said = run(tmp_path, "users", security.url, *options)
    assert changed == 3
    assert {name: security.passwords[name] for name in PASSWORDS} == PASSWORDS
    assert security.users == {name: [name] for name in names}
    assert security.roles["vigie-shipper"]["indices"][0]["privileges"] == ["auto_configure", "create_doc"]
    for password in PASSWORDS.values():
        assert password not in said and base64.b64encode(password.encode()).decode() not in said

    assert run(tmp_path, "users", security.url, *options)[0] == 0
    security.passwords["vigie-reader"] = "changed by hand"
    security.roles["vigie-shipper"] = {"metadata": {}, "cluster": ["all"]}
    assert run(tmp_path, "users", security.url, *options)[0] == 2
    assert security.passwords["vigie-reader"] == PASSWORDS["vigie-reader"]
    assert security.roles["vigie-shipper"]["cluster"] == []
