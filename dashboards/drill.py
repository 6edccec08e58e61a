"""The stages of a drill, as far as Prometheus itself can show them; mail, log and trace are in the drill's own report."""

from __future__ import annotations

from dashboards.panels import APPLICATION, BACKGROUND, BLUE, FIRES, ON_OFF, RED, Page, Query, thresholds

RULES = 'rule_group=~".*vigie-restarts"'
CRASH_LOOP = 'ALERTS{alertname="PodCrashLoop", namespace="$namespace", alertstate="firing"}'
EMAIL = 'integration="email"'


def page() -> Page:
    """Return the dashboard."""
    one = Page(
        "vigie-drill",
        "Drill",
        "A crash on its way to the mail: crash, restart, scraped, firing, routed, mailed. The report in out/drill/latest adds the proofs.",
        since="15m",
    )
    restarts = f"kube_pod_container_status_restarts_total{{{APPLICATION}}}"
    one.row("The run")
    one.number(
        "Last run seen by the application (time)",
        "dateTimeFromNow",
        "When a request last carried the id of a drill. Empty until a drill sends one to the running process.",
        Query(f"max by (run_id) (vigie_run_last_seen_timestamp_seconds{{{APPLICATION}}}) * 1000", "{{run_id}}"),
        none="no run yet",
        named=True,
        span=8,
    )
    one.number(
        "Restarts of the application's pod (restarts)",
        "short",
        "More than the threshold of PodCrashLoop (2) within its window is a crash loop.",
        Query(f"max({restarts})"),
        steps=thresholds((1, "yellow"), (3, RED)),
        span=4,
    )
    one.number(
        "PodCrashLoop firing (alerts)",
        "short",
        "Empty while the application does not loop.",
        Query(f"sum({CRASH_LOOP})"),
        steps=thresholds((1, RED)),
        none="0",
        span=4,
    )
    one.number(
        "Mails (since the start of Alertmanager)",
        "short",
        "Tries to send an e-mail, Watchdog's heartbeat included.",
        Query(f"sum(alertmanager_notifications_total{{{EMAIL}}})", step=BACKGROUND),
        steps=thresholds(base=BLUE),
        span=4,
    )
    one.number(
        "Failed mails (since the start of Alertmanager)",
        "short",
        "What the mail server refused, or did not answer.",
        Query(f"sum(alertmanager_notifications_failed_total{{{EMAIL}}})", step=BACKGROUND),
        steps=thresholds((1, RED)),
        span=4,
    )
    one.row("Crash, restart, scraped")
    one.lines(
        "Restart counter as Prometheus has it (restarts)",
        "short",
        "Each step is a restart that was scraped.",
        Query(f"max by (pod) ({restarts})", "{{pod}}"),
        span=8,
        stepped=True,
    )
    one.lines(
        "Time since the last crash (seconds)",
        "s",
        "By the clock of the kubelet or the supervisor. Empty until the application ended once.",
        Query(
            f"time() - max by (pod) (kube_pod_container_status_last_terminated_timestamp{{{APPLICATION}}})", "{{pod}}"
        ),
        span=8,
    )
    one.lines(
        "Age of the restart counter's sample (seconds)",
        "s",
        "What a crash waits at most to be scraped.",
        Query(f"time() - max(timestamp({restarts}))", "age"),
        span=8,
    )
    one.states(
        "Ready (yes or no)",
        "The application's container.",
        Query(f"max by (pod) (kube_pod_container_status_ready{{{APPLICATION}}})", "{{pod}}"),
        mappings=ON_OFF,
    )
    one.states(
        "Targets up (yes or no)",
        "Whether Prometheus could scrape each job; 'no' is the worst of its targets.",
        Query("min by (job) (up)", "{{job}}"),
        mappings=ON_OFF,
    )
    one.row("Firing")
    one.states(
        "PodCrashLoop (active or not)",
        "Empty while the application does not loop.",
        Query(f"max by (pod) ({CRASH_LOOP})", "{{pod}}"),
        mappings=FIRES,
        span=8,
    )
    one.lines(
        "Since when PodCrashLoop is active (seconds)",
        "s",
        "Time since the first evaluation that found the expression true. Empty while the application does not loop.",
        Query('time() - max by (pod) (ALERTS_FOR_STATE{alertname="PodCrashLoop", namespace="$namespace"})', "{{pod}}"),
        span=8,
    )
    one.lines(
        "Time since the rule was evaluated (seconds)",
        "s",
        "What a scraped restart waits at most to be noticed.",
        Query(
            f"time() - max(prometheus_rule_group_last_evaluation_timestamp_seconds{{{RULES}}})",
            "since the last evaluation",
        ),
        Query(f"max(prometheus_rule_group_interval_seconds{{{RULES}}})", "interval"),
        span=8,
    )
    one.row("Routed, mailed")
    one.lines(
        "Alerts that reached Alertmanager (since its start)",
        "short",
        "Counter alertmanager_alerts_received_total: each delivery by Prometheus counts every alert in it.",
        Query("sum by (status) (alertmanager_alerts_received_total)", "{{status}}", BACKGROUND),
        span=8,
        stepped=True,
    )
    one.lines(
        "Mails sent and failed (since the start of Alertmanager)",
        "short",
        "Counters alertmanager_notifications_total and alertmanager_notifications_failed_total of e-mails.",
        Query(f"sum(alertmanager_notifications_total{{{EMAIL}}})", "sent", BACKGROUND),
        Query(f"sum(alertmanager_notifications_failed_total{{{EMAIL}}})", "failed", BACKGROUND),
        span=8,
        stepped=True,
    )
    one.lines(
        "Time that a mail takes, mean (seconds)",
        "s",
        "Until the mail server has taken it. Empty while nothing is sent.",
        Query(
            f"sum(rate(alertmanager_notification_latency_seconds_sum{{{EMAIL}}}[$__rate_interval]))"
            f" / sum(rate(alertmanager_notification_latency_seconds_count{{{EMAIL}}}[$__rate_interval]))",
            "mean",
            BACKGROUND,
        ),
        span=8,
    )
    return one
