#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_manifest
short_description: Write the manifest of a bundle whose files are there
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Computes the SHA-256 of the files and writes C(manifest.yml), the last step of making a bundle. Without one a folder is no bundle.
  - What an older manifest lists stays, unless it is listed anew or its file is gone, so a bundle may be made in several runs.
  - The new manifest is read as M(vigie.observability.artifact) does it, and every file is looked for, before it replaces the old one.
options:
  bundle_dir:
    description: Folder of the bundle.
    type: path
    required: true
  artifacts:
    description: What is listed. An empty list only has the manifest that is there looked at.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the artifact.
        type: str
        required: true
      version:
        description: Version, without a leading v.
        type: str
        required: true
      kind:
        description: What the artifact is.
        type: str
        choices: [binary, image, chart, collection, manifest]
        required: true
      architecture:
        description: What it runs on.
        type: str
        choices: [amd64, arm64, noarch]
        required: true
      file:
        description: Path below the folder.
        type: str
        required: true
      ref:
        description: Reference of an image.
        type: str
      digest:
        description: Digest by which an image was copied from its registry.
        type: str
attributes:
  check_mode:
    description: Can run in check mode and says what it would change, without changing anything.
    support: full
    details:
      - Files need not be there yet.
  diff_mode:
    description: Shows what would change.
    support: full
requirements:
  - PyYAML
"""

EXAMPLES = r"""
- name: The bundle is complete
  vigie.observability.bundle_manifest:
    bundle_dir: /srv/bundle
    artifacts:
      - {name: kubectl, version: 1.35.8, kind: binary, architecture: arm64, file: binaries/kubectl}
"""

RETURN = r"""
entries:
  description: How many artifacts the manifest lists.
  returned: success
  type: int
  sample: 34
bytes:
  description: Size of all files together.
  returned: success
  type: int
  sample: 3221225472
diff:
  description: The manifest before and after.
  returned: success
  type: dict
  sample: {"before": "", "after": "- name: kubectl ..."}
reason:
  description:
    - V(ok), or why it failed.
    - V(bundle_missing), O(bundle_dir) is no folder.
    - V(manifest_invalid), V(path_escape), the manifest that is there, or what is to be listed, is malformed or leads out of the bundle.
    - V(file_missing), what is to be listed is not there.
    - V(disk_full), V(permission_denied), the manifest can't be written or read.
    - V(missing_library), PyYAML isn't there.
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
from ansible_collections.vigie.observability.plugins.module_utils.bundle import ARCHITECTURES, KINDS, Manifest
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError


def as_text(entries: list[dict[str, str]]) -> str:
    """Return entries for people."""
    return "".join(f"{' '.join(f'{key}={value}' for key, value in entry.items())}\n" for entry in entries)


def run(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Write the manifest and return the result."""
    root = Path(params["bundle_dir"]).absolute()
    if not root.is_dir() and not check_mode:
        raise CheckError("bundle_missing", f"bundle_dir={root} is no folder; look with 'ls -ld {root}'.")
    manifest = Manifest(root)
    given = [{key: value for key, value in entry.items() if value} for entry in params["artifacts"]]
    before = manifest.listed
    after = manifest.merged(given) if given else before
    changed = after != before
    if not check_mode and changed:
        manifest.write(after)
    files = {root / entry["file"] for entry in after}
    return {
        "changed": changed,
        "entries": len(after),
        "bytes": sum(path.stat().st_size for path in files if path.is_file()),
        "diff": {"before": as_text(before), "after": as_text(after)},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "bundle_dir": {"type": "path", "required": True},
            "artifacts": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "version": {"type": "str", "required": True},
                    "kind": {"type": "str", "choices": list(KINDS), "required": True},
                    "architecture": {"type": "str", "choices": list(ARCHITECTURES), "required": True},
                    "file": {"type": "str", "required": True},
                    "ref": {"type": "str"},
                    "digest": {"type": "str"},
                },
            },
        },
        supports_check_mode=True,
    )
    run_action(module, lambda: run(module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
