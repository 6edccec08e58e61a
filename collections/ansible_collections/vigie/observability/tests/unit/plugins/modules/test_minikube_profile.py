"""The life of a profile, against programs that play Docker and Minikube: what is done, and what is never done."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.vigie.observability.plugins.module_utils import minikube as logic
from ansible_collections.vigie.observability.plugins.module_utils.minikube import Answer
from ansible_collections.vigie.observability.plugins.modules import minikube_profile

Run = Callable[..., dict[str, Any]]
NAME = "vigie"
IMAGE = "registry.example/kicbase:v1"
OWN_IMAGE = "upstream.example/minikube/kicbase:v2@sha256:eb4fec"
RUNNING = {"Name": NAME, "Host": "Running", "Kubelet": "Running", "APIServer": "Running", "Kubeconfig": "Configured"}


class World:
    """Docker and Minikube: what they hold, what they were told, and which starts fail."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "home" / ".minikube"
        self.profile = self.data / "profiles" / NAME
        self.container: dict[str, Any] | None = None
        self.accepted: str | None = None
        self.network = self.volume = False
        self.docker_answers = True
        self.starts_that_fail = 0
        self.downloads_that_fail = 0
        self.status = dict(RUNNING)
        self.told: list[str] = []
        self.starts: list[list[str]] = []

    def __call__(self, command: list[str], environment: dict[str, str], timeout: float) -> Answer:
        program, action = Path(command[0]).name, command[1]
        if program == "docker":
            return self.docker(command[1:])
        assert program == "minikube"
        assert f"--profile={NAME}" in command
        assert environment["MINIKUBE_HOME"] == str(self.data.parent)
        assert Path(environment["TMPDIR"]).is_dir()
        assert timeout > 0
        if action != "status":
            self.told.append(action)
        return getattr(self, action)(command[2:])

    def docker(self, arguments: list[str]) -> Answer:
        if not self.docker_answers:
            return Answer(1, b"", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.")
        if arguments[0] == "cp":
            if self.accepted is None:
                return Answer(1, b"", "Error: No such container:path")
            raw = io.BytesIO()
            with tarfile.open(fileobj=raw, mode="w") as tar:
                info = tarfile.TarInfo("authorized_keys")
                info.size = len(self.accepted)
                tar.addfile(info, io.BytesIO(self.accepted.encode()))
            return Answer(0, raw.getvalue(), "")
        kind = arguments[0]
        assert arguments[1:] == ["inspect", NAME]
        found = getattr(self, kind)
        if not found:
            return Answer(1, b"[]", f"Error: No such {kind}: {NAME}")
        return Answer(0, json.dumps([found if isinstance(found, dict) else {}]).encode(), "")

    def half_made(self) -> None:
        """Leave what a start leaves that was killed before the node had a key."""
        self.write_config({"cpus": "2", "memory": "4096mb", "kubernetes-version": "v1.35.8", "base-image": IMAGE})
        self.container = {
            "State": {"Status": "running"},
            "Config": {"Labels": {"created_by.minikube.sigs.k8s.io": "true"}},
        }
        self.network = self.volume = True
        self.status = {**RUNNING, "Kubelet": "Stopped", "APIServer": "Stopped"}

    def write_config(self, options: dict[str, str]) -> None:
        self.profile.mkdir(parents=True, exist_ok=True)
        extra = [value.split(".", 1) for key, value in options.items() if key.startswith("extra-config")]
        config = {
            "Driver": "docker",
            "KicBaseImage": options["base-image"],
            "CPUs": int(options["cpus"]),
            "Memory": int(options["memory"].removesuffix("mb")),
            "KubernetesConfig": {
                "KubernetesVersion": options["kubernetes-version"],
                "ContainerRuntime": options.get("container-runtime", "containerd"),
                "CNI": options.get("cni", "bridge"),
                "ExtraOptions": [
                    {"Component": component, "Key": rest.split("=")[0], "Value": rest.split("=", 1)[1]}
                    for component, rest in extra
                ],
            },
        }
        (self.profile / "config.json").write_text(json.dumps(config))

    def start(self, arguments: list[str]) -> Answer:
        if "--help" in arguments:
            self.told.pop()
            return Answer(0, f"    --base-image='{OWN_IMAGE}':\n\tThe base image\n".encode(), "")
        self.starts.append(arguments)
        options = {}
        for number, argument in enumerate(arguments):
            name, dummy, value = argument.removeprefix("--").partition("=")
            options[f"{name}{number}" if name == "extra-config" else name] = value
        options.setdefault("base-image", OWN_IMAGE)
        self.write_config(options)
        if "download-only" in options:
            self.told[-1] = "download"
            self.downloads_that_fail -= 1
            failed = self.downloads_that_fail >= 0
            return Answer(64, b"", "X Exiting due to INET_CACHE_BINARIES: kubelet\n") if failed else Answer(0, b"", "")
        if self.starts_that_fail:
            self.starts_that_fail -= 1
            return Answer(80, b"", "X Exiting due to GUEST_PROVISION: the node is broken\n* a box of advice\n")
        key = self.data / "machines" / NAME / "id_rsa.pub"
        key.parent.mkdir(parents=True, exist_ok=True)
        key.write_text("ssh-rsa OUR\n")
        self.accepted = "ssh-rsa OUR\n"
        self.container = {"State": {"Status": "running"}}
        self.network = self.volume = True
        self.status = dict(RUNNING)
        return Answer(0, b"Done!", "")

    def stop(self, _arguments: list[str]) -> Answer:
        assert self.container
        self.container["State"]["Status"] = "exited"
        self.status = {
            **RUNNING,
            "Host": "Stopped",
            "Kubelet": "Stopped",
            "APIServer": "Stopped",
            "Kubeconfig": "Stopped",
        }
        return Answer(0, b"", "")

    def delete(self, _arguments: list[str]) -> Answer:
        shutil.rmtree(self.profile, ignore_errors=True)
        shutil.rmtree(self.data / "machines" / NAME, ignore_errors=True)
        self.container, self.accepted, self.network, self.volume = None, None, False, False
        return Answer(0, b"", "")

    def status_answer(self) -> Answer:
        return Answer(0 if self.status == RUNNING else 2, json.dumps(self.status).encode(), "")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)

    def run(command: list[str], environment: dict[str, str], timeout: float) -> Answer:
        if Path(command[0]).name == "minikube" and command[1] == "status":
            return made.status_answer()
        return made(command, environment, timeout)

    monkeypatch.setattr(logic.Profile.__init__, "__kwdefaults__", {"docker": "docker", "run": run})
    return made


