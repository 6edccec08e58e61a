#!/usr/bin/env python3
"""Restart metrics of the processes under supervisord, with the names kube-state-metrics gives them on Kubernetes.

The program is an event listener of supervisord: it reads events on standard input, acknowledges them on standard output
and writes everything meant for people to standard error. In a thread it serves, on 127.0.0.1 only:

- ``/metrics``: the Prometheus text or OpenMetrics format, whichever the client accepts;
- ``/api/v1/processes``: the same knowledge as JSON, with the last runs of each process;
- ``/healthz``: 200 once the counts agree with supervisord, 503 before.

A process plays the part of a container, one deliberate start of it the part of a pod: supervisord starting it again by
itself (STARTING after EXITED or BACKOFF) adds one to its restart counter; a start that somebody asked for (STARTING after
STOPPED or FATAL) is a new pod with a new uid and a counter of 0; a process that was stopped has no pod, hence no ``kube_``
series until it is started again.

Why the counts survive ``kill -9`` of this program: supervisord keeps the events of an absent listener (``buffer_size`` of
them) and sends the unacknowledged one again. The state file is replaced *before* an event is acknowledged and holds its
serial number, so an event that comes twice is recognised. What was lost all the same (a buffer too small, a lost state
file) is repaired from a snapshot of supervisord; so that events still in the buffer aren't counted a second time, the
snapshot is taken together with a marker event in one XML-RPC call, and used only when that marker comes out of the buffer.

The stanza it needs (supervisord must also have ``[unix_http_server]`` and ``[rpcinterface:supervisor]``)::

    [eventlistener:supervisor-exporter]
    command = /path/to/python supervisor_exporter.py --port 9099 --state-file /path/to/state.json
    events = PROCESS_STATE,PROCESS_GROUP,REMOTE_COMMUNICATION
    buffer_size = 1000
    autorestart = true

Exit status: 0 when supervisord closes standard input, 2 for a bad option or surroundings, with one sentence that says which.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import json
import os
import re
import signal
import sys
import threading
import time
import urllib.parse
import uuid
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn, TextIO

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from supervisor.childutils import listener
from supervisor.xmlrpc import SupervisorTransport, UnixStreamHTTPConnection

HOST = "127.0.0.1"
HISTORY_LENGTH = 50  # runs kept per process
RPC_TIMEOUT = 5.0  # seconds; supervisord answers in milliseconds unless it is stuck
LOG_TAIL = 32768  # bytes of supervisord's log searched for the reason of an exit
MARKER = "vigie-sync"

SELF_RESTART = frozenset({"EXITED", "BACKOFF"})  # STARTING after these: supervisord's own doing
NO_PROCESS = frozenset({"STOPPED", "FATAL", "UNKNOWN"})  # STARTING after these: somebody's wish
WAITING = frozenset({"BACKOFF", "FATAL"})  # what Kubernetes shows as CrashLoopBackOff


class SetupError(Exception):
    """A bad option or surroundings; the text is one sentence with the variable, the value and the remedy."""


class RpcError(Exception):
    """supervisord did not answer an XML-RPC call, or refused it."""


@dataclasses.dataclass
class Run:
    """One life of a process; times in Unix seconds, None when it did not (yet) happen or was not seen."""

    uid: str
    started: float
    running: float | None = None
    exited: float | None = None
    expected: bool | None = None  # supervisord's judgement of the exit (option `exitcodes`)
    exit_reason: str | None = None  # "exit 1", "signal 9", "spawn error: ..."


@dataclasses.dataclass
class Process:
    """One supervised process and its current pod; times in Unix seconds."""

    group: str
    container: str
    uid: str = ""
    created: float = 0.0
    state: str = "UNKNOWN"
    pid: int = 0  # 0: not running, or not yet told by supervisord
    restarts: int = 0
    last_terminated: float | None = None
    history: list[Run] = dataclasses.field(default_factory=list)

    @property
    def pod(self) -> str:
        """Name of the pod, new with every deliberate start."""
        return f"{self.container}-{self.uid[:5]}"

    def new_pod(self, now: float) -> None:
        """Begin a new pod: new uid, counter 0."""
        self.uid = str(uuid.uuid4())
        self.created = now
        self.restarts = 0
        self.last_terminated = None

    def begin_run(self, now: float, *, restarted: bool) -> None:
        """Note a start at `now`: of the same pod (`restarted`) or of a new one."""
        self.end_run(now)  # an exit that was never reported
        if restarted:
            self.restarts += 1
        else:
            self.new_pod(now)
        self.state = "STARTING"
        self.history.append(Run(uid=self.uid, started=now))
        del self.history[:-HISTORY_LENGTH]

    def end_run(self, now: float, expected: bool | None = None, exit_reason: str | None = None) -> None:
        """Note that the process ended; does nothing when its end is known already."""
        self.pid = 0
        if not self.history or self.history[-1].exited is not None:
            return
        run = self.history[-1]
        run.exited, run.expected, run.exit_reason = now, expected, exit_reason
        self.last_terminated = now

    def seen_alive(self, pid: int, now: float) -> None:
        """Take `pid` as the running process; an unknown one means that its start was never reported."""
        if pid == self.pid:
            return
        if self.state != "STARTING" or self.pid:
            self.begin_run(now, restarted=self.state not in NO_PROCESS)
        self.pid = pid


class Ledger:
    """The account of all processes: turns events and snapshots into pods and counts. No input or output."""

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self.last_serial = -1
        self.processes: dict[str, Process] = {}

    def to_json(self) -> dict[str, Any]:
        """State as stored in the state file."""
        return {
            "boot": self.boot,
            "last_serial": self.last_serial,
            "processes": [dataclasses.asdict(process) for process in self.processes.values()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], boot: str) -> Ledger:
        """Restore a ledger; one written under another life of supervisord gives an empty one (all pods are new).

        Raises KeyError, TypeError or ValueError when `data` isn't what to_json() wrote.
        """
        ledger = cls(boot)
        if data["boot"] != boot:
            return ledger
        ledger.last_serial = int(data["last_serial"])
        for item in data["processes"]:
            process = Process(**{**item, "history": [Run(**run) for run in item["history"]]})
            ledger.processes[f"{process.group}:{process.container}"] = process
        return ledger

    def first_time(self, serial: int) -> bool:
        """Take note of the event with this serial; False when it was counted before and came again."""
        if serial <= self.last_serial:
            return False
        self.last_serial = serial
        return True

    def _process(self, group: str, name: str, now: float) -> Process:
        process = self.processes.get(f"{group}:{name}")
        if process is None:
            process = self.processes[f"{group}:{name}"] = Process(group, name)
            process.new_pod(now)
        return process

    def transition(
        self,
        group: str,
        name: str,
        state: str,
        from_state: str,
        now: float,
        *,
        pid: int = 0,
        expected: bool | None = None,
        exit_reason: str | None = None,
    ) -> None:
        """Account for one PROCESS_STATE event received at `now` (Unix seconds)."""
        process = self._process(group, name, now)
        if pid:
            process.seen_alive(pid, now)
        if state == "STARTING":
            process.begin_run(now, restarted=from_state in SELF_RESTART)
        elif state == "RUNNING" and process.history:
            process.history[-1].running = now
        elif state in ("EXITED", "BACKOFF", "STOPPED"):
            process.end_run(now, expected, exit_reason)
        process.state = state

    def remove_group(self, group: str) -> None:
        """Forget the processes of a group that supervisord no longer has."""
        self.processes = {key: process for key, process in self.processes.items() if process.group != group}

    def reconcile(self, snapshot: Sequence[Mapping[str, Any]], now: float) -> None:
        """Correct the account by supervisord's own (getAllProcessInfo), which must be of the same moment.

        Same pid, same run. Another pid: a restart that no event reported, counted as one. No pid: the run is over.
        """
        keys = set()
        for info in snapshot:
            group, name, state, pid = info["group"], info["name"], info["statename"], int(info["pid"])
            keys.add(f"{group}:{name}")
            known = f"{group}:{name}" in self.processes
            process = self._process(group, name, now)
            if pid:
                # Never heard of: it is as old as supervisord says (whole seconds), not as old as our knowledge.
                process.seen_alive(pid, now if known else float(info["start"]))
                if state == "RUNNING" and process.history[-1].running is None:
                    process.history[-1].running = now
            else:
                process.end_run(now)
            process.state = state
        self.processes = {key: process for key, process in self.processes.items() if key in keys}


class _UnixConnection(UnixStreamHTTPConnection):
    """supervisor's connection to the Unix socket, with the timeout that it lacks."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(RPC_TIMEOUT)


