"""Write the dashboards' JSON, or say whether it is current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import application, cluster, drill, node, restarts

TARGET = Path(__file__).resolve().parent.parent / "roles/dashboards/files"


def rendered() -> dict[str, str]:
    """Return the JSON of every dashboard by its file name, the same text for the same code."""
    encoder = JSONEncoder(sort_keys=True, indent=2)
    pages = [one.page() for one in (application, restarts, drill, node, cluster)]
    return {f"{page.uid}.json": encoder.encode(page.build()) + "\n" for page in pages}


def outdated(folder: Path) -> list[str]:
    """Return the names of files in ``folder`` that differ from what the code says, lack there or are too many."""
    wanted = rendered()
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def main() -> int:
    """Run the command; returns the exit status, 1 when ``--check`` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description="Writes Vigie's Grafana dashboards.")
    parser.add_argument("--check", action="store_true", help="change nothing, fail when a file is not current")
    parser.add_argument("--folder", type=Path, default=TARGET, help="where the JSON goes (default: %(default)s)")
    options = parser.parse_args()
    old = outdated(options.folder)
    if options.check:
        for name in old:
            print(f"{options.folder / name} is not what the code says; run 'python -m dashboards'.", file=sys.stderr)
        return 1 if old else 0
    options.folder.mkdir(parents=True, exist_ok=True)
    wanted = rendered()
    for name in old:
        path = options.folder / name
        if name in wanted:
            path.write_text(wanted[name], encoding="utf-8")
        else:
            path.unlink()
        print(f"{'wrote' if name in wanted else 'removed'} {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
