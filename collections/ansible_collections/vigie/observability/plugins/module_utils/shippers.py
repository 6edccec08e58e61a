# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What a shipper of logs says of itself in its metrics: Fluent Bit, or an OpenTelemetry Collector.

Counters say how much since the start and not when, so a baseline is taken where there is time for one, and what grew since
then says more than what was there before.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Transport
from ansible_collections.vigie.observability.plugins.module_utils.exposition import Sample, samples
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

_SENT = {"fluentbit_output_proc_records", "otelcol_exporter_sent_log_records"}
_LOST = {
    "fluentbit_output_errors",
    "fluentbit_output_dropped_records",
    "fluentbit_output_retries_failed",
    "otelcol_exporter_send_failed_log_records",
    "otelcol_exporter_enqueue_failed_log_records",
}
_TRIED_AGAIN = {"fluentbit_output_retries", "otelcol_elasticsearch_docs_retried"}
_WAITING = {"fluentbit_input_storage_chunks_busy", "otelcol_exporter_queue_size"}
_DOCUMENTS = "otelcol_elasticsearch_docs_processed"
"""What the Collector's exporter says of each document, the exact answer of Elasticsearch included."""
_THERE_ALREADY = "version_conflict_engine_exception"
"""A document that was sent again with its id: it is stored once, as it should be."""


@dataclass
class Counts:
    """What a shipper did since its start.

    Attributes:
        sent: records delivered.
        lost: records or chunks given up, by metric.
        refused: documents that Elasticsearch answered with an error of their own, by type of error.
        unable: documents of requests that failed as a whole, by status; 500 when there was no answer.
        again: deliveries tried again.
        waiting: what is queued now.
    """

    sent: float = 0.0
    lost: dict[str, float] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)
    unable: dict[str, float] = field(default_factory=dict)
    again: float = 0.0
    waiting: float = 0.0

    def since(self, baseline: Counts) -> Counts:
        """Return what was added since ``baseline``; of a shipper that was restarted between, all."""
        if self.sent < baseline.sent or self.again < baseline.again:
            return self

        def grown(now: dict[str, float], before: dict[str, float]) -> dict[str, float]:
            added = {name: value - before.get(name, 0.0) for name, value in now.items()}
            return {name: value for name, value in added.items() if value > 0}

        return Counts(
            self.sent - baseline.sent,
            grown(self.lost, baseline.lost),
            grown(self.refused, baseline.refused),
            grown(self.unable, baseline.unable),
            self.again - baseline.again,
            self.waiting,
        )


def counted(found: list[Sample]) -> Counts | None:
    """Return what the metrics of a shipper say, or None when they are not those of a shipper."""
    if not any(one.base.startswith(("fluentbit_", "otelcol_")) for one in found):
        return None
    counts = Counts()
    for one in found:
        if one.base in _SENT:
            counts.sent += one.value
        elif one.base in _TRIED_AGAIN:
            counts.again += one.value
        elif one.base in _WAITING:
            # One exporter of several kinds of data has a queue for each.
            if one.labels.get("data_type", "logs") == "logs":
                counts.waiting += one.value
        elif one.base in _LOST and one.value:
            counts.lost[one.base] = counts.lost.get(one.base, 0.0) + one.value
        elif one.base == _DOCUMENTS and one.value and one.labels.get("outcome") != "success":
            kind = one.labels.get("error_type")
            if kind == _THERE_ALREADY:
                continue
            name = kind or one.labels.get("http_response_status_code") or one.labels.get("outcome", "")
            bucket = counts.refused if kind else counts.unable
            bucket[name] = bucket.get(name, 0.0) + one.value
    return counts


class Shipper:
    """One shipper, asked for its metrics.

    Args:
        transport: way to it.
        path: where its metrics are.
    """

    def __init__(self, transport: Transport, path: str) -> None:
        self._transport = transport
        self._path = path
        self._baseline: Counts | None = None

    @property
    def command(self) -> str:
        """Shows people its metrics."""
        return self._transport.command(self._path)

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return self._transport.address

    def counts(self, deadline: Deadline) -> Counts:
        """Return what it did since its start.

        Raises:
            CheckError: ``bad_answer`` when it is no shipper; else see Transport.request.
        """
        answer = self._transport.request("GET", self._path, timeout=deadline.request_timeout)
        counts = counted(samples(answer.text))
        if counts is None:
            raise CheckError(
                "bad_answer",
                f"{self.address}{self._path} has no metric of Fluent Bit or of an OpenTelemetry Collector; correct the path in "
                f"the option shipper: /api/v2/metrics/prometheus or /metrics; see '{self.command}'.",
            )
        return counts

    def remember(self, deadline: Deadline) -> None:
        """Take the baseline, if there is none yet; what can't be had now isn't missed before the end."""
        if self._baseline is None:
            try:
                self._baseline = self.counts(deadline)
            except CheckError:
                self._baseline = None

    def ailment(self, deadline: Deadline, *, arriving: bool) -> tuple[str, str] | None:
        """Return reason and hint when something is wrong with it, or None.

        Args:
            deadline: of the look.
            arriving: whether Elasticsearch gets fresh documents; then only what went wrong within the window counts.
        """
        try:
            now = self.counts(deadline)
        except CheckError as error:
            if error.reason not in ("unreachable", "timeout", "disconnected"):
                raise
            return (
                "shipper_down",
                f"The shipper doesn't answer at {self.address} ({error.reason}), so it may not run; see '{self.command}'.",
            )
        if self._baseline is not None:
            recent, when = now.since(self._baseline), "while this check watched"
        else:
            recent, when = now, "since its start"
        told = self._told(recent, when, now, arriving=arriving)
        # What it did before the window may be why nothing is there, but not where documents come in all the same.
        return told or (None if arriving else self._told(now, "since its start", now, arriving=arriving))

    def _told(self, counts: Counts, when: str, ever: Counts, *, arriving: bool) -> tuple[str, str] | None:
        see = f"read its log, and see '{self.command}'"
        if counts.refused:
            return (
                "shipper_rejected",
                f"Elasticsearch refused documents that the shipper at {self.address} sent {when}: {_listed(counts.refused)}; {see}.",
            )
        denied = [status for status in counts.unable if status in ("401", "403")]
        if denied:
            return (
                "shipper_unreachable",
                f"The shipper at {self.address} isn't let in by Elasticsearch ({_listed(counts.unable)} {when}): correct its user "
                f"or password; {see}.",
            )
        trouble = {**counts.unable, **counts.lost}
        if counts.again:
            trouble["tries again"] = counts.again
        if counts.waiting:
            trouble["waiting"] = counts.waiting
        # What only waits may be slow; where nothing was ever delivered, it isn't that.
        stuck = not counts.sent and (trouble.keys() - {"waiting"} or not ever.sent)
        if trouble and stuck and not arriving:
            return (
                "shipper_unreachable",
                f"The shipper at {self.address} delivered nothing {when} ({_listed(trouble)}): it can't reach Elasticsearch or isn't "
                f"let in; {see}.",
            )
        if counts.lost:
            return (
                "shipper_rejected",
                f"The shipper at {self.address} delivers, but gave up some of it {when} ({_listed(counts.lost)}); {see}.",
            )
        if counts.waiting:
            return (
                "shipper_backlog",
                f"The shipper at {self.address} is behind, its queue holds {counts.waiting:g}; give a longer timeout, and {see}.",
            )
        return None


def _listed(counts: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in sorted(counts.items()))
