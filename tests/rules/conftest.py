"""Fixtures of the rule tests; the helpers beside this file are imported by name, whatever pytest's import mode."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from promtool_runner import PromtoolMissing, find_promtool


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Return the promtool to test with; its absence is a failure, since nothing here means anything without it."""
    try:
        return find_promtool()
    except PromtoolMissing as error:
        pytest.fail(str(error), pytrace=False)
