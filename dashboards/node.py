"""The host, or each node of the cluster, as node-exporter sees it."""

from __future__ import annotations

from dashboards.panels import BACKGROUND, RED, YELLOW, Page, Query, thresholds

NODE = 'instance=~"$instance"'
DISKS = 'device!~"(loop|ram|zram|fd|sr)[0-9]+"'
FILES = 'fstype!~"tmpfs|ramfs|squashfs|devtmpfs|nsfs"'
CARDS = 'device!~"lo|veth.*|cali.*|cni.*"'
NAME = "{{instance}}"


def rate(metric: str, matchers: str = "") -> str:
    """Return the PromQL of a node-exporter counter's rate, with further matchers if any."""
    return f"rate({metric}{{{', '.join(filter(None, [NODE, matchers]))}}}[$__rate_interval])"


def page() -> Page:
    """Return the dashboard."""
    one = Page(
        "vigie-node", "Node", "Processor, memory, disks and network of the chosen hosts.", namespace=False, since="1h"
    )
    one.choice("instance", "Instance", "node_uname_info", "instance")
    one.row("Now")
    idle = rate("node_cpu_seconds_total", 'mode="idle"')
    working = rate("node_cpu_seconds_total", 'mode!="idle"')
    memory = f"1 - node_memory_MemAvailable_bytes{{{NODE}}} / node_memory_MemTotal_bytes{{{NODE}}}"
    full = (
        f"max by (instance) (1 - node_filesystem_avail_bytes{{{NODE}, {FILES}}}"
        f" / (node_filesystem_size_bytes{{{NODE}, {FILES}}} > 0))"
    )
    high = thresholds((0.8, YELLOW), (0.9, RED))
    one.number(
        "CPU busy (share)",
        "percentunit",
        "All cores together.",
        Query(f"1 - avg by (instance) ({idle})", NAME, BACKGROUND),
        steps=high,
    )
    one.number(
        "Memory used (share)",
        "percentunit",
        "What programs could not have any more: 1 minus available memory.",
        Query(memory, NAME, BACKGROUND),
        steps=high,
    )
    one.number(
        "Fullest file system (share)",
        "percentunit",
        "Elasticsearch stops writing from 95 % on, the kubelet evicts pods from 85 % on.",
        Query(full, NAME, BACKGROUND),
        steps=high,
    )
    one.number(
        "Up since (seconds)",
        "s",
        "Time since the host was started.",
        Query(f"time() - node_boot_time_seconds{{{NODE}}}", NAME, BACKGROUND),
    )
    one.row("Processor and memory")
    one.lines(
        "CPU by mode (cores)",
        "short",
        "Without idle; iowait waits for disks, steal for the hypervisor.",
        Query(f"sum by (mode) ({working})", "{{mode}}", BACKGROUND),
        stacked=True,
    )
    one.lines(
        "Load and cores (processes)",
        "short",
        "Processes that run or wait; above the number of cores they queue.",
        Query(f"node_load1{{{NODE}}}", "1 minute, {{instance}}", BACKGROUND),
        Query(f"node_load5{{{NODE}}}", "5 minutes, {{instance}}", BACKGROUND),
        Query(
            f'count by (instance) (node_cpu_seconds_total{{{NODE}, mode="idle"}})', "cores, {{instance}}", BACKGROUND
        ),
    )
    one.lines(
        "Memory (bytes)",
        "bytes",
        "Total and available; what is neither available nor free is given back when programs need it.",
        Query(f"node_memory_MemTotal_bytes{{{NODE}}}", "total, {{instance}}", BACKGROUND),
        Query(f"node_memory_MemAvailable_bytes{{{NODE}}}", "available, {{instance}}", BACKGROUND),
        Query(f"node_memory_MemFree_bytes{{{NODE}}}", "free, {{instance}}", BACKGROUND),
    )
    one.lines(
        "Context switches (per second)",
        "ops",
        "How often the kernel changes from one program to another.",
        Query(rate("node_context_switches_total"), NAME, BACKGROUND),
    )
    one.row("Disks and network")
    one.lines(
        "File systems used (share)",
        "percentunit",
        "Of each file system on a disk.",
        Query(
            f"max by (instance, device) (1 - node_filesystem_avail_bytes{{{NODE}, {FILES}}}"
            f" / (node_filesystem_size_bytes{{{NODE}, {FILES}}} > 0))",
            "{{device}}, {{instance}}",
            BACKGROUND,
        ),
        span=8,
        top=1,
    )
    one.lines(
        "Disks (bytes per second)",
        "Bps",
        "Read and written, all disks of a host together.",
        Query(f"sum by (instance) ({rate('node_disk_read_bytes_total', DISKS)})", "read, {{instance}}", BACKGROUND),
        Query(
            f"sum by (instance) ({rate('node_disk_written_bytes_total', DISKS)})", "written, {{instance}}", BACKGROUND
        ),
        span=8,
    )
    one.lines(
        "Network (bytes per second)",
        "Bps",
        "Received and sent, without the loopback and the pods' own interfaces. Empty while a host has no other interface.",
        Query(
            f"sum by (instance) ({rate('node_network_receive_bytes_total', CARDS)})",
            "received, {{instance}}",
            BACKGROUND,
        ),
        Query(
            f"sum by (instance) ({rate('node_network_transmit_bytes_total', CARDS)})", "sent, {{instance}}", BACKGROUND
        ),
        span=8,
    )
    return one
