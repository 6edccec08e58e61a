"""Links of logs and traces that are broken by hand: the checks name them, and the roles mend them."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from lab_on_cluster import Lab

APP = "vigie"
LOGGING = "logging"
LINE = {"route": "/", "level": "info"}


@pytest.fixture
def ask(lab: Lab, tmp_path: Path) -> Any:
    """Return a function that sends a request, or looks for the one of an earlier call, and returns what log_check and trace_check say."""

    def call(
        line: dict[str, str] | None = None, run: tuple[str, float] | None = None
    ) -> tuple[dict[str, Any], tuple[str, float]]:
        run_id, since = run or (f"signals-{time.time_ns() % 10**9}", time.time() - 1)
        output = tmp_path / f"{time.time_ns()}.json"
        played = lab.play(
            "tests/cluster/signals.yml",
            run_id=run_id,
            since=str(since),
            output=str(output),
            line=line or LINE,
            send=run is None,
        )
        assert played.status == 0, played.output[-3000:]
        found: dict[str, Any] = json.loads(output.read_text())
        return found, (run_id, since)

    return call


def reasons(found: dict[str, Any]) -> tuple[str, str]:
    """Return what was said of the line and of the trace."""
    return found["log"]["reason"], found["trace"]["reason"]


def test_grafana_would_find_services_behind_its_data_sources(lab: Lab) -> None:
    """The lab has no Grafana; what its sidecar would take up names Services and ports that are there."""
    said = lab.kubectl(
        "get", "secrets,configmaps", "--namespace=monitoring", "--selector=grafana_datasource=1", "--output=json"
    )
    sources = []
    for each in json.loads(said)["items"]:
        (text,) = each["data"].values()
        text = base64.b64decode(text).decode() if each["kind"] == "Secret" else text
        sources += yaml.safe_load(text)["datasources"]
    assert sorted(each["uid"] for each in sources) == ["alertmanager", "elasticsearch", "jaeger", "prometheus"]
    for each in sources:
        address = urlsplit(each["url"])
        name, namespace, _ = str(address.hostname).split(".")
        service = json.loads(lab.kubectl("get", "service", name, f"--namespace={namespace}", "--output=json"))
        assert address.port in [port["port"] for port in service["spec"]["ports"]], each["url"]


def test_a_catalogue_that_is_down_is_named_and_brought_back(lab: Lab, ask: Any) -> None:
    lab.kubectl("scale", f"--namespace={APP}", "deployment/catalog", "--replicas=0")
    lab.kubectl("wait", f"--namespace={APP}", "--for=delete", "pod", "--selector=app=catalog", "--timeout=60s")
    found, _ = ask(line={"level": "error"})
    assert reasons(found) == ("ok", "edge_missing"), found
    assert "catalog" in found["log"]["observed"]["documents"][0]["fields"]["message"]
    assert "no span of catalog has a parent of flask-metrics: catalog has sent no span" in found["trace"]["hint"]

    assert lab.part("app").changed == 1
    found, _ = ask()
    assert reasons(found) == ("ok", "ok"), found


def test_a_wrong_port_for_spans_is_named_and_mended(lab: Lab, ask: Any) -> None:
    """Jaeger's port for people answers such posts with 200, and keeps nothing."""
    wrong = "OTEL_EXPORTER_OTLP_ENDPOINT=http://jaeger.tracing.svc:16686"
    lab.kubectl("set", "env", f"--namespace={APP}", "deployment/flask-metrics", wrong)
    lab.kubectl("rollout", "status", f"--namespace={APP}", "deployment/flask-metrics", "--timeout=90s")
    found, _ = ask()
    log, trace = reasons(found)
    assert log == "ok" and trace in ("nothing_arrives", "not_found", "orphan_span"), found

    assert lab.part("app").changed == 1
    found, _ = ask()
    assert reasons(found) == ("ok", "ok"), found


def test_a_shipper_that_is_gone_is_named_and_its_lines_come_later(lab: Lab, ask: Any) -> None:
    lab.kubectl("delete", f"--namespace={LOGGING}", "daemonset/opentelemetry-collector")
    pods = "--selector=app.kubernetes.io/name=opentelemetry-collector"
    lab.kubectl("wait", f"--namespace={LOGGING}", "--for=delete", "pod", pods, "--timeout=60s")
    found, run = ask()
    assert reasons(found) == ("shipper_down", "ok"), found

    assert lab.part("logging").changed >= 1
    found, _ = ask(run=run)
    assert reasons(found) == ("ok", "ok"), found
