"""The packages of the application's image are those that every other part of the project is tested with."""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]


def pins(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return name -> (version, hashes) of a compiled requirements file."""
    found = {}
    for block in re.split(r"\n(?=\S)", text):
        if match := re.match(r"([a-z0-9.-]+)==([^\s;]+)", block):
            found[match[1]] = (match[2], frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", block)))
    return found


def differences(image: str, runtime: str) -> list[str]:
    """What the image would have otherwise than the embedded platform."""
    known = pins(runtime)
    return [f"{name} {pin[0]}" for name, pin in pins(image).items() if not pin[1] or known.get(name) != pin]


def closure(names: set[str]) -> set[str]:
    """Return the packages and all that they need on this platform, as what is installed says."""
    found: set[str] = set()
    while names:
        name = names.pop()
        found.add(name)
        for requirement in map(Requirement, requires(name) or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                names |= {canonicalize_name(requirement.name)} - found
    return found


def test_the_image_has_the_pins_of_the_runtime() -> None:
    image = (REPOSITORY / "app/requirements.txt").read_text()
    assert differences(image, (REPOSITORY / "requirements/runtime.txt").read_text()) == []


def test_the_image_has_all_that_the_application_needs_and_nothing_else() -> None:
    """With hashes pip refuses a package that isn't listed, but only when the image is built."""
    direct = {canonicalize_name(line) for line in (REPOSITORY / "app/requirements.in").read_text().split()}
    assert pins((REPOSITORY / "app/requirements.txt").read_text()).keys() == closure(direct)


def test_the_comparison_sees_differences() -> None:
    one, other = f"flask==3.1.3 \\\n    --hash=sha256:{'0' * 64}\n", f"flask==3.1.3 \\\n    --hash=sha256:{'1' * 64}\n"
    assert differences(one, one) == []
    assert differences(one, other) == ["flask 3.1.3"]
    assert differences(one.replace("3.1.3", "3.1.2"), one) == ["flask 3.1.2"]
    assert differences("flask==3.1.3\n", "flask==3.1.3\n") == ["flask 3.1.3"]
    assert differences(one, "") == ["flask 3.1.3"]
