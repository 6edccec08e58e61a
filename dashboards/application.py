"""The application's four metrics, and the process behind them."""

from __future__ import annotations

from dashboards.panels import APPLICATION, RED, YELLOW, Page, Query, thresholds

IDLE = "Empty while nobody asks."


def quantile(share: float) -> str:
    """Return the PromQL of a quantile of the request duration, ``share`` from 0 to 1."""
    rate = f"sum by (le) (rate(request_duration_seconds_bucket{{{APPLICATION}}}[$__rate_interval]))"
    return f"histogram_quantile({share}, {rate})"


def page() -> Page:
    """Return the dashboard."""
    one = Page("vigie-application", "Application", "The four metrics of the Flask service, and its process.")
    requests = f"rate(http_requests_total{{{APPLICATION}}}[$__rate_interval])"
    failed = f'rate(http_requests_total{{{APPLICATION}, status=~"5.."}}[$__rate_interval])'
    one.row("Now")
    one.number(
        "Requests (per second)",
        "reqps",
        "Counter http_requests_total, all routes. Scrapes and probes are not counted.",
        Query(f"sum({requests})"),
    )
    one.number(
        "Server errors (share of requests)",
        "percentunit",
        "Answers with status 5xx. A crash answers nothing and is not counted here. Empty while no request fails.",
        Query(f"sum({failed}) / sum({requests})"),
        steps=thresholds((0.01, YELLOW), (0.05, RED)),
        none="none",
    )
    one.number(
        "Active users now (requests)",
        "short",
        "Gauge active_users: requests that are being served.",
        Query(f"sum(active_users{{{APPLICATION}}})"),
    )
    one.number(
        "95th percentile of the duration (seconds)",
        "s",
        f"Histogram request_duration_seconds: 95 of 100 requests are answered within this time. {IDLE}",
        Query(quantile(0.95)),
        none="no requests",
    )
    one.row("Requests")
    one.lines(
        "Requests by route (per second)",
        "reqps",
        "Counter http_requests_total by method and route; paths that no route describes are 'unmatched'.",
        Query(f"sum by (method, route) ({requests})", "{{method}} {{route}}"),
        stacked=True,
    )
    one.lines(
        "Requests by status (per second)",
        "reqps",
        "Counter http_requests_total by HTTP status.",
        Query(f"sum by (status) ({requests})", "{{status}}"),
        stacked=True,
    )
    one.row("Durations")
    one.lines(
        "Request duration, percentiles (seconds)",
        "s",
        f"Histogram request_duration_seconds; as exact as its buckets. A dot is a request, and leads to its trace. {IDLE}",
        *(Query(quantile(share / 100), f"p{share}", exemplars=share == 99) for share in (50, 95, 99)),
    )
    one.buckets(
        "Request duration, distribution (requests by seconds)",
        "s",
        "Histogram request_duration_seconds: how many requests fell into each bucket.",
        Query(f"sum by (le) (increase(request_duration_seconds_bucket{{{APPLICATION}}}[$__rate_interval]))", "{{le}}"),
    )
    one.lines(
        "Request latency, mean by route (seconds)",
        "s",
        f"Summary request_latency_seconds: its sum divided by its count. {IDLE}",
        Query(
            f"sum by (method, route) (rate(request_latency_seconds_sum{{{APPLICATION}}}[$__rate_interval]))"
            f" / sum by (method, route) (rate(request_latency_seconds_count{{{APPLICATION}}}[$__rate_interval]))",
            "{{method}} {{route}}",
        ),
    )
    one.lines(
        "Active users (requests)",
        "short",
        "Gauge active_users by instance; it misses what begins and ends between two scrapes.",
        Query(f"active_users{{{APPLICATION}}}", "{{instance}}"),
    )
    one.row("Process")
    one.lines(
        "Memory (bytes)",
        "bytes",
        "Resident memory of each process.",
        Query(f"process_resident_memory_bytes{{{APPLICATION}}}", "{{instance}}"),
        span=8,
    )
    one.lines(
        "CPU (cores)",
        "short",
        "Processor time per second; 1 is a whole core, more than 1 can't be had by one Python process for long.",
        Query(f"rate(process_cpu_seconds_total{{{APPLICATION}}}[$__rate_interval])", "{{instance}}"),
        span=8,
    )
    one.lines(
        "Age of the process (seconds)",
        "s",
        "Falls to 0 at each restart.",
        Query(f"time() - process_start_time_seconds{{{APPLICATION}}}", "{{instance}}"),
        span=8,
    )
    return one
