# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Does a query give what is expected, from samples that are fresh, and since when?

An instant query looks back five minutes for a sample, and versions before 2.44 ignore the parameter that would shorten
this. So freshness is proven with a second query for the time of the samples that the first one used.
"""

from __future__ import annotations

import math
import operator as operators
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Answer, Prometheus, Series, quoted
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import format_time
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

REASONS = ("no_data", "metric_unknown", "condition_false", "held_too_short", "bad_query", "stale_sample")
"""Reasons of this check beyond the common ones; the module's documentation lists them."""

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "==": operators.eq,
    "!=": operators.ne,
    ">": operators.gt,
    ">=": operators.ge,
    "<": operators.lt,
    "<=": operators.le,
}

SHOWN = 10
"""Series that are kept in an observation."""

_SKEW = 60.0
"""Seconds that the window for the first sample is widened, in case Prometheus' clock runs ahead of this host's."""

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|\#[^\n]*)
  | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)
  | (?P<name>[A-Za-z_:][A-Za-z0-9_:]*)
  | (?P<number>[0-9.][0-9A-Za-z_.]*(?:(?<=[eE])[+-][0-9]+)?)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_WITH_LABEL_LIST = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"and", "or", "unless", "atan2", "bool", "offset", "inf", "nan"} | _WITH_LABEL_LIST
_EMPTY = ("", "")
_QUOTED_NAME = re.compile(r"""(?:^\{|,)\s*"((?:[^"\\]|\\.)*)"\s*(?=[,}])|__name__\s*=\s*["']([^"']*)["']""")


@dataclass(frozen=True)
class Selector:
    """A vector selector found in a query.

    Attributes:
        text: as written, without range and modifiers.
        metric: its metric name, empty where only matchers are given.
        shifted: whether ``offset`` or ``@`` asks for old samples on purpose.
        whole: whether the query is nothing but this selector.
    """

    text: str
    metric: str
    shifted: bool = False
    whole: bool = False


def selectors(query: str) -> list[Selector]:
    """Return the vector selectors of a query, in the order of their appearance.

    This is no parser: what Prometheus would refuse gives an arbitrary list.
    """
    tokens = [(str(m.lastgroup), m.group()) for m in _TOKEN.finditer(query) if m.lastgroup != "space"]
    found = []
    at = 0
    while at < len(tokens):
        kind, text = tokens[at]
        start = at
        at += 1
        if text == "[":
            at = _closing(tokens, at, "[", "]")
            continue
        if kind == "name":
            following = tokens[at] if at < len(tokens) else _EMPTY
            if text.lower() in _WORDS and following[1] != "{":
                if text.lower() in _WITH_LABEL_LIST and following[1] == "(":
                    at = _closing(tokens, at + 1, "(", ")")
                continue
            if following[1] == "(" or following[1].lower() in ("by", "without"):
                continue  # a function or an aggregation
        elif text != "{":
            continue
        if kind == "name" and at < len(tokens) and tokens[at][1] == "{":
            at = _closing(tokens, at + 1, "{", "}")
        elif text == "{":
            at = _closing(tokens, at, "{", "}")
        source = "".join(part for _kind, part in tokens[start:at])
        whole = start == 0 and at == len(tokens)
        if at < len(tokens) and tokens[at][1] == "[":
            at = _closing(tokens, at + 1, "[", "]")
        shifted = at < len(tokens) and tokens[at][1].lower() in ("offset", "@")
        name = text if kind == "name" else _name_in(source)
        found.append(Selector(source, name, shifted, whole))
    return found


def _closing(tokens: list[tuple[str, str]], at: int, opening: str, closing: str) -> int:
    """Return the position behind the bracket that closes the one before ``at``."""
    depth = 1
    while at < len(tokens) and depth:
        depth += {opening: 1, closing: -1}.get(tokens[at][1], 0)
        at += 1
    return at


def _name_in(matchers: str) -> str:
    found = _QUOTED_NAME.search(matchers)
    return (found.group(1) or found.group(2) or "") if found else ""


@dataclass(frozen=True)
class Condition:
    """What a value must satisfy; NaN satisfies nothing, and without a value any sample will do."""

    operator: str = ">="
    value: float | None = None

    def holds(self, seen: float) -> bool:
        """Return whether a sample satisfies the condition."""
        if self.value is None:
            return True
        return not math.isnan(seen) and OPERATORS[self.operator](seen, self.value)

    def __str__(self) -> str:
        return "any sample" if self.value is None else f"{self.operator} {self.value:g}"


