"""log_check against a real Elasticsearch and a real shipper: each way in which a line can get lost has its own reason."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rendering import from_lab
from searching import (
    Collector,
    ElasticsearchServer,
    Front,
    again_and_again,
    collector,
    elasticsearch_home,
    front_of,
    line,
)
from systems import Json, RunModule, WebServer, eventually, free_port

Options = dict[str, Any]

TEMPLATE: Json = {
    "index_patterns": ["logs-*-*"],
    "data_stream": {},
    "priority": 200,
    "template": {
        "settings": {"number_of_replicas": 0},
        "mappings": {
            "properties": {
                "@timestamp": {"type": "date"},
                "event": {"properties": {"ingested": {"type": "date"}}},
                "run_id": {"type": "keyword"},
                "level": {"type": "keyword"},
                "message": {"type": "text"},
                "number": {"type": "integer"},
            }
        },
    },
}


@pytest.fixture(scope="module")
def elasticsearch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElasticsearchServer]:
    """The shared Elasticsearch, with a template for data streams as production has one."""
    server = ElasticsearchServer(from_lab(elasticsearch_home), tmp_path_factory.mktemp("elasticsearch"))
    try:
        server.start()
        server.call("PUT", "/_index_template/vigie-logs", TEMPLATE)
        yield server
    finally:
        server.stop()


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> str:
    """A data stream of its own for each test."""
    return f"logs-{request.node.originalname.replace('_', '.')}-{time.time_ns()}"[:120]


Check = Callable[..., Json]


@pytest.fixture
def check(run_module: RunModule, elasticsearch: ElasticsearchServer, stream: str) -> Check:
    """Run the check on the test's data stream, in a hurry."""

    def run(**options: Any) -> Json:
        shared = {"endpoint": {"url": elasticsearch.url}, "index": stream, "run_id": "run-1", "since": "-5m"}
        return run_module("log_check", **{**shared, "timeout": 0.3, "interval": 0.2, **options})

    return run


def reason(result: Json) -> str:
    assert result["failed"] and not result["matched"] and result["hint"], result
    assert result["msg"] == f"{result['reason']}: {result['hint']}"
    return str(result["reason"])


# What is found


def test_a_line_of_the_run_is_found_at_once(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line("run-1", level="critical", message="crashing on request", trace_id="abc"))
    result = check(match={"level": "critical", "message": "crashing on request"}, timeout=30)
    assert not result["failed"], result
    assert result["matched"] and result["reason"] == "ok" and result["hint"] == "" and not result["changed"]
    assert result["attempts"] == 1 and result["observed"]["count"] == 1
    (document,) = result["observed"]["documents"]
    assert document["fields"]["message"] == "crashing on request" and document["fields"]["trace_id"] == "abc"
    assert document["index"].startswith(".ds-logs-")
    assert abs(result["times"]["timestamp"] - time.time()) < 30
    # It was there at the first look, so when it became searchable isn't known.
    assert "searchable" not in result["times"] and "ingested" not in result["times"]


def test_a_line_is_waited_for_without_refreshing(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line("another"))
    written: list[float] = []

    def write() -> None:
        eventually(lambda: any("_search" in path for _method, path in front.requests), "the first look")
        time.sleep(0.3)
        written.append(time.time())
        elasticsearch.write(stream, line("run-1"), refresh=False)

    with front_of(elasticsearch.url) as front:
        writer = threading.Thread(target=write)
        writer.start()
        result = check(endpoint={"url": front.url}, timeout=30)
        writer.join()
    assert result["matched"] and result["attempts"] > 1, result
    assert written[0] < result["times"]["searchable"] <= time.time()


