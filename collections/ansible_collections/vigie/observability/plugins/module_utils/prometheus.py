# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Prometheus' HTTP API as data: targets, rules, samples. Works with 2.42 (Debian 12) up to 3.x."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Transport
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import parse_time
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

Labels = dict[str, str]


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn an answer that is not of the documented form into CheckError ``bad_answer`` instead of a traceback."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckError(
            "bad_answer",
            f"The {what} is not of the documented form ({type(error).__name__}: {error}); another program or an unknown version "
            "may be listening at this endpoint.",
        ) from error


def included(wanted: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether all wanted labels are there with their values; an empty value also means that a label is missing."""
    return all(labels.get(name, "") == str(value) for name, value in wanted.items())


def selector(name: str, labels: Mapping[str, Any]) -> str:
    """Return the PromQL selector for a metric and labels, with every value quoted."""
    return f"{name}{{{','.join(f'{label}={quoted(value)}' for label, value in labels.items())}}}"


def quoted(value: Any) -> str:
    """Return a text as a PromQL string."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


def moment(value: str) -> float | None:
    """Return Unix seconds, or None for Go's zero time, which means never."""
    seconds = parse_time(value)
    return seconds if seconds > 0 else None


@dataclass
class Target:
    """One thing that Prometheus scrapes; times in Unix seconds, ``pool`` the name of its scrape configuration."""

    labels: Labels
    url: str
    health: str
    error: str
    last_scrape: float | None
    interval: str
    pool: str = ""

    def summary(self) -> dict[str, Any]:
        """The target for people."""
        return {
            "url": self.url,
            "health": self.health,
            "error": self.error,
            "last_scrape": self.last_scrape,
            "labels": self.labels,
        }


@dataclass
class Alert:
    """One alert of a rule, as Prometheus sees it."""

    labels: Labels
    state: str
    active_at: float
    value: str

    def summary(self) -> dict[str, Any]:
        """The alert for people."""
        return {"state": self.state, "active_at": self.active_at, "value": self.value, "labels": self.labels}


@dataclass
class Rule:
    """One alerting rule; durations and the group's interval in seconds."""

    name: str
    group: str
    file: str
    query: str
    labels: Labels
    health: str
    error: str
    duration: float
    keep_firing_for: float
    interval: float
    last_evaluation: float | None
    alerts: list[Alert] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The rule for people."""
        return {
            "group": self.group,
            "file": self.file,
            "query": self.query,
            "for": self.duration,
            "keep_firing_for": self.keep_firing_for,
            "interval": self.interval,
            "health": self.health,
            "error": self.error,
            "last_evaluation": self.last_evaluation,
        }


@dataclass
class Series:
    """One series of an answer: its labels and its samples as (Unix seconds, value), oldest first."""

    labels: Labels
    samples: list[tuple[float, float]]

    @property
    def value(self) -> float:
        """The newest value."""
        return self.samples[-1][1]

    def summary(self) -> dict[str, Any]:
        """The series for people; the value as text, because JSON has neither NaN nor infinity."""
        return {"labels": self.labels, "value": f"{self.value:g}"}


@dataclass
class Answer:
    """The answer to a query.

    Attributes:
        kind: vector, matrix, scalar or string.
        series: in the order of the answer; a scalar is one series without labels.
        at: Unix seconds of the evaluation, by Prometheus' clock.
    """

    kind: str
    series: list[Series]
    at: float


class Prometheus:
    """A client that asks only what it is asked, one request for each call.

    Attributes:
        clock: Prometheus' own time at its last answer, in Unix seconds.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.clock = time.time()

    @property
    def address(self) -> str:
        """Where Prometheus is, for people."""
        return self._transport.address

    def command(self, path: str, query: dict[str, str] | None = None) -> str:
        """Return the command that shows what Prometheus answers."""
        return self._transport.command(path, query)

    def get(self, deadline: Deadline, path: str, query: Any = None) -> Any:
        """Return the data of an API answer.

        Raises:
            CheckError: ``bad_query`` when Prometheus can't run a query (transient only if other data could mend that),
                ``bad_answer`` when something else answered; else see Transport.request.
        """
        response = self._transport.request(
            "GET", f"/api/v1/{path}", query=query, timeout=deadline.request_timeout, accept=(200, 400, 422)
        )
        self.clock = response.date
        if response.status == 400 and "json" not in response.headers.get("content-type", ""):
            raise CheckError("bad_request", f"{self.address} answered 400: {response.text[:200].strip()}")
        answer = response.json()
        with reading("answer of Prometheus"):
            if answer["status"] == "success":
                return answer["data"]
            raise CheckError(
                "bad_query",
                f"Prometheus refuses the query: {answer['error']}.",
                transient=response.status == 422,
                observed=answer,
            )

    def targets(self, deadline: Deadline) -> list[Target]:
        """Return the targets that Prometheus scrapes."""
        data = self.get(deadline, "targets", {"state": "active"})
        with reading("list of targets"):
            return [
                Target(
                    labels=target["labels"],
                    url=target["scrapeUrl"],
                    health=target["health"],
                    error=target["lastError"],
                    last_scrape=moment(target["lastScrape"]),
                    interval=target.get("scrapeInterval", ""),
                    pool=target.get("scrapePool", ""),
                )
                for target in data["activeTargets"]
            ]

    def dropped_targets(self, deadline: Deadline) -> list[Labels]:
        """Return the discovered labels of targets that relabelling drops."""
        data = self.get(deadline, "targets", {"state": "dropped"})
        with reading("list of dropped targets"):
            return [target["discoveredLabels"] for target in data["droppedTargets"] or []]

    def scrape_pools(self, deadline: Deadline) -> list[str]:
        """Return the names of the configured scrape jobs, also of those that found nothing to scrape."""
        data = self.get(deadline, "scrape_pools")
        with reading("list of scrape pools"):
            return list(data["scrapePools"] or [])

    def rules(self, deadline: Deadline, name: str | None = None) -> list[Rule]:
        """Return the alerting rules, or those called ``name``."""
        query: dict[str, str] = {"type": "alert"}
        if name is not None:
            # Older versions ignore the filter, so the answer is filtered again below.
            query["rule_name[]"] = name
        data = self.get(deadline, "rules", query)
        with reading("list of rules"):
            return [
                Rule(
                    name=rule["name"],
                    group=group["name"],
                    file=group["file"],
                    query=rule["query"],
                    labels=rule.get("labels") or {},
                    health=rule["health"],
                    error=rule.get("lastError", ""),
                    duration=float(rule["duration"]),
                    keep_firing_for=float(rule.get("keepFiringFor") or 0),
                    interval=float(group["interval"]),
                    last_evaluation=moment(rule["lastEvaluation"]),
                    alerts=[
                        Alert(
                            labels=alert["labels"],
                            state=alert["state"],
                            active_at=parse_time(alert["activeAt"]),
                            value=alert["value"],
                        )
                        for alert in rule["alerts"] or []
                    ],
                )
                for group in data["groups"]
                for rule in group["rules"]
                if rule["type"] == "alerting" and name in (None, rule["name"])
            ]

    def alertmanagers(self, deadline: Deadline) -> list[str]:
        """Return the addresses to which Prometheus sends alerts."""
        data = self.get(deadline, "alertmanagers")
        with reading("list of Alertmanagers"):
            return [found["url"] for found in data["activeAlertmanagers"] or []]

    def config_loaded(self, deadline: Deadline) -> bool:
        """Return whether the last reload of configuration and rule files succeeded; if not, the old ones are in force."""
        return self.last_reload(deadline)[0]

    def last_reload(self, deadline: Deadline) -> tuple[bool, float]:
        """Return whether the last reload succeeded, and when, in Unix seconds, what is in force was loaded."""
        data = self.get(deadline, "status/runtimeinfo")
        with reading("runtime information"):
            return bool(data["reloadConfigSuccess"]), parse_time(data["lastConfigTime"])

    def config(self, deadline: Deadline) -> str:
        """Return the configuration in force as YAML; Prometheus itself hides the secrets in it."""
        data = self.get(deadline, "status/config")
        with reading("configuration"):
            return str(data["yaml"])

    def metric_names(self, deadline: Deadline) -> list[str]:
        """Return all metric names that the storage knows, also of series that are gone."""
        data = self.get(deadline, "label/__name__/values")
        with reading("list of metric names"):
            return [str(name) for name in data]

    def query(self, deadline: Deadline, query: str, at: float | None = None) -> Answer:
        """Evaluate a query now, or at Unix seconds ``at``."""
        parameters: dict[str, Any] = {"query": query}
        if at is not None:
            parameters["time"] = f"{at:.3f}"
        data = self.get(deadline, "query", parameters)
        with reading("answer to the query"):
            kind, result = data["resultType"], data["result"]
            if kind == "vector":
                # A native histogram has no single value; it counts as not a number.
                pairs = [(one["metric"], [one.get("value") or (one["histogram"][0], "NaN")]) for one in result]
            elif kind == "matrix":
                pairs = [(one["metric"], one.get("values") or []) for one in result]
            elif kind == "scalar":
                pairs = [({}, [result])]
            else:
                pairs = []
            series = [
                Series(labels, [(float(stamp), float(value)) for stamp, value in values]) for labels, values in pairs
            ]
        evaluated = series[0].samples[0][0] if series and kind != "matrix" else self.clock
        return Answer(kind, series, evaluated)
