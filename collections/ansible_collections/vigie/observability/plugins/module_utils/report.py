# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The drill's report as data: built and judged from what the playbook collected, told as text and JUnit, written to disk."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ansible_collections.vigie.observability.plugins.module_utils.timestamps import format_time, parse_time

STAGES = ("baseline", "crash", "restart", "scraped", "firing", "routed", "mailed", "log", "trace", "resolved")
"""Every stage a drill can have, in the order in which a failure passes through them."""

RUN_ID = re.compile(r"[A-Za-z0-9._-]{1,40}")
LATEST = "latest"
SKEW_TOLERANCE = 1.0
"""Seconds by which an end may precede its start before the note blames the clocks: sample times are rounded, clocks differ a little."""

# A time beyond 2100 is milliseconds taken for seconds.
_LATEST_TIME = 4102444800.0
_LONGEST_BUDGET = 31536000.0
# What neither XML nor UTF-8 can carry: control characters except tab and line ends, lone surrogates, non-characters.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_EVIDENCE_WIDTH = 60
# Evidence that is shown in a place of its own, not among the facts.
SPECIAL_EVIDENCE = frozenset({"reason", "hint", "disturbances", "notes", "budget_parts"})


class ReportError(ValueError):
    """The input can't become a report. The text is one sentence that names the option, its value and the remedy."""


@dataclass(frozen=True)
class Finding:
    """What broke first.

    Attributes:
        kind: ``stage`` or ``negative``.
        name: its name.
        reason: machine word.
        hint: one sentence with the command that shows the cause.
    """

    kind: str
    name: str
    reason: str
    hint: str


@dataclass
class _Entry:
    """One stage or negative while it is judged; times in Unix seconds."""

    name: str
    started: float | None = None
    finished: float | None = None
    seconds: float | None = None
    budget: float | None = None
    ok: bool | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    def distance(self, at: float) -> float:
        """Return the seconds between a moment and this entry's interval, 0 inside, infinite when it never ran."""
        known = [moment for moment in (self.started, self.finished) if moment is not None]
        if not known:
            return math.inf
        # What never finished was under way until the drill gave up.
        end = math.inf if self.finished is None else max(known)
        return max(min(known) - at, at - end, 0.0)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "started": None if self.started is None else format_time(self.started),
            "finished": None if self.finished is None else format_time(self.finished),
            "seconds": self.seconds,
            "budget_seconds": self.budget,
            "ok": self.ok,
            "evidence": self.evidence,
        }


# --- building and judging ---------------------------------------------------------------------------------------------


def build_report(
    *,
    run_id: str,
    platform: str,
    host: str,
    started: float,
    stages: Sequence[Mapping[str, Any]],
    negatives: Sequence[Mapping[str, Any]] = (),
    versions: Mapping[str, Any] | None = None,
    disturbances: Sequence[Mapping[str, Any]] = (),
    expected_stages: Sequence[str] = STAGES,
) -> dict[str, Any]:
    """Return the report of one drill, with exactly the documented keys.

    Args:
        run_id: names the run and its folder.
        platform: where the drill ran.
        host: the host it ran against.
        started: Unix seconds.
        stages: what was collected; keys name, started, finished (Unix seconds or None), budget_seconds, ok, evidence.
        negatives: the same for the negative proofs.
        versions: component to version.
        disturbances: processes that died without being asked; keys process, at (Unix seconds), what.
        expected_stages: the stages of this drill in order; those never reached get ``ok`` None.

    Raises:
        ReportError: the input is malformed.
    """
    check_run_id(run_id)
    _check_seconds("started", started)
    _check_expected(expected_stages)
    given = _entries("stages", stages, expected_stages)
    stage_entries = [given.get(name) or _Entry(name) for name in expected_stages]
    negative_entries = list(_entries("negatives", negatives, None).values())
    for entry in stage_entries + negative_entries:
        _judge(entry)
    _place(disturbances, stage_entries + negative_entries)
    everything_ok = all(entry.ok is True for entry in stage_entries + negative_entries)
    return _clean(
        {
            "run_id": run_id,
            "platform": platform,
            "host": host,
            "started": format_time(started),
            "verdict": "pass" if everything_ok else "fail",
            "stages": [entry.as_dict() for entry in stage_entries],
            "negatives": [entry.as_dict() for entry in negative_entries],
            "versions": dict(versions or {}),
        }
    )


