# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Does every panel of a dashboard have data, from fresh samples?

A panel that shows something is not enough: ``a or vector(0)`` shows a zero for ever after ``a`` was renamed, and ``rate(a[5m])``
goes on for five minutes after ``a`` is gone. So every vector selector of a query must find a fresh sample by itself too.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Prometheus
from ansible_collections.vigie.observability.plugins.module_utils.promql import selectors
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import format_time, parse_duration
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

REASONS = (
    "dashboard_missing",
    "dashboard_invalid",
    "datasource_missing",
    "datasource_unhealthy",
    "variable_unset",
    "no_query",
    "bad_query",
    "metric_unknown",
    "no_data",
    "not_a_number",
    "stale_sample",
)
"""Reasons of this check beyond the common ones; the module's documentation lists them."""

POINTS = 1000
"""Points that a panel on a screen asks for, which decides about ``$__interval`` as in Grafana."""

_BATCH = 25
"""Queries that are put into one: a service behind an API server is far away, and an address can't be endless."""

_SILENT_PANELS = ("row", "text", "news", "dashlist", "alertlist", "annolist")
_MAY_BE_EMPTY = re.compile(r"\bEmpty (while|until) [^.]+\.")
_ONLY_ON = re.compile(r"\bOnly on (\w+)\.")
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?::\w+)?\}|\[\[(\w+)(?::\w+)?\]\]")
_LABEL_VALUES = re.compile(r"^label_values\((?:(?P<selector>.+),)?\s*(?P<label>\w+)\s*\)$", re.DOTALL)


@dataclass(frozen=True)
class Query:
    """One query to a data source.

    Attributes:
        expr: PromQL, in which only Grafana's own variables such as $__rate_interval are left.
        step: least step as a duration, or empty for the data source's scrape interval.
        span: seconds that the dashboard shows.
        source: uid of the data source.
    """

    expr: str
    step: str = ""
    span: float = 3600.0
    source: str = ""


@dataclass(frozen=True)
class Result:
    """What a query gives: its greatest value, None without data, NaN when there is nothing else; or why it can't be run."""

    value: float | None = None
    error: str = ""


@dataclass(frozen=True)
class Panel:
    """A panel, or a variable that offers values, with what it asks.

    Attributes:
        dashboard: uid.
        title: for people.
        queries: the dashboard's variables are replaced in them.
        may_be: ``while`` when only the result may be empty, ``until`` when even the metrics may be missing, or empty.
        platform: the only kind of platform on which it has data, or empty for all.
        fault: reason and hint when it can't be asked at all.
    """

    dashboard: str
    title: str
    queries: tuple[Query, ...]
    may_be: str = ""
    platform: str = ""
    fault: tuple[str, str] | None = None


@dataclass(frozen=True)
class Dashboard:
    """A dashboard with its panels."""

    uid: str
    title: str
    panels: tuple[Panel, ...]

    @property
    def sources(self) -> list[str]:
        """The uids of the data sources that it asks."""
        return list(dict.fromkeys(query.source for panel in self.panels for query in panel.queries))


