"""Settings: what is accepted, and one sentence for what is not."""

from __future__ import annotations

import socket

import pytest
from flask_metrics.config import ConfigError, Settings


def test_defaults_listen_on_loopback_without_spans():
    settings = Settings.from_env({})
    assert (settings.host, settings.port, settings.threads) == ("127.0.0.1", 5000, 8)
    assert settings.service_name == "flask-metrics"
    assert settings.traces is False
    assert (settings.catalog_url, settings.catalog_timeout_ms) == (None, 1000)


def test_every_variable_is_read():
    env = {"APP_HOST": "::1", "APP_PORT": "65535", "APP_THREADS": "1", "OTEL_SERVICE_NAME": "shop"}
    settings = Settings.from_env(env)
    assert (settings.host, settings.port, settings.threads, settings.service_name) == ("::1", 65535, 1, "shop")


@pytest.mark.parametrize("url", ["http://catalog", "https://[::1]:5001/", "http://catalog.shop.svc:5001/items"])
def test_the_catalogue_is_read(url):
    settings = Settings.from_env({"APP_CATALOG_URL": url, "APP_CATALOG_TIMEOUT_MS": "250"})
    assert (settings.catalog_url, settings.catalog_timeout_ms) == (url, 250)
    assert Settings.from_env({"APP_CATALOG_URL": ""}).catalog_url is None


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_an_endpoint_turns_spans_on(name):
    assert Settings.from_env({name: "http://127.0.0.1:4318"}).traces is True
    assert Settings.from_env({name: ""}).traces is False


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_PORT", "http"),
        ("APP_PORT", ""),
        ("APP_PORT", "-1"),
        ("APP_PORT", "65536"),
        ("APP_PORT", "5000.0"),
        ("APP_PORT", "5_000"),
        ("APP_PORT", " 5000"),
        ("APP_PORT", "\u0665\u0660\u0660\u0660"),
        ("APP_PORT", "9" * 5000),
        ("APP_THREADS", "0"),
        ("APP_THREADS", "257"),
        ("APP_THREADS", "many"),
        ("APP_HOST", ""),
        ("APP_HOST", "127.0.0.1 "),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://127.0.0.1:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:port/v1/traces"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", " http://127.0.0.1:4318"),
        ("APP_CATALOG_URL", "catalog:5001"),
        ("APP_CATALOG_URL", "unix:///run/catalog"),
        ("APP_CATALOG_URL", "http://cata log"),
        ("APP_CATALOG_URL", "http://catalog:0"),
        ("APP_CATALOG_URL", "http://catalog:99999"),
        ("APP_CATALOG_URL", "http://user:word@catalog"),
        ("APP_CATALOG_URL", "http://catalog/?page=1"),
        ("APP_CATALOG_URL", "http://catalog/#top"),
        ("APP_CATALOG_URL", "http://catalog/é"),
        ("APP_CATALOG_TIMEOUT_MS", "0"),
        ("APP_CATALOG_TIMEOUT_MS", "60001"),
        ("APP_CATALOG_TIMEOUT_MS", "1s"),
    ],
)
def test_malformed_value_is_one_sentence_with_variable_value_and_remedy(name, value):
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({name: value})
    sentence = str(caught.value)
    assert sentence.startswith(f"{name} is {value!r}; set it to ")
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize("value", ["http", "70000"])
def test_process_with_malformed_port_exits_2_before_anything(start_child, value):
    code, lines, err = start_child(APP_PORT=value).finish()
    assert (code, lines) == (2, [])
    assert err.splitlines() == [f"APP_PORT is {value!r}; set it to a whole number from 0 to 65535, for example 5000."]


def test_busy_port_is_named(start_child):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, lines, err = start_child(APP_PORT=str(port)).finish()
    assert (code, lines) == (2, [])
    assert len(err.splitlines()) == 1
    assert f"APP_PORT is {port}" in err
    assert "Address already in use" in err


def test_unknown_host_is_named(start_child):
    code, lines, err = start_child(APP_HOST="no-such-host.invalid").finish()
    assert (code, lines) == (2, [])
    assert len(err.splitlines()) == 1
    assert "APP_HOST is 'no-such-host.invalid'" in err
