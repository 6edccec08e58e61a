#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: service_request
short_description: Send requests to a service, also one that ends the process
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Sends one or more HTTP requests through an endpoint, as traffic that carries a run id, or to crash the process on purpose.
  - It is not a check. It doesn't wait for anything; use C(until) of the task to try again.
  - The first request that is not answered as wanted ends the module.
extends_documentation_fragment:
  - vigie.observability.endpoint
options:
  path:
    description: Path and query, beginning with a slash.
    type: str
    default: /
  method:
    description: HTTP method.
    type: str
    default: GET
  headers:
    description: Headers to send with each request.
    type: dict
    default: {}
  body:
    description: Body to send with each request.
    type: str
  count:
    description: Number of requests, sent one after the other.
    type: int
    default: 1
  interval:
    description: Seconds between two requests.
    type: float
    default: 0.0
  run_id:
    description: Sent as header C(X-Vigie-Run-Id). At most 40 letters, digits, dots, underscores and hyphens.
    type: str
  status:
    description: Status codes that are wanted.
    type: list
    elements: int
    default: [200]
  allow_disconnect:
    description:
      - A connection that is lost before the answer is a result and no failure, as when the request ends the process.
      - A connection that is refused, or an answer that doesn't come in time, is a failure still.
    type: bool
    default: false
  disruptive:
    description:
      - The request changes the service, such as a crash. The module reports C(changed=true), and doesn't send it in check mode.
    type: bool
    default: false
  timeout:
    description: Seconds that one request may take.
    type: float
    default: 10.0
  trace:
    description: Send a W3C C(traceparent), sampled and new with each request. RV(trace_id) is the one of the last request.
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in check mode and says what it would change, without changing anything.
    support: full
    details:
      - A request with O(disruptive=true) is not sent in check mode. Any other is.
  diff_mode:
    description: Shows what would change.
    support: none
"""

EXAMPLES = r"""
- name: Twenty requests that carry the run id
  vigie.observability.service_request:
    endpoint: "{{ vigie_endpoints.app }}"
    count: 20
    run_id: drill-20261124-110343
  register: traffic

- name: Crash the process that serves the request
  vigie.observability.service_request:
    endpoint: "{{ vigie_endpoints.app }}"
    path: /crash
    run_id: drill-20261124-110343
    trace: true
    allow_disconnect: true
    disruptive: true

- name: The same application in a cluster
  vigie.observability.service_request:
    endpoint:
      service:
        namespace: vigie
        name: flask
        port: metrics
      kubeconfig: "{{ vigie_state_dir }}/kubeconfig"

- name: Wait until it is back
  vigie.observability.service_request:
    endpoint: "{{ vigie_endpoints.app }}"
    path: /readyz
    timeout: 2
  register: ready
  until: ready is success
  retries: 20
  delay: 0.5
"""

RETURN = r"""
statuses:
  description: HTTP status to how often it was answered.
  returned: always
  type: dict
  sample: {"200": 20}
disconnected:
  description: Requests whose connection was lost before an answer came.
  returned: always
  type: int
last:
  description: The last answer. Its status is V(null) when the connection was lost. Empty when nothing was sent or nothing answered.
  returned: always
  type: dict
  contains:
    status:
      description: HTTP status.
      type: int
    body:
      description: The body, shortened.
      type: str
    headers:
      description: The headers, names in lower case, without cookies and credentials.
      type: dict
times:
  description: Unix seconds C(first_sent) and C(last_answered), by the clock of the host that runs the module.
  returned: always
  type: dict
elapsed:
  description: Seconds from the first to the last request.
  returned: always
  type: float
trace_id:
  description: Trace id of the last request. Empty without O(trace).
  returned: always
  type: str
reason:
  description:
    - V(ok), or why the last request failed.
    - V(unexpected_status), the service answered another status than O(status).
    - V(disconnected), the connection was lost, and O(allow_disconnect) is false.
    - V(unreachable), V(timeout), V(tls_untrusted), V(tls_failed), V(bad_answer), no answer came, or none of HTTP.
    - V(access_denied), V(server_error), the API server in front of O(endpoint.service) doesn't let in, or has trouble.
    - V(bad_option), a value that can't be right.
  returned: always
  type: str
hint:
  description: One sentence with the cause. Empty on success.
  returned: always
  type: str
"""

import time
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vigie.observability.plugins.module_utils.check import connect
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import endpoint_spec
from ansible_collections.vigie.observability.plugins.module_utils.traffic import (
    Traffic,
    checked_run_id,
    send_requests,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError


def run(module: AnsibleModule) -> Traffic:
    """Send the requests, unless it is check mode and they would change the service."""
    params = module.params
    try:
        transport = connect(module)
        if module.check_mode and params["disruptive"]:
            checked_run_id(params["run_id"] or "none")
            return Traffic()
        return send_requests(
            transport,
            method=params["method"],
            path=params["path"],
            headers={str(name): str(value) for name, value in params["headers"].items()},
            body=params["body"],
            run_id=params["run_id"],
            trace=params["trace"],
            count=params["count"],
            interval=params["interval"],
            accept=tuple(params["status"]),
            allow_disconnect=params["allow_disconnect"],
            timeout=params["timeout"],
        )
    except CheckError as error:
        return Traffic(reason=error.reason, hint=error.hint)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "endpoint": endpoint_spec(),
            "path": {"type": "str", "default": "/"},
            "method": {"type": "str", "default": "GET"},
            "headers": {"type": "dict", "default": {}},
            "body": {"type": "str"},
            "count": {"type": "int", "default": 1},
            "interval": {"type": "float", "default": 0.0},
            "run_id": {"type": "str"},
            "status": {"type": "list", "elements": "int", "default": [200]},
            "allow_disconnect": {"type": "bool", "default": False},
            "disruptive": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 10.0},
            "trace": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    started = time.monotonic()
    traffic = run(module)
    # A request that arrived may have changed the service even though the answer was not the wanted one.
    arrived = bool(traffic.statuses or traffic.disconnected or traffic.reason == "timeout")
    result = {
        **asdict(traffic),
        "changed": module.params["disruptive"] and (arrived or (module.check_mode and traffic.reason == "ok")),
        "elapsed": round(time.monotonic() - started, 3),
    }
    if traffic.reason != "ok":
        module.fail_json(msg=f"{traffic.reason}: {traffic.hint}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