class PromqlCheck:
    """A query whose samples satisfy a condition.

    Args:
        prometheus: the server that is asked.
        query: PromQL giving an instant vector or a scalar.
        condition: what the values must satisfy.
        every: whether all series must satisfy it, or any of them.
        hold: seconds for which every look must find it satisfied.
        max_age: seconds that the samples may be old.
        since: Unix seconds after which the samples must lie, or None.
        first_sample: look for the first sample after ``since`` that satisfies the condition, even if a later one doesn't.

    Raises:
        CheckError: ``bad_option`` or ``bad_query``.
    """

    def __init__(
        self,
        prometheus: Prometheus,
        query: str,
        condition: Condition,
        *,
        every: bool = False,
        hold: float = 0.0,
        max_age: float = 60.0,
        since: float | None = None,
        first_sample: bool = False,
    ) -> None:
        if condition.value is not None and math.isnan(condition.value):
            raise CheckError(
                "bad_option", "value=nan can't be compared with anything; count series with 'count(...)' instead."
            )
        if not 0 < max_age <= math.inf:
            raise CheckError("bad_option", f"max_age={max_age} must be above 0 seconds.")
        if hold < 0:
            raise CheckError("bad_option", f"hold={hold} must not be negative.")
        self._selectors = selectors(query)
        if first_sample:
            if since is None:
                raise CheckError(
                    "bad_option", "first_sample needs since: without it the first sample could be of any age."
                )
            if hold:
                raise CheckError(
                    "bad_option", "hold and first_sample exclude each other: one asks for the past, one for what comes."
                )
            if not self._is_selector:
                raise CheckError(
                    "bad_query",
                    f'first_sample needs an instant vector selector such as up{{job="x"}}, not the query {query!r}.',
                )
        self._prometheus = prometheus
        self._query = query.strip()
        self._condition = condition
        self._every = every
        self._hold = hold
        self._held_from: float | None = None
        self._max_age = max_age
        self._since = since
        self._first_sample = first_sample

    @property
    def _is_selector(self) -> bool:
        return len(self._selectors) == 1 and self._selectors[0].whole

    def look(self, deadline: Deadline) -> Verdict:
        """Evaluate the query once; only the last look goes on to find out why there is no data."""
        if self._first_sample:
            return self._look_back(deadline)
        try:
            verdict = self._look_now(deadline)
        except CheckError:
            # A look that could not be answered can't vouch for the time around it.
            self._held_from = None
            raise
        if not verdict.matched:
            self._held_from = None
        elif self._hold:
            if self._held_from is None:
                self._held_from = deadline.elapsed
            held = deadline.elapsed - self._held_from
            if held < self._hold:
                hint = f"The condition {self._condition} holds, but only for {held:.1f} of {self._hold:g} s so far; give a longer timeout."
                return Verdict.no("held_too_short", hint, verdict.observed, verdict.times)
        return verdict

    def _look_now(self, deadline: Deadline) -> Verdict:
        answer = self._prometheus.query(deadline, self._query)
        if answer.kind not in ("vector", "scalar"):
            raise CheckError(
                "bad_query", f"The query gives a {answer.kind}; it must give an instant vector or a scalar."
            )
        observed = self._summary(answer.series, answer.at)
        times = {"evaluated": answer.at}
        if not answer.series:
            return self._without_data(deadline, observed)
        if not self._satisfied(answer.series):
            return Verdict.no("condition_false", self._not_so(answer.series), observed, times)
        stale = self._stale(deadline, answer)
        return Verdict.no("stale_sample", stale, observed, times) if stale else Verdict.yes(observed, times)

    def _satisfied(self, series: list[Series]) -> bool:
        results = [self._condition.holds(one.value) for one in series]
        return all(results) if self._every else any(results)

    def _summary(self, series: list[Series], at: float) -> dict[str, Any]:
        # The series that decide come first.
        ordered = sorted(series, key=lambda one: self._condition.holds(one.value) == self._every)
        return {"evaluated": at, "series": len(series), "result": [one.summary() for one in ordered[:SHOWN]]}

    def _not_so(self, series: list[Series]) -> str:
        which = "not every series is" if self._every else "no series is"
        values = ", ".join(f"{one.value:g}" for one in series[:SHOWN])
        return f"{len(series)} series have values {values}, {which} {self._condition}; {self._show(self._query)}."

    def _stale(self, deadline: Deadline, answer: Answer) -> str:
        """Return why the samples behind an answer are too old, or nothing when they are fresh."""
        bound = answer.at - self._max_age
        if self._since is not None:
            bound = max(bound, self._since)
        if self._is_selector:
            # timestamp() drops the metric's name.
            found = self._prometheus.query(deadline, f"timestamp({self._query})", answer.at)
            stamps = {_identity(one): one.value for one in found.series}
            fresh = [one for one in answer.series if stamps.get(_identity(one), 0.0) > bound]
            if fresh and self._satisfied(fresh) and (len(fresh) == len(answer.series) or not self._every):
                return ""
            oldest = {self._query: min(stamps.values(), default=0.0)}
        else:
            parts = {one.text for one in self._selectors if not one.shifted}
            if not parts:
                return ""
            found = self._prometheus.query(
                deadline,
                " or ".join(
                    f'label_replace(min(timestamp({part})), "selector", {_replacement(part)}, "", "")'
                    for part in sorted(parts)
                ),
                answer.at,
            )
            oldest = {one.labels.get("selector", ""): one.value for one in found.series if one.value <= bound}
            if not oldest:
                return ""
        name, stamp = min(oldest.items(), key=lambda item: item[1])
        wanted = f"at most {self._max_age:g} s old"
        if self._since is not None:
            wanted += f" and after {format_time(self._since)}"
        return (
            f"A sample of {name} is of {format_time(stamp)}, {answer.at - stamp:.1f} s before the evaluation, but must be {wanted}; "
            f"{self._show(f'timestamp({name})')}."
        )

    def _without_data(self, deadline: Deadline, observed: Any) -> Verdict:
        if not deadline.final:
            return Verdict.no("no_data", "", observed)
        unknown = self._unknown_metrics(deadline)
        for name, nearest in unknown.items():
            close = f"the nearest names are {', '.join(nearest)}" if nearest else "no name is like it"
            command = self._prometheus.command("/api/v1/label/__name__/values")
            return Verdict.no("metric_unknown", f"No series is called {name} now; {close}; see '{command}'.", observed)
        names = " and ".join(sorted({one.metric for one in self._selectors if one.metric}))
        there = f"Series called {names} exist, but none passes" if names else "No series passes"
        return Verdict.no(
            "no_data", f"{there} the matchers and comparisons of the query; {self._show(self._query)}.", observed
        )

    def _unknown_metrics(self, deadline: Deadline) -> dict[str, list[str]]:
        """Return the query's metric names that no series has now, each with the nearest names that some series has."""
        wanted = list(dict.fromkeys(one.metric for one in self._selectors if one.metric and not one.shifted))
        alive = self._alive(deadline, wanted)
        missing = [name for name in wanted if name not in alive]
        if not missing:
            return {}
        import difflib  # needed only here, and slow to load

        known = self._prometheus.metric_names(deadline)
        near = {name: difflib.get_close_matches(name, known, 8, 0.6) for name in missing}
        # The storage also knows names whose series are gone.
        alive = self._alive(deadline, sorted({other for others in near.values() for other in others}))
        return {name: [other for other in others if other in alive][:5] for name, others in near.items()}

    def _alive(self, deadline: Deadline, names: list[str]) -> set[str]:
        if not names:
            return set()
        pattern = "|".join(re.escape(name) for name in names)
        answer = self._prometheus.query(deadline, f"count by (__name__) ({{__name__=~{quoted(pattern)}}})")
        return {one.labels.get("__name__", "") for one in answer.series}

    def _look_back(self, deadline: Deadline) -> Verdict:
        since = self._since or 0.0
        window = int((max(self._prometheus.clock, since) - since + _SKEW) * 1000)
        answer = self._prometheus.query(deadline, f"{self._query}[{window}ms]")
        recent = [
            Series(one.labels, [sample for sample in one.samples if sample[0] > since])
            for one in answer.series
            if one.samples and one.samples[-1][0] > since
        ]
        observed = self._summary(recent, answer.at)
        firsts = [
            next((stamp for stamp, value in one.samples if self._condition.holds(value)), math.inf) for one in recent
        ]
        first = (max if self._every else min)(firsts, default=math.inf)
        if first < math.inf:
            return Verdict.yes(observed, {"first_sample": first})
        if recent:
            return Verdict.no("condition_false", self._not_so(recent), observed)
        if deadline.final and (old := self._prometheus.query(deadline, self._query)).series:
            hint = f"There are samples, but none after {format_time(since)}; {self._show(f'timestamp({self._query})')}."
            return Verdict.no("stale_sample", hint, self._summary(old.series, old.at))
        return self._without_data(deadline, observed)

    def _show(self, query: str) -> str:
        return f'see "{self._prometheus.command("/api/v1/query", {"query": query})}"'


def _identity(series: Series) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in series.labels.items() if name != "__name__")


def _replacement(text: str) -> str:
    """Return a text as the quoted replacement of label_replace, where a dollar sign would name a group."""
    return quoted(text.replace("$", "$$"))
