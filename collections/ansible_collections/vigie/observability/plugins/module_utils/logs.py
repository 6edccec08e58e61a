# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Is the log line of a run searchable, and if not, which link between the line and Elasticsearch is broken?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ansible_collections.vigie.observability.plugins.module_utils.elasticsearch import (
    DATES,
    OBJECTS,
    TEXTS,
    Elasticsearch,
    Fields,
    Found,
    Hit,
    expressions,
    leaves,
    overlapping,
    values_at,
)
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.shippers import Shipper
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import format_time
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

REASONS = (
    "too_few",
    "doubled",
    "field_mismatch",
    "stale_log",
    "other_field",
    "cluster_red",
    "disk_watermark",
    "index_read_only",
    "mapping_conflict",
    "bulk_rejected",
    "template_missing",
    "shipper_down",
    "shipper_unreachable",
    "shipper_rejected",
    "shipper_backlog",
    "index_missing",
    "body_dropped",
    "not_logged",
    "nothing_arrives",
)
"""Reasons of this check beyond the common ones; the module's documentation lists them."""

COME_THROUGH = frozenset({"too_few", "field_mismatch", "stale_log", "not_logged"})
"""Reasons that mean that a line would have come through, so that its absence is a proof."""

INGESTED = "event.ingested"
"""Field in which ingest pipelines note when Elasticsearch took a document."""

SHOWN = 3
"""Documents that are kept in an observation."""

_DOCUMENT_LIMIT = 500
_VALUE_LIMIT = 160
_FETCHED = 50
_FETCHED_WORDS = 1000
"""Documents that are read where words are all that can be searched for, so that each has to be compared."""
_PAGE = 10000
_FIRST = ("level", "message", "log", "time", "status", "route", "trace_id", "span_id")
"""Fields that tell people most."""

T = TypeVar("T")
Cause = tuple[str, str]
"""Reason and hint."""


@dataclass(frozen=True)
class Wanted:
    """What the line must be like.

    Attributes:
        run_id: value of the run id's field.
        run_id_field: name of that field.
        match: further fields and the values they must have.
        since: Unix seconds; the line is from then or later.
        time_field: field that holds its time.
        count: number of such lines there must be at least.
        unique: field whose values must all be different; then values are counted and not documents. None: not asked for.
    """

    run_id: str
    run_id_field: str
    match: Mapping[str, Any]
    since: float
    time_field: str = "@timestamp"
    count: int = 1
    unique: str | None = None


@dataclass
class _State:
    """What one look knows.

    Attributes:
        fields: how the fields are mapped.
        hits: documents that fit, the oldest first.
        total: number of those there are, read or not.
    """

    fields: Fields
    hits: list[Hit] = field(default_factory=list)
    total: int = 0