class _Transport(SupervisorTransport):
    """supervisor's XML-RPC transport, with timeouts: a stuck supervisord must not hang its listener for ever."""

    def _get_connection(self) -> http.client.HTTPConnection:
        if self.serverurl.startswith("unix://"):
            connection = _UnixConnection("localhost")
            connection.socketfile = self.serverurl.removeprefix("unix://")
            return connection
        address = urllib.parse.urlparse(self.serverurl)
        return http.client.HTTPConnection(address.hostname or HOST, address.port or 80, timeout=RPC_TIMEOUT)

    def __init__(self, environment: Mapping[str, str]) -> None:
        username, password = environment.get("SUPERVISOR_USERNAME", ""), environment.get("SUPERVISOR_PASSWORD", "")
        super().__init__(username, password, environment["SUPERVISOR_SERVER_URL"])
        del self.__dict__["_get_connection"]  # the base class sets its own on the instance


class Supervisord:
    """The questions this program asks supervisord over XML-RPC; each raises RpcError."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._transport = _Transport(environment)
        # The URL is only a formality: the transport goes where SUPERVISOR_SERVER_URL points.
        self._proxy: Any = xmlrpc.client.ServerProxy(f"http://{HOST}", transport=self._transport)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except RpcError:
            raise
        except (OSError, http.client.HTTPException, xmlrpc.client.Error, ValueError) as error:
            self._transport.close()  # a connection in an unknown state is never used again
            raise RpcError(f"{type(error).__name__}: {error}") from error
        except Exception as error:  # pyexpat's error, for a log line with control characters in it
            self._transport.close()
            raise RpcError(f"unreadable answer: {error}") from error

    def pid(self) -> int:
        """Process id of supervisord."""
        with self._errors():
            return int(self._proxy.supervisor.getPID())

    def snapshot_with_marker(self, token: str) -> list[dict[str, Any]]:
        """All processes as they are now, and in the same instant an event that carries `token`."""
        with self._errors():
            # Executed in one go: nothing can happen to a process in between. Not xmlrpc.client.MultiCall, which expects
            # each result in a list of its own as the standard has it; supervisord sends them bare.
            _, snapshot = self._proxy.system.multicall(
                [
                    {"methodName": "supervisor.sendRemoteCommEvent", "params": [MARKER, token]},
                    {"methodName": "supervisor.getAllProcessInfo", "params": []},
                ]
            )
            if not isinstance(snapshot, list):  # a fault, for instance while supervisord shuts down
                raise RpcError(str(snapshot))
            return snapshot

    def spawn_error(self, group: str, name: str) -> str | None:
        """Why the process in BACKOFF could not even be started; None when it was started and died."""
        with self._errors():
            text = str(self._proxy.supervisor.getProcessInfo(f"{group}:{name}")["spawnerr"])
        return None if not text or text.startswith(("Exited too quickly", "Bad exit code")) else f"spawn error: {text}"

    def log_tail(self) -> str:
        """End of supervisord's own log."""
        with self._errors():
            return str(self._proxy.supervisor.readLog(-LOG_TAIL, 0))


