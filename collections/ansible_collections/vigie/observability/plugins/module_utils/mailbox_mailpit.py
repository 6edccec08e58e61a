# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A mailbox behind the HTTP API of Mailpit."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Transport
from ansible_collections.vigie.observability.plugins.module_utils.mailbox import (
    Entry,
    Mail,
    Mailbox,
    Survey,
    fresh,
    parse_mail,
)
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import parse_time
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

PAGE = 100


class MailpitMailbox(Mailbox):
    """All mails that a Mailpit caught.

    Mails are read as /api/v1/message/ID/raw: without the last part, Mailpit would mark them as read.

    Args:
        transport: way to the API.
    """

    resolution = 0.001

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: dict[str, Entry] = {}
        self.address = f"Mailpit {transport.address}"
        self.command = transport.command("/api/v1/messages?limit=3")

    def survey(self, since: float | None, timeout: float) -> Survey:
        start = 0
        while True:
            total, page = self._page(start, timeout)
            new = [entry for entry in page if entry.key not in self._known]
            self._known.update((entry.key, entry) for entry in page)
            start += len(page)
            oldest = min((entry.arrived for entry in page), default=0.0)
            # Newest first: behind a page without news or with too old ones there is nothing to learn.
            if not new or start >= total or (since is not None and not fresh(oldest, since, self.resolution)):
                break
        entries = [
            entry for entry in self._known.values() if since is None or fresh(entry.arrived, since, self.resolution)
        ]
        return Survey(total, entries)

    def newest(self, limit: int, timeout: float) -> list[Entry]:
        return sorted(self._known.values(), key=lambda entry: entry.arrived, reverse=True)[:limit]

    def load(self, entry: Entry, timeout: float) -> Mail | None:
        answer = self._transport.request(
            "GET", f"/api/v1/message/{quote(entry.key, safe='')}/raw", timeout=timeout, accept=(200, 404)
        )
        return parse_mail(answer.body, entry.arrived) if answer.status == 200 else None

    def _page(self, start: int, timeout: float) -> tuple[int, list[Entry]]:
        answer = self._transport.request(
            "GET", "/api/v1/messages", query={"start": start, "limit": PAGE}, timeout=timeout
        ).json()
        try:
            return int(answer["total"]), [_entry(message) for message in answer["messages"] or []]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckError(
                "bad_answer", f"{self._transport.address} doesn't answer like Mailpit; check the endpoint."
            ) from error


def _entry(message: dict[str, Any]) -> Entry:
    # Blind copies are in no header, but Mailpit knows the envelope.
    people = [person for name in ("To", "Cc", "Bcc") for person in message.get(name) or []]
    return Entry(message["ID"], parse_time(message["Created"]), tuple(person["Address"].lower() for person in people))
