"""Runs modules in process, as Ansible would call them, against real servers on 127.0.0.1."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError
from mail_servers import (
    Dovecot,
    FakeMailpit,
    NoDovecot,
    dovecot_server,
    mailpit_server,
    make_certificates,
    unpack_dovecot,
)

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Return a function that runs a module of the collection and returns its result, ``failed`` included."""

    def run(module_name: str, /, *, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
        module = importlib.import_module(f"ansible_collections.vigie.observability.plugins.modules.{module_name}")
        capsys.readouterr()
        with patch_module_args({**arguments, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        result.setdefault("failed", False)
        return result

    return run


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ca.pem, server.pem, server.key and other-ca.pem."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    return folder


@pytest.fixture
def mailpit() -> Iterator[FakeMailpit]:
    with mailpit_server() as server:
        yield server


@pytest.fixture(scope="session")
def dovecot(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> Iterator[Dovecot]:
    """A real IMAP server from the distribution's packages, which are kept in pytest's cache folder."""
    temporary = tmp_path_factory.mktemp("dovecot")
    cache = getattr(request.config, "cache", None)
    home = cache.mkdir("dovecot") if cache else temporary
    try:
        folders = unpack_dovecot(home / "packages", home / "downloads", temporary)
        with dovecot_server(folders, certificates) as server:
            yield server
    except (NoDovecot, CheckError) as error:
        pytest.skip(f"no Dovecot: {error}")