LOG_LINE = re.compile(
    r"(?:spawned: '(?P<spawned>[^']+)' with pid (?P<pid>\d+)"
    r"|(?:exited|stopped): (?P<ended>\S+) \((?:exit status (?P<status>\d+)|terminated by (?P<signal>\w+)))"
)


def exit_reason_from_log(log: str, name: str, pid: int) -> str | None:
    """Why process `name` with `pid` (0: the last one) ended, from supervisord's log: "exit 3", "signal 9" or None.

    The log is the only place that has it. getProcessInfo() knows -1 for every signal and 0 for a process that died before
    `startsecs`, and supervisord has mostly started the process again before the event of its death is delivered.
    """
    reason, reason_without_pid, current_pid = None, None, 0
    for line in LOG_LINE.finditer(log):
        if line["spawned"] == name:
            current_pid = int(line["pid"])
        elif line["ended"] == name:
            if line["status"] is not None:
                found = f"exit {line['status']}"
            else:
                number = getattr(signal.Signals, line["signal"], None)
                found = f"signal {int(number) if number is not None else line['signal']}"
            if pid in (0, current_pid):
                reason = found
            elif not current_pid:  # it was started before the part of the log that was read
                reason_without_pid = found
            current_pid = 0
    return reason or reason_without_pid


