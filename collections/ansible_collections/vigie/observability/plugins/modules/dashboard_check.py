#!/usr/bin/python
# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: dashboard_check
short_description: Prove that dashboards are there and that none of their panels is without data
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Waits until every panel of some dashboards has data, and names each one that has not, with its query, the reason and a hint.
  - With O(uid) or O(title) it asks Grafana for the dashboards, for the health of the data sources that they use, and lets Grafana run the
    panels' queries.
  - With O(dashboard_file) it reads dashboards from files and asks Prometheus itself, with Grafana's variables replaced as Grafana does.
    No Grafana is needed.
  - A query must give a number now. Besides, each of its selectors must find a fresh sample by itself, because C(a or vector(0)) and
    C(rate(a[5m])) go on showing something after C(a) is gone. Selectors with C(offset) or C(@) are left out.
  - Variables that offer the values of a label must have values, too.
options:
  uid:
    description: Dashboards in Grafana, by uid.
    type: list
    elements: str
    default: []
  title:
    description: Dashboards in Grafana, by their whole title.
    type: list
    elements: str
    default: []
  datasource:
    description:
      - Data sources in Grafana, by uid, that must be healthy besides those that the dashboards use; of any type whose plugin has a health check.
      - Only with O(uid) or O(title), and O(expect=present).
    type: list
    elements: str
    default: []
  dashboard_file:
    description:
      - Files, on the host that runs the module, with dashboards in the JSON that Grafana exports and provisions (the classic schema).
      - O(endpoint) is Prometheus then.
    type: list
    elements: path
    default: []
  variables:
    description: Values of the dashboards' variables that win over those saved in them. A list is a choice of several.
    type: dict
    default: {}
  platform:
    description:
      - Kind of the platform. Panels that say that they exist only on another one are not asked.
      - Without it all panels are asked.
    type: str
    default: ""
  max_age:
    description: Seconds that the newest sample of a selector may be old.
    type: float
    default: 60.0
  scrape_interval:
    description:
      - Scrape interval that the data source has in Grafana, as a Prometheus duration. Only used with O(dashboard_file).
      - C($__rate_interval) is four times as long, as in Grafana, or four times the least step of a query that has one.
    type: str
    default: 15s
extends_documentation_fragment:
  - vigie.observability.check
  - vigie.observability.endpoint
notes:
  - >-
    A panel says itself when it may be empty, in a whole sentence of its description or of the dashboard's: V(Empty while nothing is
    sent.) lets the query give nothing, but its metrics must be there; V(Empty until a drill has run.) lets even the metrics be
    missing; V(Only on kubernetes.) makes it a panel for O(platform=kubernetes). The condition is free text without a full stop.
  - With O(expect=absent) it proves that Grafana has none of the dashboards; their panels are not asked.
  - Panels are only understood with data sources of the type C(prometheus).
  - >-
    The part that speaks to Grafana was written from Grafana's documentation and is tested against a server written from it, which
    passes queries on to a real Prometheus. The part that asks Prometheus is tested against the real one.
seealso:
  - module: vigie.observability.promql_check
  - module: vigie.observability.scrape_check
"""

EXAMPLES = r"""
- name: Grafana has the dashboards, and every panel shows something
  vigie.observability.dashboard_check:
    endpoint:
      service:
        namespace: monitoring
        name: prometheus-grafana
        port: http-web
      username: admin
      password_file: /home/ops/.local/state/vigie/secrets/grafana
    uid: [vigie-application, vigie-restarts]
    variables:
      namespace: vigie
    timeout: 120

- name: The queries of a dashboard have data before anybody imports it
  vigie.observability.dashboard_check:
    endpoint:
      url: http://127.0.0.1:9090
    dashboard_file: files/vigie-application.json
    scrape_interval: 3s

- name: The dashboard is gone after the removal
  vigie.observability.dashboard_check:
    endpoint: "{{ vigie_endpoints.grafana }}"
    title: Vigie / Application
    expect: absent
    timeout: 60
"""

RETURN = r"""
matched:
  description: Whether the condition held.
  returned: always
  type: bool
  sample: true
observed:
  description: The dashboards' uids, and how many panels and different queries were asked, and how many queries failed.
  returned: always
  type: raw
  sample:
    dashboards: [vigie-application]
    panels: 12
    queries: 16
    failures: 0
failures:
  description: Every query that is not as it should be. It is not cut.
  returned: when panels were asked
  type: list
  elements: dict
  contains:
    dashboard:
      description: Uid of the dashboard.
      type: str
      returned: always
      sample: vigie-application
    panel:
      description: Title of the panel, or C(variable) and a name.
      type: str
      returned: always
      sample: Active users
    query:
      description: The query, with the dashboard's variables replaced; empty when the panel has none.
      type: str
      returned: always
      sample: sum(active_users{namespace="vigie"})
    reason:
      description: One of those at RV(reason).
      type: str
      returned: always
      sample: metric_unknown
    hint:
      description: One sentence with the command that shows the cause.
      type: str
      returned: always
      sample: No series is called active_users now; the nearest names are active_user.
