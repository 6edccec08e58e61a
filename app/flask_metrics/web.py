"""The application: its routes and what is recorded for each request."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

from flask import Flask, Response, has_request_context, request

from .catalog import Catalog, CatalogError
from .config import Settings
from .logs import JsonLog
from .metrics import KNOWN_METHODS, OTHER_METHOD, UNMATCHED_ROUTE, RequestMetrics

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .tracing import Tracing

RUN_ID = re.compile(r"[A-Za-z0-9._-]{1,40}")
RUN_ID_HEADER = "X-Vigie-Run-Id"
# Scrapes and probes: measuring, logging or tracing them would drown the traffic that people look for.
QUIET_PATHS = frozenset({"/metrics", "/healthz", "/readyz"})
CRASH_EXIT_CODE = 1
CRASH_FLUSH_SECONDS = 1.0

_RUN_ID_VARIABLE = "HTTP_" + RUN_ID_HEADER.upper().replace("-", "_")
_TRACE_HEADERS = {"HTTP_TRACEPARENT": "traceparent", "HTTP_TRACESTATE": "tracestate"}
_STARTED = "flask_metrics.started"
_RUN_ID = "flask_metrics.run_id"


@dataclass
class Service:
    """What belongs to one application object; found again with `service_of`."""

    settings: Settings
    log: JsonLog
    metrics: RequestMetrics | None
    tracing: Tracing | None
    catalog: Catalog | None = None
    phase: str = "starting"
    """One of ``starting``, ``ready``, ``stopping``; only the second one is ready to serve."""

    def request_fields(self) -> dict[str, Any]:
        """Log fields that identify the request being served; empty outside of a request."""
        if not has_request_context():
            return {}
        ids = self.tracing.current_ids() if self.tracing else None
        return {
            "run_id": request.environ.get(_RUN_ID),
            "trace_id": ids[0] if ids else None,
            "span_id": ids[1] if ids else None,
        }


def service_of(app: Flask) -> Service:
    """Return the `Service` of an application made by `create_app`."""
    service: Service = app.extensions["flask_metrics"]
    return service


def create_app(settings: Settings | None = None, log: JsonLog | None = None) -> Flask:
    """Build the application; each call has its own registry, log and span pipeline.

    Args:
        settings: by default, the defaults of `Settings` (not the environment).
        log: by default, one that writes to standard output.
    """
    settings = settings or Settings()
    app = Flask("flask_metrics", static_folder=None)
    tracing = None
    if settings.traces:
        # Here and not above: without an endpoint the process never pays for the import.
        from .tracing import Tracing

        tracing = Tracing(app, settings.service_name)
    metrics = RequestMetrics() if settings.metrics else None
    catalog = None
    if settings.catalog_url:
        catalog = Catalog(settings.catalog_url, settings.catalog_timeout_ms / 1000)
    service = Service(settings, log or JsonLog(), metrics, tracing, catalog)
    app.extensions["flask_metrics"] = service
    _add_routes(app, service)
    _observe(app, service)
    return app


def _add_routes(app: Flask, service: Service) -> None:
    def greeting() -> dict[str, Any]:
        answer: dict[str, Any] = {"message": "Hello from Vigie", "service": service.settings.service_name}
        if service.catalog:
            answer["catalog"] = _ask(service.catalog, service)
        return answer

    def healthz() -> dict[str, str]:
        return {"status": "alive"}

    def readyz() -> tuple[dict[str, str], int]:
        return {"status": service.phase}, 200 if service.phase == "ready" else 503

    def crash() -> NoReturn:
        _crash(service)

    def exposition() -> Response:
        assert service.metrics is not None
        body, content_type = service.metrics.exposition(request.headers.get("Accept", ""))
        return Response(body, content_type=content_type)

    def add(rule: str, view: Any, *methods: str) -> None:
        app.add_url_rule(rule, view_func=view, methods=methods or ("GET",), provide_automatic_options=False)

    add("/", greeting)
    add("/healthz", healthz)
    add("/readyz", readyz)
    add("/crash", crash, "GET", "POST")
    if service.metrics:
        add("/metrics", exposition)


def _ask(catalog: Catalog, service: Service) -> dict[str, Any]:
    """Ask the catalogue within the request being served; one that is down is logged, traced and part of the answer."""
    environ = request.environ
    run_id = environ.get(_RUN_ID)
    call = None
    if service.tracing:
        call = service.tracing.call("GET", catalog.url, catalog.host, catalog.port, run_id)
        headers = dict(call.headers)
    else:
        # No part of the trace, but no end of it either.
        headers = {name: environ[variable] for variable, name in _TRACE_HEADERS.items() if variable in environ}
    if run_id:
        headers[RUN_ID_HEADER] = run_id
    try:
        items = catalog.items(headers)
    except CatalogError as error:
        if call:
            call.end(error.status, error.kind, str(error))
        service.log.write("error", f"catalog {catalog.url} is unavailable: {error}", **service.request_fields())
        return {"status": "unavailable"}
    if call:
        call.end(200)
    return {"status": "ok", "items": items}


def _crash(service: Service) -> NoReturn:
    """End the process at once, as a real crash would, but not before its span and log line are out."""
    message = f"crash requested: process exits with code {CRASH_EXIT_CODE}"
    try:
        fields = service.request_fields()
        if service.tracing:
            service.tracing.crashing(request.method, "/crash", message, CRASH_FLUSH_SECONDS)
        # After the spans, so that it is the last line even if their export has something to say.
        service.log.write(
            "critical",
            message,
            method=request.method,
            route="/crash",
            duration_ms=_milliseconds(perf_counter() - request.environ[_STARTED]),
            **fields,
        )
    finally:
        os._exit(CRASH_EXIT_CODE)


def _observe(app: Flask, service: Service) -> None:
    """Wrap ``app`` so that each request is measured, logged and traced as the settings say."""
    metrics, tracing, log = service.metrics, service.tracing, service.log

    def record(response: Response) -> Response:
        environ = request.environ
        started = environ.get(_STARTED)
        if started is None:
            return response
        seconds = perf_counter() - started
        run_id = environ.get(_RUN_ID)
        method = _method(environ)
        rule = request.url_rule
        status = response.status_code
        ids = None
        if tracing:
            ids = tracing.current_ids()
            tracing.answered(method, rule.rule if rule else None, status)
        route = rule.rule if rule else UNMATCHED_ROUTE
        if metrics:
            exemplar = {}
            if ids and ids[2]:  # a span that is not sampled is stored nowhere: nothing to point at
                exemplar["trace_id"] = ids[0]
            if run_id:
                exemplar["run_id"] = run_id
            metrics.record(method, route, status, seconds, exemplar or None)
        if service.settings.logs:
            log.write(
                "info" if status < 400 else "warning" if status < 500 else "error",
                f"{environ['REQUEST_METHOD']} {request.path} {status}",
                method=method,
                route=route,
                status=status,
                duration_ms=_milliseconds(seconds),
                run_id=run_id,
                trace_id=ids[0] if ids else None,
                span_id=ids[1] if ids else None,
            )
        return response

    app.after_request(record)
    inner: WSGIApplication = app.wsgi_app

    def observed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        run_id = environ.get(_RUN_ID_VARIABLE)
        if run_id and not RUN_ID.fullmatch(run_id):
            run_id = None
        if run_id:
            environ[_RUN_ID] = run_id
            if metrics:
                metrics.run_last_seen.see(run_id)
        if environ.get("PATH_INFO") in QUIET_PATHS:
            return inner(environ, start_response)
        environ[_STARTED] = perf_counter()
        span = tracing.begin(environ, _method(environ), run_id) if tracing else None
        if metrics:
            metrics.active_users.inc()
        try:
            return inner(environ, start_response)
        finally:
            if metrics:
                metrics.active_users.dec()
            if tracing and span:
                tracing.end(span)

    app.wsgi_app = observed  # type: ignore[method-assign]


def _method(environ: WSGIEnvironment) -> str:
    method: str = environ["REQUEST_METHOD"]
    return method if method in KNOWN_METHODS else OTHER_METHOD


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
