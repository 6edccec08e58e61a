"""`make up` killed at any point and run again converges."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_lab import REPOSITORY, Lab, own_lab, play_command, play_environment

INTERRUPTIONS = (3.0, 7.0, 11.0, 16.0, 22.0)
"""Seconds after which a run is killed. Each run starts where the one before was killed, so that they reach further."""


@pytest.fixture
def empty_lab() -> Iterator[Lab]:
    with own_lab(build=False) as lab:
        yield lab


def killed_after(lab: Lab, seconds: float) -> bool:
    """Start site.yml and kill it with all its children; returns whether it was still running."""
    process = subprocess.Popen(
        play_command("site.yml", lab.variables),
        cwd=REPOSITORY,
        env=play_environment(lab.state),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(timeout=seconds)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def test_killed_again_and_again_it_converges(empty_lab: Lab) -> None:
    killed = [seconds for seconds in INTERRUPTIONS if killed_after(empty_lab, seconds)]
    assert len(killed) >= 3, "the runs were too quick to be interrupted"
    time.sleep(1)
    empty_lab.build()
    assert "changed=0 " in empty_lab.build()
    leftovers = [str(path) for path in Path(empty_lab.state).rglob("*.partial")]
    assert leftovers == []
