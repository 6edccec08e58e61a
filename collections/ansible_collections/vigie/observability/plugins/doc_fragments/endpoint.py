# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """Where a service is and how to be let in."""

    DOCUMENTATION = r"""
options:
  endpoint:
    description: Where the service is, and how to be let in.
    type: dict
    required: true
    suboptions:
      url:
        description:
          - Base address, V(http://) or V(https://), without the path of the API.
          - Exactly one of O(endpoint.url) and O(endpoint.service) must be set.
        type: str
      service:
        description:
          - A Service of a Kubernetes cluster, reached through the API server. Each request is forwarded to the newest of its pods that is
            ready then. Password, TLS and headers are between the host that runs the module and the pod.
          - The certificate must be for C(<name>.<namespace>.svc).
          - The user needs C(get) on services, C(list) on endpointslices and C(get) and C(create) on pods/portforward. With C(list) on pods
            and C(get) on namespaces too, messages tell more.
          - Needs PyYAML on the host that runs the module.
        type: dict
        suboptions:
          namespace:
            description: Namespace of the Service.
            type: str
            required: true
          name:
            description: Name of the Service.
            type: str
            required: true
          port:
            description: Number or name of one of the Service's ports.
            type: str
            required: true
          scheme:
            description: Whether the service speaks TLS.
            type: str
            choices: [http, https]
            default: http
          path:
            description: What every path begins with there, such as V(/jaeger).
            type: str
            default: ""
      kubeconfig:
        description:
          - Path, on the host that runs the module, of the kubeconfig for O(endpoint.service).
          - When it is not set, the files in the environment variable E(KUBECONFIG) are taken, else C(~/.kube/config), else, in a pod, its
            service account.
        type: path
      context:
        description: Context of the kubeconfig for O(endpoint.service). The current one when it is not set.
        type: str
      username:
        description: User name for basic authentication.
        type: str
      password:
        description: Password for basic authentication. Prefer O(endpoint.password_file).
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
        default: {}
      use_proxy:
        description: Whether the proxy named by the environment is used for O(endpoint.url). Labs are local, so it is off.
        type: bool
        default: false
"""

    ALERTMANAGER: str
    ALERTMANAGER_REQUIRED: str
    ORIGIN: str
    SHIPPER: str


def _endpoint(name: str, description: str, required: str = "false") -> str:
    """Return the documentation of another option that holds an endpoint."""
    text = ModuleDocFragment.DOCUMENTATION
    for old, new in (
        ("description: Where the service is, and how to be let in.", f"description:\n      - {description}"),
        ("required: true", f"required: {required}"),
        ("  endpoint:", f"  {name}:"),
    ):
        text = text.replace(old, new, 1)  # suboptions have words of the same kind
    return text.replace("O(endpoint.", f"O({name}.")


# Not in the class, whose fragments the sanity tests want to be plain strings.
ModuleDocFragment.ALERTMANAGER = _endpoint(
    "alertmanager",
    "Where Alertmanager is. O(state=routed), O(state=notified), O(state=silenced) and O(state=resolved) need it.",
)
ModuleDocFragment.ALERTMANAGER_REQUIRED = _endpoint("alertmanager", "Where Alertmanager is.", "true")
ModuleDocFragment.ORIGIN = _endpoint(
    "origin",
    "Where the exporter is known to answer. It is asked only when Prometheus finds the target down, to tell an exporter that doesn't "
    "run from a wrong address.",
)
ModuleDocFragment.SHIPPER = _endpoint(
    "shipper",
    "Where the shippers of the logs (Fluent Bit, OpenTelemetry Collector) show their metrics, one endpoint for each. They are asked only "
    "when the line isn't there, to tell a shipper that doesn't run, that isn't let in, that is refused or that is behind from a line that "
    "was never written.",
).replace(
    "    type: dict\n    required: false\n    suboptions:\n",
    "    type: list\n    elements: dict\n    default: []\n    suboptions:\n"
    "      path:\n"
    "        description: Path of the metrics, V(/api/v2/metrics/prometheus) for Fluent Bit.\n"
    "        type: str\n"
    "        default: /metrics\n",
)
