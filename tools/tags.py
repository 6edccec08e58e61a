#!/usr/bin/env python3
"""Write docs/tags.md: every tag of the playbooks, with the plays and tasks that it runs. With --check, only tell whether it is current.

Asks ansible-playbook itself, so a tag that an import loses is not in the list. Tasks of an include that is only known while
it runs stand under the include's own name.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "docs" / "tags.md"
PLAYBOOKS = {
    "site.yml": "inventory/embedded",
    "playbooks/host.yml": "inventory/minikube",
    "playbooks/upgrade.yml": "inventory/minikube",
    "playbooks/teardown.yml": "inventory/minikube",
}
"""Playbook to an inventory that it fits; the tags are the same with every other."""
ALWAYS = "always"
HEAD = """# Tags

Written by `python tools/tags.py`; a test compares it with the playbooks.

Every role has the tag of its name and one for each phase, such as `kubectl` and `kubectl_install`. Tags are OR-ed: `--tags kubectl,helm`
runs both. What has the tag `always`, the checks before anything is changed, runs with every choice of tags. In the tables, the tasks of
each play stand after its name; what the tag `always` runs anyway is left out.
"""

Listing = dict[str, dict[str, list[str]]]
"""Tag to play to tasks, in the order in which they run."""


def parse(output: str) -> Listing:
    """Return what ``ansible-playbook --list-tasks`` printed."""
    found: Listing = {}
    play = ""
    for line in output.splitlines():
        if match := re.match(r"\s+play #\d+ \([^)]*\): (.+?)\s+TAGS: ", line):
            play = match[1]
        elif match := re.match(r"\s+(?:[\w.]+ : )?(.+?)\s+TAGS: \[(.*)\]$", line):
            # The same tasks serve several programs, and validation of arguments is no task that anybody wrote.
            task = re.sub(r"(: )?\{\{.*?\}\}", "", match[1]).strip()
            if task.startswith("Validating arguments against"):
                continue
            for tag in filter(None, match[2].split(", ")):
                tasks = found.setdefault(tag, {}).setdefault(play, [])
                if task not in tasks:
                    tasks.append(task)
    return found


def listing(playbook: str, inventory: str) -> Listing:
    """Return the tags of a playbook."""
    program = str(Path(sys.executable).parent / "ansible-playbook")
    command = [program, "-i", inventory, playbook, "--list-tasks"]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"tags: {playbook} can't be listed: {done.stderr.strip()}")
    return parse(done.stdout)


def section(playbook: str, tags: Listing) -> str:
    """Return the part of the page for one playbook."""
    lines = [f"## {playbook}", ""]
    plays = tags.get(ALWAYS, {})
    lines += [f"Always: {'; '.join(f'{play} ({len(tasks)} tasks)' for play, tasks in plays.items())}.", ""]
    lines += ["| tag | what it runs |", "|---|---|"]
    for tag in sorted(tags.keys() - {ALWAYS}):
        cell = "<br>".join(f"**{play}**: {'; '.join(tasks)}" for play, tasks in tags[tag].items())
        cell = cell.replace("|", "\\|")
        lines.append(f"| `{tag}` | {cell} |")
    return "\n".join(lines) + "\n"


def page(listings: dict[str, Listing]) -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *(section(playbook, tags) for playbook, tags in listings.items())])


def listings() -> dict[str, Listing]:
    """Return the tags of every playbook that is there."""
    present = {name: inventory for name, inventory in PLAYBOOKS.items() if (REPOSITORY / name).exists()}
    return {name: listing(name, inventory) for name, inventory in present.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is not current")
    wanted = page(listings())
    if parser.parse_args().check:
        if not PAGE.exists() or PAGE.read_text() != wanted:
            print("tags: docs/tags.md is not what the playbooks say; run 'python tools/tags.py'.", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
