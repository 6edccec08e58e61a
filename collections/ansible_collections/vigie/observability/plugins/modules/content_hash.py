#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: content_hash
short_description: Name a set of files by what is in them
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Computes one SHA-256 over the names and contents of files, such as what an image is built from. The same content gives the same
    hash on every machine. Times, owners, permissions and locale don't count.
  - A tag made from it is never used for two different contents, so a tag that is there already needn't be built or sent again.
options:
  path:
    description: Folder with the files.
    type: path
    required: true
  patterns:
    description:
      - Globs below O(path). Each must match at least one file, and no links.
    type: list
    elements: str
    required: true
  extra:
    description: Texts that count besides, in this order, such as the id of the image that is built upon.
    type: list
    elements: str
    default: []
  length:
    description: Hex digits to return in RV(hash), 8 to 64.
    type: int
    default: 12
attributes:
  check_mode:
    description: Can run in check mode and returns the same.
    support: full
  diff_mode:
    description: Shows what would change.
    support: none
notes:
  - It is read-only and always reports C(changed=false).
"""

EXAMPLES = r"""
- name: Name the image by what it is made of
  vigie.observability.content_hash:
    path: "{{ playbook_dir }}/../app"
    patterns: [Dockerfile, requirements.txt, "flask_metrics/*.py"]
    extra: ["{{ base_image.images[0].Id }}"]
  register: content
  delegate_to: localhost
"""

RETURN = r"""
hash:
  description: The first O(length) hex digits.
  returned: success
  type: str
  sample: 3f8a0c62d1be
sha256:
  description: All 64 of them.
  returned: success
  type: str
  sample: 3f8a0c62d1bee3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495
files:
  description: The files that count, relative to O(path), sorted.
  returned: success
  type: list
  elements: str
  sample: [Dockerfile, requirements.txt]
reason:
  description:
    - V(ok), or why it failed.
    - V(folder_missing), O(path) is no folder, or a file vanished meanwhile.
    - V(nothing_matches), no file for one of the O(patterns).
    - V(not_a_file), a link or another thing that is no regular file.
    - V(permission_denied), a file can't be read.
    - V(bad_option), a value that can't be right.
  returned: always
  type: str
hint:
  description: One sentence with the cause and what to do about it. Empty on success.
  returned: always
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vigie.observability.plugins.module_utils.action import run_action
from ansible_collections.vigie.observability.plugins.module_utils.content import content_hash, selected_files
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError


def run(params: dict[str, Any]) -> dict[str, Any]:
    """Compute the hash and return the result."""
    if not 8 <= params["length"] <= 64:
        raise CheckError("bad_option", f"length={params['length']} is not within 8 to 64.")
    root = Path(params["path"]).absolute()
    files = selected_files(root, params["patterns"])
    sha256 = content_hash(root, files, params["extra"])
    return {"changed": False, "hash": sha256[: params["length"]], "sha256": sha256, "files": files}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "patterns": {"type": "list", "elements": "str", "required": True},
            "extra": {"type": "list", "elements": "str", "default": []},
            "length": {"type": "int", "default": 12},
        },
        supports_check_mode=True,
    )
    run_action(module, lambda: run(module.params))


if __name__ == "__main__":
    main()
