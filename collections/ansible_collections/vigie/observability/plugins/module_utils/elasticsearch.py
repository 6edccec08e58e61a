# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Elasticsearch's REST API as data: documents, mappings, indices, templates, health. Works with 8.7 up to 9.x, and only reads."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ansible_collections.vigie.observability.plugins.module_utils.endpoint import Transport
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import reading
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

OBJECTS = frozenset({"object", "nested"})
"""Types of fields that hold other fields and no value."""

TEXTS = frozenset({"text", "match_only_text", "annotated_text", "search_as_you_type"})
"""Types of fields whose values are split into words."""

DATES = frozenset({"date", "date_nanos"})
"""Types of fields that hold a time."""

FAILURES = "::failures"
"""What is added to the name of a data stream to mean its failure store."""

LENIENT = {"ignore_unavailable": "true", "allow_no_indices": "true"}
"""Parameters with which an index that isn't there is an answer and no error."""

_SIZE = re.compile(r"([0-9.]+)(?:([kmgtp])?b)?")
_SAFE = "*,-_.:+"
_INDEX = re.compile(r'[^\s/?#"<>|\\%]+')


@dataclass(frozen=True)
class Hit:
    """A document that was found.

    Attributes:
        index: the index that holds it; of a data stream the backing index.
        source: the document.
        fields: field -> its values, for those that were asked for, whatever the layout of the document.
    """

    index: str
    source: dict[str, Any]
    fields: dict[str, list[Any]]


@dataclass(frozen=True)
class Found:
    """The answer to a search.

    Attributes:
        hits: documents, in the order that was asked for.
        total: number of all documents that fit.
        shards: number of shards that were asked; 0 when no index has the name.
        failures: what the shards said that couldn't answer.
        aggregations: name -> result, as Elasticsearch gives it.
    """

    hits: list[Hit]
    total: int
    shards: int
    failures: list[str] = field(default_factory=list)
    aggregations: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FieldType:
    """How indices map a field.

    Attributes:
        name: the type, such as keyword.
        searchable: whether documents can be found by it.
        aggregatable: whether its values can be counted.
        indices: those that map it so; empty when all do that map it at all.
    """

    name: str
    searchable: bool = True
    aggregatable: bool = True
    indices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fields:
    """How fields are mapped.

    Attributes:
        indices: names of all indices that were asked.
        types: field -> how it is mapped; fields that no index maps are missing.
    """

    indices: tuple[str, ...]
    types: dict[str, tuple[FieldType, ...]]

    def names(self, name: str) -> set[str]:
        """Return the names of a field's types; empty when it isn't mapped."""
        return {one.name for one in self.types.get(name, ())}


@dataclass(frozen=True)
class Indices:
    """What an expression such as ``logs-*`` means now: names of indices, of closed ones, and of data streams."""

    indices: tuple[str, ...]
    closed: tuple[str, ...]
    streams: tuple[str, ...]


@dataclass(frozen=True)
class Template:
    """An index template: its name, the patterns of names that it is for, and whether it makes data streams."""

    name: str
    patterns: tuple[str, ...]
    stream: bool


