"""The role logging's OpenTelemetry Collector and index template, run by the real programs: from a container's log file to a search.

Files are written as the kubelet writes them. Only the labels of pods are missing, for which the collector asks an API server.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rendering import from_lab, render_roles
from searching import (
    STARTUP_SECONDS,
    ElasticsearchServer,
    collector,
    elasticsearch_home,
)
from systems import Json, Server, eventually, fetch, free_port

NODE = "node-1"
POD = {
    "namespace_name": "vigie",
    "pod_name": "flask-metrics-5d8-x2x",
    "pod_id": "49cc7c1f-d370-4c40-b268-6ea7486091d6",
    "container_name": "flask-metrics",
}
FOLDER = f"{POD['namespace_name']}_{POD['pod_name']}_{POD['pod_id']}/{POD['container_name']}"
LINES = 50_000


def render(folder: Path, **choices: Any) -> Json:
    """What the role makes for the collector, where a test has its own paths and ports."""
    return render_roles(
        folder,
        name="signals.yml",
        roles=("tracing", "logging"),
        vigie_state_dir="/tmp/vigie",  # only named, never made: a path of pytest's may be too long
        **{"logging_shipper": "opentelemetry-collector", "logging_security": False, "logging_kibana": False, **choices},
    )["logging"]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """What the role makes, with words that each test replaces by a place of its own: rendering takes longer than most tests."""
    return render(
        tmp_path_factory.mktemp("play") / "p",
        logging_elasticsearch_address="http://ADDRESS",
        logging_labels=False,
        logging_log_dir="/LOGS",
        logging_state_dir="/STATE",
        logging_node_files=["/LOGS/syslog"],
        logging_data_stream="logs-stream-default",
        logging_collector_listen="127.0.0.1",
        logging_collector_ports={"metrics": "METRICS", "health": "HEALTH", "loop": "LOOP"},
    )


class Shipper(Server):
    """The collector with the role's configuration, reading from a folder of the test."""

    def __init__(self, program: Path, folder: Path, elasticsearch: str, rendered: Json, stream: str) -> None:
        super().__init__(program, folder, folder)
        self.health, self.stream = free_port(), stream
        self.logs = folder / "log"
        (self.logs / "pods" / FOLDER).mkdir(parents=True)
        self.file = self.logs / "pods" / FOLDER / "0.log"
        self.template: Json = rendered["template"] | {"index_patterns": [stream]}
        self.config: str = rendered["collector"]
        for word, place in (
            ("http://ADDRESS", elasticsearch),
            ("/LOGS", str(self.logs)),
            ("/STATE", str(folder / "state")),
            ("logs-stream-default", stream),
            ("METRICS", str(self.port)),
            ("HEALTH", str(self.health)),
            ("LOOP", str(free_port())),
        ):
            assert word in self.config
            self.config = self.config.replace(word, place)

    def start(self, config: str = "") -> None:
        (self.folder / "config.yaml").write_text(config or self.config)
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._program), f"--config={self.folder / 'config.yaml'}"],
                cwd=self._cwd,
                env={"NODE_NAME": NODE, "GOMEMLIMIT": "172MiB"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

        self.wait_ready(f"http://127.0.0.1:{self.health}/", STARTUP_SECONDS)

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")

    def write(self, *lines: str | Json, stream: str = "stdout", tag: str = "F") -> None:
        """Append lines to the container's log, as containerd does."""
        with self.file.open("a") as file:
            for line in lines:
                text = line if isinstance(line, str) else json.dumps(line, separators=(",", ":"))
                now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")
                file.write(f"{now}{time.time_ns() % 1000:03d}Z {stream} {tag} {text}\n")

    def metric(self, name: str, *labels: str) -> float:
        """Return the sum of a metric's samples that have all of the labels."""
        lines = fetch(f"{self.url}/metrics")[1].splitlines()
        found = [line for line in lines if line.startswith(name) and all(label in line for label in labels)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)


@pytest.fixture(scope="module")
def elasticsearch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElasticsearchServer]:
    """An Elasticsearch without security, and without any template yet."""
    server = ElasticsearchServer(from_lab(elasticsearch_home), tmp_path_factory.mktemp("elasticsearch"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def shipper(
    tmp_path: Path, elasticsearch: ElasticsearchServer, rendered: Json, request: pytest.FixtureRequest
) -> Iterator[Shipper]:
    """A collector that isn't started, and the role's template for its data stream, which is the test's own."""
    stream = f"logs-{request.node.name.replace('_', '-')[:60]}-default"
    one = Shipper(from_lab(collector), tmp_path / "collector", elasticsearch.url, rendered, stream)
    elasticsearch.call("PUT", f"/_index_template/{stream}", one.template)
    yield one
    one.stop()


def search(elasticsearch: ElasticsearchServer, shipper: Shipper, query: Json, size: int = 10) -> list[Json]:
    """Return the documents that answer a query; none while there is no data stream, or while its first index is being made."""
    status, text = fetch(
        f"{elasticsearch.url}/{shipper.stream}/_search", json.dumps({"query": query, "size": size}).encode()
    )
    if status in (404, 503):
        return []
    assert status == 200, text
    return [hit["_source"] for hit in json.loads(text)["hits"]["hits"]]


def found(elasticsearch: ElasticsearchServer, shipper: Shipper, query: Json) -> Json:
    """Return the one document that answers a query, once it is there."""
    hits = eventually(lambda: search(elasticsearch, shipper, query), f"a document for {query}", 60)
    assert len(hits) == 1
    return dict(hits[0])


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"logging_security": True, "logging_labels": False, "logging_node": False},
        {
            "logging_elasticsearch_url": "https://es.example.org:9243",
            "logging_elasticsearch_ca_file": "/etc/ssl/certs/ca-certificates.crt",
        },
    ],
    ids=["plain", "login", "tls"],
)
def test_the_collector_takes_the_configuration(tmp_path: Path, choices: Json) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(render(tmp_path / "play", logging_state_dir=str(tmp_path), **choices)["collector"])
    command = [str(from_lab(collector)), "validate", f"--config={path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"NODE_NAME": NODE})
    assert done.returncode == 0, done.stdout + done.stderr
    path.write_text(path.read_text().replace("logs_index:", "log_index:"))
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_a_line_of_the_application_is_the_document(elasticsearch: ElasticsearchServer, shipper: Shipper) -> None:
    shipper.start()
    line = {
        "time": "2026-11-28T22:33:44.123Z",
        "level": "critical",
        "message": "crash requested: process exits with code 1",
        "route": "/crash",
        "status": 200,
        "duration_ms": 1.25,
        "run_id": "drill-20261128-223344",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "nested": {"list": [1, "two", {"three": 3}], "none": None},
    }
    before = datetime.datetime.now(datetime.timezone.utc)
    shipper.write(line)
    document = found(elasticsearch, shipper, {"term": {"run_id": line["run_id"]}})
    at = datetime.datetime.fromisoformat(document.pop("@timestamp")[:26] + "+00:00")
    assert 0 <= (at - before).total_seconds() < 1
    assert document.pop("kubernetes") == {"host": NODE, **POD}
    assert document.pop("stream") == "stdout"
    assert document == line
    for query in (
        {"term": {"trace_id": line["trace_id"]}},
        {"match": {"message": "crash"}},
        {"range": {"duration_ms": {"gt": 1, "lt": 2}}},
        {"term": {"kubernetes.namespace_name": "vigie"}},
        {"range": {"@timestamp": {"gte": "now-5m"}}},
    ):
        assert len(search(elasticsearch, shipper, query)) == 1, query


def test_whatever_a_container_writes_is_kept(
    elasticsearch: ElasticsearchServer, shipper: Shipper, rendered: Json
) -> None:
    """Texts, halves of a line, what looks like JSON, and objects whose fields other lines have as texts."""
    shipper.start()
    shipper.write("plain words")
    shipper.write("a long ", tag="P")
    shipper.write("line", stream="stdout")
    shipper.write('{"broken": ', "[1, 2]", stream="stderr")
    shipper.write({"app": "text", "n": 1}, {"app": {"name": "object"}, "n": 2}, {"app": 7, "n": "three"})
    shipper.write({"http.status": 500, "app.kubernetes.io/name": "x", "n": 4}, {"message": {"is": "object"}, "n": 5})
    everything = {"match_all": {}}
    eventually(lambda: len(search(elasticsearch, shipper, everything, 20)) == 9, "nine documents", 60)
    documents = search(elasticsearch, shipper, everything, 20)
    texts = {each["message"] for each in documents if isinstance(each.get("message"), str)}
    assert texts == {"plain words", "a long line", '{"broken": ', "[1, 2]"}
    (stderr,) = [each for each in documents if each.get("message") == "[1, 2]"]
    assert stderr["stream"] == "stderr"
    by_number = {str(each["n"]): each for each in documents if "n" in each}
    assert (by_number["1"]["app"], by_number["2"]["app"], by_number["three"]["app"]) == ("text", {"name": "object"}, 7)
    assert by_number["4"]["http_status"] == 500 and by_number["4"]["app_kubernetes_io/name"] == "x"
    assert by_number["5"]["message"] == {"is": "object"}
    # Searchable all the same, beside each other.
    assert found(elasticsearch, shipper, {"term": {"app": "text"}})["n"] == 1
    assert found(elasticsearch, shipper, {"term": {"app.name": "object"}})["n"] == 2
    processed = "otelcol_elasticsearch_docs_processed_total"
    assert shipper.metric(processed, "error_type=") == 0
    # What is refused all the same is told, by the metric that the alert asks for, and doesn't hold up what comes after it.
    shipper.write({"_id": "reserved"}, {"n": 6})
    found(elasticsearch, shipper, {"term": {"n": 6}})
    assert shipper.metric(processed, 'error_type="document_parsing_exception"') == 1
    assert "failed to parse field [_id]" in shipper.log
    assert processed in json.dumps(rendered["objects"])
    assert shipper.metric("otelcol_process_uptime_seconds_total") > 0
    assert "otelcol_process_uptime_seconds_total" in rendered["losses"]


def test_files_of_the_node_are_read_too(elasticsearch: ElasticsearchServer, shipper: Shipper) -> None:
    (shipper.logs / "syslog").write_text("of before\n")
    shipper.start()
    time.sleep(1)
    with (shipper.logs / "syslog").open("a") as file:
        file.write("Nov 28 22:33:44 node-1 kubelet[7]: something of the node\n")
    document = found(elasticsearch, shipper, {"match": {"message": "kubelet"}})
    assert document["kubernetes"] == {"host": NODE} and document["file"] == str(shipper.logs / "syslog")
    assert document["message"].endswith("something of the node") and "@timestamp" in document


def test_without_the_mode_the_body_is_dropped_in_silence(elasticsearch: ElasticsearchServer, shipper: Shipper) -> None:
    """Why the search is by run id: another mode is accepted, reported as success, and the line is gone."""
    assert shipper.config.count('"bodymap"') == 1
    shipper.start(shipper.config.replace('"bodymap"', '"ecs"'))
    shipper.write({"message": "lost", "run_id": "drill-lost"})
    documents = eventually(lambda: search(elasticsearch, shipper, {"match_all": {}}), "a document", 60)
    assert shipper.metric("otelcol_elasticsearch_docs_processed_total", 'outcome="success"') == 1
    assert not search(elasticsearch, shipper, {"term": {"run_id": "drill-lost"}})
    assert all("run_id" not in each for each in documents)


def test_what_is_read_again_is_not_stored_twice(elasticsearch: ElasticsearchServer, shipper: Shipper) -> None:
    """As when a node was reset, or the state of the collector lost."""
    shipper.start()
    shipper.write(*({"n": number} for number in range(20)))
    everything = {"match_all": {}}
    eventually(lambda: len(search(elasticsearch, shipper, everything, 100)) == 20, "twenty documents", 60)
    shipper.stop()
    for path in (shipper.folder / "state").iterdir():
        path.unlink()
    shipper.start()
    shipper.write({"n": "last"})
    found(elasticsearch, shipper, {"term": {"n": "last"}})
    eventually(
        lambda: shipper.metric("otelcol_elasticsearch_docs_processed_total", "version_conflict_engine_exception") == 20,
        "twenty lines that were there",
        60,
    )
    assert len(search(elasticsearch, shipper, everything, 100)) == 21


def numbers(elasticsearch: ElasticsearchServer, stream: str) -> list[int]:
    """Return the field n of every document."""
    elasticsearch.call("POST", f"/{stream}/_refresh")
    found: list[int] = []
    after: list[Any] = []
    while True:
        body: Json = {"size": 10_000, "sort": [{"n": "asc"}, {"_doc": "asc"}], "_source": False}
        body["fields"] = ["n"]
        if after:
            body["query"] = {"range": {"n": {"gt": after[0]}}}
        hits = elasticsearch.call("POST", f"/{stream}/_search", body)["hits"]["hits"]
        if not hits:
            return found
        found += [int(hit["fields"]["n"][0]) for hit in hits]
        after = hits[-1]["sort"]


@pytest.fixture
def restart(elasticsearch: ElasticsearchServer) -> Callable[[], None]:
    """Return a function that stops Elasticsearch, waits, and starts it again."""

    def again() -> None:
        elasticsearch.stop()
        time.sleep(5)
        elasticsearch.start()

    return again


def test_no_line_is_lost_or_doubled_while_elasticsearch_restarts(
    elasticsearch: ElasticsearchServer, shipper: Shipper, restart: Callable[[], None]
) -> None:
    """50,000 lines, Elasticsearch restarted and the collector killed among them, and the file rotated as the kubelet does."""
    stream = shipper.stream
    shipper.start()

    def writes() -> None:
        for first in range(0, LINES, 500):
            shipper.write(*({"run_id": "many", "n": first + number} for number in range(500)))
            if first == LINES // 2:
                shipper.file.rename(shipper.file.with_name("0.log.20261128-223344"))
            time.sleep(0.05)

    def count() -> int:
        status, text = fetch(f"{elasticsearch.url}/{stream}/_count")
        return int(json.loads(text)["count"]) if status == 200 else 0

    writer = threading.Thread(target=writes)
    writer.start()
    eventually(lambda: count() > 1000, "the first documents", 120)
    restart()
    assert shipper._process is not None
    shipper._process.kill()
    shipper._process.wait()
    shipper.start()
    writer.join()
    eventually(lambda: count() >= LINES, f"{LINES} documents", 240)
    time.sleep(3)
    stored = numbers(elasticsearch, stream)
    assert len(stored) == len(set(stored)) == count() == LINES
    assert set(stored) == set(range(LINES))
    assert shipper.metric("otelcol_exporter_enqueue_failed_log_records") == 0
