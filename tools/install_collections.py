#!/usr/bin/env python3
"""Install the collections of requirements.yml, from Ansible Galaxy or, where it can't be reached, from the wheel of the
``ansible`` community package, out of which only the named collections are unpacked.

Run with the Python of the virtual environment (needs PyYAML and ansible-galaxy beside it).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
GALAXY_TIMEOUT = 10
"""Seconds that Galaxy gets for one answer: a closed network must not cost the newcomer minutes."""


class CollectionError(Exception):
    """One sentence that names the cause and the remedy."""


def wanted_collections(requirements: Path) -> dict[str, str]:
    """Return name -> exact version."""
    entries = yaml.safe_load(requirements.read_text())["collections"]
    return {entry["name"]: entry["version"].removeprefix("==") for entry in entries}


def installed_version(root: Path, name: str) -> str | None:
    """Return the version of an installed collection, or None."""
    manifest = root / "ansible_collections" / Path(*name.split(".")) / "MANIFEST.json"
    try:
        return json.loads(manifest.read_text())["collection_info"]["version"]
    except (OSError, ValueError, KeyError):
        return None


def from_galaxy(root: Path, requirements: Path) -> str | None:
    """Install by ansible-galaxy; return what went wrong, or None."""
    galaxy = Path(sys.executable).parent / "ansible-galaxy"
    command = [str(galaxy), "collection", "install", "--force", "-r", str(requirements), "-p", str(root)]
    command += ["--timeout", str(GALAXY_TIMEOUT)]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=12 * GALAXY_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {12 * GALAXY_TIMEOUT} s"
    return None if done.returncode == 0 else (done.stderr or done.stdout).strip()[-300:]


def from_wheel(root: Path, wanted: dict[str, str]) -> None:
    """Unpack the wanted collections out of the pinned wheel of the community package.

    Raises:
        CollectionError: the wheel can't be had, or holds other versions than requirements.yml pins.
    """
    target = root / "ansible_collections"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".wheel-") as temporary:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        # The newest package asks for a newer Python than the collections in it do; they are only unpacked.
        pip += ["--python-version", "3.12", "--only-binary=:all:", "--require-hashes", "--dest", temporary]
        pip += ["-r", str(REPOSITORY / "requirements" / "collections.txt")]
        done = subprocess.run(pip, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise CollectionError(f"the wheel of the ansible package can't be downloaded: {done.stderr.strip()[-500:]}")
        (wheel,) = Path(temporary).glob("ansible-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in wanted:
                prefix = f"ansible_collections/{name.replace('.', '/')}/"
                archive.extractall(temporary, [n for n in archive.namelist() if n.startswith(prefix)])
        for name, version in wanted.items():
            found = installed_version(Path(temporary), name)
            if found != version:
                raise CollectionError(
                    f"requirements.yml wants {name} {version}, but requirements/collections.txt carries {found}; pin the same version."
                )
            source = Path(temporary) / "ansible_collections" / Path(*name.split("."))
            destination = target / Path(*name.split("."))
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(destination, ignore_errors=True)
            source.rename(destination)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="state directory")
    parser.add_argument("--from", dest="source", choices=["auto", "galaxy", "wheel"], default="auto")
    args = parser.parse_args()
    root = args.state / "collections"
    requirements = REPOSITORY / "requirements.yml"
    wanted = wanted_collections(requirements)
    if all(installed_version(root, name) == version for name, version in wanted.items()):
        return 0
    names = ", ".join(f"{name} {version}" for name, version in wanted.items())
    try:
        problem = from_galaxy(root, requirements) if args.source != "wheel" else "not asked"
        if problem is None:
            print(f"Collections: {names} from Ansible Galaxy", flush=True)
        elif args.source == "galaxy":
            raise CollectionError(f"Ansible Galaxy did not give {names}: {problem}")
        else:
            from_wheel(root, wanted)
            print(f"Collections: {names} from the ansible community package", flush=True)
    except CollectionError as error:
        print(f"collections: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