@pytest.fixture
def run(tmp_path: Path, run_main: Run) -> Run:
    def call(**options: Any) -> dict[str, Any]:
        given = {
            "name": NAME,
            "home": str(tmp_path / "home"),
            "kubeconfig": str(tmp_path / "kubeconfig"),
            "executable": "/opt/minikube",
            "kubernetes_version": "1.35.8",
            "base_image": IMAGE,
            **options,
        }
        result = run_main(minikube_profile.main, {key: value for key, value in given.items() if value is not None})
        assert {"reason", "hint"} <= result.keys()
        return result

    return call


def test_a_profile_is_created_and_then_left_alone(world: World, run: Run) -> None:
    result = run()
    assert (result["changed"], result["action"]) == (True, "created")
    again = run()
    assert (again["changed"], again["action"], again["observed"]["container"]) == (False, "none", "running")
    assert run(_ansible_check_mode=True)["changed"] is False
    assert world.told == ["start"]


def test_the_start_says_everything(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logic.os, "geteuid", lambda: 1000)
    run(extra_config={"kubelet.max-pods": 20}, preload=False, cpus=3, memory=6000, wait_timeout=100)
    assert world.starts == [
        [
            "--driver=docker",
            f"--base-image={IMAGE}",
            "--kubernetes-version=v1.35.8",
            "--container-runtime=containerd",
            "--cni=bridge",
            "--cpus=3",
            "--memory=6000mb",
            "--preload=false",
            "--cache-images=true",
            "--embed-certs",
            "--interactive=false",
            "--wait=all",
            "--wait-timeout=100s",
            "--extra-config=kubelet.max-pods=20",
            f"--profile={NAME}",
        ]
    ]


@pytest.mark.parametrize(("uid", "forced"), [(0, True), (1000, False)])
def test_only_root_needs_force(world: World, run: Run, monkeypatch: pytest.MonkeyPatch, uid: int, forced: bool) -> None:
    monkeypatch.setattr(logic.os, "geteuid", lambda: uid)
    run()
    assert ("--force" in world.starts[0]) == forced


