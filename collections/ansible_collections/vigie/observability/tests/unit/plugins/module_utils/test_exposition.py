"""Metrics in Prometheus' text format, line by line."""

from __future__ import annotations

from ansible_collections.vigie.observability.plugins.module_utils.exposition import Sample, samples


def test_samples_with_and_without_labels_and_times() -> None:
    text = """\
# HELP fluentbit_uptime Number of seconds that Fluent Bit has been running.
fluentbit_uptime 12 1795519770412
fluentbit_output_errors_total{name="es.0",note="a \\"b\\", c=\\"d\\""} 3 1795519770412
otelcol_exporter_queue_size{data_type="logs"} 1.5e+01
no metric at all
broken{a="b"} many
"""
    assert samples(text) == [
        Sample("fluentbit_uptime", {}, 12.0),
        Sample("fluentbit_output_errors_total", {"name": "es.0", "note": 'a \\"b\\", c=\\"d\\"'}, 3.0),
        Sample("otelcol_exporter_queue_size", {"data_type": "logs"}, 15.0),
    ]
    assert [one.base for one in samples(text)][1] == "fluentbit_output_errors"
