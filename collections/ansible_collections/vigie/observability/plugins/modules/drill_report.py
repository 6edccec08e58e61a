#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_report
short_description: Write the report of a drill
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Judges the stages of a drill by their times and budgets and writes the result for people and for programs.
  - >-
    Writes C(report.json), C(report.html) (one page with a timeline, no script, nothing from outside), C(junit.xml) and C(summary.txt)
    into O(dest)/O(run_id) and points the relative link C(latest) beside it to the run. Every file is replaced atomically and the link moves last.
  - The module does not fail when the drill did. Fail the play by RV(verdict) after the report is written.
options:
  dest:
    description: Folder of all runs. It is created when missing.
    type: path
    required: true
  run_id:
    description: Name of the run and of its folder, 1 to 40 characters of C(A-Z a-z 0-9 . _ -), not V(latest).
    type: str
    required: true
  platform:
    description: Where the drill ran, for example V(embedded).
    type: str
    required: true
  host:
    description: The host it ran against.
    type: str
    required: true
  started:
    description: Start of the drill, Unix seconds.
    type: float
    required: true
  stages:
    description: What was collected of each stage, in any order.
    type: list
    elements: dict
    required: true
    suboptions: &entry
      name:
        description: Name, for O(stages) one of O(expected_stages).
        type: str
        required: true
      started:
        description: Start, Unix seconds by the clock of the observed system. Null when the stage never ran.
        type: float
      finished:
        description: End, Unix seconds. Null when it never ended.
        type: float
      budget_seconds:
        description: Seconds it may take. Null for no budget.
        type: float
      ok:
        description:
          - V(false) when a check failed. Left out, the times decide.
          - V(true) still becomes V(false) when the budget is exceeded or, with a budget, when a time is missing.
        type: bool
      evidence:
        description:
          - Small facts shown to people. On failure V(reason) (machine word) and V(hint) (a sentence, its command in single quotes or backticks).
          - V(budget_parts) (a dict of name to seconds) tells what the budget is made of. V(notes) is a list of remarks.
          - V(disturbances) is reserved, see O(disturbances).
        type: dict
        default: {}
  negatives:
    description: The same for the negative proofs, under names of their own.
    type: list
    elements: dict
    default: []
    suboptions: *entry
  versions:
    description: Component to version.
    type: dict
    default: {}
  disturbances:
    description: Processes that died during the drill without being asked. Each is shown with the stage it fell into, else with the nearest.
    type: list
    elements: dict
    default: []
    suboptions:
      process:
        description: Its name.
        type: str
        required: true
      at:
        description: When, Unix seconds.
        type: float
        required: true
      what:
        description: What happened, for example V(killed by signal 9).
        type: str
        default: died
  expected_stages:
    description:
      - The stages of this drill in order. Those that are not in O(stages) are reported as not reached.
      - Leave out V(log) and V(trace) where these parts are not deployed.
    type: list
    elements: str
    choices: [baseline, crash, restart, scraped, firing, routed, mailed, log, trace, resolved]
    default: [baseline, crash, restart, scraped, firing, routed, mailed, log, trace, resolved]
  keep:
    description: How many runs stay in O(dest), at least 1. Older ones are removed; only folders that hold a C(report.json) count as runs.
    type: int
    default: 50
attributes:
  check_mode:
    description: Can run in check mode and says what it would write, without changing anything.
    support: full
  diff_mode:
    description: Shows what would change.
    support: none
notes:
  - Runs where the report shall lie, usually on the controller with C(delegate_to=localhost).
  - An end before its start counts as 0 seconds and is noted in the evidence, since two clocks gave the times.
"""

EXAMPLES = r"""
- name: Write the report
  vigie.observability.drill_report:
    dest: "{{ playbook_dir }}/../out/drill"
    run_id: "{{ drill_run_id }}"
    platform: "{{ vigie_platform }}"
    host: "{{ inventory_hostname }}"
    started: "{{ drill_started }}"
    stages: "{{ drill_stages }}"
    negatives: "{{ drill_negatives }}"
    disturbances: "{{ drill_disturbances }}"
    versions: "{{ drill_versions }}"
    expected_stages: [baseline, crash, restart, scraped, firing, routed, mailed, resolved]
  delegate_to: localhost
  register: report

