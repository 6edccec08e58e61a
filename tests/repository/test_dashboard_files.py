"""The dashboards that are shipped: current, plausible for Grafana, and made of metrics that exist.

That every panel has data is proven with a real Prometheus, by tests/contract/test_dashboard_check.py.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.vigie.observability.plugins.module_utils.dashboards import read_file
from ansible_collections.vigie.observability.plugins.module_utils.promql import selectors

REPOSITORY = Path(__file__).parents[2]
ROLE = REPOSITORY / "roles/dashboards"
FILES = sorted((ROLE / "files").glob("*.json"))
KUBERNETES = set((Path(__file__).parent / "kubernetes_metrics.txt").read_text().splitlines())
SUMS = re.compile(r"_(bucket|sum|count)$")
KINDS = {"timeseries", "stat", "heatmap", "state-timeline", "table"}

Json = dict[str, Any]


def dashboards() -> list[Json]:
    return [json.loads(path.read_text()) for path in FILES]


def panels(dashboard: Json) -> list[Json]:
    """All panels that show something."""
    return [one for one in dashboard["panels"] if one["type"] != "row"]


def queries() -> set[str]:
    """Every query of every panel and variable."""
    return {query.expr for path in FILES for one in read_file(str(path), {}).panels for query in one.queries}


def metrics() -> set[str]:
    return {one.metric for query in queries() for one in selectors(re.sub(r"\$__\w+", "1m", query))}


# --- current --------------------------------------------------------------------------------------------------------------------------


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dashboards", "--check", "--folder", str(folder)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_the_files_are_what_the_code_says() -> None:
    done = check(ROLE / "files")
    assert done.returncode == 0, done.stderr


def test_a_file_that_was_edited_by_hand_is_seen(tmp_path: Path) -> None:
    shutil.copytree(ROLE / "files", tmp_path / "files")
    one = tmp_path / "files" / "vigie-node.json"
    one.write_text(one.read_text().replace("Load and cores", "Load"))
    (tmp_path / "files" / "vigie-old.json").write_text("{}")
    done = check(tmp_path / "files")
    assert done.returncode == 1 and "vigie-node.json" in done.stderr and "vigie-old.json" in done.stderr
    assert "vigie-drill.json" not in done.stderr


# --- plausible ------------------------------------------------------------------------------------------------------------------------


def test_there_is_what_the_lab_is_about() -> None:
    assert [path.stem for path in FILES] == [one["uid"] for one in dashboards()]
    assert [path.stem for path in FILES] == [
        f"vigie-{name}" for name in ("application", "cluster", "drill", "node", "restarts")
    ]


def test_uids_titles_and_ids_are_unique() -> None:
    for word in ("uid", "title"):
        assert max(Counter(one[word] for one in dashboards()).values()) == 1
    for one in dashboards():
        assert re.fullmatch(r"[a-z-]{1,40}", one["uid"])
        assert max(Counter(panel["id"] for panel in one["panels"]).values()) == 1
        assert max(Counter(panel["title"] for panel in panels(one)).values()) == 1
        for panel in panels(one):
            assert max(Counter(target["refId"] for target in panel["targets"]).values()) == 1


def faults(panel: Json) -> list[str]:
    """What a panel of ours must not lack."""
    found = []
    if panel["type"] not in KINDS:
        found.append(f"type {panel['type']} is new here")
    if not re.search(r"\([^()]+\)$", panel.get("title", "")):
        found.append("its title does not end with the unit in words")
    if not str(panel.get("description", "")).endswith("."):
        found.append("it has no description")
    if not panel["fieldConfig"]["defaults"].get("unit"):
        found.append("it has no unit")
    if panel.get("datasource") != {"type": "prometheus", "uid": "${datasource}"}:
        found.append("its data source is not the variable's")
    targets = panel.get("targets") or []
    if not targets or not all(target.get("expr") for target in targets):
        found.append("it asks nothing")
    if any(target["instant"] == target["range"] for target in targets):
        found.append("a query is neither one moment nor a range")
    if panel["type"] == "stat" and panel["options"]["reduceOptions"]["calcs"] != ["lastNotNull"]:
        found.append("it does not show the newest value")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_panel_is_complete(path: Path) -> None:
    for panel in panels(json.loads(path.read_text())):
        assert faults(panel) == [], panel["title"]


def overlap(one: Json, other: Json) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_panels_lie_beside_each_other(path: Path) -> None:
    places = [panel["gridPos"] for panel in json.loads(path.read_text())["panels"]]
    assert all(one["x"] + one["w"] <= 24 and min(one.values()) >= 0 for one in places)
    assert not any(overlap(one, other) for one, other in combinations(places, 2))


def test_what_grafana_needs_to_provision_them() -> None:
    for one in dashboards():
        assert one["schemaVersion"] >= 39 and one.get("id") is None
        assert not one.keys() & {"__inputs", "__requires"}, "placeholders are replaced at an import by hand only"
        first = one["templating"]["list"][0]
        assert (first["name"], first["type"], first["current"]["value"]) == ("datasource", "datasource", "prometheus")
        assert one["uid"] == "vigie-node" or one["templating"]["list"][1]["name"] == "namespace"
        # The API server takes no object above 1 MiB.
        assert len(json.dumps(one)) < 500_000


def test_the_checkers_see_faults() -> None:
    panel = panels(dashboards()[0])[0]
    changed = {
        "unit in words": {"title": "Requests"},
        "description": {"description": ""},
        "no unit": {"fieldConfig": {"defaults": {}}},
        "data source": {"datasource": {"type": "prometheus", "uid": "abc"}},
        "asks nothing": {"targets": []},
        "is new here": {"type": "graph"},
        "neither": {"targets": [{"expr": "up", "instant": True, "range": True}]},
    }
    for words, change in changed.items():
        assert words in "\n".join(faults({**panel, **change}))
    assert overlap({"x": 0, "y": 0, "w": 12, "h": 8}, {"x": 11, "y": 7, "w": 1, "h": 1})
    assert not overlap({"x": 0, "y": 0, "w": 12, "h": 8}, {"x": 12, "y": 0, "w": 12, "h": 8})


# --- made of metrics that exist -------------------------------------------------------------------------------------------------------


def test_metrics_of_kubernetes_exist() -> None:
    used = {name for name in metrics() if name.startswith(("kube_", "container_"))}
    assert len(used) > 10 and sorted(used - KUBERNETES) == []


def test_the_applications_four_metrics_are_shown() -> None:
    used = {SUMS.sub("", name) for name in metrics()}
    assert {"http_requests_total", "active_users", "request_duration_seconds", "request_latency_seconds"} <= used


def test_nothing_hides_a_metric_that_is_gone() -> None:
    """A fallback shows a zero for ever; what may be empty says so instead."""
    assert [query for query in queries() if re.search(r"\bor\b|\babsent", query)] == []


# --- the role -------------------------------------------------------------------------------------------------------------------------


def test_the_charts_values_are_those_of_the_chart() -> None:
    (table,) = (REPOSITORY / "tests/charts").glob("kube-prometheus-stack-*.keys.tsv")
    known = {line.split("\t")[0] for line in table.read_text().splitlines()}
    values = yaml.safe_load((ROLE / "vars/main.yml").read_text())["dashboards_chart_grafana"]

    def paths(value: Any, at: str) -> list[str]:
        if at in known or not isinstance(value, dict):
            return [at]
        return [path for key, inner in value.items() for path in paths(inner, f"{at}.{key}")]

    assert sorted(set(paths(values, "grafana")) - known) == []
    # What the chart's sidecar looks for is what our objects carry.
    sidecar = values["sidecar"]
    template = (ROLE / "templates/configmaps.yml.j2").read_text()
    for kind in ("dashboards", "datasources"):
        assert f"'{sidecar[kind]['label']}': '{sidecar[kind]['labelValue']}'" in template


def test_links_lead_to_the_data_source_that_is_brought() -> None:
    sources = yaml.safe_load((ROLE / "vars/main.yml").read_text())["dashboards_datasources"]
    assert [one["uid"] for one in sources if one.get("isDefault")] == ["prometheus"]
    assert len({one["uid"] for one in sources}) == len(sources)
