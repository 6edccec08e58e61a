"""The runs of a container as the kubelet tells them, in the shape that the supervisor's account has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import parse_time

Run = dict[str, Any]
"""started and exited in Unix seconds, and exit_reason; None where it isn't known or didn't happen."""

UNKNOWN: Run = {"started": None, "exited": None, "exit_reason": None}


def unix_seconds(text: str) -> float:
    """Return Unix seconds of a time as Kubernetes writes it.

    Raises:
        AnsibleFilterError: it is no such time.
    """
    try:
        return parse_time(text)
    except ValueError as error:
        raise AnsibleFilterError(f"{text!r} is no time such as 2026-01-31T12:00:00Z") from error


def container_runs(status: Mapping[str, Any], known: Sequence[Run] = ()) -> list[Run]:
    """Return the runs of one container since its pod was made, the running one last.

    Args:
        status: an element of the pod's ``status.containerStatuses``, which knows this run and the last one.
        known: what an earlier look at the same container gave.
    """
    restarts = status["restartCount"]
    runs = [dict(run) if run["exited"] else dict(UNKNOWN) for run in list(known)[:restarts]]
    runs += [dict(UNKNOWN) for _ in range(restarts - len(runs))]
    if restarts and (ended := status.get("lastState", {}).get("terminated")):
        runs[-1] = _run(ended)
    now = status.get("state", {})
    if running := now.get("running"):
        runs.append({**UNKNOWN, "started": unix_seconds(running["startedAt"])})
    elif ended := now.get("terminated"):
        runs.append(_run(ended))
    return runs


def _run(ended: Mapping[str, Any]) -> Run:
    return {
        "started": unix_seconds(ended["startedAt"]) if ended.get("startedAt") else None,
        "exited": unix_seconds(ended["finishedAt"]) if ended.get("finishedAt") else None,
        "exit_reason": f"{ended.get('reason', 'ended')}, exit code {ended['exitCode']}",
    }


class FilterModule:
    """What the role's tasks see."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"unix_seconds": unix_seconds, "container_runs": container_runs}
