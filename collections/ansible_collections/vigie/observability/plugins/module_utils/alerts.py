# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""How far did an alert get on its way from the rule to the receiver, and which link of that chain is broken first?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.alertmanager import (
    NO_ANSWER,
    Alertmanager,
    Deliveries,
    ReceivedAlert,
)
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import (
    Alert,
    Prometheus,
    Rule,
    included,
    selector,
)
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import format_time
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

STATES = ("loaded", "inactive", "pending", "firing", "routed", "notified", "silenced", "resolved")

REASONS = (
    "rule_not_loaded",
    "rule_unhealthy",
    "rule_config_rejected",
    "expression_false",
    "for_running",
    "already_firing",
    "no_alertmanager",
    "alertmanager_unreachable",
    "not_sent",
    "inhibited",
    "silenced",
    "not_silenced",
    "routed_elsewhere",
    "notification_failed",
    "not_notified",
    "still_firing",
    "not_fired",
    "stale_alert",
)
"""Reasons of this check beyond the common ones; the module's documentation lists them."""

BROKEN_CHAIN = (
    "rule_not_loaded",
    "rule_unhealthy",
    "rule_config_rejected",
    "no_alertmanager",
    "alertmanager_unreachable",
    "not_sent",
)
"""Reasons that mean that no alert could have come through, so that its absence proves nothing."""

NULL_RECEIVER = "null"
"""Name that receivers without any integration have by convention."""

HISTORY = 3600.0
"""Seconds that are looked back for a firing alert when no ``since`` is given."""

CLOCK_MARGIN = 60.0
"""Seconds by which such windows are widened, because clocks differ and answers tell only whole seconds."""

Broken = tuple[str, str, Any]
"""Reason, hint and observation of a broken link."""


