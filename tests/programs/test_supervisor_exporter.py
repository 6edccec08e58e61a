"""The supervisor exporter: its accounting alone, then under a real supervisord with real crashes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from conftest import DEADLINE, EXPORTER, LISTENER, free_port, load_program, wait_for
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Lab

exporter = load_program(EXPORTER)

# --- the accounting, without supervisord ------------------------------------------------------------------------------


class Script:
    """Feeds a ledger with events, one second apart."""

    def __init__(self) -> None:
        self.ledger = exporter.Ledger("boot")
        self.now = 1000.0

    def event(self, state: str, from_state: str, **facts: Any) -> Any:
        """One event about the process `app`; returns the process."""
        self.now += 1
        self.ledger.transition("app", "app", state, from_state, self.now, **facts)
        return self.app

    def snapshot(self, state: str, pid: int, start: int = 990) -> Any:
        """A snapshot with the process `app` in it; returns the process."""
        self.now += 1
        self.ledger.reconcile(
            [{"group": "app", "name": "app", "statename": state, "pid": pid, "start": start}], self.now
        )
        return self.app

    @property
    def app(self) -> Any:
        return self.ledger.processes["app:app"]


@pytest.fixture
def script() -> Script:
    """A ledger in which `app` is RUNNING with pid 10, for the first time."""
    script = Script()
    script.event("STARTING", "STOPPED")
    script.event("RUNNING", "STARTING", pid=10)
    return script


def test_a_self_made_restart_counts_and_keeps_the_pod(script: Script) -> None:
    uid, created = script.app.uid, script.app.created
    script.event("EXITED", "RUNNING", pid=10, expected=False, exit_reason="exit 1")
    app = script.event("STARTING", "EXITED")
    assert (app.restarts, app.uid, app.created) == (1, uid, created)
    first, second = app.history
    assert (first.started, first.running, first.exited) == (1001, 1002, 1003)
    assert (first.expected, first.exit_reason) == (False, "exit 1")
    assert (second.started, second.running, second.exited) == (1004, None, None)
    assert app.last_terminated == 1003


@pytest.mark.parametrize("from_state", ["STOPPED", "FATAL"])
def test_a_deliberate_start_is_a_new_pod(script: Script, from_state: str) -> None:
    uid, pod = script.app.uid, script.app.pod
    script.event("EXITED", "RUNNING", pid=10)
    script.event("STARTING", "EXITED")
    app = script.event("STARTING", from_state)
    assert app.restarts == 0
    assert app.uid != uid and app.pod != pod
    assert app.created == script.now
    assert app.last_terminated is None


def test_history_is_bounded(script: Script) -> None:
    for pid in range(11, 91):
        script.event("EXITED", "RUNNING", pid=pid - 1)
        script.event("STARTING", "EXITED")
        script.event("RUNNING", "STARTING", pid=pid)
    assert script.app.restarts == 80
    assert len(script.app.history) == 50
    assert script.app.history[-1].running == script.now


def test_an_event_that_comes_twice_is_recognised() -> None:
    ledger = exporter.Ledger("boot")
    assert [ledger.first_time(serial) for serial in (4, 5, 5, 4, 6)] == [True, True, False, False, True]


def test_snapshot_with_the_same_pid_changes_nothing(script: Script) -> None:
    before = script.ledger.to_json()
    script.snapshot("RUNNING", 10)
    assert script.ledger.to_json() == before


def test_snapshot_with_another_pid_is_one_restart(script: Script) -> None:
    uid = script.app.uid
    app = script.snapshot("RUNNING", 11)
    assert (app.restarts, app.uid, app.pid) == (1, uid, 11)
    app = script.event("EXITED", "RUNNING", pid=11)
    assert app.restarts == 1


def test_snapshot_gives_a_starting_process_its_pid_without_a_restart(script: Script) -> None:
    script.event("EXITED", "RUNNING", pid=10)
    script.event("STARTING", "EXITED")
    assert script.snapshot("STARTING", 11).restarts == 1
    assert script.event("RUNNING", "STARTING", pid=11).restarts == 1


def test_snapshot_of_a_dead_process_ends_its_run(script: Script) -> None:
    app = script.snapshot("STOPPED", 0)
    assert (app.state, app.pid, app.restarts) == ("STOPPED", 0, 0)
    assert app.history[-1].exited == script.now
    assert script.snapshot("RUNNING", 12).restarts == 0, "a process that was stopped was started deliberately"


def test_snapshot_of_an_unknown_process_is_as_old_as_supervisord_says() -> None:
    script = Script()
    app = script.snapshot("RUNNING", 77, start=500)
    assert (app.created, app.restarts, app.pid, app.state) == (500.0, 0, 77, "RUNNING")


def test_snapshot_forgets_what_is_gone(script: Script) -> None:
    script.ledger.reconcile([], 2000.0)
    assert script.ledger.processes == {}


def test_a_lost_start_is_seen_by_its_pid(script: Script) -> None:
    app = script.event("EXITED", "RUNNING", pid=12)
    assert app.restarts == 1, "pid 10 became pid 12 with no event: it was restarted"


def test_state_survives_its_file_but_not_another_supervisord(script: Script) -> None:
    script.event("EXITED", "RUNNING", pid=10, exit_reason="signal 9")
    script.event("STARTING", "EXITED")
    script.ledger.first_time(41)
    stored = json.loads(json.dumps(script.ledger.to_json()))
    same = exporter.Ledger.from_json(stored, "boot")
    assert same.to_json() == script.ledger.to_json()
    assert not same.first_time(41)
    other = exporter.Ledger.from_json(stored, "another boot")
    assert other.processes == {}
    assert other.first_time(0)


class SilentSupervisord:
    """Answers the questions of an Exporter; there is no supervisord."""

    def pid(self) -> int:
        return os.getpid()

    def log_tail(self) -> str:
        raise exporter.RpcError("no log file")

    def snapshot_with_marker(self, token: str) -> list[Any]:
        raise exporter.RpcError("not now")


def test_kill_between_saving_and_acknowledging(tmp_path: Path) -> None:
    def new_listener() -> Any:
        return exporter.Exporter("vigie", tmp_path / "state.json", SilentSupervisord())

    def send(listener: Any, serial: int, state: str, from_state: str, pid: str = "") -> None:
        headers = {"eventname": f"PROCESS_STATE_{state}", "serial": str(serial), "poolserial": str(serial)}
        listener.handle_event(headers, f"processname:app groupname:app from_state:{from_state} {pid}", 1000.0 + serial)

    listener = new_listener()
    send(listener, 0, "STARTING", "STOPPED", "tries:0")
    send(listener, 1, "EXITED", "RUNNING", "expected:0 pid:10")
    send(listener, 2, "STARTING", "EXITED", "tries:0")
    before = listener.processes_json()["processes"]
    assert before[0]["restarts"] == 1
    listener = new_listener()  # the old one was killed before supervisord read its acknowledgement
    send(listener, 2, "STARTING", "EXITED", "tries:0")
    assert listener.processes_json()["processes"] == before
    send(listener, 3, "RUNNING", "STARTING", "pid:11")
    assert listener.processes_json()["processes"][0]["ready"]


LOG = """\
2026-11-24 11:10:00,000 WARN exited: app (terminated by SIGSEGV (core dumped); not expected)
2026-11-24 11:10:00,100 INFO spawned: 'app' with pid 20
2026-11-24 11:10:00,200 INFO spawned: 'app2' with pid 21
2026-11-24 11:10:01,000 WARN exited: app2 (exit status 9; not expected)
2026-11-24 11:10:02,000 WARN exited: app (exit status 3; not expected)
2026-11-24 11:10:02,100 INFO spawned: 'app' with pid 22
2026-11-24 11:10:03,000 INFO stopped: app (terminated by SIGKILL)
"""


@pytest.mark.parametrize(
    ("pid", "reason"),
    [(20, "exit 3"), (22, "signal 9"), (0, "signal 9"), (19, "signal 11")],
    ids=["by pid", "stopped", "last", "started before the part that was read"],
)
def test_exit_reason_from_the_log(pid: int, reason: str) -> None:
    assert exporter.exit_reason_from_log(LOG, "app", pid) == reason


def test_exit_reason_is_never_somebody_elses() -> None:
    assert exporter.exit_reason_from_log(LOG, "ap", 0) is None
    assert exporter.exit_reason_from_log(LOG.split("\n", 1)[1], "app", 19) is None


# --- under supervisord ------------------------------------------------------------------------------------------------


def test_crashes_are_counted_with_their_reasons(lab: Lab) -> None:
    before = lab.wait_process("counted", "ready", lambda process: process["ready"])
    assert (before["restarts"], before["namespace"]) == (0, "vigie")
    assert before["pod"] == f"counted-{before['uid'][:5]}"
    lab.crash("counted", signal.SIGUSR1)
    pid = lab.crash("counted", signal.SIGKILL)
    after = lab.wait_process("counted", "two restarts", lambda process: process["restarts"] >= 2 and process["ready"])
    assert (after["restarts"], after["uid"], after["pod"], after["pid"]) == (2, before["uid"], before["pod"], pid)
    first, second, third = after["history"]
    assert [run["exit_reason"] for run in (first, second, third)] == ["exit 3", "signal 9", None]
    assert [run["expected"] for run in (first, second, third)] == [False, False, None]
    times = [first["started"], first["running"], first["exited"], second["started"], second["running"]]
    times += [second["exited"], third["started"], third["running"]]
    assert times == sorted(times)
    samples = lab.samples("counted")
    labels = {"pod": after["pod"], "uid": after["uid"]}
    assert samples["kube_pod_container_status_restarts_total"] == (labels, 2.0)
    assert samples["kube_pod_created"] == (labels, after["created"])
    assert samples["kube_pod_container_status_last_terminated_timestamp"] == (labels, second["exited"])
    assert samples["kube_pod_container_status_ready"] == (labels, 1.0)
    assert samples["supervisor_process_up"] == ({}, 1.0)
    assert "kube_pod_container_status_waiting_reason" not in samples


def test_a_deliberate_restart_is_a_new_pod(lab: Lab) -> None:
    lab.crash("redeployed")
    old = lab.wait_process("redeployed", "one restart", lambda process: process["restarts"] == 1 and process["ready"])
    lab.ctl("restart", "redeployed")
    new = lab.wait_process("redeployed", "a new pod", lambda process: process["uid"] != old["uid"] and process["ready"])
    assert new["restarts"] == 0
    assert new["created"] > old["created"]
    assert new["history"][-2]["exit_reason"] == "signal 15"
    assert [run["uid"] for run in new["history"]] == [old["uid"], old["uid"], new["uid"]]
    samples = lab.samples("redeployed")
    assert samples["kube_pod_container_status_restarts_total"] == ({"pod": new["pod"], "uid": new["uid"]}, 0.0)
    assert "kube_pod_container_status_last_terminated_timestamp" not in samples


def test_a_stopped_process_has_no_pod(lab: Lab) -> None:
    assert "kube_pod_created" in lab.samples("stopped")
    lab.ctl("stop", "stopped")
    lab.wait_process("stopped", "stopped", lambda process: process["state"] == "STOPPED")
    assert lab.samples("stopped") == {"supervisor_process_up": ({}, 0.0)}


def test_a_child_that_dies_at_once_is_in_crash_loop_back_off(lab: Lab) -> None:
    lab.start_process("dies")
    waiting = "kube_pod_container_status_waiting_reason"
    process = lab.wait_process("dies", "waiting for the next try", lambda process: process["state"] == "BACKOFF")
    labels = {"pod": process["pod"], "uid": process["uid"], "reason": "CrashLoopBackOff"}
    assert lab.samples("dies")[waiting] == (labels, 1.0)
    process = lab.wait_process("dies", "given up", lambda process: process["state"] == "FATAL")
    samples = lab.samples("dies")
    assert samples[waiting] == (labels, 1.0)
    assert samples["kube_pod_container_status_restarts_total"][1] == process["restarts"] == 2
    assert samples["kube_pod_container_status_ready"][1] == 0.0
    assert [(run["exit_reason"], run["expected"]) for run in process["history"]] == [("exit 7", False)] * 3
    lab.start_process("dies")
    again = lab.wait_process("dies", "a new pod", lambda again: again["uid"] != process["uid"])
    assert again["restarts"] < 2


def test_a_program_that_is_missing(lab: Lab) -> None:
    process = lab.wait_process("missing", "given up", lambda process: process["state"] == "FATAL")
    assert process["history"][-1]["exit_reason"] == "spawn error: can't find command '/no/such/program'"
    assert process["pid"] is None


def test_a_finished_job_is_neither_ready_nor_waiting(lab: Lab) -> None:
    lab.ctl("start", "oneshot")
    process = lab.wait_process("oneshot", "finished", lambda process: process["state"] == "EXITED")
    assert (process["restarts"], process["ready"]) == (0, False)
    assert (process["history"][-1]["exit_reason"], process["history"][-1]["expected"]) == ("exit 0", True)
    samples = lab.samples("oneshot")
    assert samples["kube_pod_container_status_ready"][1] == 0.0
    assert "kube_pod_container_status_waiting_reason" not in samples


def test_text_and_openmetrics_say_the_same(lab: Lab) -> None:
    _, text_type, text = lab.get("/metrics")
    _, open_type, openmetrics = lab.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert text_type.startswith("text/plain")
    assert open_type.startswith("application/openmetrics-text; version=1.0.0")

    def ours(families: Any) -> set[Any]:
        return {
            (sample.name, tuple(sorted(sample.labels.items())), sample.value)
            for family in families
            for sample in family.samples
            if sample.labels.get("container") == "formats" or sample.labels.get("pod", "").startswith("formats-")
        }

    assert ours(parse_text(text)) == ours(parse_openmetrics(openmetrics)) != set()


def test_paths_and_the_listener_itself(lab: Lab) -> None:
    status, content_type, body = lab.get("/api/v1/processes")
    answer = json.loads(body)
    assert (status, content_type) == (200, "application/json")
    assert answer["supervisord_pid"] == lab.rpc.supervisor.getPID()
    assert answer["listener_started"] <= time.time()
    assert {process["container"] for process in answer["processes"]} == {LISTENER, *lab.programs}
    assert lab.get("/healthz")[0] == 200
    assert lab.get("/nothing")[0] == 404


def test_silent_clients_hold_nothing_up(lab: Lab) -> None:
    clients = [socket.create_connection(("127.0.0.1", lab.port)) for _ in range(20)]
    try:
        lab.crash("undisturbed")
        lab.wait_process("undisturbed", "one restart", lambda process: process["restarts"] == 1)
    finally:
        for client in clients:
            client.close()


def test_a_removed_group_disappears(lab: Lab) -> None:
    lab.add("passing")
    lab.write_configuration()
    lab.ctl("update")
    lab.wait_process("passing", "ready", lambda process: process["ready"])
    del lab.programs["passing"]
    lab.write_configuration()
    lab.ctl("update")
    wait_for(lambda: lab.process("passing") is None, "the disappearance of the removed process")
    assert lab.samples("passing") == {}


def test_kill_of_the_listener_loses_and_doubles_nothing(new_lab: Callable[[], Lab]) -> None:
    lab = new_lab()
    lab.add("app")
    lab.start()
    before = lab.wait_process("app", "ready", lambda process: process["ready"])
    crashes = 0
    for first in ("listener", "app", "listener", "app"):  # both die within milliseconds, in either order
        victims = [lab.running_pid(LISTENER), lab.running_pid("app")]
        for pid in victims if first == "listener" else reversed(victims):
            os.kill(pid, signal.SIGKILL)
        crashes += 1
        for name, pid in zip((LISTENER, "app"), victims, strict=True):
            wait_for(lambda name=name, pid=pid: lab.running_pid(name, other_than=pid), f"{name} restarted")
    # The listener stops reading, so the next event reaches its pipe and is never acknowledged: supervisord repeats it.
    os.kill(lab.running_pid(LISTENER), signal.SIGSTOP)
    lab.crash("app")
    crashes += 1
    os.kill(lab.running_pid(LISTENER), signal.SIGKILL)
    pid = lab.running_pid("app")
    after = lab.wait_process("app", f"{crashes} restarts", lambda p: p["restarts"] >= crashes and p["pid"] == pid)
    lab.wait_synced()
    assert (after["restarts"], after["uid"]) == (crashes, before["uid"])
    listener = lab.wait_process(LISTENER, "back", lambda process: process["ready"] and process["restarts"] >= 5)
    assert listener["restarts"] == 5
    lab.crash("app")
    lab.wait_process("app", "one more restart", lambda process: process["restarts"] == crashes + 1 and process["ready"])


def test_crashes_while_the_listener_is_away_are_counted_exactly(new_lab: Callable[[], Lab]) -> None:
    lab = new_lab()
    lab.listener_options = "autorestart=false\nbuffer_size=1000"
    lab.add("app")
    lab.add("quiet")
    lab.add("redeployed")
    lab.start()
    lab.crash("app")
    lab.wait_process("app", "one restart", lambda process: process["restarts"] == 1 and process["ready"])
    quiet, redeployed = lab.process("quiet"), lab.process("redeployed")
    assert quiet and redeployed

    os.kill(lab.running_pid(LISTENER), signal.SIGKILL)
    wait_for(lambda: lab.info(LISTENER)["statename"] == "EXITED", "the listener's end")
    for _ in range(3):
        pid = lab.crash("app")
    lab.ctl("restart", "redeployed")
    lab.ctl("start", LISTENER)
    lab.wait_synced()
    app = lab.wait_process("app", "all restarts", lambda process: process["restarts"] >= 4 and process["ready"])
    assert (app["restarts"], app["pid"]) == (4, pid)
    assert [run["exit_reason"] for run in app["history"]] == ["signal 9"] * 4 + [None]
    assert lab.process("quiet") == quiet
    again = lab.process("redeployed")
    assert again and (again["restarts"], again["uid"] != redeployed["uid"]) == (0, True)

    # Without its file it knows what supervisord knows: no counts, but no invented ones either.
    os.kill(lab.running_pid(LISTENER), signal.SIGKILL)
    wait_for(lambda: lab.info(LISTENER)["statename"] == "EXITED", "the listener's end")
    lab.state_file.write_text("{ damaged")
    lab.ctl("start", LISTENER)
    lab.wait_synced()
    app = lab.wait_process("app", "known again", lambda process: process["ready"])
    assert (app["restarts"], app["pid"], app["created"]) == (0, pid, float(lab.info("app")["start"]))
    assert "damaged" in (lab.directory / "exporter.log").read_text()


def test_events_that_supervisord_dropped_are_repaired(new_lab: Callable[[], Lab]) -> None:
    lab = new_lab()
    lab.listener_options = "autorestart=false\nbuffer_size=2"
    lab.add("app")
    lab.add("other")
    lab.start()
    before = lab.wait_process("app", "ready", lambda process: process["ready"])
    os.kill(lab.running_pid(LISTENER), signal.SIGKILL)
    wait_for(lambda: lab.info(LISTENER)["statename"] == "EXITED", "the listener's end")
    pid = lab.crash("app")
    for _ in range(2):  # push the events of `app` out of the buffer
        lab.crash("other")
    lab.ctl("start", LISTENER)
    lab.wait_synced()
    app = lab.wait_process("app", "the new process", lambda process: process["pid"] == pid)
    assert (app["restarts"], app["uid"]) == (1, before["uid"])
    other = lab.wait_process("other", "ready", lambda process: process["ready"])
    assert 1 <= other["restarts"] <= 2, "at least one restart is certain, more than happened is a lie"


def test_another_supervisord_means_new_pods(new_lab: Callable[[], Lab]) -> None:
    lab = new_lab()
    lab.add("app")
    lab.start()
    lab.crash("app")
    first = lab.wait_process("app", "one restart", lambda process: process["restarts"] == 1)
    lab.ctl("reload")  # the same process id: only its events tell
    wait_for(lambda: not lab.listening(), "the end of the old listener")
    lab.wait_synced()
    second = lab.wait_process("app", "a new pod", lambda process: process["uid"] != first["uid"] and process["ready"])
    assert second["restarts"] == 0
    lab.kill_supervisord()
    lab.start()
    third = lab.wait_process("app", "ready", lambda process: process["ready"])
    assert third["uid"] not in (first["uid"], second["uid"])
    assert third["restarts"] == 0


# --- refusals ---------------------------------------------------------------------------------------------------------


def run_exporter(lab: Lab, *, url: str | None = None, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run the program by hand, with standard input at its end."""
    options = {"--port": str(free_port()), "--state-file": str(lab.directory / "by-hand.json")}
    options.update({f"--{key.replace('_', '-')}": value for key, value in changes.items()})
    environment = {**os.environ, "SUPERVISOR_SERVER_URL": lab.server_url if url is None else url}
    if url == "":
        del environment["SUPERVISOR_SERVER_URL"]
    command = [sys.executable, str(EXPORTER), *(word for option in options.items() for word in option)]
    return subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def test_the_end_of_standard_input_is_a_clean_end(lab: Lab) -> None:
    done = run_exporter(lab)
    assert (done.returncode, done.stdout, done.stderr) == (0, "READY\n", "")


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"url": ""}, ["SUPERVISOR_SERVER_URL", "not set", "eventlistener"]),
        ({"url": "unix:///no/such/socket"}, ["SUPERVISOR_SERVER_URL", "/no/such/socket", "unix_http_server"]),
        ({"url": "ftp://x"}, ["SUPERVISOR_SERVER_URL", "ftp://x"]),
        ({"port": "99999"}, ["--port", "99999", "1 to 65535"]),
        ({"port": "{busy}"}, ["--port", "{busy}", "free port"]),
        ({"state_file": "/no/such/directory/state.json"}, ["--state-file", "/no/such/directory", "cannot be written"]),
        ({"state_file": "/"}, ["--state-file", "/", "cannot be read"]),
    ],
    ids=["by hand", "no supervisord", "bad address", "bad port", "busy port", "no directory", "a directory"],
)
def test_bad_surroundings_are_one_sentence(lab: Lab, changes: dict[str, str], names: list[str]) -> None:
    done = run_exporter(lab, **{key: value.format(busy=lab.port) for key, value in changes.items()})
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert [name for name in names if name.format(busy=lab.port) not in done.stderr] == [], done.stderr
