#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: log_check
short_description: Prove that a log line is searchable in Elasticsearch, or stayed away
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Searches Elasticsearch until a document with the given run id, and further fields, is there.
  - Nothing is refreshed, written or changed. What it finds, people find too.
  - When no document comes, it asks Elasticsearch, and the shippers in O(shipper), which link between the line and the search is broken.
options:
  index:
    description: Names of indices and data streams, or patterns, separated by commas.
    type: str
    default: logs-*
  run_id:
    description: The run id that the line carries.
    type: str
    required: true
  run_id_field:
    description:
      - Field that holds the run id. The shipper may put the fields of the line at the root or below a prefix.
      - Its values are compared as a whole, whether it is mapped as a keyword, as a text with C(.keyword), or as a text.
    type: str
    default: run_id
  match:
    description:
      - Further fields and the values that they must have, as in the line. Dots in names are levels of objects, or part of the name.
      - Documents may have more.
    type: dict
    default: {}
  since:
    description:
      - Freshness bound. What is older can never satisfy the check. It is compared with O(time_field).
      - Unix seconds, an RFC 3339 time, or a time before now as a Prometheus duration with a minus, such as V(-6m).
      - A bound in the future fails at once with reason V(since_in_future).
    type: str
    required: true
  time_field:
    description: Field that holds the time of the line, mapped as a date.
    type: str
    default: '@timestamp'
  count:
    description: Number of such documents there must be at least.
    type: int
    default: 1
  unique:
    description:
      - Field, mapped as a keyword or as a number, whose values must all be different. Then O(count) counts different values.
      - A value that is there twice fails at once with reason V(doubled). So a numbered series of lines proves that none was lost and none
        sent twice.
    type: str
extends_documentation_fragment:
  - vigie.observability.check
  - vigie.observability.endpoint
  - vigie.observability.endpoint.shipper
notes:
  - Works with Elasticsearch from 8.7 on. The user needs C(read) and C(view_index_metadata) on the indices. With C(monitor) on the cluster and
    C(read_failure_store) on the indices the reason is found. What may not be seen is skipped, and RV(hint) says so.
  - Elasticsearch doesn't note when a document became searchable. RV(times.searchable) is the moment of the look that found it, so it is late
    by O(interval) at most.
  - With O(expect=absent) a link that is broken before the line could have come through proves nothing. The check then fails with the
    reason of that link, for example V(nothing_arrives).
seealso:
  - module: vigie.observability.trace_check
"""

EXAMPLES = r"""
- name: The line of the crashing request is searchable
  vigie.observability.log_check:
    endpoint: "{{ vigie_endpoints.elasticsearch }}"
    index: logs-app-default
    run_id: drill-20261124-110343
    match:
      route: /crash
      level: critical
    since: "{{ drill_started }}"
    timeout: 60
    shipper:
      - service: {namespace: logging, name: fluent-bit, port: http}
        path: /api/v2/metrics/prometheus
  register: line

- name: The same where the shipper puts the line below a prefix
  vigie.observability.log_check:
    endpoint:
      url: https://elasticsearch.example.org:9200
      username: reader
      password_file: /root/elasticsearch-password
      ca_path: /etc/ssl/elasticsearch-ca.pem
    run_id: drill-20261124-110343
    run_id_field: log_processed.run_id
    since: -10m

- name: 50,000 numbered lines, none lost and none sent twice
  vigie.observability.log_check:
    endpoint:
      url: http://127.0.0.1:9200
    run_id: load-1
    since: -30m
    count: 50000
    unique: number
    timeout: 300
    interval: 5

- name: A request that was never sent is not logged
  vigie.observability.log_check:
    endpoint: "{{ vigie_endpoints.elasticsearch }}"
    run_id: nobody
    since: -5m
    expect: absent
    timeout: 10
"""

RETURN = r"""
matched:
  description: Whether the documents were found. With O(expect=absent), whether they stayed away.
  returned: always
  type: bool
  sample: true
