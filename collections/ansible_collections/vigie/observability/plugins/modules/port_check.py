#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: port_check
short_description: Find busy or impossible TCP ports before anything changes
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Tries to bind each port of a table the way a server does (C(SO_REUSEADDR), so connections closed a moment ago are no false alarm).
  - Fails with one sentence that names the entry of the table, its value, the process that holds the port, and the remedy.
options:
  ports:
    description: The table of ports, name to number.
    type: dict
    required: true
  host:
    description: Address on which the servers will listen.
    type: str
    default: 127.0.0.1
  marker:
    description:
      - Processes whose environment has E(VIGIE_SUPERVISED) with this value are our own, so their ports are fine.
      - Without it every busy port is a fault.
    type: str
  variable:
    description: Name of the variable that holds the table, for the hint.
    type: str
    default: vigie_ports
attributes:
  check_mode:
    description: Can run in check mode and says what it would find, without changing anything.
    support: full
    details:
      - It is a preflight, so unlike the other checks it fails in check mode too. A run that would fail must not look fine.
  diff_mode:
    description: Shows what would change.
    support: none
notes:
  - A check is read-only and always reports C(changed=false).
requirements:
  - Linux (C(/proc))
"""

EXAMPLES = r"""
- name: All ports of the lab are free, or its own
  vigie.observability.port_check:
    ports: "{{ vigie_ports }}"
    marker: "{{ vigie_state_dir }}"
"""

RETURN = r"""
matched:
  description: All ports can be used.
  returned: always
  type: bool
observed:
  description: The ports that are busy or impossible, those of our own processes included.
  returned: always
  type: list
  elements: dict
  sample:
    - name: prometheus
      port: 9090
      reason: port_busy
      pid: 4711
      command: /usr/bin/prometheus
      ours: false
elapsed:
  description: Seconds that the check took.
  returned: always
  type: float
attempts:
  description: Always V(1).
  returned: always
  type: int
reason:
  description:
    - V(ok), or the gravest fault.
    - V(port_invalid), no number from 1 to 65535.
    - V(port_twice), two names have the same number.
    - V(privileged), a port below 1024 that this user may not bind.
    - V(port_busy), held by a process that is not ours.
    - V(bad_option), O(host) is no address of this machine.
  returned: always
  type: str
hint:
  description: One sentence with the entries, the holders and the remedy. Empty when all is well.
  returned: always
  type: str
times:
  description: Always empty.
  returned: always
  type: dict
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vigie.observability.plugins.module_utils.ports import check_ports
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "dict", "required": True},
            "host": {"type": "str", "default": "127.0.0.1"},
            "marker": {"type": "str"},
            "variable": {"type": "str", "default": "vigie_ports"},
        },
        supports_check_mode=True,
    )
    params = module.params
    started = time.monotonic()
    try:
        verdict = check_ports(params["ports"], params["host"], params["marker"], params["variable"])
    except CheckError as error:
        verdict = Verdict.no(error.reason, error.hint, [])
    result = {
        "changed": False,
        "matched": verdict.matched,
        "observed": verdict.observed,
        "elapsed": round(time.monotonic() - started, 3),
        "attempts": 1,
        "reason": verdict.reason,
        "hint": verdict.hint,
        "times": verdict.times,
    }
    if not verdict.matched:
        module.fail_json(msg=verdict.hint, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
