"""The drill's report as data, as text and as JUnit, and its place on disk."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.vigie.observability.plugins.module_utils import report as r

FIXTURES = Path(__file__).parents[2] / "fixtures"
START = 1795518220.0  # 2026-11-24T11:03:40Z
SCENARIOS = ("pass", "routed", "over_budget", "disturbed", "minikube")


def scenario(name: str) -> dict[str, Any]:
    """Return the module's input for a drill: times, budgets and evidence as a playbook collects them."""
    return json.loads((FIXTURES / f"report_{name}.json").read_text())


def built(name: str) -> dict[str, Any]:
    return r.build_report(**scenario(name))


def drill(*stages: dict[str, Any], expected: tuple[str, ...] = ("crash", "restart"), **more: Any) -> dict[str, Any]:
    given = {"run_id": "run", "platform": "embedded", "host": "lab1", "started": START, "versions": {}}
    return r.build_report(**{**given, "stages": stages, "expected_stages": expected, **more})


def stage(
    name: str, start: float | None, end: float | None, budget: float | None = None, **more: Any
) -> dict[str, Any]:
    at = [None if moment is None else START + moment for moment in (start, end)]
    return {"name": name, "started": at[0], "finished": at[1], "budget_seconds": budget, **more}


# --- shape and judgement


def test_report_has_the_documented_keys_and_no_others() -> None:
    report = built("pass")
    assert list(report) == ["run_id", "platform", "host", "started", "verdict", "stages", "negatives", "versions"]
    for entry in report["stages"] + report["negatives"]:
        assert list(entry) == ["name", "started", "finished", "seconds", "budget_seconds", "ok", "evidence"]
    assert report["started"] == "2026-11-24T11:03:40.000Z"
    assert report["stages"][1]["started"] == "2026-11-24T11:03:40.700Z"
    assert report["stages"][1]["seconds"] == 3.712


@pytest.mark.parametrize(
    ("name", "verdict", "kind", "broken", "reason"),
    [
        ("pass", "pass", None, None, None),
        ("disturbed", "pass", None, None, None),
        ("minikube", "pass", None, None, None),
        ("routed", "fail", "stage", "routed", "route_elsewhere"),
        ("over_budget", "fail", "stage", "firing", "over_budget"),
    ],
)
def test_verdict(name: str, verdict: str, kind: str | None, broken: str | None, reason: str | None) -> None:
    report = built(name)
    found = r.finding(report)
    assert report["verdict"] == verdict
    assert (found and found.kind, found and found.name, found and found.reason) == (kind, broken, reason)


def test_stages_come_in_the_expected_order_and_the_missing_ones_are_not_reached() -> None:
    report = drill(stage("restart", 1, 2), stage("crash", 0, 1), expected=("crash", "restart", "scraped"))
    assert [(entry["name"], entry["ok"]) for entry in report["stages"]] == [
        ("crash", True),
        ("restart", True),
        ("scraped", None),
    ]
    assert report["verdict"] == "fail"
    found = r.finding(report)
    assert found and (found.name, found.reason) == ("scraped", "not_reached")


@pytest.mark.parametrize(
    ("given", "ok", "reason"),
    [
        (stage("crash", 0, 1, 1.0), True, None),
        (stage("crash", 0, 1.001, 1.0), False, "over_budget"),
        (stage("crash", 0, 1.001, 1.0, ok=True), False, "over_budget"),
        (stage("crash", 0, 9, 1.0, ok=False, evidence={"reason": "timeout", "hint": "look"}), False, "timeout"),
        (stage("crash", 0, 9, ok=False, evidence={"reason": "ok"}), False, "failed"),
        (stage("crash", 0, None), False, "unfinished"),
        (stage("crash", 0, None, 5.0, ok=True), False, "unfinished"),
        (stage("crash", None, 1, 5.0, ok=True), False, "not_measured"),
        (stage("crash", None, None, 5.0, ok=True), False, "not_measured"),
        (stage("crash", None, None, ok=True), True, None),
        (stage("crash", None, None, 5.0), None, None),
        (stage("crash", 0, 1, 5.0, evidence={"reason": "ok", "hint": ""}), True, None),
    ],
)
def test_judgement(given: dict[str, Any], ok: bool | None, reason: str | None) -> None:
    entry = drill(given, expected=("crash",))["stages"][0]
    assert entry["ok"] is ok
    assert entry["evidence"].get("reason") == reason
    assert bool(entry["evidence"].get("hint")) is (ok is False)


