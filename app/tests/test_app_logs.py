"""The JSON log."""

from __future__ import annotations

import json
import logging
import re
import threading
import time

import pytest
from flask_metrics.logs import JsonLog, JsonLogHandler
from flask_metrics.web import service_of

RUN = {"X-Vigie-Run-Id": "drill-1"}


def test_a_request_is_one_line_with_its_fields(make_app, stream):
    make_app().test_client().get("/", headers=RUN)
    (line,) = stream.lines
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("duration_ms") > 0
    assert line == {
        "level": "info",
        "message": "GET / 200",
        "method": "GET",
        "route": "/",
        "status": 200,
        "run_id": "drill-1",
    }


@pytest.mark.parametrize(
    ("path", "level", "status"), [("/", "info", 200), ("/x", "warning", 404), ("/e", "error", 500)]
)
def test_level_follows_the_status(make_app, stream, path, level, status):
    app = make_app()
    app.add_url_rule("/e", view_func=lambda: 1 / 0)
    app.test_client().get(path)
    assert (stream.lines[-1]["level"], stream.lines[-1]["status"]) == (level, status)


def test_a_hostile_path_cannot_break_the_line(make_app, stream):
    make_app().test_client().get('/%0A{"level":"critical"}%22%00é')
    assert stream.data.count(b"\n") == 1
    (line,) = stream.lines
    assert line["message"] == 'GET /\n{"level":"critical"}"\x00é 404'
    assert line["route"] == "unmatched"


def test_request_logs_can_be_switched_off(make_app, stream):
    app = make_app(logs=False)
    assert app.test_client().get("/").status_code == 200
    assert stream.lines == []


def test_time_is_utc_with_milliseconds(stream, monkeypatch):
    log = JsonLog(stream)
    for nanoseconds in (1_764_000_000_007_900_000, 1_764_000_000_999_999_999, 1_764_000_001_000_000_000):
        monkeypatch.setattr("time.time_ns", lambda value=nanoseconds: value)
        log.write("info", "tick")
    assert [line["time"] for line in stream.lines] == [
        "2025-11-24T16:00:00.007Z",
        "2025-11-24T16:00:00.999Z",
        "2025-11-24T16:00:01.000Z",
    ]


def test_fields_that_are_none_are_left_out(stream):
    JsonLog(stream).write("info", "message", a=None, b=0, c="")
    assert set(stream.lines[0]) == {"time", "level", "message", "b", "c"}


class Trickle:
    """Stream that takes a few bytes at a time, as a full pipe does."""

    def __init__(self):
        self.data = b""

    def write(self, data):
        self.data += data[:7]
        time.sleep(0)  # lets another thread run
        return min(7, len(data))


def test_lines_of_several_threads_stay_whole():
    trickle = Trickle()
    log = JsonLog(trickle)

    def work(number):
        for _ in range(50):
            log.write("info", str(number) * 40)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = [json.loads(line)["message"] for line in trickle.data.splitlines()]
    assert sorted(messages) == sorted(str(number) * 40 for number in range(6) for _ in range(50))


@pytest.mark.parametrize("error", [BrokenPipeError, ValueError])
def test_a_log_that_cannot_be_written_does_not_fail_the_request(make_app, stream, monkeypatch, error):
    app = make_app()

    def fail(data):
        raise error

    monkeypatch.setattr(stream, "write", fail)
    assert app.test_client().get("/").status_code == 200


def test_what_libraries_log_is_json_too(stream):
    logger = logging.Logger("library")
    logger.addHandler(JsonLogHandler(JsonLog(stream), dict))
    logger.warning("collector %s is down", "x")
    (line,) = stream.lines
    assert (line["level"], line["logger"], line["message"]) == ("warning", "library", "collector x is down")


def test_a_traceback_is_one_line_with_the_run_id(make_app, stream):
    app = make_app()
    service = service_of(app)
    app.logger.addHandler(JsonLogHandler(service.log, service.request_fields))
    app.add_url_rule("/e", view_func=lambda: 1 / 0)
    app.test_client().get("/e", headers=RUN)
    traceback, answer = stream.lines
    assert (traceback["level"], traceback["run_id"]) == ("error", "drill-1")
    assert "ZeroDivisionError" in traceback["exception"]
    assert answer["status"] == 500
