#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: promql_check
short_description: Prove that a PromQL query gives what is expected, from fresh samples
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Waits until a query returns a value that satisfies a condition, at one look or for a while.
  - Prometheus answers with samples up to five minutes old. Here a result counts only if its samples are fresher than O(max_age) and
    O(since); that is proven by a second query for their times, which is sent only when the condition holds.
options:
  query:
    description: A PromQL query that gives an instant vector or a scalar.
    type: str
    required: true
  operator:
    description: How a sample is compared with O(value). Without O(value) any sample will do.
    type: str
    choices: ["==", "!=", ">", ">=", "<", "<="]
    default: ">="
  value:
    description: What a sample is compared with. A sample that is not a number satisfies nothing.
    type: float
  series:
    description: Whether any one of the returned series must satisfy the condition, or all of them, and at least one.
    type: str
    choices: [any, all]
    default: any
  hold:
    description:
      - Seconds for which every look must find the condition satisfied. It must be shorter than O(timeout).
      - In check mode, which looks once, it is not waited for.
    type: float
    default: 0.0
  max_age:
    description:
      - Seconds before the evaluation that a sample may be old. Not applied to O(first_sample).
      - In a query that is more than one selector, every series that any of its selectors finds must be that fresh. Selectors with
        C(offset) or C(@) ask for old samples on purpose and are left out.
    type: float
    default: 60.0
  first_sample:
    description:
      - Look at all samples after O(since) and report in RV(times.first_sample) the time of the first one that satisfies the condition,
        even if later ones don't.
      - With O(series=all) it is the time at which the last of the series had its first such sample.
      - O(query) must then be an instant vector selector, and O(since) is needed.
    type: bool
    default: false
extends_documentation_fragment:
  - vigie.observability.check
  - vigie.observability.endpoint
notes:
  - With O(expect=absent) a misspelled query stays absent, too. Prove first that the metric is there.
seealso:
  - module: vigie.observability.scrape_check
  - module: vigie.observability.alert_check
"""

EXAMPLES = r"""
- name: The metric is stored, whatever its value
  vigie.observability.promql_check:
    endpoint:
      url: http://127.0.0.1:9090
    query: http_requests_total{job="flask-metrics"}

- name: No container of the namespace restarts for ten seconds
  vigie.observability.promql_check:
    endpoint: "{{ vigie_endpoints.prometheus }}"
    query: sum(increase(kube_pod_container_status_restarts_total{namespace="vigie"}[1m]))
    operator: "=="
    value: 0
    hold: 10
    timeout: 120

- name: When was the third restart scraped
  vigie.observability.promql_check:
    endpoint: "{{ vigie_endpoints.prometheus }}"
    query: kube_pod_container_status_restarts_total{namespace="vigie", container="flask-metrics"}
    operator: ">="
    value: 3
    first_sample: true
    since: "{{ first_crash }}"
  register: scraped

- name: Nobody answers with a server error for a minute
  vigie.observability.promql_check:
    endpoint: "{{ vigie_endpoints.prometheus }}"
    query: sum(increase(http_requests_total{status=~"5.."}[1m]))
    operator: ">"
    value: 0
    expect: absent
    timeout: 60
"""

RETURN = r"""
matched:
  description: Whether the condition held.
  returned: always
  type: bool
  sample: true
observed:
  description:
    - The time of the evaluation, the number of series, and up to ten of them with labels and value, the deciding ones first.
    - Values are texts because JSON knows neither infinity nor NaN. Cut to 2000 characters of JSON.
  returned: always
  type: raw
  sample:
    evaluated: 1795519770.412
    series: 1
    result:
      - labels: {namespace: vigie, container: flask-metrics}
        value: "3"
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
    - V(ok), a reason shared by all checks, or why the condition doesn't hold.
    - V(bad_query) - Prometheus can't run the query, or it gives neither an instant vector nor a scalar.
    - V(metric_unknown) - no series has the metric's name now; RV(hint) has the nearest names.
    - V(no_data) - the metric exists, but the query's matchers and comparisons let nothing pass.
    - V(condition_false) - there are values, but they don't satisfy the condition.
    - V(stale_sample) - the values satisfy it, but are older than O(max_age) or O(since).
    - V(held_too_short) - the condition holds, but not yet for O(hold).
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
    evaluated:
      description: When the query was evaluated.
      returned: when there was a result and not O(first_sample)
      type: float
      sample: 1795519770.412
    first_sample:
      description: Time of the first sample that satisfies the condition.
      returned: when matched with O(first_sample)
      type: float
      sample: 1795519768.03
"""

from collections.abc import Callable

from ansible_collections.vigie.observability.plugins.module_utils.check import check_module, connect, run_check
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import endpoint_spec
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Prometheus
from ansible_collections.vigie.observability.plugins.module_utils.promql import OPERATORS, Condition, PromqlCheck
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import since_bound
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict


def main() -> None:
    """Run the module."""
    module = check_module(
        {
            "endpoint": endpoint_spec(),
            "query": {"type": "str", "required": True},
            "operator": {"type": "str", "choices": list(OPERATORS), "default": ">="},
            "value": {"type": "float"},
            "series": {"type": "str", "choices": ["any", "all"], "default": "any"},
            "hold": {"type": "float", "default": 0.0},
            "max_age": {"type": "float", "default": 60.0},
            "first_sample": {"type": "bool", "default": False},
        }
    )
    params = module.params

    def prepare() -> Callable[[Deadline], Verdict]:
        if params["hold"] >= params["timeout"] and params["hold"] > 0:
            raise CheckError("bad_option", f"hold={params['hold']} must be shorter than timeout={params['timeout']}.")
        return PromqlCheck(
            Prometheus(connect(module)),
            params["query"],
            Condition(params["operator"], params["value"]),
            every=params["series"] == "all",
            hold=0.0 if module.check_mode else params["hold"],
            max_age=params["max_age"],
            since=since_bound(params["since"]),
            first_sample=params["first_sample"],
        ).look

    run_check(module, prepare)


if __name__ == "__main__":
    main()
