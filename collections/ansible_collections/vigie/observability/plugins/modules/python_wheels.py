#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: python_wheels
short_description: Download all Python packages of a list as files, verified
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Fills a folder that C(pip install --no-index --find-links) takes them from on hosts without an index.
  - Asks the index that pip is configured for, so mirrors, proxies and credentials are those of C(pip.conf) and the environment.
  - The files get their names as the last step, when all are complete and verified. What else the folder holds stays, so it can have the
    wheels of several versions of Python and of both architectures. Nothing is installed.
options:
  requirements:
    description: File with a line for each package, its exact version, and the SHA-256 of all its wheels that may be taken.
    type: path
    required: true
  dest:
    description: The folder. It is created when missing.
    type: path
    required: true
  python_version:
    description: Version of the Python that the wheels must fit, as V(3.13).
    type: str
    required: true
  architecture:
    description: What the wheels must run on, with the C library of Debian 12 or a newer one.
    type: str
    choices: [amd64, arm64]
    required: true
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
    support: none
requirements:
  - pip
"""

EXAMPLES = r"""
- name: What modules need on hosts of Debian 13
  vigie.observability.python_wheels:
    requirements: roles/host_python/files/requirements.txt
    python_version: "3.13"
    architecture: amd64
    dest: /srv/bundle/wheels
"""

RETURN = r"""
path:
  description: The folder.
  returned: success
  type: str
  sample: /srv/bundle/wheels
reason:
  description:
    - V(ok), or why it failed.
    - V(program_missing), there is no such Python, or it has no pip.
    - V(download_failed), the index can't be reached, refuses, doesn't have a package for this Python, or stands still.
    - V(checksum_mismatch), the index has another wheel of a version.
    - V(disk_full), V(permission_denied), the folder can't be written.
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
from ansible_collections.vigie.observability.plugins.module_utils.fetching import MACHINES, Wheels


def run(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Download the wheels unless they are there, and return the result."""
    wheels = Wheels(
        Path(params["requirements"]).absolute(),
        params["python_version"],
        params["architecture"],
        params["executable"] or sys.executable,
        params["timeout"],
    )
    folder = Path(params["dest"]).absolute()
    changed = not wheels.are_in(folder)
    if changed and not check_mode:
        wheels.bring(folder)
    return {"changed": changed, "path": str(folder)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "requirements": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
            "python_version": {"type": "str", "required": True},
            "architecture": {"type": "str", "choices": list(MACHINES), "required": True},
            "executable": {"type": "str"},
            "timeout": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    run_action(module, lambda: run(module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
