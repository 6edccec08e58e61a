"""The cluster, as kube-state-metrics and the kubelets see it."""

from __future__ import annotations

from dashboards.panels import BACKGROUND, GREEN, RED, YELLOW, Page, Query, thresholds

RUNNING = 'container!="", container!="POD"'
HERE = 'namespace="$namespace"'


def share_requested(resource: str) -> str:
    """Return the PromQL of the share of a resource that pods reserve of what nodes offer."""
    return (
        f'sum(kube_pod_container_resource_requests{{resource="{resource}"}})'
        f' / sum(kube_node_status_allocatable{{resource="{resource}"}})'
    )


def page() -> Page:
    """Return the dashboard."""
    one = Page(
        "vigie-cluster",
        "Cluster",
        "Nodes, pods and what they use, by namespace and in the chosen one. Only on kubernetes.",
        since="1h",
    )
    reserved = thresholds((0.8, YELLOW), (0.95, RED))
    one.row("Now")
    one.number(
        "Nodes ready (nodes)",
        "short",
        "Nodes that take pods.",
        Query('sum(kube_node_status_condition{condition="Ready", status="true"})'),
        steps=thresholds((1, GREEN), base=RED),
        span=4,
    )
    one.number(
        "Pods running (pods)",
        "short",
        "In all namespaces.",
        Query('sum(kube_pod_status_phase{phase="Running"})'),
        span=4,
    )
    one.number(
        "Containers not ready (containers)",
        "short",
        "In all namespaces; those of finished jobs are counted too.",
        Query("count(kube_pod_container_status_ready) - sum(kube_pod_container_status_ready)"),
        steps=thresholds((1, YELLOW)),
        span=4,
    )
    one.number(
        "Restarts in an hour (restarts)",
        "short",
        "In all namespaces, counted as whole numbers.",
        Query(
            "sum(max by (namespace, pod, container) (kube_pod_container_status_restarts_total)"
            " - min by (namespace, pod, container) (min_over_time(kube_pod_container_status_restarts_total[1h])))"
        ),
        steps=thresholds((1, YELLOW), (5, RED)),
        span=4,
    )
    one.number(
        "CPU reserved (share)",
        "percentunit",
        "Requests of all pods, of what the nodes offer; at 100 % no further pod is scheduled.",
        Query(share_requested("cpu")),
        steps=reserved,
        span=4,
    )
    one.number(
        "Memory reserved (share)",
        "percentunit",
        "Requests of all pods, of what the nodes offer.",
        Query(share_requested("memory")),
        steps=reserved,
        span=4,
    )
    one.row("By namespace")
    one.lines(
        "CPU by namespace (cores)",
        "short",
        "What containers use, as the kubelet's cAdvisor counts it.",
        Query(
            f"sum by (namespace) (rate(container_cpu_usage_seconds_total{{{RUNNING}}}[$__rate_interval]))",
            "{{namespace}}",
            BACKGROUND,
        ),
        span=8,
        stacked=True,
    )
    one.lines(
        "Memory by namespace (bytes)",
        "bytes",
        "Working set: what counts against a container's limit.",
        Query(f"sum by (namespace) (container_memory_working_set_bytes{{{RUNNING}}})", "{{namespace}}", BACKGROUND),
        span=8,
        stacked=True,
    )
    one.lines(
        "Pods by phase (pods)",
        "short",
        "Pending for long: see 'kubectl describe pod' for what the scheduler lacks.",
        Query("sum by (phase) (kube_pod_status_phase)", "{{phase}}"),
        span=8,
        stacked=True,
    )
    one.row("In the namespace")
    one.lines(
        "CPU by pod (cores)",
        "short",
        "What containers of the chosen namespace use.",
        Query(
            f"sum by (pod) (rate(container_cpu_usage_seconds_total{{{HERE}, {RUNNING}}}[$__rate_interval]))",
            "{{pod}}",
            BACKGROUND,
        ),
        span=8,
    )
    one.lines(
        "Memory by container (share of its limit)",
        "percentunit",
        "At 100 % the kernel kills the container. Empty while no container of the namespace has a limit.",
        Query(
            f"max by (pod, container) (container_memory_working_set_bytes{{{HERE}, {RUNNING}}})"
            f' / max by (pod, container) (kube_pod_container_resource_limits{{{HERE}, resource="memory"}})',
            "{{pod}} {{container}}",
            BACKGROUND,
        ),
        span=8,
        top=1,
    )
    one.lines(
        "Replicas wanted and available (pods)",
        "short",
        "Of each Deployment of the namespace. Empty while it has none.",
        Query(f"kube_deployment_spec_replicas{{{HERE}}}", "{{deployment}} wanted"),
        Query(f"kube_deployment_status_replicas_available{{{HERE}}}", "{{deployment}} available"),
        span=8,
        stepped=True,
    )
    return one
