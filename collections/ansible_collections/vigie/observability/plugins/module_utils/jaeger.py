# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Jaeger's HTTP query API as data: services and traces, with the times as the processes sent them. Works with Jaeger 2.13 and later.

``/api/traces`` and ``/api/services`` are in all versions up to 2.20; then they went, and ``/api/v3`` does the same. The older is asked
first, because only it searches by tags in versions below 2.20.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Response, Transport
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import reading
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import format_time
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

_WARNINGS = "@jaeger@warnings"
"""Attribute in which /api/v3 has what Jaeger remarks on a span."""

_KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


@dataclass(frozen=True)
class Span:
    """One piece of work of a process.

    Attributes:
        trace: id of its trace, 32 hexadecimal digits.
        key: its id, 16 hexadecimal digits.
        parent: id of the span that caused it; empty when there is none.
        service: name of the process' service.
        name: what was done.
        kind: server, client, producer, consumer or internal.
        start: Unix seconds, by the clock of its process.
        end: Unix seconds, by the same clock.
        error: whether it is marked as failed.
        tags: names and values.
        warnings: what Jaeger remarks on it, where it was asked to.
    """

    trace: str
    key: str
    parent: str
    service: str
    name: str
    kind: str
    start: float
    end: float
    error: bool = False
    tags: dict[str, Any] = field(default_factory=dict, compare=False)
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.service} '{self.name}' ({self.key})"


@dataclass(frozen=True)
class Trace:
    """The spans of one trace, each once, the oldest first."""

    key: str
    spans: tuple[Span, ...]

    @property
    def by_key(self) -> dict[str, Span]:
        """Its spans by their ids."""
        return {span.key: span for span in self.spans}


class Jaeger:
    """A client that asks only what it is asked, one request for each call.

    Args:
        transport: way to the API.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._v3 = False

    @property
    def address(self) -> str:
        """Where Jaeger is, for people."""
        return self._transport.address

    def show(self, trace: str) -> str:
        """Return the command that shows a trace."""
        return self._transport.command(f"/api/v3/traces/{trace}" if self._v3 else f"/api/traces/{trace}")

    def show_services(self) -> str:
        """Return the command that shows the names of services."""
        return self._transport.command("/api/v3/services" if self._v3 else "/api/services")

    def show_traces(self, service: str) -> str:
        """Return the command that shows the newest traces of a service."""
        if not self._v3:
            return self._transport.command("/api/traces", {"service": service, "limit": "5"})
        return self._transport.command("/api/v3/services")

    def services(self, deadline: Deadline) -> list[str]:
        """Return the names of all services that ever sent a span which is still kept."""
        answer = None if self._v3 else self._older(deadline, "/api/services")
        if answer is not None:
            with reading("list of services"):
                return sorted(str(name) for name in answer["data"] or [])
        answer = self._newer(deadline, "/api/v3/services")
        with reading("list of services"):
            return sorted(str(name) for name in answer.get("services") or [])

    def traces(
        self,
        deadline: Deadline,
        service: str,
        *,
        start: float,
        end: float,
        limit: int,
        tags: dict[str, str] | None = None,
    ) -> list[Trace]:
        """Return the newest traces with a span of a service that started within some time.

        Args:
            deadline: of the look.
            service: name of the service.
            start: Unix seconds.
            end: Unix seconds.
            limit: number of traces at most.
            tags: what that span must carry. Some versions pass over it, so compare again.

        Raises:
            CheckError: ``bad_answer`` when something else answered; else see Transport.request.
        """
        if not self._v3:
            query: dict[str, Any] = {
                "service": service,
                "start": int(start * 1e6),
                "end": int(end * 1e6),
                "limit": limit,
                # The times as they were sent: Jaeger would move those that it takes for skewed.
                "raw": "true",
            }
            if tags:
                query["tags"] = json.dumps(tags)
            answer = self._older(deadline, "/api/traces", query)
            if answer is not None:
                with reading("list of traces"):
                    return _gathered(span for one in answer["data"] or [] for span in _older_spans(one))
        # Deprecated spellings, which all versions know.
        query = {
            "query.service_name": service,
            "query.start_time_min": format_time(start),
            "query.start_time_max": format_time(end),
            "query.num_traces": limit,
            "query.raw_traces": "true",
        }
        if tags:
            query["query.attributes"] = json.dumps(tags)
        answer = self._newer(deadline, "/api/v3/traces", query)
        with reading("list of traces"):
            return _gathered(_newer_spans(answer))

    def trace(self, deadline: Deadline, key: str, *, adjusted: bool = False) -> Trace | None:
        """Return a trace by its id, or None when it isn't kept.

        Args:
            deadline: of the look.
            key: 32 hexadecimal digits.
            adjusted: with what Jaeger remarks, and the times as it takes them to be.
        """
        raw = "false" if adjusted else "true"
        answer = None if self._v3 else self._older(deadline, f"/api/traces/{quote(key, safe='')}", {"raw": raw})
        if answer is not None:
            with reading("trace"):
                found = _gathered(span for one in answer["data"] or [] for span in _older_spans(one))
        else:
            answer = self._newer(deadline, f"/api/v3/traces/{quote(key, safe='')}", {"raw_traces": raw})
            with reading("trace"):
                found = _gathered(_newer_spans(answer))
        return next((one for one in found if one.key == key.lower().zfill(32)), None)

    def _older(self, deadline: Deadline, path: str, query: Any = None) -> Any:
        """Return an answer of the older API, or None when this Jaeger hasn't got it."""
        response = self._get(deadline, path, query)
        if response.status == 404 and not _is_json(response):
            self._v3 = True
            return None
        answer = response.json()
        if response.status == 404:
            return {"data": []}
        return answer

    def _newer(self, deadline: Deadline, path: str, query: Any = None) -> Any:
        response = self._get(deadline, path, query)
        if response.status == 404 and not _is_json(response):
            raise CheckError(
                "bad_answer",
                f"{self.address} has neither /api/traces nor /api/v3/traces, so it isn't Jaeger's query API (port 16686), or its base "
                "path is missing in the endpoint.",
            )
        answer = response.json()
        return {} if response.status == 404 else answer

    def _get(self, deadline: Deadline, path: str, query: Any) -> Response:
        return self._transport.request("GET", path, query=query, timeout=deadline.request_timeout, accept=(200, 404))


