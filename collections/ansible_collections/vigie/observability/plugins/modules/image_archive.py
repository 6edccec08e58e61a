#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_archive
short_description: Copy an image from a registry to a file, for hosts that reach none
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Copies the image of one architecture, whatever this host's own is, to a file as C(docker save) writes it. Needs no Docker.
  - The image is asked for its digest first, and is copied by this digest. Name and architecture in the file are verified.
  - The file gets its name as the last step, when it is complete. An interrupted run leaves at most a temporary folder beside it that
    the next run removes. Digest and SHA-256 are recorded beside it in C(.<name>.source), so a file that is there, unaltered and of
    the wanted image is not copied again, even when its tag was moved meanwhile.
  - Credentials, mirrors and registries without TLS are those of skopeo's own configuration (C(auth.json), C(registries.conf)).
options:
  ref:
    description: Reference of the image with its registry and tag, under which it is in the file.
    type: str
    required: true
  source:
    description: Where it is copied from, when that is a mirror.
    type: str
  digest:
    description: Digest that the index or, for an image without one, the manifest must have. Without it the tag alone says what is copied.
    type: str
  architecture:
    description: What the image runs on.
    type: str
    choices: [amd64, arm64]
    required: true
  dest:
    description: Path of the file. Its folder is created when missing.
    type: path
    required: true
  executable:
    description: The program skopeo.
    type: str
    default: skopeo
  timeout:
    description: Seconds that the copy may stand still.
    type: float
    default: 60
attributes:
  check_mode:
    description: Can run in check mode and says what it would change, without changing anything.
    support: full
    details:
      - The registry is not asked.
  diff_mode:
    description: Shows what would change.
    support: full
    details:
      - Shows reference, architecture and digest.
requirements:
  - skopeo
"""

EXAMPLES = r"""
- name: An image for hosts with arm64
  vigie.observability.image_archive:
    ref: docker.io/axllent/mailpit:v1.30.5
    digest: sha256:b868afa176bfd6cce2323ea316cd99ccad77915e51e595748f6d786700ecf109
    architecture: arm64
    dest: /srv/bundle/images/mailpit.tar
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /srv/bundle/images/mailpit.tar
digest:
  description: Digest by which the image was copied. In check mode that of O(digest), or empty, when it would be copied.
  returned: success
  type: str
  sample: sha256:b868afa176bfd6cce2323ea316cd99ccad77915e51e595748f6d786700ecf109
diff:
  description: Image before and after, the same on both sides when nothing changes.
  returned: success
  type: dict
  sample: {"before": {}, "after": {"ref": "docker.io/axllent/mailpit:v1.30.5", "architecture": "arm64", "digest": "sha256:b868af..."}}
reason:
  description:
    - V(ok), or why it failed.
    - V(program_missing), skopeo is not there.
    - V(download_failed), the registry can't be reached, refuses, doesn't have the image, or stands still.
    - V(digest_mismatch), the image has another digest. The hint has both.
    - V(architecture_missing), it is not there for O(architecture).
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

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vigie.observability.plugins.module_utils.action import run_action
from ansible_collections.vigie.observability.plugins.module_utils.bundle import Destination
from ansible_collections.vigie.observability.plugins.module_utils.fetching import Image


def run(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Copy the image unless it is there, and return the result."""
    image = Image(
        params["ref"],
        params["source"] or params["ref"],
        params["architecture"],
        params["digest"] or "",
        params["executable"],
        params["timeout"],
    )
    destination = Destination(Path(params["dest"]).absolute(), 0o644)
    before = destination.origin()
    after = before
    changed = False
    if not image.recorded_as(before):
        if check_mode:
            destination.require_possible()
            changed = True
            after = {"ref": image.ref, "architecture": image.architecture, "digest": image.digest}
        else:
            changed = destination.install_made(lambda: image.recorded_as(destination.origin()), image.make)
            after = destination.origin()
    shown = [{key: value for key, value in state.items() if key != "content"} for state in (before, after)]
    return {
        "changed": changed,
        "path": str(destination.path),
        "digest": after.get("digest", ""),
        "diff": {"before": shown[0], "after": shown[1]},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "ref": {"type": "str", "required": True},
            "source": {"type": "str"},
            "digest": {"type": "str"},
            "architecture": {"type": "str", "choices": ["amd64", "arm64"], "required": True},
            "dest": {"type": "path", "required": True},
            "executable": {"type": "str", "default": "skopeo"},
            "timeout": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    run_action(module, lambda: run(module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
