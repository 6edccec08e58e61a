"""trace_check against a real Jaeger: each way in which a trace can have a gap or get lost has its own reason."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rendering import from_lab
from searching import front_of
from systems import Json, RunModule, WebServer, eventually, fetch, free_port
from tracing import JaegerServer, Work, jaeger_program

Options = dict[str, Any]
SERVER, CLIENT = 2, 3
APP = Path(__file__).parents[2] / "app"


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JaegerServer]:
    """The shared Jaeger; its clock skew adjustment is off, as it is by default."""
    folder = tmp_path_factory.mktemp("jaeger")
    server = JaegerServer(from_lab(jaeger_program), folder, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def names() -> tuple[str, str]:
    """Two services of its own for each test."""
    mark = secrets.token_hex(3)
    return f"flask-{mark}", f"catalog-{mark}"


Check = Callable[..., Json]


@pytest.fixture
def check(run_module: RunModule, jaeger: JaegerServer, names: tuple[str, str]) -> Check:
    """Run the check for the test's first service, in a hurry."""

    def run(**options: Any) -> Json:
        shared = {"endpoint": {"url": jaeger.url}, "service": names[0], "run_id": "run-1", "since": "-5m"}
        return run_module("trace_check", **{**shared, "timeout": 0.3, "interval": 0.2, **options})

    return run


def reason(result: Json) -> str:
    assert result["failed"] and not result["matched"] and result["hint"], result
    assert result["msg"] == f"{result['reason']}: {result['hint']}"
    return str(result["reason"])


def request(service: str, run_id: str | None = "run-1", **more: Any) -> Work:
    """Return the work of a request that carries a run id."""
    tags = {**({} if run_id is None else {"vigie.run_id": run_id}), **more.pop("tags", {})}
    return Work(service, "GET /", kind=SERVER, tags=tags, **more)


def whole(names: tuple[str, str], **more: Any) -> list[Work]:
    """Return a trace as it should be: a request, its call, and the work of the service that is called."""
    first = request(names[0], **more)
    call = Work(names[0], "GET", first, age=1.98, seconds=0.06, kind=CLIENT)
    return [first, call, Work(names[1], "GET /item", call, age=1.96, seconds=0.02, kind=SERVER)]


def edge(names: tuple[str, str]) -> list[Json]:
    return [{"from": names[0], "to": names[1]}]


# What is found


