"""The configuration that the role tracing gives to Jaeger, run by a real Jaeger: each storage takes a span and finds it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rendering import from_lab, render_roles
from searching import STARTUP_SECONDS, ElasticsearchServer, call, elasticsearch_home
from systems import Server, eventually, fetch, free_port
from tracing import Work, jaeger_program


class Jaeger(Server):
    """Jaeger with the role's configuration, on ports of its own."""

    def __init__(self, program: Path, folder: Path, **choices: Any) -> None:
        super().__init__(program, folder, folder)
        self.ports = {
            name: free_port() for name in ("otlp_grpc", "otlp_http", "query", "query_grpc", "metrics", "health")
        }
        rendered = render_roles(
            folder / "play",
            name="signals.yml",
            roles=("tracing", "logging"),
            vigie_state_dir="/tmp/vigie",  # only named, never made: a path of pytest's may be too long
            tracing_listen_address="127.0.0.1",
            tracing_ports=self.ports,
            tracing_badger_dir=str(folder / "badger"),
            **choices,
        )
        (folder / "config.yaml").write_text(rendered["tracing"]["config"])

    def at(self, port: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}"

    def start(self) -> None:
        self.run(f"--config={self.folder / 'config.yaml'}")

        self.wait_ready(f"{self.at('health')}/status", STARTUP_SECONDS)

    def send(self, service: str, **attributes: str) -> str:
        """Send one span as services do, and return its trace id."""
        span = Work(service, "GET /", kind=2, age=0, seconds=0, tags=attributes)
        call(self.at("otlp_http"), "POST", "/v1/traces", {"resourceSpans": [span.resource()]})
        return span.trace

    def has(self, trace: str, base: str = "") -> bool:
        status, text = fetch(f"{self.at('query')}{base}/api/traces/{trace}")
        return status == 200 and trace in text


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Jaeger]]:
    """Return a function that starts a Jaeger with choices of the role."""
    made: list[Jaeger] = []

    def begin(**choices: Any) -> Jaeger:
        made.append(Jaeger(from_lab(jaeger_program), tmp_path_factory.mktemp("jaeger"), **choices))
        made[-1].start()
        return made[-1]

    yield begin
    for one in made:
        one.stop()


def test_traces_in_memory_are_found_and_bounded(start: Callable[..., Jaeger]) -> None:
    server = start(tracing_max_traces=100)
    first = server.send("flask", **{"vigie.run_id": "r1"})
    eventually(lambda: server.has(first), "the first trace")
    others = [server.send("flask") for dummy in range(120)]
    # Batches may be stored in another order than they came, so it is not said which ones are kept.
    eventually(lambda: sum(map(server.has, others)) == 100, "100 traces being kept")
    assert not server.has(first)
    status, text = fetch(f"{server.at('metrics')}/metrics")
    assert status == 200 and "otelcol_receiver_accepted_spans" in text


def test_traces_on_a_volume_outlive_the_process(start: Callable[..., Jaeger]) -> None:
    server = start(tracing_storage="badger")
    trace = server.send("flask")
    eventually(lambda: server.has(trace), "the trace")
    server.stop()
    server.start()
    eventually(lambda: server.has(trace), "the trace after a restart")


def test_the_ui_path_is_where_the_api_answers(start: Callable[..., Jaeger]) -> None:
    server = start(tracing_ui_path="/jaeger")
    trace = server.send("flask")
    eventually(lambda: server.has(trace, "/jaeger"), "the trace below the path")


def test_traces_in_elasticsearch_are_one_shard_without_copies(start: Callable[..., Jaeger], tmp_path: Path) -> None:
    elasticsearch = ElasticsearchServer(from_lab(elasticsearch_home), tmp_path / "elasticsearch")
    try:
        elasticsearch.start()
        server = start(
            tracing_storage="elasticsearch",
            tracing_elasticsearch_url=elasticsearch.url,
            tracing_elasticsearch_username="",
        )
        trace = server.send("flask")
        eventually(lambda: server.has(trace), "the trace", 60)
        settings = elasticsearch.call("GET", "/jaeger-*/_settings?flat_settings=true")
        assert settings
        for name, each in settings.items():
            found = each["settings"]
            assert (found["index.number_of_shards"], found["index.number_of_replicas"]) == ("1", "0"), name
        assert elasticsearch.call("GET", "/_cluster/health")["status"] == "green"
    finally:
        elasticsearch.stop()