def test_a_hint_over_budget_names_the_parts_of_the_budget_and_a_command() -> None:
    given = stage("crash", 0, 4.5, 3.0, evidence={"budget_parts": {"scrape_interval": 1, "margin": 2.0}})
    hint = drill(given, expected=("crash",))["stages"][0]["evidence"]["hint"]
    assert "4.50 s, 1.50 s over its budget of 3.00 s (scrape_interval 1 + margin 2)" in hint
    assert "'make bench'" in hint


@pytest.mark.parametrize(("end", "seconds", "clocks"), [(-0.4, 0.0, False), (-2.5, 0.0, True)])
def test_an_end_before_its_start_is_noted_and_counts_as_nothing(end: float, seconds: float, clocks: bool) -> None:
    entry = drill(stage("crash", 0, end, 1.0, evidence={"notes": "mine"}), expected=("crash",))["stages"][0]
    assert entry["seconds"] == seconds
    assert entry["ok"] is True
    mine, ours = entry["evidence"]["notes"]
    assert mine == "mine"
    assert ("'date -u'" in ours) is clocks


def test_a_failed_stage_outranks_a_slow_one_before_it() -> None:
    broken = {"reason": "timeout", "hint": "look"}
    report = drill(stage("crash", 0, 9, 1.0), stage("restart", 9, None, ok=False, evidence=broken))
    found = r.finding(report)
    assert found and (found.name, found.reason) == ("restart", "timeout")


def test_a_failed_negative_fails_the_drill() -> None:
    negatives = [stage("silence", 2, 3, ok=False, evidence={"reason": "appeared", "hint": "a mail came"})]
    report = drill(stage("crash", 0, 1), stage("restart", 1, 2), negatives=negatives)
    found = r.finding(report)
    assert report["verdict"] == "fail"
    assert found and (found.kind, found.name, found.reason) == ("negative", "silence", "appeared")
    assert r.headline(report) == "Negative proof failed: silence"


@pytest.mark.parametrize("failure_first", [True, False])
def test_of_two_entries_for_one_stage_the_failure_counts(failure_first: bool) -> None:
    both = [stage("crash", 0, 1, ok=False, evidence={"reason": "task_failed", "hint": "look"}), stage("crash", 0, 1)]
    entry = drill(*(both if failure_first else reversed(both)), expected=("crash",))["stages"][0]
    assert (entry["ok"], entry["evidence"]["reason"]) == (False, "task_failed")
    assert "more than once" in entry["evidence"]["notes"][0]


# --- the way from the crash to the mail


def test_seconds_from_crash_to_mail() -> None:
    assert r.crash_to_mail(built("pass")) == 6.2
    assert r.headline(built("pass")) == "The crash became a mail in 6.2 s"
    assert r.crash_to_mail(built("over_budget")) == 10.57
    assert r.crash_to_mail(built("routed")) is None


def test_giving_up_is_no_mail() -> None:
    gave_up = stage("mailed", 2, 30, 5.0, ok=False, evidence={"reason": "timeout", "hint": "look"})
    report = drill(stage("restart", 1, 2), gave_up, expected=("restart", "mailed"))
    assert r.crash_to_mail(report) is None


# --- disturbances


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (0.5, "crash"),
        (1.0, "crash"),  # on the border: the earlier one
        (1.5, "restart"),
        (-5.0, "crash"),  # before everything: the nearest
        (3.1, "restart"),  # in the gap: the nearest
        (3.9, "silence"),
        (99.0, "silence"),
    ],
)
def test_a_disturbance_belongs_to_the_stage_it_fell_into(at: float, expected: str) -> None:
    report = drill(
        stage("crash", 0, 1),
        stage("restart", 1, 3),
        negatives=[stage("silence", 4, 5)],
        disturbances=[{"process": "prometheus", "at": START + at, "what": "killed by signal 9"}],
    )
    ((where, item),) = r.all_disturbances(report)
    assert where == expected
    assert item["process"] == "prometheus"
    assert item["what"] == "killed by signal 9"


