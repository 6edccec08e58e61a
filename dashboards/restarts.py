"""Restarts of containers, the alerts about them, and what becomes of the notifications."""

from __future__ import annotations

from dashboards.panels import BACKGROUND, FIRES, GREEN, ON_OFF, RED, Page, Query, thresholds

HERE = 'namespace="$namespace"'
BY_CONTAINER = "by (pod, container)"
CONTAINER = "{{pod}} {{container}}"


def page() -> Page:
    """Return the dashboard."""
    one = Page(
        "vigie-restarts",
        "Restarts and alerts",
        "Restart counters of one namespace, the alerts of the whole lab, and their notifications.",
        since="1h",
    )
    restarts = f"kube_pod_container_status_restarts_total{{{HERE}}}"
    one.row("Now")
    one.number(
        "Restarts in 10 minutes (restarts)",
        "short",
        "Of all containers of the namespace, counted as whole numbers, as the alert PodCrashLoop does.",
        Query(
            f"sum(max {BY_CONTAINER} ({restarts}) - min {BY_CONTAINER} (min_over_time({restarts}[10m])))",
        ),
        steps=thresholds((1, "yellow"), (3, RED)),
    )
    one.number(
        "Containers ready (containers)",
        "short",
        "As the kubelet or the supervisor sees them.",
        Query(f"sum(max {BY_CONTAINER} (kube_pod_container_status_ready{{{HERE}}}))"),
        steps=thresholds((1, GREEN), base=RED),
    )
    one.number(
        "Containers in back-off (containers)",
        "short",
        "Down, and waiting for the next try. Empty until a container has to wait.",
        Query(
            f'count(max {BY_CONTAINER} (kube_pod_container_status_waiting_reason{{{HERE}, reason="CrashLoopBackOff"}}))'
        ),
        steps=thresholds((1, RED)),
        none="0",
    )
    one.number(
        "Alerts firing (alerts)",
        "short",
        "In the whole lab, without Watchdog, which always fires. Empty while nothing is wrong.",
        Query('sum(ALERTS{alertstate="firing", alertname!="Watchdog"})'),
        steps=thresholds((1, RED)),
        none="0",
    )
    one.row("Restarts")
    one.lines(
        "Restarts since the pod was created (restarts)",
        "short",
        "Counter kube_pod_container_status_restarts_total; a new pod begins at 0.",
        Query(f"max {BY_CONTAINER} ({restarts})", CONTAINER),
        stepped=True,
    )
    one.states(
        "Ready (yes or no)",
        "kube_pod_container_status_ready of each container.",
        Query(f"max {BY_CONTAINER} (kube_pod_container_status_ready{{{HERE}}})", CONTAINER),
        mappings=ON_OFF,
    )
    one.lines(
        "Age of the pod (seconds)",
        "s",
        "Time since kube_pod_created: it falls to 0 at a deliberate start or a new deployment, not at a restart.",
        Query(f"time() - max by (pod) (kube_pod_created{{{HERE}}})", "{{pod}}"),
    )
    one.lines(
        "Time since the last exit (seconds)",
        "s",
        "Of each container that ever ended. Empty until one does.",
        Query(
            f"time() - max {BY_CONTAINER} (kube_pod_container_status_last_terminated_timestamp{{{HERE}}})",
            CONTAINER,
        ),
    )
    one.row("Alerts")
    one.states(
        "Alerts pending and firing (active or not)",
        "Every alert of the lab while Prometheus has it; Watchdog, which proves that alerting works, is always there.",
        Query("max by (alertname, pod, alertstate) (ALERTS)", "{{alertname}} {{pod}} {{alertstate}}"),
        mappings=FIRES,
    )
    one.rows(
        "Alerts now (1 is active)",
        "short",
        "What Prometheus has at this moment; Watchdog always.",
        Query("ALERTS"),
        ["alertname", "alertstate", "severity", "namespace", "pod", "container"],
    )
    one.lines(
        "Rules that could not be evaluated (per second)",
        "ops",
        "By rule group, since a broken rule is a silent one. All at 0 is well.",
        Query(
            "sum by (rule_group) (rate(prometheus_rule_evaluation_failures_total[$__rate_interval]))",
            "{{rule_group}}",
            BACKGROUND,
        ),
    )
    one.lines(
        "From Prometheus to Alertmanager (alerts per second)",
        "ops",
        "Sent, failed and dropped before Alertmanager had them.",
        Query("sum(rate(prometheus_notifications_sent_total[$__rate_interval]))", "sent", BACKGROUND),
        Query("sum(rate(prometheus_notifications_errors_total[$__rate_interval]))", "failed", BACKGROUND),
        Query("sum(rate(prometheus_notifications_dropped_total[$__rate_interval]))", "dropped", BACKGROUND),
    )
    one.row("Notifications")
    one.lines(
        "Notifications (since the start of Alertmanager)",
        "short",
        "Counter alertmanager_notifications_total by way of delivery; tries that failed are counted too.",
        Query("sum by (integration) (alertmanager_notifications_total)", "{{integration}}", BACKGROUND),
        span=8,
        stepped=True,
    )
    one.lines(
        "Failed notifications (since the start of Alertmanager)",
        "short",
        "Counter alertmanager_notifications_failed_total by way of delivery. All at 0 is well.",
        Query("sum by (integration) (alertmanager_notifications_failed_total)", "{{integration}}", BACKGROUND),
        span=8,
        stepped=True,
    )
    one.lines(
        "Time that a notification takes, mean (seconds)",
        "s",
        "Until the mail server or the hook has taken it. Empty while nothing is sent.",
        Query(
            "sum by (integration) (rate(alertmanager_notification_latency_seconds_sum[$__rate_interval]))"
            " / sum by (integration) (rate(alertmanager_notification_latency_seconds_count[$__rate_interval]))",
            "{{integration}}",
            BACKGROUND,
        ),
        span=8,
    )
    one.lines(
        "Alerts that Alertmanager holds (alerts)",
        "short",
        "By state: active ones are notified, suppressed ones are silenced or inhibited.",
        Query("sum by (state) (alertmanager_alerts)", "{{state}}", BACKGROUND),
    )
    one.lines(
        "Silences (silences)",
        "short",
        "By state; an active one keeps mails from being sent.",
        Query("sum by (state) (alertmanager_silences)", "{{state}}", BACKGROUND),
    )
    return one
