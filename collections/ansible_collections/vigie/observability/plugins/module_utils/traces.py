# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Is the trace of a run stored, whole and across services, and if not, which link from the process to Jaeger is broken?"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.jaeger import Jaeger, Span, Trace
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import format_time
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

REASONS = (
    "orphan_span",
    "edge_missing",
    "too_few_spans",
    "clock_skew",
    "error_missing",
    "error_unexpected",
    "tag_mismatch",
    "stale_trace",
    "service_unknown",
    "tag_missing",
    "sampled_out",
    "nothing_arrives",
    "not_found",
)
"""Reasons of this check beyond the common ones; the module's documentation lists them."""

BROKEN_CHAIN = frozenset({"service_unknown", "sampled_out", "tag_missing", "nothing_arrives"})
"""Reasons that mean that no trace of the run could have been found, so that its absence proves nothing."""

LIMIT = 500
"""Traces of a run that are looked at, the newest: more is no drill."""

AHEAD = 3600.0
"""Seconds after this host's clock that are still searched, so that a clock that is ahead is found and named."""

BEHIND = 172800.0
"""Seconds before ``since`` in which an older trace of the run is looked for; the window that Jaeger itself takes."""

SHOWN = 5

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")

Cause = tuple[str, str]
"""Reason and hint."""


@dataclass(frozen=True)
class Wanted:
    """What the trace must be like.

    Attributes:
        service: service that has a span with the run id.
        run_id: value of the run id's tag.
        since: Unix seconds; that span started then or later.
        tag: name of the tag that holds the run id.
        match: further tags of that span, and their values.
        edges: pairs of services of which the first must call the second.
        no_orphans: whether every parent must be in the trace, and exactly one span have none.
        error: whether a span must be marked as failed, or none may be; None: either will do.
        min_spans: number of spans there must be at least.
        max_skew: seconds that a span may start before its parent.
        traceparent: header of W3C that the caller sent or got, or empty.
    """

    service: str
    run_id: str
    since: float
    tag: str = "vigie.run_id"
    match: Mapping[str, Any] | None = None
    edges: tuple[tuple[str, str], ...] = ()
    no_orphans: bool = True
    error: bool | None = None
    min_spans: int = 1
    max_skew: float = 0.5
    traceparent: str = ""


