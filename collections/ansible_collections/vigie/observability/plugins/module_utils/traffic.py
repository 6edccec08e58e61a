# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Requests sent on purpose: traffic that carries a run id, and requests that end the process that serves them."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Disconnected, Response, Transport
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

RUN_ID_HEADER = "X-Vigie-Run-Id"
RUN_ID = re.compile(r"[A-Za-z0-9._-]{1,40}")
BODY_LIMIT = 500
"""Characters of an answer's body that are kept."""

_SECRET_HEADERS = {"set-cookie", "set-cookie2", "authorization", "proxy-authorization", "www-authenticate"}


def checked_run_id(value: str) -> str:
    """Return the run id.

    Raises:
        CheckError: ``bad_option`` when it is none; it travels in headers, log fields and labels, so it is kept simple.
    """
    if not RUN_ID.fullmatch(value):
        raise CheckError(
            "bad_option", f"run_id={value!r} must be 1 to 40 letters, digits, dots, underscores and hyphens."
        )
    return value


@dataclass
class Traffic:
    """What came of the requests.

    Attributes:
        reason: ``ok``, or why the last request was not what was wanted.
        hint: one sentence; empty when all is well.
        statuses: HTTP status, as text, to how often it was answered.
        disconnected: requests whose connection was lost before an answer.
        last: status, body (shortened) and headers of the last answer; status is None when the connection was lost.
        times: first_sent and last_answered in unix seconds, by this host's clock.
        trace_id: of the last request, when it carried one.
    """

    reason: str = "ok"
    hint: str = ""
    statuses: dict[str, int] = field(default_factory=dict)
    disconnected: int = 0
    last: dict[str, Any] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    trace_id: str = ""


def send_requests(
    transport: Transport,
    *,
    method: str = "GET",
    path: str = "/",
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
    run_id: str | None = None,
    trace: bool = False,
    count: int = 1,
    interval: float = 0.0,
    accept: tuple[int, ...] = (200,),
    allow_disconnect: bool = False,
    timeout: float = 10.0,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Traffic:
    """Send requests one after the other; the first one that is not answered as wanted is the last.

    Args:
        transport: way to the service.
        method: HTTP method.
        path: path and query, beginning with a slash.
        headers: to send with each request.
        body: to send with each request.
        run_id: sent as X-Vigie-Run-Id.
        trace: send a W3C traceparent, a new one with each request.
        count: number of requests.
        interval: seconds between them.
        accept: statuses that are wanted.
        allow_disconnect: a lost connection is a result like an answer.
        timeout: seconds per request.

    Raises:
        CheckError: ``bad_option`` for values that can't be right.
    """
    if not path.startswith("/"):
        raise CheckError("bad_option", f"path={path} must begin with a slash.")
    if count < 1:
        raise CheckError("bad_option", f"count={count} is below 1.")
    if interval < 0 or timeout <= 0:
        raise CheckError(
            "bad_option", f"interval={interval} and timeout={timeout} must not be negative, timeout not 0."
        )
    common = dict(headers or {})
    if run_id is not None:
        common[RUN_ID_HEADER] = checked_run_id(run_id)
    traffic = Traffic()
    for number in range(count):
        if number and interval:
            sleep(interval)
        if trace:
            traffic.trace_id = secrets.token_hex(16)
            common["traceparent"] = f"00-{traffic.trace_id}-{secrets.token_hex(8)}-01"
        traffic.times.setdefault("first_sent", clock())
        try:
            answer = transport.send(
                method, path, body=None if body is None else body.encode(), headers=common, timeout=timeout
            )
        except Disconnected as error:
            traffic.disconnected += 1
            traffic.times["last_answered"] = clock()
            traffic.last = {"status": None, "body": "", "headers": {}}
            if not allow_disconnect:
                traffic.reason, traffic.hint = error.reason, error.hint
                break
            continue
        except CheckError as error:
            traffic.reason, traffic.hint = error.reason, error.hint
            break
        traffic.times["last_answered"] = clock()
        traffic.statuses[str(answer.status)] = traffic.statuses.get(str(answer.status), 0) + 1
        traffic.last = _summary(answer)
        if answer.status not in accept:
            traffic.reason = "unexpected_status"
            wanted = " or ".join(str(status) for status in accept)
            traffic.hint = (
                f"{method} {transport.address}{path.partition('?')[0]} answered {answer.status} instead of {wanted}; "
                "look at 'last' and at the service's log."
            )
            break
    return traffic


def _summary(answer: Response) -> dict[str, Any]:
    text = answer.text
    if len(text) > BODY_LIMIT:
        text = f"{text[:BODY_LIMIT]}... ({len(text) - BODY_LIMIT} characters more)"
    headers = {name: value for name, value in answer.headers.items() if name not in _SECRET_HEADERS}
    return {"status": answer.status, "body": text, "headers": headers}
