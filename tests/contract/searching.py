"""A real Elasticsearch from the lab, a shipper that writes into it, and a front that lets a test change single answers.

The lab's Elasticsearch is made of the jars of Maven Central. What isn't among them, security, the failure store, ILM, is answered here
by a front with what Elasticsearch's documentation shows; where a test does so, it says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from rendering import LabMissing
from systems import Json, Server, free_port

STARTUP_SECONDS = 120.0
"""A JVM beside a compiler on two cores takes its time."""


def lab_result(variable: str, step: str, name: str) -> Path:
    """Return what a step of `make lab` made, or what an environment variable names instead.

    Raises:
        LabMissing: with the remedy.
    """
    if os.environ.get(variable):
        return Path(os.environ[variable])
    root = Path(os.environ.get("VIGIE_LAB_DIR") or "~/.cache/vigie/lab").expanduser()
    # A result is complete once its record is there, see lab/vigielab/steps.py.
    made = [path.parent / name for path in (root / "cache" / step).glob("*/.step.json")]
    found = sorted((path for path in made if path.exists()), key=lambda path: path.stat().st_mtime)
    if not found:
        raise LabMissing(f"{root}/cache has no {step}; run `make lab`, or set VIGIE_LAB_DIR or {variable}.")
    return found[-1]


def elasticsearch_home() -> Path:
    """Return the folder with Elasticsearch's jars."""
    if not shutil.which("java"):
        raise LabMissing("java is not on PATH; install the package default-jre-headless.")
    return lab_result("VIGIE_ELASTICSEARCH", "elasticsearch-jars", "es")


def collector() -> Path:
    """Return the OpenTelemetry Collector."""
    return lab_result("VIGIE_OTELCOL", "otelcol", "otelcol")


def call(url: str, method: str, path: str, body: Any = None) -> Json:
    """Send a request that must succeed, JSON or lines of JSON, and return the answer."""
    data = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{url}{path}", data=data, method=method, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.loads(answer.read()))


class ElasticsearchServer(Server):
    """Elasticsearch with one node."""

    def __init__(self, home: Path, folder: Path) -> None:
        super().__init__(Path(str(shutil.which("java"))), folder, folder)
        # It writes beside its jars.
        (folder / "es").mkdir()
        (folder / "es" / "lib").symlink_to(home / "lib")
        shutil.copytree(home / "modules", folder / "es" / "modules")

    def start(self, **settings: str) -> None:
        """Start with settings besides the launcher's; dots of names as double underscores."""
        own = {"http.port": str(self.port), "transport.port": str(free_port())}
        own |= {name.replace("__", "."): value for name, value in settings.items()}
        self.run(
            *("-Xms384m", "-Xmx384m", "-cp", f"{self.folder}/es/lib/*", "lab.Launcher", f"{self.folder}/es"),
            *(f"{name}={value}" for name, value in own.items()),
        )

        self.wait_ready(f"{self.url}/_cluster/health", STARTUP_SECONDS)

    def call(self, method: str, path: str, body: Any = None) -> Json:
        """Send a request that must succeed."""
        return call(self.url, method, path, body)

    def write(self, index: str, *documents: Json, refresh: bool = True) -> list[Json]:
        """Write documents as a shipper does, by one bulk of ``create``, and return what became of each."""
        lines = "".join(f"{json.dumps({'create': {}})}\n{json.dumps(document)}\n" for document in documents)
        answer = self.call("POST", f"/{index}/_bulk{'?refresh=true' if refresh else ''}", lines)
        return [item["create"] for item in answer["items"]]


def line(run_id: str | None, /, *, age: float = 1.0, **fields: Any) -> Json:
    """Return a line of the application as a shipper stores it, ``age`` seconds old; None leaves the run id out."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - age))
    document = {"@timestamp": f"{at}.000Z", "level": "info", "message": "GET / 200", **fields}
    return document if run_id is None else {**document, "run_id": run_id}


class Front:
    """Passes requests on to a server and notes them; a test answers some itself.

    Attributes:
        answers: (words of the path, status, body): the first whose words are in the path and query is given instead.
        requests: (method, path without query) of all requests.
    """

    def __init__(self, url: str) -> None:
        self.answers: list[tuple[str, int, str]] = []
        self.requests: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
                outer.requests.append((self.command, self.path.partition("?")[0]))
                own = next(
                    ((status, text.encode()) for words, status, text in outer.answers if words in self.path), None
                )
                status, text = own or self._passed_on(body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def _passed_on(self, body: bytes | None) -> tuple[int, bytes]:
                request = urllib.request.Request(
                    f"{url}{self.path}", body, {"Content-Type": "application/json"}, method=self.command
                )
                try:
                    with urllib.request.urlopen(request, timeout=30) as answer:
                        return answer.status, answer.read()
                except urllib.error.HTTPError as error:
                    return error.code, error.read()

            do_GET = _serve
            do_POST = _serve
            do_HEAD = _serve

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def front_of(url: str, *answers: tuple[str, int, str]) -> Iterator[Front]:
    """Yield a front of a server with some answers of its own."""
    front = Front(url)
    front.answers = list(answers)
    try:
        yield front
    finally:
        front.stop()


@contextlib.contextmanager
def again_and_again(action: Callable[[], Any], seconds: float = 0.5) -> Iterator[None]:
    """Do something meanwhile, so that it happens within a window whenever that begins."""
    ended = threading.Event()

    def act() -> None:
        while not ended.wait(seconds):
            action()

    worker = threading.Thread(target=act)
    worker.start()
    try:
        yield
    finally:
        ended.set()
        worker.join()


class Collector(Server):
    """A real OpenTelemetry Collector that reads a file of JSON lines and writes to Elasticsearch."""

    def start(self, elasticsearch: str, index: str, mode: str = "bodymap") -> None:
        """Start it; ``mode`` is the exporter's mapping mode."""
        self.file = self.folder / "app.log"
        self.file.touch()
        config = {
            "receivers": {
                "filelog": {
                    "include": [str(self.file)],
                    "start_at": "beginning",
                    "poll_interval": "100ms",
                    "operators": [
                        {
                            "type": "json_parser",
                            "parse_to": "body",
                            "timestamp": {
                                "parse_from": "body['@timestamp']",
                                "layout_type": "gotime",
                                "layout": "2006-01-02T15:04:05.000Z07:00",
                            },
                        }
                    ],
                }
            },
            "processors": {
                "transform": {
                    "log_statements": [
                        {
                            "context": "scope",
                            "statements": [f'set(scope.attributes["elastic.mapping.mode"], "{mode}")'],
                        }
                    ]
                }
            },
            "exporters": {
                "elasticsearch": {
                    "endpoints": [elasticsearch],
                    "logs_index": index,
                    "retry": {"enabled": True, "max_retries": 2, "initial_interval": "100ms", "max_interval": "200ms"},
                    "sending_queue": {"batch": {"flush_timeout": "200ms"}},
                }
            },
            "service": {
                "telemetry": {
                    "metrics": {
                        "level": "detailed",
                        "readers": [{"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": self.port}}}}],
                    }
                },
                "pipelines": {
                    "logs": {"receivers": ["filelog"], "processors": ["transform"], "exporters": ["elasticsearch"]}
                },
            },
        }
        (self.folder / "config.yml").write_text(yaml.safe_dump(config))
        self.run("--config", str(self.folder / "config.yml"))

        self.wait_ready(f"{self.url}/metrics", STARTUP_SECONDS)

    def write(self, *documents: Json) -> None:
        """Append lines to the file, as the application does."""
        with self.file.open("a") as file:
            file.writelines(f"{json.dumps(document)}\n" for document in documents)
