"""Steps: made once, made again only when what they depend on changes, never half."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import vigielab.steps
from vigielab.steps import Job, LabError, Step, Workshop


class Recorder:
    """Steps that write a file, and a list of those that were made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def step(self, name: str, text: str = "", **options: object) -> Step:
        def make(job: Job) -> None:
            self.made.append(name)
            parts = [(folder / "file").read_text() for folder in job.results.values()]
            (job.out / "file").write_text("".join([*parts, text or name]))

        return Step(name=name, make=make, recipe=text, **options)  # type: ignore[arg-type]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def workshop(root: Path, *steps: Step, said: list[str] | None = None) -> Workshop:
    say = said.append if said is not None else lambda line: None
    return Workshop(root, {step.name: step for step in steps}, {"compile": 2, "fetch": 1}, say)


def test_results_are_used_and_kept(tmp_path: Path, recorder: Recorder) -> None:
    steps = [recorder.step("a"), recorder.step("b", needs=("a",)), recorder.step("c", needs=("a", "b"))]
    made = workshop(tmp_path, *steps)
    made.make(["c"])
    assert (made.result("c") / "file").read_text() == "aabc"
    again = workshop(tmp_path, *steps)
    assert again.plan(["c"]) == []
    again.make(["c"])
    assert recorder.made == ["a", "b", "c"]
    assert again.seconds("c") == made.seconds("c")


def test_what_is_not_wanted_is_not_made(tmp_path: Path, recorder: Recorder) -> None:
    made = workshop(tmp_path, recorder.step("a"), recorder.step("b"), recorder.step("c", needs=("a",)))
    made.make(["c"])
    assert sorted(recorder.made) == ["a", "c"]


def test_a_change_is_made_again_with_all_that_needs_it_and_the_old_is_removed(
    tmp_path: Path, recorder: Recorder
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "x").write_text("1")

    def steps(text: str = "") -> list[Step]:
        return [
            recorder.step("a", files=(source,)),
            recorder.step("b", text, needs=("a",)),
            recorder.step("other"),
        ]

    first = workshop(tmp_path / "lab", *steps())
    first.make(["b", "other"])
    old = first.result("a")
    recorder.made.clear()
    (source / "x").write_text("2")
    second = workshop(tmp_path / "lab", *steps())
    second.make(["b", "other"])
    assert recorder.made == ["a", "b"]
    assert second.result("a") != old
    assert not old.exists()
    recorder.made.clear()
    workshop(tmp_path / "lab", *steps("changed")).make(["b", "other"])
    assert recorder.made == ["b"]
    recorder.made.clear()
    (source / "x").chmod(0o755)
    workshop(tmp_path / "lab", *steps("changed")).make(["b", "other"])
    assert recorder.made == ["a", "b"]


def test_a_failure_names_the_step_and_what_was_said(tmp_path: Path, recorder: Recorder) -> None:
    def fail(job: Job) -> None:
        (job.out / "file").write_text("half")
        job.run([sys.executable, "-c", "print('no space for me'); raise SystemExit(3)"])

    said: list[str] = []
    steps = [recorder.step("good"), Step("bad", fail), recorder.step("after", needs=("bad", "good"))]
    made = workshop(tmp_path, *steps, said=said)
    with pytest.raises(LabError, match=r"bad: .* ended with 3; the end of .*bad\.log:(.|\n)*no space for me"):
        made.make(["good", "after"])
    assert not made.complete("bad")
    assert not made.result("bad").exists()
    assert recorder.made == ["good"]
    assert any("FAILED" in line and "bad" in line for line in said)
    # The next call goes on from there.
    mended = workshop(tmp_path, steps[0], recorder.step("bad"), steps[2])
    mended.make(["good", "after"])
    assert recorder.made == ["good", "bad", "after"]


def test_what_fails_now_and_then_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vigielab.steps, "_PAUSE_SECONDS", 0)
    script = (
        "import sys; from pathlib import Path; seen = Path(sys.argv[1]); seen.exists() or (seen.touch(), sys.exit(1))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "seen")]
    workshop(tmp_path / "lab", Step("a", lambda job: job.run(command, attempts=2))).make(["a"])
    (tmp_path / "seen").unlink()
    with pytest.raises(LabError, match=r"b: .* ended with 1"):
        workshop(tmp_path / "lab", Step("b", lambda job: job.run(command))).make(["b"])


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="nosuchprogram is not there"):
        workshop(tmp_path, Step("a", lambda job: job.run(["nosuchprogram"]))).make(["a"])


def test_a_failure_stops_what_runs_beside_it(tmp_path: Path) -> None:
    started = threading.Event()

    def long(job: Job) -> None:
        started.set()
        job.run(["sleep", "600"])

    def fail(job: Job) -> None:
        assert started.wait(30)
        raise LabError("broken")

    made = workshop(tmp_path, Step("long", long), Step("bad", fail))
    with pytest.raises(LabError, match="bad: broken"):
        made.make(["long", "bad"])
    assert not made.complete("long")


def test_lanes_hold(tmp_path: Path) -> None:
    lock = threading.Lock()
    running = {"compile": 0, "fetch": 0}
    most = dict(running)

    def step(lane: str, number: int) -> Step:
        def make(job: Job) -> None:
            with lock:
                running[lane] += 1
                most[lane] = max(most[lane], running[lane])
            time.sleep(0.05)
            with lock:
                running[lane] -= 1

        return Step(f"{lane}{number}", make, lane=lane)

    steps = [step(lane, number) for lane in running for number in range(4)]
    workshop(tmp_path, *steps).make([step.name for step in steps])
    assert most == {"compile": 2, "fetch": 1}


def test_two_at_once_are_refused(tmp_path: Path, recorder: Recorder) -> None:
    def nested(job: Job) -> None:
        workshop(tmp_path, recorder.step("b")).make(["b"])

    with pytest.raises(LabError, match="Another 'make lab' is at work"):
        workshop(tmp_path, Step("a", nested)).make(["a"])


def test_an_interruption_stops_the_programs_and_keeps_what_is_complete(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        """
import signal, sys
from pathlib import Path
from vigielab.steps import Step, Workshop
signal.signal(signal.SIGTERM, signal.default_int_handler)
steps = [Step("quick", lambda job: None), Step("long", lambda job: job.run(["sleep", "613"]), needs=("quick",))]
Workshop(Path(sys.argv[1]), {step.name: step for step in steps}, {"compile": 2, "fetch": 1}).make(["long"])
"""
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "lab"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    log = tmp_path / "lab" / "log" / "long.log"
    for _ in range(300):
        if log.exists() and "sleep" in log.read_text():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert subprocess.run(["pgrep", "-f", "sleep 613"], check=False, capture_output=True).returncode == 1
    assert list((tmp_path / "lab" / "cache").glob("quick/*"))
    assert not list((tmp_path / "lab" / "cache").glob("long/*"))
