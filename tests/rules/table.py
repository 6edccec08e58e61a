"""Measure when the alert rules fire for containers that die after different lives; keep the table in the documentation current.

python tests/rules/table.py            # write the table into docs/alert-rules.md
python tests/rules/table.py --check    # exit 1 when the table there is not current
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from promtool_runner import Firing, PromtoolMissing, find_promtool, firing
from restart_series import Pod
from rule_rendering import ROOT, restart_rule

DOCS = ROOT / "docs" / "alert-rules.md"
BEGIN = "<!-- table: begin, written by tests/rules/table.py -->"
END = "<!-- table: end -->"
MIXIN = Path(__file__).with_name("mixin.yml")

LIVES = (1, 10, 30, 60, 120, 180, 200, 240, 290, 330, 540, 900)
HOUR = 3600
FIRST_CRASH = 1000  # the series are known for longer than the window before


@dataclass(frozen=True)
class Run:
    """One looping container: seconds from its first crash to each event, None where it did not happen within the hour.

    `restarts` of it had happened when the rule fired; `resolved` is false, since the loop goes on.
    """

    fires: float | None
    restarts: int
    resolved: float | None


@dataclass(frozen=True)
class Row:
    """All runs of one life (seconds): by rule, with scrapes and evaluations at different phases."""

    life: int
    third_restart: float
    seed: list[Run]
    mixin: list[Run]
    exact: list[Run]
    shipped: list[Run]


def measure(promtool: Path) -> list[Row]:
    """Run every rule over every life with promtool."""
    # A scrape never falls on an evaluation: there, Prometheus 2 and 3 disagree about the first sample of a window.
    usual = {
        life: [
            Pod(f"life-{life}-run-{run}", life=life, phase=1 + 7 * run % 29, first_crash=FIRST_CRASH + 11 * run % 30)
            for run in range(12)
        ]
        for life in LIVES
    }
    shipped = {
        life: [
            Pod(f"life-{life}-run-{run}", life=life, scrape=3, phase=1 + run % 2, first_crash=FIRST_CRASH + run)
            for run in range(3)
        ]
        for life in LIVES
    }
    exact = restart_rule("exact", "exact", alerting_keep_firing_for="10m")
    seed = restart_rule("seed", "seed")
    mixin = MIXIN.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as directory:
        at_30 = firing(
            promtool,
            Path(directory),
            {"exact.yml": exact, "seed.yml": seed, "mixin.yml": mixin},
            [pod for pods in usual.values() for pod in pods],
            step=1,
            evaluation=30,
            until=FIRST_CRASH + HOUR,
        )
        at_3 = firing(
            promtool,
            Path(directory),
            {"exact.yml": exact},
            [pod for pods in shipped.values() for pod in pods],
            step=1,
            evaluation=3,
            until=FIRST_CRASH + HOUR // 3,
        )
    return [
        Row(
            life,
            usual[life][0].restarts(FIRST_CRASH + HOUR)[2] - usual[life][0].first_crash,
            seed=[_run(at_30, "seed", pod, 30, HOUR) for pod in usual[life]],
            mixin=[_run(at_30, "mixin", pod, 30, HOUR) for pod in usual[life]],
            exact=[_run(at_30, "exact", pod, 30, HOUR) for pod in usual[life]],
            shipped=[_run(at_3, "exact", pod, 3, HOUR // 3) for pod in shipped[life]],
        )
        for life in LIVES
    ]


def _run(result: Firing, rule: str, pod: Pod, evaluation: int, horizon: int) -> Run:
    """Read one pod's spans of firing."""
    spans = result.get((rule, pod.name), [])
    if not spans:
        return Run(None, 0, None)
    first, last = spans[0]
    restarts = sum(restart <= first for restart in pod.restarts(first))
    end = last + evaluation
    return Run(first - pod.first_crash, restarts, end - pod.first_crash if end <= FIRST_CRASH + horizon else None)


def table(rows: Sequence[Row]) -> str:
    """Return the table in Markdown."""
    lines = [
        "| container lives | third restart | seed rule fires | after restarts | seed rule says resolved, still looping "
        "| `KubePodCrashLooping` fires | exact rule fires (30 s) | exact rule fires (3 s, as shipped) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        counts = sorted({run.restarts for run in row.seed if run.fires is not None})
        lines.append(
            f"| {row.life} s | {_time(row.third_restart)} | {_times([run.fires for run in row.seed])} "
            f"| {' or '.join(map(str, counts)) or '-'} | {_times([run.resolved for run in row.seed])} "
            f"| {_times([run.fires for run in row.mixin])} | {_times([run.fires for run in row.exact])} "
            f"| {_times([run.fires for run in row.shipped])} |"
        )
    return "\n".join(lines)


def _times(times: Sequence[float | None]) -> str:
    """Return the median of what happened, and in how many runs when not in all."""
    happened = [time for time in times if time is not None]
    if not happened:
        return "never"
    share = "" if len(happened) == len(times) else f" ({len(happened)} of {len(times)} runs)"
    return _time(median(happened)) + share


def _time(seconds: float) -> str:
    """Return a time as people read it."""
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.1f} min"


def replaced(text: str, content: str) -> str:
    """Return `text` with `content` between the markers. Raises ValueError when the markers are not there once, in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the page needs the lines {BEGIN} and {END}, once each and in this order")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{content}\n{END}{rest.split(END)[1]}"


def main(arguments: Sequence[str] | None = None, rows: Sequence[Row] | None = None) -> int:
    """Write or check the table; `rows` measured before spare the measurement. Return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the table is not current")
    parser.add_argument("--page", type=Path, default=DOCS, help="the page with the markers")
    options = parser.parse_args(arguments)
    try:
        text = options.page.read_text(encoding="utf-8")
        wanted = replaced(text, table(rows if rows is not None else measure(find_promtool())))
    except (OSError, PromtoolMissing, ValueError) as error:
        print(f"{options.page.name}: {error}", file=sys.stderr)
        return 2
    if text == wanted:
        print(f"{options.page.name}: the table is current")
        return 0
    if options.check:
        print(f"{options.page.name}: the table is not current; run `python tests/rules/table.py`", file=sys.stderr)
        return 1
    options.page.write_text(wanted, encoding="utf-8")
    print(f"{options.page.name}: table written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
