"""Python packages, from requirements of which each has its hash."""

from __future__ import annotations

import sys
from pathlib import Path

from vigielab.steps import Job


def pip_install(job: Job, requirements: Path, target: Path, *options: str) -> None:
    """Install the packages of a file with hashes into a folder.

    Raises:
        LabError: they can't be had.
    """
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile"]
    job.run([*pip, "--require-hashes", "--no-deps", *options, "--target", target, "-r", requirements])
