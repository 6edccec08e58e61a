#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_check
short_description: Prove how far an alert got, from its rule to its receiver
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Waits until an alert is in a given state, in Prometheus or in Alertmanager.
  - When that doesn't come true, it walks the chain from the rule file to the notification and names the first broken link.
options:
  alert:
    description: Name of the alert.
    type: str
    required: true
  labels:
    description: Labels that the alert carries. It may carry more. Match on what makes the alert yours, never on its name alone.
    type: dict
    default: {}
  state:
    description:
      - V(loaded) - the rule exists, was evaluated successfully, and the last reload of the configuration was accepted.
      - V(inactive) - the rule exists, was evaluated successfully, and the alert is neither pending nor firing.
      - V(pending) - the expression is true and the rule's C(for) is running.
      - V(firing) - Prometheus fires the alert.
      - V(routed) - Alertmanager holds the alert, neither silenced nor inhibited, and routes it to O(receiver).
      - V(notified) - routed, and Alertmanager's counters show deliveries and no failures. They count integrations and not alerts, so
        this explains a missing mail but proves none; M(vigie.observability.mail_check) does that.
      - V(silenced) - Alertmanager holds the alert, and a silence suppresses it.
      - V(resolved) - the alert fired after O(since), or within the last hour, and neither Prometheus nor Alertmanager holds it now.
    type: str
    choices: [loaded, inactive, pending, firing, routed, notified, silenced, resolved]
    default: firing
  receiver:
    description: Receiver to which Alertmanager must route the alert. Without it any receiver will do that isn't called V(null).
    type: str
extends_documentation_fragment:
  - vigie.observability.check
  - vigie.observability.endpoint
  - vigie.observability.endpoint.alertmanager
notes:
  - O(endpoint) is Prometheus.
  - O(since) is compared with the alert's C(activeAt) (pending, firing), C(startsAt) (routed, notified, silenced), last firing evaluation
    (resolved), or the rule's last evaluation (loaded, inactive).
  - With O(expect=absent) a chain that is broken before the alert could have come through proves nothing. The check then fails with
    the reason of that link, for example V(rule_not_loaded).
seealso:
  - module: vigie.observability.mail_check
  - module: vigie.observability.alert_silence
  - module: vigie.observability.chain_budget
"""

EXAMPLES = r"""
- name: The rule is loaded and healthy
  vigie.observability.alert_check:
    endpoint:
      url: http://127.0.0.1:9090
    alert: PodCrashLoop
    state: loaded

- name: The crash of this run fires
  vigie.observability.alert_check:
    endpoint: "{{ vigie_endpoints.prometheus }}"
    alert: PodCrashLoop
    labels:
      namespace: vigie
      pod: "{{ pod }}"
    state: firing
    since: "{{ first_crash }}"
    timeout: 60
  register: firing

- name: Alertmanager routes it to the mail receiver
  vigie.observability.alert_check:
    endpoint: "{{ vigie_endpoints.prometheus }}"
    alertmanager: "{{ vigie_endpoints.alertmanager }}"
    alert: PodCrashLoop
    labels:
      pod: "{{ pod }}"
    state: routed
    receiver: mail
    since: "{{ first_crash }}"

- name: Two crashes are not enough for an alert
  vigie.observability.alert_check:
    endpoint: "{{ vigie_endpoints.prometheus }}"
    alert: PodCrashLoop
    labels:
      pod: "{{ pod }}"
    state: firing
    expect: absent
    timeout: 20
"""

RETURN = r"""
matched:
  description: Whether the alert was in the wanted state.
  returned: always
  type: bool
  sample: true
observed:
  description: The rules and alerts that were found, as Prometheus or Alertmanager show them. Cut to 2000 characters of JSON.
  returned: always
  type: raw
  sample:
    alerts:
      - state: firing
        active_at: 1795519770.412
        value: "1e+00"
        labels: {alertname: PodCrashLoop, pod: flask-metrics-1a2b3}
    rules:
      - group: vigie
        file: /etc/prometheus/rules/vigie.yml
        query: vector(1)
        for: 0
        keep_firing_for: 0
        interval: 3
        health: ok
        error: ""
        last_evaluation: 1795519771.412
elapsed:
  description: Seconds that the check took.
  returned: always
  type: float
  sample: 0.012
attempts:
  description: How often it looked.
  returned: always
  type: int
  sample: 1
