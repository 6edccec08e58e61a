#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: minikube_profile
short_description: Keep a Minikube profile on Docker, one node, started, stopped or absent
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Creates, starts, stops and deletes a profile by the C(minikube) program. Decides by what Minikube and Docker say, so a profile
    that runs as wanted is left alone, and one whose node was stopped is started.
  - A start that was interrupted is finished. Unfinished downloads in Minikube's cache are thrown away before, not continued. Where
    that fails the profile is deleted and made again, as long as it has never been complete. A complete profile is never deleted
    without O(recreate).
  - A container, network or volume of the profile's name that belongs to another E(MINIKUBE_HOME) is never touched, though Minikube
    itself would remove it. Whose the container is shows the key that it accepts.
options:
  name:
    description: Name of the profile, and so of the container, network, volume and kubeconfig context.
    type: str
    required: true
  state:
    description: What the profile shall be.
    type: str
    choices: [started, stopped, absent]
    default: started
  home:
    description: E(MINIKUBE_HOME), where Minikube keeps profiles, keys and its cache. Temporary files lie in its folder C(tmp).
    type: path
    required: true
  kubeconfig:
    description: File into which Minikube writes the access to the cluster.
    type: path
    required: true
  executable:
    description: Path of Minikube.
    type: path
    required: true
  docker:
    description: Path or name of Docker's client.
    type: path
    default: docker
  kubernetes_version:
    description: Version of Kubernetes, with or without a leading v. Required with O(state=started).
    type: str
  base_image:
    description:
      - Reference of the node image, exactly as Docker knows it.
      - Empty means the one that Minikube has built in, with its digest. It is only chosen when the profile is created.
    type: str
    default: ""
  base_image_registry:
    description: Where the node image that Minikube has built in is taken from, such as C(mirror.example/k8s-minikube). Empty means its own place.
    type: str
    default: ""
  binary_mirror:
    description:
      - Address from which kubeadm, kubelet and kubectl of the node are taken, with a C(.sha256) beside each. Empty means the publisher's.
      - With a mirror they are downloaded before anything else is made.
    type: str
    default: ""
  container_runtime:
    description: Container runtime of the node.
    type: str
    default: containerd
  cni:
    description: Network of the pods.
    type: str
    default: bridge
  cpus:
    description: CPUs of the node.
    type: int
    default: 2
  memory:
    description: MiB of memory of the node.
    type: int
    default: 4096
  extra_config:
    description: Options of the cluster's parts, C(component.key) to value, such as C(kubelet.max-pods).
    type: dict
    default: {}
  preload:
    description: Let Minikube download its archive of images. Without, the images come from its cache.
    type: bool
    default: true
  cache_images:
    description: Let Minikube keep the images of the control plane in its cache. Without, the node pulls them, by the mirrors that it knows.
    type: bool
    default: true
  force:
    description:
      - Start although Minikube doubts, above all a version of Kubernetes that is newer than those it knows and that it can't look up.
      - As root it is always forced, which is what its driver asks for, and so is the start of a profile that was complete before.
    type: bool
    default: false
  wait_timeout:
    description: Seconds until all parts of the cluster must be healthy.
    type: int
    default: 360
  recreate:
    description: Delete a profile that differs from what is wanted, with everything that its cluster holds, and make it again.
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in check mode and says what it would do, without doing anything.
    support: full
    details:
      - A profile that is somebody else's, or that needs to be made again, is a failure in check mode too, so that it can be a preflight.
      - Where neither Docker nor Minikube is there yet, a profile would be created.
  diff_mode:
    description: Shows what would change.
    support: none
requirements:
  - Minikube and Docker's client
"""

EXAMPLES = r"""
- name: A cluster runs
  vigie.observability.minikube_profile:
    name: vigie
    home: /var/lib/vigie/minikube
    kubeconfig: /var/lib/vigie/kubeconfig
    executable: /usr/local/bin/minikube
    kubernetes_version: 1.35.8
    base_image: gcr.io/k8s-minikube/kicbase:v0.0.50

- name: It is stopped for the night
  vigie.observability.minikube_profile:
    name: vigie
    state: stopped
    home: /var/lib/vigie/minikube
    kubeconfig: /var/lib/vigie/kubeconfig
    executable: /usr/local/bin/minikube
"""

RETURN = r"""
action:
  description:
    - What was done, or in check mode would be.
    - V(none), it is as wanted.
    - V(created), V(started) after a stop, V(repaired) after an interrupted start.
    - V(recreated), deleted and made again.
    - V(stopped), V(deleted).
  returned: success
  type: str
  sample: started
note:
  description: One sentence about what was found and done, where there is something to say.
  returned: success
  type: str
  sample: Profile vigie did not run and was started.
observed:
  description: What there was of the profile before.
  returned: success
  type: dict
  sample:
    config: true
    complete: true
    container: exited
    ours: true
    leftovers: [network, volume]
    status: {Host: Stopped, Kubelet: Stopped, APIServer: Stopped, Kubeconfig: Stopped}
