#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: deb_unpack
short_description: Unpack a distribution's package into a folder, without installing it
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Downloads a package of the Debian or Ubuntu release that the host runs and unpacks it below a folder, as any user. Nothing is
    installed - no maintainer scripts run, no service starts, dependencies are not fetched, and the system's package state stays as it is.
  - apt chooses, downloads and verifies the package with the system's sources, keys, proxy and pins. When the system's package lists
    don't know the package, or name a file that the mirror no longer has, private lists are fetched below O(cache) and used instead.
  - A folder gets its final name as the last step, so it is complete whenever it exists. An interrupted run leaves a temporary folder
    that the next run removes.
options:
  name:
    description: Name of the package.
    type: str
    required: true
  dest:
    description:
      - Folder in which C(<name>_<version>_<architecture>/) and a link C(<name>) to it are made. It is created when missing.
    type: path
    required: true
  cache:
    description: Folder for downloaded files and private package lists. It is created when missing.
    type: path
    required: true
  version:
    description:
      - Exact version to unpack.
      - Without it, any version that is unpacked already will do, else the newest one offered is taken.
    type: str
  upgrade:
    description:
      - Look for a newer version although one is unpacked. The older folder is kept, as processes may still run from it.
      - Package lists that are there already are believed; they are not fetched anew for this.
    type: bool
    default: false
  keep:
    description: Keep the downloaded C(.deb) file in O(cache).
    type: bool
    default: false
  relocate:
    description:
      - Absolute folders compiled into the package's programs which they shall find below their working directory instead. Run the
        program with RV(path) as its working directory.
      - Each is replaced in C(usr/bin/*) by the relative path of the same length, V(/usr/share/x) by V(usr/share/x/).
    type: list
    elements: str
    default: []
  state:
    description:
      - V(present) unpacks the package unless it is there. V(absent) removes all its versions, the link and its files in O(cache).
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Can run in check mode and says what it would change, without changing anything.
    support: full
    details:
      - In check mode no package lists are fetched, so on a host without any RV(version) may be empty.
  diff_mode:
    description: Shows what would change.
    support: none
requirements:
  - apt-get, apt-config and dpkg-deb on the host
"""

EXAMPLES = r"""
- name: Unpack Prometheus below the state directory
  vigie.observability.deb_unpack:
    name: prometheus
    dest: "{{ vigie_state_dir }}/packages"
    cache: "{{ vigie_state_dir }}/cache"
  register: prometheus

- name: Show the version without having installed anything
  ansible.builtin.command: "{{ prometheus.path }}/usr/bin/prometheus --version"
  changed_when: false

- name: Unpack Alertmanager, which looks for its default templates below /usr/share
  vigie.observability.deb_unpack:
    name: prometheus-alertmanager
    dest: "{{ vigie_state_dir }}/packages"
    cache: "{{ vigie_state_dir }}/cache"
    relocate: [/usr/share/prometheus/alertmanager]

- name: Take a newer version if the package lists offer one
  vigie.observability.deb_unpack:
    name: prometheus
    dest: "{{ vigie_state_dir }}/packages"
    cache: "{{ vigie_state_dir }}/cache"
    upgrade: true
"""

RETURN = r"""
path:
  description: The link that points to the unpacked folder, whichever version that holds.
  returned: success
  type: str
  sample: /home/me/.local/state/vigie/packages/prometheus
folder:
  description: The unpacked folder itself. Empty with O(state=absent), or in check mode when it is not known yet.
  returned: success
  type: str
  sample: /home/me/.local/state/vigie/packages/prometheus_2.42.0+ds-5_amd64
version:
  description: The version that is unpacked. Empty with O(state=absent), or in check mode when it is not known yet.
  returned: success
  type: str
  sample: 2.42.0+ds-5
reason:
  description:
    - V(ok), or why it failed.
    - V(apt_missing), the host is no Debian or Ubuntu.
    - V(package_unknown), V(version_unknown), not offered by the enabled sources.
    - V(lists_failed), V(download_failed), the mirror can't be reached or answers with errors.
    - V(disk_full), V(permission_denied), the folder can't take the files.
    - V(dest_occupied), something that is no link of this module has the link's name.
    - V(bad_package), the downloaded file can't be unpacked.
    - V(bad_option), a value that can't be right.
  returned: always
  type: str
hint:
  description: One sentence with the cause and the command that shows it. Empty on success.
  returned: always
  type: str
"""

import re
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vigie.observability.plugins.module_utils.action import run_action
from ansible_collections.vigie.observability.plugins.module_utils.packages import PackageFolder, Unpacked
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError


def run(module: AnsibleModule) -> Unpacked:
    """Bring the package to the wanted state."""
    params = module.params
    folder = PackageFolder(params["name"], Path(params["dest"]).absolute(), Path(params["cache"]).absolute())
    if params["state"] == "absent":
        return folder.absent(check_mode=module.check_mode)
    if not all(re.fullmatch(r"(/[A-Za-z0-9._+-]+)+", path) for path in params["relocate"]):
        raise CheckError("bad_option", f"relocate={params['relocate']} holds something that is no absolute folder.")
    with tempfile.TemporaryDirectory(dir=module.tmpdir) as temporary:
        done = folder.present(
            version=params["version"],
            upgrade=params["upgrade"],
            keep=params["keep"],
            check_mode=module.check_mode,
            temporary=Path(temporary),
        )
    if not done.folder:  # check mode on a host that has nothing yet
        return done
    relocated = folder.relocate(Path(done.folder), params["relocate"], check_mode=module.check_mode)
    return Unpacked(done.changed or relocated, done.version, done.folder)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "cache": {"type": "path", "required": True},
            "version": {"type": "str"},
            "upgrade": {"type": "bool", "default": False},
            "keep": {"type": "bool", "default": False},
            "relocate": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )

    def act() -> dict[str, Any]:
        done = run(module)
        path = Path(module.params["dest"]).absolute() / module.params["name"]
        return {"changed": done.changed, "path": str(path), "folder": done.folder, "version": done.version}

    run_action(module, act)


if __name__ == "__main__":
    main()
