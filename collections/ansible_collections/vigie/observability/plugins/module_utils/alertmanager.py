# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Alertmanager's HTTP API as data: alerts, silences, its configuration and the counters of its notifications."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Response, Transport
from ansible_collections.vigie.observability.plugins.module_utils.exposition import samples
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Labels, included, quoted, reading
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import format_time, parse_time
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

NO_ANSWER = ("unreachable", "timeout", "disconnected", "server_error")
"""Reasons for which Alertmanager counts as unreachable."""


@dataclass
class ReceivedAlert:
    """An alert as Alertmanager holds it; times in Unix seconds."""

    labels: Labels
    state: str
    receivers: list[str]
    silenced_by: list[str]
    inhibited_by: list[str]
    starts_at: float
    updated_at: float
    ends_at: float
    fingerprint: str = ""

    def summary(self) -> dict[str, Any]:
        """The alert for people."""
        return {
            "state": self.state,
            "receivers": self.receivers,
            "silenced_by": self.silenced_by,
            "inhibited_by": self.inhibited_by,
            "starts_at": self.starts_at,
            "updated_at": self.updated_at,
            "ends_at": self.ends_at,
            "labels": self.labels,
        }


@dataclass(frozen=True, order=True)
class Matcher:
    """One matcher of a silence or a route."""

    name: str
    value: str
    regex: bool = False
    equal: bool = True

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether the labels satisfy the matcher; a missing label has the empty value."""
        seen = labels.get(self.name, "")
        if self.regex:
            try:
                found = re.fullmatch(self.value, seen) is not None
            except re.error as error:
                raise CheckError(
                    "bad_answer", f"The matcher {self} of Alertmanager can't be tested here ({error})."
                ) from error
        else:
            found = seen == self.value
        return found == self.equal

    def __str__(self) -> str:
        sign = {(False, True): "=", (False, False): "!=", (True, True): "=~", (True, False): "!~"}
        return f"{self.name}{sign[self.regex, self.equal]}{quoted(self.value)}"


@dataclass
class Silence:
    """A silence; times in Unix seconds, the state is active, pending or expired."""

    id: str
    state: str
    matchers: frozenset[Matcher]
    starts_at: float
    ends_at: float
    comment: str
    created_by: str


@dataclass
class Deliveries:
    """How often an integration (email, webhook ...) was asked to deliver and failed, since Alertmanager started."""

    requests: float = 0
    failed_requests: float = 0
    failed_notifications: float = 0
    reasons: tuple[str, ...] = ()

    @property
    def delivered(self) -> float:
        """Requests that succeeded."""
        return self.requests - self.failed_requests


class Alertmanager:
    """A client that asks only what it is asked, one request for each call."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def address(self) -> str:
        """Where Alertmanager is, for people."""
        return self._transport.address

    def _request(self, deadline: Deadline, method: str, path: str, **kwargs: Any) -> Response:
        return self._transport.request(method, path, timeout=deadline.request_timeout, **kwargs)

    def alerts(self, deadline: Deadline, labels: Mapping[str, Any]) -> list[ReceivedAlert]:
        """Return the alerts that carry the labels and have not ended, whether silenced, inhibited or active."""
        filters = [("filter", f"{name}={quoted(value)}") for name, value in labels.items()]
        answer = self._request(deadline, "GET", "/api/v2/alerts", query=filters).json()
        with reading("list of alerts"):
            received = [
                ReceivedAlert(
                    labels=alert["labels"],
                    state=alert["status"]["state"],
                    receivers=[receiver["name"] for receiver in alert["receivers"]],
                    silenced_by=alert["status"]["silencedBy"],
                    inhibited_by=alert["status"]["inhibitedBy"],
                    starts_at=parse_time(alert["startsAt"]),
                    updated_at=parse_time(alert["updatedAt"]),
                    ends_at=parse_time(alert["endsAt"]),
                    fingerprint=alert.get("fingerprint", ""),
                )
                for alert in answer
            ]
        return [alert for alert in received if included(labels, alert.labels)]

    def configuration(self, deadline: Deadline) -> str:
        """Return the configuration in force as YAML, secrets masked by Alertmanager itself."""
        answer = self._request(deadline, "GET", "/api/v2/status").json()
        with reading("status of Alertmanager"):
            return str(answer["config"]["original"])

    def deliveries(self, deadline: Deadline) -> dict[str, Deliveries]:
        """Return the counters of every integration that was ever asked to deliver."""
        text = self._request(deadline, "GET", "/metrics").text
        found: dict[str, Deliveries] = {}
        for sample in samples(text):
            if not (
                sample.name.startswith("alertmanager_notification") and sample.name.endswith("_total") and sample.value
            ):
                continue
            one = found.setdefault(sample.labels.get("integration", ""), Deliveries())
            if sample.name == "alertmanager_notification_requests_total":
                one.requests += sample.value
            elif sample.name == "alertmanager_notification_requests_failed_total":
                one.failed_requests += sample.value
            elif sample.name == "alertmanager_notifications_failed_total":
                one.failed_notifications += sample.value
                if sample.labels.get("reason"):
                    one.reasons += (sample.labels["reason"],)
        return found

    def silences(self, deadline: Deadline) -> tuple[list[Silence], float]:
        """Return all silences, and Alertmanager's own time in Unix seconds."""
        response = self._request(deadline, "GET", "/api/v2/silences")
        answer = response.json()
        with reading("list of silences"):
            silences = [
                Silence(
                    id=silence["id"],
                    state=silence["status"]["state"],
                    matchers=frozenset(
                        Matcher(one["name"], one["value"], one["isRegex"], one.get("isEqual", True))
                        for one in silence["matchers"]
                    ),
                    starts_at=parse_time(silence["startsAt"]),
                    ends_at=parse_time(silence["endsAt"]),
                    comment=silence["comment"],
                    created_by=silence["createdBy"],
                )
                for silence in answer
            ]
        return silences, response.date

    def put_silence(self, deadline: Deadline, silence: Silence) -> str:
        """Create a silence, or change the one with its id, and return the id that it has now."""
        data: dict[str, Any] = {
            "matchers": [
                {"name": one.name, "value": one.value, "isRegex": one.regex, "isEqual": one.equal}
                for one in sorted(silence.matchers)
            ],
            "startsAt": format_time(silence.starts_at),
            "endsAt": format_time(silence.ends_at),
            "comment": silence.comment,
            "createdBy": silence.created_by,
        }
        if silence.id:
            data["id"] = silence.id
        answer = self._request(deadline, "POST", "/api/v2/silences", data=data).json()
        with reading("answer to the silence"):
            return str(answer["silenceID"])

    def expire_silence(self, deadline: Deadline, silence_id: str) -> None:
        """End a silence now."""
        self._request(deadline, "DELETE", f"/api/v2/silence/{silence_id}")