reason:
  description:
    - V(ok), a reason shared by all checks, or the first broken link of the chain, in this order.
    - V(rule_config_rejected) - Prometheus refused its configuration or a rule file at the last reload and goes on with the old one.
    - V(rule_not_loaded) - no rule of that name with fitting labels; RV(hint) names the rules and files that are known.
    - V(rule_unhealthy) - the rule can't be evaluated, or was not evaluated yet.
    - V(expression_false) - the rule's expression gives nothing for these labels.
    - V(for_running) - the expression is true, but the rule's C(for) is not over; RV(hint) has the seconds left.
    - V(already_firing) - O(state=pending) was wanted, but the alert fires.
    - V(stale_alert) - the alert is there, but since before O(since).
    - V(no_alertmanager) - Prometheus knows no Alertmanager.
    - V(alertmanager_unreachable) - Alertmanager doesn't answer at O(alertmanager).
    - V(not_sent) - Prometheus fires, but Alertmanager doesn't hold the alert.
    - V(routed_elsewhere) - the alert goes to other receivers, which RV(hint) names.
    - V(inhibited) - another alert suppresses it.
    - V(silenced) - a silence suppresses it, though it should be routed.
    - V(not_silenced) - no silence matches it, though it should be silenced.
    - V(notification_failed) - Alertmanager tries to deliver and fails; RV(hint) names the integration.
    - V(not_notified) - Alertmanager has delivered nothing yet.
    - V(still_firing) - the alert should be inactive or resolved, but is not.
    - V(not_fired) - O(state=resolved) was wanted, but the alert never fired in that time.
  returned: always
  type: str
  sample: ok
hint:
  description: One sentence with the command that shows the cause; empty when all is well.
  returned: always
  type: str
  sample: ""
times:
  description: Times read from Prometheus or Alertmanager, in Unix seconds. Of several alerts the oldest fresh one counts.
  returned: always
  type: dict
  contains:
    last_evaluation:
      description: When the rule was last evaluated.
      returned: when matched with O(state=loaded) or O(state=inactive)
      type: float
      sample: 1795519771.412
    active_at:
      description: Evaluation at which the expression became true.
      returned: when matched with O(state=pending) or O(state=firing)
      type: float
      sample: 1795519770.412
    fired_at:
      description: Evaluation at which the alert fired, later than RV(times.active_at) by the rule's C(for).
      returned: when matched with O(state=firing)
      type: float
      sample: 1795519770.412
    starts_at:
      description: The alert's C(startsAt), which Prometheus sets to the evaluation at which it fired.
      returned: when matched with O(state=routed), O(state=notified) or O(state=silenced)
      type: float
      sample: 1795519770.412
    received_at:
      description: The alert's C(updatedAt), when Alertmanager last heard of it.
      returned: when matched with O(state=routed), O(state=notified) or O(state=silenced)
      type: float
      sample: 1795519770.419
    last_firing:
      description: Last evaluation at which the alert fired.
      returned: when matched with O(state=resolved)
      type: float
      sample: 1795519800.412
    ends_at:
      description: >-
        With O(state=resolved) the evaluation at which the alert was gone, that is RV(times.last_firing) and one interval of the rule's
        group; else the time at which Alertmanager drops the alert unless it hears of it again.
      returned: when matched with O(state=routed), O(state=notified), O(state=silenced) or O(state=resolved)
      type: float
      sample: 1795519803.412
"""

from collections.abc import Callable

from ansible_collections.vigie.observability.plugins.module_utils.alertmanager import Alertmanager
from ansible_collections.vigie.observability.plugins.module_utils.alerts import STATES, AlertCheck
from ansible_collections.vigie.observability.plugins.module_utils.check import check_module, connect, run_check
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import endpoint_spec
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Prometheus
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import since_bound
from ansible_collections.vigie.observability.plugins.module_utils.verdict import Verdict


def main() -> None:
    """Run the module."""
    module = check_module(
        {
            "endpoint": endpoint_spec(),
            "alertmanager": endpoint_spec(required=False),
            "alert": {"type": "str", "required": True},
            "labels": {"type": "dict", "default": {}},
            "state": {"type": "str", "choices": list(STATES), "default": "firing"},
            "receiver": {"type": "str"},
        },
        required_if=[("state", state, ["alertmanager"]) for state in ("routed", "notified", "silenced", "resolved")],
    )
    params = module.params

    def prepare() -> Callable[[Deadline], Verdict]:
        return AlertCheck(
            Prometheus(connect(module)),
            params["alert"],
            params["labels"],
            params["state"],
            alertmanager=Alertmanager(connect(module, "alertmanager")) if params["alertmanager"] else None,
            receiver=params["receiver"],
            since=since_bound(params["since"]),
            absent=params["expect"] == "absent",
        ).look

    run_check(module, prepare)


if __name__ == "__main__":
    main()
