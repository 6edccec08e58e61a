# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: mirrored
short_description: Replace the origin of an address by its mirror
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Replaces the beginning of an address, or of an image's reference, by that of the mirror that is to be used instead.
  - An origin fits an address that is equal, or goes on with a slash. The longest one that fits is used, and without any the address stays.
positional: mirrors
options:
  _input:
    description: Address or reference. An empty one stays empty.
    type: str
    required: true
  mirrors:
    description:
      - Origin to mirror, both with a scheme for addresses and without for images, without credentials.
      - A slash at the end has no meaning.
    type: dict
    required: true
"""

EXAMPLES = r"""
# => https://mirror.example/k8s/release/v1.35.8/bin/linux/amd64/kubectl
url: >-
  {{ 'https://dl.k8s.io/release/v1.35.8/bin/linux/amd64/kubectl'
     | vigie.observability.mirrored({'https://dl.k8s.io': 'https://mirror.example/k8s'}) }}

# => mirror.example:5000/hub/axllent/mailpit:v1.30.5
image: "{{ 'docker.io/axllent/mailpit:v1.30.5' | vigie.observability.mirrored({'docker.io': 'mirror.example:5000/hub'}) }}"
"""

RETURN = r"""
_value:
  description: The address at the mirror, or as it was.
  type: str
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

ORIGIN = re.compile(r"(https?://)?[\w.-]+(:\d+)?(/\S*)?")


def mirrored(address: str, mirrors: Mapping[str, str]) -> str:
    """Return the address at the mirror of its origin.

    Args:
        address: URL or image reference.
        mirrors: origin to mirror.

    Raises:
        AnsibleFilterError: an origin or mirror that is none, whether or not it is needed.
    """
    if not isinstance(mirrors, Mapping):
        raise AnsibleFilterError(
            f"mirrors={mirrors} is no table of origins to mirrors; write it like {{origin: mirror}}."
        )
    fitting: dict[str, str] = {}
    for given, replacement in mirrors.items():
        if not isinstance(given, str) or not isinstance(replacement, str):
            raise AnsibleFilterError(f"mirrors holds {given}: {replacement}; both must be text.")
        origin, mirror = given.rstrip("/"), replacement.rstrip("/")
        for part in (origin, mirror):
            if "@" in part:
                raise AnsibleFilterError("mirrors holds an address with credentials; leave them out.")
            if not ORIGIN.fullmatch(part):
                raise AnsibleFilterError(
                    f"mirrors holds {given}: {replacement}; {part!r} is no http(s) address and no registry."
                )
        if ("://" in origin) != ("://" in mirror):
            raise AnsibleFilterError(
                f"mirrors holds {given}: {replacement}; either both have a scheme (https://) or none."
            )
        if f"{address}/".startswith(f"{origin}/"):
            fitting[origin] = mirror
    if not fitting:
        return address
    longest = max(fitting, key=len)
    return fitting[longest] + address[len(longest) :]


class FilterModule:
    """Filters of this collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name to function."""
        return {"mirrored": mirrored}
