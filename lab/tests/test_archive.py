"""Images: what Docker and containerd read, the same for the same contents."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path

from vigielab import archive


def build(folder: Path) -> Path:
    folder.mkdir()
    program = folder / "program"
    program.write_bytes(b"\x7fELF program")
    program.chmod(0o700)
    archive.layer(
        folder / "layer.tar", {"/usr/local/bin/program": program, "/etc/note": b"text"}, folders={"/tmp": 0o1777}
    )
    archive.image(
        folder / "image.tar",
        "registry.example/some/program:v1",
        [folder / "layer.tar"],
        architecture="amd64",
        config={"Entrypoint": ["/usr/local/bin/program"]},
        origin="example.com/program v1",
    )
    return folder / "image.tar"


def test_an_image_is_what_docker_save_writes(tmp_path: Path) -> None:
    with tarfile.open(build(tmp_path / "a")) as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    (manifest,) = json.loads(contents["manifest.json"])
    assert manifest["RepoTags"] == ["registry.example/some/program:v1"]
    text = contents[manifest["Config"]]
    assert manifest["Config"] == f"{hashlib.sha256(text).hexdigest()}.json"
    config = json.loads(text)
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    assert config["config"]["Entrypoint"] == ["/usr/local/bin/program"]
    assert "example.com/program v1" in config["config"]["Labels"]["org.opencontainers.image.description"]
    layers = [f"sha256:{hashlib.sha256(contents[name]).hexdigest()}" for name in manifest["Layers"]]
    assert config["rootfs"]["diff_ids"] == layers


def test_a_layer_has_folders_modes_and_no_trace_of_the_machine(tmp_path: Path) -> None:
    build(tmp_path / "a")
    with tarfile.open(tmp_path / "a" / "layer.tar") as tar:
        members = {member.name: member for member in tar}
    assert list(members) == ["tmp", "etc", "etc/note", "usr", "usr/local", "usr/local/bin", "usr/local/bin/program"]
    assert oct(members["tmp"].mode) == "0o1777"
    assert oct(members["usr/local/bin/program"].mode) == "0o755"
    assert oct(members["etc/note"].mode) == "0o644"
    assert {(member.mtime, member.uid, member.gid, member.uname) for member in members.values()} == {(0, 0, 0, "")}


def test_equal_contents_make_equal_images(tmp_path: Path) -> None:
    first, second = build(tmp_path / "a"), build(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_placing_replaces(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("new")
    target = tmp_path / "below" / "target"
    target.parent.mkdir()
    target.write_text("old")
    archive.place(tmp_path / "source", target)
    assert target.read_text() == "new"
    assert os.stat(target).st_ino == os.stat(tmp_path / "source").st_ino


def test_a_chart_is_packed_the_same_every_time(tmp_path: Path) -> None:
    chart = tmp_path / "small"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("name: small\n")
    (chart / "templates" / "all.tpl").write_text("kind: None\n")
    archive.chart(tmp_path / "a.tgz", chart)
    os.utime(chart / "Chart.yaml", (1, 1))
    (chart / "Chart.yaml").chmod(0o600)
    archive.chart(tmp_path / "b.tgz", chart)
    assert (tmp_path / "a.tgz").read_bytes() == (tmp_path / "b.tgz").read_bytes()
    with tarfile.open(tmp_path / "a.tgz") as tar:
        assert tar.getnames() == ["small/Chart.yaml", "small/templates/all.tpl"]
