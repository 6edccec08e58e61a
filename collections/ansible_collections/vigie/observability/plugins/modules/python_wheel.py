#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: python_wheel
short_description: Download a Python package as a file, verified
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Asks the index that pip is configured for, so mirrors, proxies and credentials are those of C(pip.conf) and the environment.
  - The file gets its name as the last step, when it is complete and verified. Nothing is installed.
options:
  requirement:
    description: Name and exact version, as V(ansible==14.5.0).
    type: str
    required: true
  sha256:
    description: SHA-256 of the wheel.
    type: str
    required: true
  dest:
    description: Path of the file. Its folder is created when missing. Tools that look for a package by its name want that of the index.
    type: path
    required: true
  python_version:
    description: Version of Python that the wheel must fit. Without it, the one that runs pip.
    type: str
  executable:
    description: The Python whose pip is used. Without it, the one that runs the module.
    type: str
  timeout:
    description: Seconds that pip may stand still.
    type: float
    default: 60
attributes:
  check_mode:
    description: Can run in check mode and says what it would change, without changing anything.
    support: full
    details:
      - The index is not asked.
  diff_mode:
    description: Shows what would change.
    support: full
    details:
      - Shows the SHA-256 of the file.
requirements:
  - pip
"""

EXAMPLES = r"""
- name: The package that carries the collections
  vigie.observability.python_wheel:
    requirement: ansible==14.5.0
    sha256: 245623ccc2d31d0f6f4bdb63168d550cad305fb032cc43d96e8f61ce8ab0ba84
    python_version: "3.12"
    dest: /srv/bundle/collections/ansible-14.5.0-py3-none-any.whl
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /srv/bundle/collections/ansible-14.5.0-py3-none-any.whl
diff:
  description: Mode and SHA-256 of the file before and after, the same on both sides when nothing changes. Without a file, empty before.
  returned: success
  type: dict
  sample: {"before": {}, "after": {"mode": "0644", "sha256": "245623cc..."}}
reason:
  description:
    - V(ok), or why it failed.
    - V(program_missing), there is no such Python, or it has no pip.
    - V(download_failed), the index can't be reached, refuses, doesn't have the package, or stands still.
    - V(checksum_mismatch), the index has another wheel of this version.
    - V(dest_occupied), O(dest) is a folder, a link or another thing that is no regular file.
    - V(disk_full), V(permission_denied), the file can't be written.
    - V(bad_option), a value that can't be right.
  returned: always
  type: str
hint:
  description: One sentence with the cause and what to do about it. Empty on success.
  returned: always
  type: str
"""

import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vigie.observability.plugins.module_utils.action import run_action
from ansible_collections.vigie.observability.plugins.module_utils.bundle import Destination
from ansible_collections.vigie.observability.plugins.module_utils.fetching import Wheel


def run(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Download the wheel unless it is there, and return the result."""
    wheel = Wheel(
        params["requirement"],
        params["sha256"],
        params["python_version"] or "",
        params["executable"] or sys.executable,
        params["timeout"],
    )
    destination = Destination(Path(params["dest"]).absolute(), 0o644)
    before = destination.state()
    if destination.holds(wheel.sha256):
        changed = destination.correct_mode(check_mode=check_mode)
    elif check_mode:
        destination.require_possible()
        changed = True
    else:
        changed = destination.install_made(lambda: destination.holds(wheel.sha256), wheel.make)
    after = {"mode": "0644", "sha256": wheel.sha256} if changed else before
    return {"changed": changed, "path": str(destination.path), "diff": {"before": before, "after": after}}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "requirement": {"type": "str", "required": True},
            "sha256": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "python_version": {"type": "str"},
            "executable": {"type": "str"},
            "timeout": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    run_action(module, lambda: run(module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