class LogCheck:
    """A log line with a run id that can be found.

    Args:
        elasticsearch: where it should be.
        wanted: what it is like.
        shippers: those that should bring it; they are asked only when it isn't there.
        absent: it is expected to stay away, which a broken link can't prove.

    Raises:
        CheckError: ``bad_option``.
    """

    def __init__(
        self,
        elasticsearch: Elasticsearch,
        wanted: Wanted,
        *,
        shippers: list[Shipper] | None = None,
        absent: bool = False,
    ) -> None:
        if wanted.count < 1:
            raise CheckError(
                "bad_option",
                f"count={wanted.count} must be at least 1; to prove that nothing is there use expect=absent.",
            )
        if not wanted.run_id.strip():
            raise CheckError("bad_option", "run_id is empty; give the id that the line carries.")
        for name, value in (("run_id_field", wanted.run_id_field), ("time_field", wanted.time_field)):
            _check_field(name, value)
        for name, value in wanted.match.items():
            _check_field("match", name)
            if value is None or isinstance(value, dict | list):
                raise CheckError("bad_option", f"match: the value of {name} must be a text, a number or true or false.")
        if wanted.unique is not None:
            _check_field("unique", wanted.unique)
            if absent:
                raise CheckError("bad_option", "unique goes with expect=present: nothing is double where nothing is.")
        self._elasticsearch = elasticsearch
        self._wanted = wanted
        self._shippers = shippers or []
        self._absent = absent
        self._fields: Fields | None = None
        self._missed = False
        self._refused: int | None = None
        self._unseen: dict[str, None] = {}

    def look(self, deadline: Deadline) -> Verdict:
        """Search once; only the last look goes on to find the broken link."""
        state = self._searched(deadline) if not deadline.final else self._searched_at_last(deadline)
        wanted = self._wanted
        if state.total >= wanted.count and (wanted.unique is None or self._all_different(deadline, state)):
            return Verdict.yes(self._observed(state), self._times(state))
        if not deadline.final:
            if not self._missed:
                self._remember(deadline)
            self._missed = True
            return Verdict.no("not_logged", "", self._observed(state))
        return self._verdict(deadline, state)

    # The search

    def _searched(self, deadline: Deadline) -> _State:
        fields = self._mapped(deadline)
        run = self._clause(fields, self._wanted.run_id_field, self._wanted.run_id)
        others = [self._clause(fields, name, value) for name, value in self._wanted.match.items()]
        if not fields.names(self._wanted.time_field) & DATES or run is None or None in others:
            return _State(fields)
        return self._find(deadline, fields, [self._fresh(), run, *others])

    def _searched_at_last(self, deadline: Deadline) -> _State:
        """Search, and when no shard can answer, find out why."""
        try:
            return self._searched(deadline)
        except CheckError as error:
            if error.reason != "server_error":
                raise
            red = self._ask("shards", lambda: self._red(deadline))
            if red:
                raise CheckError(*red, transient=True, observed=error.observed) from error
            raise

    def _mapped(self, deadline: Deadline) -> Fields:
        """Return how the fields are mapped; asked once it is known where all of them can be searched for."""
        if self._fields is None:
            names = [self._wanted.run_id_field, *self._wanted.match]
            # An object is only told of together with a field in it.
            asked = [name for one in names for name in (one, f"{one}.*")]
            fields = self._elasticsearch.fields(deadline, self._wanted.time_field, INGESTED, *asked)
            if not all(self._clause(fields, name, "") for name in names):
                return fields
            self._fields = fields
        return self._fields

    @staticmethod
    def _clause(fields: Fields, name: str, value: Any) -> dict[str, Any] | None:
        """Return the clause for a field that has a value, or None when no index can search for it."""
        plain = {one.name for one in fields.types.get(name, ()) if one.searchable} - OBJECTS
        either: list[dict[str, Any]] = []
        # Lenient, because a word in a field of numbers is no error but no match.
        if plain - TEXTS:
            either.append({"match": {name: {"query": _plain(value), "lenient": True}}})
        if fields.types.get(f"{name}.keyword"):
            either.append({"term": {f"{name}.keyword": _plain(value)}})
        elif plain & TEXTS:
            either.append({"match_phrase": {name: _plain(value)}})
        return {"bool": {"should": either, "minimum_should_match": 1}} if either else None

    def _fresh(self, name: str = "") -> dict[str, Any]:
        bound = {"gte": int(self._wanted.since * 1000), "format": "epoch_millis"}
        return {"range": {name or self._wanted.time_field: bound}}

    def _find(self, deadline: Deadline, fields: Fields, clauses: list[Any]) -> _State:
        """Return the documents that fit all clauses and really have the values."""
        wanted = self._wanted
        names = [wanted.run_id_field, *wanted.match]
        words = any(fields.names(name) & TEXTS and f"{name}.keyword" not in fields.types for name in names)
        found = self._elasticsearch.search(
            deadline,
            {
                "size": _FETCHED_WORDS if words else _FETCHED,
                "track_total_hits": True,
                "query": {"bool": {"filter": clauses}},
                "sort": [{wanted.time_field: {"order": "asc", "unmapped_type": "date"}}],
                "fields": [
                    # What is no date can't be told in milliseconds, and would make the whole search fail.
                    *(
                        {"field": name, "format": "epoch_millis"}
                        for name in (wanted.time_field, INGESTED)
                        if fields.names(name) and fields.names(name) <= DATES
                    ),
                    *names,
                ],
            },
        )
        self._note_failures(found)
        conditions = {wanted.run_id_field: wanted.run_id, **wanted.match}
        fitting = [
            hit for hit in found.hits if all(_equal(value, _values(hit, name)) for name, value in conditions.items())
        ]
        return _State(fields, fitting, found.total - (len(found.hits) - len(fitting)))

    def _note_failures(self, found: Found) -> None:
        if found.failures:
            self._unseen[f"{len(found.failures)} shards could not answer ({found.failures[0]})"] = None

    def _all_different(self, deadline: Deadline, state: _State) -> bool:
        """Return whether there are enough different values; one that is there twice ends the check."""
        wanted = self._wanted
        name = str(wanted.unique)
        types = self._elasticsearch.fields(deadline, name, f"{name}.keyword").types
        countable = [one for one in (name, f"{name}.keyword") if any(kind.aggregatable for kind in types.get(one, ()))]
        if not countable:
            kinds = ", ".join(sorted(kind.name for kind in types.get(name, ()))) or "not at all"
            raise CheckError(
                "mapping_conflict",
                f"The values of {name} can't be counted: it is mapped as {kinds}; map it as keyword or as a number, see "
                f"'{self._elasticsearch.command('/{index}/_mapping/field/' + name)}'.",
            )
        clauses = [self._fresh(), self._clause(state.fields, wanted.run_id_field, wanted.run_id)]
        clauses += [self._clause(state.fields, field_name, value) for field_name, value in wanted.match.items()]
        different, twice = 0, {}
        after: dict[str, Any] = {}
        while True:
            source = [{"value": {"terms": {"field": countable[0]}}}]
            body = {
                "size": 0,
                "query": {"bool": {"filter": clauses}},
                "aggs": {"values": {"composite": {"size": _PAGE, "sources": source, **after}}},
            }
            page = self._elasticsearch.search(deadline, body).aggregations.get("values", {})
            buckets = page.get("buckets") or []
            different += len(buckets)
            twice.update({one["key"]["value"]: one["doc_count"] for one in buckets if one["doc_count"] > 1})
            if len(buckets) < _PAGE:
                break
            after = {"after": page["after_key"]}
        if twice:
            some = ", ".join(f"{value!r} {times} times" for value, times in list(twice.items())[:5])
            raise CheckError(
                "doubled",
                f"{len(twice)} of {different} values of {name} are there more than once: {some}; the shipper sent them again after an "
                "answer that it didn't get: give documents an id made of their content, see the shipper's log.",
                observed={"count": state.total, "different": different, "doubled": len(twice)},
            )
        state.total = different
        return different >= wanted.count

    # What is shown

    def _observed(self, state: _State) -> dict[str, Any]:
        return {
            "count": state.total,
            "wanted": self._wanted.count,
            "documents": [self._shown(hit) for hit in state.hits[:SHOWN]],
        }

    def _shown(self, hit: Hit) -> dict[str, Any]:
        """Return a document with the fields that tell most, short enough to read."""
        pairs = leaves(hit.source)
        first = [self._wanted.run_id_field, *self._wanted.match, *_FIRST]
        pairs.sort(key=lambda pair: next((at for at, name in enumerate(first) if _ends(pair[0], name)), len(first)))
        shown: dict[str, Any] = {}
        size = 0
        for name, value in pairs:
            text = value if not isinstance(value, str) or len(value) <= _VALUE_LIMIT else f"{value[:_VALUE_LIMIT]}..."
            size += len(name) + len(str(text)) + 6
            if size > _DOCUMENT_LIMIT:
                break
            shown.setdefault(name, text)
        stamp = self._stamp(hit)
        return {"index": hit.index, "at": None if stamp is None else format_time(stamp), "fields": shown}

    def _stamp(self, hit: Hit, name: str = "") -> float | None:
        values = hit.fields.get(name or self._wanted.time_field)
        return float(values[0]) / 1000 if values else None

    def _times(self, state: _State) -> dict[str, float]:
        # Elasticsearch doesn't note when a document became searchable: it was between a look that missed it and this one.
        times = {"searchable": time.time()} if self._missed else {}
        for name, value in (
            ("timestamp", self._stamp(state.hits[0]) if state.hits else None),
            ("ingested", self._stamp(state.hits[0], INGESTED) if state.hits else None),
        ):
            if value is not None:
                times[name] = value
        return times

    # The broken link

    def _remember(self, deadline: Deadline) -> None:
        """Note the counters that only say something when they grow."""
        for shipper in self._shippers:
            shipper.remember(deadline)
        self._refused = self._ask("statistics of the nodes", lambda: self._elasticsearch.refused(deadline))

    def _verdict(self, deadline: Deadline, state: _State) -> Verdict:
        reason, hint = self._cause(deadline, state)
        if self._unseen:
            hint = f"{hint.removesuffix('.')}; could not be seen: {'; '.join(self._unseen)}."
        observed = self._observed(state)
        if self._absent and reason not in COME_THROUGH:
            hint = f"It stayed away, but a broken link proves nothing. {hint}"
            raise CheckError(reason, hint, transient=True, observed=observed)
        return Verdict.no(reason, hint, observed)

    def _ask(self, what: str, question: Callable[[], T]) -> T | None:
        """Return the answer to a question for the cause; what may not be asked, or isn't known there, is noted and hides no reason."""
        try:
            return question()
        except CheckError as error:
            if error.reason not in ("access_denied", "bad_request", "bad_answer", "server_error"):
                raise
            self._unseen[f"{what} ({error.reason})"] = None
            return None

    def _cause(self, deadline: Deadline, state: _State) -> Cause:
        near = self._near_miss(deadline, state)
        if near:
            return near
        if not state.fields.indices:
            return self._without_index(deadline)
        writing = self._ask("shards", lambda: self._red(deadline)) or self._ask(
            "blocks", lambda: self._blocked(deadline)
        )
        if writing:
            return writing
        mapped = self._wrongly_mapped(state.fields)
        if mapped:
            return mapped
        fresh = self._fresh_documents(deadline)
        carrying = self._fresh_documents(deadline, {"exists": {"field": self._wanted.run_id_field}})
        refused = self._ask("failure store", lambda: self._failed_documents(deadline, arriving=bool(carrying.total)))
        return (
            refused
            or self._ask("statistics of the nodes", lambda: self._pressed(deadline))
            or self._shipper_ailment(deadline, arriving=bool(fresh.total))
            or (None if carrying.total else self._conflicting(deadline))
            or self._what_arrives(deadline, fresh, carrying)
        )

    def _near_miss(self, deadline: Deadline, state: _State) -> Cause | None:
        """Look for lines of the run that differ in one point."""
        wanted = self._wanted
        if state.total:
            what = f"different values of {wanted.unique}" if wanted.unique else "lines"
            return (
                "too_few",
                f"{state.total} of the {wanted.count} wanted {what} of run {wanted.run_id} are searchable; "
                f"see '{self._show_run()}'.",
            )
        fields = state.fields
        if not fields.names(wanted.time_field) & DATES:
            return None
        run = self._clause(fields, wanted.run_id_field, wanted.run_id)
        if run is not None:
            for fresh in (True, False):
                found = self._run_alone(deadline, fields, [self._fresh(), run] if fresh else [run])
                if not found:
                    continue
                if fresh:
                    return self._differing(found)
                stamp = self._stamp(found[-1])
                at = "an unknown time" if stamp is None else format_time(stamp)
                return (
                    "stale_log",
                    f"The newest line of run {wanted.run_id} is of {at}, but must be of {format_time(wanted.since)} or later; "
                    f"see '{self._show_run()}'.",
                )
        return self._elsewhere(deadline)

    def _run_alone(self, deadline: Deadline, fields: Fields, clauses: list[Any]) -> list[Hit]:
        """Return lines of the run whatever else is in them, the oldest first."""
        wanted = self._wanted
        found = self._elasticsearch.search(
            deadline,
            {
                "size": _FETCHED,
                "query": {"bool": {"filter": clauses}},
                "sort": [{wanted.time_field: {"order": "desc", "unmapped_type": "date"}}],
                "fields": [
                    {"field": wanted.time_field, "format": "epoch_millis"},
                    wanted.run_id_field,
                    *(name for name in wanted.match if name in fields.types),
                ],
            },
        )
        return [hit for hit in reversed(found.hits) if _equal(wanted.run_id, _values(hit, wanted.run_id_field))]

    def _differing(self, hits: list[Hit]) -> Cause:
        wanted = self._wanted

        def differences(hit: Hit) -> list[str]:
            return [name for name, value in wanted.match.items() if not _equal(value, _values(hit, name))]

        nearest = min(hits, key=lambda hit: len(differences(hit)))
        said = "; ".join(
            f"{name} is {', '.join(map(repr, _values(nearest, name))) or 'missing'} and not {_plain(wanted.match[name])!r}"
            for name in differences(nearest)
        )
        return (
            "field_mismatch",
            f"Lines of run {wanted.run_id} are searchable, but in the nearest of them {said}; see '{self._show_run()}'.",
        )

    def _elsewhere(self, deadline: Deadline) -> Cause | None:
        """Look for the run id in any other field: unparsed in a text, or under a prefix."""
        wanted = self._wanted
        anywhere = {"multi_match": {"query": wanted.run_id, "type": "phrase", "fields": ["*"], "lenient": True}}
        body = {"size": 10, "query": {"bool": {"filter": [self._fresh(), anywhere]}}}
        found = self._ask("other fields", lambda: self._elasticsearch.search(deadline, body))
        for hit in found.hits if found else []:
            for name, value in leaves(hit.source):
                if wanted.run_id not in str(value) or name == wanted.run_id_field:
                    continue
                if name.startswith(f"{wanted.run_id_field}."):
                    return (
                        "mapping_conflict",
                        f"{wanted.run_id_field} holds no value in {hit.index} but is an object, and the run id is in {name}; "
                        f"see '{self._elasticsearch.command('/{index}/_mapping/field/' + wanted.run_id_field + '*')}'.",
                    )
                if str(value) == wanted.run_id:
                    return (
                        "other_field",
                        f"The run id is searchable in the field {name} of {hit.index} and not in {wanted.run_id_field}; set "
                        "run_id_field to that, or let the shipper put the line's fields at the root.",
                    )
                return (
                    "other_field",
                    f"The run id is within the text of the field {name} of {hit.index}: the shipper doesn't parse the line as JSON; "
                    "set Merge_Log (Fluent Bit) or json_parser (Collector).",
                )
        return None

    def _without_index(self, deadline: Deadline) -> Cause:
        index = self._elasticsearch.index
        there = self._ask("indices", lambda: self._elasticsearch.resolve(deadline))
        if there and there.closed:
            return (
                "index_missing",
                f"{there.closed[0]} is closed and can't be searched; open it, see "
                f"'{self._elasticsearch.command('/_cat/indices/{index}?expand_wildcards=all')}'.",
            )
        ailing = self._shipper_ailment(deadline, arriving=False)
        if ailing and ailing[0] in ("shipper_down", "shipper_unreachable"):
            return ailing
        templates = self._ask("index templates", lambda: self._elasticsearch.templates(deadline))
        if templates is not None and not any(
            one.stream and any(overlapping(pattern, name) for pattern in one.patterns for name in expressions(index))
            for one in templates
        ):
            known = ", ".join(sorted(one.name for one in templates if one.stream)[:5]) or "none"
            return (
                "template_missing",
                f"Nothing is called {index}, and no index template makes data streams of that name (those that make any: {known}), so "
                "what requires one is refused and the rest gets a guessed mapping; put the template there, see "
                f"'{self._elasticsearch.command('/_index_template')}'.",
            )
        return ailing or (
            "index_missing",
            f"Nothing is called {index} yet: no shipper has written there; compare the name with the shipper's configuration, see "
            f"'{self._elasticsearch.command('/_resolve/index/*')}'.",
        )

    def _red(self, deadline: Deadline) -> Cause | None:
        lost = self._elasticsearch.unassigned(deadline)
        if not lost:
            return None
        why = self._ask("allocation", lambda: self._elasticsearch.why_unassigned(deadline, lost[0]))
        see = self._elasticsearch.command("/_cluster/allocation/explain")
        return (
            "cluster_red",
            f"No node holds a primary shard of {', '.join(lost[:3])}, so nothing is written or found there"
            f"{f' ({why})' if why else ''}; see '{see}'.",
        )

    def _blocked(self, deadline: Deadline) -> Cause | None:
        blocks = self._elasticsearch.blocks(deadline)
        if not blocks:
            return None
        index, names = next(iter(sorted(blocks.items(), reverse=True)))
        full = None
        if "read_only_allow_delete" in names:
            full = self._ask("disks", lambda: self._elasticsearch.full_disks(deadline))
        if full:
            return (
                "disk_watermark",
                f"{index} takes no documents (read_only_allow_delete), since the disk of {', '.join(full[:3])} is fuller than the watermark; "
                f"free space, then the block goes by itself; see '{self._elasticsearch.command('/_cat/allocation?v')}'.",
            )
        though = "" if full is None else " though no disk is too full now"
        return (
            "index_read_only",
            f"{index} takes no documents: it has the block {', '.join(names)}{though}; take it away with PUT /{index}/_settings "
            f"{{\"index.blocks.{names[0]}\": null}}, see '{self._elasticsearch.command('/{index}/_settings')}'.",
        )

    def _wrongly_mapped(self, fields: Fields) -> Cause | None:
        """Return what stands in the way of finding any document."""
        wanted = self._wanted
        for name, fits in ((wanted.time_field, DATES), (wanted.run_id_field, None)):
            kinds = fields.types.get(name, ())
            wrong = [
                one
                for one in kinds
                if one.name in OBJECTS or not one.searchable or (fits is not None and one.name not in fits)
            ]
            if not wrong:
                continue
            said = ", ".join(
                f"{one.name}{'' if one.searchable or one.name in OBJECTS else ' without an index'}"
                f"{f' in {one.indices[0]}' if one.indices else ''}"
                for one in kinds
            )
            need = "a date" if fits else "a keyword"
            return (
                "mapping_conflict",
                f"{name} must be {need} to be searched for, but is mapped as {said}: correct the index template, and begin a new "
                f"index; see '{self._elasticsearch.command('/{index}/_mapping/field/' + name)}'.",
            )
        return None

    def _fresh_documents(self, deadline: Deadline, *further: dict[str, Any]) -> Found:
        """Return the newest fresh documents, of whatever run."""
        return self._elasticsearch.search(
            deadline,
            {
                "size": 5,
                "track_total_hits": True,
                "query": {"bool": {"filter": [self._fresh(), *further]}},
                "sort": [{self._wanted.time_field: {"order": "desc", "unmapped_type": "date"}}],
                "fields": [{"field": self._wanted.time_field, "format": "epoch_millis"}, self._wanted.run_id_field],
            },
        )

    def _failed_documents(self, deadline: Deadline, *, arriving: bool) -> Cause | None:
        """Look into the failure store; where lines with run ids arrive, only what was refused of this run counts."""
        wanted = self._wanted
        body = {
            "size": 20,
            "query": {"bool": {"filter": [self._fresh("@timestamp")]}},
            "sort": [{"@timestamp": {"order": "desc", "unmapped_type": "date"}}],
        }
        found = self._elasticsearch.search(deadline, body, failures=True)
        ours = [
            hit
            for hit in found.hits
            if any(
                _equal(wanted.run_id, values_at(source, wanted.run_id_field))
                for source in _objects_at(hit.source, "document.source")
            )
        ]
        hits = ours or ([] if arriving else found.hits)
        if not hits:
            return None
        kind = str((values_at(hits[0].source, "error.type") or ["?"])[0])
        message = str((values_at(hits[0].source, "error.message") or ["?"])[0])[:200]
        whose = "the line of this run" if ours else f"{found.total} documents"
        see = self._elasticsearch.command("/{failures}/_search")
        if kind in ("document_parsing_exception", "mapper_parsing_exception", "strict_dynamic_mapping_exception"):
            return (
                "mapping_conflict",
                f"Elasticsearch refused {whose}, because a field is mapped otherwise: {message}; see '{see}'.",
            )
        return "bulk_rejected", f"Elasticsearch refused {whose} ({kind}: {message}); see '{see}'."

    def _pressed(self, deadline: Deadline) -> Cause | None:
        if self._refused is None:
            return None
        grown = self._elasticsearch.refused(deadline) - self._refused
        if grown <= 0:
            return None
        return (
            "bulk_rejected",
            f"Elasticsearch refused {grown} writes while this check watched, because too much was under way (429); see "
            f"'{self._elasticsearch.command('/_nodes/stats/indexing_pressure')}'.",
        )

    def _shipper_ailment(self, deadline: Deadline, *, arriving: bool) -> Cause | None:
        for shipper in self._shippers:
            ailment = self._ask(
                f"shipper {shipper.address}",
                lambda shipper=shipper: shipper.ailment(deadline, arriving=arriving),  # type: ignore[misc]
            )
            if ailment:
                return ailment
        return None

    def _conflicting(self, deadline: Deadline) -> Cause | None:
        """Look for a field that is a value here and an object there, which makes Elasticsearch refuse one of the two."""
        fields = self._ask("all fields", lambda: self._elasticsearch.fields(deadline, "*"))
        for name, kinds in sorted(fields.types.items()) if fields else []:
            objects = [one for one in kinds if one.name in OBJECTS]
            values = [one for one in kinds if one.name not in OBJECTS]
            if objects and values:
                return (
                    "mapping_conflict",
                    f"{name} is {values[0].name} in {_some(values[0].indices)} and {objects[0].name} in {_some(objects[0].indices)}, so "
                    "documents of the other kind are refused: let the shipper replace dots in names (Replace_Dots), see "
                    f"'{self._elasticsearch.command('/{index}/_mapping/field/' + name)}'.",
                )
        return None

    def _what_arrives(self, deadline: Deadline, fresh: Found, carrying: Found) -> Cause:
        wanted = self._wanted
        since = format_time(wanted.since)
        if carrying.total:
            others = list(
                dict.fromkeys(str(value) for hit in carrying.hits for value in _values(hit, wanted.run_id_field))
            )
            return (
                "not_logged",
                f"{carrying.total} lines with a {wanted.run_id_field} came since {since}, but none of {wanted.run_id}, the newest are of "
                f"{', '.join(others[:3])}; look for the line at its source, such as 'kubectl logs', with the run id.",
            )
        if fresh.total:
            # Stored, but not indexed: the mapping leaves it out.
            stored = [hit for hit in fresh.hits if values_at(hit.source, wanted.run_id_field)]
            if stored:
                return (
                    "mapping_conflict",
                    f"Documents of {stored[0].index} carry {wanted.run_id_field}, but it isn't mapped there (dynamic: false, or too many "
                    "fields), so it can't be searched for: put it into the index template, see "
                    f"'{self._elasticsearch.command('/{index}/_mapping')}'.",
                )
            names = ", ".join(list(dict.fromkeys(name for name, _value in leaves(fresh.hits[0].source)))[:8])
            return (
                "body_dropped",
                f"{fresh.total} documents came since {since}, and none has the field {wanted.run_id_field}; the newest has {names}: the "
                "shipper drops the body of the line or puts it elsewhere, see its mapping mode or Merge_Log_Key.",
            )
        newest = self._newest(deadline)
        if newest and self._stamp(newest) is None:
            return (
                "mapping_conflict",
                f"Documents of {newest.index} have no time in {wanted.time_field}, so none can be fresh; set time_field to the field that "
                f"has it, see '{self._elasticsearch.command('/{index}/_mapping')}'.",
            )
        last = f"the newest is of {format_time(self._stamp(newest) or 0)}" if newest else "there is none at all"
        ask = "" if self._shippers else " or name it in the option shipper"
        return (
            "nothing_arrives",
            f"No document came since {since}, {last}: the shipper is down, can't reach Elasticsearch or isn't let in; read its log{ask}, "
            f"see '{self._elasticsearch.command('/{index}/_count')}'.",
        )

    def _newest(self, deadline: Deadline) -> Hit | None:
        name = self._wanted.time_field
        found = self._elasticsearch.search(
            deadline,
            {
                "size": 1,
                "sort": [{name: {"order": "desc", "unmapped_type": "date"}}],
                "fields": [{"field": name, "format": "epoch_millis"}],
            },
        )
        return found.hits[0] if found.hits else None

    def _show_run(self) -> str:
        return self._elasticsearch.command(
            f"/{{index}}/_search?q={self._wanted.run_id_field}:%22{self._wanted.run_id}%22"
        )


