# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The drill's report as one page for people: no script, nothing from outside, every text escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.report import (
    all_disturbances,
    budget_parts,
    clock,
    crash_to_mail,
    entry_of,
    fact,
    facts,
    finding,
    happened,
    headline,
)
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import format_time, parse_time

# The stages of the first picture; the others (and the negatives) appear only in the picture of the whole run.
_ZOOMED = ("crash", "restart", "scraped", "firing", "routed", "mailed", "log", "trace")
_PROVES = {
    "baseline": "targets up, rule loaded, nothing firing",
    "crash": "the process is made to die",
    "restart": "it is running again, for the last time",
    "scraped": "the restart counter is in Prometheus",
    "firing": "the rule fires",
    "routed": "Alertmanager hands it to the right receiver",
    "mailed": "the mail is read back from the mailbox",
    "log": "the line of the crashing request is found",
    "trace": "the trace of the crashing request is found",
    "resolved": "the all-clear is mailed, after recovery only",
}
_STEPS = (
    0.1,
    0.2,
    0.5,
    1,
    2,
    3,
    5,
    10,
    15,
    20,
    30,
    60,
    120,
    300,
    600,
    1200,
    1800,
    3600,
    7200,
    14400,
    28800,
    86400,
)
_MAX_TICKS = 5
_FACT_LIMIT = 300
# A command in a hint stands in backticks or single quotes; an apostrophe has a letter on both sides.
_COMMAND = re.compile(r"`([^`]+)`|(?<!\w)'([^']+)'(?!\w)")

_CSS = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --line: #dfe3e8; --grid: #e6e9ed; --text: #1b2430; --soft: #586474;
  --track: #e0ebf4; --edge: #58809f; --bar: #0072b2; --bad: #d55e00; --bad-text: #a84300; --good: #00795c; --slow-text: #855b00; --slow: #e69f00;
  --hit: #b0478a; --code: #eef1f4; --band: #eef4f9; }
