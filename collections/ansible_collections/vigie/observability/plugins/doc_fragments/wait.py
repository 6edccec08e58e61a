# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """How long a module that is no check waits for the service to answer."""

    DOCUMENTATION = r"""
options:
  timeout:
    description: Seconds within which the service must answer. Until then refused connections and server errors are tried again.
    type: float
    default: 30.0
  interval:
    description: Seconds between two tries. They are jittered by a tenth so that many hosts don't ask in step.
    type: float
    default: 1.0
  request_timeout:
    description: Seconds that one request may take. It is cut to what is left of O(timeout).
    type: float
    default: 10.0
"""
