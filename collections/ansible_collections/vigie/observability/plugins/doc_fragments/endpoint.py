# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

_ENDPOINT = r"""
options:
  {name}:
    description:
      - {description}
    type: dict
    required: {required}
    suboptions:
      url:
        description: Base address, V(http://) or V(https://), without the path of the API.
        type: str
      username:
        description: User name for basic authentication.
        type: str
      password:
        description: Password for basic authentication. Prefer O({name}.password_file).
        type: str
      password_file:
        description: File on the host that runs the module, holding the password. A newline at its end is ignored.
        type: path
      ca_path:
        description: PEM file with the CA that signed the service's certificate.
        type: path
      validate_certs:
        description: Whether the certificate is checked.
        type: bool
        default: true
      headers:
        description: Headers to send with every request.
        type: dict
        default: {{}}
      use_proxy:
        description: Whether the proxy named by the environment is used. Labs are local, so it is off.
        type: bool
        default: false
"""


def _endpoint(name: str, description: str, required: str = "false") -> str:
    return _ENDPOINT.format(name=name, description=description, required=required)


class ModuleDocFragment:
    """Where a service is and how to be let in."""

    DOCUMENTATION = _endpoint("endpoint", "Where the service is, and how to be let in.", "true")

    ALERTMANAGER = _endpoint(
        "alertmanager",
        "Where Alertmanager is. O(state=routed), O(state=notified), O(state=silenced) and O(state=resolved) need it.",
    )

    ALERTMANAGER_REQUIRED = _endpoint("alertmanager", "Where Alertmanager is.", "true")

    ORIGIN = _endpoint(
        "origin",
        "Where the exporter is known to answer. It is asked only when Prometheus finds the target down, to tell an exporter that "
        "doesn't run from a wrong address.",
    )