def test_what_never_finished_was_still_under_way() -> None:
    report = drill(
        stage("crash", 0, 1),
        stage("restart", 1, None, ok=False),
        expected=("crash", "restart", "scraped"),
        disturbances=[{"process": "app", "at": START + 40}],
    )
    assert r.all_disturbances(report) == [
        ("restart", {"process": "app", "at": "2026-11-24T11:04:20.000Z", "what": "died"})
    ]


def test_the_hint_of_a_failed_stage_names_what_died_during_it() -> None:
    report = drill(
        stage("crash", 0, 1),
        stage("restart", 1, 30, budget=5),
        disturbances=[{"process": "app", "at": START}, {"process": "prometheus", "at": START + 2, "what": "signal 9"}],
    )
    passed, slow = (entry["evidence"] for entry in report["stages"])
    assert "hint" not in passed
    assert slow["reason"] == "over_budget" and slow["hint"].endswith("; died meanwhile: prometheus (signal 9).")


def test_disturbances_are_kept_when_no_stage_ran_and_come_in_the_order_of_time() -> None:
    report = drill(disturbances=[{"process": "b", "at": START + 2}, {"process": "a", "at": START + 1}])
    assert [item["process"] for _where, item in r.all_disturbances(report)] == ["a", "b"]


# --- input that can't become a report


@pytest.mark.parametrize("run_id", ["", "a" * 41, "a b", "a/b", "../x", ".", "..", "latest", "a\n"])
def test_bad_run_id(run_id: str) -> None:
    with pytest.raises(r.ReportError, match="run_id="):
        drill(run_id=run_id)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"stages": [stage("reboot", 0, 1)]}, r"stages\[0\]\.name='reboot' is not one of the expected_stages"),
        ({"stages": [stage("mailed", 0, 1)]}, "expected_stages crash, restart"),
        ({"stages": [stage("", 0, 1)]}, r"stages\[0\]\.name is empty"),
        ({"stages": [{"name": "crash", "started": 1795518220123.0}]}, "milliseconds must be divided"),
        ({"stages": [{"name": "crash", "started": math.nan}]}, r"stages\[0\]\.started=nan"),
        ({"stages": [{"name": "crash", "finished": -1.0}]}, r"stages\[0\]\.finished=-1\.0"),
        ({"stages": [stage("crash", 0, 1, -1.0)]}, r"stages\[0\]\.budget_seconds=-1\.0"),
        ({"stages": [stage("crash", 0, 1, math.inf)]}, r"stages\[0\]\.budget_seconds=inf"),
        ({"stages": [stage("crash", 0, 1, evidence={"disturbances": []})]}, "option disturbances"),
        ({"stages": [], "started": math.inf}, "started=inf"),
        ({"stages": [], "disturbances": [{"process": "a"}]}, r"disturbances\[0\]\.at is missing"),
        ({"stages": [], "expected_stages": []}, "expected_stages="),
        ({"stages": [], "expected_stages": ["crash", "crash"]}, "expected_stages="),
        ({"stages": [], "expected_stages": ["launch"]}, "expected_stages="),
    ],
)
def test_bad_input_is_one_sentence(more: dict[str, Any], message: str) -> None:
    with pytest.raises(r.ReportError, match=message):
        drill(**more)


HOSTILE = "</script><img src=x onerror=alert(1)>\"'&]]>\x00\x1b[31m\ud800\r\nfin"


