#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: image_push
short_description: Push an image of Docker to a registry that doesn't have it yet
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Asks the registry, through Docker, what it has under the name. Nothing is pushed when that is the image which Docker pushed or pulled.
  - The image gets the name in Docker, too, and keeps it, as Docker remembers by it what the registry has.
options:
  source:
    description: Name or id of the image in Docker.
    type: str
    required: true
  name:
    description: Registry, repository and tag.
    type: str
    required: true
  login:
    description:
      - File on this host with the login for the registry, as C(docker login) writes it. Helpers that it names are asked.
      - Without it there is no login, whatever files there are.
    type: path
  timeout:
    description: Seconds that Docker may say nothing.
    type: float
    default: 60
attributes:
  check_mode:
    description: Can run in check mode and says what it would change, without changing anything.
    support: full
    details:
      - The registry is asked. Without the image in Docker it would be pushed.
  diff_mode:
    description: Shows what would change.
    support: full
    details:
      - Shows the digest in the registry; after the push that check mode only tells of, it isn't known.
requirements:
  - docker (Python library)
"""

EXAMPLES = r"""
- name: The registry has the application's image
  vigie.observability.image_push:
    source: flask-metrics:3f8a0c62d1be
    name: registry.example:5000/team/flask-metrics:3f8a0c62d1be
    login: /root/.docker/config.json
"""

RETURN = r"""
digest:
  description: The digest by which the registry has the image. Empty when check mode tells of a push.
  returned: success
  type: str
  sample: sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03
diff:
  description: Name and digest in the registry before and after. Without one, empty.
  returned: success
  type: dict
  sample: {"before": {}, "after": {"name": "registry.example:5000/team/x:1", "digest": "sha256:5891b5b5..."}}
reason:
  description:
    - V(ok), or why it failed.
    - V(missing_library), the Python library docker is missing.
    - V(docker_unreachable), Docker does not answer.
    - V(image_missing), Docker has no such image.
    - V(login_invalid), O(login) can't be read or has no login for this registry.
    - V(access_denied), the registry refuses.
    - V(push_failed), the registry can't be reached, or something went wrong. The hint has Docker's words.
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
from ansible_collections.vigie.observability.plugins.module_utils.action import require_timeout, run_action
from ansible_collections.vigie.observability.plugins.module_utils.pushing import Push, connect, login_for
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError


def run(params: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Push the image unless the registry has it, and return the result."""
    require_timeout(params["timeout"])
    client = connect(params["timeout"])
    name = params["name"]
    login = login_for(name.partition("/")[0], Path(params["login"]) if params["login"] else None)
    push = Push(client, params["source"], name, login)
    before = push.there()
    try:
        known = push.known()
    except CheckError as error:
        if not check_mode or error.reason != "image_missing":
            raise
        known = set()
    after = before
    if not before or before not in known:
        after = "" if check_mode else push.push()
    shown = [{"name": name, "digest": digest} if digest else {} for digest in (before, after)]
    changed = after != before or (check_mode and not after)
    return {"changed": changed, "digest": after, "diff": {"before": shown[0], "after": shown[1]}}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "login": {"type": "path"},
            "timeout": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    run_action(module, lambda: run(module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
