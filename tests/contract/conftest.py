"""Runs the modules in process, as Ansible would call them, against real Prometheus and Alertmanager on 127.0.0.1."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "charts"))

from systems import (
    CRITICAL,
    AlertmanagerServer,
    Exporter,
    PrometheusServer,
    RunModule,
    WebServer,
    eventually,
    fetch,
    find_program,
    free_port,
    rule,
    runnable,
)


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Return a function that runs a module of the collection and returns its result, ``failed`` included."""

    def run(module_name: str, /, *, check_mode: bool = False, diff: bool = False, **arguments: Any) -> dict[str, Any]:
        module = importlib.import_module(f"ansible_collections.vigie.observability.plugins.modules.{module_name}")
        capsys.readouterr()
        settings = {"_ansible_check_mode": check_mode, "_ansible_diff": diff}
        with patch_module_args({**arguments, **settings}), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        result.setdefault("failed", False)
        return result

    return run


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """The real programs, each with the working directory that it needs."""
    folder = tmp_path_factory.mktemp("programs")
    return {
        "prometheus": runnable(find_program("VIGIE_PROMETHEUS", "prometheus"), folder),
        "alertmanager": runnable(find_program("VIGIE_ALERTMANAGER", "prometheus-alertmanager"), folder),
    }


@pytest.fixture(scope="session")
def make_prometheus(
    programs: dict[str, tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], PrometheusServer]]:
    """Return a function that makes a Prometheus, not started yet."""
    made: list[PrometheusServer] = []

    def make() -> PrometheusServer:
        program, cwd = programs["prometheus"]
        made.append(PrometheusServer(program, tmp_path_factory.mktemp("prometheus"), cwd))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def make_alertmanager(
    programs: dict[str, tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], AlertmanagerServer]]:
    """Return a function that makes an Alertmanager, not started yet."""
    made: list[AlertmanagerServer] = []

    def make() -> AlertmanagerServer:
        program, cwd = programs["alertmanager"]
        made.append(AlertmanagerServer(program, tmp_path_factory.mktemp("alertmanager"), cwd))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="session")
def exporter() -> Iterator[Exporter]:
    """The exporter that the shared Prometheus scrapes."""
    one = Exporter()
    yield one
    one.web.stop()


@pytest.fixture(scope="session")
def hook() -> Iterator[WebServer]:
    """A webhook that takes every notification."""
    server = WebServer()
    server.text("/", "thanks")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def alertmanager(make_alertmanager: Callable[[], AlertmanagerServer], hook: WebServer) -> AlertmanagerServer:
    """The Alertmanager to which the shared Prometheus sends. The default receiver is ``null``; critical alerts go to ``hook``."""
    server = make_alertmanager()
    server.start(
        {
            "route": {
                "receiver": "null",
                "group_by": ["alertname", "case"],
                "group_wait": "200ms",
                "group_interval": "500ms",
                "routes": [
                    {
                        "receiver": "hook",
                        "matchers": ['severity="critical"'],
                        "group_wait": "100ms",
                        "repeat_interval": "1h",
                    }
                ],
            },
            "inhibit_rules": [
                {"source_matchers": ['alertname="Fires"'], "target_matchers": ['alertname="Inhibited"'], "equal": []}
            ],
            "receivers": [
                {"name": "null"},
                {"name": "hook", "webhook_configs": [{"url": f"{hook.url}/", "send_resolved": True}]},
            ],
        }
    )
    return server


@pytest.fixture(scope="session")
def prometheus(
    make_prometheus: Callable[[], PrometheusServer], exporter: Exporter, alertmanager: AlertmanagerServer
) -> PrometheusServer:
    """The shared Prometheus: one job for each way in which a scrape can go, one rule for each way of an alert."""
    exporter.set(fires=1, waits=1, ripens=0, nobody=1, hushed=1, idle=0, passes=0, comes=0)
    closed = free_port()
    at = f"127.0.0.1:{exporter.web.port}"

    def job(name: str, target: str, **more: Any) -> dict[str, Any]:
        return {"job_name": name, "static_configs": [{"targets": [target], "labels": {"team": "red"}}], **more}

    twins = 'case_value{case=~"twin_.*"}'
    server = make_prometheus()
    server.configure(
        {
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"},
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager.port}"]}]}]},
            "scrape_configs": [
                job("app", at),
                job("down", f"127.0.0.1:{closed}"),
                job("html", at, metrics_path="/html"),
                job("broken", at, metrics_path="/broken"),
                job("dropped", at, relabel_configs=[{"action": "drop", "source_labels": ["__address__"]}]),
                {"job_name": "empty", "static_configs": []},
                job("tomorrow", at, scrape_interval="10d", scrape_timeout="1s"),
            ],
        },
        [
            {
                "name": "cases",
                "rules": [
                    rule("Fires", "fires"),
                    rule("Waits", "waits", **{"for": "1h"}),
                    rule("Ripens", "ripens", **{"for": "1s"}),
                    rule("Nobody", "nobody", labels={"severity": "none"}),
                    rule("Inhibited", "fires"),
                    rule("Hushed", "hushed"),
                    rule("Idle", "idle"),
                    rule("Passes", "passes", keep_firing_for="1s"),
                    rule("Comes", "comes"),
                    {"alert": "Twins", "expr": f"{twins} * on (team) group_left {twins} > 0", "labels": CRITICAL},
                    {"alert": "Broken", "expr": "case_value * on() group_left() case_value", "labels": CRITICAL},
                ],
            }
        ],
    )
    server.start()
    eventually(lambda: '"Fires"' in fetch(f"{server.url}/api/v1/alerts")[1], "the first alert")
    return server


@pytest.fixture
def at(prometheus: PrometheusServer) -> dict[str, Any]:
    """The options that every check of the shared Prometheus takes, patient enough for a few scrapes."""
    return {"endpoint": {"url": prometheus.url}, "timeout": 5, "interval": 0.1}


@pytest.fixture
def quick(prometheus: PrometheusServer) -> dict[str, Any]:
    """The same for checks that must fail: one more look, then the diagnosis."""
    return {"endpoint": {"url": prometheus.url}, "timeout": 0.3, "interval": 0.2}
