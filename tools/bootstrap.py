#!/usr/bin/env python3
"""Make the tools that Vigie runs with: a virtual environment with pinned, hashed packages, and the collections.

Needs nothing but Python's standard library and a package mirror. Safe to interrupt and to run again: what is complete is
kept, what is not is made again.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
"""ansible-core 2.19 runs on nothing older."""


class BootstrapError(Exception):
    """One sentence that names the cause and the remedy."""


def check_python() -> None:
    """Refuse a Python that can't make the environment, before anything is written."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        raise BootstrapError(
            f"python3 is {found}, but Vigie needs {wanted} or newer; install one and run 'make PYTHON=python{wanted} up'."
        )
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        raise BootstrapError(
            f"python3 {found} has no working 'venv' module; run 'sudo apt-get install python3-venv' and try again."
        )


def run(command: list[str], what: str) -> None:
    """Run a command quietly; when it fails, show what it said."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise BootstrapError(f"{what} failed ('{' '.join(command)}' ended with {done.returncode}):\n{said}")


def works(python: Path) -> bool:
    """Tell whether the environment's interpreter still starts: an upgrade of the system may have removed it."""
    if not python.exists():
        return False
    done = subprocess.run([str(python), "-c", "import pip"], check=False, capture_output=True, stdin=subprocess.DEVNULL)
    return done.returncode == 0


def install_packages(venv: Path, groups: list[str]) -> None:
    """Install the requirement files of ``groups`` into the environment, unless they are there."""
    python = venv / "bin" / "python"
    if not works(python):
        print(f"Python environment: {venv}", flush=True)
        shutil.rmtree(venv, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(venv)], "Making the virtual environment")
    for group in groups:
        requirements = REPOSITORY / "requirements" / f"{group}.txt"
        wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
        stamp = venv / f".{group}.sha256"
        if stamp.exists() and stamp.read_text() == wanted:
            continue
        print(f"Python packages: requirements/{group}.txt", flush=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        run([*pip, "--require-hashes", "--no-deps", "-r", str(requirements)], f"Installing requirements/{group}.txt")
        # Written last: an interrupted installation has no stamp and is done again.
        stamp.write_text(wanted)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="state directory")
    parser.add_argument("--dev", action="store_true", help="also what tests and linters need")
    parser.add_argument(
        "--collections-from",
        choices=["auto", "galaxy", "wheel"],
        default="auto",
        help="where collections come from: Ansible Galaxy, the ansible community package, or the first that answers",
    )
    args = parser.parse_args()
    try:
        check_python()
        state = args.state.expanduser().absolute()
        try:
            state.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BootstrapError(
                f"VIGIE_STATE_DIR={state} can't be made ({error.strerror}); choose a folder that you may write."
            ) from error
        install_packages(state / "venv", ["runtime", "dev"] if args.dev else ["runtime"])
        python = str(state / "venv" / "bin" / "python")
        script = str(REPOSITORY / "tools" / "install_collections.py")
        done = subprocess.run(
            [python, script, "--state", str(state), "--from", args.collections_from],
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return done.returncode
    except BootstrapError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
