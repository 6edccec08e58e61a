"""Steps that depend on one another, made in parallel, kept by content: what was made once isn't made again."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

RECORD = ".step.json"
"""File in a result that says what made it and how long that took."""
HEARTBEAT = 60.0
"""Seconds of silence after which the steps that run are named."""
_STOP_SECONDS = 10.0
_PAUSE_SECONDS = 5.0


class LabError(Exception):
    """One sentence that names the cause and the remedy."""


class Stopped(Exception):
    """Another step failed, or the user interrupted."""


@dataclass(frozen=True)
class Step:
    """Something to make.

    Attributes:
        name: unique; also the name of its folder and log.
        make: called with a Job; writes into ``job.out``.
        recipe: what the result depends on besides files and other steps; anything that JSON can hold.
        files: source files and folders that the result depends on.
        needs: names of steps whose results are used.
        lane: steps of one lane share a number of workers: ``compile`` needs the processor, ``fetch`` waits for the network or
            keeps one core busy.
        listed: whether people want to see it in the closing table.
    """

    name: str
    make: Callable[[Job], None]
    recipe: Any = None
    files: tuple[Path, ...] = ()
    needs: tuple[str, ...] = ()
    lane: str = "compile"
    listed: bool = True


@dataclass
class Job:
    """What a step is made with.

    Attributes:
        out: empty folder for the result; it becomes the result when the step is complete.
        scratch: empty folder that is removed afterwards.
        results: name -> folder of each step that is needed.
        root: folder of the lab.
        log: where programs write.
    """

    out: Path
    scratch: Path
    results: Mapping[str, Path]
    root: Path
    log: IO[bytes]
    stop: threading.Event

    def run(
        self,
        command: list[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        attempts: int = 1,
    ) -> None:
        """Run a program to its end; what it says goes to the log.

        Args:
            command: program and arguments.
            cwd: folder to run it in; by default the scratch folder.
            env: variables besides those of this process.
            attempts: how often it is tried: networks fail now and then.

        Raises:
            LabError: it can't be started or fails.
            Stopped: everything is to stop.
        """
        for _ in range(attempts - 1):
            try:
                self._run_once(command, cwd, env)
                return
            except LabError as error:
                self.log.write(f"{error}; once more\n".encode())
                if self.stop.wait(_PAUSE_SECONDS):
                    raise Stopped from None
        self._run_once(command, cwd, env)

    def _run_once(self, command: list[str | Path], cwd: Path | None, env: Mapping[str, str] | None) -> None:
        words = [str(word) for word in command]
        self.log.write(f"$ {' '.join(words)}\n".encode())
        self.log.flush()
        try:
            process = subprocess.Popen(
                words,
                cwd=cwd or self.scratch,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=subprocess.STDOUT,
                # Compilers have children: all of them are stopped together.
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise LabError(f"{words[0]} is not there; install it.") from error
        while True:
            try:
                code = process.wait(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                if self.stop.is_set():
                    _end(process)
                    raise Stopped from None
        if code:
            raise LabError(f"'{' '.join(words)[:200]}' ended with {code}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=_STOP_SECONDS)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of all the files below a folder and their names."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for below in sorted(path.rglob("*")):
        if below.is_file():
            total.update(f"{below.relative_to(path)} {below.stat().st_mode & 0o111} {digest(below)}\n".encode())
    return total.hexdigest()


@dataclass
class Workshop:
    """Makes steps below one folder: ``cache`` has the results, ``log`` what the programs said, ``tmp`` what isn't complete.

    Args:
        root: the folder.
        steps: all the steps that may be needed.
        workers: lane -> how many of its steps run at once.
        say: called with each line for people.
    """

    root: Path
    steps: Mapping[str, Step]
    workers: Mapping[str, int]
    say: Callable[[str], None] = field(default=lambda line: print(line, flush=True))

    def __post_init__(self) -> None:
        self._keys: dict[str, str] = {}
        self._stop = threading.Event()

    def key(self, name: str) -> str:
        """Return what identifies the content that a step would make: a digest of everything that it depends on."""
        if name not in self._keys:
            step = self.steps[name]
            parts = {
                "name": name,
                "recipe": step.recipe,
                "files": [digest(path) for path in step.files],
                "needs": [self.key(need) for need in step.needs],
            }
            self._keys[name] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return self._keys[name]

    def result(self, name: str) -> Path:
        """Return the folder that holds, or will hold, the result of a step."""
        return self.root / "cache" / name / self.key(name)[:16]

    def complete(self, name: str) -> bool:
        """Tell whether the result of a step is there."""
        return (self.result(name) / RECORD).exists()

    def seconds(self, name: str) -> float:
        """Return how long it took to make the result, whenever that was."""
        record = json.loads((self.result(name) / RECORD).read_text())
        return float(record["seconds"])

    def plan(self, wanted: list[str]) -> list[str]:
        """Return the steps to be made for ``wanted``, each after what it needs; what is complete and what only that needs is left out."""
        found: dict[str, None] = {}

        def visit(name: str) -> None:
            if name in found or self.complete(name):
                return
            for need in self.steps[name].needs:
                visit(need)
            found[name] = None

        for name in wanted:
            visit(name)
        return list(found)

    def make(self, wanted: list[str]) -> None:
        """Make all that is wanted and isn't there.

        Raises:
            LabError: a step fails; those that run are stopped, what is complete stays.
        """
        with self._locked():
            shutil.rmtree(self.root / "tmp", ignore_errors=True)
            for folder in ("tmp", "log", "cache"):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            self._run(self.plan(wanted))
            self._forget()

    def _run(self, plan: list[str]) -> None:
        """Make the steps of a plan, each as soon as what it needs is there, in the plan's order otherwise."""
        pools = {lane: ThreadPoolExecutor(count, thread_name_prefix=lane) for lane, count in self.workers.items()}
        free = dict(self.workers)
        waiting = list(plan)
        running: dict[Future[float], tuple[str, float]] = {}
        began = time.monotonic()
        failure: LabError | None = None
        done = 0
        try:
            while running or (waiting and not failure):
                for name in [] if failure else list(waiting):
                    step = self.steps[name]
                    if free[step.lane] and all(self.complete(need) for need in step.needs):
                        free[step.lane] -= 1
                        waiting.remove(name)
                        running[pools[step.lane].submit(self._make_one, step)] = (name, time.monotonic())
                ended, _ = wait(running, timeout=HEARTBEAT, return_when=FIRST_COMPLETED)
                now = time.monotonic()
                if not ended:
                    names = ", ".join(f"{name} ({now - since:.0f} s)" for name, since in running.values())
                    self.say(f"{'':>9} {clock(now - began)} still at work: {names}")
                for future in ended:
                    name, _ = running.pop(future)
                    free[self.steps[name].lane] += 1
                    try:
                        seconds = future.result()
                    except Stopped:
                        continue
                    except LabError as error:
                        failure = failure or error
                        self._stop.set()
                        self.say(f"{'FAILED':>9} {clock(now - began)} {name}")
                        continue
                    done += 1
                    self.say(f"{f'{done}/{len(plan)}':>9} {clock(now - began)} {name} {seconds:.0f} s")
        except BaseException:
            self._stop.set()
            raise
        finally:
            for pool in pools.values():
                pool.shutdown(wait=True, cancel_futures=True)
        if failure:
            raise failure

    def _make_one(self, step: Step) -> float:
        """Make one step; its result gets its final name as the last thing. Return the seconds that it took."""
        began = time.monotonic()
        log = self.root / "log" / f"{step.name}.log"
        unfinished = self.root / "tmp" / step.name
        for folder in ("out", "scratch"):
            (unfinished / folder).mkdir(parents=True)
        with log.open("wb") as file:
            job = Job(
                out=unfinished / "out",
                scratch=unfinished / "scratch",
                results={need: self.result(need) for need in step.needs},
                root=self.root,
                log=file,
                stop=self._stop,
            )
            try:
                step.make(job)
            except (LabError, OSError) as error:
                file.flush()
                said = log.read_text(errors="replace").strip().splitlines()[-15:]
                raise LabError("\n".join([f"{step.name}: {error}; the end of {log}:", *said])) from error
        seconds = round(time.monotonic() - began, 1)
        (job.out / RECORD).write_text(json.dumps({"name": step.name, "key": self.key(step.name), "seconds": seconds}))
        result = self.result(step.name)
        result.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(result, ignore_errors=True)
        job.out.rename(result)
        shutil.rmtree(unfinished, ignore_errors=True)
        return seconds

    def _forget(self) -> None:
        """Remove results that no step makes any more."""
        wanted = {self.result(name) for name in self.steps}
        for old in (self.root / "cache").glob("*/*"):
            if old not in wanted:
                shutil.rmtree(old, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LabError(f"Another 'make lab' is at work in {self.root}; wait for it or stop it.") from error
            yield


def clock(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
