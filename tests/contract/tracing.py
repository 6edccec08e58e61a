"""A real Jaeger from the lab, and spans as processes send them."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from searching import STARTUP_SECONDS, call, lab_result
from systems import Json, Server, free_port


def jaeger_program() -> Path:
    """Return Jaeger."""
    return lab_result("VIGIE_JAEGER", "jaeger", "jaeger")


class JaegerServer(Server):
    """Jaeger v2 with its spans in memory; it gets them as OTLP over HTTP."""

    def start(self, **query: Any) -> None:
        """Start it, with options of its query service besides the usual ones."""
        self.otlp = free_port()

        def here(port: int) -> Json:
            return {"endpoint": f"127.0.0.1:{port}"}

        config = {
            "service": {
                "extensions": ["jaeger_storage", "jaeger_query"],
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
                "telemetry": {"metrics": {"level": "none"}},
            },
            "extensions": {
                "jaeger_storage": {"backends": {"main": {"memory": {"max_traces": 10000}}}},
                "jaeger_query": {
                    "storage": {"traces": "main"},
                    "http": here(self.port),
                    "grpc": here(free_port()),
                    **query,
                },
            },
            "receivers": {"otlp": {"protocols": {"http": here(self.otlp)}}},
            "exporters": {"jaeger_storage_exporter": {"trace_storage": "main"}},
        }
        (self.folder / "config.yml").write_text(yaml.safe_dump(config))
        self.run("--config", str(self.folder / "config.yml"))

        self.wait_ready(f"{self.url}/api/services", STARTUP_SECONDS)

    def send(self, *spans: Work) -> None:
        """Hand over spans as an exporter does."""
        call(
            f"http://127.0.0.1:{self.otlp}", "POST", "/v1/traces", {"resourceSpans": [one.resource() for one in spans]}
        )


@dataclass
class Work:
    """One piece of work of a service, to be sent as a span.

    Attributes:
        service: name of the service.
        name: what it does.
        parent: the work that caused it, or the id of a span that nobody sends.
        age: seconds ago that it began.
        seconds: how long it took.
        kind: as in OTLP, 1 internal, 2 server, 3 client.
        failed: whether it is marked as failed.
        tags: its attributes.
        trace: id of its trace, by default that of its parent, or a new one.
    """

    service: str
    name: str = "work"
    parent: Work | str | None = None
    age: float = 2.0
    seconds: float = 0.1
    kind: int = 1
    failed: bool = False
    tags: Json = field(default_factory=dict)
    trace: str = ""
    key: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        self.trace = self.trace or (self.parent.trace if isinstance(self.parent, Work) else secrets.token_hex(16))
        self.start = time.time() - self.age

    def resource(self) -> Json:
        """Return it as a resource of OTLP with one span."""
        parent = self.parent.key if isinstance(self.parent, Work) else self.parent
        span = {
            "traceId": self.trace,
            "spanId": self.key,
            "name": self.name,
            "kind": self.kind,
            "startTimeUnixNano": str(int(self.start * 1e9)),
            "endTimeUnixNano": str(int((self.start + self.seconds) * 1e9)),
            "attributes": [{"key": name, "value": _typed(value)} for name, value in self.tags.items()],
            "status": {"code": 2, "message": "it failed"} if self.failed else {},
        }
        if parent:
            span["parentSpanId"] = parent
        name = {"key": "service.name", "value": {"stringValue": self.service}}
        return {"resource": {"attributes": [name]}, "scopeSpans": [{"spans": [span]}]}


def _typed(value: Any) -> Json:
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": str(value)}