def test_what_ran_before_starts_whether_or_not_its_version_can_be_looked_up(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logic.os, "geteuid", lambda: 1000)
    run()
    run(state="stopped")
    run()
    assert ["--force" in start for start in world.starts] == [False, True]


def test_upstream_minikube_chooses_its_image_and_downloads(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logic.os, "geteuid", lambda: 1000)
    run(base_image=None)
    assert world.told == ["start"]
    assert world.starts == [
        [
            "--driver=docker",
            "--kubernetes-version=v1.35.8",
            "--container-runtime=containerd",
            "--cni=bridge",
            "--cpus=2",
            "--memory=4096mb",
            "--preload=true",
            "--cache-images=true",
            "--embed-certs",
            "--interactive=false",
            "--wait=all",
            "--wait-timeout=360s",
            f"--profile={NAME}",
        ]
    ]


def test_with_mirrors_programs_come_first_and_the_image_keeps_name_and_digest(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logic.os, "geteuid", lambda: 1000)
    run(
        base_image=None,
        base_image_registry="mirror.example:5000/google/minikube",
        binary_mirror="https://mirror.example/release",
        preload=False,
        cache_images=False,
        force=True,
    )
    assert world.told == ["download", "start"]
    download, start = world.starts
    assert [argument for argument in download if argument not in start] == ["--download-only"]
    assert [argument for argument in start if argument not in download] == []
    assert {
        "--base-image=mirror.example:5000/google/minikube/kicbase:v2@sha256:eb4fec",
        "--binary-mirror=https://mirror.example/release",
        "--preload=false",
        "--cache-images=false",
        "--force",
    } <= set(start)


def test_an_image_that_is_named_needs_no_question(world: World, run: Run) -> None:
    run(base_image_registry="mirror.example/minikube")
    assert f"--base-image={IMAGE}" in world.starts[0]


def test_a_failed_download_makes_nothing_of_docker(world: World, run: Run) -> None:
    world.downloads_that_fail = 1
    result = run(binary_mirror="https://mirror.example/release")
    assert (result["reason"], "INET_CACHE_BINARIES: kubelet" in result["hint"]) == ("download_failed", True)
    assert (world.told, world.container) == (["download"], None)
    assert run(binary_mirror="https://mirror.example/release")["action"] == "repaired"


def test_minikubes_own_image_is_no_difference(world: World, run: Run) -> None:
    run(base_image=None)
    assert run(base_image=None)["action"] == "none"
    assert run(base_image=None, base_image_registry="mirror.example/minikube")["action"] == "none"
    # Without the digest it is the same image.
    assert run(base_image=OWN_IMAGE.split("@", maxsplit=1)[0])["action"] == "none"
    assert run(base_image="other/kicbase:v2")["reason"] == "needs_recreate"


def test_a_minikube_that_does_not_say_its_image_is_told(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "start", lambda _arguments: Answer(0, b"no such option", ""))
    result = run(base_image=None, base_image_registry="mirror.example/minikube")
    assert (result["reason"], "start --help" in result["hint"]) == ("start_failed", True)


def image_archive(path: Path, names: list[str]) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 2000
            archive.addfile(info, io.BytesIO(b"x" * 2000))
    return path.read_bytes()


def test_unfinished_downloads_are_thrown_away_before_a_start(world: World, run: Run) -> None:
    cache = world.data / "cache"
    kept = [
        cache / "kic/amd64/whole.tar",
        cache / "linux/amd64/v1.35.8/kubelet",
        cache / "images/amd64/half.tar",
    ]
    gone = [
        cache / "kic/amd64/half.tar",
        cache / "kic/amd64/short.tar",
        cache / "kic/amd64/empty.tar",
        cache / "linux/amd64/v1.35.8/kubeadm.download",
        cache / "preloaded-tarball/images.tar.lz4.download",
    ]
    content = image_archive(kept[0], ["layer.tar.gz", "manifest.json"])
    for path in [*kept[1:], *gone]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    gone[0].write_bytes(content[:1500])
    image_archive(gone[1], ["layer.tar.gz"])
    run()
    assert [path for path in kept if not path.exists()] == []
    assert [path for path in gone if path.exists()] == []
    # Nothing is started, so nothing is thrown away.
    gone[3].write_bytes(b"")
    run()
    assert gone[3].exists()