def test_a_whole_trace_is_found_at_once(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    first, *others = whole(names, tags={"http.route": "/", "http.response.status_code": 200})
    jaeger.send(first, *others)
    match = {"http.route": "/", "http.response.status_code": 200}
    result = check(edges=edge(names), min_spans=3, error=False, match=match, timeout=10)
    assert not result["failed"], result
    assert result["matched"] and result["reason"] == "ok" and result["hint"] == "" and not result["changed"]
    assert result["attempts"] == 1
    assert result["observed"] == {
        "traces": 1,
        "trace_id": first.trace,
        "root": f"{names[0]} GET /",
        "spans": 3,
        "services": {names[0]: 2, names[1]: 1},
        "edges": [f"{names[0]} -> {names[1]}"],
        "errors": 0,
        "seconds": pytest.approx(0.1, abs=1e-5),
    }
    assert result["times"]["started"] == pytest.approx(first.start, abs=1e-5)
    assert result["times"]["ended"] == pytest.approx(first.start + 0.1, abs=1e-5)
    assert "queryable" not in result["times"], "it was there at the first look"


def test_it_asks_once_and_only_reads(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    jaeger.send(*whole(names))
    with front_of(jaeger.url) as front:
        assert check(endpoint={"url": front.url}, edges=edge(names), timeout=10)["matched"]
        assert front.requests == [("GET", "/api/traces")]
        check(endpoint={"url": front.url}, run_id="nobody")
    assert {method for method, _path in front.requests} == {"GET"}


def test_a_trace_is_waited_for_until_it_is_whole(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    first, *others = whole(names)
    jaeger.send(first)
    sent: list[float] = []

    def send() -> None:
        eventually(lambda: front.requests, "the first look")
        time.sleep(0.3)
        sent.append(time.time())
        jaeger.send(*others)

    with front_of(jaeger.url) as front:
        sender = threading.Thread(target=send)
        sender.start()
        result = check(endpoint={"url": front.url}, edges=edge(names), timeout=20)
        sender.join()
    assert result["matched"] and result["attempts"] > 1, result
    assert sent[0] < result["times"]["queryable"] <= time.time()


def test_one_whole_trace_of_several_will_do(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    good = whole(names)
    jaeger.send(request(names[0], age=4), *good, request(names[0], age=1))
    result = check(edges=edge(names), timeout=10)
    assert result["matched"] and result["observed"]["trace_id"] == good[0].trace
    assert result["observed"]["traces"] == 3


def test_a_crash_is_told_by_its_error(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    crash = request(names[0], failed=True, tags={"http.route": "/crash"})
    jaeger.send(request(names[0]), crash)
    result = check(error=True, match={"http.route": "/crash"}, timeout=10)
    assert result["matched"] and result["observed"]["trace_id"] == crash.trace


def test_a_caller_that_is_not_traced(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    caller, trace = secrets.token_hex(8), secrets.token_hex(16)
    jaeger.send(request(names[0], parent=caller, trace=trace))
    result = check()
    assert reason(result) == "orphan_span" and "give the header in traceparent" in result["hint"]
    assert check(traceparent=f"00-{trace}-{caller}-01", timeout=10)["matched"]
    assert check(no_orphans=False, timeout=10)["matched"]


def test_the_application_that_crashes(
    run_module: RunModule, jaeger: JaegerServer, tmp_path: Path, names: tuple[str, str]
) -> None:
    """What the defaults of the check expect is what the application sends, before it dies."""
    port, run_id = free_port(), f"crash-{names[0]}"
    settings = {
        "APP_HOST": "127.0.0.1",
        "APP_PORT": str(port),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{jaeger.otlp}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with (tmp_path / "log").open("wb") as log:
        app = subprocess.Popen(
            [sys.executable, "-m", "flask_metrics"], cwd=APP, env={**os.environ, **settings}, stdout=log, stderr=log
        )
    try:
        eventually(lambda: fetch(f"http://127.0.0.1:{port}/readyz")[0] == 200, "the start of the application")
        crash = urllib.request.Request(f"http://127.0.0.1:{port}/crash", headers={"X-Vigie-Run-Id": run_id})
        began = time.time()
        with pytest.raises(OSError, match=r"closed|reset"):
            urllib.request.urlopen(crash, timeout=30)
        assert app.wait(30) == 1
    finally:
        app.kill()
        app.wait()
    options = {"endpoint": {"url": jaeger.url}, "service": "flask-metrics", "run_id": run_id, "since": began}
    result = run_module("trace_check", **options, match={"http.route": "/crash"}, error=True, timeout=10)
    assert result["matched"], result
    assert began <= result["times"]["started"] <= result["times"]["ended"] <= time.time()


@pytest.fixture
def newer(jaeger: JaegerServer) -> Iterator[str]:
    """The address of a Jaeger that has only /api/v3, as later versions do."""
    gone = [(f"/api/{words}", 404, "404 page not found\n") for words in ("traces", "services")]
    with front_of(jaeger.url, *gone) as front:
        yield front.url


def test_by_the_newer_api(check: Check, jaeger: JaegerServer, names: tuple[str, str], newer: str) -> None:
    first, *others = whole(names, tags={"http.response.status_code": 200})
    jaeger.send(first, *others)
    options = {"edges": edge(names), "min_spans": 3, "error": False, "match": {"http.response.status_code": 200}}
    result = check(endpoint={"url": newer}, **options, timeout=10)
    assert result["matched"], result
    older = check(**options)
    # The older one cuts the start and the duration to microseconds, each for itself.
    seconds = [one["observed"].pop("seconds") for one in (older, result)]
    assert seconds[0] == pytest.approx(seconds[1], abs=2e-6)
    assert older["observed"] == result["observed"]
    assert older["times"] == pytest.approx(result["times"], abs=2e-6)
    assert reason(check(endpoint={"url": newer}, service="nobody")) == "service_unknown"
    failed = request(names[0], "run-2", failed=True)
    jaeger.send(failed)
    assert reason(check(endpoint={"url": newer}, run_id="run-2", error=False)) == "error_unexpected"
    result = check(endpoint={"url": newer}, run_id="run-3", traceparent=f"00-{failed.trace}-{failed.key}-01")
    assert reason(result) == "tag_missing" and "/api/v3/traces/" in result["hint"]


# A trace with a gap


def test_orphan_span(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    """The process dies before the span of its call is sent: what it called has a parent that nobody knows."""
    first, call, called = whole(names)
    jaeger.send(first, called)
    result = check(edges=edge(names))
    assert reason(result) == "orphan_span"
    assert call.key in result["hint"] and called.key in result["hint"] and first.trace in result["hint"]
    # Without the demand for a whole trace the edge is what is missed.
    result = check(edges=edge(names), no_orphans=False)
    assert reason(result) == "edge_missing" and "is not in the trace" in result["hint"]


def test_orphan_span_of_two_roots(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    first = request(names[0])
    jaeger.send(first, Work(names[0], "another", trace=first.trace))
    result = check()
    assert reason(result) == "orphan_span" and "has 2 roots" in result["hint"]


def test_edge_missing_because_the_context_is_not_passed_on(
    check: Check, jaeger: JaegerServer, names: tuple[str, str]
) -> None:
    first, call, _called = whole(names)
    alone = request(names[1])
    jaeger.send(first, call, alone)
    result = check(edges=edge(names))
    assert reason(result) == "edge_missing"
    assert f"no span of {names[1]} has a parent of {names[0]}" in result["hint"]
    assert "spans of this run in other traces" in result["hint"] and alone.trace in result["hint"]
    assert f"{names[0]} doesn't pass the header" in result["hint"]


def test_edge_missing_because_the_callee_is_down(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    first, call, _called = whole(names)
    call.failed = True
    jaeger.send(first, call)
    result = check(edges=edge(names))
    assert reason(result) == "edge_missing"
    assert f"{names[1]} never sent a span" in result["hint"] and "is marked as failed" in result["hint"]
    # It was there once.
    jaeger.send(request(names[1], None, age=400))
    result = check(edges=edge(names))
    assert f"{names[1]} has sent no span since" in result["hint"] and "is down or its exporter is off" in result["hint"]


def test_edge_missing_because_nothing_was_called(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    jaeger.send(request(names[0]))
    result = check(edges=edge(names))
    assert reason(result) == "edge_missing" and "has no span of a call" in result["hint"]


def test_edge_missing_because_another_called(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    first = request(names[0])
    between = Work("gateway", "GET", first)
    jaeger.send(first, between, Work(names[1], "GET /item", between))
    result = check(edges=edge(names))
    assert reason(result) == "edge_missing" and f"is gateway 'GET' ({between.key})" in result["hint"]
    assert check(edges=[{"from": names[0], "to": "gateway"}, {"from": "gateway", "to": names[1]}])["matched"]


def test_too_few_spans(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    jaeger.send(request(names[0]))
    result = check(min_spans=2)
    assert reason(result) == "too_few_spans" and "has 1 spans, 2 are wanted" in result["hint"]


@pytest.mark.parametrize(
    ("age", "words"), [(7.0, "before its parent"), (-3.0, "after the end of its caller")], ids=["behind", "ahead"]
)
def test_clock_skew(check: Check, jaeger: JaegerServer, names: tuple[str, str], age: float, words: str) -> None:
    first, call, _called = whole(names)
    jaeger.send(first, call, Work(names[1], "GET /item", call, age=age, seconds=0.02, kind=SERVER))
    result = check(edges=edge(names))
    assert reason(result) == "clock_skew"
    assert words in result["hint"] and "date -u" in result["hint"]
    assert "Jaeger itself says: clock skew adjustment disabled; not applying calculated delta" in result["hint"]
    assert check(edges=edge(names), max_skew=10)["matched"]


def test_clock_skew_that_jaeger_hides(
    run_module: RunModule, tmp_path_factory: pytest.TempPathFactory, names: tuple[str, str]
) -> None:
    """A Jaeger that moves spans shows people a trace that looks well; what was sent says otherwise."""
    folder = tmp_path_factory.mktemp("adjusting")
    server = JaegerServer(from_lab(jaeger_program), folder, folder)
    try:
        server.start(max_clock_skew_adjust="10s")
        first, call, _called = whole(names)
        server.send(first, call, Work(names[1], "GET /item", call, age=7, seconds=0.02, kind=SERVER))
        options = {"endpoint": {"url": server.url}, "service": names[0], "run_id": "run-1", "since": "-5m"}
        result = run_module("trace_check", **options, timeout=0)
    finally:
        server.stop()
    assert reason(result) == "clock_skew" and "5.020 s before its parent" in result["hint"]
    assert "This span's timestamps were adjusted by" in result["hint"]


def test_the_error_that_is_expected(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    jaeger.send(request(names[0]), request(names[0], "run-2", failed=True))
    result = check(error=True)
    assert reason(result) == "error_missing" and "is marked as failed" in result["hint"]
    result = check(run_id="run-2", error=False)
    assert reason(result) == "error_unexpected" and "it failed" in result["hint"]
    assert check()["matched"] and check(run_id="run-2")["matched"]


# No trace


def test_tag_mismatch(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    jaeger.send(request(names[0], tags={"http.route": "/", "http.request.method": "GET"}))
    result = check(match={"http.route": "/crash", "http.request.method": "GET"})
    assert reason(result) == "tag_mismatch"
    assert "http.route is '/' and not '/crash'" in result["hint"] and "method" not in result["hint"]


def test_stale_trace(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    jaeger.send(*whole(names, age=400))
    result = check()
    assert reason(result) == "stale_trace" and "The newest trace of run run-1 started at 20" in result["hint"]


def test_service_unknown(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    """Jaeger's own port for people takes spans with a 200, answers with its page, and keeps none."""
    otlp = jaeger.otlp
    jaeger.otlp = jaeger.port
    try:
        with pytest.raises(json.JSONDecodeError):
            jaeger.send(request(names[0]))
    finally:
        jaeger.otlp = otlp
    result = check()
    assert reason(result) == "service_unknown"
    assert f"never got a span of {names[0]}" in result["hint"] and "4318 over HTTP" in result["hint"]


def test_tag_missing(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    sent = request(names[0], None)
    jaeger.send(sent)
    result = check(traceparent=f"00-{sent.trace}-{sent.key}-01")
    assert reason(result) == "tag_missing" and f"spans of {names[0]}" in result["hint"]


def test_sampled_out(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    jaeger.send(request(names[0], "another"))
    trace = secrets.token_hex(16)
    result = check(traceparent=f"00-{trace}-{secrets.token_hex(8)}-00")
    assert reason(result) == "sampled_out" and trace in result["hint"] and "parentbased_always_on" in result["hint"]
    # One that was sampled got lost otherwise.
    result = check(traceparent=f"00-{trace}-{secrets.token_hex(8)}-01")
    assert reason(result) == "not_found" and f"trace {trace} of traceparent is not stored" in result["hint"]


def test_not_found(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    jaeger.send(request(names[0], "another"), request(names[0], "run-12"), request(names[1]))
    result = check()
    assert reason(result) == "not_found" and "run-12" in result["hint"] and "none of run-1" in result["hint"]
    assert "which traceparent would tell" in result["hint"]


def test_nothing_arrives(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    jaeger.send(request(names[0], "another", age=400))
    result = check()
    assert reason(result) == "nothing_arrives" and "the newest is of 20" in result["hint"]


# The frame


def test_absent(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    result = check(expect="absent")
    assert reason(result) == "service_unknown" and "a broken link proves nothing" in result["hint"]
    jaeger.send(request(names[0], "another"))
    assert check(expect="absent")["matched"]
    jaeger.send(request(names[0]))
    assert reason(check(expect="absent")) == "appeared"


def test_check_mode_looks_once_and_never_fails(check: Check, jaeger: JaegerServer, names: tuple[str, str]) -> None:
    jaeger.send(request(names[0], "another"))
    result = check(check_mode=True, timeout=30)
    assert not result["failed"] and not result["matched"] and not result["changed"]
    assert (result["attempts"], result["reason"]) == (1, "not_found")


def test_unreachable(check: Check) -> None:
    result = check(endpoint={"url": f"http://127.0.0.1:{free_port()}"})
    assert reason(result) == "unreachable" and result["attempts"] > 1


def test_access_denied(check: Check, jaeger: JaegerServer) -> None:
    """Jaeger itself lets everybody in; this is a proxy before it."""
    with front_of(jaeger.url, ("", 401, "Unauthorized")) as front:
        result = check(endpoint={"url": front.url, "username": "me", "password": "pa55w0rd"}, timeout=30)
    assert reason(result) == "access_denied" and result["attempts"] == 1
    assert "pa55w0rd" not in json.dumps(result)


@pytest.mark.parametrize("status", [200, 404])
def test_another_program(check: Check, status: int) -> None:
    server = WebServer()
    for path in ("/api/traces", "/api/v3/traces"):
        server.text(path, "<html>It works!</html>", status=status)
    result = check(endpoint={"url": server.url})
    server.stop()
    assert reason(result) == "bad_answer"


@pytest.mark.parametrize(
    "options",
    [
        {"service": " "},
        {"run_id": ""},
        {"run_id_tag": ""},
        {"since": "yesterday"},
        {"since": ""},
        {"min_spans": 0},
        {"max_skew": -1},
        {"edges": [{"from": "a", "to": "a"}]},
        {"edges": [{"from": "a", "to": ""}]},
        {"traceparent": "00-abc-def-01"},
        {"traceparent": f"00-{'0' * 32}-{'1' * 16}-01"},
        {"traceparent": f"ff-{'1' * 32}-{'1' * 16}-01"},
    ],
)
def test_bad_option(run_module: RunModule, options: Options) -> None:
    shared = {"endpoint": {"url": "http://127.0.0.1:1"}, "service": "a", "run_id": "run-1", "since": "-5m"}
    result = run_module("trace_check", **{**shared, "timeout": 30, **options})
    assert reason(result) == "bad_option" and next(iter(options)) in result["hint"]
    assert result["attempts"] == 0


def test_a_bound_in_the_future(check: Check) -> None:
    assert reason(check(since=time.time() + 60)) == "since_in_future"
