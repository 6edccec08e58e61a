"""Settings of the service, read from the environment and checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

TRACES_ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class ConfigError(Exception):
    """A setting that cannot be used; the text is one sentence naming variable, value and remedy."""


@dataclass(frozen=True)
class Settings:
    """What one process of the service needs to know.

    The switches ``metrics``, ``logs`` and ``traces`` turn off the work done *per request*; they exist so that the
    cost of each can be measured. Lifecycle and crash lines are logged whatever ``logs`` says.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    threads: int = 8
    service_name: str = "flask-metrics"
    metrics: bool = True
    logs: bool = True
    traces: bool = False
    catalog_url: str | None = None
    """Where `/` asks the second service, None: nowhere."""
    catalog_timeout_ms: int = 1000

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read ``APP_*`` and ``OTEL_*`` variables.

        Spans are on if and only if an OTLP endpoint is set: without one there is nowhere to send them.

        Raises:
            ConfigError: a value is malformed or out of range.
        """
        host = env.get("APP_HOST", cls.host)
        if not host or any(character.isspace() for character in host):
            raise ConfigError(f"APP_HOST is {host!r}; set it to an address or host name such as {cls.host}.")
        endpoints = {name: env[name] for name in TRACES_ENDPOINT_VARIABLES if env.get(name)}
        for name, endpoint in endpoints.items():
            _check_url(name, endpoint, "an OTLP/HTTP address such as http://127.0.0.1:4318")
        catalog_url = env.get("APP_CATALOG_URL") or None
        if catalog_url:
            _check_catalog_url(catalog_url)
        return cls(
            host=host,
            port=_integer(env, "APP_PORT", cls.port, 0, 65535),
            threads=_integer(env, "APP_THREADS", cls.threads, 1, 256),
            service_name=env.get("OTEL_SERVICE_NAME") or cls.service_name,
            traces=bool(endpoints),
            catalog_url=catalog_url,
            catalog_timeout_ms=_integer(env, "APP_CATALOG_TIMEOUT_MS", cls.catalog_timeout_ms, 1, 60000),
        )


def _integer(env: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = env.get(name)
    if text is None:
        return default
    # int() alone would accept "5_000", " 5000" and digits of other scripts.
    if text.isascii() and text.isdigit() and low <= int(text[:10]) <= high:
        return int(text)
    raise ConfigError(f"{name} is {text!r}; set it to a whole number from {low} to {high}, for example {default}.")


def _check_url(name: str, value: str, wanted: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    # The parser drops some white space and keeps the rest.
    if not usable or any(character.isspace() for character in value):
        raise ConfigError(f"{name} is {value!r}; set it to {wanted}.")
    return parts


def _check_catalog_url(value: str) -> None:
    wanted = "the catalogue's address such as http://127.0.0.1:5001, without user, query or fragment"
    parts = _check_url("APP_CATALOG_URL", value, wanted)
    # It is written to the log and into spans, and sent as the first line of a request.
    if "@" in parts.netloc or "?" in value or "#" in value or not value.isascii():
        raise ConfigError(f"APP_CATALOG_URL is {value!r}; set it to {wanted}.")