def test_a_stopped_profile_is_started(world: World, run: Run) -> None:
    run()
    assert run(state="stopped")["action"] == "stopped"
    assert run(state="stopped")["changed"] is False
    assert run(_ansible_check_mode=True)["action"] == "started"
    result = run()
    assert (result["action"], "did not run" in result["note"]) == ("started", True)
    assert world.told == ["start", "stop", "start"]


def test_one_part_that_does_not_run_is_enough(world: World, run: Run) -> None:
    run()
    world.status["Kubeconfig"] = "Misconfigured"
    assert run()["action"] == "started"


def test_a_container_that_somebody_removed_is_made_again(world: World, run: Run) -> None:
    run()
    world.container = world.accepted = None
    assert run()["action"] == "started"


def test_a_complete_profile_that_does_not_start_is_never_deleted(world: World, run: Run) -> None:
    run()
    world.stop([])
    world.starts_that_fail = 1
    result = run()
    assert result["reason"] == "start_failed"
    assert "GUEST_PROVISION: the node is broken" in result["hint"]
    assert "delete" not in world.told


def test_an_interrupted_start_is_finished(world: World, run: Run) -> None:
    world.half_made()
    assert run(_ansible_check_mode=True)["action"] == "repaired"
    assert world.told == []
    result = run()
    assert (result["action"], "half made" in result["note"]) == ("repaired", True)
    assert world.told == ["start"]


def test_an_interrupted_start_that_can_not_be_finished_begins_anew(world: World, run: Run) -> None:
    world.half_made()
    world.starts_that_fail = 1
    result = run()
    assert (result["action"], "GUEST_PROVISION" in result["note"]) == ("recreated", True)
    assert world.told == ["start", "delete", "start"]
    assert run()["changed"] is False


def test_a_start_that_always_fails_is_told(world: World, run: Run) -> None:
    world.starts_that_fail = 3
    assert run()["reason"] == "start_failed"
    assert run()["reason"] == "start_failed"
    assert world.told == ["start", "start", "delete", "start"]


@pytest.mark.parametrize("config", [None, "", "{", "[]"])
def test_an_unreadable_profile_is_made_again(world: World, run: Run, config: str | None) -> None:
    world.profile.mkdir(parents=True)
    if config is not None:
        (world.profile / "config.json").write_text(config)
    assert run()["action"] == "recreated"
    assert world.told == ["delete", "start"]


def test_minikube_is_not_believed_without_a_look(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    start = world.start

    def pretend(arguments: list[str]) -> Answer:
        start(arguments)
        world.status["Kubelet"] = "Stopped"
        return Answer(0, b"Done!", "")

    monkeypatch.setattr(world, "start", pretend)
    assert run()["reason"] == "not_running"
    assert not (world.profile / logic.STAMP).exists()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"cpus": 4}, "cpus is 2, not 4"),
        ({"memory": 8000}, "memory is 4096, not 8000"),
        ({"kubernetes_version": "v1.36.0"}, "kubernetes_version is v1.35.8, not v1.36.0"),
        ({"base_image": "other:v2"}, f"base_image is {IMAGE}, not other:v2"),
        ({"extra_config": {"kubelet.max-pods": 20}}, "extra_config kubelet.max-pods is None, not 20"),
    ],
)
@pytest.mark.parametrize("check_mode", [False, True])
def test_what_can_not_be_changed_is_said(
    world: World, run: Run, *, options: dict[str, Any], part: str, check_mode: bool
) -> None:
    run()
    result = run(**options, _ansible_check_mode=check_mode)
    assert (result["reason"], part in result["hint"]) == ("needs_recreate", True), result["hint"]
    assert world.told == ["start"]


def test_it_is_made_again_on_request(world: World, run: Run) -> None:
    run()
    assert run(cpus=4, recreate=True)["action"] == "recreated"
    assert world.told == ["start", "delete", "start"]
    assert run(cpus=4)["changed"] is False


def test_a_half_made_profile_with_other_options_is_made_again(world: World, run: Run) -> None:
    world.half_made()
    assert run(cpus=4)["action"] == "recreated"


@pytest.mark.parametrize("state", ["started", "stopped"])
@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("ours", ["nothing", "half made", "complete"])
def test_what_is_somebody_elses_is_never_touched(
    world: World, run: Run, *, state: str, check_mode: bool, ours: str
) -> None:
    if ours == "half made":
        world.half_made()
    if ours == "complete":
        run()
    world.told.clear()
    world.container = {"State": {"Status": "running"}}
    world.accepted = "ssh-rsa THEIRS\n"
    result = run(state=state, _ansible_check_mode=check_mode)
    assert (result["reason"], "minikube_profile=vigie is somebody else's" in result["hint"]) == (
        "foreign_profile",
        True,
    )
    assert world.told == []