def check_run_id(run_id: str) -> None:
    """Raise ReportError unless the run id is well formed and can name a folder beside ``latest``."""
    if not RUN_ID.fullmatch(run_id) or run_id in (".", "..", LATEST):
        raise ReportError(
            f"run_id={run_id!r} must be 1 to 40 characters of A-Z a-z 0-9 . _ - and not '.', '..' or '{LATEST}'; choose another id."
        )


def _check_expected(expected: Sequence[str]) -> None:
    unknown = [name for name in expected if name not in STAGES]
    if unknown or not expected or len(set(expected)) != len(expected):
        raise ReportError(
            f"expected_stages={list(expected)} must name at least one stage, none twice, out of {', '.join(STAGES)}."
        )


def _check_seconds(option: str, value: float | None) -> None:
    if value is not None and not 0 <= value < _LATEST_TIME:  # false for NaN as well
        raise ReportError(f"{option}={value} is not a time in Unix seconds; milliseconds must be divided by 1000.")


def _entries(option: str, items: Sequence[Mapping[str, Any]], allowed: Sequence[str] | None) -> dict[str, _Entry]:
    """Return the validated entries of one option by name, with their seconds; ``ok`` is still what the playbook claimed."""
    entries: dict[str, _Entry] = {}
    for index, item in enumerate(items):
        where = f"{option}[{index}]"
        name = str(item.get("name") or "").strip()
        if not name:
            raise ReportError(f"{where}.name is empty; give the stage or proof its name.")
        if allowed is not None and name not in allowed:
            raise ReportError(
                f"{where}.name={name!r} is not one of the expected_stages {', '.join(allowed)}; correct one of the two."
            )
        entry = _entry(where, name, item)
        if name in entries:
            # A task that fails after its stage was taken down makes a second entry: the failure is what counts.
            entry = entries[name] if entries[name].ok is False and entry.ok is not False else entry
            _note(entry, f"{name} was reported more than once; the entry that failed counts, else the last one")
        entries[name] = entry
    return entries


def _entry(where: str, name: str, item: Mapping[str, Any]) -> _Entry:
    started, finished, budget = item.get("started"), item.get("finished"), item.get("budget_seconds")
    _check_seconds(f"{where}.started", started)
    _check_seconds(f"{where}.finished", finished)
    if budget is not None and not 0 <= budget <= _LONGEST_BUDGET:
        raise ReportError(f"{where}.budget_seconds={budget} must be 0 seconds to a year, or null for no budget.")
    evidence = dict(item.get("evidence") or {})
    if "disturbances" in evidence:
        raise ReportError(f"{where}.evidence.disturbances is filled in from the option disturbances; pass them there.")
    entry = _Entry(name, started, finished, None, budget, item.get("ok"), evidence)
    if started is not None and finished is not None:
        difference = round(finished - started, 3)
        entry.seconds = max(0.0, difference)
        if difference < 0:
            clocks = "; the clocks that gave the two times differ, compare them with 'date -u'"
            _note(
                entry,
                f"finished lies {-difference:.3f} s before started and counts as 0 s{clocks if difference < -SKEW_TOLERANCE else ''}",
            )
    return entry


def _note(entry: _Entry, text: str) -> None:
    notes = entry.evidence.get("notes", [])
    entry.evidence["notes"] = [*(notes if isinstance(notes, list) else [notes]), text]


def _judge(entry: _Entry) -> None:
    """Set ``ok`` from claim, times and budget; what can't be measured against its budget has not passed."""
    ran = entry.started is not None or entry.finished is not None
    evidence = entry.evidence
    if entry.ok is False:
        if evidence.get("reason") in (None, "", "ok"):
            evidence["reason"] = "failed"
        if not evidence.get("hint"):
            evidence["hint"] = (
                f"No hint was recorded for {entry.name}; see what was done with 'ansible-playbook playbooks/drill.yml -v'."
            )
    elif entry.seconds is not None and entry.budget is not None and entry.seconds > entry.budget:
        _break(entry, "over_budget", _budget_hint(entry))
    elif entry.ok is None and not ran:
        return
    elif entry.seconds is None and (entry.ok is None or entry.budget is not None):
        what = "never finished" if entry.started is not None else "has no start and end"
        _break(
            entry,
            "unfinished" if entry.started is not None else "not_measured",
            f"{entry.name} {what}, so its time is unknown; see what was done with 'ansible-playbook playbooks/drill.yml -v'.",
        )
    else:
        entry.ok = True
        # The checks answer with the same keys when they pass; on a passed stage they say nothing.
        for key, nothing in (("reason", "ok"), ("hint", "")):
            if evidence.get(key) in (nothing, None):
                evidence.pop(key, None)


