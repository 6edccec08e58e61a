#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact
short_description: Bring a program, image or chart to a host, from a bundle or from its upstream address
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - With O(bundle_dir) the artifact comes from a bundle, a folder on the host whose C(manifest.yml) lists files and their SHA-256.
    Nothing is asked from the network.
  - Without it the artifact is downloaded from O(url) and verified by O(sha256). What has no O(sha256) is not downloaded.
  - Either way the content is verified before the file gets its final name, as the last step. An interrupted run leaves at most a
    temporary file beside it that the next run removes.
  - The file at O(dest) is compared with what is wanted, so an altered or older one is replaced. Of a file out of an archive the
    archive's SHA-256 is recorded beside it in C(.<name>.source). Without that record the archive is downloaded again.
options:
  name:
    description: Name of the artifact, as in the manifest of the bundle.
    type: str
    required: true
  version:
    description:
      - Exact version. Required without O(bundle_dir).
      - Without it, the bundle's only version.
    type: str
  kind:
    description: What the artifact is.
    type: str
    choices: [binary, image, chart, collection, manifest]
    default: binary
  architecture:
    description:
      - What the artifact runs on. What a bundle lists as V(noarch) fits every host.
      - Without it, the host's own for a O(kind) of V(binary) or V(image), else V(noarch).
    type: str
    choices: [amd64, arm64, noarch]
  dest:
    description:
      - Path of the file. Its folder is created when missing.
      - Without it the file is verified where it is in the bundle, and RV(path) leads there. This saves copies of large images.
    type: path
  mode:
    description:
      - Permissions of the file, as octal text with a leading zero.
      - Without it, V(0755) for a O(kind) of V(binary), else V(0644).
    type: str
  bundle_dir:
    description:
      - Folder of the bundle on the host. O(url), O(sha256) and O(member) are ignored then, as a bundle holds the files themselves.
      - An empty value is the same as none.
    type: path
  url:
    description:
      - Address of the artifact, without credentials. Redirects are followed. The environment's proxy is used.
    type: str
  sha256:
    description: SHA-256 of what O(url) gives. For an archive, that of the archive.
    type: str
  member:
    description:
      - Path inside the tar archive that O(url) gives, of the one regular file that is wanted.
      - Without it the download itself is what is wanted.
    type: str
  timeout:
    description: Seconds that a download may stand still.
    type: float
    default: 30
attributes:
  check_mode:
    description: Can run in check mode and says what it would change, without changing anything.
    support: full
    details:
      - A file that would be taken from a bundle is verified in check mode too. Nothing is downloaded.
  diff_mode:
    description: Shows what would change.
    support: full
    details:
      - Shows the mode and the SHA-256 of the file before, and afterwards those by which it is verified with its version.
requirements:
  - PyYAML, with O(bundle_dir)
"""

EXAMPLES = r"""
- name: Bring Helm, from a bundle where there is one
  vigie.observability.artifact:
    name: helm
    version: 4.2.4
    url: https://get.helm.sh/helm-v4.2.4-linux-amd64.tar.gz
    sha256: c306b46f719b0a4da32d0f78ee21bf90ce8d602f15b22ab753f0674d1670a7f3
    member: linux-amd64/helm
    bundle_dir: "{{ vigie_bundle_dir | default('') }}"
    dest: /usr/local/bin/helm

- name: Verify an image where it is in the bundle
  vigie.observability.artifact:
    name: mailpit
    version: 1.30.5
    kind: image
    bundle_dir: /srv/bundle
  register: mailpit

- name: Load it
  ansible.builtin.command:
    argv: [docker, load, --input, "{{ mailpit.path }}"]
  changed_when: true
"""

RETURN = r"""
path:
  description: The file on the host.
  returned: success
  type: str
  sample: /usr/local/bin/helm
version:
  description: The version that is there.
  returned: success
  type: str
  sample: 4.2.4
architecture:
  description: What the artifact runs on.
  returned: success
  type: str
  sample: amd64
source:
  description: Where it comes from, V(bundle) or V(upstream).
  returned: success
  type: str
  sample: bundle
sha256:
  description: SHA-256 by which it is verified. For a file out of an archive, that of the archive.
  returned: success
  type: str
  sample: c306b46f719b0a4da32d0f78ee21bf90ce8d602f15b22ab753f0674d1670a7f3
diff:
  description: Mode and SHA-256 of the file before and after, the same on both sides when nothing changes. Without a file, empty before.
  returned: success, when O(dest) is set
  type: dict
  sample: {"before": {}, "after": {"mode": "0755", "sha256": "c306b46f...", "version": "4.2.4"}}
