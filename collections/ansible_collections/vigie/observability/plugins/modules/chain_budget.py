#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: chain_budget
short_description: Compute how long each stage from a failure to its mail may take
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Reads the intervals that the running Prometheus and Alertmanager are configured with, and adds up the longest wait of each stage.
  - Nothing is typed in but O(allowances), which grant the time that the work itself takes. So a budget follows the configuration.
options:
  job:
    description: Jobs whose samples the rule needs, by the label C(job) of their targets. The slowest of them counts.
    type: list
    elements: str
    required: true
  alert:
    description: Name of the alert.
    type: str
    required: true
  labels:
    description: Labels that the alert will carry beyond those that its rule sets. They decide on its route.
    type: dict
    default: {}
  receiver:
    description: Receiver whose route counts. Without it, it is the first route that the alert takes.
    type: str
  allowances:
    description: Seconds granted for what is no waiting.
    type: dict
    default: {}
    suboptions:
      scrape:
        description: For a scrape.
        type: float
        default: 0.5
      evaluation:
        description: For the evaluation of the rule's group.
        type: float
        default: 0.5
      hop:
        description: For the way from Prometheus to Alertmanager.
        type: float
        default: 1.0
      smtp:
        description: For the way of the mail from Alertmanager to the mailbox.
        type: float
        default: 1.5
extends_documentation_fragment:
  - vigie.observability.wait
  - vigie.observability.endpoint
  - vigie.observability.endpoint.alertmanager_required
attributes:
  check_mode:
    description: Can run in check mode and says what it would find, without changing anything.
    support: full
    details:
      - In check mode it asks once and never fails.
  diff_mode:
    description: Shows what would change.
    support: none
notes:
  - O(endpoint) is Prometheus. The module is read-only and always reports C(changed=false).
  - The budget C(mailed) is that of a new group of alerts, which waits C(group_wait). An alert that joins a group that was notified
    before waits for C(group_interval) instead; group by what makes the alert new, for example the pod.
  - The budget C(resolved) counts from the moment at which the cause is gone, the rule's own window not included.
requirements:
  - PyYAML on the host that runs the module
seealso:
  - module: vigie.observability.alert_check
"""

EXAMPLES = r"""
- name: What may the drill take
  vigie.observability.chain_budget:
    endpoint:
      url: http://127.0.0.1:9090
    alertmanager:
      url: http://127.0.0.1:9093
    job: [supervisor]
    alert: PodCrashLoop
    labels:
      namespace: vigie
    receiver: mail
  register: chain

- name: Show it
  ansible.builtin.debug:
    msg: "Third restart to mail: at most {{ chain.budgets.end_to_end }} s"
"""

RETURN = r"""
matched:
  description: Whether the budgets could be computed.
  returned: always
  type: bool
  sample: true
observed:
  description: The scrape interval of each job, the rule, and the receiver. Cut to 2000 characters of JSON.
  returned: always
  type: raw
  sample:
    scrape_intervals: {supervisor: 3.0}
    receiver: mail
intervals:
  description: The intervals in force, in seconds. C(for) and C(keep_firing_for) are rounded up to whole evaluations.
  returned: when matched
  type: dict
  sample:
    scrape_interval: 3.0
    evaluation_interval: 3.0
    for: 0.0
    keep_firing_for: 0.0
    group_wait: 2.0
    group_interval: 5.0
    repeat_interval: 14400.0
receiver:
  description: The receiver of the route.
  returned: when matched
  type: str
  sample: mail
group_by:
  description: The labels by which the route groups; V(...) means all of them.
  returned: when matched
  type: list
  elements: str
  sample: [alertname, pod]
budgets:
  description: Seconds that each stage may take, and C(end_to_end) for the way from the last restart to its mail.
  returned: when matched
  type: dict
  sample:
    scraped: 3.5
    firing: 3.5
    routed: 1.0
    mailed: 3.5
    resolved: 14.5
    end_to_end: 11.5
budget_parts:
  description: The intervals and allowances that make up the budget of each stage.
  returned: when matched
  type: dict
  sample:
    scraped: {scrape_interval: 3.0, scrape: 0.5}
    routed: {hop: 1.0}
elapsed:
  description: Seconds that it took.
  returned: always
  type: float
  sample: 0.012
attempts:
  description: How often it asked.
  returned: always
  type: int
  sample: 1
reason:
  description:
    - V(ok), or why there are no budgets. V(bad_option), V(unreachable), V(timeout), V(disconnected), V(server_error), V(access_denied),
      V(redirected), V(bad_request), V(bad_answer), V(tls_untrusted) and V(tls_failed) mean what they mean for the checks.
    - V(job_unknown) - Prometheus scrapes no target of a job.
    - V(rule_not_loaded) - no rule has the alert's name.
    - V(routed_elsewhere) - the alert doesn't come to O(receiver); RV(hint) names those that get it.
    - V(missing_library) - PyYAML is missing.
  returned: always
  type: str
  sample: ok
hint:
  description: One sentence with the command that shows the cause; empty when all is well.
  returned: always
  type: str
  sample: ""
times:
  description: Empty; there for the same shape as that of the checks.
  returned: always
  type: dict
  sample: {}
"""

from collections.abc import Callable

from ansible_collections.vigie.observability.plugins.module_utils.alertmanager import Alertmanager
from ansible_collections.vigie.observability.plugins.module_utils.budget import ALLOWANCES, ChainBudget
from ansible_collections.vigie.observability.plugins.module_utils.check import connect, run_check, waiting_module
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import endpoint_spec
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Prometheus
from ansible_collections.vigie.observability.plugins.module_utils.verdict import Verdict


def main() -> None:
    """Run the module."""
    module = waiting_module(
        {
            "endpoint": endpoint_spec(),
            "alertmanager": endpoint_spec(),
            "job": {"type": "list", "elements": "str", "required": True},
            "alert": {"type": "str", "required": True},
            "labels": {"type": "dict", "default": {}},
            "receiver": {"type": "str"},
            "allowances": {
                "type": "dict",
                "default": {},
                "options": {name: {"type": "float", "default": seconds} for name, seconds in ALLOWANCES.items()},
            },
        }
    )
    params = module.params

    def prepare() -> Callable[[Deadline], Verdict]:
        return ChainBudget(
            Prometheus(connect(module)),
            Alertmanager(connect(module, "alertmanager")),
            params["job"],
            params["alert"],
            labels=params["labels"],
            receiver=params["receiver"],
            allowances=params["allowances"],
        ).look

    run_check(module, prepare)


if __name__ == "__main__":
    main()
