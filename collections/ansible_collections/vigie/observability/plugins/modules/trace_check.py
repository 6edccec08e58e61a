#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: trace_check
short_description: Prove that a trace is stored in Jaeger, whole and across services
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Asks Jaeger until a trace with the given run id is there that has no gap and in which each of O(edges) is.
  - Calls between services are found by walking from spans to their parents. Jaeger's own graph of dependencies is not trusted.
  - When no such trace comes, the reason is the first link that is broken.
options:
  service:
    description: Name of the service whose span carries the run id.
    type: str
    required: true
  run_id:
    description: The run id that the span carries.
    type: str
    required: true
  run_id_tag:
    description: Tag (attribute) of the span that holds the run id.
    type: str
    default: vigie.run_id
  match:
    description: Further tags of the same span and the values that they must have. It may have more.
    type: dict
    default: {}
  since:
    description:
      - Freshness bound. The span with the run id must start then or later, by the clock of its process.
      - Unix seconds, an RFC 3339 time, or a time before now as a Prometheus duration with a minus, such as V(-6m).
      - A bound in the future fails at once with reason V(since_in_future).
    type: str
    required: true
  edges:
    description: Calls that must be in the trace. A span of the one service must be the parent of a span of the other.
    type: list
    elements: dict
    default: []
    suboptions:
      from:
        description: The service that calls.
        type: str
        required: true
      to:
        description: The service that is called.
        type: str
        required: true
  no_orphans:
    description: Whether every parent that is named in the trace must be in it, and exactly one span have none.
    type: bool
    default: true
  error:
    description: V(true) wants a span that is marked as failed, V(false) wants none. Without it either will do.
    type: bool
  min_spans:
    description: Number of spans there must be at least.
    type: int
    default: 1
  max_skew:
    description:
      - Seconds that a span may start before its parent, or that a server may start after its client has ended.
      - Times are compared as the processes sent them, before Jaeger moves any.
    type: float
    default: 0.5
  traceparent:
    description:
      - The header of that name (W3C Trace Context) that the caller sent, or that the service told it.
      - Its span counts as the parent of the root, though it isn't in the trace. Its flags tell a trace that wasn't sampled from one that was
        lost, which nothing in Jaeger can.
    type: str
extends_documentation_fragment:
  - vigie.observability.check
  - vigie.observability.endpoint
notes:
  - O(endpoint) is the query API of Jaeger 2.13 or later, by default port 16686. Jaeger itself lets everybody in. Credentials are for a proxy before it.
  - Jaeger doesn't note when a trace could be found. RV(times.queryable) is the moment of the look that found it, so it is late by
    O(interval) at most.
  - With O(expect=absent) a link that is broken before the trace could have come through proves nothing. The check then fails with the
    reason of that link, for example V(service_unknown).
seealso:
  - module: vigie.observability.log_check
"""

EXAMPLES = r"""
- name: The trace of the run goes from Flask to the catalog
  vigie.observability.trace_check:
    endpoint: "{{ vigie_endpoints.jaeger }}"
    service: flask-metrics
    run_id: drill-20261124-110343
    edges:
      - {from: flask-metrics, to: catalog}
    error: false
    since: "{{ drill_started }}"
    timeout: 30
  register: trace

- name: The span of the crashing request got out before the process died
  vigie.observability.trace_check:
    endpoint:
      url: http://127.0.0.1:16686
    service: flask-metrics
    run_id: drill-20261124-110343
    match:
      http.route: /crash
    error: true
    since: -10m

- name: A trace that the caller began, and if it isn't there, say whether it was sampled at all
  vigie.observability.trace_check:
    endpoint: "{{ vigie_endpoints.jaeger }}"
    service: flask-metrics
    run_id: drill-20261124-110343
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
    since: -1m

- name: Nothing of a run that never was
  vigie.observability.trace_check:
    endpoint: "{{ vigie_endpoints.jaeger }}"
    service: flask-metrics
    run_id: nobody
    since: -5m
    expect: absent
    timeout: 10
"""

RETURN = r"""
matched:
  description: Whether the trace was found. With O(expect=absent), whether it stayed away.
  returned: always
  type: bool
  sample: true
