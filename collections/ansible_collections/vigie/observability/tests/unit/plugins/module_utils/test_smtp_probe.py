"""When the relay is blamed; real relays are met in tests/contract_mail."""

from __future__ import annotations

import pytest
from ansible_collections.vigie.observability.plugins.module_utils import smtp_probe
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.smtp_probe import Relay, blame_relay
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

RELAY = Relay("127.0.0.1", 25)
TROUBLE = CheckError("smtp_auth_rejected", "535")
NOTHING = Verdict.no("mailbox_empty", "nothing there", {"count": 0, "newest": []})


class Probe:
    """Counts how often the relay was tried."""

    def __init__(self, answer: CheckError | None) -> None:
        self.answer = answer
        self.tried = 0

    def __call__(self, relay: Relay, timeout: float) -> CheckError | None:
        self.tried += 1
        return self.answer


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    probe = Probe(TROUBLE)
    monkeypatch.setattr(smtp_probe, "probe", probe)
    return probe


def unreadable(transient: bool):
    def look(deadline: Deadline) -> Verdict:
        raise CheckError("mailbox_unreadable", "no Maildir", transient=transient)

    return look


def test_relay_is_left_alone_while_waiting(probe: Probe) -> None:
    assert blame_relay(lambda deadline: NOTHING, RELAY)(Deadline(60)) is NOTHING
    assert probe.tried == 0


def test_relay_is_left_alone_when_the_mail_came(probe: Probe) -> None:
    assert blame_relay(lambda deadline: Verdict.yes(), RELAY)(Deadline(0)).matched
    assert probe.tried == 0


def test_failing_step_becomes_the_reason(probe: Probe) -> None:
    verdict = blame_relay(lambda deadline: NOTHING, RELAY)(Deadline(0))
    assert (verdict.reason, verdict.hint) == ("smtp_auth_rejected", "535")
    assert verdict.observed == {"count": 0, "newest": [], "mailbox": "mailbox_empty"}


def test_mailbox_reason_stays_when_the_login_works(probe: Probe) -> None:
    probe.answer = None
    assert blame_relay(lambda deadline: NOTHING, RELAY)(Deadline(0)) is NOTHING
    assert probe.tried == 1


def test_a_maildir_never_delivered_to_is_no_mail_too(probe: Probe) -> None:
    verdict = blame_relay(unreadable(transient=True), RELAY)(Deadline(0))
    assert (verdict.reason, verdict.observed) == ("smtp_auth_rejected", {"mailbox": "mailbox_unreadable"})
    probe.answer = None
    with pytest.raises(CheckError, match="mailbox_unreadable"):
        blame_relay(unreadable(transient=True), RELAY)(Deadline(0))


def test_relay_is_left_alone_while_waiting_for_the_maildir(probe: Probe) -> None:
    with pytest.raises(CheckError, match="mailbox_unreadable"):
        blame_relay(unreadable(transient=True), RELAY)(Deadline(60))
    assert probe.tried == 0


def test_a_forbidden_mailbox_is_not_the_relays_fault(probe: Probe) -> None:
    with pytest.raises(CheckError, match="mailbox_unreadable"):
        blame_relay(unreadable(transient=False), RELAY)(Deadline(0))
    assert probe.tried == 0
