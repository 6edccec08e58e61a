"""Spans by OpenTelemetry. Imported only when an OTLP endpoint is set.

The spans are made here and not by opentelemetry-instrumentation-flask: that one collects and sets all attributes twice
and builds the full URL of each request to compare it with its exclusions, which costs more than everything else that
is recorded for a request (figures in app/README.md). Names and attributes are those of the HTTP semantic conventions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Token
from typing import TYPE_CHECKING

from flask import Flask, got_request_exception
from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_ATTRIBUTES = {
    "REMOTE_ADDR": "client.address",
    "HTTP_USER_AGENT": "user_agent.original",
    "SERVER_NAME": "server.address",
    "PATH_INFO": "url.path",
    "wsgi.url_scheme": "url.scheme",
}


class _HeaderGetter(Getter["WSGIEnvironment"]):
    """Reads the headers of trace propagation."""

    def get(self, carrier: WSGIEnvironment, key: str) -> list[str] | None:
        value = carrier.get("HTTP_" + key.upper().replace("-", "_"))
        return None if value is None else [value]

    def keys(self, carrier: WSGIEnvironment) -> list[str]:
        return [key[5:].replace("_", "-").lower() for key in carrier if key.startswith("HTTP_")]


_HEADERS = _HeaderGetter()


class Tracing:
    """The span pipeline of one application: one server span per request, batches, OTLP over HTTP."""

    def __init__(self, app: Flask, service_name: str) -> None:
        """Build the pipeline; endpoint, headers, sampler and batch sizes come from the ``OTEL_*`` variables."""
        no_metrics = NoOpMeterProvider()
        # Not at exit: the SDK would wait for a collector that is down for longer than a supervisor waits for us.
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service_name}), shutdown_on_exit=False, meter_provider=no_metrics
        )
        exporter = OTLPSpanExporter(meter_provider=no_metrics)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, meter_provider=no_metrics))
        self._tracer = self._provider.get_tracer(__package__)
        got_request_exception.connect(self._failed, app)

    def begin(self, environ: WSGIEnvironment, method: str, run_id: str | None) -> Token[context.Context]:
        """Start the span of a request, as a child of the caller's, and make it the current one.

        Returns:
            What `end` needs.
        """
        attributes = {name: environ[key] for key, name in _ATTRIBUTES.items() if environ.get(key)}
        attributes["http.request.method"] = method
        if run_id:
            attributes["vigie.run_id"] = run_id
        parent = propagate.extract(environ, getter=_HEADERS)
        span = self._tracer.start_span(method, parent, trace.SpanKind.SERVER, attributes)
        return context.attach(trace.set_span_in_context(span, parent))

    def call(self, method: str, url: str, host: str, port: int, run_id: str | None) -> Call:
        """Start the span of a request to another service, as a child of the current span."""
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "url.full": url,
            "server.address": host,
            "server.port": port,
        }
        if run_id:
            attributes["vigie.run_id"] = run_id
        return Call(self._tracer.start_span(method, kind=trace.SpanKind.CLIENT, attributes=attributes))

    def answered(self, method: str, route: str | None, status: int) -> None:
        """Complete the current span with what is known once there is a response."""
        span = trace.get_current_span()
        _set_route(span, method, route)
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(trace.StatusCode.ERROR)

    def crashing(self, method: str, route: str, description: str, timeout: float) -> bool:
        """End the current span as an error and export all ended spans, in ``timeout`` seconds at most.

        Returns:
            False if the spans could not be handed over in time.
        """
        span = trace.get_current_span()
        _set_route(span, method, route)
        span.set_status(trace.StatusCode.ERROR, description)
        span.end()
        return self.flush(timeout)

    def end(self, token: Token[context.Context]) -> None:
        """End the span that `begin` started and restore the context from before it."""
        trace.get_current_span().end()
        context.detach(token)

    def current_ids(self) -> tuple[str, str, bool] | None:
        """Trace id, span id (hexadecimal) and whether the span is sampled, or None outside of a span."""
        current = trace.get_current_span().get_span_context()
        if not current.is_valid:
            return None
        return f"{current.trace_id:032x}", f"{current.span_id:016x}", current.trace_flags.sampled

    def flush(self, timeout: float) -> bool:
        """Export all ended spans; give up after ``timeout`` seconds and return False."""
        return _bounded(self._provider.force_flush, timeout)

    def shutdown(self, timeout: float) -> bool:
        """Export all ended spans and stop; give up after ``timeout`` seconds and return False."""
        return _bounded(self._provider.shutdown, timeout)

    def _failed(self, sender: Flask, exception: BaseException) -> None:
        trace.get_current_span().record_exception(exception)


class Call:
    """The client span of one request to another service."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.headers: dict[str, str] = {}
        """What makes the other service's span a child of this one; to be sent with the request."""
        propagate.inject(self.headers, trace.set_span_in_context(span))

    def end(self, status: int | None, kind: str | None = None, description: str | None = None) -> None:
        """End the span, as an error if there is a ``kind`` of error."""
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
        if kind is not None:
            self._span.set_attribute("error.type", kind)
            self._span.set_status(trace.StatusCode.ERROR, description)
        self._span.end()


def _set_route(span: trace.Span, method: str, route: str | None) -> None:
    if route:
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)


def _bounded(call: Callable[[], object], timeout: float) -> bool:
    # The SDK accepts a timeout but ignores it (open-telemetry/opentelemetry-python#4568).
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(timeout)
    return not thread.is_alive()
