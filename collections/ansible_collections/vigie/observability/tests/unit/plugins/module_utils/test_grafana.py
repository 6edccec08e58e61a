"""Grafana's answers: data frames as documented, and answers that are not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.dashboards import Query, Result
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Response, Transport
from ansible_collections.vigie.observability.plugins.module_utils.grafana import GrafanaSource
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError


class Scripted(Transport):
    """Gives one answer to everything."""

    address = "http://grafana"

    def __init__(self, answer: Any, status: int = 200) -> None:
        self._answer = Response(status, json.dumps(answer).encode())
        self.sent: list[tuple[str, str, Any]] = []

    def send(
        self, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Response:
        self.sent.append((method, path, json.loads(body) if body else None))
        return self._answer


def source(answer: Any, status: int = 200) -> tuple[GrafanaSource, Scripted]:
    transport = Scripted(answer, status)
    return GrafanaSource(transport, ["a b"], [], {}), transport


def frame(*columns: tuple[str, list[Any]]) -> dict[str, Any]:
    fields = [{"name": "x", "type": kind} for kind, _values in columns]
    return {"schema": {"fields": fields}, "data": {"values": [values for _kind, values in columns]}}


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ({"frames": [frame(("time", [1]), ("number", [3.5]))]}, 3.5),
        ({"frames": [frame(("time", [1]), ("number", [1])), frame(("time", [1]), ("number", [2]))]}, 2.0),
        ({"frames": [frame(("time", [1, 2]), ("string", ["a", "b"]), ("number", [4, None]))]}, 4.0),
        ({"frames": [{"schema": {"fields": []}, "data": {"values": []}}]}, None),
        ({"frames": []}, None),
        ({"status": 200}, None),
    ],
)
def test_values_in_frames(answer: Any, wanted: float | None) -> None:
    grafana, _transport = source({"results": {"Q0": answer}})
    assert grafana.evaluate(Deadline(0), [Query("up")]) == [Result(wanted)]


def test_null_is_not_a_number() -> None:
    grafana, _transport = source({"results": {"Q0": {"frames": [frame(("time", [1]), ("number", [None]))]}}})
    (result,) = grafana.evaluate(Deadline(0), [Query("up")])
    assert result.value is not None and math.isnan(result.value)


def test_a_query_that_fails_leaves_the_others() -> None:
    answer = {"results": {"Q0": {"error": "bad_data: parse error"}, "Q1": {"frames": [frame(("number", [1]))]}}}
    grafana, _transport = source(answer, 400)
    bad, good = grafana.evaluate(Deadline(0), [Query("("), Query("up")])
    assert "parse error" in bad.error and good == Result(1.0)


def test_one_request_for_each_time_range() -> None:
    grafana, transport = source({"results": {f"Q{at}": {"frames": [frame(("number", [at]))]} for at in range(50)}})
    queries = [Query("a", span=60), Query("b", span=120), Query("c", span=60)]
    assert [one.value for one in grafana.evaluate(Deadline(0), queries)] == [0.0, 0.0, 1.0]
    assert [(body["from"], [one["expr"] for one in body["queries"]]) for _m, _p, body in transport.sent] == [
        ("now-60s", ["a", "c"]),
        ("now-120s", ["b"]),
    ]


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        ({"message": "bad request data"}, 400, "bad_request"),
        ({"message": "down"}, 503, "server_error"),
        ({"results": []}, 200, "bad_answer"),
        ({"results": {"Q0": {"frames": [{"schema": {}}]}}}, 200, "bad_answer"),
        ([], 200, "bad_answer"),
    ],
)
def test_other_answers_to_queries(answer: Any, status: int, reason: str) -> None:
    grafana, _transport = source(answer, status)
    with pytest.raises(CheckError) as caught:
        grafana.evaluate(Deadline(0), [Query("up")])
    assert caught.value.reason == reason


def test_a_uid_is_quoted() -> None:
    grafana, transport = source({"message": "Dashboard not found"}, 404)
    with pytest.raises(CheckError) as caught:
        grafana.dashboards(Deadline(0))
    assert transport.sent[0][1] == "/api/dashboards/uid/a%20b"
    assert caught.value.reason == "dashboard_missing" and caught.value.transient


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        ({"message": "Data source not found"}, 404, "datasource_missing"),
        ({"status": "ERROR", "message": "connection refused"}, 400, "datasource_unhealthy"),
        ({"status": "ERROR", "message": "connection refused"}, 200, "datasource_unhealthy"),
        ({"message": "Plugin unavailable"}, 500, "datasource_unhealthy"),
        ([], 200, "bad_answer"),
    ],
)
def test_health(answer: Any, status: int, reason: str) -> None:
    grafana, _transport = source(answer, status)
    with pytest.raises(CheckError) as caught:
        grafana._ensure_healthy(Deadline(0), "prometheus")
    assert caught.value.reason == reason
    assert caught.value.transient or reason == "bad_answer"