def _objects_at(source: Any, path: str) -> list[dict[str, Any]]:
    """Return the objects at a path of a document."""
    for name in path.split("."):
        source = source.get(name) if isinstance(source, dict) else None
    return [source] if isinstance(source, dict) else []


def _check_field(option: str, name: str) -> None:
    if not name or name != name.strip() or any(character in name for character in "*?,{}\"'"):
        raise CheckError("bad_option", f"{option}: {name!r} is no name of a field; write it like kubernetes.pod_name.")


def _plain(value: Any) -> Any:
    """Return a value as documents hold it: Ansible gives booleans in text too."""
    return str(value).lower() if isinstance(value, bool) else value


def _equal(wanted: Any, found: list[Any]) -> bool:
    """Return whether a value is among those found, whether written as a number or as a text."""
    return str(_plain(wanted)) in {str(_plain(one)) for one in found} or any(
        isinstance(one, float) and not isinstance(wanted, bool) and str(wanted) == f"{one:g}" for one in found
    )


def _values(hit: Hit, name: str) -> list[Any]:
    """Return the values of a field, as Elasticsearch tells or as the document has them."""
    return hit.fields.get(name) or values_at(hit.source, name)


def _ends(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith(f".{wanted}")


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:2]) + (" ..." if len(names) > 2 else "") if names else "others"
