"""The command: what it refuses, before anything is made."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import build
from vigielab import golang, plan
from vigielab.steps import Job, LabError, Step, Workshop


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["build.py", *map(str, arguments)])
    return build.main()


def test_an_unknown_component_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--root", tmp_path / "lab", "--only", "cluster", "grafana") == 1
    assert (
        "--only grafana: not known; choose cluster, monitoring, telemetry, or of: alertmanager, "
        in capsys.readouterr().err
    )
    assert not (tmp_path / "lab").exists()


def test_another_architecture_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert run(monkeypatch, "--root", tmp_path / "lab") == 1
    assert "This machine is riscv64" in capsys.readouterr().err
    assert not (tmp_path / "lab").exists()


def test_a_small_disk_is_refused_unless_the_build_only_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3_000_000_000))
    with pytest.raises(LabError, match="has 3 GB free, and a build from nothing takes 28; set VIGIE_LAB_DIR"):
        build.require_disk(tmp_path, [])
    (tmp_path / "cache").mkdir()
    build.require_disk(tmp_path, [])


def test_parts_take_less_disk_than_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=20_000_000_000))
    build.require_disk(tmp_path, ["cluster"])
    build.require_disk(tmp_path, ["cluster", "monitoring"], lean=True)
    with pytest.raises(LabError, match="has 20 GB free, and a build from nothing takes 24"):
        build.require_disk(tmp_path, ["cluster", "monitoring"])
    with pytest.raises(LabError, match="has 20 GB free, and a build from nothing takes 28"):
        build.require_disk(tmp_path, ["cluster", "jaeger"])


def test_a_lean_build_makes_one_part_after_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[str] = []
    monkeypatch.setattr(build, "require_packages", lambda: None)
    monkeypatch.setattr(build, "assemble", lambda workshop, names, architecture: made.append(" ".join(names)))
    monkeypatch.setattr(build, "report", lambda workshop, manifest, seconds: None)
    monkeypatch.setattr(Workshop, "make", lambda workshop, names: made.append(" ".join(names)))
    # The one of an earlier call stays in the bundle.
    monkeypatch.setattr(Workshop, "complete", lambda workshop, name: name in {"jaeger-image", *" ".join(made).split()})
    monkeypatch.setattr(golang, "forget", lambda root: made.append("forget"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=20_000_000_000))
    assert run(monkeypatch, "--root", tmp_path / "lab", "--only", "cluster", "monitoring", "--lean") == 0
    cluster, forgotten, monitoring, forgotten_again, both = made
    assert forgotten == forgotten_again == "forget"
    assert {*cluster.split(), *monitoring.split(), "jaeger-image"} == set(both.split())
    assert (
        "kubelet" in cluster.split()
        and "kubelet" not in monitoring.split()
        and "prometheus-image" in monitoring.split()
    )


def test_the_compilers_caches_go_and_the_programs_stay(tmp_path: Path) -> None:
    for name in ("cache/kubelet/1", "cache/kubernetes-source/2", "go/mod", "go/build"):
        (tmp_path / name).mkdir(parents=True)
    golang.forget(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["1", "cache", "kubelet"]


def test_missing_packages_are_named_to_who_may_not_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "mmdebstrap" else f"/usr/bin/{program}")
    monkeypatch.setattr(build, "FILES", {})
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(LabError, match=r"needs mmdebstrap; run 'sudo apt-get install .* mmdebstrap'"):
        build.require_packages()


@pytest.fixture
def workshop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workshop:
    """A workshop of which the results are two small files."""

    def step(name: str) -> Step:
        def make(job: Job) -> None:
            (job.out / name).write_text(f"content of {name}")

        return Step(name, make)

    def entries(names: list[str], architecture: str) -> list[tuple[dict[str, str], str, str]]:
        keys = {"version": "1.0", "kind": "binary", "architecture": architecture}
        return [({"name": name, **keys, "file": f"binaries/{name}"}, name, name) for name in names]

    monkeypatch.setattr(plan, "entries", entries)
    made = Workshop(tmp_path, {name: step(name) for name in ("a", "b")}, {"compile": 1}, lambda line: None)
    made.make(["a", "b"])
    return made


def test_the_bundle_is_one_that_roles_read(workshop: Workshop) -> None:
    from ansible_collections.vigie.observability.plugins.module_utils.bundle import Bundle

    build.assemble(workshop, ["a", "b"], "amd64")
    bundle = Bundle(workshop.root / "bundle")
    for artifact in bundle.artifacts:
        assert bundle.verify(artifact).read_text() == f"content of {artifact.name}"
    assert [artifact.name for artifact in bundle.artifacts] == ["a", "b"]


def test_what_is_not_wanted_any_more_leaves_the_bundle(workshop: Workshop) -> None:
    build.assemble(workshop, ["a", "b"], "amd64")
    build.assemble(workshop, ["b"], "amd64")
    bundle = workshop.root / "bundle"
    assert sorted(str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()) == [
        "binaries/b",
        "manifest.yml",
    ]
    assert [entry["name"] for entry in yaml.safe_load((bundle / "manifest.yml").read_text())] == ["b"]


def test_an_unchanged_bundle_is_left_alone(workshop: Workshop) -> None:
    build.assemble(workshop, ["a", "b"], "amd64")
    before = (workshop.root / "bundle" / "manifest.yml").stat()
    build.assemble(workshop, ["a", "b"], "amd64")
    assert (workshop.root / "bundle" / "manifest.yml").stat().st_mtime_ns == before.st_mtime_ns
    (workshop.root / "bundle" / "binaries" / "a").unlink()
    build.assemble(workshop, ["a", "b"], "amd64")
    assert (workshop.root / "bundle" / "binaries" / "a").exists()