def boot_identity(pid: int) -> str:
    """Identify one life of supervisord: its pid, its start in clock ticks and the life of the kernel."""
    try:
        start_ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except (OSError, IndexError):
        return str(pid)
    return f"{pid}-{start_ticks}-{kernel}"


def log(message: str) -> None:
    """Tell people something; standard output belongs to supervisord."""
    print(f"supervisor_exporter: {message}", file=sys.stderr, flush=True)


class Exporter:
    """Joins the ledger, its file, supervisord and the two readers (Prometheus and people)."""

    def __init__(self, namespace: str, state_file: Path, supervisord: Supervisord) -> None:
        self.namespace = namespace
        self.state_file = state_file
        self.supervisord = supervisord
        self.supervisord_pid = supervisord.pid()
        self.listener_started = time.time()
        self.lock = threading.Lock()  # guards ledger and synced, which the HTTP threads read
        self.ledger = self._load(boot_identity(self.supervisord_pid))
        self.synced = False
        self._token: str | None = None
        self._snapshot: list[dict[str, Any]] = []
        self._pool_serial = -1
        self._save()

    def _load(self, boot: str) -> Ledger:
        try:
            return Ledger.from_json(json.loads(self.state_file.read_text(encoding="utf-8")), boot)
        except FileNotFoundError:
            return Ledger(boot)
        except OSError as error:
            raise SetupError(
                f"--state-file {self.state_file} cannot be read ({error.strerror}): give a file that this user owns."
            ) from error
        except (KeyError, TypeError, ValueError, AttributeError):
            log(
                f"--state-file {self.state_file} is damaged: its counts are lost and start again from supervisord's present state."
            )
            return Ledger(boot)

    def _save(self) -> None:
        # No fsync: the file has to survive this process, not the host, whose reboot ends supervisord and its pods anyway.
        temporary = self.state_file.with_name(self.state_file.name + ".tmp")
        try:
            temporary.write_text(json.dumps(self.ledger.to_json()), encoding="utf-8")
            temporary.replace(self.state_file)
        except OSError as error:
            raise SetupError(
                f"--state-file {self.state_file} cannot be written ({error.strerror}): "
                "give a file in a directory that this user can write to, with space left."
            ) from error

    def handle_event(self, headers: Mapping[str, str], payload: str, now: float) -> None:
        """Account for one event of supervisord and store the result. Never raises for a failing RPC or disk."""
        event, pool_serial = headers["eventname"], int(headers["poolserial"])
        gap = self._pool_serial >= 0 and pool_serial > self._pool_serial + 1
        self._pool_serial = pool_serial
        fields = dict(part.split(":", 1) for part in payload.split() if ":" in part)
        if event.startswith("PROCESS_STATE_"):
            fields["exit_reason"] = self._exit_reason(event.removeprefix("PROCESS_STATE_"), fields) or ""
        with self.lock:
            if self.ledger.first_time(int(headers["serial"])):
                self._account(event, fields, payload, now)
                try:
                    self._save()
                except SetupError as error:
                    log(f"{error} Until then a crash of this program loses counts.")
        if gap:
            log(
                "supervisord dropped events (raise buffer_size of this listener): counts are corrected from its present state."
            )
        # Not at one's own marker: a failing question would ask itself again without end.
        if gap or (self._token is None and not self.synced and event != "REMOTE_COMMUNICATION"):
            self._ask_for_snapshot()

    def _account(self, event: str, fields: Mapping[str, str], payload: str, now: float) -> None:
        if event.startswith("PROCESS_STATE_"):
            state = event.removeprefix("PROCESS_STATE_")
            self.ledger.transition(
                fields["groupname"],
                fields["processname"],
                state,
                fields["from_state"],
                now,
                pid=int(fields.get("pid", 0)),
                expected={"0": False, "1": True}.get(fields.get("expected", ""), False if state == "BACKOFF" else None),
                exit_reason=fields["exit_reason"] or None,
            )
        elif event == "PROCESS_GROUP_REMOVED":
            self.ledger.remove_group(fields["groupname"])
        elif event == "REMOTE_COMMUNICATION" and self._token and self._token in payload:
            self.ledger.reconcile(self._snapshot, now)
            self._token, self._snapshot, self.synced = None, [], True

    def _exit_reason(self, state: str, fields: Mapping[str, str]) -> str | None:
        try:
            if state == "BACKOFF":
                error = self.supervisord.spawn_error(fields["groupname"], fields["processname"])
                if error:
                    return error
            if state in ("EXITED", "STOPPED", "BACKOFF"):
                return exit_reason_from_log(
                    self.supervisord.log_tail(), fields["processname"], int(fields.get("pid", 0))
                )
        except RpcError as error:  # supervisord refuses to answer while it shuts down, and may have no log file
            log(f"no exit reason of {fields['processname']}: {error}")
        return None

    def _ask_for_snapshot(self) -> None:
        # Asked for at the first event, not at the start: supervisord sends nothing before it takes this program as RUNNING.
        token = uuid.uuid4().hex
        try:
            snapshot = self.supervisord.snapshot_with_marker(token)
        except RpcError as error:
            log(f"no snapshot of supervisord, asking again at the next event: {error}")
            return
        self._token, self._snapshot = token, snapshot

    def processes_json(self) -> dict[str, Any]:
        """Body of /api/v1/processes; times in Unix seconds."""
        with self.lock:
            return {
                "listener_started": self.listener_started,
                "supervisord_pid": self.supervisord_pid,
                "namespace": self.namespace,
                "synced": self.synced,
                "processes": [
                    {
                        "container": process.container,
                        "pod": process.pod,
                        "uid": process.uid,
                        "namespace": self.namespace,
                        "state": process.state,
                        "pid": process.pid or None,
                        "restarts": process.restarts,
                        "created": process.created,
                        "ready": process.state == "RUNNING",
                        "history": [dataclasses.asdict(run) for run in process.history],
                    }
                    for process in self.ledger.processes.values()
                ],
            }


