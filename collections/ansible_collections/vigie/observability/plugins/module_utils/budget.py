# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""How long may each stage from a failure to its mail take, by what the running systems are configured to do?

Every interval is the longest wait that it can cause; what the work itself takes is granted by allowances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.alertmanager import Alertmanager
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Prometheus, Rule
from ansible_collections.vigie.observability.plugins.module_utils.routes import Route, matching_routes, parse_routes
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import parse_duration
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

REASONS = ("job_unknown", "rule_not_loaded", "routed_elsewhere", "missing_library")
"""Reasons of this module beyond the common ones; its documentation lists them."""

ALLOWANCES = {"scrape": 0.5, "evaluation": 0.5, "hop": 1.0, "smtp": 1.5}
"""Seconds granted for a scrape, an evaluation, the way from Prometheus to Alertmanager, and a mail's way to the mailbox."""

STAGES: dict[str, tuple[str, ...]] = {
    "scraped": ("scrape_interval", "scrape"),
    "firing": ("evaluation_interval", "for", "evaluation"),
    "routed": ("hop",),
    "mailed": ("group_wait", "smtp"),
    "resolved": (
        "scrape_interval",
        "scrape",
        "evaluation_interval",
        "keep_firing_for",
        "evaluation",
        "hop",
        "group_interval",
        "smtp",
    ),
}
"""The intervals and allowances that each stage waits for."""

END_TO_END = ("scraped", "firing", "routed", "mailed")
"""The stages between the last restart and its mail."""


def budgets(intervals: Mapping[str, float], allowances: Mapping[str, float]) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the seconds of each stage and of the whole way, and the parts that they are made of."""
    known = {**intervals, **allowances}
    parts = {stage: {name: known[name] for name in names} for stage, names in STAGES.items()}
    total = {stage: round(sum(pieces.values()), 3) for stage, pieces in parts.items()}
    total["end_to_end"] = round(sum(total[stage] for stage in END_TO_END), 3)
    return total, parts


def in_ticks(seconds: float, tick: float) -> float:
    """Return a duration as Prometheus waits for it: until the first evaluation at which it is over."""
    return math.ceil(round(seconds / tick, 6)) * tick


class ChainBudget:
    """The budgets of one alert.

    Args:
        prometheus: evaluates the rule.
        alertmanager: routes the alert.
        jobs: the jobs whose samples the rule needs; the slowest one counts.
        alert: name of the alert.
        labels: labels that the alert will carry beyond those of the rule.
        receiver: the receiver whose route counts, or None for the first route that the alert takes.
        allowances: seconds, by the names of ALLOWANCES.

    Raises:
        CheckError: ``bad_option``.
    """

    def __init__(
        self,
        prometheus: Prometheus,
        alertmanager: Alertmanager,
        jobs: Sequence[str],
        alert: str,
        *,
        labels: Mapping[str, Any] | None = None,
        receiver: str | None = None,
        allowances: Mapping[str, float] | None = None,
    ) -> None:
        self._allowances = {**ALLOWANCES, **(allowances or {})}
        for name, seconds in self._allowances.items():
            if not 0 <= seconds < math.inf:
                raise CheckError("bad_option", f"allowances.{name}={seconds} must be a number of seconds from 0 on.")
        if not jobs:
            raise CheckError("bad_option", "job must name at least one job.")
        self._prometheus = prometheus
        self._alertmanager = alertmanager
        self._jobs = list(jobs)
        self._alert = alert
        self._labels = {str(name): str(value) for name, value in (labels or {}).items()}
        self._receiver = receiver

    def look(self, deadline: Deadline) -> Verdict:
        """Read the configuration in force once."""
        scrape_interval, scrapes = self._scrape_interval(deadline)
        rule = self._rule(deadline)
        route = self._route(deadline, rule)
        intervals = {
            "scrape_interval": scrape_interval,
            "evaluation_interval": rule.interval,
            "for": in_ticks(rule.duration, rule.interval),
            "keep_firing_for": in_ticks(rule.keep_firing_for, rule.interval),
            "group_wait": route.group_wait,
            "group_interval": route.group_interval,
            "repeat_interval": route.repeat_interval,
        }
        total, parts = budgets(intervals, self._allowances)
        verdict = Verdict.yes({"scrape_intervals": scrapes, "rule": rule.summary(), "receiver": route.receiver})
        verdict.extra = {
            "intervals": intervals,
            "receiver": route.receiver,
            "group_by": list(route.group_by),
            "budgets": total,
            "budget_parts": parts,
        }
        return verdict

    def _scrape_interval(self, deadline: Deadline) -> tuple[float, dict[str, float]]:
        targets = self._prometheus.targets(deadline)
        found: dict[str, float] = {}
        for target in targets:
            job = target.labels.get("job", "")
            if job in self._jobs:
                # What a target says is in force also where relabelling sets it or the global default counts.
                found[job] = max(found.get(job, 0.0), parse_duration(target.interval))
        missing = [job for job in self._jobs if job not in found]
        if missing:
            known = ", ".join(sorted({target.labels.get("job", "") for target in targets})) or "none"
            raise CheckError(
                "job_unknown",
                f"Prometheus scrapes no target of job {', '.join(missing)}; it knows {known}; see {self._prometheus.address}/targets.",
                transient=True,
            )
        return max(found.values()), found

    def _rule(self, deadline: Deadline) -> Rule:
        rules = self._prometheus.rules(deadline, self._alert)
        if not rules:
            raise CheckError(
                "rule_not_loaded",
                f"No rule is called {self._alert}; see {self._prometheus.address}/rules.",
                transient=True,
            )
        return max(rules, key=lambda rule: rule.duration + rule.interval)

    def _route(self, deadline: Deadline, rule: Rule) -> Route:
        labels = {**rule.labels, "alertname": self._alert, **self._labels}
        routes = matching_routes(parse_routes(self._alertmanager.configuration(deadline)), labels)
        for route in routes:
            if self._receiver in (None, route.receiver):
                return route
        raise CheckError(
            "routed_elsewhere",
            f"An alert with labels {labels} goes to {', '.join(route.receiver for route in routes)}, not to {self._receiver}; see "
            f"{self._alertmanager.address}/#/status.",
        )