def test_an_index_that_is_only_coming_up_is_waited_for(
    check: Check, elasticsearch: ElasticsearchServer, stream: str
) -> None:
    """What Elasticsearch answered, now and then, to a search in the moment after a shipper's first document."""
    elasticsearch.write(stream, line("run-1"))
    starting = {
        "type": "illegal_index_shard_state_exception",
        "reason": "CurrentState[RECOVERING] operations only allowed",
    }
    answer = json.dumps(
        {"error": {"root_cause": [starting], "type": "search_phase_execution_exception"}, "status": 404}
    )
    with front_of(elasticsearch.url, ("/_search", 404, answer)) as front:
        result = check(endpoint={"url": front.url})
        assert reason(result) == "server_error" and result["attempts"] > 1
        front.answers.clear()
        assert check(endpoint={"url": front.url})["matched"]


def test_it_only_reads(run_module: RunModule, check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line("run-1"))
    with front_of(elasticsearch.url) as front:
        assert check(endpoint={"url": front.url}, timeout=30)["matched"]
        assert len(front.requests) == 2, "one for the mapping, one for the documents"
        check(endpoint={"url": front.url}, run_id="nobody")
    reading = {("POST", f"/{stream}/_search"), ("POST", f"/{stream}::failures/_search")}
    assert {one for one in front.requests if one[0] != "GET"} <= reading
    assert not any("_refresh" in path for _method, path in front.requests)


def test_a_run_whose_id_begins_alike_is_another(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line("run-1-2"), line("run-12"))
    assert reason(check()) == "not_logged"


@pytest.mark.parametrize("kind", ["text with keyword", "text"])
def test_a_run_id_that_is_mapped_as_text(
    check: Check, elasticsearch: ElasticsearchServer, stream: str, kind: str
) -> None:
    index = f"plain-{stream}"
    if kind == "text":
        elasticsearch.call("PUT", f"/{index}", {"mappings": {"properties": {"run_id": {"type": "text"}}}})
    elasticsearch.write(index, line("run-1-2"), line("run-1 or so"))
    assert reason(check(index=index)) == "not_logged"
    elasticsearch.write(index, line("run-1"))
    result = check(index=index)
    assert result["matched"] and result["observed"]["count"] == 1, result


@pytest.mark.parametrize(
    "document",
    [
        {"body": {"structured": {"run_id": "run-1"}}},
        {"body.structured.run_id": "run-1"},
        {"body": {"structured.run_id": ["other", "run-1"]}},
    ],
)
def test_a_run_id_below_a_prefix(check: Check, elasticsearch: ElasticsearchServer, stream: str, document: Json) -> None:
    elasticsearch.write(stream, line(None, **document))
    assert check(run_id_field="body.structured.run_id", timeout=30)["matched"]


def test_fields_are_compared_as_the_line_has_them(
    check: Check, elasticsearch: ElasticsearchServer, stream: str
) -> None:
    more = {"status": 500, "duration_ms": 1.5, "sampled": True, "kubernetes": {"labels": {"app": "flask"}}}
    elasticsearch.write(stream, line("run-1", **more))
    fits = {
        "status": 500,
        "duration_ms": 1.5,
        "sampled": True,
        "kubernetes.labels.app": "flask",
        "message": "GET / 200",
    }
    assert check(match=fits, timeout=30)["matched"]
    assert check(match={"status": "500"}, timeout=30)["matched"]
    for wrong in ({"status": 200}, {"status": "none"}, {"sampled": False}, {"message": "GET /"}, {"nowhere": "x"}):
        assert reason(check(match=wrong)) == "field_mismatch", wrong


def test_the_oldest_fresh_line_counts(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line("run-1", age=5), line("run-1", age=20), line("run-1", age=400))
    result = check(count=2, timeout=30)
    assert result["matched"] and result["observed"]["count"] == 2
    assert 18 < time.time() - result["times"]["timestamp"] < 40