observed:
  description:
    - C(count), the number of documents (different values with O(unique)), C(wanted), the number wanted, and C(documents), index, time and
      the fields that tell most of the first three, the oldest first.
    - Cut to 2000 characters of JSON.
  returned: always
  type: raw
  sample:
    count: 1
    wanted: 1
    documents:
      - index: .ds-logs-app-default-2026.11.24-000001
        at: "2026-11-24T11:03:51.204Z"
        fields:
          run_id: drill-20261124-110343
          level: critical
          message: crashing on request
          route: /crash
          trace_id: 4bf92f3577b34da6a3ce929d0e0e4736
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
    - V(doubled) - a value of O(unique) is there more than once.
    - V(too_few) - fewer than O(count).
    - V(field_mismatch) - the run's lines are there, but none has the values of O(match).
    - V(stale_log) - the run's lines are older than O(since).
    - V(other_field) - the run id is there in another field, or within the text of a line that wasn't parsed.
    - V(index_missing), V(template_missing) - nothing has the name; and in the second case no index template makes data streams of it, so
      that the shipper's documents are refused or mapped by guess.
    - V(cluster_red) - no node holds a primary shard of the index.
    - V(disk_watermark), V(index_read_only) - the index takes no documents, since a disk is too full, or because of a block that is left
      over or was set by hand.
    - V(mapping_conflict) - the time or the run id is mapped so that it can't be searched for; Elasticsearch refused the line because of the
      type of a field; or a field such as C(app) is a value in one index and an object in another.
    - V(bulk_rejected) - the failure store has the line, or others, for another cause; or the nodes refused writes while the check watched.
    - V(shipper_down), V(shipper_unreachable), V(shipper_rejected), V(shipper_backlog) - a shipper of O(shipper) doesn't answer; reaches no
      Elasticsearch or isn't let in; had documents refused or gave them up; has them queued.
    - V(body_dropped) - fresh documents come, but none has the run id's field.
    - V(not_logged) - lines with run ids come, but none of this run.
    - V(nothing_arrives) - no fresh document comes.
  returned: always
  type: str
  sample: ok
hint:
  description: One sentence with the command that shows the cause; empty when all is well.
  returned: always
  type: str
  sample: ""
times:
  description: Times in Unix seconds, of the oldest fresh document where there are several.
  returned: always
  type: dict
  contains:
    timestamp:
      description: The line's own time, from O(time_field).
      returned: when matched
      type: float
      sample: 1795519770.412
    ingested:
      description: When Elasticsearch took the document, where an ingest pipeline notes that in C(event.ingested).
      returned: when matched and known
      type: float
      sample: 1795519771.020
    searchable:
      description: When the documents were found, by the clock of the host that runs the module.
      returned: when matched, and an earlier look of this check missed them
      type: float
      sample: 1795519771.612
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.check import check_module, connect, run_check
from ansible_collections.vigie.observability.plugins.module_utils.elasticsearch import Elasticsearch
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import endpoint_spec, open_transport
from ansible_collections.vigie.observability.plugins.module_utils.logs import LogCheck, Wanted
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.shippers import Shipper
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import since_bound
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict


def shipper_spec() -> dict[str, Any]:
    """Return the argument spec of a list of endpoints, each with the path of its metrics."""
    spec = endpoint_spec(required=False)
    options = {**spec["options"], "path": {"type": "str", "default": "/metrics"}}
    return {**spec, "type": "list", "elements": "dict", "default": [], "options": options}


def main() -> None:
    """Run the module."""
    module = check_module(
        {
            "endpoint": endpoint_spec(),
            "index": {"type": "str", "default": "logs-*"},
            "run_id": {"type": "str", "required": True},
            "run_id_field": {"type": "str", "default": "run_id"},
            "match": {"type": "dict", "default": {}},
            "since": {"type": "str", "required": True},
            "time_field": {"type": "str", "default": "@timestamp"},
            "count": {"type": "int", "default": 1},
            "unique": {"type": "str"},
            "shipper": shipper_spec(),
        }
    )
    params = module.params

    def shippers() -> list[Shipper]:
        found = []
        for number, endpoint in enumerate(params["shipper"]):
            transport = open_transport(endpoint, f"shipper[{number}]")
            module.no_log_values.update(transport.secrets)
            if not endpoint["path"].startswith("/"):
                raise CheckError(
                    "bad_option",
                    f"shipper[{number}].path={endpoint['path']} must begin with a slash, such as /metrics.",
                )
            found.append(Shipper(transport, endpoint["path"]))
        return found

    def prepare() -> Callable[[Deadline], Verdict]:
        since = since_bound(params["since"])
        if since is None:
            raise CheckError("bad_option", "since is empty; give the time from which the line must be, such as -5m.")
        return LogCheck(
            Elasticsearch(connect(module), params["index"]),
            Wanted(
                run_id=params["run_id"],
                run_id_field=params["run_id_field"],
                match={str(name): value for name, value in params["match"].items()},
                since=since,
                time_field=params["time_field"],
                count=params["count"],
                unique=params["unique"],
            ),
            shippers=shippers(),
            absent=params["expect"] == "absent",
        ).look

    run_check(module, prepare)


if __name__ == "__main__":
    main()