def test_a_container_that_is_no_node_is_somebody_elses(world: World, run: Run) -> None:
    world.half_made()
    world.container = {"State": {"Status": "exited"}, "Config": {"Labels": None}}
    assert run()["reason"] == "foreign_profile"


@pytest.mark.parametrize("kind", ["network", "volume"])
def test_a_network_or_volume_of_that_name_is_somebody_elses(world: World, run: Run, kind: str) -> None:
    setattr(world, kind, True)
    result = run()
    assert (result["reason"], f"docker {kind} rm vigie" in result["hint"]) == ("foreign_profile", True)
    result = run(state="absent")
    assert (result["changed"], "somebody else's" in result["note"]) == (False, True)
    assert world.told == []


def test_absent_removes_it_once(world: World, run: Run) -> None:
    assert run(state="absent")["changed"] is False
    run()
    assert run(state="absent", _ansible_check_mode=True)["action"] == "deleted"
    assert run(state="absent", kubernetes_version=None, base_image=None)["action"] == "deleted"
    assert run(state="absent")["changed"] is False
    assert world.told == ["start", "delete"]


def test_absent_refuses_a_node_that_is_somebody_elses(world: World, run: Run) -> None:
    run()
    world.accepted = "ssh-rsa THEIRS\n"
    assert run(state="absent")["reason"] == "foreign_profile"
    assert "delete" not in world.told


def test_what_minikube_leaves_is_told(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run()

    def half(_arguments: list[str]) -> Answer:
        world.container = None
        return Answer(0, b"", "")

    monkeypatch.setattr(world, "delete", half)
    result = run(state="absent")
    assert (result["reason"], "left network, volume" in result["hint"]) == ("delete_failed", True)


def test_without_docker(world: World, run: Run) -> None:
    world.docker_answers = False
    (world.data / "files").mkdir(parents=True)
    result = run()
    assert (result["reason"], "Cannot connect" in result["hint"]) == ("docker_unavailable", True)
    assert run(_ansible_check_mode=True)["action"] == "created"
    assert run(state="absent")["changed"] is False
    world.write_config({"cpus": "2", "memory": "4096mb", "kubernetes-version": "v1.35.8", "base-image": IMAGE})
    assert run(_ansible_check_mode=True)["action"] == "started"
    assert run(state="absent")["reason"] == "docker_unavailable"
    assert run(state="absent", _ansible_check_mode=True)["action"] == "deleted"


@pytest.mark.parametrize(
    "options",
    [
        {"name": "Vigie"},
        {"name": "a b"},
        {"cpus": 1},
        {"memory": 1000},
        {"wait_timeout": 0},
        {"extra_config": {"max-pods": 1}},
    ],
)
def test_values_that_can_not_be_right(world: World, run: Run, options: dict[str, Any]) -> None:
    assert run(**options)["reason"] == "bad_option"
    assert world.told == []


def test_real_programs_are_run(tmp_path: Path) -> None:
    program = tmp_path / "minikube"
    with pytest.raises(logic.CheckError, match="can't be run"):
        logic.run_program([str(program)], {}, 5)
    program.write_text("#!/bin/sh\necho $WORD; echo bad >&2; exit 3\n")
    program.chmod(0o755)
    assert logic.run_program([str(program)], {"WORD": "good"}, 5) == Answer(3, b"good\n", "bad\n")
    program.write_bytes(b"\x7fELF for another machine")
    with pytest.raises(logic.CheckError, match="Exec format error"):
        logic.run_program([str(program)], {}, 5)
    assert logic.run_program(["sleep", "5"], {}, 0.05).status == 124


def test_a_home_that_ends_like_minikubes_is_taken_as_it_is() -> None:
    def profile(home: str) -> logic.Profile:
        return logic.Profile(NAME, home=Path(home), kubeconfig=Path("/k"), executable="/m")

    assert profile("/a/.minikube").data == Path("/a/.minikube")
    assert profile("/a").data == Path("/a/.minikube")


def test_reasons_are_documented() -> None:
    text = "\n".join(yaml.safe_load(minikube_profile.RETURN)["reason"]["description"])
    assert [reason for reason in logic.REASONS if f"V({reason})" not in text] == []
