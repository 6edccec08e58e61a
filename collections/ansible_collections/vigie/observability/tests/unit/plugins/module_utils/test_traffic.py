"""What is sent and how answers are summed up, with a transport that plays a list of answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Disconnected, Response, Transport
from ansible_collections.vigie.observability.plugins.module_utils.traffic import checked_run_id, send_requests
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

LOST = Disconnected("disconnected", "gone", transient=True)
REFUSED = CheckError("unreachable", "refused", transient=True)


class Script(Transport):
    """Answers in the given order and keeps what was sent."""

    address = "http://app"

    def __init__(self, *answers: Response | CheckError) -> None:
        self.answers = list(answers)
        self.sent: list[dict[str, Any]] = []

    def send(
        self, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Response:
        self.sent.append({"method": method, "path": path, "body": body, "headers": dict(headers), "timeout": timeout})
        answer = self.answers.pop(0)
        if isinstance(answer, CheckError):
            raise answer
        return answer


def test_counts_answers() -> None:
    script = Script(Response(200), Response(404), Response(200, b"end", {"x": "y"}))
    traffic = send_requests(script, count=3, accept=(200, 404))
    assert (traffic.reason, traffic.statuses, traffic.disconnected) == ("ok", {"200": 2, "404": 1}, 0)
    assert traffic.last == {"status": 200, "body": "end", "headers": {"x": "y"}}


def test_first_unwanted_answer_is_the_last() -> None:
    script = Script(Response(200), Response(500, b"oops"), Response(200))
    traffic = send_requests(script, path="/a?token=1", count=3)
    assert (traffic.reason, traffic.statuses) == ("unexpected_status", {"200": 1, "500": 1})
    assert len(script.sent) == 2
    assert "http://app/a answered 500 instead of 200" in traffic.hint
    assert "token" not in traffic.hint


def test_lost_connection_is_a_failure_unless_expected() -> None:
    assert send_requests(Script(LOST)).reason == "disconnected"
    traffic = send_requests(Script(LOST, Response(200), LOST), count=3, allow_disconnect=True)
    assert (traffic.reason, traffic.disconnected, traffic.statuses) == ("ok", 2, {"200": 1})
    assert traffic.last["status"] is None


def test_refused_connection_is_no_lost_one() -> None:
    traffic = send_requests(Script(REFUSED), allow_disconnect=True)
    assert (traffic.reason, traffic.disconnected) == ("unreachable", 0)
    assert "last_answered" not in traffic.times


def test_what_is_sent() -> None:
    script = Script(Response(200))
    send_requests(script, method="POST", path="/p", headers={"A": "b"}, body="bödy", run_id="run-1", timeout=3)
    assert script.sent == [
        {
            "method": "POST",
            "path": "/p",
            "body": "bödy".encode(),
            "headers": {"A": "b", "X-Vigie-Run-Id": "run-1"},
            "timeout": 3,
        }
    ]


def test_each_request_has_its_own_trace() -> None:
    script = Script(Response(200), Response(200))
    traffic = send_requests(script, trace=True, count=2)
    parents = [sent["headers"]["traceparent"] for sent in script.sent]
    assert all(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", parent) for parent in parents)
    assert len(set(parents)) == 2
    assert parents[1].split("-")[1] == traffic.trace_id


def test_times_and_pauses() -> None:
    ticks = iter([10.0, 11.0, 12.0, 13.0])
    pauses: list[float] = []
    traffic = send_requests(
        Script(Response(200), Response(200)), count=2, interval=0.5, clock=lambda: next(ticks), sleep=pauses.append
    )
    assert pauses == [0.5]
    assert traffic.times["first_sent"] == 10.0
    assert traffic.times["last_answered"] > traffic.times["first_sent"]


def test_cookies_are_not_shown_and_bodies_are_cut() -> None:
    traffic = send_requests(Script(Response(200, b"x" * 600, {"set-cookie": "session=secret", "server": "s"})))
    assert traffic.last["headers"] == {"server": "s"}
    assert traffic.last["body"].endswith("(100 characters more)")


@pytest.mark.parametrize(
    "options", [{"path": "x"}, {"count": 0}, {"interval": -1}, {"timeout": 0}, {"run_id": "a b"}, {"run_id": ""}]
)
def test_bad_options(options: dict[str, Any]) -> None:
    script = Script(Response(200))
    with pytest.raises(CheckError) as caught:
        send_requests(script, **options)
    assert caught.value.reason == "bad_option"
    assert next(iter(options)) in caught.value.hint
    assert not script.sent


@pytest.mark.parametrize("value", ["a", "A-1_b.2", "x" * 40])
def test_run_ids(value: str) -> None:
    assert checked_run_id(value) == value


@pytest.mark.parametrize("value", ["x" * 41, "a\n", "é", "a/b"])
def test_no_run_ids(value: str) -> None:
    with pytest.raises(CheckError):
        checked_run_id(value)