def test_when_it_was_ingested_is_told_where_it_is_noted(
    check: Check, elasticsearch: ElasticsearchServer, stream: str
) -> None:
    elasticsearch.write(stream, line("run-1", event={"ingested": "2026-11-24T11:03:51.204Z"}))
    assert check(timeout=30)["times"]["ingested"] == 1795518231.204
    # Whoever means something else by that name hides no line.
    elasticsearch.write(f"plain-{stream}", line("run-1", event={"ingested": "lately"}))
    result = check(index=f"plain-{stream}", timeout=30)
    assert result["matched"] and "ingested" not in result["times"]


def test_lines_that_are_counted(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, *(line("run-1", number=number) for number in range(12000)))
    assert check(count=12000, unique="number", timeout=30)["matched"], "more than one page of values"
    result = check(count=12001, unique="number")
    assert reason(result) == "too_few" and "12000 of the 12001 wanted different values of number" in result["hint"]
    # One lost and one sent twice are as many as before.
    elasticsearch.write(stream, line("run-1", number=7))
    result = check(count=12001, unique="number", timeout=30)
    assert reason(result) == "doubled" and "7 2 times" in result["hint"]
    assert result["attempts"] == 1, "what is double stays double"
    result = check(unique="message")
    assert reason(result) == "mapping_conflict" and "message" in result["hint"] and "text" in result["hint"]


# What is not found, and why


def test_too_few(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line("run-1"))
    result = check(count=2)
    assert reason(result) == "too_few" and "1 of the 2 wanted lines" in result["hint"]


def test_field_mismatch(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line("run-1", route="/"), line("run-1", route="/crash"))
    result = check(match={"route": "/crash", "level": "critical"})
    assert reason(result) == "field_mismatch"
    assert "level is 'info' and not 'critical'" in result["hint"] and "route is" not in result["hint"]


def test_stale_log(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line("run-1", age=400))
    result = check()
    assert reason(result) == "stale_log" and "The newest line of run run-1 is of 20" in result["hint"]


def test_other_field(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line(None, log_processed={"run_id": "run-1"}))
    result = check()
    assert reason(result) == "other_field" and "field log_processed.run_id" in result["hint"]


def test_other_field_when_the_line_is_not_parsed(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line(None, log=json.dumps(line("run-1"))))
    result = check()
    assert reason(result) == "other_field" and "within the text of the field log" in result["hint"]