def _break(entry: _Entry, reason: str, hint: str) -> None:
    entry.ok = False
    entry.evidence["reason"] = reason
    entry.evidence["hint"] = hint


def _budget_hint(entry: _Entry) -> str:
    if entry.seconds is None or entry.budget is None:
        raise AssertionError("only what was measured against a budget can be over it")
    parts = budget_parts(entry.evidence)
    made_of = f" ({parts})" if parts else ""
    return (
        f"{entry.name} took {entry.seconds:.2f} s, {entry.seconds - entry.budget:.2f} s over its budget of {entry.budget:.2f} s{made_of}; "
        "'make bench' repeats the drill and tells a slow host from one bad run."
    )


def budget_parts(evidence: Mapping[str, Any]) -> str:
    """Return what a budget is made of, for people: ``scrape_interval 1 + margin 2``; empty when it was not recorded."""
    parts = evidence.get("budget_parts")
    if not isinstance(parts, dict):
        return ""
    return " + ".join(
        f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {value}" for name, value in parts.items()
    )


def _place(disturbances: Sequence[Mapping[str, Any]], entries: Sequence[_Entry]) -> None:
    """Write each disturbance into the evidence of the stage it fell into, or of the nearest one, and into the hint if that failed."""
    for index, item in enumerate(disturbances):
        at = item.get("at")
        _check_seconds(f"disturbances[{index}].at", at)
        if at is None:
            raise ReportError(f"disturbances[{index}].at is missing; give the time in Unix seconds.")
        # min() takes the first of equals, so the chain comes before what runs beside it.
        nearest = min(entries, key=lambda entry: entry.distance(at))
        nearest.evidence.setdefault("disturbances", []).append(
            {
                "process": str(item.get("process") or "unknown"),
                "at": format_time(at),
                "what": str(item.get("what") or "died"),
            }
        )
    for entry in entries:
        if entry.ok is False and "disturbances" in entry.evidence:
            # Most likely the cause, whatever else the stage fell over.
            died = ", ".join(f"{one['process']} ({one['what']})" for one in entry.evidence["disturbances"])
            entry.evidence["hint"] = f"{str(entry.evidence['hint']).rstrip('.')}; died meanwhile: {died}."