class Elasticsearch:
    """A client for some indices, one request for each call.

    Args:
        transport: way to the API.
        index: names and patterns of indices and data streams, separated by commas.

    Raises:
        CheckError: ``bad_option`` when that can be no name of an index.
    """

    def __init__(self, transport: Transport, index: str) -> None:
        if not _INDEX.fullmatch(index) or index != index.lower():
            raise CheckError(
                "bad_option",
                f"index={index!r} can be no index; write names in lower case, or patterns, without spaces, such as logs-app-default or logs-*.",
            )
        self._transport = transport
        self.index = index

    @property
    def address(self) -> str:
        """Where Elasticsearch is, for people."""
        return self._transport.address

    def command(self, path: str) -> str:
        """Return the command that shows what Elasticsearch answers; ``path`` may hold ``{index}`` or ``{failures}``."""
        return self._transport.command(self._located(path))

    def _located(self, path: str) -> str:
        failures = ",".join(f"{one}{FAILURES}" for one in self.index.split(",") if one)
        index, failures = quote(self.index, safe=_SAFE), quote(failures, safe=_SAFE)
        return path.replace("{index}", index).replace("{failures}", failures)

    def _ask(self, deadline: Deadline, path: str, *, query: Any = None, data: Any = None) -> Any:
        try:
            return self._transport.request(
                "GET" if data is None else "POST",
                self._located(path),
                query=query,
                data=data,
                timeout=deadline.request_timeout,
            ).json()
        except CheckError as error:
            # An index that was just made answers 404 until its shards are up.
            if error.reason == "bad_request" and "illegal_index_shard_state_exception" in str(error.observed):
                hint = f"A shard of {self.index} at {self.address} is not up yet; see '{self.command('/_cat/shards/{index}')}'."
                raise CheckError("server_error", hint, transient=True, observed=error.observed) from error
            raise

    def search(self, deadline: Deadline, body: dict[str, Any], *, failures: bool = False) -> Found:
        """Return the documents of a search.

        Args:
            deadline: of the look.
            body: the search in Elasticsearch's own words.
            failures: search the failure store instead: what was refused, where a data stream keeps that.

        Raises:
            CheckError: ``bad_answer`` when something else answered; else see Transport.request.
        """
        path = "/{failures}/_search" if failures else "/{index}/_search"
        answer = self._ask(deadline, path, query=LENIENT, data=body)
        with reading("answer to the search"):
            shards = answer["_shards"]
            hits = answer["hits"]
            return Found(
                hits=[Hit(hit["_index"], hit.get("_source") or {}, hit.get("fields") or {}) for hit in hits["hits"]],
                total=int(hits["total"]["value"]) if "total" in hits else len(hits["hits"]),
                shards=int(shards["total"]),
                failures=[
                    f"{one.get('index')}: {one['reason'].get('reason') or one['reason'].get('type')}"
                    for one in shards.get("failures") or []
                ],
                aggregations=answer.get("aggregations") or {},
            )

    def fields(self, deadline: Deadline, *names: str) -> Fields:
        """Return how fields are mapped; a name may have wildcards."""
        answer = self._ask(
            deadline,
            "/{index}/_field_caps",
            query={**LENIENT, "fields": ",".join(names), "filters": "-metadata"},
        )
        with reading("list of fields"):
            return Fields(
                indices=tuple(answer["indices"]),
                types={
                    name: tuple(
                        FieldType(one["type"], one["searchable"], one["aggregatable"], tuple(one.get("indices") or ()))
                        for one in types.values()
                    )
                    for name, types in answer["fields"].items()
                },
            )

    def resolve(self, deadline: Deadline) -> Indices:
        """Return the indices and data streams that there are, closed ones too."""
        # A name without a wildcard that isn't there is a 404 here, whatever the parameters.
        answer = self._transport.request(
            "GET",
            self._located("/_resolve/index/{index}"),
            query={"expand_wildcards": "all"},
            timeout=deadline.request_timeout,
            accept=(200, 404),
        )
        if answer.status == 404:
            return Indices((), (), ())
        data = answer.json()
        with reading("list of indices"):
            return Indices(
                indices=tuple(one["name"] for one in data["indices"]),
                closed=tuple(one["name"] for one in data["indices"] if "closed" in one["attributes"]),
                streams=tuple(one["name"] for one in data["data_streams"]),
            )

    def templates(self, deadline: Deadline) -> list[Template]:
        """Return the index templates, those that Elasticsearch brings itself included."""
        answer = self._ask(deadline, "/_index_template")
        with reading("list of index templates"):
            found = []
            for one in answer["index_templates"]:
                body = one["index_template"]
                patterns = body["index_patterns"]
                patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
                found.append(Template(one["name"], patterns, "data_stream" in body))
            return found

    def unassigned(self, deadline: Deadline) -> list[str]:
        """Return the indices that have a primary shard which no node holds."""
        answer = self._transport.request(
            "GET",
            self._located("/_cat/shards/{index}"),
            query={"format": "json", "h": "index,prirep,state"},
            timeout=deadline.request_timeout,
            accept=(200, 404),
        )
        if answer.status == 404:
            return []
        rows = answer.json()
        with reading("list of shards"):
            return sorted({row["index"] for row in rows if row["prirep"] == "p" and row["state"] == "UNASSIGNED"})

    def why_unassigned(self, deadline: Deadline, index: str) -> str:
        """Return why no node holds the first primary shard of an index, in Elasticsearch's words; empty when it doesn't say."""
        answer = self._ask(deadline, "/_cluster/allocation/explain", data={"index": index, "shard": 0, "primary": True})
        with reading("explanation of the allocation"):
            nodes = answer.get("node_allocation_decisions") or []
            said = [
                one["explanation"] for node in nodes for one in node.get("deciders") or [] if one["decision"] == "NO"
            ]
            return str((said or [answer.get("allocate_explanation") or ""])[0])

    def blocks(self, deadline: Deadline) -> dict[str, list[str]]:
        """Return index -> the blocks that stop writing to it, such as read_only_allow_delete."""
        answer = self._ask(deadline, "/{index}/_settings", query={**LENIENT, "filter_path": "*.settings.index.blocks"})
        with reading("settings of the indices"):
            found = {
                index: sorted(name for name, value in one["settings"]["index"]["blocks"].items() if value == "true")
                for index, one in answer.items()
            }
        # What blocks only reading or only the settings doesn't stop a document.
        stops = {"read_only", "read_only_allow_delete", "write"}
        return {index: names for index, names in found.items() if stops & set(names)}

    def full_disks(self, deadline: Deadline) -> list[str]:
        """Return the nodes with less free space than the high watermark wants, below which blocks of full disks go by themselves."""
        answer = self._ask(
            deadline,
            "/_cluster/settings",
            query={"include_defaults": "true", "filter_path": "*.cluster.routing.allocation.disk"},
        )
        rows = self._ask(
            deadline, "/_cat/allocation", query={"format": "json", "bytes": "b", "h": "node,disk.avail,disk.total"}
        )
        with reading("settings and disks of the nodes"):
            watermarks: dict[str, str] = {}
            for kind in ("defaults", "persistent", "transient"):
                found = answer.get(kind)
                watermarks.update(
                    found["cluster"]["routing"]["allocation"]["disk"].get("watermark", {}) if found else {}
                )
            high, headroom = watermarks["high"], watermarks.get("high.max_headroom", "-1")
            return [
                str(row["node"])
                for row in rows
                # Shards that no node holds are in the list too.
                if row["disk.total"] and int(row["disk.avail"]) < free_space(high, headroom, int(row["disk.total"]))
            ]

    def refused(self, deadline: Deadline) -> int:
        """Return how many writes the nodes refused since their start because too much was under way (429)."""
        answer = self._ask(
            deadline,
            "/_nodes/stats/indexing_pressure,thread_pool",
            query={"filter_path": "nodes.*.indexing_pressure.memory.total,nodes.*.thread_pool.write.rejected"},
        )
        with reading("statistics of the nodes"):
            total = 0
            for node in answer.get("nodes", {}).values():
                pressure = node["indexing_pressure"]["memory"]["total"]
                total += sum(int(value) for name, value in pressure.items() if name.endswith("_rejections"))
                total += int(node["thread_pool"]["write"]["rejected"])
            return total