- name: Show the table
  ansible.builtin.debug:
    msg: "{{ report.table }}"

- name: The drill passed
  ansible.builtin.assert:
    that: report.verdict == 'pass'
    fail_msg: "{{ report.failed_stage }}: {{ report.reason }}. {{ report.hint }}"
"""

RETURN = r"""
path:
  description: Folder of this run.
  returned: success
  type: str
  sample: /home/ana/vigie/out/drill/20261124-110343
verdict:
  description: V(pass) when every expected stage and every negative proof is ok, else V(fail).
  returned: success
  type: str
  sample: fail
failed_stage:
  description: The stage or negative proof that broke first, null on pass. One that failed outranks one that was only over its budget.
  returned: success
  type: str
  sample: routed
reason:
  description:
    - V(ok), or the reason of RV(failed_stage) as the playbook gave it.
    - >-
      Given by this module are V(over_budget), V(unfinished) (no end), V(not_measured) (no times), V(not_reached) (left out although nothing
      before failed) and V(failed) (no reason was given).
  returned: success
  type: str
  sample: over_budget
hint:
  description: One sentence with the command that shows the cause, empty on pass.
  returned: success
  type: str
  sample: "no route leads to receiver mail; see 'amtool config routes show'."
table:
  description: The lines of C(summary.txt).
  returned: success
  type: list
  elements: str
pruned:
  description: Run ids that were removed.
  returned: success
  type: list
  elements: str
"""

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vigie.observability.plugins.module_utils.report import (
    STAGES,
    ReportError,
    build_report,
    finding,
    junit_xml,
    publish,
    summary_lines,
)
from ansible_collections.vigie.observability.plugins.module_utils.report_html import report_page


def main() -> None:
    """Run the module."""
    entry = {
        "name": {"type": "str", "required": True},
        "started": {"type": "float"},
        "finished": {"type": "float"},
        "budget_seconds": {"type": "float"},
        "ok": {"type": "bool"},
        "evidence": {"type": "dict", "default": {}},
    }
    disturbance = {
        "process": {"type": "str", "required": True},
        "at": {"type": "float", "required": True},
        "what": {"type": "str", "default": "died"},
    }
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "run_id": {"type": "str", "required": True},
            "platform": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "started": {"type": "float", "required": True},
            "stages": {"type": "list", "elements": "dict", "required": True, "options": entry},
            "negatives": {"type": "list", "elements": "dict", "default": [], "options": entry},
            "versions": {"type": "dict", "default": {}},
            "disturbances": {"type": "list", "elements": "dict", "default": [], "options": disturbance},
            "expected_stages": {"type": "list", "elements": "str", "choices": list(STAGES), "default": list(STAGES)},
            "keep": {"type": "int", "default": 50},
        },
        supports_check_mode=True,
    )
    params = dict(module.params)
    dest, keep = Path(params.pop("dest")), params.pop("keep")
    if keep < 1:
        module.fail_json(msg=f"keep={keep} is below 1; at least the present run has to stay.")
    try:
        report = build_report(**params)
    except ReportError as error:
        module.fail_json(msg=str(error))
    folder = dest / report["run_id"]
    table = summary_lines(report, str(folder / "report.html"))
    files = {
        "report.html": report_page(report),
        "junit.xml": junit_xml(report),
        "summary.txt": "".join(f"{line}\n" for line in table),
        "report.json": json.dumps(report, indent=2, ensure_ascii=False) + "\n",
    }
    try:
        changed, pruned = publish(dest, report["run_id"], files, keep=keep, check_mode=module.check_mode)
    except OSError as error:
        module.fail_json(
            msg=f"dest={dest}: the report can't be written ({error}); look at the folder with 'ls -la {dest}'."
        )
    broken = finding(report)
    module.exit_json(
        changed=changed,
        path=str(folder),
        verdict=report["verdict"],
        failed_stage=broken.name if broken else None,
        reason=broken.reason if broken else "ok",
        hint=broken.hint if broken else "",
        table=table,
        pruned=pruned,
    )


if __name__ == "__main__":
    main()