def _clean(value: Any) -> Any:
    """Return plain data in which every text can be written as JSON, XML, HTML and UTF-8."""
    if isinstance(value, dict):
        return {_clean(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return _UNPRINTABLE.sub("\ufffd", str(value))


# --- reading a report -------------------------------------------------------------------------------------------------


def entry_of(report: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return the stage of that name, or None."""
    return next((stage for stage in report["stages"] if stage["name"] == name), None)


def happened(entry: Mapping[str, Any] | None) -> bool:
    """Return whether a stage came to its end, if slowly; the end of a failed one is only when the drill gave up."""
    if not entry or not entry["finished"]:
        return False
    return entry["ok"] is True or entry["evidence"].get("reason") == "over_budget"


def crash_to_mail(report: Mapping[str, Any]) -> float | None:
    """Return the seconds from the end of the last restart to the arrival of the mail, or None when no mail arrived."""
    restart, mailed = entry_of(report, "restart"), entry_of(report, "mailed")
    if not restart or not mailed or not happened(restart) or not happened(mailed):
        return None
    return max(0.0, round(parse_time(mailed["finished"]) - parse_time(restart["finished"]), 3))


def finding(report: Mapping[str, Any]) -> Finding | None:
    """Return what broke, or None for a report that passes.

    A stage that failed outranks one that was only slow: slowness doesn't break the chain. Both outrank what was never reached.
    """
    both = [("stage", entry) for entry in report["stages"]] + [("negative", entry) for entry in report["negatives"]]
    bad = [(kind, entry) for kind, entry in both if entry["ok"] is not True]
    if not bad:
        return None

    def rank(item: tuple[str, Mapping[str, Any]]) -> int:
        if item[1]["ok"] is None:
            return 2
        return 1 if item[1]["evidence"].get("reason") == "over_budget" else 0

    kind, entry = min(bad, key=rank)
    if entry["ok"] is None:
        hint = (
            f"{entry['name']} was never reached although nothing before it failed; "
            "see where the drill stopped with 'ansible-playbook playbooks/drill.yml -v'."
        )
        return Finding(kind, entry["name"], "not_reached", hint)
    return Finding(kind, entry["name"], str(entry["evidence"]["reason"]), str(entry["evidence"]["hint"]))


def headline(report: Mapping[str, Any]) -> str:
    """Return the verdict as one short line for people, without a full stop."""
    broken = finding(report)
    if broken is None:
        seconds = crash_to_mail(report)
        return "All stages passed" if seconds is None else f"The crash became a mail in {seconds:.1f} s"
    if broken.kind == "negative":
        return f"Negative proof failed: {broken.name}"
    return f"{'Over budget' if broken.reason == 'over_budget' else 'Broken'} at: {broken.name}"


def all_disturbances(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (stage or negative, disturbance) in the order of time."""
    found = [
        (entry["name"], item)
        for entry in [*report["stages"], *report["negatives"]]
        for item in entry["evidence"].get("disturbances", [])
    ]
    return sorted(found, key=lambda pair: pair[1]["at"])


def fact(value: Any) -> str:
    """Return one evidence value as short text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return "none" if value is None else str(value)


def facts(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the evidence that is shown as name and value; the rest has places of its own."""
    return [(name, fact(value)) for name, value in evidence.items() if name not in SPECIAL_EVIDENCE]


def clock(moment: str) -> str:
    """Return the time of day of a report's time, ``11:03:43.123``."""
    return moment[11:23]


def mark(entry: Mapping[str, Any]) -> str:
    """Return the word for how a stage ended: ok, FAIL, slow (over its budget) or a dash (not reached)."""
    if entry["ok"] is None:
        return "-"
    if entry["ok"]:
        return "ok"
    return "slow" if entry["evidence"].get("reason") == "over_budget" else "FAIL"


# --- text -------------------------------------------------------------------------------------------------------------


def summary_lines(report: Mapping[str, Any], page: str) -> list[str]:
    """Return the report as an aligned table for a terminal, in ASCII.

    Args:
        report: made by build_report.
        page: path of report.html, named in the last line.
    """
    lines = [
        f"Vigie drill {report['run_id']} on {report['platform']}, host {report['host']}, {report['started'].replace('T', ' ')}",
        "",
    ]
    width = max(len(_ascii(entry["name"])) for entry in [*report["stages"], *report["negatives"]])
    lines += _table("stage", report["stages"], width)
    if report["negatives"]:
        lines += ["", *_table("negative", report["negatives"], width)]
    lines.append("")
    broken = finding(report)
    if broken is None:
        lines.append(f"PASS: {headline(report)}.")
    else:
        kind = "negative proof " if broken.kind == "negative" else ""
        # One line, however long: a command that the report wraps can't be copied.
        lines.append(f"FAIL at {kind}{broken.name}: {broken.reason}. {broken.hint}")
    for where, item in all_disturbances(report):
        lines.append(f"Disturbed: {item['process']} at {clock(item['at'])} in {where}: {item['what']}")
    lines.append(f"Report: {page}")
    return [_ascii(line) for line in lines]


def _table(title: str, entries: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    width = max(width, len("negative"))
    rows = [f"{title:<{width}}  {'seconds':>8}  {'budget':>8}  {'':<4}  evidence"]
    for entry in entries:
        rows.append(
            f"{_ascii(entry['name']):<{width}}  {_number(entry['seconds']):>8}  {_number(entry['budget_seconds']):>8}  "
            f"{mark(entry):<4}  {_short_evidence(entry)}".rstrip()
        )
    return rows


def _number(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f}"


def _short_evidence(entry: Mapping[str, Any]) -> str:
    evidence = entry["evidence"]
    words = [f"! {item['process']} {item['what']}" for item in evidence.get("disturbances", [])]
    if entry["ok"] is False:
        words.insert(0, str(evidence["reason"]))
    elif entry["ok"] is None:
        words.insert(0, "not reached")
    words += [f"{name}={value}" for name, value in facts(evidence)]
    text = _ascii(", ".join(words))
    return text if len(text) <= _EVIDENCE_WIDTH else f"{text[: _EVIDENCE_WIDTH - 3]}..."


def _ascii(text: str) -> str:
    return (
        " ".join(str(text).split("\n"))
        .replace("\t", " ")
        .replace("\r", " ")
        .encode("ascii", "backslashreplace")
        .decode("ascii")
    )


# --- JUnit ------------------------------------------------------------------------------------------------------------


def junit_xml(report: Mapping[str, Any]) -> str:
    """Return the report as one JUnit test suite ``vigie.drill`` with a case per stage and per negative proof."""
    both = [("stage", entry) for entry in report["stages"]] + [("negative", entry) for entry in report["negatives"]]
    total = sum(entry["seconds"] or 0.0 for _kind, entry in both)
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": "vigie.drill",
            # The schema of Ant's JUnit task allows neither fractions nor a zone; the time is UTC.
            "timestamp": report["started"][:19],
            "hostname": " ".join(report["host"].split()) or "localhost",
            "tests": str(len(both)),
            "failures": str(sum(entry["ok"] is False for _kind, entry in both)),
            "errors": "0",
            "skipped": str(sum(entry["ok"] is None for _kind, entry in both)),
            "time": f"{total:.3f}",
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name in ("run_id", "platform", "verdict"):
        ElementTree.SubElement(properties, "property", {"name": name, "value": report[name]})
    for name, value in report["versions"].items():
        ElementTree.SubElement(properties, "property", {"name": f"version.{name}", "value": fact(value)})
    for kind, entry in both:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {
                "classname": f"vigie.drill.{kind}",
                "name": " ".join(entry["name"].split()),
                "time": f"{entry['seconds'] or 0.0:.3f}",
            },
        )
        if entry["ok"] is None:
            ElementTree.SubElement(case, "skipped")
        elif not entry["ok"]:
            reason, hint = str(entry["evidence"]["reason"]), str(entry["evidence"]["hint"])
            failure = ElementTree.SubElement(case, "failure", {"type": reason, "message": f"{reason}: {hint}"})
            failure.text = json.dumps(entry["evidence"], indent=2, ensure_ascii=False)
    for stream in ("system-out", "system-err"):  # the schema demands both
        ElementTree.SubElement(suite, stream)
    ElementTree.indent(suite)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suite, encoding="unicode")}\n'


# --- disk -------------------------------------------------------------------------------------------------------------


def publish(
    dest: Path, run_id: str, files: Mapping[str, str], *, keep: int, check_mode: bool = False
) -> tuple[bool, list[str]]:
    """Write a run's files, point ``latest`` to them and prune old runs.

    Each file is replaced atomically and ``latest`` moves last, so a reader that follows it finds a whole report.

    Args:
        dest: folder of all runs.
        run_id: folder of this run.
        files: name to text.
        keep: how many runs stay; the run of ``latest`` always does.
        check_mode: only say what would change.

    Returns:
        Whether something changed, and the run ids that were pruned.

    Raises:
        OSError: a file can't be written.
    """
    folder, link = dest / run_id, dest / LATEST
    changed = False
    for name, text in files.items():
        if _read(folder / name) != text.encode():
            changed = True
            if not check_mode:
                folder.mkdir(parents=True, exist_ok=True)
                _replace(folder / name, text)
    if not link.is_symlink() or str(link.readlink()) != run_id:
        changed = True
        if not check_mode:
            _relink(link, run_id)
    pruned = _surplus(dest, run_id, keep)
    for name in pruned:
        changed = True
        if not check_mode:
            shutil.rmtree(dest / name)
    return changed, pruned


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(text.encode())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _relink(link: Path, target: str) -> None:
    if link.is_dir() and not link.is_symlink():
        raise FileExistsError(
            f"{link} is a folder, not the link to the newest run; move it away with 'mv {link} {link}.old'"
        )
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(target)
        temporary.replace(link)
    finally:
        temporary.unlink(missing_ok=True)


def _surplus(dest: Path, run_id: str, keep: int) -> list[str]:
    """Return the oldest runs beyond ``keep``; only folders that hold a report are runs, the present run is never one."""
    if not dest.is_dir():
        return []
    runs = []
    for folder in dest.iterdir():
        report = folder / "report.json"
        if folder.name != run_id and RUN_ID.fullmatch(folder.name) and not folder.is_symlink() and report.is_file():
            runs.append((report.stat().st_mtime, folder.name))
    return [name for _time, name in sorted(runs, reverse=True)[max(0, keep - 1) :]]