empty:
  description: Panels without data that may be empty.
  returned: when panels were asked
  type: list
  elements: dict
  sample:
    - dashboard: vigie-drill
      panel: PodCrashLoop firing (alerts)
skipped:
  description: Panels that exist only on another platform.
  returned: when panels were asked
  type: list
  elements: dict
  sample:
    - dashboard: vigie-cluster
      panel: Nodes ready (nodes)
      only_on: kubernetes
elapsed:
  description: Seconds that the check took.
  returned: always
  type: float
  sample: 0.085
attempts:
  description: How often it looked.
  returned: always
  type: int
  sample: 1
reason:
  description:
    - V(ok), a reason shared by all checks, or why the first of RV(failures) is one.
    - V(dashboard_missing) - Grafana has no dashboard of that uid or title.
    - V(dashboard_invalid) - the file, or what Grafana has, is no dashboard of the classic schema.
    - V(datasource_missing) - Grafana has no data source of the uid that a dashboard uses or O(datasource) names.
    - V(datasource_unhealthy) - Grafana's own check of the data source failed.
    - V(variable_unset) - a query uses a variable that has no value.
    - V(no_query) - a panel asks nothing.
    - V(bad_query) - Prometheus can't run the query.
    - V(metric_unknown) - no series has a name that the query uses; the hint has the nearest names.
    - V(no_data) - the metrics exist, but the query's matchers and comparisons let nothing pass.
    - V(not_a_number) - there are values, but all of them are NaN, which a panel can't show.
    - V(stale_sample) - there is data, but older than O(max_age) or O(since).
  returned: always
  type: str
  sample: ok
hint:
  description: One sentence with the command that shows the cause; empty when all is well.
  returned: always
  type: str
  sample: ""
times:
  description: Times read from Prometheus, in Unix seconds.
  returned: always
  type: dict
  contains:
    evaluated:
      description: When the panels were asked.
      returned: when panels were asked
      type: float
      sample: 1795519770.412
"""

from collections.abc import Callable

from ansible_collections.vigie.observability.plugins.module_utils.check import check_module, connect, run_check
from ansible_collections.vigie.observability.plugins.module_utils.dashboards import (
    DashboardCheck,
    PrometheusSource,
    Source,
    read_file,
)
from ansible_collections.vigie.observability.plugins.module_utils.endpoint import endpoint_spec
from ansible_collections.vigie.observability.plugins.module_utils.grafana import GrafanaSource
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Prometheus
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import parse_duration, since_bound
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict


def main() -> None:
    """Run the module."""
    module = check_module(
        {
            "endpoint": endpoint_spec(),
            "uid": {"type": "list", "elements": "str", "default": []},
            "title": {"type": "list", "elements": "str", "default": []},
            "datasource": {"type": "list", "elements": "str", "default": []},
            "dashboard_file": {"type": "list", "elements": "path", "default": []},
            "variables": {"type": "dict", "default": {}},
            "platform": {"type": "str", "default": ""},
            "max_age": {"type": "float", "default": 60.0},
            "scrape_interval": {"type": "str", "default": "15s"},
        }
    )
    params = module.params

    def prepare() -> Callable[[Deadline], Verdict]:
        in_grafana = bool(params["uid"] or params["title"])
        if in_grafana == bool(params["dashboard_file"]):
            raise CheckError("bad_option", "Give either uid or title, for Grafana, or dashboard_file, for Prometheus.")
        if params["expect"] == "absent" and not in_grafana:
            raise CheckError(
                "bad_option", "expect=absent goes with uid or title: a file can't be absent from Prometheus."
            )
        if params["datasource"] and (params["expect"] == "absent" or not in_grafana):
            raise CheckError("bad_option", "datasource goes with uid or title, and with expect=present.")
        try:
            scrape_interval = parse_duration(params["scrape_interval"])
        except ValueError as error:
            raise CheckError("bad_option", f"scrape_interval: {error}.") from error
        if scrape_interval <= 0:
            raise CheckError("bad_option", f"scrape_interval={params['scrape_interval']} must be above 0.")
        source: Source
        if in_grafana:
            grafana = GrafanaSource(
                connect(module), params["uid"], params["title"], params["variables"], params["datasource"]
            )
            if params["expect"] == "absent":
                return grafana.look_for_any
            source = grafana
        else:
            dashboards = [read_file(path, params["variables"]) for path in params["dashboard_file"]]
            source = PrometheusSource(Prometheus(connect(module)), dashboards, scrape_interval)
        return DashboardCheck(
            source, platform=params["platform"], max_age=params["max_age"], since=since_bound(params["since"])
        ).look

    run_check(module, prepare)


if __name__ == "__main__":
    main()