def hostile() -> dict[str, Any]:
    """Return a report whose every free text is hostile."""
    evidence = {HOSTILE: HOSTILE, "nested": {"a": [HOSTILE, math.nan]}, "budget_parts": {HOSTILE: HOSTILE}}
    failed = {**evidence, "reason": HOSTILE, "hint": f"see '{HOSTILE.replace(chr(39), '')}'", "notes": [HOSTILE]}
    return drill(
        stage("crash", 0, 1, 2.0, evidence=evidence),
        stage("restart", 1, 2, ok=False, evidence=failed),
        negatives=[stage(HOSTILE, 3, 4, evidence=failed, ok=False)],
        disturbances=[{"process": HOSTILE, "at": START, "what": HOSTILE}],
        platform=HOSTILE,
        host=HOSTILE,
        versions={HOSTILE: HOSTILE},
    )


def test_hostile_text_makes_valid_json_xml_and_ascii() -> None:
    report = hostile()
    text = json.dumps(report, ensure_ascii=False, allow_nan=False)
    assert "\x00" not in text
    assert "\x1b" not in text
    text.encode()
    suite = ElementTree.fromstring(r.junit_xml(report).encode())
    assert suite.get("failures") == "2"
    for line in r.summary_lines(report, "page"):
        assert line.isascii()
        assert "\n" not in line
        assert "\r" not in line


# --- text


@pytest.mark.parametrize("name", SCENARIOS)
def test_summary_is_an_aligned_ascii_table(name: str) -> None:
    report = built(name)
    lines = r.summary_lines(report, "out/drill/x/report.html")
    assert all(line.isascii() for line in lines)
    head = next(line for line in lines if line.startswith("stage"))
    column = head.index("seconds") + len("seconds")
    names = [entry["name"] for entry in report["stages"] + report["negatives"]]
    rows = [line for line in lines if line.split(" ")[0] in names and "  " in line]
    assert [row.split(" ")[0] for row in rows] == names
    # Numbers end under their title, whatever their length.
    assert all(row[column - 1] != " " and row[column] == " " for row in rows)
    assert lines[-1] == "Report: out/drill/x/report.html"


def test_summary_of_a_pass() -> None:
    lines = r.summary_lines(built("pass"), "page")
    assert lines[-2] == "PASS: The crash became a mail in 6.2 s."
    row = next(line for line in lines if line.startswith("scraped"))
    assert row.split()[1:4] == ["1.34", "3.00", "ok"]


def test_summary_of_a_failure_names_stage_reason_hint_and_leaves_the_command_whole() -> None:
    lines = r.summary_lines(built("routed"), "page")
    assert lines[-2].startswith("FAIL at routed: route_elsewhere. PodCrashLoop is routed to receiver null")
    assert lines[-2].endswith("etc/alertmanager.yml severity=critical'.")
    assert next(line for line in lines if line.startswith("routed")).split()[1:4] == ["-", "2.00", "FAIL"]
    assert next(line for line in lines if line.startswith("mailed")).endswith("not reached")


def test_summary_names_what_died() -> None:
    lines = r.summary_lines(built("disturbed"), "page")
    assert (
        "Disturbed: alertmanager at 11:03:49.200 in mailed: killed by signal 9, restarted by the supervisor after 1.1 s"
        in lines
    )


def test_summary_shortens_long_evidence() -> None:
    lines = r.summary_lines(drill(stage("crash", 0, 1, evidence={"body": "x" * 5000}), expected=("crash",)), "page")
    assert max(len(line) for line in lines) < 120


# --- JUnit


@pytest.mark.parametrize("name", SCENARIOS)
def test_junit_counts_its_cases(name: str) -> None:
    report = built(name)
    suite = ElementTree.fromstring(r.junit_xml(report).encode())
    cases = suite.findall("testcase")
    assert (suite.tag, suite.get("name"), suite.get("errors")) == ("testsuite", "vigie.drill", "0")
    assert suite.get("timestamp") == "2026-11-24T11:03:40"
    assert int(suite.get("tests", "")) == len(cases) == len(report["stages"]) + len(report["negatives"])
    assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
    assert int(suite.get("skipped", "")) == len(suite.findall("testcase/skipped"))
    assert float(suite.get("time", "")) == pytest.approx(sum(float(case.get("time", "")) for case in cases))
    # The order that the schema of Ant's JUnit task demands.
    kinds = [child.tag for child in suite]
    assert kinds == ["properties", *["testcase"] * len(cases), "system-out", "system-err"]


