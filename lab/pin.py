#!/usr/bin/env python3
"""Write go.mod and go.sum of the modules in go/ anew, after a version or components.yml has changed.

    python lab/pin.py [MODULE ...]

Needs Go and the Go module proxy. The result is committed: builds take nothing that it doesn't name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vigielab.components import GO, Module, modules

# The checksum database has no entry for some of the versions that the proxy serves; the committed go.sum stands in for it.
ENVIRONMENT = os.environ | {"GOFLAGS": "-mod=mod", "GOSUMDB": "off", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def go(*arguments: str, folder: Path) -> str:
    """Run the go command and return what it prints."""
    done = subprocess.run(["go", *arguments], cwd=folder, env=ENVIRONMENT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"go {' '.join(arguments)} in {folder}:\n{done.stderr[-3000:]}")
    return done.stdout


def edits(module: Module, folder: Path) -> list[str]:
    """Return the flags of ``go mod edit`` that put into our go.mod what Go takes from no other: what to replace."""
    found = [f"-require={name}@{version}" for name, version in module.require.items()]
    if not module.path:
        return found
    own = json.loads(go("mod", "download", "-json", f"{module.path}@{module.module_version}", folder=folder))
    described = json.loads(go("mod", "edit", "-json", own["GoMod"], folder=folder))
    found.append(f"-require={module.path}@{module.module_version}")
    for entry in described.get("Replace") or []:
        old, new = entry["Old"], entry["New"]
        if new["Path"].startswith("."):
            # A module in the same repository: only where it is released together with this one.
            if module.staging:
                version = module.exceptions.get(old["Path"], module.staging)
                found.append(f"-replace={old['Path']}={old['Path']}@{version}")
            continue
        before = f"{old['Path']}@{old['Version']}" if old.get("Version") else old["Path"]
        found.append(f"-replace={before}={new['Path']}@{new['Version']}")
    return found


def pin(module: Module) -> None:
    """Write go.mod and go.sum of one module."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / module.name
        shutil.copytree(module.folder, folder, ignore=shutil.ignore_patterns("go.mod", "go.sum"))
        go("mod", "init", f"vigie/lab/{module.name}", folder=folder)
        go("mod", "edit", f"-go={GO}", *edits(module, folder), folder=folder)
        wanted = [module.package(program) for program in module.programs]
        imports = "".join(f'import _ "{package}"\n' for package in wanted if not package.startswith("./"))
        (folder / "programs.go").write_text(f"//go:build programs\n\npackage programs\n\n{imports}")
        # -e: what only tests of others need may not be published. What the programs need has to be there.
        go("mod", "tidy", "-e", folder=folder)
        go("list", "-mod=readonly", "-deps", f"-tags={','.join(module.tags)}", *wanted, folder=folder)
        for name in ("go.mod", "go.sum"):
            if (folder / name).exists():
                shutil.copyfile(folder / name, module.folder / name)
        print(f"{module.name}: {module.path or 'own source'} {module.module_version}", flush=True)


def main() -> None:
    known = modules()
    names = sys.argv[1:] or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: not in components.yml, which has {', '.join(known)}")
    for name in names:
        known[name].folder.mkdir(parents=True, exist_ok=True)
        pin(known[name])


if __name__ == "__main__":
    main()