reason:
  description:
    - V(ok), or why it failed.
    - V(bundle_missing), V(manifest_invalid), the bundle or its manifest is not there or malformed. The hint names entry and key.
    - V(path_escape), the manifest or a link leads out of the bundle.
    - V(artifact_missing), V(version_missing), V(architecture_missing), the bundle doesn't list it. The hint names what it lists instead.
    - V(version_ambiguous), the bundle lists several versions and O(version) isn't set.
    - V(file_missing), the bundle lists it but the file is not there.
    - V(checksum_mismatch), the content is altered or incomplete. The hint has both SHA-256.
    - V(no_checksum), O(sha256) isn't set, so nothing is downloaded.
    - V(download_failed), the address can't be reached, answers with an error, or the connection ended early.
    - V(bad_archive), V(member_missing), the download is no archive, or O(member) isn't in it.
    - V(dest_occupied), O(dest) is a folder, a link or another thing that is no regular file.
    - V(disk_full), V(permission_denied), the file can't be written, or the bundle can't be read.
    - V(missing_library), PyYAML isn't there.
    - V(bad_option), a value that can't be right.
  returned: always
  type: str
hint:
  description: One sentence with the cause and what to do about it. Empty on success.
  returned: always
  type: str
"""

import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vigie.observability.plugins.module_utils.action import run_action
from ansible_collections.vigie.observability.plugins.module_utils.bundle import (
    KINDS,
    Bundle,
    Destination,
    Upstream,
    architecture_for,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError


def wanted_mode(params: dict[str, Any]) -> int:
    """Return the permissions of the file."""
    mode = params["mode"] or ("0755" if params["kind"] == "binary" else "0644")
    if not re.fullmatch(r"0[0-7]{3,4}", mode):
        raise CheckError(
            "bad_option", f"mode={mode} is no octal text with a leading zero; write it like '0755', in quotes."
        )
    return int(mode, 8)


def wanted_architecture(params: dict[str, Any]) -> str:
    """Return what the artifact must run on."""
    return str(params["architecture"] or architecture_for(params["kind"]))


def from_bundle(params: dict[str, Any], destination: Destination | None, check_mode: bool) -> dict[str, Any]:
    """Take the artifact from the bundle and return the result."""
    bundle = Bundle(Path(params["bundle_dir"]).absolute())
    artifact = bundle.find(params["name"], params["version"], params["kind"], wanted_architecture(params))
    result = {"version": artifact.version, "architecture": artifact.architecture, "source": "bundle"}
    result["sha256"] = artifact.sha256
    if destination is None:
        return {"changed": False, "path": str(bundle.verify(artifact)), **result}
    if destination.holds(artifact.sha256):
        changed = destination.correct_mode(check_mode=check_mode)
    elif check_mode:
        bundle.verify(artifact)
        destination.require_possible()
        changed = True
    else:
        changed = destination.install_file(bundle, artifact)
    return {"changed": changed, "path": str(destination.path), **result}


def from_upstream(params: dict[str, Any], destination: Destination | None, check_mode: bool) -> dict[str, Any]:
    """Download the artifact and return the result."""
    missing = [option for option in ("dest", "version", "url") if not params[option]]
    if missing or destination is None:
        raise CheckError(
            "bad_option", f"Without bundle_dir, {' and '.join(missing)} must be set to download {params['name']}."
        )
    upstream = Upstream(params["url"], params["sha256"] or "", params["member"] or "", params["timeout"])
    result = {"version": params["version"], "architecture": wanted_architecture(params), "source": "upstream"}
    result["sha256"] = upstream.sha256
    if destination.holds(upstream.sha256, upstream.member):
        changed = destination.correct_mode(check_mode=check_mode)
    elif check_mode:
        destination.require_possible()
        changed = True
    else:
        changed = destination.install_download(upstream)
    return {"changed": changed, "path": str(destination.path), **result}


def run(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Bring the artifact to the host and return the result."""
    mode = wanted_mode(params)
    destination = Destination(Path(params["dest"]).absolute(), mode) if params["dest"] else None
    fetch = from_bundle if params["bundle_dir"] else from_upstream
    before = destination.state() if destination else {}
    result = fetch(params, destination, check_mode)
    if destination:
        now = {"mode": f"{mode:04o}", "sha256": result["sha256"], "version": result["version"]}
        result["diff"] = {"before": before, "after": now if result["changed"] else before}
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "version": {"type": "str"},
            "kind": {
                "type": "str",
                "choices": list(KINDS),
                "default": "binary",
            },
            "architecture": {"type": "str", "choices": ["amd64", "arm64", "noarch"]},
            "dest": {"type": "path"},
            "mode": {"type": "str"},
            "bundle_dir": {"type": "path"},
            "url": {"type": "str"},
            "sha256": {"type": "str"},
            "member": {"type": "str"},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    run_action(module, lambda: run(module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
