#!/usr/bin/env python3
"""Make a bundle from source, on a machine that reaches the package sources but no image registry.

    python lab/build.py --root DIR [--only cluster monitoring telemetry | NAME ...]

The result is DIR/bundle. Interrupt it whenever you like: what is complete is kept, and the next call goes on from there.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from vigielab import archive, golang, plan
from vigielab.steps import LabError, Workshop, clock, digest

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Program -> Debian package that has it.
PROGRAMS = {"mmdebstrap": "mmdebstrap", "gcc": "gcc", "mvn": "maven", "javac": "default-jdk-headless", "npm": "npm"}
FILES = {
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "/usr/include/stdlib.h": "libc6-dev",
}
GIGABYTES = {"cluster": 16, "monitoring": 8, "telemetry": 8}
"""Disk that a build from nothing takes, of each part."""
GIGABYTES_OF_ALL = 28


def require_packages() -> None:
    """Install what is missing of the distribution's packages, or name it.

    Raises:
        LabError: they are missing and only root could install them.
    """
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    missing += [package for file, package in FILES.items() if not Path(file).exists()]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise LabError(f"make lab needs {', '.join(missing)}; run 'sudo {' '.join(command)}' and try again.")
    print(f"Packages: {' '.join(missing)}", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["apt-get", "update", "--quiet"], command):
        done = subprocess.run(words, env=quiet, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"'{' '.join(command)}' failed: {done.stderr.strip()[-500:]}")


def require_disk(root: Path, only: list[str], *, lean: bool = False) -> None:
    """Refuse to begin from nothing on a disk that can't hold it.

    Args:
        root: the folder to be filled.
        only: the parts or components that are made; none: all.
        lean: the caches of one part go before the next is begun.

    Raises:
        LabError: too little is free.
    """
    free = shutil.disk_usage(root).free / 1e9
    needed = GIGABYTES_OF_ALL
    if only and set(only) <= set(GIGABYTES):
        needed = (max if lean else sum)(GIGABYTES[part] for part in set(only))
    if not (root / "cache").exists() and free < needed:
        raise LabError(
            f"{root} has {free:.0f} GB free, and a build from nothing takes {needed}; set VIGIE_LAB_DIR to a folder on a larger disk."
        )


def host_architecture() -> str:
    """Return the architecture that is built: this machine's.

    Raises:
        LabError: it is another one than those in the table of versions.
    """
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise LabError(f"This machine is {machine}; the lab is built on {' and '.join(ARCHITECTURES)} only.")
    return ARCHITECTURES[machine]


def assemble(workshop: Workshop, names: list[str], architecture: str) -> list[dict[str, str]]:
    """Put the results into the bundle, the manifest last. Return the manifest."""
    bundle = workshop.root / "bundle"
    listed = [(keys, workshop.result(step) / name) for keys, step, name in plan.entries(names, architecture)]
    manifest = [{**keys, "sha256": digest(source)} for keys, source in listed]
    path = bundle / "manifest.yml"
    text = yaml.safe_dump(manifest, sort_keys=False, width=1000)
    if path.exists() and path.read_text() == text and all((bundle / keys["file"]).exists() for keys in manifest):
        return manifest
    # Without a manifest there is no bundle: nobody takes one for whole that is being changed.
    path.unlink(missing_ok=True)
    for keys, source in listed:
        archive.place(source, bundle / keys["file"])
    kept = {bundle / keys["file"] for keys in manifest}
    for old in bundle.rglob("*"):
        if old.is_file() and old not in kept:
            old.unlink()
    unfinished = path.with_suffix(".part")
    unfinished.write_text(text)
    unfinished.replace(path)
    return manifest


def size(folder: Path) -> int:
    """Return the bytes that a folder takes on the disk, each file counted once."""
    done = subprocess.run(["du", "-s", "-B1", str(folder)], check=False, capture_output=True, text=True)
    return int(done.stdout.split()[0]) if done.stdout else 0


def report(workshop: Workshop, manifest: list[dict[str, str]], seconds: float) -> None:
    """Print the time of each artifact, the disk and the time in all."""
    print(f"\n{'artifact':<36} {'seconds':>8}")
    total = 0.0
    for name, step in workshop.steps.items():
        if not workshop.complete(name):
            continue
        total += workshop.seconds(name)
        if step.listed:
            print(f"{name:<36} {workshop.seconds(name):>8.1f}")
    bundle = workshop.root / "bundle"
    megabytes = sum((bundle / keys["file"]).stat().st_size for keys in manifest) / 1e6
    print(f"\n{len(manifest)} artifacts, {megabytes:.0f} MB: {bundle}")
    print(
        f"disk: {size(workshop.root) / 1e9:.1f} GB in {workshop.root}, of which Go's caches {size(workshop.root / 'go') / 1e9:.1f} GB"
    )
    print(f"time: {clock(seconds)} now; {clock(total)} of work in all", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of caches, logs and the bundle")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="parts, or names of components")
    parser.add_argument("--lean", action="store_true", help="remove the compiler's caches once a part is complete")
    parser.add_argument("--jobs", type=int, default=2, help="programs that are compiled at once")
    args = parser.parse_args()
    began = time.monotonic()
    # Whoever ends this ends the compilers too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    root = args.root.expanduser().absolute()
    known = {*plan.BINARIES, *plan.described(), *plan.CHARTS, plan.CRDS}
    try:
        if unknown := [word for word in args.only if word not in known and word not in plan.PARTS]:
            raise LabError(
                f"--only {' '.join(unknown)}: not known; choose {', '.join(plan.PARTS)}, or of: {', '.join(sorted(known))}."
            )
        if args.jobs < 1:
            raise LabError(f"--jobs {args.jobs}: at least one program must be compiled at once.")
        architecture = host_architecture()
        root.mkdir(parents=True, exist_ok=True)
        require_disk(root, args.only, lean=args.lean)
        require_packages()
        workshop = Workshop(root, plan.steps(architecture), {"compile": args.jobs, "fetch": 2})
        wholes = [list(plan.PARTS.get(word, (word,))) for word in args.only]
        only = [name for whole in wholes for name in whole]
        for part in wholes if args.lean and only else [only]:
            names = plan.wanted(part)
            print(f"lab: {len(workshop.plan(names))} steps to go in {root}", flush=True)
            workshop.make(names)
            if args.lean:
                golang.forget(root)
        # Also what an earlier call made, as long as it is what would be made now.
        names = [name for name in plan.wanted([]) if workshop.complete(name)]
        manifest = assemble(workshop, names, architecture)
        report(workshop, manifest, time.monotonic() - began)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; what is complete is kept.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
