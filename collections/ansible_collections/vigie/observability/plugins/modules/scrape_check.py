#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: scrape_check
short_description: Prove that Prometheus scrapes a target, successfully and lately
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Waits until enough targets of a job are up and were scraped not too long ago.
  - When that doesn't come true, it names the broken link between the exporter and Prometheus.
options:
  job:
    description: Value of the label C(job) that the targets carry.
    type: str
    required: true
  labels:
    description: Further labels that the targets carry. Targets may carry more.
    type: dict
    default: {}
  count:
    description: At least this many targets must be healthy and fresh.
    type: int
    default: 1
  max_age:
    description: Seconds since the last scrape, by Prometheus' own clock, that are still fresh.
    type: float
    default: 60.0
  origin_path:
    description: Path of the metrics at O(origin).
    type: str
    default: /metrics
  monitor:
    description:
      - The ServiceMonitor of the Prometheus operator that is expected to make the job's targets.
      - It is looked at only when too few targets are up at the end of O(timeout), and then link by link through the Kubernetes API, so that
        RV(reason) is the first link that is broken. Nothing is changed. With O(expect=absent) it is left alone.
      - The user needs C(get) on servicemonitors and C(list) on prometheuses (with O(monitor.prometheus), C(get)), services, endpointslices
        and pods. With C(get) on namespaces and C(list) on events more is found. What may not be seen is skipped, and RV(hint) says so.
      - Needs PyYAML on the host that runs the module.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the ServiceMonitor.
        type: str
        required: true
      name:
        description: Name of the ServiceMonitor.
        type: str
        required: true
      kubeconfig:
        description:
          - Path, on the host that runs the module, of the kubeconfig.
          - When it is not set, the files in the environment variable E(KUBECONFIG) are taken, else C(~/.kube/config), else, in a pod, its
            service account.
        type: path
      context:
        description: Context of the kubeconfig. The current one when it is not set.
        type: str
      prometheus:
        description:
          - The object of kind Prometheus that is expected to select the ServiceMonitor.
          - When it is not set, one of all those in the cluster must.
        type: dict
        suboptions:
          namespace:
            description: Namespace of the Prometheus.
            type: str
            required: true
          name:
            description: Name of the Prometheus.
            type: str
            required: true
extends_documentation_fragment:
  - vigie.observability.check
  - vigie.observability.endpoint
  - vigie.observability.endpoint.origin
seealso:
  - module: vigie.observability.promql_check
"""

EXAMPLES = r"""
- name: The application is scraped
  vigie.observability.scrape_check:
    endpoint:
      url: http://127.0.0.1:9090
    job: flask-metrics

- name: Three replicas were scraped after the roll-out, and if not, say whether the pods answer at all
  vigie.observability.scrape_check:
    endpoint: "{{ vigie_endpoints.prometheus }}"
    job: flask-metrics
    labels:
      namespace: vigie
    count: 3
    since: "{{ rollout_finished }}"
    origin: "{{ vigie_endpoints.app }}"
    timeout: 60

- name: The application in the cluster is scraped, and if not, say which link from its ServiceMonitor on is broken
  vigie.observability.scrape_check:
    endpoint: "{{ vigie_endpoints.prometheus }}"
    job: flask-metrics
    monitor:
      namespace: vigie
      name: flask-monitor
      kubeconfig: ~/.kube/config
      context: minikube
      prometheus:
        namespace: monitoring
        name: prometheus-kube-prometheus-prometheus

- name: Nothing is scraped any more after the removal
  vigie.observability.scrape_check:
    endpoint: "{{ vigie_endpoints.prometheus }}"
    job: flask-metrics
    expect: absent
    timeout: 10
"""

RETURN = r"""
matched:
  description: Whether the condition held.
  returned: always
  type: bool
  sample: true
