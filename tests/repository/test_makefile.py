"""What the targets of the Makefile promise beyond calling a playbook."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    for name in ("old", "new"):
        (tmp_path / "out/drill" / name).mkdir(parents=True)
        (tmp_path / "out/drill" / name / "summary.txt").write_text(f"{name} report\n")
    (tmp_path / "out/drill/latest").symlink_to("old")
    return tmp_path


def make(checkout: Path, target: str, play: str) -> subprocess.CompletedProcess[str]:
    command = ["make", target, "PYTHON=true", f"PLAY={play}", f"VIGIE_STATE_DIR={checkout / 'state'}"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def test_a_drill_that_wrote_no_report_shows_no_older_one(checkout: Path) -> None:
    done = make(checkout, "drill", "false")
    assert done.returncode != 0
    assert "report" not in done.stdout


def test_a_drill_shows_its_report_and_keeps_its_exit_status(checkout: Path) -> None:
    play = checkout / "play"
    play.write_text("#!/bin/sh\nln -sfn new out/drill/latest\nexit 3\n")
    play.chmod(0o755)
    done = make(checkout, "drill", str(play))
    assert "new report" in done.stdout
    assert done.returncode != 0


def test_purge_leaves_no_file(checkout: Path) -> None:
    (checkout / "state/data").mkdir(parents=True)
    done = make(checkout, "down", "false")
    assert "Nothing to stop" in done.stdout and (checkout / "state").exists()
    subprocess.run(
        ["make", "down", "PURGE=1", f"VIGIE_STATE_DIR={checkout / 'state'}"],
        cwd=checkout,
        check=True,
        capture_output=True,
    )
    assert not (checkout / "state").exists() and not (checkout / "out").exists()