class AlertCheck:
    """An alert in a given state.

    Args:
        prometheus: the server that evaluates the rule.
        alert: name of the alert.
        labels: labels that the alert carries, all or some of them.
        state: one of STATES.
        alertmanager: needed from state ``routed`` on.
        receiver: name of the receiver that must get the alert, or None for any that isn't ``null``.
        since: Unix seconds after which the alert must have reached the state, or None.
        absent: the alert is expected to stay away, which a broken chain can't prove.
    """

    def __init__(
        self,
        prometheus: Prometheus,
        alert: str,
        labels: Mapping[str, Any] | None,
        state: str,
        *,
        alertmanager: Alertmanager | None = None,
        receiver: str | None = None,
        since: float | None = None,
        absent: bool = False,
    ) -> None:
        self._prometheus = prometheus
        self._alertmanager = alertmanager
        self._alert = alert
        self._labels = {str(name): str(value) for name, value in (labels or {}).items()}
        self._state = state
        self._receiver = receiver
        self._since = -math.inf if since is None else since
        self._absent = absent
        self._counted: dict[str, Deliveries] | None = None
        self._looks: dict[str, Callable[[Deadline], Verdict]] = {
            "loaded": self._loaded,
            "inactive": self._inactive,
            "pending": self._pending,
            "firing": self._firing,
            "routed": self._received,
            "notified": self._received,
            "silenced": self._received,
            "resolved": self._resolved,
        }

    def look(self, deadline: Deadline) -> Verdict:
        """Ask once; only the last look walks the chain for the first broken link."""
        return self._looks[self._state](deadline)

    def _verdict(self, broken: Broken) -> Verdict:
        reason, hint, observed = broken
        if self._absent and reason in BROKEN_CHAIN:
            hint = f"It stayed away, but a broken chain proves nothing. {hint}"
            raise CheckError(reason, hint, transient=True, observed=observed)
        return Verdict.no(reason, hint, observed)

    # Prometheus' side

    def _rules(self, deadline: Deadline) -> list[Rule]:
        """Return the rules that can give the alert: those of its name whose fixed labels don't contradict."""
        return [
            rule
            for rule in self._prometheus.rules(deadline, self._alert)
            if all(
                "{{" in rule.labels[name] or rule.labels[name] == value
                for name, value in self._labels.items()
                if name in rule.labels
            )
        ]

    def _alerts(self, rules: list[Rule], *states: str) -> list[tuple[Rule, Alert]]:
        """Return the alerts in one of the states, the oldest first."""
        found = [
            (rule, alert)
            for rule in rules
            for alert in rule.alerts
            if alert.state in states and included(self._labels, alert.labels)
        ]
        return sorted(found, key=lambda pair: pair[1].active_at)

    def _evaluated(self, rules: list[Rule]) -> float | None:
        """Return when the rules were last evaluated, or None unless all were, successfully and after ``since``."""
        times = [rule.last_evaluation or 0.0 for rule in rules if rule.health == "ok"]
        if not rules or len(times) < len(rules) or min(times) <= max(0.0, self._since):
            return None
        return min(times)

    def _loaded(self, deadline: Deadline) -> Verdict:
        rules = self._rules(deadline)
        evaluated = self._evaluated(rules)
        if evaluated is not None and self._prometheus.config_loaded(deadline):
            return Verdict.yes(_seen(rules), {"last_evaluation": evaluated})
        if not deadline.final:
            return Verdict.no("rule_not_loaded", "", _seen(rules))
        return Verdict.no(*(self._rule_link(deadline, rules) or self._not_evaluated(rules)))

    def _inactive(self, deadline: Deadline) -> Verdict:
        rules = self._rules(deadline)
        alerts = self._alerts(rules, "pending", "firing")
        evaluated = self._evaluated(rules)
        if evaluated is not None and not alerts:
            return Verdict.yes(_seen(rules), {"last_evaluation": evaluated})
        if alerts:
            return self._still_firing(deadline, rules, alerts)
        if not deadline.final:
            return Verdict.no("rule_not_loaded", "", _seen(rules))
        return self._verdict(self._rule_link(deadline, rules) or self._not_evaluated(rules))

    def _pending(self, deadline: Deadline) -> Verdict:
        rules = self._rules(deadline)
        pending = self._alerts(rules, "pending")
        firing = self._alerts(rules, "firing")
        for _rule, alert in pending:
            if alert.active_at > self._since:
                return Verdict.yes(_seen(rules, pending), {"active_at": alert.active_at})
        observed = _seen(rules, pending + firing)
        if any(alert.active_at > self._since for _rule, alert in firing):
            hint = f"{self._alert} is past pending and fires already; ask for state=firing, or look sooner."
            return Verdict.no("already_firing", hint, observed)
        if not deadline.final:
            return Verdict.no("expression_false", "", observed)
        if pending:
            return Verdict.no(*self._stale(pending[0][1].active_at, observed))
        return self._verdict(self._prometheus_link(deadline, rules) or self._just_now(observed))

    def _firing(self, deadline: Deadline) -> Verdict:
        rules = self._rules(deadline)
        firing = self._alerts(rules, "firing")
        for rule, alert in firing:
            if alert.active_at > self._since:
                times = {"active_at": alert.active_at, "fired_at": self._fired_at(deadline, rule, alert)}
                return Verdict.yes(_seen(rules, firing), times)
        if not deadline.final:
            return Verdict.no("expression_false", "", _seen(rules, firing))
        return self._verdict(self._prometheus_link(deadline, rules) or self._just_now(_seen(rules)))

    def _fired_at(self, deadline: Deadline, rule: Rule, alert: Alert) -> float:
        """Return the time of the evaluation that made the alert fire."""
        if not rule.duration:
            return alert.active_at
        age = self._prometheus.clock - alert.active_at
        if age < HISTORY:
            # Prometheus doesn't tell it, but stores a sample of ALERTS at every evaluation.
            name = selector("ALERTS", {**alert.labels, "alertstate": "firing"})
            answer = self._prometheus.query(deadline, f"{name}[{int((age + CLOCK_MARGIN) * 1000)}ms]")
            stamps = [stamp for one in answer.series for stamp, _value in one.samples if stamp > alert.active_at]
            if stamps:
                return min(stamps)
        # Not stored yet, or long ago: evaluations come at fixed distances.
        return alert.active_at + math.ceil(rule.duration / rule.interval) * rule.interval

    def _rule_link(self, deadline: Deadline, rules: list[Rule]) -> Broken | None:
        """Return why no rule can give the alert, or None if one can."""
        address = self._prometheus.address
        observed = _seen(rules)
        if not self._prometheus.config_loaded(deadline):
            force = (
                "the rules of before are still in force" if rules else f"{self._alert} is not among the rules in force"
            )
            return (
                "rule_config_rejected",
                f"Prometheus refused its configuration or a rule file at the last reload, and {force}; 'promtool check config' and "
                "Prometheus' log name the line.",
                observed,
            )
        for rule in rules:
            if rule.health == "err":
                return (
                    "rule_unhealthy",
                    f"The rule can't be evaluated: {rule.error}; try it at {address}/graph.",
                    observed,
                )
        if rules:
            return None
        every = self._prometheus.rules(deadline)
        same = [rule.labels for rule in every if rule.name == self._alert]
        names = ", ".join(sorted({rule.name for rule in every})) or "no alerting rule"
        places = ", ".join(sorted({f"{rule.file} ({rule.group})" for rule in every})) or "no file"
        if same:
            hint = f"Rules called {self._alert} exist, but with labels {same} instead of {self._labels}; see {address}/rules."
        else:
            hint = f"No rule is called {self._alert}; Prometheus knows {names} from {places}; look at rule_files and {address}/rules."
        return "rule_not_loaded", hint, {"rules": names, "files": places}

    def _not_evaluated(self, rules: list[Rule]) -> Broken:
        after = "" if self._since == -math.inf else f" after {format_time(self._since)}"
        interval = max((rule.interval for rule in rules), default=0.0)
        return (
            "rule_unhealthy",
            f"The rule was not evaluated{after} yet; its group is evaluated every {interval:g} s.",
            _seen(rules),
        )

    def _prometheus_link(self, deadline: Deadline, rules: list[Rule] | None = None) -> Broken | None:
        """Return the first broken link up to a firing alert in Prometheus, or None if it fires, and freshly so."""
        if rules is None:
            rules = self._rules(deadline)
        firing = self._alerts(rules, "firing")
        pending = self._alerts(rules, "pending")
        if any(alert.active_at > self._since for _rule, alert in firing):
            return None
        broken = self._rule_link(deadline, rules)
        if broken:
            return broken
        observed = _seen(rules, firing + pending)
        for rule, alert in pending:
            left = max(0.0, alert.active_at + rule.duration - self._prometheus.clock)
            return (
                "for_running",
                f"The expression is true since {format_time(alert.active_at)}; the rule's 'for' of {rule.duration:g} s ends in "
                f"{left:.0f} s: wait longer or shorten it.",
                observed,
            )
        if firing:
            return self._stale(firing[0][1].active_at, observed)
        if all(rule.last_evaluation is None for rule in rules):
            return self._not_evaluated(rules)
        others = [alert.labels for rule in rules for alert in rule.alerts]
        hint = (
            f"The expression gives nothing with labels {self._labels}"
            if self._labels
            else "The expression gives nothing"
        )
        if others:
            hint += f", only {others[:3]}"
        return "expression_false", f"{hint}; try it at {self._prometheus.address}/graph: {rules[0].query}", observed

    def _just_now(self, observed: Any) -> Broken:
        return (
            "expression_false",
            f"{self._alert} began to fire only at the last moment; give a longer timeout.",
            observed,
        )

    def _stale(self, began: float, observed: Any) -> Broken:
        return (
            "stale_alert",
            f"{self._alert} is active since {format_time(began)}, not after {format_time(self._since)}: it belongs to something earlier; "
            "let that one resolve first.",
            observed,
        )

    def _still_firing(self, deadline: Deadline, rules: list[Rule], alerts: list[tuple[Rule, Alert]]) -> Verdict:
        rule, alert = alerts[0]
        # A rule that can't be evaluated any more keeps its alerts as they were.
        broken = self._rule_link(deadline, rules) if deadline.final and rule.health == "err" else None
        if broken:
            return self._verdict(broken)
        keep = f", and for keep_firing_for={rule.keep_firing_for:g} s after that" if rule.keep_firing_for else ""
        return Verdict.no(
            "still_firing",
            f"{self._alert} is {alert.state} since {format_time(alert.active_at)} and stays so while its expression is true{keep}: "
            f"{rule.query}",
            _seen(rules, alerts),
        )

    # Alertmanager's side

    @property
    def _receiving(self) -> Alertmanager:
        if self._alertmanager is None:
            raise CheckError("bad_option", f"state={self._state} needs the option alertmanager.")
        return self._alertmanager

    def _received_alerts(self, deadline: Deadline) -> list[ReceivedAlert]:
        """Return the alert as Alertmanager holds it, whatever its state, the oldest first."""
        alertmanager = self._receiving
        try:
            received = alertmanager.alerts(deadline, {"alertname": self._alert, **self._labels})
        except CheckError as error:
            if error.reason not in NO_ANSWER:
                raise
            raise CheckError("alertmanager_unreachable", error.hint, transient=True, observed=error.observed) from error
        return sorted(received, key=lambda alert: alert.starts_at)

    def _received(self, deadline: Deadline) -> Verdict:
        """States routed, notified and silenced."""
        try:
            received = self._received_alerts(deadline)
        except CheckError as error:
            # A link before Alertmanager may be broken as well, and the first one is named.
            if deadline.final and not self._absent and error.reason == "alertmanager_unreachable":
                broken = self._prometheus_link(deadline)
                if broken:
                    return self._verdict(broken)
            raise
        observed = {"alerts": [alert.summary() for alert in received]}
        fresh = [alert for alert in received if alert.starts_at > self._since]
        for alert in fresh:
            if self._is_there(alert):
                times = {"starts_at": alert.starts_at, "received_at": alert.updated_at, "ends_at": alert.ends_at}
                return (
                    self._notified(deadline, observed, times)
                    if self._state == "notified"
                    else Verdict.yes(observed, times)
                )
        if not deadline.final:
            return Verdict.no("not_sent", "", observed)
        if fresh:
            return Verdict.no(*self._routing_link(deadline, fresh[0], observed))
        broken = self._prometheus_link(deadline)
        if broken:
            return self._verdict(broken)
        if received:
            return Verdict.no(*self._stale(received[0].starts_at, observed))
        return self._verdict(self._sending_link(deadline, observed))

    def _is_there(self, alert: ReceivedAlert) -> bool:
        """Return whether an alert has the wanted state and receiver."""
        if not self._is_ours(alert):
            return False
        if self._state == "silenced":
            return bool(alert.silenced_by)
        return not alert.silenced_by and not alert.inhibited_by

    def _is_ours(self, alert: ReceivedAlert) -> bool:
        if self._receiver is not None:
            return self._receiver in alert.receivers
        return any(name != NULL_RECEIVER for name in alert.receivers)

    def _sending_link(self, deadline: Deadline, observed: Any) -> Broken:
        """Return why a firing alert is not in Alertmanager."""
        address = self._receiving.address
        targets = self._prometheus.alertmanagers(deadline)
        if not targets:
            return (
                "no_alertmanager",
                f"The alert fires, but Prometheus knows no Alertmanager to send it to; see 'alerting' at {self._prometheus.address}/config.",
                observed,
            )
        return (
            "not_sent",
            f"The alert fires and Prometheus sends to {', '.join(targets)}, but {address} doesn't hold it; compare the addresses and look at "
            "prometheus_notifications_errors_total. What fired before Prometheus found its Alertmanager is sent only after "
            "--rules.alert.resend-delay, a minute by default.",
            observed,
        )

    def _routing_link(self, deadline: Deadline, alert: ReceivedAlert, observed: Any) -> Broken:
        """Return why an alert in Alertmanager doesn't come to the receiver in the wanted state."""
        address = self._receiving.address
        if not self._is_ours(alert):
            to = ", ".join(f"'{name}'" for name in alert.receivers)
            nothing = ", which by its name sends nothing" if alert.receivers == [NULL_RECEIVER] else ""
            wanted = f"not to '{self._receiver}'" if self._receiver else "to no other"
            labels = " ".join(f"{name}={value}" for name, value in sorted(alert.labels.items()))
            return (
                "routed_elsewhere",
                f"Alertmanager routes the alert to {to}{nothing}, {wanted}; try 'amtool config routes test "
                f"--alertmanager.url={address} {labels}'.",
                observed,
            )
        if alert.inhibited_by:
            return (
                "inhibited",
                f"Another alert inhibits it: {self._inhibitors(deadline, alert)}; see inhibit_rules at {address}/#/status.",
                observed,
            )
        if self._state == "silenced":
            return "not_silenced", f"No silence matches the alert; see {address}/#/silences.", observed
        return (
            "silenced",
            f"A silence suppresses the alert; end it with 'amtool silence expire --alertmanager.url={address} "
            f"{' '.join(alert.silenced_by)}'.",
            observed,
        )

    def _inhibitors(self, deadline: Deadline, alert: ReceivedAlert) -> str:
        """Return the alerts that inhibit one, by their labels, or by their fingerprints when they are gone meanwhile."""
        held = self._alertmanager.alerts(deadline, {}) if self._alertmanager else []
        names = {
            one.fingerprint: " ".join(f"{name}={value}" for name, value in sorted(one.labels.items())) for one in held
        }
        return ", ".join(names.get(fingerprint, f"fingerprint {fingerprint}") for fingerprint in alert.inhibited_by)

    def _notified(self, deadline: Deadline, observed: dict[str, Any], times: dict[str, float]) -> Verdict:
        """Return whether Alertmanager delivers; its counters know integrations, not alerts."""
        counted = self._receiving.deliveries(deadline)
        before = self._counted = counted if self._counted is None else self._counted
        observed = {**observed, "deliveries": {name: vars(one) for name, one in counted.items()}}
        for name, one in counted.items():
            earlier = before.get(name, Deliveries())
            failures = one.failed_requests + one.failed_notifications
            rising = failures > earlier.failed_requests + earlier.failed_notifications
            delivering = one.delivered > (earlier.delivered if rising else 0)
            if failures and not delivering:
                why = f" ({', '.join(sorted(set(one.reasons)))})" if one.reasons else ""
                return Verdict.no(
                    "notification_failed",
                    f"Alertmanager fails to deliver by {name}{why}: {one.failed_requests:g} of {one.requests:g} requests failed; its log "
                    "has the server's answer ('Notify attempt failed').",
                    observed,
                    times,
                )
        if any(one.delivered for one in counted.values()):
            return Verdict.yes(observed, times)
        hint = "Alertmanager has the alert but has not delivered anything yet; group_wait may still be running."
        return Verdict.no("not_notified", hint, observed, times)

    def _resolved(self, deadline: Deadline) -> Verdict:
        rules = self._rules(deadline)
        firing = self._alerts(rules, "firing")
        if firing:
            return self._still_firing(deadline, rules, firing)
        received = self._received_alerts(deadline)
        if received:
            ends = format_time(max(alert.ends_at for alert in received))
            hint = f"Prometheus no longer fires, but Alertmanager was not told so and holds the alert until {ends}."
            return Verdict.no("still_firing", hint, {"alerts": [alert.summary() for alert in received]})
        clock = self._prometheus.clock
        since = clock - HISTORY if self._since == -math.inf else self._since
        name = selector("ALERTS", {"alertname": self._alert, **self._labels, "alertstate": "firing"})
        window = int((max(clock, since) - since + CLOCK_MARGIN) * 1000)
        answer = self._prometheus.query(deadline, f"{name}[{window}ms]")
        last = max((stamp for one in answer.series for stamp, _value in one.samples if stamp > since), default=None)
        if last is not None and rules:
            gone = last + max(rule.interval for rule in rules)
            return Verdict.yes(_seen(rules), {"last_firing": last, "ends_at": gone})
        if not deadline.final:
            return Verdict.no("not_fired", "", _seen(rules))
        broken = self._rule_link(deadline, rules)
        if broken:
            return self._verdict(broken)
        hint = f"{self._alert} did not fire after {format_time(since)}, so there is nothing that could be resolved; query {name}."
        return Verdict.no("not_fired", hint, _seen(rules))


def _seen(rules: list[Rule], alerts: list[tuple[Rule, Alert]] | None = None) -> dict[str, Any]:
    """Return what Prometheus said, for people."""
    return {
        "alerts": [alert.summary() for _rule, alert in alerts or []],
        "rules": [rule.summary() for rule in rules],
    }
