# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Is a target scraped and fresh, and if not, which link between exporter and Prometheus is broken?"""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Transport
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Prometheus, Target, included
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import format_time
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

if TYPE_CHECKING:
    from ansible_collections.vigie.observability.plugins.module_utils.monitors import Monitor

REASONS = (
    "monitor_missing",
    "monitor_not_selected",
    "monitor_rejected",
    "service_not_selected",
    "port_unknown",
    "no_endpoints",
    "configuration_pending",
    "job_unknown",
    "target_dropped",
    "too_few_targets",
    "exporter_down",
    "wrong_address",
    "scrape_failed",
    "stale_scrape",
    "not_scraped_yet",
)
"""Reasons of this check beyond the common ones; the module's documentation lists them."""

_NO_CONNECTION = re.compile(
    r"connection refused|no such host|no route to host|connection reset|deadline exceeded|i/o timeout|network is unreachable|EOF"
)
"""What Prometheus says in ``lastError`` when nobody answered, as opposed to an answer that it can't use."""


@dataclass
class _Found:
    """The targets of one look: all, those of the job, and those of them that carry the labels."""

    everything: list[Target]
    of_job: list[Target]
    chosen: list[Target]


class ScrapeCheck:
    """Enough healthy and fresh targets of a job.

    Args:
        prometheus: the server that should scrape.
        job: label ``job`` of the targets.
        labels: further labels that they carry.
        count: how many must be healthy, at least 1.
        max_age: seconds since the last scrape, by Prometheus' clock.
        since: Unix seconds after which the last scrape must lie, or None.
        origin: where the exporter is known to answer, or None.
        origin_path: path of its metrics.
        monitor: the ServiceMonitor that should make the targets, or None.

    Raises:
        CheckError: ``bad_option``.
    """

    def __init__(
        self,
        prometheus: Prometheus,
        job: str,
        labels: Mapping[str, Any] | None = None,
        *,
        count: int = 1,
        max_age: float = 60.0,
        since: float | None = None,
        origin: Transport | None = None,
        origin_path: str = "/metrics",
        monitor: Monitor | None = None,
    ) -> None:
        if count < 1:
            raise CheckError(
                "bad_option", f"count={count} must be at least 1; to prove that nothing is up use expect=absent."
            )
        if not 0 < max_age <= math.inf:
            raise CheckError("bad_option", f"max_age={max_age} must be above 0 seconds.")
        self._prometheus = prometheus
        self._job = job
        self._labels = dict(labels or {})
        self._count = count
        self._max_age = max_age
        self._since = since
        self._origin = origin
        self._origin_path = origin_path
        self._monitor = monitor

    def look(self, deadline: Deadline) -> Verdict:
        """Ask for the targets once; only the last look goes on to find the broken link."""
        everything = self._prometheus.targets(deadline)
        of_job = [target for target in everything if target.labels.get("job") == self._job]
        chosen = [target for target in of_job if included(self._labels, target.labels)]
        healthy = [target for target in chosen if target.health == "up" and self._is_fresh(target)]
        observed = {
            "healthy": len(healthy),
            "wanted": self._count,
            "targets": [target.summary() for target in chosen],
        }
        if len(healthy) >= self._count:
            return Verdict.yes(observed, {"last_scrape": max(target.last_scrape or 0 for target in healthy)})
        if not deadline.final:
            return Verdict.no("too_few_targets", "", observed)
        found = _Found(everything, of_job, chosen)
        up = [target for target in chosen if target.health == "up"]
        # Targets that are up but not fresh were made, so nothing of the chain that makes them is broken.
        if self._monitor and len(up) < self._count:
            reason, hint = self._of_monitor(self._monitor, deadline, found, observed)
        else:
            reason, hint = self._broken_link(deadline, found)
        return Verdict.no(reason, hint, observed)

    def _of_monitor(
        self, monitor: Monitor, deadline: Deadline, found: _Found, observed: dict[str, Any]
    ) -> tuple[str, str]:
        """Walk from the ServiceMonitor to Prometheus, and when nothing is broken there, give the plain reason."""
        made = monitor.made(found.everything)
        broken = monitor.look(deadline, self._prometheus, found.everything)
        observed["monitor"] = monitor.seen
        if not broken and not found.of_job and made:
            # Made as they should be, but under another name.
            observed["targets"] = [target.summary() for target in made]
            broken = self._ailing(deadline, made) or self._misnamed(monitor, made)
        reason, hint = broken or self._broken_link(deadline, found)
        return reason, f"{hint.removesuffix('.')}{monitor.note}." if monitor.note else hint

    def _misnamed(self, monitor: Monitor, made: list[Target]) -> tuple[str, str]:
        jobs = ", ".join(sorted({target.labels.get("job", "") for target in made}))
        return (
            "too_few_targets",
            f"{monitor} makes {len(made)} targets, but their label job is {jobs} and not {self._job}: {monitor.job_rule}; correct that "
            f"or the option job; see {self._prometheus.address}/targets.",
        )

    def _is_fresh(self, target: Target) -> bool:
        if target.last_scrape is None or self._prometheus.clock - target.last_scrape > self._max_age:
            return False
        return self._since is None or target.last_scrape > self._since

    def _broken_link(self, deadline: Deadline, found: _Found) -> tuple[str, str]:
        if not found.of_job:
            return self._no_targets(deadline, found.everything)
        ailing = self._ailing(deadline, found.chosen)
        if ailing:
            return ailing
        others = [target.labels for target in found.of_job if target not in found.chosen]
        seen = f"; the others carry {others[:5]}" if others else ""
        wanted = f" with labels {self._labels}" if self._labels else ""
        return (
            "too_few_targets",
            f"Job {self._job} has {len(found.chosen)} targets{wanted}, {self._count} are wanted{seen}; "
            f"see {self._prometheus.address}/targets.",
        )

    def _ailing(self, deadline: Deadline, chosen: list[Target]) -> tuple[str, str] | None:
        """Return what is wrong with the first target that isn't well, or None when all are."""
        for target in chosen:
            if target.health == "down":
                return self._down(deadline, target)
        for target in chosen:
            if target.health != "up":
                return (
                    "not_scraped_yet",
                    f"{target.url} is known but was not scraped yet; its interval is {target.interval}.",
                )
        for target in chosen:
            if not self._is_fresh(target) and target.last_scrape is not None:
                bound = f"at most {self._max_age:g} s old"
                if self._since is not None:
                    bound += f" and after {format_time(self._since)}"
                return (
                    "stale_scrape",
                    f"{target.url} was last scraped at {format_time(target.last_scrape)}, {self._prometheus.clock - target.last_scrape:.0f} s "
                    f"before Prometheus' clock, but must be {bound}; its interval is {target.interval}; "
                    f"see {self._prometheus.address}/targets.",
                )
        return None

    def _no_targets(self, deadline: Deadline, everything: list[Target]) -> tuple[str, str]:
        discovered = self._prometheus.dropped_targets(deadline)
        if self._monitor:
            dropped = self._monitor.dropped(discovered, self._job)
        else:
            dropped = [labels for labels in discovered if labels.get("job") == self._job]
        if dropped:
            return (
                "target_dropped",
                f"Relabelling drops all {len(dropped)} targets that job {self._job} discovered, the first at "
                f"{dropped[0].get('__address__')}; compare its relabel_configs at {self._prometheus.address}/service-discovery.",
            )
        pools = self._prometheus.scrape_pools(deadline)
        if self._job in pools:
            return (
                "too_few_targets",
                f"Job {self._job} is configured but discovers no target; see {self._prometheus.address}/service-discovery.",
            )
        if self._monitor and (made := [pool for pool in pools if pool.startswith(self._monitor.pools)]):
            may = f"; {self._monitor.permission}" if self._monitor.permission else ""
            return (
                "too_few_targets",
                f"Job {made[0]} of {self._monitor} is configured but discovers no target{may}; "
                f"see {self._prometheus.address}/service-discovery.",
            )
        known = sorted({target.labels.get("job", "") for target in everything} | set(pools))
        return (
            "job_unknown",
            f"Prometheus has no job {self._job}; it knows {', '.join(known) or 'none'}; see {self._prometheus.address}/config.",
        )

    def _down(self, deadline: Deadline, target: Target) -> tuple[str, str]:
        said = f"Prometheus says of {target.url}: {target.error}"
        nobody = _NO_CONNECTION.search(target.error) is not None
        if self._origin is None:
            if nobody:
                return (
                    "exporter_down",
                    f"{said}; look whether the exporter runs with 'curl -i {target.url}', or name its true address in the option origin.",
                )
            return "scrape_failed", f"{said}; look at the answer with 'curl -i {target.url}'."
        origin = f"{self._origin.address}{self._origin_path}"
        try:
            self._origin.request("GET", self._origin_path, timeout=deadline.request_timeout)
        except CheckError as error:
            if error.reason in ("unreachable", "timeout", "disconnected"):
                return (
                    "exporter_down",
                    f"{said}; the exporter itself doesn't answer at {origin} either ({error.reason}); start it.",
                )
            return "scrape_failed", f"{said}; the exporter itself answers badly at {origin}: {error.hint}"
        if not _same_place(target.url, origin):
            return (
                "wrong_address",
                f"Prometheus scrapes {target.url}, but the exporter answers at {origin}; correct the target's address.",
            )
        return (
            "scrape_failed",
            f"{said}; the exporter answers at {origin}, look at that answer with 'curl -i {target.url}'.",
        )


def _same_place(first: str, second: str) -> bool:
    """Return whether two addresses mean the same port of the same host, however the host is spelled."""
    one, other = urlsplit(first), urlsplit(second)
    default = {"http": 80, "https": 443}
    if (one.port or default.get(one.scheme)) != (other.port or default.get(other.scheme)):
        return False
    return one.hostname == other.hostname or bool(_addresses(one.hostname) & _addresses(other.hostname))


def _addresses(host: str | None) -> set[Any]:
    try:
        return {found[4][0] for found in socket.getaddrinfo(host, None)}
    except OSError:
        return set()
