"""What shippers' counters mean. Names and labels are those that the Collector 0.147 shows, and those of Fluent Bit's documentation."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Response, Transport
from ansible_collections.vigie.observability.plugins.module_utils.exposition import samples
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.shippers import (
    Counts,
    Shipper,
    counted,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError


def test_what_is_no_shipper_counts_nothing() -> None:
    assert counted(samples("up 1\nprocess_cpu_seconds_total 3\n")) is None


COLLECTOR = """\
otelcol_exporter_sent_log_records{exporter="elasticsearch"} 5
otelcol_exporter_send_failed_log_records_total{exporter="elasticsearch"} 2
otelcol_exporter_queue_size{data_type="logs",exporter="elasticsearch"} 4
otelcol_exporter_queue_size{data_type="traces",exporter="otlp"} 9
otelcol_elasticsearch_docs_processed_total{http_response_status_code="200",outcome="success"} 5
otelcol_elasticsearch_docs_processed_total{error_type="document_parsing_exception",http_response_status_code="400",outcome="failed_client"} 3
otelcol_elasticsearch_docs_processed_total{error_type="version_conflict_engine_exception",http_response_status_code="409",outcome="failed_client"} 8
otelcol_elasticsearch_docs_processed_total{http_response_status_code="401",outcome="failed_client"} 6
otelcol_elasticsearch_docs_retried_total 7
"""


def test_the_counts_of_a_collector() -> None:
    assert counted(samples(COLLECTOR)) == Counts(
        sent=5,
        lost={"otelcol_exporter_send_failed_log_records": 2},
        refused={"document_parsing_exception": 3},
        unable={"401": 6},
        again=7,
        waiting=4,
    )


def test_only_what_grew_counts_within_a_window() -> None:
    before = Counts(5, {"a": 2}, {"b": 1}, {}, 7, 4)
    now = Counts(6, {"a": 2}, {"b": 3, "c": 1}, {"500": 1}, 7, 2)
    assert now.since(before) == Counts(1, {}, {"b": 2, "c": 1}, {"500": 1}, 0, 2)
    assert Counts(1, {"a": 2}).since(before) == Counts(1, {"a": 2}), "it was restarted"


class Fake(Transport):
    """A shipper whose metrics a test sets; an exception is raised instead."""

    address = "http://shipper"

    def __init__(self, *answers: str | CheckError) -> None:
        self.answers = list(answers)

    def send(self, method: str, path: str, **_: Any) -> Response:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, CheckError):
            raise answer
        return Response(200, answer.encode())


def metrics(**values: float) -> str:
    names = {
        "sent": "fluentbit_output_proc_records_total",
        "dropped": "fluentbit_output_dropped_records_total",
        "again": "fluentbit_output_retries_total",
        "waiting": "fluentbit_input_storage_chunks_busy",
    }
    counts = {"sent": 0.0, **values}
    return "".join(f'{names[name]}{{name="x"}} {value}\n' for name, value in counts.items())


CASES: dict[str, tuple[list[str], bool, str | None]] = {
    "healthy": ([metrics(sent=5)], False, None),
    "idle": ([metrics()], False, None),
    "tries again and again": ([metrics(again=3)], False, "shipper_unreachable"),
    "delivered before, tries again now": ([metrics(sent=5), metrics(sent=5, again=2)], False, "shipper_unreachable"),
    "never delivered, has a queue": ([metrics(waiting=2)], False, "shipper_unreachable"),
    "delivered before, has a queue": ([metrics(sent=5), metrics(sent=5, waiting=2)], False, "shipper_backlog"),
    "delivers, has a queue": ([metrics(sent=5), metrics(sent=6, waiting=2)], True, "shipper_backlog"),
    "gave up before the window": ([metrics(sent=5, dropped=2), metrics(sent=6, dropped=2)], False, "shipper_rejected"),
    "gave up before, but documents come": ([metrics(sent=5, dropped=2), metrics(sent=6, dropped=2)], True, None),
    "gives up, though documents come": (
        [metrics(sent=5, dropped=2), metrics(sent=6, dropped=3)],
        True,
        "shipper_rejected",
    ),
    "refused": ([COLLECTOR.replace("401", "500")], True, "shipper_rejected"),
    "not let in": ([COLLECTOR.replace("error_type", "kind")], False, "shipper_unreachable"),
}


@pytest.mark.parametrize("case", CASES)
def test_ailment(case: str) -> None:
    answers, arriving, reason = CASES[case]
    shipper = Shipper(Fake(*answers), "/metrics")
    if len(answers) > 1:
        shipper.remember(Deadline(0))
    ailment = shipper.ailment(Deadline(0), arriving=arriving)
    assert (ailment[0] if ailment else None) == reason, ailment
    assert not ailment or "curl -s http://shipper/metrics" in ailment[1]


def test_a_shipper_that_does_not_answer() -> None:
    shipper = Shipper(Fake(CheckError("unreachable", "refused", transient=True)), "/metrics")
    shipper.remember(Deadline(0))
    ailment = shipper.ailment(Deadline(0), arriving=False)
    assert ailment is not None and ailment[0] == "shipper_down"


def test_a_shipper_that_was_started_late_has_no_baseline() -> None:
    shipper = Shipper(
        Fake(CheckError("unreachable", "refused", transient=True), metrics(sent=5, dropped=2)), "/metrics"
    )
    shipper.remember(Deadline(0))
    ailment = shipper.ailment(Deadline(0), arriving=True)
    assert ailment is not None and "since its start" in ailment[1]


def test_who_is_no_shipper_is_named() -> None:
    with pytest.raises(CheckError, match="no metric of Fluent Bit"):
        Shipper(Fake("up 1\n"), "/metrics").ailment(Deadline(0), arriving=False)
