#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_silence
short_description: Keep a silence in Alertmanager
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Makes sure that a silence is in force for a while, or that it isn't.
  - A silence is known by O(matchers) and O(created_by) together. Silences that others created are never touched.
options:
  matchers:
    description:
      - The alerts to silence. Either a dict of label names and values that must be equal, or a list of dicts with C(name), C(value),
        C(regex) (default V(false)) and C(equal) (default V(true); V(false) means that the label must not match).
      - At least one matcher must demand a value that is not empty, or every alert would be silenced.
    type: raw
    required: true
  duration:
    description: How long from now a new or prolonged silence lasts, as a Prometheus duration such as V(90s) or V(1h30m).
    type: str
    default: 1h
  min_remaining:
    description:
      - A silence that still lasts at least that long is left as it is. A shorter one is prolonged to O(duration) from now.
      - Defaults to half of O(duration).
    type: str
  comment:
    description: Why. Another comment on an existing silence is replaced.
    type: str
    default: Set by vigie.observability.alert_silence
  created_by:
    description: Who. Part of the silence's identity.
    type: str
    default: vigie
  state:
    description:
      - V(present) creates, prolongs or leaves the silence. V(absent) ends every silence with these matchers and this creator.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - vigie.observability.wait
  - vigie.observability.endpoint
attributes:
  check_mode:
    description: Can run in check mode and says what it would change, without changing anything.
    support: full
  diff_mode:
    description: Shows what would change.
    support: full
seealso:
  - module: vigie.observability.alert_check
"""

EXAMPLES = r"""
- name: Nobody is woken while we crash the application on purpose
  vigie.observability.alert_silence:
    endpoint:
      url: http://127.0.0.1:9093
    matchers:
      alertname: PodCrashLoop
      namespace: vigie
    duration: 15m
    comment: Planned drill
  register: silence

- name: Silence all but the critical alerts of two namespaces
  vigie.observability.alert_silence:
    endpoint: "{{ vigie_endpoints.alertmanager }}"
    matchers:
      - name: namespace
        value: vigie|shop
        regex: true
      - name: severity
        value: critical
        equal: false

- name: Be loud again
  vigie.observability.alert_silence:
    endpoint: "{{ vigie_endpoints.alertmanager }}"
    matchers:
      alertname: PodCrashLoop
      namespace: vigie
    state: absent
"""

RETURN = r"""
silence_id:
  description: Alertmanager's id of the silence; empty when there is none, and in check mode for one that would be created.
  returned: success
  type: str
  sample: 5f1c3a7e-2f0c-4d55-9a67-0a1b2c3d4e5f
ends_at:
  description: When the silence ends, or with O(state=absent) would have ended, in RFC 3339; empty when there is none.
  returned: success
  type: str
  sample: "2026-01-31T12:15:00.000Z"
reason:
  description:
    - V(ok), or why it failed. V(bad_option), V(unreachable), V(timeout), V(disconnected), V(server_error), V(access_denied),
      V(redirected), V(bad_request), V(bad_answer), V(tls_untrusted) and V(tls_failed) mean what they mean for the checks.
  returned: always
  type: str
  sample: ok
hint:
  description: One sentence with the command that shows the cause; empty when all is well.
  returned: always
  type: str
  sample: ""
"""

from dataclasses import replace

from ansible_collections.vigie.observability.plugins.module_utils.alertmanager import Alertmanager, Silence
from ansible_collections.vigie.observability.plugins.module_utils.check import connect, waiting_module
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import endpoint_spec
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline, wait_for
from ansible_collections.vigie.observability.plugins.module_utils.silences import Plan, parse_wanted, plan
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import format_time
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict


def apply(alertmanager: Alertmanager, todo: Plan, deadline: Deadline) -> Silence | None:
    """Do what a plan says and return the silence that it leaves or has ended, if any."""
    if todo.after is None:
        for silence in todo.expire:
            alertmanager.expire_silence(deadline, silence.id)
        return todo.before
    if not todo.changed:
        return todo.before
    return replace(todo.after, id=alertmanager.put_silence(deadline, todo.after))


def main() -> None:
    """Run the module."""
    module = waiting_module(
        {
            "endpoint": endpoint_spec(),
            "matchers": {"type": "raw", "required": True},
            "duration": {"type": "str", "default": "1h"},
            "min_remaining": {"type": "str"},
            "comment": {"type": "str", "default": "Set by vigie.observability.alert_silence"},
            "created_by": {"type": "str", "default": "vigie"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        }
    )
    params = module.params
    failure: CheckError | None = None
    try:
        alertmanager = Alertmanager(connect(module))
        wanted = parse_wanted(
            *(params[name] for name in ("matchers", "duration", "min_remaining", "comment", "created_by"))
        )
    except CheckError as error:
        failure = error
    # Not in the handler: there, fail_json would show a traceback beside the sentence.
    if failure:
        module.fail_json(msg=f"{failure.reason}: {failure.hint}", reason=failure.reason, hint=failure.hint)
    plans: list[Plan] = []

    def attempt(deadline: Deadline) -> Verdict:
        silences, now = alertmanager.silences(deadline)
        todo = plan(wanted, silences, now, present=params["state"] == "present")
        plans.append(todo)
        return Verdict.yes((todo.after or todo.before) if module.check_mode else apply(alertmanager, todo, deadline))

    verdict = wait_for(
        attempt, timeout=params["timeout"], interval=params["interval"], request_timeout=params["request_timeout"]
    ).verdict
    if not verdict.matched:
        module.fail_json(msg=f"{verdict.reason}: {verdict.hint}", reason=verdict.reason, hint=verdict.hint)
    silence: Silence | None = verdict.observed
    module.exit_json(
        # A try whose answer got lost may have changed something, which the next one then found in order.
        changed=any(todo.changed for todo in plans),
        silence_id=silence.id if silence else "",
        ends_at=format_time(silence.ends_at) if silence else "",
        reason="ok",
        hint="",
        diff=plans[0].diff(),
    )


if __name__ == "__main__":
    main()
