# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The frame around every module that brings something about: its result, or the one sentence that says why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError


def run_action(module: AnsibleModule, act: Callable[[], dict[str, Any]]) -> NoReturn:
    """Do what the module is for and leave it.

    Args:
        module: with its options read.
        act: returns the module's own return values, among them ``changed``; a CheckError that it raises is the module's failure.
    """
    failure: CheckError | None = None
    try:
        result = act()
    except CheckError as error:
        failure = error
    # Not in the handler: there, fail_json would show a traceback beside the sentence.
    if failure:
        module.fail_json(msg=failure.hint, reason=failure.reason, hint=failure.hint)
    module.exit_json(reason="ok", hint="", **result)
    raise AssertionError("unreachable: exit_json leaves the module")


def require_timeout(seconds: float) -> None:
    """Refuse an option ``timeout`` with which nothing could be waited for.

    Raises:
        CheckError: ``bad_option``.
    """
    if seconds <= 0:
        raise CheckError("bad_option", f"timeout={seconds} must be more than 0 seconds.")