observed:
  description:
    - The number of healthy targets, the number wanted, and the job's targets with address, health, last error and labels.
    - When O(monitor) was looked at, also what was found along its links.
    - Cut to 2000 characters of JSON.
  returned: always
  type: raw
  sample:
    healthy: 1
    wanted: 1
    targets:
      - url: http://127.0.0.1:5000/metrics
        health: up
        error: ""
        last_scrape: 1795519770.412
        labels: {job: flask-metrics, instance: "127.0.0.1:5000"}
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
    - V(ok), a reason shared by all checks, or the first broken link. Those from V(monitor_missing) to V(configuration_pending) need
      O(monitor) and come in the order in which they are looked for; V(monitor_rejected) is also looked for once more at the end.
    - V(monitor_missing) - the cluster has no kind ServiceMonitor, or not this one.
    - V(monitor_not_selected) - Prometheus' C(serviceMonitorSelector) doesn't match the labels of the ServiceMonitor, its
      C(serviceMonitorNamespaceSelector) not its namespace, or there is no Prometheus.
    - V(monitor_rejected) - the operator says in the ServiceMonitor's status, or by an event about this version of it, that it is invalid.
    - V(service_not_selected) - the ServiceMonitor's C(selector) matches no Service in the namespaces that its C(namespaceSelector) allows.
    - V(port_unknown) - no selected Service has a port of the name that the ServiceMonitor gives, no container its C(targetPort), or no
      container the Service's own C(targetPort).
    - V(no_endpoints) - no pod matches the Service's selector, or none of them is ready.
    - V(configuration_pending) - all that is right, but Prometheus hasn't loaded the job that the operator makes of it, or still an older one.
    - V(job_unknown) - Prometheus has neither targets nor a scrape configuration of that name.
    - V(target_dropped) - relabelling drops everything that the job discovered.
    - V(too_few_targets) - what is there is healthy, but it is not enough, or the labels fit too few.
    - V(exporter_down) - nobody answers at the target's address, nor at O(origin).
    - V(wrong_address) - the exporter answers at O(origin), but Prometheus scrapes another address.
    - V(scrape_failed) - something answers, but Prometheus can't use the answer; its error is quoted in RV(hint).
    - V(stale_scrape) - the last scrape is older than O(max_age) or O(since).
    - V(not_scraped_yet) - the target is known but was never scraped.
  returned: always
  type: str
  sample: ok
hint:
  description: One sentence with the command that shows the cause; empty when all is well.
  returned: always
  type: str
  sample: ""
times:
  description: Times read from Prometheus, in Unix seconds.
  returned: always
  type: dict
  contains:
    last_scrape:
      description: When the most recently scraped healthy target was scraped.
      returned: when matched
      type: float
      sample: 1795519770.412
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ansible_collections.vigie.observability.plugins.module_utils.check import check_module, connect, run_check
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import endpoint_spec
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Prometheus
from ansible_collections.vigie.observability.plugins.module_utils.scraping import ScrapeCheck
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import since_bound
from ansible_collections.vigie.observability.plugins.module_utils.verdict import Verdict

if TYPE_CHECKING:
    from ansible_collections.vigie.observability.plugins.module_utils.monitors import Monitor


def main() -> None:
    """Run the module."""
    module = check_module(
        {
            "endpoint": endpoint_spec(),
            "job": {"type": "str", "required": True},
            "labels": {"type": "dict", "default": {}},
            "count": {"type": "int", "default": 1},
            "max_age": {"type": "float", "default": 60.0},
            "origin": endpoint_spec(required=False),
            "origin_path": {"type": "str", "default": "/metrics"},
            "monitor": {
                "type": "dict",
                "options": {
                    "namespace": {"type": "str", "required": True},
                    "name": {"type": "str", "required": True},
                    "kubeconfig": {"type": "path"},
                    "context": {"type": "str"},
                    "prometheus": {
                        "type": "dict",
                        "options": {
                            "namespace": {"type": "str", "required": True},
                            "name": {"type": "str", "required": True},
                        },
                    },
                },
            },
        }
    )
    params = module.params

    def prepare() -> Callable[[Deadline], Verdict]:
        return ScrapeCheck(
            Prometheus(connect(module)),
            params["job"],
            params["labels"],
            count=params["count"],
            max_age=params["max_age"],
            since=since_bound(params["since"]),
            origin=connect(module, "origin") if params["origin"] else None,
            origin_path=params["origin_path"],
            monitor=expected_monitor(),
        ).look

    def expected_monitor() -> Monitor | None:
        if not params["monitor"]:
            return None
        # What it takes costs time, and most checks have none.
        from ansible_collections.vigie.observability.plugins.module_utils.monitors import Monitor

        monitor = Monitor(params["monitor"], module.no_log_values.update)
        # Nothing is broken where nothing is expected.
        return None if params["expect"] == "absent" else monitor

    run_check(module, prepare)


if __name__ == "__main__":
    main()