class RestartCollector(Collector):
    """The metrics, with the names and labels of kube-state-metrics."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter

    def describe(self) -> list[Metric]:
        """Nothing: spares a collection at registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Build all samples from one consistent view of the ledger."""
        pod_labels = ["namespace", "pod", "uid"]
        labels = ["namespace", "pod", "container", "uid"]
        restarts = CounterMetricFamily(
            "kube_pod_container_status_restarts", "Starts that supervisord made by itself after an exit.", labels=labels
        )
        created = GaugeMetricFamily("kube_pod_created", "Unix time of the deliberate start.", labels=pod_labels)
        # As in kube-state-metrics the series is there while the reason holds, and gone afterwards.
        waiting = GaugeMetricFamily(
            "kube_pod_container_status_waiting_reason",
            "The process is down and supervisord waits before the next try, or gave up.",
            labels=[*labels, "reason"],
        )
        terminated = GaugeMetricFamily(
            "kube_pod_container_status_last_terminated_timestamp", "Unix time of the last exit.", labels=labels
        )
        ready = GaugeMetricFamily(
            "kube_pod_container_status_ready", "1 while supervisord takes it as RUNNING.", labels=labels
        )
        up = GaugeMetricFamily(
            "supervisor_process_up",
            "1 while RUNNING; also there for stopped processes.",
            labels=["namespace", "container"],
        )
        namespace = self._exporter.namespace
        with self._exporter.lock:
            for process in self._exporter.ledger.processes.values():
                running = float(process.state == "RUNNING")
                up.add_metric([namespace, process.container], running)
                if process.state == "STOPPED":
                    continue
                key = [namespace, process.pod, process.container, process.uid]
                restarts.add_metric(key, process.restarts)
                created.add_metric([namespace, process.pod, process.uid], process.created)
                ready.add_metric(key, running)
                if process.state in WAITING:
                    waiting.add_metric([*key, "CrashLoopBackOff"], 1)
                if process.last_terminated is not None:
                    terminated.add_metric(key, process.last_terminated)
        yield from (restarts, created, waiting, terminated, ready, up)


def start_http_server(exporter: Exporter, port: int) -> ThreadingHTTPServer:
    """Serve the three paths on 127.0.0.1:`port` from daemon threads; raises SetupError when the port is taken."""
    registry = CollectorRegistry()
    registry.register(RestartCollector(exporter))
    ProcessCollector(registry=registry)

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds, for a client that says nothing

        def do_GET(self) -> None:
            """Answer one of the three paths."""
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, content_type, encode(registry))
            elif path == "/api/v1/processes":
                self._answer_json(200, exporter.processes_json())
            elif path == "/healthz":
                if exporter.synced:
                    self._answer_json(200, {"status": "ok"})
                else:
                    reason = (
                        "no snapshot of supervisord yet; if this lasts, its events option lacks REMOTE_COMMUNICATION"
                    )
                    self._answer_json(503, {"status": "unsynced", "reason": reason})
            else:
                self._answer_json(404, {"error": f"{path} is not one of /metrics, /api/v1/processes, /healthz"})

        def _answer_json(self, status: int, body: Mapping[str, Any]) -> None:
            self._answer(status, "application/json", json.dumps(body).encode())

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent: a scrape every few seconds is no news."""

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise SetupError(f"--port {port} cannot be bound on {HOST} ({error.strerror}): choose a free port.") from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server