observed:
  description:
    - C(traces), the number of traces of the run, and about the oldest that is as wanted, or the one that is nearest to that, C(trace_id),
      C(root), C(spans), C(services) with the number of their spans, C(edges), C(errors) and C(seconds).
    - Without a trace of the run only C(traces).
  returned: always
  type: raw
  sample:
    traces: 1
    trace_id: 4bf92f3577b34da6a3ce929d0e0e4736
    root: flask-metrics GET /
    spans: 3
    services: {flask-metrics: 2, catalog: 1}
    edges: [flask-metrics -> catalog]
    errors: 0
    seconds: 0.011
elapsed:
  description: Seconds that the check took.
  returned: always
  type: float
  sample: 1.212
attempts:
  description: How often it looked.
  returned: always
  type: int
  sample: 2
reason:
  description:
    - V(ok), a reason shared by all checks, or one of these, in the order in which they are looked for.
    - V(orphan_span) - a parent is not in the trace, or the trace has not exactly one root.
    - V(edge_missing) - one of O(edges) is not in the trace. RV(hint) says whether the called service has spans in another trace, since the
      context isn't passed on, or none at all, since it is down or its exporter is off.
    - V(too_few_spans) - fewer than O(min_spans).
    - V(clock_skew) - a span starts before its parent, or after its caller has ended, by more than O(max_skew).
    - V(error_missing), V(error_unexpected) - no span is marked as failed, or one is, against O(error).
    - V(tag_mismatch) - traces of the run are there, but none has the values of O(match).
    - V(stale_trace) - the traces of the run are older than O(since).
    - V(service_unknown) - Jaeger never got a span of the service, because of a wrong port or an exporter that is off.
    - V(tag_missing) - the trace of O(traceparent) is there, but without the run id.
    - V(sampled_out) - the flags of O(traceparent) say that the trace wasn't sampled.
    - V(not_found) - spans of the service come, but none of this run.
    - V(nothing_arrives) - no span of the service came since O(since).
  returned: always
  type: str
  sample: ok
hint:
  description: One sentence with the command that shows the cause; empty when all is well.
  returned: always
  type: str
  sample: ""
times:
  description: Times in Unix seconds.
  returned: always
  type: dict
  contains:
    started:
      description: When the span with the run id began, by the clock of its process.
      returned: when matched
      type: float
      sample: 1795519770.412
    ended:
      description: When the last span of the trace ended, by the clock of its process.
      returned: when matched
      type: float
      sample: 1795519770.423
    queryable:
      description: When the trace was found, by the clock of the host that runs the module.
      returned: when matched, and an earlier look of this check missed it
      type: float
      sample: 1795519775.612
"""

from collections.abc import Callable

from ansible_collections.vigie.observability.plugins.module_utils.check import check_module, connect, run_check
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import endpoint_spec
from ansible_collections.vigie.observability.plugins.module_utils.jaeger import Jaeger
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import since_bound
from ansible_collections.vigie.observability.plugins.module_utils.traces import TraceCheck, Wanted
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict


def main() -> None:
    """Run the module."""
    module = check_module(
        {
            "endpoint": endpoint_spec(),
            "service": {"type": "str", "required": True},
            "run_id": {"type": "str", "required": True},
            "run_id_tag": {"type": "str", "default": "vigie.run_id"},
            "match": {"type": "dict", "default": {}},
            "since": {"type": "str", "required": True},
            "edges": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"from": {"type": "str", "required": True}, "to": {"type": "str", "required": True}},
            },
            "no_orphans": {"type": "bool", "default": True},
            "error": {"type": "bool"},
            "min_spans": {"type": "int", "default": 1},
            "max_skew": {"type": "float", "default": 0.5},
            "traceparent": {"type": "str"},
        }
    )
    params = module.params

    def prepare() -> Callable[[Deadline], Verdict]:
        since = since_bound(params["since"])
        if since is None:
            raise CheckError("bad_option", "since is empty; give the time from which the trace must be, such as -5m.")
        return TraceCheck(
            Jaeger(connect(module)),
            Wanted(
                service=params["service"],
                run_id=params["run_id"],
                since=since,
                tag=params["run_id_tag"],
                match={str(name): value for name, value in params["match"].items()},
                edges=tuple((edge["from"], edge["to"]) for edge in params["edges"]),
                no_orphans=params["no_orphans"],
                error=params["error"],
                min_spans=params["min_spans"],
                max_skew=params["max_skew"],
                traceparent=params["traceparent"] or "",
            ),
            absent=params["expect"] == "absent",
        ).look

    run_check(module, prepare)


if __name__ == "__main__":
    main()
