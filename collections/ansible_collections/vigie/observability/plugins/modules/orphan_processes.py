#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: orphan_processes
short_description: Find and stop processes that a supervisor started and lost
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - A supervisor that is killed leaves its children running. They keep their ports, and nobody knows their ids any more.
  - This module finds them by the environment variable E(VIGIE_SUPERVISED), which the supervisor sets for its children and which these
    inherit to theirs, and stops them.
  - Only processes of the user that runs the module are looked at. The module itself and its ancestors are never among them.
options:
  marker:
    description: Value of E(VIGIE_SUPERVISED) in the environment of the processes, by which one lab is told from another.
    type: str
    required: true
  state:
    description:
      - V(absent) stops the processes, first with SIGTERM, and after O(grace) with SIGKILL.
      - V(listed) only tells which there are.
    type: str
    choices: [absent, listed]
    default: absent
  grace:
    description: Seconds between SIGTERM and SIGKILL.
    type: float
    default: 5.0
  except_children_of:
    description:
      - Id of a process. It and its descendants are fine, so they are neither listed nor stopped.
      - Give the id of a running supervisor to find only what it no longer knows.
    type: int
attributes:
  check_mode:
    description: Can run in check mode and says what it would change, without changing anything.
    support: full
  diff_mode:
    description: Shows what would change.
    support: none
requirements:
  - Linux (C(/proc))
"""

EXAMPLES = r"""
- name: Stop what an earlier supervisor left running
  vigie.observability.orphan_processes:
    marker: "{{ vigie_state_dir }}"
    except_children_of: "{{ supervisord_pid | default(omit) }}"

- name: See what runs
  vigie.observability.orphan_processes:
    marker: "{{ vigie_state_dir }}"
    state: listed
  register: running

- name: Nothing may be left after a teardown
  ansible.builtin.assert:
    that: running.processes | length == 0
"""

RETURN = r"""
processes:
  description: The processes that were found. With O(state=absent) they are stopped, or in check mode would be.
  returned: always
  type: list
  elements: dict
  contains:
    pid:
      description: Process id.
      type: int
    command:
      description: Command line, shortened.
      type: str
    program:
      description: Name that supervisord gives the process, else the name of its executable.
      type: str
  sample:
    - pid: 4711
      command: /srv/vigie/packages/prometheus/usr/bin/prometheus --config.file=/srv/vigie/etc/prometheus.yml
      program: prometheus
reason:
  description: V(ok); V(still_running), a process outlived SIGKILL; or V(bad_option), a value that can't be right.
  returned: always
  type: str
hint:
  description: One sentence with the cause and the command that shows it. Empty on success.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vigie.observability.plugins.module_utils.processes import find_supervised, stop

ROUNDS = 3
"""How often is looked again: a process may start a child in the moment in which it is stopped."""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "marker": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["absent", "listed"], "default": "absent"},
            "grace": {"type": "float", "default": 5.0},
            "except_children_of": {"type": "int"},
        },
        supports_check_mode=True,
    )
    marker, spared = module.params["marker"], module.params["except_children_of"]

    def refuse(reason: str, hint: str, found: list | None = None) -> None:
        module.fail_json(msg=hint, reason=reason, hint=hint, processes=found or [])

    if not marker:
        refuse("bad_option", "marker is empty; give the value of VIGIE_SUPERVISED that the processes carry.")
    if module.params["grace"] < 0:
        refuse("bad_option", f"grace={module.params['grace']} is negative; give seconds.")
    if spared is not None and spared <= 1:
        # Orphans become children of process 1: none would ever be found.
        refuse("bad_option", f"except_children_of={spared} is no supervisor; give the id of a running one, above 1.")
    found = find_supervised(marker, spared)
    seen = {process.pid: process for process in found}
    if module.params["state"] == "absent" and not module.check_mode:
        for _round in range(ROUNDS):
            left = stop(found, module.params["grace"])
            if left:
                named = ", ".join(f"{process.pid} ({process.program})" for process in left)
                refuse(
                    "still_running",
                    f"Not even SIGKILL ended process {named}; look at its state with 'ps -o pid,stat,wchan,args -p {left[0].pid}'.",
                    [process.summary() for process in left],
                )
            found = find_supervised(marker, spared)
            seen |= {process.pid: process for process in found}
            if not found:
                break
    module.exit_json(
        changed=module.params["state"] == "absent" and bool(seen),
        processes=[process.summary() for process in seen.values()],
        reason="ok",
        hint="",
    )


if __name__ == "__main__":
    main()
