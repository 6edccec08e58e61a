"""A lab of one's own: built by the playbooks on free ports in a short temporary folder, broken on purpose, and removed."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.testing import patch_module_args
from ansible_collections.vigie.observability.plugins.module_utils.processes import find_supervised
from systems import eventually, fetch

REPOSITORY = Path(__file__).parents[2]
ADDRESS = "127.0.0.1"
APP = "flask-metrics"
MODULES = "ansible_collections.vigie.observability.plugins.modules"

Result = dict[str, Any]


def caller_state() -> Path:
    """Return the state directory that the caller works with: its collections and packages are used here, too."""
    return Path(os.environ.get("VIGIE_STATE_DIR") or "~/.local/state/vigie").expanduser()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on.

    They lie below the range from which the kernel takes ports for outgoing connections, so that nobody gets one by chance
    while a test keeps its server down.
    """
    ports: list[int] = []
    for port in random.sample(range(21000, 31000), 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((ADDRESS, port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError(f"{count} free ports of {ADDRESS} were not found")


def lab_ports() -> dict[str, int]:
    """Return the table of ports for a lab, all of them free."""
    names = ("prometheus", "alertmanager", "node_exporter", "supervisor_exporter", "app", "catalog", "smtp")
    return dict(zip(names, free_ports(len(names)), strict=True))


def play_command(playbook: str, variables: dict[str, Any], *options: str) -> list[str]:
    """Return the command that runs a playbook of the repository with extra variables."""
    program = Path(sys.executable).parent / "ansible-playbook"
    return [str(program), playbook, "-e", json.dumps(variables), *options]


def play_environment(state: Path) -> dict[str, str]:
    """Return the environment for playbooks that work on the lab in a state directory."""
    collections = f"{REPOSITORY / 'collections'}:{caller_state() / 'collections'}"
    return {
        **os.environ,
        "VIGIE_STATE_DIR": str(state),
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": collections,
        "ANSIBLE_NOCOLOR": "1",
    }


def run_playbook(
    playbook: str, state: Path, variables: dict[str, Any], *options: str
) -> subprocess.CompletedProcess[str]:
    """Run a playbook to its end; standard error is part of the output."""
    return subprocess.run(
        play_command(playbook, variables, *options),
        cwd=REPOSITORY,
        env=play_environment(state),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )


@dataclasses.dataclass
class Loop:
    """A pod that crashed once too often, and the mail that told so. Times in Unix seconds."""

    run_id: str
    pod: str
    since: float
    mailed: float

    @property
    def labels(self) -> dict[str, str]:
        """The labels that make the alert this pod's."""
        return {"namespace": "vigie", "pod": self.pod, "container": APP}


class Lab:
    """A running lab.

    Attributes:
        state: its state directory.
        ports: name to number.
        variables: what its playbooks are run with.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self.ports = lab_ports()
        self.variables: dict[str, Any] = {
            "vigie_ports": self.ports,
            "vigie_profile": "fast",
            "alerting_keep_firing_for": "2s",
            "monitoring_resend_delay": "5s",
            "vigie_out_dir": str(state / "out"),
        }
        self.loop: Loop | None = None

    # Where things are

    def url(self, name: str) -> str:
        """Return the address of a server, by its name in the table of ports."""
        return f"http://{ADDRESS}:{self.ports[name]}"

    def endpoint(self, name: str) -> dict[str, str]:
        """Return a server as the ``endpoint`` of a check."""
        return {"url": self.url(name)}

    @property
    def prometheus_config(self) -> Path:
        return self.state / "etc/prometheus.yml"

    @property
    def alertmanager_config(self) -> Path:
        return self.state / "etc/alertmanager.yml"

    @property
    def rules(self) -> Path:
        return self.state / "etc/rules/vigie.yml"

    @property
    def maildir(self) -> Path:
        return self.state / "mail/Maildir"

    @property
    def relay(self) -> dict[str, Any]:
        """The catcher as the ``relay`` of mail_check."""
        return {
            "host": ADDRESS,
            "port": self.ports["smtp"],
            "username": "vigie@localhost",
            "password_file": str(self.state / "secrets/smtp_pass"),
            "ca_path": str(self.state / "tls/ca.crt"),
        }

    # Building and removing

    def playbook(self, playbook: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a playbook on this lab."""
        return run_playbook(playbook, self.state, {**self.variables, **more})

    def build(self) -> str:
        """Build the lab, or bring it back to what the playbooks say; returns the output."""
        done = self.playbook("site.yml")
        assert done.returncode == 0, f"site.yml failed:\n{done.stdout[-6000:]}"
        return done.stdout

    def remove(self) -> None:
        """Stop everything and remove the folder."""
        done = self.playbook("playbooks/teardown.yml")
        left = find_supervised(str(self.state))
        for process in left:
            os.kill(process.pid, signal.SIGKILL)
        shutil.rmtree(self.state)
        assert done.returncode == 0, f"teardown.yml failed:\n{done.stdout[-6000:]}"
        assert not left, f"the teardown left {left}"
        assert not self.open_ports(), "the teardown left ports in use"

    def open_ports(self) -> list[str]:
        """Return the names of the ports on which somebody listens."""
        return [name for name, port in self.ports.items() if listens(port)]

    # Asking

    def check(self, module: str, **options: Any) -> Result:
        """Run a module of the collection in this process, as Ansible would call it, and return its result."""
        defaults: dict[str, Any] = {}
        if module.endswith("_check"):
            defaults = {"timeout": 2, "interval": 0.2}
        if module == "mail_check":
            defaults["endpoint"] = {"maildir": str(self.maildir)}
        elif module in ("alert_silence", "alert_check"):
            defaults["endpoint"] = self.endpoint("alertmanager" if module == "alert_silence" else "prometheus")
        elif module != "service_request":
            defaults["endpoint"] = self.endpoint("prometheus")
        else:
            defaults["endpoint"] = self.endpoint("app")
        if module == "alert_check":
            defaults["alertmanager"] = self.endpoint("alertmanager")
        main = importlib.import_module(f"{MODULES}.{module}").main
        output = io.StringIO()
        with (
            patch_module_args({**defaults, **options}),
            contextlib.redirect_stdout(output),
            contextlib.suppress(SystemExit),
        ):
            main()
        return {"failed": False, **json.loads(output.getvalue())}

    def process(self, name: str = APP) -> dict[str, Any]:
        """Return what the supervisor's exporter knows of a process."""
        processes = json.loads(fetch(f"{self.url('supervisor_exporter')}/api/v1/processes")[1])["processes"]
        return next(process for process in processes if process["container"] == name)

    def ready(self, program: str) -> bool:
        """Return whether a program does its work."""
        if program == "mail":
            return listens(self.ports["smtp"])
        port, path = {
            "prometheus": ("prometheus", "/-/ready"),
            "alertmanager": ("alertmanager", "/-/ready"),
            "supervisor-exporter": ("supervisor_exporter", "/healthz"),
            "node-exporter": ("node_exporter", "/metrics"),
            APP: ("app", "/readyz"),
            "catalog": ("catalog", "/readyz"),
        }[program]
        return fetch(f"{self.url(port)}{path}")[0] == 200

    # Working on the processes

    def ctl(self, *arguments: str) -> str:
        """Run supervisorctl and return what it said."""
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.state / "etc/supervisord.conf")]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"supervisorctl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    @contextlib.contextmanager
    def stopped(self, program: str) -> Iterator[None]:
        """Keep a program stopped."""
        self.ctl("stop", program)
        try:
            yield
        finally:
            self.ctl("start", program)
            self.await_ready(program)

    def restart(self, *programs: str) -> None:
        """Stop programs and start them again, in this order."""
        for program in programs:
            self.ctl("restart", program)
            self.await_ready(program)

    def await_ready(self, program: str) -> None:
        """Wait until a program does its work."""
        eventually(lambda: self.ready(program), f"{program} being ready")

    def kill(self, program: str) -> int:
        """Kill a program, or ``supervisord`` itself, as a defect or the kernel would; returns the pid it had."""
        pid = int(self.ctl("pid") if program == "supervisord" else self.ctl("pid", program))
        os.kill(pid, signal.SIGKILL)
        return pid

    # Working on the application

    def crash(self, times: int, run_id: str) -> None:
        """Crash the application so often, waiting for each restart."""
        for _ in range(times):
            before = self.process()["restarts"]
            crash = {"path": "/crash", "method": "POST", "allow_disconnect": True, "disruptive": True}
            answer = self.check("service_request", run_id=run_id, **crash)
            assert answer["changed"] and answer["disconnected"] == 1, answer

            def restarted(before: int = before) -> bool:
                process = self.process()
                return process["restarts"] > before and process["ready"] and self.ready(APP)

            eventually(restarted, "the restart of the application")

    def redeploy(self) -> None:
        """Replace the pod: a deliberate start, with a restart counter of 0."""
        self.restart(APP)
        eventually(lambda: self.process()["restarts"] == 0, "a new pod")

    def looping(self) -> Loop:
        """Return a pod whose alert fires and was mailed; make one when there is none, or the last one is over."""
        routed = {"alert": "PodCrashLoop", "state": "routed", "receiver": "mail"}
        if self.loop and self.check("alert_check", **routed, labels=self.loop.labels, timeout=0)["matched"]:
            return self.loop
        self.redeploy()
        run_id = f"broken-{uuid.uuid4().hex[:8]}"
        since = time.time()
        # A request that is scraped before the first crash, so that the alert knows the run.
        assert self.check("service_request", run_id=run_id)["statuses"] == {"200": 1}
        seen = self.check(
            "promql_check", query=f'vigie_run_last_seen_timestamp_seconds{{run_id="{run_id}"}}', timeout=10
        )
        assert seen["matched"], seen
        self.crash(3, run_id)
        mail = self.check(
            "mail_check", subject=r"\[FIRING\] PodCrashLoop", run_id=run_id, since=since, relay=self.relay, timeout=20
        )
        assert mail["matched"], mail
        self.loop = Loop(run_id, self.process()["pod"], since, mail["times"]["arrived"])
        return self.loop

    # Working on configurations

    def reload(self, program: str) -> bool:
        """Make Prometheus or Alertmanager read its files again; returns whether it accepted them."""
        success, when = self._reloads(program)
        self.ctl("signal", "HUP", program)
        # A refused reload leaves the time of the last good one as it is.
        eventually(
            lambda: self._reloads(program)[1] > when or (success and not self._reloads(program)[0]),
            f"the reload of {program}",
        )
        return self._reloads(program)[0]

    def _reloads(self, program: str) -> tuple[bool, float]:
        values: dict[str, float] = {}
        for line in fetch(f"{self.url(program)}/metrics")[1].splitlines():
            name, _, value = line.partition(" ")
            if name.startswith(f"{program}_config_last_reload_success"):
                values[name.removeprefix(f"{program}_config_last_reload_")] = float(value)
        return bool(values["successful"]), values["success_timestamp_seconds"]

    def targets(self) -> set[tuple[str, str]]:
        """Return job and address of what Prometheus scrapes."""
        active = json.loads(fetch(f"{self.url('prometheus')}/api/v1/targets?state=active")[1])["data"]["activeTargets"]
        return {(target["labels"]["job"], target["scrapeUrl"]) for target in active}

    @contextlib.contextmanager
    def edited(
        self, file: Path, *changes: tuple[str, str], accepted: bool = True, retargeted: bool = False
    ) -> Iterator[None]:
        """Keep a configuration file changed, and the program that reads it reloaded.

        Args:
            file: of Prometheus or Alertmanager.
            changes: old and new texts; every occurrence is changed, and there must be one.
            accepted: whether the program is expected to accept the change.
            retargeted: whether other targets come of it, which Prometheus takes up some seconds after the reload.
        """
        program = "alertmanager" if file == self.alertmanager_config else "prometheus"
        original = text = file.read_text()
        targets = self.targets() if retargeted else set()
        for old, new in changes:
            assert old in text, f"{old!r} is not in {file}:\n{text}"
            text = text.replace(old, new)
        file.write_text(text)
        try:
            assert self.reload(program) == accepted, f"{program} {'refused' if accepted else 'accepted'} the change"
            if retargeted:
                eventually(lambda: self.targets() != targets, "a scrape of other targets")
            yield
        finally:
            file.write_text(original)
            assert self.reload(program), f"{program} refuses its own configuration"
            if retargeted:
                eventually(lambda: self.targets() == targets, "a scrape of the right targets")

    @contextlib.contextmanager
    def heartbeats(self, *changes: tuple[str, str]) -> Iterator[None]:
        """Keep Alertmanager's configuration changed and the dead man's switch mailing every other second."""
        with self.edited(self.alertmanager_config, ("repeat_interval: 5m", "repeat_interval: 1s"), *changes):
            yield


def listens(port: int) -> bool:
    """Return whether somebody takes connections on a port."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((ADDRESS, port)) == 0


@contextlib.contextmanager
def own_lab(*, build: bool = True) -> Iterator[Lab]:
    """Build a lab, or only make its folder, and remove it afterwards whatever happened."""
    # Short, because the path of a unix socket is.
    state = Path(tempfile.mkdtemp(prefix="vigie-", dir="/tmp"))
    lab = Lab(state)
    packages = caller_state() / "packages"
    if packages.is_dir():
        # Not downloaded a second time.
        (state / "packages").symlink_to(packages.resolve())
    try:
        if build:
            lab.build()
        yield lab
    finally:
        lab.remove()
