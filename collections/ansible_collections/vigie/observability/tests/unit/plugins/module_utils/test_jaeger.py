"""Both of Jaeger's APIs give the same spans; the answers have the form in which 2.13 gives them, shortened."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Response, Transport
from ansible_collections.vigie.observability.plugins.module_utils.jaeger import Jaeger
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

TRACE, ROOT, CHILD = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "00000000000000a1"
OLDER = {
    "data": [
        {
            "traceID": TRACE,
            "spans": [
                {
                    "traceID": TRACE,
                    "spanID": CHILD,
                    "operationName": "GET /item",
                    "references": [
                        {"refType": "FOLLOWS_FROM", "traceID": "1" * 32, "spanID": "2" * 16},
                        {"refType": "CHILD_OF", "traceID": TRACE, "spanID": ROOT},
                    ],
                    "startTime": 1795519770500000,
                    "duration": 250000,
                    "tags": [
                        {"key": "span.kind", "type": "string", "value": "server"},
                        {"key": "error", "type": "bool", "value": True},
                        {"key": "http.response.status_code", "type": "int64", "value": 500},
                    ],
                    "logs": [],
                    "processID": "p2",
                    "warnings": ["a remark"],
                },
                {
                    "traceID": TRACE,
                    "spanID": ROOT,
                    "operationName": "GET /",
                    "references": [],
                    "startTime": 1795519770000000,
                    "duration": 1000000,
                    "tags": [{"key": "vigie.run_id", "type": "string", "value": "run-1"}],
                    "logs": [],
                    "processID": "p1",
                    "warnings": None,
                },
            ],
            "processes": {
                "p1": {"serviceName": "flask-metrics", "tags": []},
                "p2": {"serviceName": "catalog", "tags": []},
            },
            "warnings": None,
        }
    ],
    "total": 0,
    "limit": 0,
    "offset": 0,
    "errors": None,
}


def resource(service: str, span: dict[str, Any]) -> dict[str, Any]:
    name = {"key": "service.name", "value": {"stringValue": service}}
    return {"resource": {"attributes": [name]}, "scopeSpans": [{"scope": {}, "spans": [span]}]}


NEWER = {
    "result": {
        "resourceSpans": [
            resource(
                "catalog",
                {
                    "traceId": TRACE,
                    "spanId": CHILD,
                    "parentSpanId": ROOT,
                    "name": "GET /item",
                    "kind": 2,
                    "startTimeUnixNano": "1795519770500000000",
                    "endTimeUnixNano": "1795519770750000000",
                    "attributes": [
                        {"key": "http.response.status_code", "value": {"intValue": "500"}},
                        {
                            "key": "@jaeger@warnings",
                            "value": {"arrayValue": {"values": [{"stringValue": "a remark"}]}},
                        },
                    ],
                    "status": {"code": 2},
                },
            ),
            resource(
                "flask-metrics",
                {
                    "traceId": TRACE,
                    "spanId": ROOT,
                    "name": "GET /",
                    "kind": 1,
                    "startTimeUnixNano": "1795519770000000000",
                    "endTimeUnixNano": "1795519771000000000",
                    "attributes": [{"key": "vigie.run_id", "value": {"stringValue": "run-1"}}],
                    "status": {},
                },
            ),
        ]
    }
}


class Fake(Transport):
    """A Jaeger that answers some paths."""

    address = "http://jaeger"

    def __init__(self, answers: dict[str, tuple[int, str]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def send(self, method: str, path: str, **_: Any) -> Response:
        self.asked.append(path)
        status, body = self.answers.get(path.partition("?")[0], (404, "404 page not found"))
        return Response(status, body.encode())


def older(answer: Any = None) -> Fake:
    answer = answer or OLDER
    paths = {"/api/traces": answer, f"/api/traces/{TRACE}": answer, "/api/services": {"data": ["b", "a"]}}
    return Fake({path: (200, json.dumps(body)) for path, body in paths.items()})


def newer() -> Fake:
    paths = {"/api/v3/traces": NEWER, f"/api/v3/traces/{TRACE}": NEWER, "/api/v3/services": {"services": ["b", "a"]}}
    return Fake({path: (200, json.dumps(body)) for path, body in paths.items()})


@pytest.mark.parametrize("make", [older, newer])
def test_spans_are_the_same_by_either_api(make: Any) -> None:
    fake = make()
    (trace,) = Jaeger(fake).traces(
        Deadline(0), "flask-metrics", start=1795519760.0, end=1795519790.0, limit=5, tags={"vigie.run_id": "run-1"}
    )
    assert trace.key == TRACE
    root, child = trace.spans
    assert (root.key, root.parent, root.service, root.name) == (ROOT, "", "flask-metrics", "GET /")
    assert (root.start, root.end, root.error, root.warnings) == (1795519770.0, 1795519771.0, False, ())
    assert root.tags["vigie.run_id"] == "run-1"
    assert (child.key, child.parent, child.service, child.kind) == (CHILD, ROOT, "catalog", "server")
    assert (child.start, child.end, child.error) == (1795519770.5, 1795519770.75, True)
    assert child.tags["http.response.status_code"] == 500 and child.warnings == ("a remark",)
    assert "run-1" in fake.asked[-1] and "true" in fake.asked[-1], "by the tag, and with the times as they were sent"
    assert Jaeger(make()).services(Deadline(0)) == ["a", "b"]
    found = Jaeger(make()).trace(Deadline(0), TRACE)
    assert found is not None and found.spans == trace.spans


def test_the_older_api_is_asked_for_once() -> None:
    fake = newer()
    jaeger = Jaeger(fake)
    for dummy in range(2):
        jaeger.services(Deadline(0))
    assert fake.asked == ["/api/services", "/api/v3/services", "/api/v3/services"]


def test_no_trace_is_no_error() -> None:
    none = {"data": None, "errors": [{"code": 404, "msg": "trace not found"}]}
    assert Jaeger(Fake({f"/api/traces/{TRACE}": (404, json.dumps(none))})).trace(Deadline(0), TRACE) is None
    none = {"error": {"httpCode": 404, "message": "No traces found"}}
    for path in ("/api/v3/traces", f"/api/v3/traces/{TRACE}"):
        jaeger = Jaeger(Fake({path: (404, json.dumps(none))}))
        if path.endswith("traces"):
            assert jaeger.traces(Deadline(0), "x", start=0.0, end=1.0, limit=1) == []
        else:
            assert jaeger.trace(Deadline(0), TRACE) is None


def test_a_span_that_was_sent_twice_is_there_once() -> None:
    twice = json.loads(json.dumps(OLDER))
    twice["data"][0]["spans"] *= 2
    (trace,) = Jaeger(older(twice)).traces(Deadline(0), "x", start=0.0, end=1.0, limit=1)
    assert len(trace.spans) == 2


@pytest.mark.parametrize("answer", ["<html>", "[]", "{}", '{"data": [{}]}', '{"data": {"a": 1}}'])
def test_another_program(answer: str) -> None:
    with pytest.raises(CheckError) as error:
        Jaeger(Fake({"/api/traces": (200, answer)})).traces(Deadline(0), "x", start=0.0, end=1.0, limit=1)
    assert error.value.reason == "bad_answer"


def test_neither_api() -> None:
    with pytest.raises(CheckError, match="port 16686") as error:
        Jaeger(Fake({})).services(Deadline(0))
    assert error.value.reason == "bad_answer"
