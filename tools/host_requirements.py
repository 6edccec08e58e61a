#!/usr/bin/env python3
"""Write roles/host_python/files/requirements.txt: what modules need on a host, pinned and hashed as in requirements/runtime.txt.

With --check, only tell whether it is current.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RUNTIME = REPOSITORY / "requirements" / "runtime.txt"
PAGE = REPOSITORY / "roles" / "host_python" / "files" / "requirements.txt"
WANTED = ("docker", "jmespath", "kubernetes")
HEAD = "# Written by tools/host_requirements.py from requirements/runtime.txt: docker, jmespath, kubernetes, and what these need.\n"


def blocks(text: str) -> dict[str, str]:
    """Return name to the lines of each requirement, with its hashes and the note of what it is needed by."""
    found = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    return {re.split(r"[=\s\[]", block, maxsplit=1)[0]: block for block in found if "==" in block}


def needed_by(block: str) -> set[str]:
    """Return the requirements that a requirement is there for."""
    notes = block.partition("# via")[2]
    return set(re.findall(r"^\s*#?\s+([A-Za-z0-9._-]+)\s*$", notes, re.MULTILINE))


def requirements(text: str) -> str:
    """Return the part of requirements/runtime.txt that is wanted, with everything that it needs."""
    known = blocks(text)
    missing = set(WANTED) - known.keys()
    if missing:
        raise SystemExit(f"host_requirements: requirements/runtime.txt lacks {', '.join(sorted(missing))}.")
    wanted = set(WANTED)
    while more := {name for name, block in known.items() if needed_by(block) & wanted} - wanted:
        wanted |= more
    lines = [line for name in sorted(wanted) for line in known[name].splitlines() if not line.lstrip().startswith("#")]
    return HEAD + "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the file is not current")
    wanted = requirements(RUNTIME.read_text())
    if parser.parse_args().check:
        if not PAGE.exists() or PAGE.read_text() != wanted:
            shown = PAGE.relative_to(REPOSITORY)
            print(f"host_requirements: {shown} is old; run 'python tools/host_requirements.py'.", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