def test_junit_tells_failed_skipped_and_passed() -> None:
    suite = ElementTree.fromstring(r.junit_xml(built("routed")).encode())
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    failure = cases["routed"].find("failure")
    assert failure is not None
    assert failure.get("type") == "route_elsewhere"
    assert failure.get("message", "").startswith("route_elsewhere: PodCrashLoop is routed to receiver null")
    assert cases["mailed"].find("skipped") is not None
    assert list(cases["firing"]) == []
    assert cases["firing"].get("time") == "1.031"


# --- disk

FILES = {"report.html": "<p>\N{CHECK MARK}</p>", "report.json": "{}"}


def test_publish_writes_links_and_leaves_nothing_else(tmp_path: Path) -> None:
    dest = tmp_path / "out" / "drill"
    assert r.publish(dest, "one", FILES, keep=5) == (True, [])
    assert (dest / "latest").readlink() == Path("one")
    assert (dest / "latest" / "report.html").read_text(encoding="utf-8") == FILES["report.html"]
    assert sorted(path.name for path in dest.iterdir()) == ["latest", "one"]
    assert sorted(path.name for path in (dest / "one").iterdir()) == sorted(FILES)


def test_publish_again_changes_nothing_until_something_differs(tmp_path: Path) -> None:
    r.publish(tmp_path, "one", FILES, keep=5)
    assert r.publish(tmp_path, "one", FILES, keep=5) == (False, [])
    assert r.publish(tmp_path, "one", {**FILES, "report.json": "[]"}, keep=5) == (True, [])
    assert (tmp_path / "one" / "report.json").read_text() == "[]"
    (tmp_path / "latest").unlink()
    assert r.publish(tmp_path, "one", {**FILES, "report.json": "[]"}, keep=5)[0] is True


def test_publish_in_check_mode_only_tells(tmp_path: Path) -> None:
    dest = tmp_path / "drill"
    assert r.publish(dest, "one", FILES, keep=5, check_mode=True) == (True, [])
    assert not dest.exists()
    r.publish(dest, "one", FILES, keep=5)
    assert r.publish(dest, "two", FILES, keep=1, check_mode=True) == (True, ["one"])
    assert (dest / "latest").readlink() == Path("one")
    assert not (dest / "two").exists()
    assert (dest / "one" / "report.json").exists()


def test_publish_prunes_the_oldest_runs_and_nothing_that_is_no_run(tmp_path: Path) -> None:
    for age, name in enumerate(["d", "c", "b", "a"]):  # d is the newest
        r.publish(tmp_path, name, FILES, keep=50)
        os.utime(tmp_path / name / "report.json", (1000 - age, 1000 - age))
    (tmp_path / "notes").mkdir()
    (tmp_path / "elsewhere").symlink_to(tmp_path / "a")
    assert r.publish(tmp_path, "new", FILES, keep=3) == (True, ["b", "a"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "d", "elsewhere", "latest", "new", "notes"]


def test_publish_never_prunes_the_run_of_latest(tmp_path: Path) -> None:
    r.publish(tmp_path, "old", FILES, keep=5)
    os.utime(tmp_path / "old" / "report.json", (1, 1))
    r.publish(tmp_path, "young", FILES, keep=5)
    assert r.publish(tmp_path, "old", FILES, keep=1) == (True, ["young"])
    assert (tmp_path / "latest").resolve() == (tmp_path / "old").resolve()
    assert (tmp_path / "old" / "report.json").exists()


def test_publish_refuses_a_folder_in_the_place_of_the_link(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(FileExistsError, match="latest is a folder"):
        r.publish(tmp_path, "one", FILES, keep=5)


def test_a_failed_replacement_leaves_the_old_file_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    r.publish(tmp_path, "one", FILES, keep=5)

    def fail(*_args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        r.publish(tmp_path, "one", {"report.json": "new"}, keep=5)
    assert (tmp_path / "one" / "report.json").read_text() == "{}"
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(FILES)
