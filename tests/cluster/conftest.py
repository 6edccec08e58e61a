"""A cluster with the whole lab on it, which the scenario `cluster` of molecule has built: VIGIE_CLUSTER_INVENTORY names its inventory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lab_on_cluster import Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    """Return the lab; skipped when there is none."""
    inventory = os.environ.get("VIGIE_CLUSTER_INVENTORY")
    if not inventory:
        pytest.skip("VIGIE_CLUSTER_INVENTORY is not set; 'make e2e' builds a cluster and runs these tests on it.")
    return Lab(Path(inventory), Path(os.environ["VIGIE_STATE_DIR"]))
