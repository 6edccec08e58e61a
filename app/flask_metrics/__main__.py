"""``python -m flask_metrics``: one process, several threads, no parent that would survive a crash."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from typing import Any

from flask import Flask
from waitress import create_server, wasyncore

from .config import ConfigError, Settings
from .logs import JsonLogHandler
from .web import create_app, service_of

DRAIN_SECONDS = 3.0
SHUTDOWN_FLUSH_SECONDS = 2.0


def main() -> int:
    """Run the service until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 after a signal, 2 if the settings cannot be used (one sentence on standard error).
    """
    try:
        settings = Settings.from_env(os.environ)
        listener = listen(settings)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    app = create_app(settings)
    service = service_of(app)
    logging.basicConfig(handlers=[JsonLogHandler(service.log, service.request_fields)], level=logging.WARNING)
    serve(app, listener)
    return 0


def listen(settings: Settings) -> socket.socket:
    """Open the listening socket.

    Raises:
        ConfigError: the address cannot be used (busy port, unknown host, no permission).
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise ConfigError(
            f"APP_HOST is {settings.host!r} and APP_PORT is {settings.port}, but this address cannot be listened on "
            f"({error.strerror or error}); stop the process that uses it or set another APP_HOST or APP_PORT."
        ) from error


def serve(app: Flask, listener: socket.socket) -> None:
    """Answer requests on ``listener`` until SIGTERM or SIGINT, then finish those in progress and return.

    While the last requests are finished `/readyz` says 503; after `DRAIN_SECONDS` what is left is abandoned.
    """
    service = service_of(app)
    sockets: dict[int, Any] = {}
    settings = service.settings
    # The name is what spans call the server; with a socket of ours waitress would say waitress.invalid.
    server = create_server(app, map=sockets, sockets=[listener], threads=settings.threads, server_name=settings.host)
    deadline = float("inf")

    def stop(signum: int, frame: object) -> None:
        nonlocal deadline
        if service.phase != "stopping":
            service.phase = "stopping"
            deadline = time.monotonic() + DRAIN_SECONDS
        server.pull_trigger()  # wakes the loop below

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    # A request that arrives before its worker thread waits for work is reported as a queue that builds up.
    while server.task_dispatcher.active_count:
        time.sleep(0.001)
    host, port = listener.getsockname()[:2]
    if service.phase == "starting":
        service.phase = "ready"
    service.log.write(
        "info",
        "listening",
        host=host,
        port=port,
        pid=os.getpid(),
        traces=settings.traces,
        catalog_url=settings.catalog_url,
    )
    # Not server.run(): it ends only by an exception out of the signal handler and then answers nothing any more.
    while service.phase != "stopping" or (_busy(server) and time.monotonic() < deadline):
        wasyncore.loop(timeout=1.0, use_poll=True, map=sockets, count=1)
    server.task_dispatcher.shutdown(timeout=1)
    server.close()
    if service.tracing:
        service.tracing.shutdown(SHUTDOWN_FLUSH_SECONDS)
    service.log.write("info", "stopped", pid=os.getpid())


def _busy(server: Any) -> bool:
    return any(channel.requests or channel.total_outbufs_len for channel in list(server.active_channels.values()))


if __name__ == "__main__":
    sys.exit(main())