elapsed:
  description: Seconds that it took.
  returned: success
  type: float
reason:
  description:
    - V(ok), or why it failed.
    - V(foreign_profile), a container, network or volume of that name belongs to somebody else.
    - V(needs_recreate), the profile differs in what can't be changed while it lives. The hint lists it.
    - V(download_failed), the mirror does not give Kubernetes' programs as they should be. Nothing of Docker was touched.
    - V(start_failed), V(stop_failed), V(delete_failed), Minikube gave up. The hint has its reason.
    - V(not_running), Minikube was content, but not all parts run.
    - V(docker_unavailable), Docker does not answer.
    - V(program_missing), Minikube or Docker's client can't be run.
    - V(bad_option), a value that can't be right.
  returned: always
  type: str
hint:
  description: One sentence with the cause and the command that shows it. Empty on success.
  returned: always
  type: str
"""

import re
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.vigie.observability.plugins.module_utils.action import run_action
from ansible_collections.vigie.observability.plugins.module_utils.minikube import (
    Outcome,
    Profile,
    Seen,
    Wanted,
    bring_up,
    halt,
    take_down,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError


def wanted(params: dict[str, Any]) -> Wanted:
    """Return how the profile shall be.

    Raises:
        CheckError: ``bad_option``.
    """
    for key in params["extra_config"]:
        if not re.fullmatch(r"[a-z-]+\.[A-Za-z0-9-]+", key):
            raise CheckError("bad_option", f"extra_config has {key!r}; write it like kubelet.max-pods.")
    for option, least in (("cpus", 2), ("memory", 1800), ("wait_timeout", 1)):
        if params[option] < least:
            raise CheckError("bad_option", f"{option}={params[option]} is too little; Minikube needs {least} at least.")
    return Wanted(
        **{
            key: params[key]
            for key in (
                "kubernetes_version",
                "base_image",
                "base_image_registry",
                "binary_mirror",
                "container_runtime",
                "cni",
                "cpus",
                "memory",
                "preload",
                "cache_images",
                "force",
                "wait_timeout",
            )
        },
        extra_config={key: str(value) for key, value in params["extra_config"].items()},
    )


def run(params: dict[str, Any], *, check_mode: bool) -> Outcome:
    """Bring the profile into its state.

    Raises:
        CheckError: with one of the documented reasons.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", params["name"]):
        raise CheckError(
            "bad_option", f"name={params['name']} is no name of a profile; use lower-case letters, digits and dashes."
        )
    home = Path(params["home"]).absolute()
    profile = Profile(
        params["name"],
        home=home,
        kubeconfig=Path(params["kubeconfig"]).absolute(),
        executable=params["executable"],
        docker=params["docker"],
    )
    try:
        if params["state"] == "absent":
            return take_down(profile, check_mode=check_mode)
        if params["state"] == "stopped":
            return halt(profile, check_mode=check_mode)
        return bring_up(profile, wanted(params), recreate=params["recreate"], check_mode=check_mode)
    except CheckError as error:
        unknown = error.reason in ("docker_unavailable", "program_missing")
        if params["state"] == "absent" and unknown and not profile.folder.exists():
            return Outcome("none", "", Seen())  # without its folder there is no profile
        if not (check_mode and unknown):
            raise
        made = profile.folder.is_dir()
        actions = {
            "absent": "deleted" if made else "none",
            "stopped": "none",
            "started": "started" if made else "created",
        }
        return Outcome(actions[params["state"]], error.hint, Seen())


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
            "home": {"type": "path", "required": True},
            "kubeconfig": {"type": "path", "required": True},
            "executable": {"type": "path", "required": True},
            "docker": {"type": "path", "default": "docker"},
            "kubernetes_version": {"type": "str"},
            "base_image": {"type": "str", "default": ""},
            "base_image_registry": {"type": "str", "default": ""},
            "binary_mirror": {"type": "str", "default": ""},
            "container_runtime": {"type": "str", "default": "containerd"},
            "cni": {"type": "str", "default": "bridge"},
            "cpus": {"type": "int", "default": 2},
            "memory": {"type": "int", "default": 4096},
            "extra_config": {"type": "dict", "default": {}},
            "preload": {"type": "bool", "default": True},
            "cache_images": {"type": "bool", "default": True},
            "force": {"type": "bool", "default": False},
            "wait_timeout": {"type": "int", "default": 360},
            "recreate": {"type": "bool", "default": False},
        },
        required_if=[("state", "started", ("kubernetes_version",))],
        supports_check_mode=True,
    )
    began = time.monotonic()

    def act() -> dict[str, Any]:
        outcome = run(module.params, check_mode=module.check_mode)
        return {
            "changed": outcome.action != "none",
            "action": outcome.action,
            "note": outcome.note,
            "observed": outcome.seen.summary(),
            "elapsed": round(time.monotonic() - began, 3),
        }

    run_action(module, act)


if __name__ == "__main__":
    main()
