"""chain_budget against a real Prometheus and Alertmanager: what they are configured with is what it says."""

from __future__ import annotations

from typing import Any

import pytest
from systems import AlertmanagerServer, RunModule

Options = dict[str, Any]


@pytest.fixture
def budget(at: Options, alertmanager: AlertmanagerServer) -> Options:
    return {**at, "timeout": 0, "alertmanager": {"url": alertmanager.url}}


def test_budgets_follow_the_configuration(run_module: RunModule, budget: Options) -> None:
    allowances = {"scrape": 0.1, "evaluation": 0.1, "hop": 0.2, "smtp": 0.4}
    result = run_module("chain_budget", **budget, job=["app"], alert="Passes", receiver="hook", allowances=allowances)
    assert result["matched"] and not result["changed"], result
    assert result["intervals"] == {
        "scrape_interval": 0.25,
        "evaluation_interval": 0.25,
        "for": 0.0,
        "keep_firing_for": 1.0,
        "group_wait": 0.1,
        "group_interval": 0.5,
        "repeat_interval": 3600.0,
    }
    assert (result["receiver"], result["group_by"]) == ("hook", ["alertname", "case"])
    assert result["budgets"] == {
        "scraped": 0.35,
        "firing": 0.35,
        "routed": 0.2,
        "mailed": 0.5,
        "resolved": 2.8,
        "end_to_end": 1.4,
    }
    assert result["budget_parts"]["firing"] == {"evaluation_interval": 0.25, "for": 0.0, "evaluation": 0.1}


def test_the_slowest_job_counts(run_module: RunModule, budget: Options) -> None:
    result = run_module("chain_budget", **budget, job=["app", "tomorrow"], alert="Fires")
    assert result["intervals"]["scrape_interval"] == 864000
    assert result["observed"]["scrape_intervals"] == {"app": 0.25, "tomorrow": 864000}


def test_for_is_part_of_it_and_allowances_have_defaults(run_module: RunModule, budget: Options) -> None:
    result = run_module("chain_budget", **budget, job="app", alert="Ripens", allowances={"smtp": 0})
    assert result["budgets"]["firing"] == 1.75
    assert result["budget_parts"]["mailed"] == {"group_wait": 0.1, "smtp": 0}


def test_labels_decide_on_the_route(run_module: RunModule, budget: Options) -> None:
    result = run_module("chain_budget", **budget, job="app", alert="Nobody")
    assert (result["receiver"], result["intervals"]["group_wait"]) == ("null", 0.2)
    assert (
        run_module("chain_budget", **budget, job="app", alert="Nobody", labels={"severity": "critical"})["receiver"]
        == "hook"
    )


CASES: dict[str, tuple[Options, str]] = {
    "job_unknown": ({"job": ["app", "nowhere"], "alert": "Fires"}, "no target of job nowhere"),
    "rule_not_loaded": ({"job": "app", "alert": "Missing"}, "No rule is called Missing"),
    "routed_elsewhere": ({"job": "app", "alert": "Nobody", "receiver": "hook"}, "goes to null, not to hook"),
    "bad_option": ({"job": "app", "alert": "Fires", "allowances": {"hop": -1}}, "allowances.hop"),
}


@pytest.mark.parametrize("reason", CASES)
def test_reason(run_module: RunModule, budget: Options, reason: str) -> None:
    options, words = CASES[reason]
    result = run_module("chain_budget", **budget, **options)
    assert (result["failed"], result["reason"]) == (True, reason), result
    assert words in result["hint"]
    assert not run_module("chain_budget", **budget, **options, check_mode=True)["failed"]


def test_without_pyyaml(run_module: RunModule, budget: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    # The one thing that has to be feigned: the library is there where the tests run.
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    result = run_module("chain_budget", **budget, job="app", alert="Fires")
    assert (result["failed"], result["reason"]) == (True, "missing_library")
    assert "PyYAML" in result["hint"]
