"""The house style: what every dashboard, variable and panel of Vigie has in common.

The library leaves out what Grafana's own editor fills in (ids, reducers, legends), so it is all said here once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import common as build
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")

BACKGROUND = "30s"
"""Least step of queries about what is scraped in the background (the host, Prometheus and Alertmanager themselves): Grafana makes
$__rate_interval four times as long, while the data source's own interval is the application's, too short for their rates."""

APPLICATION = 'namespace="$namespace", container="flask-metrics"'
"""Matchers of the application's series, the same on every platform."""

HEIGHT = 8
NUMBER_HEIGHT = 4

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"


@dataclass(frozen=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL, with Grafana's variables.
        legend: name of each series, with labels in double braces.
        step: least step, such as 30s; empty is the data source's scrape interval.
        exemplars: whether single requests are shown too, which lead to their traces.
    """

    expr: str
    legend: str = ""
    step: str = ""
    exemplars: bool = False

    def target(self, number: int, *, instant: bool = False, kind: PromQueryFormat | None = None) -> Any:
        """Return the library's builder of this query; ``number`` counts from 0."""
        one = prometheus.Dataquery().datasource(SOURCE).expr(self.expr).ref_id(chr(ord("A") + number))
        one.legend_format(self.legend or "__auto").format(kind or PromQueryFormat.TIME_SERIES)
        if self.step:
            one.interval(self.step)
        if self.exemplars:
            one.exemplar(True)
        return one.instant() if instant else one.range()


def thresholds(*steps: tuple[float, str], base: str = GREEN) -> builders.ThresholdsConfig:
    """Return the colours from given values on; ``base`` is the colour below the first of them."""
    colours = [dashboard.Threshold(value=None, color=base)]
    colours += [dashboard.Threshold(value=value, color=colour) for value, colour in steps]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(colours)


def words(**values: tuple[str, str]) -> list[dashboard.ValueMapping]:
    """Return the mapping of values such as ``_0`` to a text and a colour."""
    results = {
        name.removeprefix("_"): dashboard.ValueMappingResult(text=text, color=colour, index=index)
        for index, (name, (text, colour)) in enumerate(values.items())
    }
    return [dashboard.ValueMap(options=results)]


ON_OFF = words(_0=("no", RED), _1=("yes", GREEN))
FIRES = words(_0=("quiet", GREEN), _1=("active", RED))


class Page:
    """A dashboard being written: rows and panels are placed in the order in which they come.

    Args:
        uid: never changed once published, because links and ``dashboard_check`` depend on it.
        title: shown after the folder's name.
        description: one or two sentences; a convention of this package applies to all panels when it stands here.
        namespace: whether the dashboard is about one namespace, chosen by a variable.
        since: start of the time range that is shown at first.
    """

    def __init__(self, uid: str, title: str, description: str, *, namespace: bool = True, since: str = "30m") -> None:
        self.uid = uid
        self._panels = 0
        self._page = (
            builders.Dashboard(f"Vigie / {title}")
            .uid(uid)
            .description(description)
            .tags(["vigie"])
            .timezone("browser")
            .time(f"now-{since}", "now")
            .refresh("10s")
            .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
            .links(
                [
                    builders.DashboardLink("Vigie")
                    .type(dashboard.DashboardLinkType.DASHBOARDS)
                    .icon("external link")
                    .tags(["vigie"])
                    .include_vars(True)
                    .keep_time(True)
                ]
            )
            .with_variable(
                builders.DatasourceVariable("datasource")
                .label("Data source")
                .type("prometheus")
                .current(dashboard.VariableOption(selected=True, text="Prometheus", value="prometheus"))
            )
        )
        if namespace:
            self.choice("namespace", "Namespace", "kube_pod_created", "namespace", "vigie")

    def choice(self, name: str, label: str, metric: str, of: str, value: str | None = None) -> None:
        """Add a variable with the values of a label; without a first value it offers all of them and begins with that."""
        query = f"label_values({metric}, {of})"
        one = builders.QueryVariable(name).label(label).datasource(SOURCE).query(query).definition(query)
        one.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        if value is None:
            one.include_all(True).multi(True).all_value(".*")
            one.current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
        else:
            one.current(dashboard.VariableOption(selected=True, text=value, value=value))
        self._page.with_variable(one)

    def row(self, title: str) -> None:
        """Begin a row."""
        self._panels += 1
        self._page.with_row(builders.Row(title).id(self._panels))

    def _add(self, panel: Any, title: str, unit: str, description: str, span: int) -> None:
        self._panels += 1
        panel.id(self._panels).title(title).unit(unit).description(description).datasource(SOURCE)
        self._page.with_panel(panel.span(span).height(NUMBER_HEIGHT if isinstance(panel, stat.Panel) else HEIGHT))

    def number(
        self,
        title: str,
        unit: str,
        description: str,
        query: Query,
        *,
        span: int = 6,
        decimals: int | None = None,
        steps: builders.ThresholdsConfig | None = None,
        none: str = "",
        named: bool = False,
    ) -> None:
        """Add a big number, the newest value of a query.

        Args:
            title: with the unit in words.
            unit: Grafana's id of the unit.
            description: what it says and, if it may be empty, when.
            query: one series, or more when ``named``.
            span: width in columns of 24.
            decimals: digits after the point; Grafana chooses when None.
            steps: colours; none means no colour.
            none: shown when there is no value.
            named: whether the series' names are shown beside the values.
        """
        panel = stat.Panel().with_target(query.target(0))
        panel.reduce_options(build.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        panel.graph_mode(common.BigValueGraphMode.AREA).color_mode(common.BigValueColorMode.VALUE)
        panel.text_mode(common.BigValueTextMode.VALUE_AND_NAME if named else common.BigValueTextMode.VALUE)
        panel.thresholds(steps or thresholds(base=BLUE))
        if decimals is not None:
            panel.decimals(decimals)
        if none:
            panel.no_value(none)
        self._add(panel, title, unit, description, span)

    def lines(
        self,
        title: str,
        unit: str,
        description: str,
        *queries: Query,
        span: int = 12,
        stacked: bool = False,
        stepped: bool = False,
        top: float | None = None,
    ) -> None:
        """Add lines over time; ``stepped`` for counters that are shown as they are, ``top`` is the axis' upper end."""
        panel = timeseries.Panel().min(0).fill_opacity(30 if stacked else 8).line_width(1)
        for number, query in enumerate(queries):
            panel.with_target(query.target(number))
        panel.show_points(common.VisibilityMode.NEVER).span_nulls(False)
        panel.legend(
            build.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        panel.tooltip(build.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
        if stepped:
            panel.line_interpolation(common.LineInterpolation.STEP_AFTER)
        if stacked:
            panel.stacking(build.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
        if top is not None:
            panel.max(top)
        self._add(panel, title, unit, description, span)

    def buckets(self, title: str, unit: str, description: str, query: Query, *, span: int = 12) -> None:
        """Add a heatmap of a histogram's buckets."""
        panel = heatmap.Panel().with_target(query.target(0, kind=PromQueryFormat.HEATMAP)).calculate(False)
        panel.y_axis(heatmap.YAxisConfig().unit(unit))
        panel.color(
            heatmap.HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Spectral")
            .exponent(0.5)
            .steps(64)
            .reverse(True)
        )
        self._add(panel, title, unit, description, span)

    def states(
        self,
        title: str,
        description: str,
        *queries: Query,
        mappings: list[dashboard.ValueMapping],
        span: int = 12,
    ) -> None:
        """Add a band for each series, coloured by its value."""
        panel = statetimeline.Panel().mappings(mappings).fill_opacity(80).line_width(0).row_height(0.8)
        for number, query in enumerate(queries):
            panel.with_target(query.target(number))
        panel.show_value(common.VisibilityMode.NEVER).merge_values(True)
        panel.color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        panel.legend(
            build.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs([])
        )
        self._add(panel, title, "none", description, span)

    def rows(
        self, title: str, unit: str, description: str, query: Query, columns: Iterable[str], *, span: int = 12
    ) -> None:
        """Add a table of what a query gives now; ``columns`` are the labels that it shows, in that order."""
        panel = table.Panel().with_target(query.target(0, instant=True, kind=PromQueryFormat.TABLE))
        names = list(columns)
        panel.with_transformation(
            dashboard.DataTransformerConfig(
                id_val="filterFieldsByName", options={"include": {"names": [*names, "Value"]}}
            )
        )
        panel.with_transformation(
            dashboard.DataTransformerConfig(
                id_val="organize", options={"indexByName": {name: at for at, name in enumerate([*names, "Value"])}}
            )
        )
        self._add(panel, title, unit, description, span)

    def build(self) -> dashboard.Dashboard:
        """Return the dashboard."""
        page = self._page.build()
        for link in page.links or []:
            vars(link)["placement"] = None  # the library hides links in a menu, and knows no other place by name
        return page