class Variables:
    """The values of a dashboard's variables.

    Args:
        model: the dashboard's JSON.
        given: values that win over those saved in the dashboard.
    """

    def __init__(self, model: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        self.models = {str(one["name"]): one for one in (model.get("templating") or {}).get("list") or []}
        self._values = {name: self._saved(one) for name, one in self.models.items()}
        self._values.update({name: _joined(value) for name, value in given.items() if name in self.models})

    @staticmethod
    def _saved(one: Mapping[str, Any]) -> str:
        value = _joined((one.get("current") or {}).get("value") or "")
        if value == "$__all":
            return str(one.get("allValue") or "")
        if not value and one.get("type") in ("constant", "textbox"):
            return str(one.get("query") or "")
        return value

    def replaced(self, text: str) -> str:
        """Return a text with the values in it.

        Raises:
            CheckError: ``variable_unset``, permanent, when one has no value.
        """

        def value(match: re.Match[str]) -> str:
            name = next(group for group in match.groups() if group)
            if name.startswith("__") or name.isdigit():  # Grafana's own, or a group of label_replace
                return match.group()
            if not self._values.get(name):
                raise CheckError(
                    "variable_unset", f"The variable {name} has no value; give it one in variables: {{{name}: ...}}."
                )
            return self._values[name]

        return _VARIABLE.sub(value, text)


def _joined(value: Any) -> str:
    """Return the value of a variable as Grafana writes it into PromQL; several are alternatives of a regular expression."""
    if isinstance(value, list):
        return str(value[0]) if len(value) == 1 else f"({'|'.join(map(str, value))})" if value else ""
    return str(value)


def read_dashboard(model: Any, given: Mapping[str, Any], where: str) -> Dashboard:
    """Return a dashboard from its JSON.

    Args:
        model: the dashboard as Grafana keeps it (the classic schema, not that of version 2).
        given: values of variables that win over those saved in the dashboard.
        where: where it comes from, for messages.

    Raises:
        CheckError: ``dashboard_invalid`` when it is no dashboard.
    """
    try:
        uid, title = str(model["uid"]), str(model["title"])
        about = str(model.get("description") or "")
        since = str((model.get("time") or {}).get("from") or "now-1h")
        reader = _Reader(uid, about, _span(since), Variables(model, given))
        panels = [*reader.variables(), *(reader.panel(one) for one in _flat(model["panels"]))]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckError(
            "dashboard_invalid",
            f"{where} is no dashboard in the form that Grafana exports ({type(error).__name__}: {error}); open it in Grafana to see.",
        ) from error
    return Dashboard(uid, title, tuple(panels))


def read_file(path: str, given: Mapping[str, Any]) -> Dashboard:
    """Return the dashboard in a file.

    Raises:
        CheckError: ``bad_option`` when it can't be read, ``dashboard_invalid`` when it is no dashboard.
    """
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is loaded for nothing else here
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        detail = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise CheckError(
            "bad_option", f"dashboard_file={path} can't be read ({detail}); check it with 'ls -l {path}'."
        ) from error
    try:
        model = json.loads(text)
    except ValueError as error:
        raise CheckError(
            "dashboard_invalid", f"{path} is no JSON ({error}); see 'python3 -m json.tool {path}'."
        ) from error
    return read_dashboard(model, given, path)


def _span(since: str) -> float:
    """Return the seconds that a range from ``now-<duration>`` to now is long; an hour for a fixed beginning."""
    _now, minus, duration = since.partition("-")
    return parse_duration(duration) if minus and _now == "now" else 3600.0


def _flat(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield all panels that show data; those of a collapsed row are inside it."""
    for one in panels:
        if one.get("type") not in _SILENT_PANELS:
            yield one
        yield from _flat(one.get("panels") or [])


@dataclass(frozen=True)
class _Reader:
    """What the panels of one dashboard have in common."""

    uid: str
    about: str
    span: float
    values: Variables

    def panel(self, one: Mapping[str, Any]) -> Panel:
        """Return a panel."""
        about = f"{self.about} {one.get('description') or ''}"
        empty, only = _MAY_BE_EMPTY.search(about), _ONLY_ON.search(about)
        title = str(one.get("title") or f"panel {one.get('id')}")
        queries: list[Query] = []
        fault = None
        try:
            for target in one.get("targets") or []:
                if not target.get("hide"):
                    queries.append(self._query(str(target["expr"]), target, one))
            if not queries:
                raise CheckError("no_query", "The panel asks nothing; give it a query or make it a text.")
        except CheckError as error:
            fault = (error.reason, error.hint)
        return Panel(self.uid, title, tuple(queries), empty[1] if empty else "", only[1] if only else "", fault)

    def variables(self) -> Iterator[Panel]:
        """Yield the variables whose values come from label_values(); an empty list of choices makes all panels empty."""
        only = _ONLY_ON.search(self.about)
        for name, one in self.values.models.items():
            query = one.get("query")
            text = str(query.get("query", "") if isinstance(query, dict) else query or "")
            match = _LABEL_VALUES.match(text.strip()) if one.get("type") == "query" else None
            if match and match["selector"]:
                queries: list[Query] = []
                fault = None
                try:
                    queries.append(self._query(match["selector"], {}, one))
                except CheckError as error:
                    fault = (error.reason, error.hint)
                yield Panel(self.uid, f"variable {name}", tuple(queries), "", only[1] if only else "", fault)

    def _query(self, expr: str, target: Mapping[str, Any], owner: Mapping[str, Any]) -> Query:
        source = target.get("datasource") or owner.get("datasource") or {}
        return Query(
            self.values.replaced(expr).strip(),
            str(target.get("interval") or owner.get("interval") or ""),
            self.span,
            self.values.replaced(str(source.get("uid", "") if isinstance(source, dict) else source)),
        )


class Source(ABC):
    """Who answers the queries."""

    @abstractmethod
    def dashboards(self, deadline: Deadline) -> list[Dashboard]:
        """Return the dashboards to check.

        Raises:
            CheckError: one of them, or a data source of theirs, is missing or broken.
        """

    @abstractmethod
    def evaluate(self, deadline: Deadline, queries: list[Query]) -> list[Result]:
        """Return what the queries give now, in their order."""

    @abstractmethod
    def names(self, deadline: Deadline, like: Query) -> list[str]:
        """Return the names of all metrics of the data source that ``like`` asks."""

    @abstractmethod
    def command(self, query: Query) -> str:
        """Return the command that shows what a query gives."""


class PrometheusSource(Source):
    """Prometheus itself answers, for dashboards in files: what Grafana does with a query first is done here.

    Args:
        prometheus: the server.
        dashboards: what to check.
        scrape_interval: seconds, what the data source in Grafana has as its scrape interval.
    """

    def __init__(self, prometheus: Prometheus, dashboards: list[Dashboard], scrape_interval: float) -> None:
        self._prometheus = prometheus
        self._dashboards = dashboards
        self._scrape_interval = scrape_interval

    def dashboards(self, deadline: Deadline) -> list[Dashboard]:
        """Return the dashboards of the files."""
        return self._dashboards

    def evaluate(self, deadline: Deadline, queries: list[Query]) -> list[Result]:
        """Return what the queries give, many with one request."""
        texts = [self._interpolated(query) for query in queries]
        results: list[Result] = []
        for at in range(0, len(texts), _BATCH):
            results += self._together(deadline, texts[at : at + _BATCH])
        return results

    def _together(self, deadline: Deadline, texts: list[str]) -> list[Result]:
        try:
            answer = self._prometheus.query(
                deadline,
                " or ".join(f'label_replace(max({one}\n), "ask", "{at}", "", "")' for at, one in enumerate(texts)),
            )
        except CheckError as error:
            if error.reason != "bad_query":
                raise
            # One that can't be run spoils all: now each for itself.
            if len(texts) > 1:
                return [self._together(deadline, [one])[0] for one in texts]
            return [self._alone(deadline, texts[0])]
        found = {one.labels.get("ask", ""): one.value for one in answer.series}
        return [Result(found.get(str(at))) for at in range(len(texts))]

    def _alone(self, deadline: Deadline, text: str) -> Result:
        """Return what a query gives of which max() can't be taken: a scalar, or a fault."""
        try:
            answer = self._prometheus.query(deadline, text)
        except CheckError as error:
            if error.reason != "bad_query":
                raise
            return Result(error=error.hint)
        if answer.kind not in ("vector", "scalar"):
            return Result(error=f"The query gives a {answer.kind}, which no panel shows at one moment.")
        return Result(greatest([one.value for one in answer.series]))

    def _interpolated(self, query: Query) -> str:
        """Return PromQL without Grafana's own variables, replaced as Grafana's backend does."""
        least = parse_duration(query.step) if query.step else self._scrape_interval
        step = max(query.span / POINTS, least)
        seconds = {
            "interval": step,
            "rate_interval": max(step + least, 4 * least),
            "range": query.span,
        }

        def value(match: re.Match[str]) -> str:
            name = next(group for group in match.groups() if group).removeprefix("__")
            for unit, factor in (("_ms", 1000.0), ("_s", 1.0)):
                if name.endswith(unit) and name.removesuffix(unit) in seconds:
                    return f"{seconds[name.removesuffix(unit)] * factor:.0f}"
            return f"{max(1, round(seconds[name] * 1000))}ms" if name in seconds else match.group()

        return _VARIABLE.sub(value, query.expr)

    def names(self, deadline: Deadline, like: Query) -> list[str]:
        """Return the names of all metrics."""
        return self._prometheus.metric_names(deadline)

    def command(self, query: Query) -> str:
        """Return the command that asks Prometheus."""
        return self._prometheus.command("/api/v1/query", {"query": self._interpolated(query)})


def greatest(values: list[float]) -> float | None:
    """Return the greatest number; NaN when there is nothing but NaN, None without values."""
    numbers = [value for value in values if not math.isnan(value)]
    return max(numbers) if numbers else math.nan if values else None


@dataclass
class _Age:
    """When the newest sample was taken of each selector and of each metric, in Unix seconds, and what time it is."""

    now: float
    newest: dict[Query, float | None] = field(default_factory=dict)


class DashboardCheck:
    """Dashboards of which every panel has data.

    Args:
        source: gives dashboards and answers queries.
        platform: kind of platform; panels that exist only on others are left out. Empty asks all.
        max_age: seconds that the newest sample of a selector may be old.
        since: Unix seconds after which it must have been taken, or None.

    Raises:
        CheckError: ``bad_option``.
    """

    def __init__(
        self, source: Source, *, platform: str = "", max_age: float = 60.0, since: float | None = None
    ) -> None:
        if not 0 < max_age <= math.inf:
            raise CheckError("bad_option", f"max_age={max_age} must be above 0 seconds.")
        self._source = source
        self._platform = platform
        self._max_age = max_age
        self._since = since

    def look(self, deadline: Deadline) -> Verdict:
        """Ask all panels once; only the last look goes on to find out which metrics have a name like the missing ones."""
        dashboards = self._source.dashboards(deadline)
        panels = [panel for one in dashboards for panel in one.panels]
        if not panels:
            return Verdict.no("no_query", "The dashboards have no panels, so there is nothing to prove.")
        asked = [panel for panel in panels if not self._platform or panel.platform in ("", self._platform)]
        queries = list(dict.fromkeys(query for panel in asked for query in panel.queries))
        results = dict(zip(queries, self._source.evaluate(deadline, queries), strict=True))
        age = self._age(deadline, queries, results) if queries else _Age(0.0)
        failures = [failure for panel in asked for failure in self._faults(panel, results, age)]
        if deadline.final:
            self._name_neighbours(deadline, failures)
        failed = [failure.panel for failure in failures]
        empty = [
            panel
            for panel in asked
            if panel.may_be and panel not in failed and all(_is_empty(results[one]) for one in panel.queries)
        ]
        observed = {
            "dashboards": [one.uid for one in dashboards],
            "panels": len(asked),
            "queries": len(queries),
            "failures": len(failures),
        }
        extra = {
            "failures": [failure.summary(self._source) for failure in failures],
            "empty": [{"dashboard": panel.dashboard, "panel": panel.title} for panel in empty],
            "skipped": [
                {"dashboard": panel.dashboard, "panel": panel.title, "only_on": panel.platform}
                for panel in panels
                if panel not in asked
            ],
        }
        times = {"evaluated": age.now} if queries else {}
        if not failures:
            return Verdict(True, observed=observed, times=times, extra=extra)
        first = extra["failures"][0]
        hint = (
            f"{len(dict.fromkeys(failed))} of {len(asked)} panels are not as they should be (see 'failures'); "
            f"the first is '{first['panel']}' of {first['dashboard']}: {first['hint']}"
        )
        return Verdict(False, first["reason"], hint, observed, times, extra)

    def _age(self, deadline: Deadline, queries: list[Query], results: Mapping[Query, Result]) -> _Age:
        """Ask for the newest sample of every selector, and of every metric without its matchers."""
        parts = [part for query in queries if not results[query].error for pair in _parts(query) for part in pair]
        wanted = [part for part in dict.fromkeys(parts) if part.expr]
        clock = _beside(queries[0], "vector(time())")
        newest = self._source.evaluate(deadline, [clock, *(_beside(one, f"timestamp({one.expr})") for one in wanted)])
        now = newest[0].value
        if now is None:
            raise CheckError("bad_answer", "Prometheus doesn't tell the time; another program may be listening there.")
        return _Age(now, {one: result.value for one, result in zip(wanted, newest[1:], strict=True)})

    def _faults(self, panel: Panel, results: Mapping[Query, Result], age: _Age) -> Iterator[_Failure]:
        if panel.fault:
            yield _Failure(panel, None, *panel.fault)
        for query in panel.queries:
            fault = self._fault(panel, query, results[query], age)
            if fault:
                yield _Failure(panel, query, *fault)

    def _fault(self, panel: Panel, query: Query, result: Result, age: _Age) -> tuple[str, str, str] | None:
        """Return reason, hint and the metric concerned when a query is not as it should be."""
        if result.error:
            return "bad_query", result.error, ""
        if panel.may_be == "until":
            return None
        for selector, metric in _parts(query):
            if panel.may_be and not metric.expr:
                continue
            there = age.newest[metric] if metric.expr else None
            newest = there if panel.may_be else age.newest[selector]
            if metric.expr and there is None:
                return "metric_unknown", f"No series is called {metric.expr} now", metric.expr
            if newest is None:
                hint = f"Nothing passes the matchers of {selector.expr}, although series called {metric.expr} exist"
                return "no_data", hint, ""
            bound = max(age.now - self._max_age, self._since or 0.0)
            if newest <= bound:
                hint = (
                    f"The newest sample of {(metric if panel.may_be else selector).expr} is of {format_time(newest)}, "
                    f"{age.now - newest:.0f} s old, but must be after {format_time(bound)}"
                )
                return "stale_sample", hint, ""
        if panel.may_be:
            return None
        if result.value is None:
            return "no_data", "All metrics are there, but the query lets nothing pass", ""
        if math.isnan(result.value):
            return "not_a_number", "Every value is NaN, as in a division by a rate of 0", ""
        return None

    def _name_neighbours(self, deadline: Deadline, failures: list[_Failure]) -> None:
        """Add the nearest names that series have now to those that no series has."""
        missing = {failure.metric: failure.query for failure in failures if failure.metric and failure.query}
        if not missing:
            return
        import difflib  # needed only here, and slow to load

        like = next(iter(missing.values()))
        known = self._source.names(deadline, like)
        near = {name: difflib.get_close_matches(name, known, 8, 0.6) for name in missing}
        # The storage also knows names whose series are gone.
        others = sorted({other for names in near.values() for other in names})
        alive = {
            name
            for name, result in zip(
                others,
                self._source.evaluate(deadline, [_beside(like, f"timestamp({name})") for name in others]),
                strict=True,
            )
            if result.value is not None
        }
        for failure in failures:
            if failure.metric:
                names = [other for other in near[failure.metric] if other in alive][:5]
                failure.hint += f"; the nearest names are {', '.join(names)}" if names else "; no name is like it"


def _is_empty(result: Result) -> bool:
    return result.value is None or math.isnan(result.value)


def _beside(query: Query, expr: str) -> Query:
    """Return another query to the same data source."""
    return Query(expr, query.step, query.span, query.source)


def _parts(query: Query) -> list[tuple[Query, Query]]:
    """Return each selector of a query with its metric alone; what asks for old samples on purpose is left out."""
    # Grafana's own variables are numbers and durations, not metrics.
    text = _VARIABLE.sub(lambda match: "1" if "__" in match.group() else match.group(), query.expr)
    return [(_beside(query, one.text), _beside(query, one.metric)) for one in selectors(text) if not one.shifted]


@dataclass
class _Failure:
    """A query of a panel that is not as it should be."""

    panel: Panel
    query: Query | None
    reason: str
    hint: str
    metric: str = ""

    def summary(self, source: Source) -> dict[str, str]:
        """The failure for people."""
        hint = self.hint.rstrip(".")
        if self.query:
            hint += f'; see "{source.command(self.query)}"'
        return {
            "dashboard": self.panel.dashboard,
            "panel": self.panel.title,
            "query": self.query.expr if self.query else "",
            "reason": self.reason,
            "hint": f"{hint}.",
        }