def _is_json(response: Response) -> bool:
    # The type says nothing here: errors of /api/v3 come as text/plain.
    return response.body.lstrip().startswith(b"{")


def _gathered(spans: Iterable[Span]) -> list[Trace]:
    """Return spans by their traces; what a process sent twice is there once."""
    found: dict[str, dict[tuple[str, str], Span]] = {}
    for span in spans:
        found.setdefault(span.trace, {}).setdefault((span.key, span.service), span)
    return [
        Trace(key, tuple(sorted(of_trace.values(), key=lambda span: span.start))) for key, of_trace in found.items()
    ]


def _older_spans(trace: dict[str, Any]) -> Iterable[Span]:
    processes = trace["processes"]
    for span in trace["spans"]:
        tags = {one["key"]: one["value"] for one in span["tags"] or []}
        parents = [
            one["spanID"]
            for one in span["references"] or []
            if one["refType"] == "CHILD_OF" and one["traceID"] == span["traceID"]
        ]
        start = int(span["startTime"])
        yield Span(
            trace=str(span["traceID"]).lower().zfill(32),
            key=str(span["spanID"]).lower().zfill(16),
            parent=str(parents[0]).lower().zfill(16) if parents else "",
            service=str(processes[span["processID"]]["serviceName"]),
            name=str(span["operationName"]),
            kind=str(tags.get("span.kind", "internal")),
            start=start / 1e6,
            end=(start + int(span["duration"])) / 1e6,
            error=str(tags.get("error", "")).lower() == "true",
            tags=tags,
            warnings=tuple(str(one) for one in span["warnings"] or []),
        )


def _newer_spans(answer: dict[str, Any]) -> Iterable[Span]:
    """Read OTLP as JSON."""
    for resource in (answer.get("result") or {}).get("resourceSpans") or []:
        about = _attributes((resource.get("resource") or {}).get("attributes"))
        for scope in resource.get("scopeSpans") or []:
            for span in scope.get("spans") or []:
                tags = _attributes(span.get("attributes"))
                warnings = tags.pop(_WARNINGS, [])
                kind = span.get("kind", 0)
                status = (span.get("status") or {}).get("code", 0)
                yield Span(
                    trace=str(span["traceId"]).lower(),
                    key=str(span["spanId"]).lower(),
                    parent=str(span.get("parentSpanId") or "").lower(),
                    service=str(about.get("service.name", "")),
                    name=str(span.get("name", "")),
                    kind=_KINDS.get(kind, "internal")
                    if isinstance(kind, int)
                    else str(kind).removeprefix("SPAN_KIND_").lower(),
                    start=int(span["startTimeUnixNano"]) // 1000 / 1e6,
                    end=int(span["endTimeUnixNano"]) // 1000 / 1e6,
                    error=status in (2, "STATUS_CODE_ERROR"),
                    tags=tags,
                    warnings=tuple(str(one) for one in warnings) if isinstance(warnings, list) else (str(warnings),),
                )


def _attributes(found: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {one["key"]: _value(one.get("value") or {}) for one in found or []}


def _value(value: dict[str, Any]) -> Any:
    """Return an attribute's value without the name of its type."""
    for kind, inner in value.items():
        if kind == "arrayValue":
            return [_value(one) for one in (inner or {}).get("values") or []]
        if kind == "intValue":
            return int(inner)  # a text, since JSON has no 64-bit integers
        return inner
    return ""
