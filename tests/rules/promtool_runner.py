"""Run promtool and read back when each alert fires."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from restart_series import Pod

Firing = Mapping[tuple[str, str], list[tuple[int, int]]]

PROBE = "Probe"
_QUERY = 'count by (alertname, rule, pod) (ALERTS{alertstate="firing"})'
_ANSWER = re.compile(r"time: (?P<time>\S+),\s+exp:.*\n\s+got:(?P<got>.*)")
_SAMPLE = re.compile(r"\{(?P<labels>[^{}]*)\}")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class PromtoolMissing(RuntimeError):
    """No promtool on this machine."""


def find_promtool() -> Path:
    """Return promtool: VIGIE_PROMTOOL, else the lab's own package, else PATH.

    Raises PromtoolMissing with the remedy.
    """
    if named := os.environ.get("VIGIE_PROMTOOL"):
        if not os.access(named, os.X_OK):
            raise PromtoolMissing(
                f"VIGIE_PROMTOOL names {named}, which is not an executable file; correct or unset it."
            )
        return Path(named)
    state = Path(os.environ.get("VIGIE_STATE_DIR") or "~/.local/state/vigie").expanduser()
    for candidate in sorted(state.glob("packages/*/usr/bin/promtool"), reverse=True):
        return candidate
    if found := shutil.which("promtool"):
        return Path(found)
    raise PromtoolMissing(
        f"promtool is neither in VIGIE_PROMTOOL, nor under {state}/packages, nor on PATH; "
        "run `make up` once or set VIGIE_PROMTOOL to the binary."
    )


def check_rules(promtool: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """Run `promtool check rules` on one file."""
    return subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, check=False)


def run_suite(promtool: Path, directory: Path, suite: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    """Write a promtool unit-test file into `directory` and run it there."""
    path = directory / "test.yml"
    path.write_text(json.dumps(suite, indent=1), encoding="utf-8")  # JSON is YAML, and quick to write
    return subprocess.run(
        [promtool, "test", "rules", path.name], cwd=directory, capture_output=True, text=True, check=False
    )


def firing(
    promtool: Path,
    directory: Path,
    files: Mapping[str, str],
    pods: Iterable[Pod],
    *,
    step: int,
    evaluation: int,
    until: int,
    extra_series: Iterable[Mapping[str, str]] = (),
) -> Firing:
    """Evaluate rule files over the pods' series and return when each alert was firing.

    The key is (rule, pod): `rule` is the label `rule` of the alert if it has one, else its name; `pod` is empty for alerts
    without that label. The value lists (first, last) evaluation at which the alert was firing, in seconds. `step` is the
    grid of the series, `evaluation` the interval of every group (promtool has one), `until` the end, all in seconds.

    promtool prints what it evaluated only for expectations that fail, so every evaluation is expected to show nothing. A rule
    that always fires guards the reading of that output: raises RuntimeError when it is not seen at each evaluation.
    """
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
    probe = {"alert": PROBE, "expr": "vector(1)"}
    (directory / "probe.yml").write_text(json.dumps({"groups": [{"name": "probe", "rules": [probe]}]}))
    times = range(0, until + 1, evaluation)
    suite = {
        "rule_files": [*files, "probe.yml"],
        "evaluation_interval": f"{evaluation}s",
        "tests": [
            {
                "interval": f"{step}s",
                "input_series": [*extra_series, *(series for pod in pods for series in pod.series(step, until))],
                "promql_expr_test": [{"expr": _QUERY, "eval_time": f"{at}s", "exp_samples": []} for at in times],
            }
        ],
    }
    result = run_suite(promtool, directory, suite)
    seen: dict[tuple[str, str], list[int]] = defaultdict(list)
    for answer in _ANSWER.finditer(result.stdout + result.stderr):
        for sample in _SAMPLE.finditer(answer["got"]):
            labels: dict[str, str] = dict(_LABEL.findall(sample["labels"]))
            seen[labels.get("rule", labels["alertname"]), labels.get("pod", "")].append(_seconds(answer["time"]))
    if seen.pop((PROBE, ""), []) != list(times):
        raise RuntimeError(
            f"promtool did not answer for each evaluation:\n{result.stdout[-2000:]}{result.stderr[-2000:]}"
        )
    return {key: _spans(found, evaluation) for key, found in seen.items()}


def _seconds(duration: str) -> int:
    """Return the seconds of a Prometheus duration such as 1h2m3s."""
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise RuntimeError(f"promtool printed a time that is not a duration: {duration}")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _spans(times: list[int], evaluation: int) -> list[tuple[int, int]]:
    """Join evaluation times that follow each other."""
    spans: list[tuple[int, int]] = []
    for at in sorted(times):
        if spans and at - spans[-1][1] == evaluation:
            spans[-1] = (spans[-1][0], at)
        else:
            spans.append((at, at))
    return spans
