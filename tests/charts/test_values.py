"""The values that the role sets: each is one of the official chart's, and the lab's chart knows it too."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible_collections.vigie.observability.plugins.filter.unknown_values import unknown_values
from rendering import CHART, REPOSITORY, leaves, official_keys, render_roles

TABLE = yaml.safe_load((REPOSITORY / "vars" / "versions.yml").read_text())["vigie_versions"]
FREE = {"map", "list", "null"}


def load(role: str, name: str) -> ModuleType:
    """A filter of a role, as a module."""
    path = REPOSITORY / "roles" / role / "filter_plugins" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def strangers(values: dict[str, Any]) -> list[str]:
    """Paths that the official chart does not have."""
    keys = official_keys()
    found = []
    for leaf in leaves(values):
        parts = leaf.split(".")
        above = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
        if leaf not in keys and not any(keys.get(path) in FREE for path in above):
            found.append(leaf)
    return found


def test_the_official_chart_knows_every_key(roles: dict[str, Any]) -> None:
    assert strangers(roles["values"]) == []
    assert len(list(leaves(roles["values"]))) > 30


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"prometheus": {"prometheusSpec": {"retentoin": "7d"}}}, "prometheus.prometheusSpec.retentoin"),
        ({"prometheus": {"retention": "7d"}}, "prometheus.retention"),
        ({"kubeEtcd": {"enabled": {"x": 1}}}, "kubeEtcd.enabled.x"),
    ],
)
def test_a_foreign_key_is_seen(values: dict[str, Any], path: str) -> None:
    assert strangers(values) == [path]


def test_the_labs_chart_has_no_key_of_its_own() -> None:
    assert strangers(yaml.safe_load((CHART / "values.yaml").read_text())) == []


def test_the_labs_chart_has_every_key_that_the_role_sets(roles: dict[str, Any]) -> None:
    known = yaml.safe_load((CHART / "values.yaml").read_text())
    assert unknown_values(roles["values"], known) == []


def test_the_labs_chart_is_the_one_of_the_table() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    entry = TABLE["kube-prometheus-stack"]
    assert (chart["name"], chart["version"]) == (entry["chart"], entry["version"])
    assert chart["appVersion"] == f"v{TABLE['prometheus-operator']['version']}"


def test_booleans_are_booleans(roles: dict[str, Any]) -> None:
    """A selector flag that is a text is true for Helm, whatever it says."""
    spec = roles["values"]["prometheus"]["prometheusSpec"]
    flags = {key: value for key, value in spec.items() if key.endswith("NilUsesHelmValues")}
    assert len(flags) == 5 and set(flags.values()) == {False}
    types = official_keys()
    for leaf in leaves(roles["values"]):
        value: Any = roles["values"]
        for part in leaf.split("."):
            value = value[part]
        if types.get(leaf) == "bool":
            assert isinstance(value, bool), leaf
        if types.get(leaf) == "str":
            assert isinstance(value, str), leaf


def test_short_intervals_are_where_the_drill_needs_them(roles: dict[str, Any]) -> None:
    values = roles["values"]
    assert values["prometheus"]["prometheusSpec"]["scrapeInterval"] == "30s"
    assert values["kubelet"]["serviceMonitor"]["cAdvisorInterval"] == "30s"
    short = roles["scrape_interval"]
    assert short == ("1s" if roles["name"] == "full" else "3s")
    assert [leaf for leaf in leaves(values) if leaf.endswith("nterval")] == [
        "prometheus.prometheusSpec.scrapeInterval",
        "prometheus.prometheusSpec.evaluationInterval",
        "kubelet.serviceMonitor.cAdvisorInterval",
        "kube-state-metrics.prometheus.monitor.http.interval",
    ]
    assert values["kube-state-metrics"]["prometheus"]["monitor"]["http"]["interval"] == short


def test_no_alert_is_there_twice(roles: dict[str, Any]) -> None:
    rules = roles["values"]["defaultRules"]
    # Watchdog, TargetDown and InfoInhibitor are the whole group: it goes as such, since the chart can't make an empty one.
    assert rules["rules"] == {"general": False}
    assert rules["disabled"] == {"PrometheusRuleFailures": True}


def test_bad_choices_are_refused_in_a_sentence_each(tmp_path: Path) -> None:
    choices = {
        "monitoring_profile": ("medium", "is not known; choose one of: small, full."),
        "monitoring_storage_size": ("8 GB", "is no size of a volume"),
        "monitoring_retention_size": ("8Gi", "is no size in Prometheus' words"),
        "monitoring_chart_version": ("latest", "is no version"),
        "monitoring_chart": ("my-chart", "is no place of a chart"),
        "monitoring_namespace": ("My_Namespace", "is no DNS label"),
    }
    variables = {name: value for name, (value, _) in choices.items()} | {"monitoring_resources": {"grafana": {}}}
    with pytest.raises(RuntimeError) as refused:
        render_roles(tmp_path / "play", **variables)
    said = " ".join(str(refused.value).split())
    for name, (value, sentence) in choices.items():
        assert f"{name}={value} {sentence}" in said
    assert "monitoring_resources=grafana names no component; choose among prometheus, alertmanager, operator" in said


WANTED = {
    "route": {
        "receiver": "null",
        "group_wait": "60s",
        "routes": [{"receiver": "dead"}, {"matchers": ["a=b"], "receiver": "mail"}],
    },
    "receivers": [{"name": "null"}, {"name": "mail"}],
}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda c: None, []),
        (lambda c: c["route"].update(group_wait="1m", continue_=False), []),
        (lambda c: c["route"]["routes"].insert(1, {"receiver": "theirs"}), []),
        (
            lambda c: c["route"].update(receiver="mail"),
            ["route.receiver is 'mail', wanted is 'null'"],
        ),
        (
            lambda c: c["route"]["routes"][1].update(receiver="null"),
            ["route.routes[1].receiver is 'null', wanted is 'mail'"],
        ),
        (lambda c: c["route"]["routes"].reverse(), ["route.routes[1] is missing"]),
        (lambda c: c["receivers"].pop(), ["receivers[1] is missing"]),
        (lambda c: c.pop("route"), ["route is None"]),
    ],
    ids=["same", "spelled", "more", "scalar", "route", "order", "short", "nothing"],
)
def test_config_differences(change: Any, found: list[str]) -> None:
    running = yaml.safe_load(yaml.safe_dump(WANTED))
    change(running)
    assert load("alerting", "config_differences").config_differences(running, WANTED) == found
