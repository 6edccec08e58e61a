"""The module itself: options in, files and result out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.vigie.observability.plugins.module_utils.report import STAGES
from ansible_collections.vigie.observability.plugins.modules import drill_report

FIXTURES = Path(__file__).parents[2] / "fixtures"
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, run_main: Run) -> Run:
    """Return a function that runs the module on a scenario and returns its result."""

    def call(scenario: str = "pass", **options: Any) -> dict[str, Any]:
        given = json.loads((FIXTURES / f"report_{scenario}.json").read_text())
        return run_main(drill_report.main, {"dest": str(tmp_path / "drill"), **given, **options})

    return call


def test_pass(run: Run, tmp_path: Path) -> None:
    result = run()
    folder = tmp_path / "drill" / "20261124-110340-3fa1c"
    assert (result["changed"], result["verdict"], result["failed_stage"]) == (True, "pass", None)
    assert (result["reason"], result["hint"], result["pruned"]) == ("ok", "", [])
    assert result["path"] == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["junit.xml", "report.html", "report.json", "summary.txt"]
    assert (tmp_path / "drill" / "latest").readlink() == Path(folder.name)
    report = json.loads((folder / "report.json").read_text())
    assert report["verdict"] == "pass"
    assert [stage["name"] for stage in report["stages"]] == [name for name in STAGES if name not in ("log", "trace")]
    assert (folder / "summary.txt").read_text(encoding="ascii").splitlines() == result["table"]
    assert result["table"][-1] == f"Report: {folder}/report.html"


def test_again_changes_nothing(run: Run) -> None:
    run()
    assert run()["changed"] is False


def test_a_failed_drill_is_reported_not_raised(run: Run) -> None:
    result = run("routed")
    assert "failed" not in result
    assert (result["verdict"], result["failed_stage"], result["reason"]) == ("fail", "routed", "route_elsewhere")
    assert "'amtool config routes test" in result["hint"]


def test_check_mode_writes_nothing(run: Run, tmp_path: Path) -> None:
    result = run(_ansible_check_mode=True)
    assert (result["changed"], result["verdict"]) == (True, "pass")
    assert list(tmp_path.iterdir()) == []


def test_numbers_may_come_as_text_and_nothing_as_null(run: Run, tmp_path: Path) -> None:
    stages = [
        {
            "name": "baseline",
            "started": "1795518220.5",
            "finished": "1795518221",
            "budget_seconds": None,
            "ok": None,
        }
    ]
    result = run(stages=stages, negatives=[], expected_stages=["baseline"], started="1795518220")
    assert "failed" not in result, result["msg"]
    assert result["verdict"] == "pass"
    report = json.loads((Path(result["path"]) / "report.json").read_text())
    assert report["stages"][0]["seconds"] == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run_id": "../up"}, "run_id='../up'"),
        ({"keep": 0}, "keep=0"),
        ({"expected_stages": ["baseline"]}, "is not one of the expected_stages baseline"),
        ({"expected_stages": ["launch"]}, "expected_stages"),
        ({"started": 1795518220123}, "milliseconds"),
        ({"stages": [{"name": "crash", "seconds": 4}], "negatives": []}, "seconds"),
    ],
)
def test_bad_options_are_named_and_nothing_is_written(
    run: Run, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    result = run(**options)
    assert result["failed"] is True
    assert message in result["msg"]
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(dest=str(tmp_path / "file" / "drill"))
    assert result["failed"] is True
    assert f"dest={tmp_path}/file/drill: the report can't be written" in result["msg"]


def test_old_runs_are_pruned(run: Run, tmp_path: Path) -> None:
    run()
    result = run("over_budget", keep=1)
    assert result["pruned"] == ["20261124-110340-3fa1c"]
    assert sorted(path.name for path in (tmp_path / "drill").iterdir()) == ["20261124-113500-77aa0", "latest"]


def test_documented_stages_are_the_real_ones() -> None:
    documented = yaml.safe_load(drill_report.DOCUMENTATION)["options"]["expected_stages"]
    assert documented["choices"] == documented["default"] == list(STAGES)
