"""What is built, read from components.yml and the table of versions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LAB = Path(__file__).resolve().parent.parent
REPOSITORY = LAB.parent
GO = "1.26.0"
"""Language version of our go.mod files; the compiler is the one of requirements.txt."""


@dataclass(frozen=True)
class Module:
    """A folder of go/: one Go module and the programs that are compiled from it.

    Attributes:
        name: of the folder.
        version: of the component, as in the table of versions.
        path: Go module, or an empty text where only our own source is there.
        module_version: version of the Go module.
        staging: version of what the Go module replaces by a relative path, or an empty text.
        exceptions: module -> version, which win over ``staging``.
        require: module -> version, to be required besides.
        pages: files below the module that get a plain page.
        flags: ``name=value`` for the linker.
        tags: for the compiler.
        cgo: programs of which a part is C.
        programs: program -> package.
    """

    name: str
    version: str
    path: str
    module_version: str
    staging: str
    exceptions: dict[str, str]
    require: dict[str, str]
    pages: tuple[str, ...]
    flags: tuple[str, ...]
    tags: tuple[str, ...]
    cgo: tuple[str, ...]
    programs: dict[str, str]

    @property
    def folder(self) -> Path:
        """Where go.mod, go.sum and sources of ours are."""
        return LAB / "go" / self.name

    @property
    def origin(self) -> str:
        """What its programs were made from, for people."""
        return f"{self.path or 'vigie'} {self.module_version}"

    def package(self, program: str) -> str:
        """Return the package to compile for a program."""
        below = self.programs[program]
        if below.startswith("./"):
            return below
        return self.path if below == "." else f"{self.path}/{below}"


def versions() -> dict[str, dict[str, Any]]:
    """Return the table of versions."""
    table: dict[str, dict[str, Any]] = yaml.safe_load((REPOSITORY / "vars" / "versions.yml").read_text())
    return table["vigie_versions"]


def modules() -> dict[str, Module]:
    """Return the modules that are compiled, by name."""
    table = versions()
    described: dict[str, dict[str, Any]] = yaml.safe_load((LAB / "components.yml").read_text())
    found = {}
    for name, entry in described.items():
        version = table[entry["component"]]["version"]
        major, minor, patch = (int(part) for part in (*version.partition("-")[0].split("."), 0, 0)[:3])
        parts = {"version": version, "major": major, "minor": minor, "patch": patch}
        found[name] = Module(
            name=name,
            version=version,
            path=entry.get("module", ""),
            module_version=entry.get("version", "v{version}").format(**parts),
            staging=entry.get("staging", "").format(**parts),
            exceptions=entry.get("exceptions", {}),
            require={name: required.format(**parts) for name, required in entry.get("require", {}).items()},
            pages=tuple(entry.get("pages", ())),
            flags=tuple(f"{variable}={value}".format(**parts) for variable, value in entry.get("flags", {}).items()),
            tags=tuple(entry.get("tags", ())),
            cgo=tuple(entry.get("cgo", ())),
            programs=entry["programs"],
        )
    return found