@media (prefers-color-scheme: dark) { :root { --page: #11161c; --card: #1a2129; --line: #303a45; --grid: #2b343e; --text: #e7ebef; --soft: #a0acb9;
  --track: #24394a; --edge: #7ea6c4; --bar: #56b4e9; --bad: #f0803c; --bad-text: #ff9d66; --good: #3fc79f; --slow-text: #f0b840; --slow: #e69f00;
  --hit: #e58cc0; --code: #28313b; --band: #1f2c38; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
.page { max-width: 1040px; margin: 0 auto; padding: 28px 20px 40px; }
.brand { margin: 0 0 12px; color: var(--soft); font-size: 14px; letter-spacing: .02em; }
.brand b { color: var(--text); }
h1 { margin: 0; font-size: clamp(24px, 5.4vw, 34px); line-height: 1.2; letter-spacing: -.01em; }
h2 { margin: 0 0 12px; font-size: 18px; }
h3 { margin: 0 0 6px; font-size: 14px; font-weight: 600; color: var(--soft); }
p { margin: 8px 0 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 20px 24px; margin: 0 0 16px; }
code { overflow-wrap: anywhere; font: .9em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; background: var(--code);
  border-radius: 4px;
  padding: .1em .35em; }
.verdict { border-left: 8px solid var(--good); padding: 24px 28px; }
.verdict.fail { border-left-color: var(--bad); }
.verdict.slow { border-left-color: var(--slow); }
.verdict h1 span { color: var(--good); }
.verdict.fail h1 span { color: var(--bad-text); }
.verdict.slow h1 span { color: var(--slow-text); }
.verdict .why { color: var(--soft); }
.hits { list-style: none; margin: 14px 0 0; padding: 12px 0 0; border-top: 1px solid var(--line); }
.hits li + li { margin-top: 4px; }
.hit { color: var(--hit); font-weight: 600; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px 24px; margin: 0; }
.facts dt { color: var(--soft); font-size: 13px; }
.facts dd { overflow-wrap: anywhere; margin: 0; font-weight: 500; }
.figure { margin: 18px 0 0; }
.figure + .figure { margin-top: 28px; }
.row { display: grid; grid-template-columns: 180px 1fr 190px; align-items: center; column-gap: 14px; }
.row .name { padding: 2px 0; overflow-wrap: anywhere; font-size: 14px; font-weight: 500;
  line-height: 1.25; }
.row .value { white-space: nowrap; font-size: 13px; text-align: right; line-height: 1.25; }
.row .soft, .soft { color: var(--soft); font-weight: 400; }
.row .hit { display: block; font-size: 12px; }
.row svg { display: block; width: 100%; height: 30px; overflow: visible; }
.row svg svg { width: 1px; height: 1px; }
.row.axis svg { height: 22px; }
.row.span .value { font-weight: 700; font-size: 14px; }
.row.span .name { font-weight: 700; }
.grid { stroke: var(--grid); stroke-width: 1; }
.axis text { fill: var(--soft); font-size: 11px; }
.track { fill: var(--track); }
.edge { stroke: var(--edge); stroke-width: 2; }
.bar { fill: var(--bar); }
.bar.bad { fill: url(#hatch); stroke: var(--bad); stroke-width: 1.5; }
.bar.open { stroke-dasharray: 4 3; }
.hatch-a { fill: var(--card); }
.hatch-b { stroke: var(--bad); stroke-width: 4; }
.band { fill: var(--band); }
.never { stroke: var(--edge); stroke-width: 1; stroke-dasharray: 2 5; }
.more, .far { fill: none; stroke: var(--card); stroke-width: 2; }
.far { stroke: var(--bar); }
.measure { stroke: var(--text); stroke-width: 1.5; fill: none; }
.hit-line { stroke: var(--hit); stroke-width: 1.5; }
.hit-mark { fill: var(--hit); stroke: var(--card); stroke-width: 1.5; }
.key { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 18px 0 0; padding: 0; list-style: none; color: var(--soft); font-size: 13px; }
.key li { display: flex; align-items: center; gap: 7px; }
.key svg { width: 30px; height: 18px; overflow: visible; }
table { width: 100%; border-collapse: collapse; font-size: 15px; }
th { text-align: left; font-weight: 600; }
thead th { color: var(--soft); font-size: 13px; border-bottom: 1px solid var(--line); padding: 0 12px 6px 0; }
td, tbody th { border-bottom: 1px solid var(--line); padding: 10px 12px 10px 0; vertical-align: top; }
tbody tr:last-child > * { border-bottom: 0; padding-bottom: 0; }
tbody th { min-width: 190px; max-width: 15em; }
.wide { padding-left: 8px; }
tbody th .soft { display: block; font-size: 13px; }
th.num, td.num { text-align: right; white-space: nowrap; }
td.num .soft { display: block; font-size: 12px; white-space: normal; max-width: 13em; margin-left: auto; }
.mark { white-space: nowrap; font-weight: 600; }
.mark.ok { color: var(--good); }
.mark.bad { color: var(--bad-text); }
.mark.slow { color: var(--slow-text); }
.mark.none { color: var(--soft); font-weight: 400; }
.evidence { overflow-wrap: anywhere; margin: 0; padding: 0; list-style: none; font-size: 14px; }
.evidence .fact { display: inline; margin-right: 12px; }
.evidence .fact b { font-weight: 400; color: var(--soft); }
footer { color: var(--soft); font-size: 14px; }
a { color: inherit; }
@media (max-width: 640px) {
  .page { padding: 16px 12px 28px; }
  section { padding: 16px; }
  .verdict { padding: 18px 16px; border-left-width: 6px; }
  .row { grid-template-columns: minmax(0, 1fr) auto; row-gap: 0; padding-top: 6px; }
  .row.axis, .row.span { padding-top: 0; }
  .row svg { grid-row: 2; grid-column: 1 / 3; height: 26px; }
  .row .hit { display: inline; margin-left: 6px; }
  .facts { grid-template-columns: 1fr 1fr; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table, tbody, tr, td, tbody th { display: block; min-width: 0; max-width: none; overflow-wrap: anywhere; }
  tr { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, auto); gap: 2px 12px; padding: 12px 0; border-bottom: 1px solid var(--line); }
  tbody tr:last-child { border-bottom: 0; padding-bottom: 0; }
  td, tbody th { border: 0; padding: 0; }
  td.num { text-align: left; font-size: 14px; }
  td.num::before { content: attr(data-label) " "; color: var(--soft); }
  td.num.budget { text-align: right; }
  td.num .soft { margin: 0; }
  td.verdict-cell { text-align: right; }
  .wide { padding-left: 0; }
  td.wide { grid-column: 1 / 3; }
  .versions tr { padding: 6px 0; }
}
"""

_PATTERN = (
    '<svg width="0" height="0" aria-hidden="true" class="defs"><defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect width="6" height="6" class="hatch-a"/><line x1="0" y1="0" x2="0" y2="6" class="hatch-b"/></pattern></defs></svg>'
)


_KEY_CUT = '<path class="far" d="M12 5 8 9l4 4M18 5l-4 4 4 4"/>'
# Arrow heads at the edge of a picture that shows only a part of the time.
_MORE_BEFORE = '<path class="{kind}" d="M9 11 5 15l4 4M15 11l-4 4 4 4"/>'
_MORE_AFTER = '<svg x="100%"><path class="{kind}" d="M-9 11l4 4-4 4M-15 11l4 4-4 4"/></svg>'


@dataclass(frozen=True)
class _Bar:
    """An entry with a place on the time axis, in Unix seconds."""

    entry: Mapping[str, Any]
    start: float
    end: float
    open_end: bool  # it never finished: the end is where the picture has to stop

    @property
    def budget_end(self) -> float | None:
        budget = self.entry["budget_seconds"]
        return None if budget is None else self.start + budget


@dataclass(frozen=True)
class _Window:
    """The part of the time axis that a picture shows, in Unix seconds."""

    start: float
    end: float

    def percent(self, moment: float) -> float:
        """Return the place of a moment in per cent of the width; outside 0 to 100 when it lies outside."""
        return (moment - self.start) / (self.end - self.start) * 100

    def clamped(self, moment: float) -> float:
        return min(100.0, max(0.0, self.percent(moment)))


def report_page(report: Mapping[str, Any]) -> str:
    """Return the whole page for a report made by build_report."""
    style = base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
    body = [
        f'<p class="brand"><b>Vigie</b> drill report {_e(report["run_id"])}</p>',
        _verdict(report),
        _facts(report),
        _timeline(report),
        _table("Stages", "stages", report["stages"]),
        _table("Negative proofs", "negatives", report["negatives"]) if report["negatives"] else "",
        _versions(report["versions"]) if report["versions"] else "",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_e(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{_e(headline(report))} - Vigie drill</title>\n<style>{_CSS}</style>\n</head>\n<body>\n{_PATTERN}\n"
        f'<main class="page">\n{"".join(part + chr(10) for part in body if part)}'
        '<footer>The same result for programs: <a href="report.json">report.json</a>, <a href="junit.xml">junit.xml</a>, '
        '<a href="summary.txt">summary.txt</a>. Times are UTC, read from the clocks of the systems that were observed.</footer>\n'
        "</main>\n</body>\n</html>\n"
    )


def _e(value: Any) -> str:
    return escape(str(value), quote=True)


def _hint(text: str) -> str:
    """Escape a hint and set its commands as code."""
    parts, done = [], 0
    for match in _COMMAND.finditer(text):
        parts += [_e(text[done : match.start()]), f"<code>{_e(match.group(1) or match.group(2))}</code>"]
        done = match.end()
    return "".join([*parts, _e(text[done:])])


def _name(entry: Mapping[str, Any]) -> str:
    """Escape a name and let it break after an underscore."""
    return _e(entry["name"]).replace("_", "_<wbr>")


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2f}\N{NO-BREAK SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if not rest:
        return f"{minutes}\N{NO-BREAK SPACE}min"
    return f"{minutes}\N{NO-BREAK SPACE}min {rest:02d}\N{NO-BREAK SPACE}s"


# --- top of the page --------------------------------------------------------------------------------------------------


def _verdict(report: Mapping[str, Any]) -> str:
    broken = finding(report)
    title = headline(report)
    hits = all_disturbances(report)
    if broken is None:
        kind, sign = "pass", "✓"
        span = (
            "From the last restart to the mail read back from the mailbox. "
            if crash_to_mail(report) is not None
            else ""
        )
        counts = f"{len(report['stages'])} stages" + (
            f" and {len(report['negatives'])} negative proofs" if report["negatives"] else ""
        )
        text = f'<p class="why">{span}{counts} passed.</p>'
    else:
        kind, sign = ("slow", "!") if broken.reason == "over_budget" else ("fail", "✗")
        text = f'<p>{_hint(broken.hint)}</p><p class="why">Reason: <code>{_e(broken.reason)}</code></p>'
    if hits:
        items = "".join(
            f'<li><span class="hit">◆ {_e(item["process"])}</span> at {_e(clock(item["at"]))} during {_e(where)}: {_e(item["what"])}</li>'
            for where, item in hits
        )
        text += f'<ul class="hits" aria-label="Processes that died without being asked">{items}</ul>'
    return (
        f'<section class="verdict {kind}"><h1><span aria-hidden="true">{sign}</span> {_e(title)}</h1>{text}</section>'
    )


def _facts(report: Mapping[str, Any]) -> str:
    pairs = [
        ("Run", report["run_id"]),
        ("Platform", report["platform"]),
        ("Host", report["host"]),
        ("Started (UTC)", report["started"][:19].replace("T", " ")),
    ]
    bars = _bars([*report["stages"], *report["negatives"]])
    if bars:
        pairs.append(("Whole run", _seconds(max(span.end for span in bars) - min(span.start for span in bars))))
    items = "".join(f"<div><dt>{name}</dt><dd>{_e(value)}</dd></div>" for name, value in pairs)
    return f'<section><dl class="facts">{items}</dl></section>'


# --- timeline ---------------------------------------------------------------------------------------------------------


def _bars(entries: Iterable[Mapping[str, Any]]) -> list[_Bar]:
    """Return the entries that ran; what never finished ends where everything known ends, or at its budget if that is later."""
    ran = []
    for entry in entries:
        known = [parse_time(entry[key]) for key in ("started", "finished") if entry[key]]
        if known:
            # Where clocks differ the end may come before the start. The next stage starts from the end, so that is where it stands.
            ran.append((entry, min(known), known[-1], entry["finished"] is None))
    if not ran:
        return []
    last = max(end for _entry, _start, end, _open in ran)
    return [
        _Bar(entry, start, max(last, start + (entry["budget_seconds"] or 1.0)) if is_open else end, is_open)
        for entry, start, end, is_open in ran
    ]


def _timeline(report: Mapping[str, Any]) -> str:
    everything = [*report["stages"], *report["negatives"]]
    bars = {id(span.entry): span for span in _bars(everything)}
    if not bars:
        return "<section><h2>Timeline</h2><p>No stage ran.</p></section>"
    zoomed = [stage for stage in report["stages"] if stage["name"] in _ZOOMED]
    near = [bars[id(stage)] for stage in zoomed if id(stage) in bars]
    figures = []
    window = None
    if near:
        window = _zoom(report, near)
        rows = [_row(stage, bars.get(id(stage)), window) for stage in zoomed]
        rows.insert(0, _measure(report, window))
        figures.append(_figure("From the crash to the mail", [*rows, _axis(window)], near))
    rest = [entry for entry in everything if entry not in zoomed or not near]
    if any(id(entry) in bars for entry in rest):
        whole = _padded(min(span.start for span in bars.values()), max(span.end for span in bars.values()))
        rows = [_row(entry, bars.get(id(entry)), whole) for entry in rest]
        if near and window:
            # In the order of time: what ran before the crash, the crash to the mail as one row, the rest.
            before = sum(1 for entry in rest if id(entry) in bars and bars[id(entry)].start < near[0].start)
            rows.insert(before, _composite(near, window, whole))
        figures.append(_figure("The whole run", [*rows, _axis(whole)], list(bars.values())))
    return f"<section><h2>Timeline</h2>{''.join(figures)}{_key(list(bars.values()), window, bool(all_disturbances(report)))}</section>"


def _zoom(report: Mapping[str, Any], near: Sequence[_Bar]) -> _Window:
    """Return the window of the first picture: as much before the last restart as leaves the way to the mail readable.

    A back-off of 30 s before, or a log found a minute later, would squash the seconds that count; their bars are cut instead.
    """
    start, end = min(span.start for span in near), max(span.end for span in near)
    restart, mailed = entry_of(report, "restart"), entry_of(report, "mailed")
    zero = parse_time(restart["finished"]) if restart and happened(restart) else start
    way = (parse_time(mailed["finished"]) if mailed and happened(mailed) else end) - zero
    if way <= 0:
        return _padded(start, end)
    # A cut that gains little is not worth its arrows.
    first = start if zero - start <= 2 * way else zero - way
    last = end if end - zero <= 3 * way else zero + 2 * way
    return _padded(first, last)


def _padded(start: float, end: float) -> _Window:
    room = max(end - start, 0.1) * 0.02
    return _Window(start - room, max(end, start + 0.1) + room)


def _figure(title: str, rows: Sequence[str], bars: Sequence[_Bar]) -> str:
    spoken = "; ".join(f"{span.entry['name']} from {clock(format_time(span.start))} {_ended(span)}" for span in bars)
    return f'<div class="figure"><h3>{title}</h3><div role="img" aria-label="{_e(f"{title}: {spoken}")}">{"".join(rows)}</div></div>'


def _ended(span: _Bar) -> str:
    return "without an end" if span.open_end else f"to {clock(format_time(span.end))}"


def _ticks(window: _Window) -> list[float]:
    length = window.end - window.start
    step = next(
        (step for step in _STEPS if length / step <= _MAX_TICKS),
        _STEPS[-1] * max(1, round(length / _STEPS[-1] / _MAX_TICKS)),
    )
    first = int(window.start / step) + 1
    return [round(number * step, 3) for number in range(first, int(window.end / step) + 1)]


def _grid(window: _Window) -> str:
    return "".join(
        f'<line class="grid" x1="{window.percent(tick):.2f}%" x2="{window.percent(tick):.2f}%" y1="0" y2="100%"/>'
        for tick in _ticks(window)
    )


def _axis(window: _Window) -> str:
    ticks = _ticks(window)
    fractions = any(tick % 1 for tick in ticks)
    texts = []
    for tick in ticks:
        place = window.percent(tick)
        if not 6 <= place <= 94:  # half of its text would leave the picture
            continue
        texts.append(
            f'<text x="{place:.2f}%" y="15" text-anchor="middle">{clock(format_time(tick))[: 10 if fractions else 8]}</text>'
        )
    return f'<div class="row axis"><span></span><svg>{"".join(texts)}</svg><span></span></div>'


def _measure(report: Mapping[str, Any], window: _Window) -> str:
    """Return the row with the dimension line from the last restart to the mail; empty without both ends."""
    seconds = crash_to_mail(report)
    restart, mailed = entry_of(report, "restart"), entry_of(report, "mailed")
    if seconds is None or not restart or not mailed:
        return ""
    left, right = window.clamped(parse_time(restart["finished"])), window.clamped(parse_time(mailed["finished"]))
    ends = "".join(f'<line class="measure" x1="{x:.2f}%" x2="{x:.2f}%" y1="8" y2="22"/>' for x in (left, right))
    line = f'<line class="measure" x1="{left:.2f}%" x2="{right:.2f}%" y1="15" y2="15"/>'
    return (
        f'<div class="row span"><span class="name">restart to mail</span><svg>{_grid(window)}{line}{ends}</svg>'
        f'<span class="value">{_e(_seconds(seconds))}</span></div>'
    )


def _row(entry: Mapping[str, Any], span: _Bar | None, window: _Window) -> str:
    hits = entry["evidence"].get("disturbances", [])
    names = "".join(f'<span class="hit">◆ {_e(item["process"])}</span>' for item in hits)
    return (
        f'<div class="row"><span class="name">{_name(entry)}{names}</span>'
        f"<svg>{_grid(window)}{_draw(entry, span, window)}{''.join(_hit(item, window) for item in hits)}</svg>"
        f'<span class="value">{_value(entry)}</span></div>'
    )


def _value(entry: Mapping[str, Any]) -> str:
    if entry["ok"] is None:
        return '<span class="soft">not reached</span>'
    budget = (
        "" if entry["budget_seconds"] is None else f' <span class="soft">of {_seconds(entry["budget_seconds"])}</span>'
    )
    time = "no end" if entry["seconds"] is None else _seconds(entry["seconds"])
    kind, sign, _word = _mark(entry)
    return f'{time}{budget} <span class="mark {kind}">{sign}</span>'


def _draw(entry: Mapping[str, Any], span: _Bar | None, window: _Window) -> str:
    if span is None:
        return '<line class="never" x1="0" x2="100%" y1="50%" y2="50%"/>'
    if span.end < window.start or span.start > window.end:
        return _MORE_BEFORE.format(kind="far") if span.end < window.start else _MORE_AFTER.format(kind="far")
    parts = []
    budget_end = span.budget_end
    if budget_end is not None:
        parts.append(_rect("track", span.start, budget_end, window, top=5, height=20))
        if 0 <= window.percent(budget_end) <= 100:
            place = f"{window.percent(budget_end):.2f}%"
            parts.append(f'<line class="edge" x1="{place}" x2="{place}" y1="3" y2="27"/>')
    if entry["ok"] is not False:
        parts.append(_rect("bar", span.start, span.end, window))
    elif budget_end is not None and entry["evidence"].get("reason") == "over_budget":
        parts += [_rect("bar", span.start, budget_end, window), _rect("bar bad", budget_end, span.end, window)]
    else:
        parts.append(_rect("bar bad open" if span.open_end else "bar bad", span.start, span.end, window))
    if window.percent(span.start) < 0 < window.percent(span.end):
        parts.append(_MORE_BEFORE.format(kind="more"))
    if window.percent(span.start) < 100 < window.percent(span.end):
        parts.append(_MORE_AFTER.format(kind="more"))
    return "".join(parts)


def _rect(kind: str, start: float, end: float, window: _Window, *, top: int = 9, height: int = 12) -> str:
    """Return a bar cut to the window, and under it one of 3 px so that the shortest stage is still seen."""
    left, right = window.clamped(start), window.clamped(end)
    shape = f'class="{kind}" x="{left:.2f}%" y="{top}" height="{height}"'
    return f'<rect {shape} width="3"/><rect {shape} width="{right - left:.2f}%"/>'


def _hit(item: Mapping[str, Any], window: _Window) -> str:
    place = f"{window.clamped(parse_time(item['at'])):.2f}%"
    return (
        f'<line class="hit-line" x1="{place}" x2="{place}" y1="0" y2="100%"/>'
        f'<svg x="{place}"><path class="hit-mark" d="M0 8l7 7-7 7-7-7z"/></svg>'
    )


def _composite(near: Sequence[_Bar], zoomed: _Window, whole: _Window) -> str:
    start, end = min(span.start for span in near), max(span.end for span in near)
    band = _rect("band", max(start, zoomed.start), min(end, zoomed.end), whole, top=0, height=30)
    bars = "".join(
        _rect("bar bad" if span.entry["ok"] is False else "bar", span.start, span.end, whole) for span in near
    )
    return (
        f'<div class="row"><span class="name">crash to mail <span class="soft">(above)</span></span>'
        f'<svg>{band}{_grid(whole)}{bars}</svg><span class="value">{_seconds(end - start)}</span></div>'
    )


def _key(bars: Sequence[_Bar], zoomed: _Window | None, disturbed: bool) -> str:
    """Return the legend, with only what the pictures show."""
    bad = any(span.entry["ok"] is False for span in bars)
    cut = zoomed is not None and any(
        span.entry["name"] in _ZOOMED and (span.start < zoomed.start or span.end > zoomed.end) for span in bars
    )
    items = ['<li><svg><rect class="bar" x="0" y="3" width="30" height="12"/></svg>time used</li>']
    if any(span.entry["budget_seconds"] is not None for span in bars):
        items.append(
            '<li><svg><rect class="track" x="0" y="0" width="30" height="18"/>'
            '<line class="edge" x1="30" x2="30" y1="-1" y2="19"/></svg>budget, ends at the line</li>'
        )
    if bad:
        items.append(
            '<li><svg><rect class="bar bad" x="0" y="3" width="30" height="12"/></svg>failed or over budget</li>'
        )
    if cut:
        items.append(f"<li><svg>{_KEY_CUT}</svg>lies, or goes on, outside this part of the time</li>")
    if disturbed:
        items.append(
            '<li><svg><path class="hit-mark" d="M15 2l7 7-7 7-7-7z"/></svg>a process died without being asked</li>'
        )
    return f'<ul class="key" aria-hidden="true">{"".join(items)}</ul>'


# --- tables -----------------------------------------------------------------------------------------------------------


def _mark(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return CSS class, sign and word for how an entry ended."""
    if entry["ok"] is None:
        return "none", "\N{EN DASH}", "not reached"
    if entry["ok"]:
        return "ok", "✓", "ok"
    return ("slow", "!", "over budget") if entry["evidence"].get("reason") == "over_budget" else ("bad", "✗", "failed")


def _table(title: str, name: str, entries: Sequence[Mapping[str, Any]]) -> str:
    # The roles are said again because a phone shows the table as blocks, which takes them away in some browsers.
    head = (
        '<thead role="rowgroup"><tr role="row"><th role="columnheader" scope="col">Name</th><th role="columnheader" scope="col">Verdict</th>'
        '<th role="columnheader" scope="col" class="num">Seconds</th><th role="columnheader" scope="col" class="num">Budget</th>'
        '<th role="columnheader" scope="col" class="wide">Evidence</th></tr></thead>'
    )
    rows = "".join(_table_row(entry) for entry in entries)
    return f'<section><h2 id="{name}">{title}</h2><table role="table" aria-labelledby="{name}">{head}<tbody role="rowgroup">{rows}</tbody></table></section>'


def _table_row(entry: Mapping[str, Any]) -> str:
    kind, sign, word = _mark(entry)
    proves = _PROVES.get(entry["name"])
    about = f'<span class="soft">{proves}</span>' if proves else ""
    seconds = "\N{EN DASH}" if entry["seconds"] is None else f"{entry['seconds']:.2f}"
    budget = "\N{EN DASH}" if entry["budget_seconds"] is None else f"{entry['budget_seconds']:.2f}"
    parts = budget_parts(entry["evidence"])
    made_of = f'<span class="soft">{_e(parts)}</span>' if parts else ""
    return (
        f'<tr role="row"><th role="rowheader" scope="row">{_name(entry)}{about}</th>'
        f'<td role="cell" class="verdict-cell"><span class="mark {kind}"><span aria-hidden="true">{sign}</span> {word}</span></td>'
        f'<td role="cell" class="num" data-label="Seconds">{seconds}</td>'
        f'<td role="cell" class="num budget" data-label="Budget">{budget}{made_of}</td>'
        f'<td role="cell" class="wide">{_evidence(entry)}</td></tr>'
    )


def _evidence(entry: Mapping[str, Any]) -> str:
    evidence = entry["evidence"]
    items = []
    if entry["ok"] is False:
        items.append(f"<li><code>{_e(evidence['reason'])}</code> {_hint(str(evidence['hint']))}</li>")
    for item in evidence.get("disturbances", []):
        items.append(
            f'<li><span class="hit">◆ {_e(item["process"])}</span> {_e(clock(item["at"]))}: {_e(item["what"])}</li>'
        )
    notes = evidence.get("notes", [])
    items += [f"<li>Note: {_hint(fact(note))}</li>" for note in (notes if isinstance(notes, list) else [notes])]
    for name, value in facts(evidence):
        shown = (
            value
            if len(value) <= _FACT_LIMIT
            else f"{value[:_FACT_LIMIT]}... ({len(value) - _FACT_LIMIT} characters more in report.json)"
        )
        items.append(f'<li class="fact"><b>{_e(name)}</b>&nbsp;{_e(shown)}</li>')
    # The spaces are where a line of facts may break.
    return f'<ul class="evidence">{" ".join(items)}</ul>' if items else ""


def _versions(versions: Mapping[str, Any]) -> str:
    items = "".join(f"<div><dt>{_e(name)}</dt><dd>{_e(fact(value))}</dd></div>" for name, value in versions.items())
    return f'<section><h2>Versions</h2><dl class="facts">{items}</dl></section>'
