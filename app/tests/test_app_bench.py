"""The benchmark runs and prints what its readers expect; what it measures is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1] / "bench.py"


def test_json_output():
    command = [sys.executable, str(BENCH), "--rounds", "1", "--requests", "20", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode in (0, 1), result.stderr
    report = json.loads(result.stdout)
    names = [row["name"] for row in report["variants"]]
    assert (names[0], names[-1]) == ("bare Flask", "+ metrics, JSON logs, traces")
    assert report["variants"][0]["added_us"] == 0
    assert all(row["us"] > 0 for row in report["variants"])
    assert [row["budget_us"] for row in report["variants"]] == [None, 25.0, None, None, 200.0]
    assert report["ok"] is (result.returncode == 0)
