"""Fixtures of the chart tests; the helpers beside this file are imported by name, whatever pytest's import mode."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "rules"))

from rendering import find_crds, find_helm, from_lab, render_chart, render_roles

CHOICES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "full": {"monitoring_profile": "full", "vigie_profile": "fast", "monitoring_storage_class": "standard"},
    "bare": {
        "monitoring_control_plane": False,
        "monitoring_storage_size": "",
        "monitoring_namespace": "watch",
        "vigie_namespace": "shop",
        "monitoring_resources": {"prometheus": {"limits": {"memory": "2Gi"}}},
        "monitoring_extra_scrape_configs": [{"job_name": "x", "static_configs": [{"targets": ["a:1"]}]}],
    },
}


@pytest.fixture(scope="session")
def helm() -> Path:
    """Return Helm."""
    return from_lab(find_helm)


@pytest.fixture(scope="session")
def crds() -> Path:
    """Return the manifest of the operator's definitions."""
    return from_lab(find_crds)


@pytest.fixture(scope="session", params=CHOICES)
def roles(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the roles hand to the cluster, for each of the choices; `name` is the choice's."""
    objects = render_roles(tmp_path_factory.mktemp("roles") / "play", **CHOICES[request.param])
    return objects | {"name": request.param}


@pytest.fixture(scope="session")
def objects(roles: dict[str, Any], helm: Path) -> list[dict[str, Any]]:
    """Return all objects of the cluster, the chart's and the roles'."""
    return render_chart(helm, roles["values"], roles["release"], roles["namespace"]) + roles["objects"]
