# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The frame around every check module: shared options in, one look or a wait, one result shape out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline, Outcome, wait_for
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict, trimmed

if TYPE_CHECKING:
    from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Transport

WAIT_OPTIONS: dict[str, dict[str, Any]] = {
    "timeout": {"type": "float", "default": 30.0},
    "interval": {"type": "float", "default": 1.0},
    "request_timeout": {"type": "float", "default": 10.0},
}
"""Options of every module that asks a service; documented in the doc fragments ``check`` and ``wait``."""

CHECK_OPTIONS: dict[str, dict[str, Any]] = {
    **WAIT_OPTIONS,
    "expect": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "since": {"type": "str"},
}
"""Options of every check; documented once in the doc fragment ``check``."""


def check_module(options: dict[str, Any], **kwargs: Any) -> AnsibleModule:
    """Return the AnsibleModule of a check: its own options plus the shared ones, with full check mode."""
    return waiting_module({**CHECK_OPTIONS, **options}, **kwargs)


def waiting_module(options: dict[str, Any], **kwargs: Any) -> AnsibleModule:
    """Return the AnsibleModule of a module with the options of WAIT_OPTIONS, whose bounds are checked here."""
    module = AnsibleModule(argument_spec={**WAIT_OPTIONS, **options}, supports_check_mode=True, **kwargs)
    for name, least in (("timeout", 0.0), ("interval", 0.05), ("request_timeout", 0.1)):
        value = module.params[name]
        if not least <= value < float("inf"):
            finish(module, failed("bad_option", f"{name}={value} must be a number of seconds from {least} on."))
    return module


def connect(module: AnsibleModule, name: str = "endpoint") -> Transport:
    """Return the transport for the endpoint in the option ``name`` and keep its secrets out of everything printed.

    Raises:
        CheckError: ``bad_option`` when the endpoint can't be used.
    """
    # Not every check speaks HTTP, and loading what it takes costs time.
    from ansible_collections.vigie.observability.plugins.module_utils.endpoint import open_transport

    transport = open_transport(module.params[name], name)
    module.no_log_values.update(transport.secrets)
    return transport


def failed(reason: str, hint: str, observed: Any = None) -> Outcome:
    """Return the outcome of a check that could not even look."""
    return Outcome(Verdict.no(reason, hint, observed), 0.0, 0)


def run_check(module: AnsibleModule, prepare: Callable[[], Callable[[Deadline], Verdict]]) -> NoReturn:
    """Run a check to its end and leave the module.

    Args:
        module: made by check_module.
        prepare: validates the options and returns the function that looks once. A CheckError it raises ends the check.
    """
    params = module.params
    try:
        look = prepare()
    except CheckError as error:
        finish(module, failed(error.reason, error.hint, error.observed))
    finish(
        module,
        wait_for(
            look,
            timeout=0.0 if module.check_mode else params["timeout"],
            interval=params["interval"],
            request_timeout=params["request_timeout"],
            absent=params.get("expect") == "absent",
        ),
    )


def finish(module: AnsibleModule, outcome: Outcome) -> NoReturn:
    """Leave the module with the documented result; in check mode a check never fails."""
    verdict = outcome.verdict
    result: dict[str, Any] = {
        "changed": False,
        "matched": verdict.matched,
        "observed": trimmed(verdict.observed),
        "elapsed": round(outcome.elapsed, 3),
        "attempts": outcome.attempts,
        "reason": verdict.reason,
        "hint": verdict.hint,
        "times": verdict.times,
        **verdict.extra,
    }
    if verdict.matched or module.check_mode:
        module.exit_json(**result)
    module.fail_json(msg=f"{verdict.reason}: {verdict.hint}", **result)
    raise AssertionError("unreachable: fail_json leaves the module")
