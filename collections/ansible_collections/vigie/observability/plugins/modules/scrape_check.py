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
    - V(ok), a reason shared by all checks, or the first broken link.
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

from ansible_collections.vigie.observability.plugins.module_utils.check import check_module, connect, run_check
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import endpoint_spec
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Prometheus
from ansible_collections.vigie.observability.plugins.module_utils.scraping import ScrapeCheck
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import since_bound
from ansible_collections.vigie.observability.plugins.module_utils.verdict import Verdict


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
        ).look

    run_check(module, prepare)


if __name__ == "__main__":
    main()
