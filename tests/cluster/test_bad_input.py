"""Choices that can't work are refused with a sentence, and nothing of the running lab changes."""

from __future__ import annotations

from typing import Any

import pytest
from lab_on_cluster import Lab

CASES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "unknown chart version": (
        "monitoring",
        {"monitoring_chart_version": "1.2.3"},
        ["kube-prometheus-stack", "1.2.3", "88.5.3"],
    ),
    "chart that is nowhere": (
        "monitoring",
        {"monitoring_chart": "/nowhere/chart.tgz"},
        ["monitoring_chart=/nowhere/chart.tgz: Helm finds no such chart", "choose 88.5.3"],
    ),
    "unknown values": (
        "monitoring",
        {"monitoring_values": {"prometheus": {"prometheusSpec": {"retentoin": "3d"}}}},
        ["monitoring_values=prometheus.prometheusSpec.retentoin is no key of the chart"],
    ),
    "unknown storage class": (
        "monitoring",
        {"monitoring_storage_class": "fast"},
        ["monitoring_storage_class=fast is not in the cluster, which has standard"],
    ),
    "a second stack": (
        "monitoring",
        {"monitoring_namespace": "elsewhere"},
        ["monitoring_namespace=elsewhere: the cluster has this stack already, as monitoring/prometheus"],
    ),
    "a password that is nowhere": (
        "mail",
        {"mail_smarthost": "smtp.example.org:587", "mail_password_file": "/nowhere/password"},
        ["mail_password_file=/nowhere/password does not exist"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_with_a_sentence(lab: Lab, case: str) -> None:
    part, variables, sentences = CASES[case]
    run = lab.part(part, **variables)
    assert run.status != 0
    for sentence in sentences:
        assert sentence in run.output, run.output[-3000:]
    assert run.changed == 0


def test_nothing_was_applied_by_halves(lab: Lab) -> None:
    namespaces = lab.kubectl("get", "namespaces", "--output=name").split()
    assert "namespace/elsewhere" not in namespaces
    for part in ("mail", "monitoring"):
        assert lab.part(part).changed == 0


def test_a_whole_run_refuses_before_any_part_is_brought(lab: Lab) -> None:
    run = lab.play(
        "playbooks/site.yml", "--tags=app,mail,dashboards,monitoring,alerting", monitoring_namespace="elsewhere"
    )
    assert run.status != 0 and "monitoring_namespace=elsewhere: the cluster has this stack already" in run.output
    assert run.changed == 0
    assert "namespace/elsewhere" not in lab.kubectl("get", "namespaces", "--output=name").split()
