"""Traces that no process sends on purpose; the rest is in tests/contract/test_trace_check.py."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.jaeger import Jaeger, Span, Trace
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.traces import TraceCheck, Wanted
from ansible_collections.vigie.observability.plugins.module_utils.verdict import Verdict

NOW = time.time()


class Fake(Jaeger):
    """A Jaeger that keeps some spans of one trace."""

    address = "http://jaeger"

    def __init__(self, *spans: Span) -> None:
        self._kept = Trace("t", tuple(sorted(spans, key=lambda span: span.start)))
        self._v3 = False

    def show(self, trace: str) -> str:
        return f"curl {trace}"

    def traces(self, deadline: Deadline, service: str, **_: Any) -> list[Trace]:
        return [self._kept] if any(span.service == service for span in self._kept.spans) else []

    def trace(self, deadline: Deadline, key: str, *, adjusted: bool = False) -> Trace | None:
        return self._kept


def span(key: str, parent: str = "", *, service: str = "a", at: float = 0.0, seconds: float = 1.0, **more: Any) -> Span:
    tags = {"vigie.run_id": "run-1"} if service == "a" else {}
    return Span(
        "t", key, parent, service, "work", more.pop("kind", "internal"), NOW + at, NOW + at + seconds, tags=tags
    )


def look(*spans: Span, **options: Any) -> Verdict:
    wanted = Wanted("a", "run-1", NOW - 60, **options)
    return TraceCheck(Fake(*spans), wanted).look(Deadline(0))


def test_spans_that_are_one_anothers_parents_have_no_root() -> None:
    verdict = look(span("1", "2"), span("2", "1"))
    assert verdict.reason == "orphan_span" and "0 roots" in verdict.hint


def test_a_span_that_is_its_own_parent_has_no_root() -> None:
    assert look(span("1", "1")).reason == "orphan_span"


def test_a_caller_that_is_traced_is_no_second_root() -> None:
    caller, trace = "a" * 16, "b" * 32
    assert look(span(caller), span("1", caller), traceparent=f"00-{trace}-{caller}-01").matched


def test_an_edge_counts_only_between_a_span_and_its_own_parent() -> None:
    chain = (span("1"), span("2", "1", service="b"), span("3", "2", service="c"))
    assert look(*chain, edges=(("a", "b"), ("b", "c"))).matched
    verdict = look(*chain, edges=(("a", "c"),))
    assert verdict.reason == "edge_missing" and "the parent of c 'work' (3) is b 'work' (2)" in verdict.hint


@pytest.mark.parametrize(
    ("at", "kind", "bound", "reason"),
    [
        (-0.4, "server", 0.5, "ok"),
        (-0.6, "server", 0.5, "clock_skew"),
        (-0.6, "internal", 0.5, "clock_skew"),
        (-0.001, "server", 0.0, "clock_skew"),
        (1.4, "server", 0.5, "ok"),
        (1.6, "server", 0.5, "clock_skew"),
        # Work that goes on after the answer may begin whenever it likes.
        (60.0, "internal", 0.5, "ok"),
    ],
)
def test_skew(at: float, kind: str, bound: float, reason: str) -> None:
    verdict = look(span("1", kind="client"), span("2", "1", service="b", at=at, kind=kind), max_skew=bound)
    assert verdict.reason == reason, verdict.hint


def test_the_trace_that_is_nearest_is_explained() -> None:
    class Two(Fake):
        def traces(self, deadline: Deadline, service: str, **_: Any) -> list[Trace]:
            other = Span("u", "9", "8", "a", "work", "internal", NOW + 5, NOW + 6, tags={"vigie.run_id": "run-1"})
            return [self._kept, Trace("u", (other,))]

    verdict = TraceCheck(Two(span("1")), Wanted("a", "run-1", NOW - 60, min_spans=2)).look(Deadline(0))
    assert verdict.reason == "too_few_spans" and verdict.observed["traces"] == 2


def test_the_span_with_the_run_id_must_be_fresh_not_its_trace() -> None:
    assert look(span("1", service="b", at=-100.0), span("2", "1")).matched
    assert look(span("1", at=-100.0), span("2", "1", service="b")).reason != "ok"
