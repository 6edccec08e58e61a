"""The packages of a host are those of the runtime: the same versions and hashes, with everything that they need."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[2]
TEXT = """docker==7.2.0 \\
    --hash=sha256:aa
    # via -r requirements/runtime.in
flask==3 \\
    --hash=sha256:bb
    # via -r requirements/runtime.in
jmespath==1 \\
    --hash=sha256:cc
kubernetes==37 \\
    --hash=sha256:dd \\
    --hash=sha256:ee
urllib3==2 ; python_version > '3' \\
    --hash=sha256:ff
    # via requests
requests==2 \\
    --hash=sha256:ab
    # via
    #   docker
    #   flask
werkzeug==3 \\
    --hash=sha256:bc
    # via flask
"""


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("host_requirements", REPOSITORY / "tools/host_requirements.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_list_is_current(tool: ModuleType) -> None:
    wanted = tool.requirements(tool.RUNTIME.read_text())
    assert tool.PAGE.read_text() == wanted, "run 'python tools/host_requirements.py'"


def test_every_package_has_a_hash(tool: ModuleType) -> None:
    for name, block in tool.blocks(tool.PAGE.read_text()).items():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), name


def test_what_they_need_comes_along_and_nothing_else(tool: ModuleType) -> None:
    found = tool.requirements(TEXT)
    assert list(tool.blocks(found)) == ["docker", "jmespath", "kubernetes", "requests", "urllib3"]
    assert "--hash=sha256:ee\nrequests==2" in found
    assert found.count("#") == 1
    with pytest.raises(SystemExit, match="lacks jmespath"):
        tool.requirements(TEXT.replace("jmespath", "other"))