def free_space(watermark: str, headroom: str, total: int) -> float:
    """Return the bytes that must be free on a disk for it to be below a watermark.

    Args:
        watermark: a part that may be used, such as 90% or 0.9, or what must be free, such as 20gb.
        headroom: what needs not be exceeded of that with a part, or -1.
        total: bytes of the disk.

    Raises:
        ValueError: the watermark is none of that.
    """
    text = watermark.strip().lower()
    if text.endswith("%") or text.replace(".", "", 1).isdigit():
        used = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        free = total * (1 - used)
        return free if headroom == "-1" else min(free, _bytes(headroom))
    return _bytes(text)


def _bytes(text: str) -> float:
    match = _SIZE.fullmatch(text.strip().lower())
    if not match:
        raise ValueError(f"{text!r} is no size")
    return float(match[1]) * 1024 ** "bkmgtp".index(match[2] or "b")


def overlapping(one: str, other: str) -> bool:
    """Return whether some name fits both of two patterns in which ``*`` stands for anything."""

    @functools.cache
    def meet(i: int, j: int) -> bool:
        left, right = one[i : i + 1], other[j : j + 1]
        if not left and not right:
            return True
        if left == "*":
            return meet(i + 1, j) or (bool(right) and meet(i, j + 1))
        if right == "*":
            return meet(i, j + 1) or (bool(left) and meet(i + 1, j))
        return left == right and bool(left) and meet(i + 1, j + 1)

    return meet(0, 0)


def expressions(index: str) -> list[str]:
    """Return the names and patterns of an index expression, without what it excludes."""
    return [one for one in index.split(",") if one and not one.startswith("-")]


def values_at(source: Any, path: str) -> list[Any]:
    """Return the values of a field of a document, whose dots may be levels of objects or part of the name."""
    if isinstance(source, list):
        return [value for one in source for value in values_at(one, path)]
    if not path:
        return [] if source is None or isinstance(source, dict) else [source]
    if not isinstance(source, dict):
        return []
    found = []
    parts = path.split(".")
    for at in range(1, len(parts) + 1):
        name = ".".join(parts[:at])
        if name in source:
            found += values_at(source[name], ".".join(parts[at:]))
    return found


def leaves(source: Any, path: str = "") -> list[tuple[str, Any]]:
    """Return the fields of a document with their values, in the document's order."""
    if isinstance(source, dict):
        return [
            pair for name, value in source.items() for pair in leaves(value, f"{path}.{name}" if path else str(name))
        ]
    if isinstance(source, list):
        return [pair for one in source for pair in leaves(one, path)]
    return [(path, source)]
