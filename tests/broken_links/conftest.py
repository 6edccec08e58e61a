"""One lab for the whole session; a test leaves it as it found it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Real servers and helpers that the contract tests have already.
sys.path[:0] = [str(HERE), str(HERE.parent / "contract"), str(HERE.parent / "contract_mail")]

from own_lab import Lab, own_lab  # noqa: E402 - found by the path above


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A real lab, built by site.yml and removed at the end of the session."""
    with own_lab() as built:
        yield built