def listen(exporter: Exporter, stdin: TextIO) -> None:
    """Receive events until supervisord closes `stdin`."""
    with contextlib.suppress(BrokenPipeError):  # supervisord died while we answered
        while True:
            listener.ready()
            line = stdin.readline()
            now = time.time()
            if not line:
                return
            headers = dict(part.split(":", 1) for part in line.split())
            payload = stdin.read(int(headers["len"]))
            try:
                exporter.handle_event(headers, payload, now)
            except Exception as error:  # else supervisord would send this one event again and again, and no other
                log(f"event {headers} with payload {payload!r} is not understood ({error!r}) and skipped.")
            listener.ok()


class Parser(argparse.ArgumentParser):
    """argparse with one-sentence errors."""

    def error(self, message: str) -> NoReturn:
        """Print the sentence and leave with status 2."""
        self.exit(2, f"supervisor_exporter: {message} (see --help).\n")


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 1 to 65535")
    return int(text)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; leaves with status 2 when it is wrong."""
    parser = Parser(
        prog="supervisor_exporter",
        description="Restart metrics of supervised processes, as kube-state-metrics names them.",
    )
    parser.add_argument("--port", type=_port, required=True, help=f"port to serve on {HOST}")
    parser.add_argument(
        "--state-file", type=Path, required=True, help="file that keeps the counts; its directory must exist"
    )
    parser.add_argument("--namespace", default="vigie", help="value of the namespace label (default: %(default)s)")
    return parser.parse_args(arguments)


def main() -> int:
    """Run until supervisord closes standard input; returns the exit status."""
    options = parse_arguments()
    try:
        if "SUPERVISOR_SERVER_URL" not in os.environ:
            raise SetupError(
                "SUPERVISOR_SERVER_URL is not set: run this program as an [eventlistener:...] of a supervisord "
                "that has a [unix_http_server] section."
            )
        try:
            exporter = Exporter(options.namespace, options.state_file, Supervisord(os.environ))
        except (RpcError, ValueError) as error:
            raise SetupError(
                f"SUPERVISOR_SERVER_URL {os.environ['SUPERVISOR_SERVER_URL']} does not answer ({error}): "
                "give supervisord a [unix_http_server] and an [rpcinterface:supervisor] section."
            ) from error
        start_http_server(exporter, options.port)
    except SetupError as error:
        log(str(error))
        return 2
    listen(exporter, sys.stdin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
