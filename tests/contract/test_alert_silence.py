"""alert_silence against a real Alertmanager."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import parse_time
from systems import AlertmanagerServer, RunModule, fetch, free_port

Options = dict[str, Any]
Silence = Callable[..., dict[str, Any]]


@pytest.fixture
def silence(run_module: RunModule, alertmanager: AlertmanagerServer, request: pytest.FixtureRequest) -> Silence:
    """Run the module with matchers that no other test has."""

    def run(**options: Any) -> dict[str, Any]:
        matchers = {"alertname": "Any", "test": request.node.name}
        return run_module("alert_silence", **{"endpoint": {"url": alertmanager.url}, "matchers": matchers, **options})

    return run


def test_present_is_idempotent(silence: Silence, alertmanager: AlertmanagerServer) -> None:
    first = silence(duration="10m", comment="drill", created_by="tester")
    assert first["changed"] and not first["failed"], first
    assert abs(parse_time(first["ends_at"]) - time.time() - 600) < 5
    assert f'"id":"{first["silence_id"]}"' in fetch(f"{alertmanager.url}/api/v2/silences")[1]
    again = silence(duration="10m", comment="drill", created_by="tester")
    assert not again["changed"]
    assert again["silence_id"] == first["silence_id"]


def test_a_short_silence_is_prolonged(silence: Silence) -> None:
    first = silence(duration="1m")
    # Three minutes are wanted at least, and one is left.
    second = silence(duration="10m", min_remaining="3m")
    assert second["changed"]
    assert second["silence_id"] == first["silence_id"]
    assert parse_time(second["ends_at"]) > parse_time(first["ends_at"]) + 500
    assert not silence(duration="20m", min_remaining="5m")["changed"]
    assert silence(duration="30m")["changed"], "by default half of the duration must be left"


def test_another_comment_is_replaced(silence: Silence) -> None:
    first = silence(comment="one")
    second = silence(comment="two", diff=True)
    assert second["changed"] and second["silence_id"] == first["silence_id"]
    assert (second["diff"]["before"]["comment"], second["diff"]["after"]["comment"]) == ("one", "two")


def test_silences_of_others_are_left_alone(silence: Silence) -> None:
    other = silence(created_by="someone")
    mine = silence()
    assert mine["changed"] and mine["silence_id"] != other["silence_id"]
    assert silence(state="absent")["changed"]
    assert not silence(created_by="someone")["changed"]


def test_absent(silence: Silence, alertmanager: AlertmanagerServer) -> None:
    assert not silence(state="absent")["changed"]
    made = silence()
    gone = silence(state="absent", diff=True)
    assert gone["changed"] and gone["silence_id"] == made["silence_id"]
    assert gone["diff"]["after"] == {} and gone["diff"]["before"]["created_by"] == "vigie"
    assert '"state":"expired"' in fetch(f"{alertmanager.url}/api/v2/silence/{made['silence_id']}")[1]
    assert not silence(state="absent")["changed"]
    assert silence()["changed"], "an expired silence is no silence"


def test_check_mode_changes_nothing(silence: Silence) -> None:
    would = silence(check_mode=True)
    assert would["changed"] and would["silence_id"] == "" and would["ends_at"]
    made = silence()
    assert made["changed"]
    assert silence(state="absent", check_mode=True)["changed"]
    assert not silence()["changed"]


def test_matchers_of_every_kind(silence: Silence) -> None:
    matchers = [
        {"name": "alertname", "value": "Kinds"},
        {"name": "namespace", "value": "a|b", "regex": True},
        {"name": "severity", "value": "critical", "equal": False},
        {"name": "pod", "value": "x.*", "regex": True, "equal": False},
    ]
    first = silence(matchers=matchers, diff=True)
    assert first["changed"]
    assert first["diff"]["after"]["matchers"] == [
        'alertname="Kinds"',
        'namespace=~"a|b"',
        'pod!~"x.*"',
        'severity!="critical"',
    ]
    assert not silence(matchers=list(reversed(matchers)))["changed"]


@pytest.mark.parametrize(
    "options",
    [
        {"matchers": {}},
        {"matchers": "alertname=X"},
        {"matchers": {"alertname": ""}},
        {"matchers": [{"name": "a", "value": ".*", "regex": True}]},
        {"matchers": [{"name": "a", "value": "(", "regex": True}]},
        {"matchers": [{"name": "a", "value": "b", "regexp": True}]},
        {"matchers": [{"name": "a", "value": "b", "regex": "yes"}]},
        {"matchers": {"no-label": "x"}},
        {"duration": "soon"},
        {"duration": "0s"},
        {"min_remaining": "2h"},
        {"comment": " "},
        {"created_by": ""},
    ],
)
def test_bad_option(silence: Silence, options: Options) -> None:
    result = silence(**options)
    assert (result["failed"], result["reason"]) == (True, "bad_option")
    assert next(iter(options)) in result["hint"]


def test_an_alertmanager_that_does_not_answer(silence: Silence) -> None:
    endpoint = {"url": f"http://127.0.0.1:{free_port()}"}
    result = silence(endpoint=endpoint, timeout=0.3, interval=0.1)
    assert (result["failed"], result["reason"]) == (True, "unreachable")
