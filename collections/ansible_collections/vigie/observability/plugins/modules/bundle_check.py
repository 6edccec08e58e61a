#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_check
short_description: Verify many artifacts of a bundle before anything changes
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Looks each artifact up in the manifest of a bundle, verifies its SHA-256, and of programs also that they are made for the
    architecture that the manifest says. All faults are told at once.
  - To bring an artifact to its place, see M(vigie.observability.artifact), which verifies it again.
options:
  bundle_dir:
    description: Folder of the bundle on the host.
    type: path
    required: true
  artifacts:
    description: What is wanted.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the artifact, as in the manifest.
        type: str
        required: true
      version:
        description: Exact version.
        type: str
        required: true
      kind:
        description: What the artifact is. A V(binary) or V(image) must be for O(architecture), or for all.
        type: str
        choices: [binary, image, chart, collection, manifest]
        required: true
  known:
    description:
      - SHA-256 of artifacts that are in use already and were verified then. One that the manifest still says the same of is not read again;
        its file need not be there any more.
    type: list
    elements: str
    default: []
  architecture:
    description:
      - What programs and images are to run on.
      - Without it, this host's own. Give it where the bundle is looked at elsewhere, as on the machine that makes it.
    type: str
    choices: [amd64, arm64]
attributes:
  check_mode:
    description: Can run in check mode and says what it would find, without changing anything.
    support: full
    details:
      - It is a preflight, so it fails in check mode too. A run that would fail must not look fine.
  diff_mode:
    description: Shows what would change.
    support: none
notes:
  - It is read-only and always reports C(changed=false).
requirements:
  - PyYAML
"""

EXAMPLES = r"""
- name: What the cluster is made of is whole
  vigie.observability.bundle_check:
    bundle_dir: /srv/bundle
    artifacts:
      - {name: minikube, version: 1.38.1, kind: binary}
      - {name: kicbase, version: 0.0.50, kind: image}
  register: bundle

- name: What is new is whole
  vigie.observability.bundle_check:
    bundle_dir: /srv/bundle
    artifacts:
      - {name: prometheus, version: 3.14.0, kind: image}
    known: ["{{ loaded.archive }}"]

- name: What is made here for other hosts is whole
  vigie.observability.bundle_check:
    bundle_dir: /srv/bundle
    architecture: arm64
    artifacts:
      - {name: helm, version: 4.2.4, kind: binary}
"""

RETURN = r"""
artifacts:
  description: What was verified, by name.
  returned: success
  type: dict
  contains:
    path:
      description: The file.
      type: str
    sha256:
      description: SHA-256 of its content.
      type: str
    bytes:
      description: Its size.
      returned: when it is not one of O(known)
      type: int
  sample:
    minikube: {path: /srv/bundle/binaries/minikube, sha256: 5891b5b522d5..., bytes: 131072000}
architecture:
  description: Architecture of which programs and images were wanted.
  returned: success
  type: str
  sample: amd64
reason:
  description:
    - V(ok), or the first fault, a reason of M(vigie.observability.artifact), or V(wrong_architecture), a program that is made for
      another architecture than the manifest says.
  returned: always
  type: str
hint:
  description: One sentence for each fault. Empty when all is well.
  returned: always
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vigie.observability.plugins.module_utils.bundle import (
    KINDS,
    Artifact,
    Bundle,
    architecture_for,
    host_architecture,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

MACHINES = {0x3E: "amd64", 0xB7: "arm64"}
"""e_machine of an ELF program, bytes 18 and 19."""


def require_machine(artifact: Artifact, path: Path) -> None:
    """Refuse a program for another architecture than its entry says.

    Raises:
        CheckError: ``wrong_architecture``.
    """
    with path.open("rb") as stream:
        head = stream.read(20)
    if artifact.kind != "binary" or artifact.architecture == "noarch" or not head.startswith(b"\x7fELF"):
        return
    number = int.from_bytes(head[18:20], "little")
    if MACHINES.get(number) != artifact.architecture:
        raise CheckError(
            "wrong_architecture",
            f"The bundle lists {artifact.label}, but {path} is a program for {MACHINES.get(number, f'machine {number}')}; "
            f"look with 'file {path}', and make the bundle anew.",
        )


def check(params: dict[str, Any]) -> tuple[dict[str, Any], list[CheckError]]:
    """Return what was verified, by name, and all faults."""
    bundle = Bundle(Path(params["bundle_dir"]).absolute())
    verified: dict[str, dict[str, Any]] = {}
    faults: list[CheckError] = []
    for wanted in params["artifacts"]:
        architecture = architecture_for(wanted["kind"], params["architecture"])
        try:
            artifact = bundle.find(wanted["name"], wanted["version"], wanted["kind"], architecture)
            if artifact.sha256 in params["known"]:
                verified[artifact.name] = {"path": str(bundle.root / artifact.file), "sha256": artifact.sha256}
                continue
            path = bundle.verify(artifact)
            require_machine(artifact, path)
        except CheckError as error:
            faults.append(error)
        else:
            verified[artifact.name] = {
                "path": str(path),
                "sha256": artifact.sha256,
                "bytes": path.stat().st_size,
            }
    return verified, faults


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
                },
            },
            "known": {"type": "list", "elements": "str", "default": []},
            "architecture": {"type": "str", "choices": list(MACHINES.values())},
        },
        supports_check_mode=True,
    )
    verified: dict[str, Any] = {}
    try:
        verified, faults = check(module.params)
    except CheckError as error:
        faults = [error]
    if faults:
        hint = " ".join(error.hint for error in faults)
        module.fail_json(msg=hint, reason=faults[0].reason, hint=hint)
    architecture = module.params["architecture"] or host_architecture()
    module.exit_json(changed=False, artifacts=verified, architecture=architecture, reason="ok", hint="")


if __name__ == "__main__":
    main()
