"""scrape_check against a real Prometheus: each way a scrape can go has its own reason."""

from __future__ import annotations

import time
from typing import Any

import pytest
from systems import Exporter, RunModule, free_port

Options = dict[str, Any]


def test_a_healthy_target_is_found_at_once(run_module: RunModule, at: Options) -> None:
    result = run_module("scrape_check", **at, job="app", labels={"team": "red"})
    assert not result["failed"], result
    assert result["matched"] and result["reason"] == "ok" and result["hint"] == "" and not result["changed"]
    assert result["observed"]["healthy"] == 1
    assert abs(result["times"]["last_scrape"] - time.time()) < 30


def test_a_holding_check_asks_once(run_module: RunModule, at: Options) -> None:
    run_module("scrape_check", **at, job="app")
    assert run_module("scrape_check", **at, job="app")["attempts"] == 1


def test_a_scrape_after_since_is_waited_for(run_module: RunModule, at: Options) -> None:
    since = time.time()
    result = run_module("scrape_check", **at, job="app", since=since)
    assert not result["failed"], result
    assert result["times"]["last_scrape"] > since


CASES: dict[str, tuple[Options, str]] = {
    "job_unknown": ({"job": "nowhere"}, "it knows app, broken"),
    "target_dropped": ({"job": "dropped"}, "Relabelling drops all 1 targets"),
    "too_few_targets": ({"job": "app", "count": 2}, "Job app has 1 targets, 2 are wanted"),
    "too_few_targets by label": ({"job": "app", "labels": {"team": "blue"}}, "'team': 'red'"),
    "too_few_targets of a job that finds none": ({"job": "empty"}, "discovers no target"),
    "exporter_down": ({"job": "down"}, "connection refused"),
    "scrape_failed": ({"job": "html"}, "Prometheus says of"),
    "scrape_failed by status": ({"job": "broken"}, "500"),
    "not_scraped_yet": ({"job": "tomorrow"}, "its interval is 10d"),
}


@pytest.mark.parametrize("case", CASES)
def test_reason(run_module: RunModule, quick: Options, case: str) -> None:
    options, words = CASES[case]
    result = run_module("scrape_check", **quick, **options)
    assert result["failed"] and not result["matched"]
    assert result["reason"] == case.split(maxsplit=1)[0], result["hint"]
    assert words in result["hint"]
    assert result["msg"] == f"{result['reason']}: {result['hint']}"


def test_stale_scrape(run_module: RunModule, quick: Options) -> None:
    # A bound a little ahead of the clock is let through, and no scrape within the window can be after it.
    result = run_module("scrape_check", **quick, job="app", since=time.time() + 4)
    assert (result["failed"], result["reason"]) == (True, "stale_scrape"), result


def test_a_dead_exporter_is_told_from_a_wrong_address(
    run_module: RunModule, quick: Options, exporter: Exporter
) -> None:
    dead = {"url": f"http://127.0.0.1:{free_port()}"}
    result = run_module("scrape_check", **quick, job="down", origin=dead)
    assert result["reason"] == "exporter_down"
    assert dead["url"] in result["hint"]
    result = run_module("scrape_check", **quick, job="down", origin={"url": exporter.url})
    assert result["reason"] == "wrong_address"
    assert f"{exporter.url}/metrics" in result["hint"] and result["observed"]["targets"][0]["url"] in result["hint"]


def test_the_same_host_by_another_name_is_no_wrong_address(
    run_module: RunModule, quick: Options, exporter: Exporter
) -> None:
    origin = {"url": f"http://localhost:{exporter.web.port}"}
    result = run_module("scrape_check", **quick, job="html", origin=origin, origin_path="/html")
    assert result["reason"] == "scrape_failed", result["hint"]


def test_an_exporter_that_answers_badly_at_its_origin(
    run_module: RunModule, quick: Options, exporter: Exporter
) -> None:
    result = run_module("scrape_check", **quick, job="broken", origin={"url": exporter.url}, origin_path="/broken")
    assert result["reason"] == "scrape_failed"
    assert "answers badly" in result["hint"]


def test_origin_is_left_alone_while_the_target_is_up(run_module: RunModule, at: Options, exporter: Exporter) -> None:
    exporter.web.requests.clear()
    assert run_module("scrape_check", **at, job="app", origin={"url": exporter.url}, origin_path="/asked")["matched"]
    assert "/asked" not in exporter.web.requests


def test_absent(run_module: RunModule, quick: Options) -> None:
    assert run_module("scrape_check", **quick, job="down", expect="absent")["matched"]
    result = run_module("scrape_check", **quick, job="app", expect="absent")
    assert (result["failed"], result["reason"]) == (True, "appeared")


def test_check_mode_looks_once_and_never_fails(run_module: RunModule, at: Options) -> None:
    result = run_module("scrape_check", **at, job="down", check_mode=True)
    assert not result["failed"] and not result["matched"]
    assert (result["attempts"], result["reason"]) == (1, "exporter_down")


@pytest.mark.parametrize("options", [{"count": 0}, {"max_age": 0}, {"interval": 0}, {"since": "yesterday"}])
def test_bad_option(run_module: RunModule, at: Options, options: Options) -> None:
    result = run_module("scrape_check", **{**at, **options}, job="app")
    assert (result["failed"], result["reason"]) == (True, "bad_option")
    assert next(iter(options)) in result["hint"]


def test_a_bound_in_the_future(run_module: RunModule, at: Options) -> None:
    assert run_module("scrape_check", **at, job="app", since=time.time() + 60)["reason"] == "since_in_future"