class TraceCheck:
    """A trace with a run id, whole and with its edges.

    Args:
        jaeger: where it should be.
        wanted: what it is like.
        absent: it is expected to stay away, which a broken link can't prove.

    Raises:
        CheckError: ``bad_option``.
    """

    def __init__(self, jaeger: Jaeger, wanted: Wanted, *, absent: bool = False) -> None:
        for name in ("service", "run_id", "tag"):
            if not str(getattr(wanted, name)).strip():
                option = "run_id_tag" if name == "tag" else name
                raise CheckError("bad_option", f"{option} is empty; give the text that the span carries.")
        if wanted.min_spans < 1:
            raise CheckError("bad_option", f"min_spans={wanted.min_spans} must be at least 1.")
        if not 0 <= wanted.max_skew < math.inf:
            raise CheckError("bad_option", f"max_skew={wanted.max_skew} must be a number of seconds from 0 on.")
        for number, edge in enumerate(wanted.edges):
            if not all(edge) or edge[0] == edge[1]:
                raise CheckError("bad_option", f"edges[{number}]: {edge[0]!r} to {edge[1]!r} must be two services.")
        parts = _TRACEPARENT.fullmatch(wanted.traceparent.strip())
        if wanted.traceparent.strip() and not parts:
            raise CheckError(
                "bad_option",
                f"traceparent={wanted.traceparent!r} is none; write it like 00-<32 hexadecimal digits>-<16 of them>-01.",
            )
        self._jaeger = jaeger
        self._wanted = wanted
        self._absent = absent
        self._missed = False
        self._given, self._caller, flags = parts.groups() if parts else ("", "", "01")
        self._sampled = bool(int(flags, 16) & 1)

    def look(self, deadline: Deadline) -> Verdict:
        """Ask for the traces of the run once; only the last look goes on to find the broken link."""
        wanted = self._wanted
        traces = self._of_run(deadline, wanted.since)
        ours = [trace for trace in traces if self._carrier(trace, matching=True)]
        # The oldest counts, as in all checks of which there may be several answers.
        ours.sort(key=lambda trace: trace.spans[0].start)
        for trace in ours:
            if not self._fault(trace):
                return Verdict.yes(self._observed(trace, len(ours)), self._times(trace))
        if not deadline.final:
            self._missed = True
            return Verdict.no("not_found", "", {"traces": len(traces)})
        if ours:
            trace = max(ours, key=lambda one: (self._rank(one), one.spans[0].start))
            reason, hint = self._explained(deadline, trace, *(self._fault(trace) or ("not_found", "")))
            return Verdict.no(reason, hint, self._observed(trace, len(ours)))
        reason, hint = self._cause(deadline, traces)
        observed = {"traces": len(traces)}
        if self._absent and reason in BROKEN_CHAIN:
            hint = f"It stayed away, but a broken link proves nothing. {hint}"
            raise CheckError(reason, hint, transient=True, observed=observed)
        return Verdict.no(reason, hint, observed)

    def _of_run(self, deadline: Deadline, since: float) -> list[Trace]:
        """Return the traces in which a span of the service carries the run id."""
        wanted = self._wanted
        found = self._jaeger.traces(
            deadline,
            wanted.service,
            start=since,
            end=time.time() + AHEAD,
            limit=LIMIT,
            tags={wanted.tag: wanted.run_id},
        )
        return [trace for trace in found if self._carrier(trace, since=since)]

    def _carrier(self, trace: Trace, *, since: float | None = None, matching: bool = False) -> Span | None:
        """Return the first span of the service that carries the run id."""
        wanted = self._wanted
        bound = wanted.since if since is None else since
        # Jaeger keeps microseconds.
        return next(
            (
                span
                for span in trace.spans
                if span.service == wanted.service
                and _same(span.tags.get(wanted.tag), wanted.run_id)
                and span.start >= bound - 1e-6
                and not (matching and self._differences(span))
            ),
            None,
        )

    def _differences(self, span: Span) -> list[str]:
        match = self._wanted.match or {}
        return [name for name, value in match.items() if not _same(span.tags.get(name), value)]

    # One trace

    def _fault(self, trace: Trace) -> Cause | None:
        """Return the first thing that a trace lacks, or None."""
        wanted = self._wanted
        checks = (
            self._orphan if wanted.no_orphans else None,
            self._edge,
            self._size,
            self._skew,
            self._error,
        )
        return next((fault for check in checks if check and (fault := check(trace))), None)

    def _rank(self, trace: Trace) -> int:
        """Return how far a trace is from being as wanted: the later the fault is looked for, the nearer."""
        fault = self._fault(trace)
        return REASONS.index(fault[0]) if fault else len(REASONS)

    def _orphan(self, trace: Trace) -> Cause | None:
        known = trace.by_key
        caller = "" if self._caller in known else self._caller
        roots = [span for span in trace.spans if span.parent in ("", caller)]
        for span in trace.spans:
            if span.parent and span.parent not in known and span not in roots:
                remote = (
                    ""
                    if self._given or roots
                    else "; if that is the span of a caller who is not traced, give the header in traceparent"
                )
                return (
                    "orphan_span",
                    f"The parent {span.parent} of {span} is not in trace {trace.key}: the process that made it died before its spans "
                    f"were sent, or its exporter is off{remote}; see '{self._jaeger.show(trace.key)}'.",
                )
        if len(roots) != 1:
            names = ", ".join(map(str, roots[:SHOWN])) or "none: the spans are one another's parents"
            return (
                "orphan_span",
                f"Trace {trace.key} has {len(roots)} roots instead of one ({names}); see '{self._jaeger.show(trace.key)}'.",
            )
        return None

    def _edge(self, trace: Trace) -> Cause | None:
        missing = next((edge for edge in self._wanted.edges if edge not in _edges(trace)), None)
        if not missing:
            return None
        return "edge_missing", f"In trace {trace.key} no span of {missing[1]} has a parent of {missing[0]}"

    def _size(self, trace: Trace) -> Cause | None:
        if len(trace.spans) >= self._wanted.min_spans:
            return None
        return (
            "too_few_spans",
            f"Trace {trace.key} has {len(trace.spans)} spans, {self._wanted.min_spans} are wanted; "
            f"see '{self._jaeger.show(trace.key)}'.",
        )

    def _skew(self, trace: Trace) -> Cause | None:
        skews = [(abs(seconds), seconds, span, parent) for span, parent, seconds in _skews(trace)]
        if not skews:
            return None
        size, seconds, span, parent = max(skews, key=lambda one: one[0])
        if size <= self._wanted.max_skew:
            return None
        how = f"{size:.3f} s before its parent" if seconds < 0 else f"{size:.3f} s after the end of its caller"
        return (
            "clock_skew",
            f"{span} starts {how} {parent}: the clocks of the two hosts differ; compare them with 'date -u' and keep them with NTP; "
            f"see '{self._jaeger.show(trace.key)}'",
        )

    def _error(self, trace: Trace) -> Cause | None:
        wanted = self._wanted.error
        failed = [span for span in trace.spans if span.error]
        if wanted is True and not failed:
            return (
                "error_missing",
                f"No span of trace {trace.key} is marked as failed, though one should be; see '{self._jaeger.show(trace.key)}'.",
            )
        if wanted is False and failed:
            said = failed[0].tags.get("otel.status_description", "")
            return (
                "error_unexpected",
                f"{failed[0]} of trace {trace.key} is marked as failed{f' ({said})' if said else ''}; "
                f"see '{self._jaeger.show(trace.key)}'.",
            )
        return None

    def _explained(self, deadline: Deadline, trace: Trace, reason: str, hint: str) -> Cause:
        """Ask what only the last look needs to know."""
        if reason == "edge_missing":
            edge = next(edge for edge in self._wanted.edges if edge not in _edges(trace))
            return reason, f"{hint}: {self._why_no_edge(deadline, trace, *edge)}."
        if reason == "clock_skew":
            # With max_clock_skew_adjust at 0, its default, Jaeger warns without moving anything.
            adjusted = self._jaeger.trace(deadline, trace.key, adjusted=True)
            said = [one for span in (adjusted.spans if adjusted else ()) for one in span.warnings]
            told = next((one for one in said if "skew" in one or "adjusted" in one), None)
            return reason, f"{hint}; Jaeger itself {f'says: {told}' if told else 'does not warn'}."
        return reason, hint

    def _why_no_edge(self, deadline: Deadline, trace: Trace, caller: str, callee: str) -> str:
        known = trace.by_key
        here = [span for span in trace.spans if span.service == callee]
        if here:
            parent = known.get(here[0].parent)
            whose = (
                f"is {parent}" if parent else "is not in the trace" if here[0].parent else "is missing: it is the root"
            )
            return (
                f"{callee} is in the trace, but the parent of {here[0]} {whose}; see '{self._jaeger.show(trace.key)}'"
            )
        if not any(span.service == caller for span in trace.spans):
            return f"{caller} has no span in the trace either; see '{self._jaeger.show(trace.key)}'"
        elsewhere = [
            span
            for other in self._jaeger.traces(
                deadline, callee, start=self._wanted.since, end=time.time() + AHEAD, limit=20
            )
            for span in other.spans
            if span.service == callee and other.key != trace.key
        ]
        ours = [span for span in elsewhere if _same(span.tags.get(self._wanted.tag), self._wanted.run_id)]
        if ours or elsewhere:
            other = (ours or elsewhere)[0]
            which = "of this run " if ours else ""
            return (
                f"{callee} has spans {which}in other traces, such as {other} in {other.trace}, so {caller} doesn't pass the header "
                f"traceparent on, or {callee} doesn't read it; see '{self._jaeger.show(other.trace)}'"
            )
        call = next((span for span in trace.spans if span.service == caller and span.kind == "client"), None)
        if call is None:
            did = f"; {caller} has no span of a call, so it may not have called it"
        else:
            did = f"; the call {call} is marked as failed" if call.error else f"; the call {call} went well"
        if callee in self._jaeger.services(deadline):
            return (
                f"{callee} has sent no span since {format_time(self._wanted.since)}, so it is down or its exporter is off{did}; "
                f"see '{self._jaeger.show_services()}'"
            )
        return f"{callee} never sent a span, so it is down or its exporter is off{did}; see '{self._jaeger.show_services()}'"

    # No trace

    def _cause(self, deadline: Deadline, traces: list[Trace]) -> Cause:
        wanted = self._wanted
        if traces:
            return self._differing(traces)
        old = self._of_run(deadline, wanted.since - BEHIND)
        if old:
            newest = max(old, key=lambda trace: trace.spans[0].start)
            return (
                "stale_trace",
                f"The newest trace of run {wanted.run_id} started at {format_time(newest.spans[0].start)}, but must at "
                f"{format_time(wanted.since)} or later; see '{self._jaeger.show(newest.key)}'.",
            )
        known = self._jaeger.services(deadline)
        if wanted.service not in known:
            return (
                "service_unknown",
                f"Jaeger never got a span of {wanted.service}, it knows {', '.join(known[:SHOWN]) or 'none'}: its exporter is off, or sends to "
                "the wrong port (4317 is OTLP over gRPC, 4318 over HTTP, and 16686 says 200 to everything and keeps nothing); see "
                f"OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_SERVICE_NAME, and '{self._jaeger.show_services()}'.",
            )
        given = self._jaeger.trace(deadline, self._given) if self._given else None
        if given:
            names = ", ".join(sorted({span.service for span in given.spans}))
            return (
                "tag_missing",
                f"Trace {given.key} of traceparent is stored with spans of {names}, but no span of {wanted.service} carries "
                f"{wanted.tag}={wanted.run_id}; see '{self._jaeger.show(given.key)}'.",
            )
        if not self._sampled:
            return (
                "sampled_out",
                f"traceparent says with its flags that trace {self._given} is not sampled, so no process sends it; let the caller sample, "
                "or set OTEL_TRACES_SAMPLER to parentbased_always_on.",
            )
        return self._what_arrives(deadline)

    def _differing(self, traces: list[Trace]) -> Cause:
        carriers = [span for trace in traces if (span := self._carrier(trace))]
        nearest = min(carriers, key=lambda span: len(self._differences(span)))
        match = self._wanted.match or {}
        said = "; ".join(
            f"{name} is {nearest.tags.get(name, 'missing')!r} and not {match[name]!r}"
            for name in self._differences(nearest)
        )
        return (
            "tag_mismatch",
            f"{len(traces)} traces of run {self._wanted.run_id} are stored, but in the nearest span {nearest} {said}; "
            f"see '{self._jaeger.show(nearest.trace)}'.",
        )

    def _what_arrives(self, deadline: Deadline) -> Cause:
        wanted = self._wanted
        now = time.time()
        others = self._jaeger.traces(deadline, wanted.service, start=wanted.since, end=now + AHEAD, limit=20)
        see = f'see "{self._jaeger.show_traces(wanted.service)}"'
        if others:
            spans = [span for trace in others for span in trace.spans if span.service == wanted.service]
            runs = list(dict.fromkeys(str(span.tags[wanted.tag]) for span in spans if wanted.tag in span.tags))
            which = f"of {', '.join(runs[:3])}" if runs else f"without {wanted.tag}"
            sampler = (
                f"trace {self._given} of traceparent is not stored"
                if self._given
                else "a sampler below 1 leaves traces out, which traceparent would tell"
            )
            return (
                "not_found",
                f"Spans of {wanted.service} come, the newest {which}, but none of {wanted.run_id}: the request never came there, its "
                f"process died before it sent the span, or it wasn't sampled ({sampler}); {see}.",
            )
        old = self._jaeger.traces(deadline, wanted.service, start=wanted.since - BEHIND, end=wanted.since, limit=1)
        last = max(
            (span.start for trace in old for span in trace.spans if span.service == wanted.service), default=None
        )
        when = f"the newest is of {format_time(last)}" if last else "and none in the two days before"
        return (
            "nothing_arrives",
            f"No span of {wanted.service} came since {format_time(wanted.since)}, {when}: the service is down or idle, or its exporter no "
            f"longer reaches Jaeger; look into its log for the exporter's errors, and {see}.",
        )

    # What is shown

    def _observed(self, trace: Trace, traces: int) -> dict[str, Any]:
        root = next(
            (span for span in trace.spans if not span.parent or span.parent not in trace.by_key), trace.spans[0]
        )
        return {
            "traces": traces,
            "trace_id": trace.key,
            "root": f"{root.service} {root.name}",
            "spans": len(trace.spans),
            "services": dict(Counter(span.service for span in trace.spans)),
            "edges": [f"{one} -> {other}" for one, other in sorted(_edges(trace))],
            "errors": sum(span.error for span in trace.spans),
            "seconds": round(max(span.end for span in trace.spans) - trace.spans[0].start, 6),
        }

    def _times(self, trace: Trace) -> dict[str, float]:
        carrier = self._carrier(trace, matching=True) or trace.spans[0]
        times = {"started": carrier.start, "ended": max(span.end for span in trace.spans)}
        # Jaeger doesn't note when a trace could be found: it was between a look that missed it and this one.
        return {**times, "queryable": time.time()} if self._missed else times


def _edges(trace: Trace) -> set[tuple[str, str]]:
    """Return the pairs of services of which the first has a span that is the parent of one of the second."""
    known = trace.by_key
    return {
        (parent.service, span.service)
        for span in trace.spans
        if (parent := known.get(span.parent)) and parent.service != span.service
    }


def _skews(trace: Trace) -> list[tuple[Span, Span, float]]:
    """Return spans that can't have been when their parents say, with the seconds: negative before, positive after it."""
    known = trace.by_key
    found = []
    for span in trace.spans:
        parent = known.get(span.parent)
        if parent is None:
            continue
        if span.start < parent.start:
            found.append((span, parent, span.start - parent.start))
        # Who waits for an answer can't get it before the work begins; other children may well start later.
        elif (parent.kind, span.kind) == ("client", "server") and span.start > parent.end:
            found.append((span, parent, span.start - parent.end))
    return found


def _same(found: Any, wanted: Any) -> bool:
    """Return whether a tag has a value, whether written as a number, as true or false, or as a text."""

    def text(value: Any) -> str:
        return str(value).lower() if isinstance(value, bool) else str(value)

    return found is not None and text(found) == text(wanted)
