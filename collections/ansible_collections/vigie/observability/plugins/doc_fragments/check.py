# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """What all checks share: options, attributes and the vocabulary of results."""

    DOCUMENTATION = r"""
options:
  timeout:
    description:
      - Seconds to wait for the condition. V(0) looks once.
      - With O(expect=absent) this is the window that is watched to its end.
    type: float
    default: 30.0
  interval:
    description: Seconds between two looks. They are jittered by a tenth so that many hosts don't ask in step.
    type: float
    default: 1.0
  request_timeout:
    description: Seconds that one request may take. It is cut to what is left of O(timeout).
    type: float
    default: 10.0
  expect:
    description:
      - V(present) waits until the condition holds.
      - V(absent) watches the whole O(timeout) and fails with reason V(appeared) as soon as the condition holds.
    type: str
    choices: [present, absent]
    default: present
  since:
    description:
      - Freshness bound. What is older can never satisfy the check.
      - Unix seconds, an RFC 3339 time, or a time before now as a Prometheus duration with a minus, such as V(-6m).
      - A bound in the future fails at once with reason V(since_in_future).
    type: str
attributes:
  check_mode:
    description: Can run in check mode and says what it would find, without changing anything.
    support: full
    details:
      - In check mode it looks once, doesn't wait and never fails. RV(matched) tells what it saw.
  diff_mode:
    description: Shows what would change.
    support: none
notes:
  - A check is read-only and always reports C(changed=false).
  - >-
    Reasons shared by all checks are V(ok), V(appeared), V(bad_option), V(since_in_future), V(unreachable), V(timeout), V(disconnected),
    V(server_error), V(access_denied), V(redirected), V(bad_request), V(bad_answer), V(tls_untrusted) and V(tls_failed). The reasons of
    each check are listed at its return value RV(reason).
"""