def test_index_missing(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    result = check()
    assert reason(result) == "index_missing" and f"Nothing is called {stream}" in result["hint"]
    elasticsearch.call("PUT", f"/closed-{stream}")
    elasticsearch.call("POST", f"/closed-{stream}/_close")
    result = check(index=f"closed-{stream}")
    assert reason(result) == "index_missing" and "is closed" in result["hint"]


@pytest.mark.parametrize("index", ["lost-app-default", "lost-*"])
def test_template_missing(check: Check, elasticsearch: ElasticsearchServer, index: str) -> None:
    result = check(index=index)
    assert reason(result) == "template_missing" and "vigie-logs" in result["hint"]
    # What a Collector does that demands a data stream, and why nothing gets there.
    body = f"{json.dumps({'create': {}})}\n{json.dumps(line('run-1'))}\n"
    answer = elasticsearch.call("POST", "/lost-app-default/_bulk?require_data_stream=true", body)
    assert answer["items"][0]["create"]["error"]["type"] == "index_not_found_exception"
    assert reason(check(index=index)) == "template_missing"


def test_cluster_red(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    nowhere = {"number_of_replicas": 0, "routing.allocation.require._name": "nowhere"}
    elasticsearch.call("PUT", f"/red-{stream}?timeout=100ms", {"settings": {"index": nowhere}})
    try:
        result = check(index=f"red-{stream}")
        assert reason(result) == "cluster_red"
        assert "node does not match index setting" in result["hint"] and "allocation/explain" in result["hint"]
        # One of two indices answers: no error, but not the whole truth either.
        elasticsearch.write(stream, line("another"))
        assert reason(check(index=f"red-{stream},{stream}")) == "cluster_red"
    finally:
        elasticsearch.call("DELETE", f"/red-{stream}")


@pytest.mark.parametrize("block", ["write", "read_only", "read_only_allow_delete"])
def test_index_read_only(check: Check, elasticsearch: ElasticsearchServer, stream: str, block: str) -> None:
    elasticsearch.write(stream, line("another"))
    elasticsearch.call("PUT", f"/{stream}/_settings", {f"index.blocks.{block}": True})
    (item,) = elasticsearch.write(stream, line("run-1"))
    assert item["error"]["type"] == "cluster_block_exception"
    result = check()
    assert reason(result) == "index_read_only" and f"block {block}" in result["hint"]


def test_disk_watermark(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    """The real disk monitor blocks the index, at a watermark that every disk exceeds."""
    elasticsearch.write(stream, line("another"))
    disk = "cluster.routing.allocation.disk"
    full = {"low": "9000tb", "high": "9000tb", "flood_stage": "9000tb"}
    settings: Json = {f"{disk}.watermark.{name}": value for name, value in full.items()}
    settings |= {f"{disk}.threshold_enabled": True, "cluster.info.update.interval": "10s"}
    elasticsearch.call("PUT", "/_cluster/settings", {"persistent": settings})
    try:
        eventually(lambda: "blocks" in json.dumps(elasticsearch.call("GET", f"/{stream}/_settings")), "the block", 60)
        (item,) = elasticsearch.write(stream, line("run-1"))
        assert "disk usage exceeded flood-stage watermark" in item["error"]["reason"]
        result = check()
        assert reason(result) == "disk_watermark" and "_cat/allocation" in result["hint"]
    finally:
        back = {**dict.fromkeys(settings), f"{disk}.threshold_enabled": False}
        elasticsearch.call("PUT", "/_cluster/settings", {"persistent": back})
        elasticsearch.call("PUT", "/_all/_settings?expand_wildcards=all", {"index.blocks.read_only_allow_delete": None})


CONFLICTS: dict[str, tuple[Json, Json, str]] = {
    "the run id is in an object": ({}, {"run_id": {"value": "run-1"}}, "but is an object"),
    "the run id is an object of another run": (
        {"run_id": {"type": "object"}},
        {"run_id": {"value": "another"}},
        "run_id must be a keyword",
    ),
    "the run id is not indexed": (
        {"run_id": {"type": "keyword", "index": False, "doc_values": False}},
        {"run_id": "run-1"},
        "keyword without an index",
    ),
    "the time is a text": ({"@timestamp": {"type": "keyword"}}, {"run_id": "run-1"}, "@timestamp must be a date"),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_mapping_conflict(check: Check, elasticsearch: ElasticsearchServer, stream: str, case: str) -> None:
    properties, fields, words = CONFLICTS[case]
    index = f"conflict-{stream}"
    elasticsearch.call("PUT", f"/{index}", {"mappings": {"properties": properties}})
    (item,) = elasticsearch.write(index, line(None, **fields))
    assert item["status"] == 201
    result = check(index=index)
    assert reason(result) == "mapping_conflict" and words in result["hint"], result["hint"]


def test_mapping_conflict_of_a_field_that_is_not_mapped(
    check: Check, elasticsearch: ElasticsearchServer, stream: str
) -> None:
    index = f"conflict-{stream}"
    mapping = {"dynamic": False, "properties": {"@timestamp": {"type": "date"}}}
    elasticsearch.call("PUT", f"/{index}", {"mappings": mapping})
    elasticsearch.write(index, line("run-1"))
    result = check(index=index)
    assert reason(result) == "mapping_conflict" and "dynamic: false" in result["hint"]
    assert reason(check(index=index, time_field="at")) == "mapping_conflict"


def test_mapping_conflict_of_a_label_that_is_text_and_object(
    check: Check, elasticsearch: ElasticsearchServer, stream: str
) -> None:
    """The classic of Kubernetes: the labels app and app.kubernetes.io/name, without Replace_Dots."""
    text, objects = line(None, labels={"app": "flask"}), line(None, labels={"app": {"kubernetes.io/name": "flask"}})
    elasticsearch.write(f"{stream}-a", text)
    elasticsearch.write(f"{stream}-b", objects)
    (item,) = elasticsearch.write(f"{stream}-a", {**objects, "run_id": "run-1"})
    assert item["error"]["type"] == "document_parsing_exception"
    result = check(index=f"{stream}-*")
    assert reason(result) == "mapping_conflict"
    assert "labels.app is text in .ds-" in result["hint"] and "Replace_Dots" in result["hint"]
    # Where lines of other runs come through, it is no proof that this one was refused.
    elasticsearch.write(f"{stream}-a", line("another"))
    assert reason(check(index=f"{stream}-*")) == "not_logged"


def test_body_dropped(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line(None, host="node-1"))
    result = check()
    assert reason(result) == "body_dropped"
    assert "1 documents came" in result["hint"] and "the newest has @timestamp, level, message, host" in result["hint"]


def test_not_logged(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line("another"), line(None))
    result = check()
    assert reason(result) == "not_logged" and "the newest are of another" in result["hint"]


def test_nothing_arrives(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line("another", age=400))
    result = check()
    assert reason(result) == "nothing_arrives" and "the newest is of 20" in result["hint"]
    assert "isn't let in" in result["hint"]


def test_bulk_rejected_because_too_much_is_under_way(
    run_module: RunModule, tmp_path: Path, elasticsearch: ElasticsearchServer
) -> None:
    """A second Elasticsearch whose memory for writes is so small that it answers 429."""
    server = ElasticsearchServer(from_lab(elasticsearch_home), tmp_path / "small")
    try:
        server.start(indexing_pressure__memory__limit="10kb")
        server.call("PUT", "/_index_template/vigie-logs", TEMPLATE)
        server.write("logs-app-default", line("another"))

        def flood() -> None:
            with pytest.raises(OSError, match="429"):
                server.write("logs-app-default", line("run-1", message="x" * 20000))

        options = {"endpoint": {"url": server.url}, "index": "logs-app-default", "run_id": "run-1", "since": "-5m"}
        with again_and_again(flood):
            result = run_module("log_check", **options, timeout=4, interval=0.3)
        assert reason(result) == "bulk_rejected" and "429" in result["hint"]
    finally:
        server.stop()


FAILED: Json = {
    "took": 1,
    "timed_out": False,
    "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
    "hits": {
        "total": {"value": 1, "relation": "eq"},
        "max_score": 1.0,
        "hits": [
            {
                "_index": ".fs-logs-app-default-2026.11.24-000002",
                "_id": "lEu8jZYB",
                "_source": {
                    "@timestamp": "2026-11-24T11:03:51.204Z",
                    "document": {
                        "index": "logs-app-default",
                        "source": {"@timestamp": "2026-11-24T11:03:51.000Z", "run_id": "run-1", "app": {"a": "b"}},
                    },
                    "error": {
                        "type": "document_parsing_exception",
                        "message": "[1:92] failed to parse field [app] of type [text] in document with id 'lEu8jZYB'.",
                    },
                },
            }
        ],
    },
}
"""A search in a failure store, in the form of Elasticsearch's documentation; the lab's Elasticsearch keeps none."""


FAILURE_STORES: dict[str, tuple[str, str, bool, str]] = {
    "mapping_conflict of our line": ("run-1", "document_parsing_exception", True, "refused the line of this run"),
    "bulk_rejected of our line": ("run-1", "illegal_argument_exception", True, "refused the line of this run"),
    "bulk_rejected of whatever comes": ("run-2", "illegal_argument_exception", False, "refused 1 documents"),
    "not_logged since others come through": ("run-2", "document_parsing_exception", True, "the newest are of another"),
}


@pytest.mark.parametrize("case", FAILURE_STORES)
def test_what_the_failure_store_says(check: Check, elasticsearch: ElasticsearchServer, stream: str, case: str) -> None:
    run_id, kind, arriving, words = FAILURE_STORES[case]
    elasticsearch.write(stream, line("another" if arriving else None))
    answer = json.dumps(FAILED).replace('"run-1"', f'"{run_id}"').replace("document_parsing_exception", kind)
    with front_of(elasticsearch.url, ("::failures/_search", 200, answer)) as front:
        result = check(endpoint={"url": front.url})
    assert reason(result) == case.split(maxsplit=1)[0] and words in result["hint"]


# Who may not ask

DENIED: Json = {
    "error": {
        "root_cause": [{"type": "security_exception", "reason": "action [x] is unauthorized for user [reader]"}],
        "type": "security_exception",
        "reason": "action [x] is unauthorized for user [reader]",
    },
    "status": 403,
}
"""As Elasticsearch with security answers, which the lab's hasn't."""


@pytest.mark.parametrize("status", [401, 403])
def test_access_denied(check: Check, elasticsearch: ElasticsearchServer, tmp_path: Path, status: int) -> None:
    (tmp_path / "password").write_text("open sesame\n")
    with front_of(elasticsearch.url, ("", status, json.dumps({**DENIED, "status": status}))) as front:
        login = {"url": front.url, "username": "reader", "password_file": str(tmp_path / "password")}
        result = check(endpoint=login, timeout=30)
    assert reason(result) == "access_denied" and str(status) in result["hint"]
    assert result["attempts"] == 1, "waiting can't mend it"
    assert "open sesame" not in json.dumps(result)


def test_a_user_without_monitor_gets_a_reason_all_the_same(
    check: Check, elasticsearch: ElasticsearchServer, stream: str
) -> None:
    elasticsearch.write(stream, line("another"))
    closed = [(words, 403, json.dumps(DENIED)) for words in ("/_cat/", "/_nodes/", "/_index_template", "::failures")]
    with front_of(elasticsearch.url, *closed) as front:
        result = check(endpoint={"url": front.url})
        assert reason(result) == "not_logged"
        assert "could not be seen: statistics of the nodes (access_denied)" in result["hint"]
        assert reason(check(endpoint={"url": front.url}, index="lost-*")) == "index_missing"


def test_unreachable(check: Check) -> None:
    result = check(endpoint={"url": f"http://127.0.0.1:{free_port()}"})
    assert reason(result) == "unreachable" and result["attempts"] > 1


@pytest.mark.parametrize("answer", ["<html>", "[]", "{}", '{"indices": [], "fields": []}'])
def test_another_program(check: Check, answer: str) -> None:
    server = WebServer()
    for path in ("/logs-x/_field_caps", "/logs-x/_search"):
        server.text(path, answer)
    result = check(endpoint={"url": server.url}, index="logs-x")
    server.stop()
    assert reason(result) == "bad_answer"


# The frame


def test_absent(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    result = check(expect="absent")
    assert reason(result) == "index_missing" and "a broken link proves nothing" in result["hint"]
    elasticsearch.write(stream, line(None))
    assert reason(check(expect="absent")) == "body_dropped"
    elasticsearch.write(stream, line("another"), line("run-1", age=400))
    assert check(expect="absent")["matched"]
    elasticsearch.write(stream, line("run-1"))
    assert reason(check(expect="absent")) == "appeared"


def test_check_mode_looks_once_and_never_fails(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line("another"))
    result = check(check_mode=True, timeout=30)
    assert not result["failed"] and not result["matched"] and not result["changed"]
    assert (result["attempts"], result["reason"]) == (1, "not_logged")


@pytest.mark.parametrize(
    "options",
    [
        {"count": 0},
        {"run_id": " "},
        {"run_id_field": "run id*"},
        {"time_field": ""},
        {"match": {"a,b": "c"}},
        {"match": {"a": {"b": "c"}}},
        {"unique": "*"},
        {"unique": "number", "expect": "absent"},
        {"index": "Logs"},
        {"index": "logs/_doc"},
        {"since": "yesterday"},
        {"since": ""},
        {"shipper": [{"url": "http://127.0.0.1:1", "path": "metrics"}]},
        {"shipper": [{"url": "127.0.0.1:2020"}]},
    ],
)
def test_bad_option(run_module: RunModule, options: Options) -> None:
    shared = {"endpoint": {"url": "http://127.0.0.1:1"}, "run_id": "run-1", "since": "-5m", "timeout": 30}
    result = run_module("log_check", **{**shared, **options})
    assert reason(result) == "bad_option" and next(iter(options)) in result["hint"]
    assert result["attempts"] == 0


def test_a_bound_in_the_future(check: Check) -> None:
    assert reason(check(since=time.time() + 60)) == "since_in_future"


# The shipper

FLUENT_BIT = """\
# HELP fluentbit_input_records_total Number of input records.
# TYPE fluentbit_input_records_total counter
fluentbit_input_records_total{{name="tail.0"}} 57 1795519770412
fluentbit_input_storage_chunks_busy{{name="tail.0"}} {waiting}
fluentbit_output_proc_records_total{{name="es.0"}} {sent} 1795519770412
fluentbit_output_errors_total{{name="es.0"}} {errors} 1795519770412
fluentbit_output_retries_total{{name="es.0"}} {again} 1795519770412
fluentbit_output_retries_failed_total{{name="es.0"}} 0 1795519770412
fluentbit_output_dropped_records_total{{name="es.0"}} {dropped} 1795519770412
"""
"""Metrics in the form of Fluent Bit's documentation: no package of it can be had where these tests run."""

FLUENT_BIT_CASES: dict[str, tuple[Json, str]] = {
    "shipper_unreachable": ({"again": 4, "waiting": 2}, "delivered nothing"),
    "shipper_rejected": ({"sent": 50, "dropped": 3}, "dropped_records 3"),
    "shipper_backlog": ({"sent": 50, "waiting": 7}, "holds 7"),
    "nothing_arrives": ({"sent": 50}, "No document came"),
}


@pytest.mark.parametrize("case", FLUENT_BIT_CASES)
def test_what_fluent_bit_says(check: Check, elasticsearch: ElasticsearchServer, stream: str, case: str) -> None:
    values, words = FLUENT_BIT_CASES[case]
    elasticsearch.write(stream, line("another", age=400))
    counts = {"sent": 0, "errors": 0, "again": 0, "dropped": 0, "waiting": 0, **values}
    server = WebServer()
    server.text("/api/v2/metrics/prometheus", FLUENT_BIT.format(**counts))
    result = check(shipper=[{"url": server.url, "path": "/api/v2/metrics/prometheus"}])
    server.stop()
    assert reason(result) == case and words in result["hint"], result["hint"]


def test_a_shipper_that_is_no_shipper_hides_no_reason(
    check: Check, elasticsearch: ElasticsearchServer, stream: str
) -> None:
    elasticsearch.write(stream, line("another", age=400))
    server = WebServer()
    server.text("/metrics", "up 1\n")
    result = check(shipper=[{"url": server.url}])
    server.stop()
    assert reason(result) == "nothing_arrives" and f"shipper {server.url} (bad_answer)" in result["hint"]


@pytest.fixture
def shipper(tmp_path: Path) -> Iterator[Collector]:
    """A Collector, not started yet."""
    server = Collector(from_lab(collector), tmp_path / "collector", tmp_path)
    yield server
    server.stop()


def test_a_line_through_a_real_shipper(
    check: Check, elasticsearch: ElasticsearchServer, stream: str, shipper: Collector
) -> None:
    shipper.start(elasticsearch.url, stream)
    shipper.write(line("run-1", level="critical"))
    result = check(match={"level": "critical"}, shipper=[{"url": shipper.url}], timeout=30)
    assert result["matched"], result
    assert result["times"]["timestamp"] < result["times"]["searchable"]


def test_a_real_shipper_that_drops_the_body(
    check: Check, elasticsearch: ElasticsearchServer, stream: str, shipper: Collector
) -> None:
    """In mode ecs the exporter reports success, and the run id is gone."""
    shipper.start(elasticsearch.url, stream, mode="ecs")
    shipper.write(line("run-1"))
    result = check(shipper=[{"url": shipper.url}], timeout=8)
    assert reason(result) == "body_dropped"


def test_shipper_rejected(check: Check, elasticsearch: ElasticsearchServer, stream: str, shipper: Collector) -> None:
    elasticsearch.write(stream, line(None, labels={"app": "flask"}))
    shipper.start(elasticsearch.url, stream)
    with again_and_again(lambda: shipper.write(line("run-1", labels={"app": {"kubernetes.io/name": "flask"}}))):
        result = check(shipper=[{"url": shipper.url}], timeout=5)
    assert reason(result) == "shipper_rejected" and "document_parsing_exception" in result["hint"]
    assert "while this check watched" in result["hint"], "documents without a run id come all the same"


def test_shipper_unreachable(check: Check, stream: str, shipper: Collector) -> None:
    shipper.start(f"http://127.0.0.1:{free_port()}", stream)
    shipper.write(line("run-1"))
    result = check(shipper=[{"url": shipper.url}], timeout=5)
    assert reason(result) == "shipper_unreachable" and "can't reach Elasticsearch" in result["hint"]


def test_shipper_unreachable_because_it_is_not_let_in(
    check: Check, elasticsearch: ElasticsearchServer, stream: str, shipper: Collector
) -> None:
    with front_of(elasticsearch.url, ("_bulk", 401, json.dumps({**DENIED, "status": 401}))) as front:
        shipper.start(front.url, stream)
        shipper.write(line("run-1"))
        result = check(shipper=[{"url": shipper.url}], timeout=5)
    assert ("POST", "/_bulk") in front.requests
    assert reason(result) == "shipper_unreachable" and "isn't let in" in result["hint"] and "401" in result["hint"]


def test_shipper_down(check: Check, elasticsearch: ElasticsearchServer, stream: str) -> None:
    elasticsearch.write(stream, line("another", age=400))
    address = f"http://127.0.0.1:{free_port()}"
    result = check(shipper=[{"url": address}])
    assert reason(result) == "shipper_down" and address in result["hint"]


def test_shippers_are_left_alone_while_the_line_is_there(
    check: Check, elasticsearch: ElasticsearchServer, stream: str
) -> None:
    elasticsearch.write(stream, line("run-1"))
    server = WebServer()
    assert check(shipper=[{"url": server.url}], timeout=30)["matched"]
    server.stop()
    assert server.requests == []


def test_the_secrets_of_a_shipper_are_never_printed(
    check: Check, elasticsearch: ElasticsearchServer, stream: str
) -> None:
    elasticsearch.write(stream, line("another", age=400))
    with Stub() as url:
        login = {"url": url, "username": "me", "password": "pa55w0rd", "headers": {"X-Token": "t0ken-of-mine"}}
        result = check(shipper=[login])
    text = json.dumps(result)
    assert reason(result) == "nothing_arrives" and "pa55w0rd" not in text and "t0ken-of-mine" not in text


class Stub:
    """A server that answers every request with what must not be printed."""

    def __enter__(self) -> str:
        self._front = Front("http://127.0.0.1:1")
        self._front.answers = [("", 500, "pa55w0rd t0ken-of-mine")]
        return self._front.url

    def __exit__(self, *_: object) -> None:
        self._front.stop()
