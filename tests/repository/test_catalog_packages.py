"""The packages of the second service: each is pinned by version and hash, and by nothing of the machine that did it."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

CATALOG = Path(__file__).parents[2] / "app/catalog"
PACKAGE: dict[str, Any] = json.loads((CATALOG / "package.json").read_text())
LOCK: dict[str, Any] = json.loads((CATALOG / "package-lock.json").read_text())
VERSION = re.compile(r"\d+\.\d+\.\d+")
# An entry has the address of the registry, or none: this machine's may be a mirror that nobody else reaches.
REGISTRY = "https://registry.npmjs.org/"


def faults(lock: dict[str, Any]) -> list[str]:
    """What is wrong with a lock file of the package."""
    packages = dict(lock["packages"])
    root = packages.pop("")
    found = []
    for key in ("name", "version", "dependencies", "engines"):
        if root.get(key) != PACKAGE[key]:
            found.append(f"{key} is not that of package.json")
    for path, entry in packages.items():
        if not path.startswith("node_modules/") or entry.get("link"):
            found.append(f"{path}: no package of the registry")
            continue
        if not VERSION.fullmatch(entry["version"]):
            found.append(f"{path}: version {entry['version']}")
        if not re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", entry.get("integrity", "")):
            found.append(f"{path}: integrity {entry.get('integrity')}")
        if not entry.get("resolved", REGISTRY).startswith(REGISTRY):
            found.append(f"{path}: resolved {entry['resolved']}")
        if entry.get("hasInstallScript"):
            found.append(f"{path}: runs a script when it is installed")
        if entry.get("dev"):
            found.append(f"{path}: is for development")
    return found


def test_the_lock_file_pins_every_package() -> None:
    assert len(LOCK["packages"]) > 50
    assert faults(LOCK) == []


@pytest.mark.parametrize("name", sorted(PACKAGE["dependencies"]))
def test_what_is_asked_for_is_one_version(name: str) -> None:
    version = PACKAGE["dependencies"][name]
    assert VERSION.fullmatch(version)
    assert LOCK["packages"][f"node_modules/{name}"]["version"] == version


def oldest(engines: str) -> dict[int, tuple[int, ...]]:
    """Return major version -> the oldest that a range of versions admits, for the forms that packages use."""
    found = {}
    for part in engines.replace(">= ", ">=").split("||"):
        match = re.fullmatch(r"\s*(\^|>=|~)?\s*v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:\.x)?\s*", part)
        assert match, engines
        version = tuple(int(number or 0) for number in match.groups()[1:])
        majors = range(version[0], 100) if match[1] == ">=" else [version[0]]
        for major in majors:
            lowest = version if major == version[0] else (major, 0, 0)
            found[major] = min(found.get(major, lowest), lowest)
    return found


@pytest.mark.parametrize("wanted", [(18, 19, 0), (20, 6, 0), (22, 0, 0), (24, 0, 0)])
def test_every_package_runs_on_the_versions_of_node_that_the_service_promises(wanted: tuple[int, ...]) -> None:
    promised = oldest(PACKAGE["engines"]["node"])
    assert promised[wanted[0]] == wanted
    for path, entry in LOCK["packages"].items():
        # An old package may name versions of other programs, or nothing.
        engines = entry.get("engines", {}).get("node", "*") if path else "*"
        if engines != "*":
            assert oldest(engines).get(wanted[0], (99,)) <= wanted, f"{path}: {engines}"


@pytest.mark.parametrize(
    ("path", "key", "value", "part"),
    [
        ("", "dependencies", {"express": "5.3.0"}, "dependencies is not"),
        ("", "version", "9.9.9", "version is not"),
        ("node_modules/express", "version", "github:expressjs/express", "node_modules/express: version"),
        ("node_modules/express", "integrity", "sha1-AAAA", "node_modules/express: integrity"),
        ("node_modules/express", "resolved", "https://mirror.example/express.tgz", "node_modules/express: resolved"),
        ("node_modules/express", "hasInstallScript", True, "runs a script"),
        ("node_modules/express", "dev", True, "for development"),
        ("node_modules/express", "link", True, "no package"),
    ],
)
def test_the_checker_sees_faults(path: str, key: str, value: Any, part: str) -> None:
    lock = copy.deepcopy(LOCK)
    lock["packages"][path][key] = value
    assert part in "\n".join(faults(lock))


def test_a_missing_hash_is_a_fault() -> None:
    lock = copy.deepcopy(LOCK)
    del lock["packages"]["node_modules/express"]["integrity"]
    assert faults(lock) == ["node_modules/express: integrity None"]


def test_the_next_lock_file_will_be_like_this_one() -> None:
    settings = (CATALOG / ".npmrc").read_text().splitlines()
    assert {"omit-lockfile-registry-resolved=true", "save-exact=true", "engine-strict=true", "ignore-scripts=true"} <= {
        *settings
    }


def test_installed_packages_stay_out_of_the_repository() -> None:
    assert "/node_modules/" in (CATALOG / ".gitignore").read_text().splitlines()
