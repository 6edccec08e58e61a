"""Each link from a ServiceMonitor to Prometheus, broken one at a time, is named; the API over HTTP is in tests/contract."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from ansible_collections.vigie.observability.plugins.module_utils.monitors import WALK_REQUESTS, Monitor, pod_state
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Prometheus, Target
from ansible_collections.vigie.observability.plugins.module_utils.scraping import ScrapeCheck
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError, Verdict

Json = dict[str, Any]
POOL = "serviceMonitor/vigie/flask-monitor/0"
OPTION = {"namespace": "vigie", "name": "flask-monitor"}
CONFIG = """
scrape_configs:
- job_name: serviceMonitor/vigie/flask-monitor/0
  relabel_configs:
  - {source_labels: [job], target_label: __tmp_prometheus_job_name}
  - action: keep
    source_labels: [__meta_kubernetes_service_label_app, __meta_kubernetes_service_labelpresent_app]
    regex: (flask);true
  - {action: keep, source_labels: [__meta_kubernetes_endpointslice_port_name], regex: metrics}
  - {action: drop, source_labels: [__meta_kubernetes_pod_phase], regex: (Failed|Succeeded)}
"""


def thing(kind: str, name: str, namespace: str | None = "vigie", labels: Json | None = None, **more: Any) -> Json:
    metadata: Json = {"name": name, "labels": labels or {}}
    if namespace:
        metadata["namespace"] = namespace
    return {"kind": kind, "metadata": metadata, **more}


def healthy() -> dict[str, Json]:
    """Return the objects of a chain without a broken link."""
    monitor = thing(
        "servicemonitors",
        "flask-monitor",
        labels={"release": "prometheus"},
        spec={"selector": {"matchLabels": {"app": "flask"}}, "endpoints": [{"port": "metrics"}], "jobLabel": "name"},
    )
    monitor["metadata"].update(generation=3, uid="u1", resourceVersion="77", creationTimestamp="2026-11-28T18:00:00Z")
    return {
        "namespace": thing("namespaces", "vigie", None, {"kubernetes.io/metadata.name": "vigie"}),
        "monitor": monitor,
        "prometheus": thing(
            "prometheuses",
            "main",
            "monitoring",
            spec={
                "serviceMonitorSelector": {"matchLabels": {"release": "prometheus"}},
                "serviceMonitorNamespaceSelector": {},
                "serviceAccountName": "prom",
            },
        ),
        "service": thing(
            "services",
            "flask",
            labels={"app": "flask"},
            spec={"selector": {"app": "flask"}, "ports": [{"name": "metrics", "port": 80, "targetPort": "http"}]},
        ),
        "slice": thing(
            "endpointslices",
            "flask-x1",
            labels={"kubernetes.io/service-name": "flask"},
            ports=[{"name": "metrics", "port": 5000}],
            endpoints=[
                {"addresses": ["10.0.0.9"], "conditions": {}, "targetRef": {"kind": "Pod", "name": "flask-1"}},
            ],
        ),
        "pod": thing(
            "pods",
            "flask-1",
            labels={"app": "flask"},
            spec={"containers": [{"name": "flask", "ports": [{"name": "http", "containerPort": 5000}]}]},
            status={"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        ),
    }


class FakeApi:
    """Answers from objects as an API server does, and refuses what is forbidden."""

    def __init__(self, objects: dict[str, Json]) -> None:
        self.objects = objects
        self.kinds = {"servicemonitors", "prometheuses"}
        self.forbidden: set[str] = set()
        self.asked: list[str] = []
        self.error: CheckError | None = None
        self.closed = False
        self.seconds: list[float] = []

    def renew(self, timeout: float) -> None:
        self.seconds.append(timeout)

    def close(self) -> None:
        self.closed = True

    def ask(self, path: str, what: str) -> Json | None:
        url = urlsplit(path)
        parts = url.path.strip("/").split("/")
        rest = parts[2 if parts[0] == "api" else 3 :]
        if self.error:
            raise self.error  # pylint: disable=raising-bad-type
        if not rest:
            return {"resources": [{"name": kind} for kind in sorted(self.kinds)]} if self.kinds else None
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = rest[0]
        self.asked.append(kind)
        if kind in self.forbidden or (f"{kind} -A" in self.forbidden and not namespace):
            raise CheckError("access_denied", f"The API server doesn't allow it (may not see {kind}); ask {what}.")
        found = [
            copy.deepcopy(one)
            for one in self.objects.values()
            if one["kind"] == kind and namespace in (None, one["metadata"].get("namespace"))
        ]
        if len(rest) > 1:
            return next((one for one in found if one["metadata"]["name"] == rest[1]), None)
        selector = parse_qs(url.query).get("labelSelector", [""])[0]
        pairs = dict(pair.split("=") for pair in selector.split(",") if pair)
        return {"items": [one for one in found if pairs.items() <= one["metadata"]["labels"].items()]}


class FakePrometheus(Prometheus):
    """A Prometheus with the targets, pools and configuration of a test."""

    address = "http://prometheus"

    def __init__(self) -> None:
        self.clock = 1000.0
        self.found: list[Target] = []
        self.pools = [POOL]
        self.dropped: list[dict[str, str]] = []
        self.yaml = CONFIG
        self.reloaded = (True, 900.0)

    def targets(self, deadline: Deadline) -> list[Target]:
        return self.found

    def dropped_targets(self, deadline: Deadline) -> list[dict[str, str]]:
        return self.dropped

    def scrape_pools(self, deadline: Deadline) -> list[str]:
        return self.pools

    def config(self, deadline: Deadline) -> str:
        return self.yaml

    def last_reload(self, deadline: Deadline) -> tuple[bool, float]:
        return self.reloaded


class Chain:
    """A monitor, the objects along its links, and the Prometheus at the end."""

    def __init__(self) -> None:
        self.objects = healthy()
        self.api = FakeApi(self.objects)
        self.prometheus = FakePrometheus()
        self.option: Json = dict(OPTION)
        self.secrets: set[str] = set()

    def spec(self, name: str) -> Json:
        spec: Json = self.objects[name]["spec"]
        return spec

    def look(self, **options: Any) -> Verdict:
        chain = self

        class Local(Monitor):
            def _connect(self) -> None:
                self._server = SimpleNamespace(kubectl="kubectl --context lab", secrets=frozenset({"t0ken"}))  # type: ignore[assignment]
                self._keep_secret(self._server.secrets)
                self._api = chain.api  # type: ignore[assignment]

        monitor = Local(self.option, self.secrets.update)
        return ScrapeCheck(self.prometheus, "app", monitor=monitor, **options).look(Deadline(0))

    def broken(self, reason: str, *words: str) -> str:
        verdict = self.look()
        assert not verdict.matched
        assert verdict.reason == reason, verdict.hint
        assert [word for word in words if word not in verdict.hint] == [], verdict.hint
        assert "kubectl --context lab" in verdict.hint and verdict.hint.endswith(".")
        assert self.api.closed
        return verdict.hint


@pytest.fixture
def chain() -> Chain:
    return Chain()


def target(health: str = "up", job: str = "app", pool: str = POOL, error: str = "") -> Target:
    return Target({"job": job}, "http://10.0.0.9:5000/metrics", health, error, 999.0, "5s", pool)


def test_pods_of_a_service_that_are_not_ready_are_observed(chain: Chain) -> None:
    another = {"conditions": {"ready": False}, "targetRef": {"kind": "Pod", "name": "flask-2"}}
    chain.objects["slice"]["endpoints"].append(another)
    seen = chain.look().observed["monitor"]
    assert (seen["ready"], seen["not_ready"]) == (["flask-1"], ["flask-2"])


# --- when it is asked ---


def test_nothing_is_asked_while_the_target_is_up(chain: Chain) -> None:
    chain.prometheus.found = [target()]
    assert chain.look().matched
    # Up but stale: something made it.
    assert chain.look(since=999.5).reason == "stale_scrape"
    assert chain.api.asked == []


def test_only_the_last_look_asks(chain: Chain) -> None:
    monitor = Monitor(chain.option)
    verdict = ScrapeCheck(chain.prometheus, "app", monitor=monitor).look(Deadline(30))
    assert (verdict.reason, verdict.hint) == ("too_few_targets", "")


def test_secrets_are_kept(chain: Chain) -> None:
    chain.look()
    assert chain.secrets == {"t0ken"}


def test_what_was_found_is_observed(chain: Chain) -> None:
    assert chain.look().observed["monitor"] == {
        "labels": {"release": "prometheus"},
        "prometheus": ["monitoring/main"],
        "services": ["vigie/flask"],
        "ready": ["flask-1"],
    }


# --- the ServiceMonitor ---


def test_no_kind(chain: Chain) -> None:
    del chain.objects["monitor"]
    chain.api.kinds = set()
    chain.broken("monitor_missing", "no kind ServiceMonitor", "api-resources --api-group=monitoring.coreos.com")


def test_no_monitor(chain: Chain) -> None:
    chain.objects["monitor"]["metadata"]["name"] = "flask"
    chain.broken("monitor_missing", "no ServiceMonitor vigie/flask-monitor, only flask;", "get servicemonitors -A")
    del chain.objects["monitor"]
    chain.broken("monitor_missing", "nor any other")


# --- Prometheus selects it ---


def test_no_prometheus(chain: Chain) -> None:
    chain.option["prometheus"] = {"namespace": "monitoring", "name": "other"}
    chain.broken("monitor_not_selected", "no Prometheus monitoring/other", "get prometheuses -A")
    del chain.option["prometheus"], chain.objects["prometheus"]
    chain.broken("monitor_not_selected", "no object of kind Prometheus")


def test_other_labels(chain: Chain) -> None:
    chain.objects["monitor"]["metadata"]["labels"] = {"release": "monitoring"}
    words = ("only ServiceMonitors with release=prometheus", "release=monitoring instead of", "--show-labels")
    chain.broken("monitor_not_selected", *words)
    chain.objects["monitor"]["metadata"]["labels"] = {}
    chain.broken("monitor_not_selected", "no label release (release=prometheus is wanted)")


def test_expressions_of_prometheus(chain: Chain) -> None:
    expression = {"key": "release", "operator": "NotIn", "values": ["prometheus"]}
    chain.spec("prometheus")["serviceMonitorSelector"] = {"matchExpressions": [expression]}
    chain.broken("monitor_not_selected", "release notin (prometheus)")


@pytest.mark.parametrize(
    ("labels", "namespaces", "where", "word"),
    [
        # A missing selector of labels selects nothing, a missing one of namespaces the own namespace; empty ones everything.
        (None, {}, "monitoring", "has no serviceMonitorSelector"),
        ({}, {}, "monitoring", ""),
        ({}, None, "monitoring", "of its own namespace only"),
        ({}, None, "vigie", ""),
        ({}, {"matchLabels": {"team": "red"}}, "monitoring", "no label team (team=red is wanted)"),
        ({}, {"matchLabels": {"team": "red"}}, "vigie", "get namespace vigie --show-labels"),
        ({}, {"matchLabels": {"kubernetes.io/metadata.name": "vigie"}}, "monitoring", ""),
    ],
)
def test_missing_and_empty_selectors(
    chain: Chain, labels: Json | None, namespaces: Json | None, where: str, word: str
) -> None:
    chain.objects["prometheus"]["metadata"]["namespace"] = where
    chain.spec("prometheus").update(serviceMonitorSelector=labels, serviceMonitorNamespaceSelector=namespaces)
    if word:
        chain.broken("monitor_not_selected", word)
    else:
        assert chain.look().reason == "too_few_targets"


def test_one_of_several_is_enough_unless_it_is_named(chain: Chain) -> None:
    other = thing("prometheuses", "other", "monitoring", spec={"serviceMonitorSelector": {"matchLabels": {"a": "b"}}})
    chain.objects["other"] = other
    assert chain.look().reason == "too_few_targets"
    chain.option["prometheus"] = {"namespace": "monitoring", "name": "other"}
    chain.broken("monitor_not_selected", "Prometheus monitoring/other takes only ServiceMonitors with a=b")


def test_rejected_by_status(chain: Chain) -> None:
    condition = {"type": "Accepted", "status": "False", "observedGeneration": 3, "reason": "InvalidConfiguration"}
    binding = {"resource": "prometheuses", "namespace": "monitoring", "name": "main", "conditions": [condition]}
    chain.objects["monitor"]["status"] = {"bindings": [binding]}
    condition["message"] = "scrapeTimeout 10s greater than scrapeInterval 5s"
    chain.broken("monitor_rejected", "InvalidConfiguration: scrapeTimeout 10s", "describe servicemonitor flask-monitor")
    condition["observedGeneration"] = 2  # what was said of an older version
    assert chain.look().reason == "too_few_targets"
    condition.update(observedGeneration=3, status="True")
    assert chain.look().reason == "too_few_targets"


# --- it selects a Service ---


def test_no_service_with_the_labels(chain: Chain) -> None:
    chain.objects["service"]["metadata"]["labels"] = {"app": "flask-metrics"}
    chain.objects["other"] = thing("services", "grafana", labels={"app": "grafana"}, spec={"ports": [{"port": 80}]})
    hint = chain.broken(
        "service_not_selected",
        "no Service in namespace vigie with app=flask",
        "nearest comes vigie/flask, which has app=flask-metrics instead of app=flask",
        "-n vigie get services --show-labels",
    )
    assert "grafana" not in hint


def test_expressions_of_the_monitor(chain: Chain) -> None:
    expression = {"key": "tier", "operator": "Exists"}
    chain.spec("monitor")["selector"]["matchExpressions"] = [expression]
    chain.broken("service_not_selected", "with app=flask,tier", "no label tier (tier is wanted)")
    expression["operator"] = "DoesNotExist"
    assert chain.look().reason == "too_few_targets"
    expression.update(key="app", operator="NotIn", values=["flask"])  # type: ignore[dict-item]
    chain.broken("service_not_selected", "app=flask instead of app notin (flask)")


def test_no_service_at_all(chain: Chain) -> None:
    del chain.objects["service"]
    chain.broken("service_not_selected", "nor any other")


def test_the_service_is_in_another_namespace(chain: Chain) -> None:
    chain.objects["service"]["metadata"]["namespace"] = "shop"
    words = (
        "in namespace vigie",
        "shop/flask has these labels",
        "correct its namespaceSelector",
        "services -A -l app=flask",
    )
    chain.broken("service_not_selected", *words)
    chain.objects["slice"]["metadata"]["namespace"] = chain.objects["pod"]["metadata"]["namespace"] = "shop"
    for selector in ({"any": True}, {"matchNames": ["shop"]}, {"matchNames": ["vigie", "shop"]}):
        chain.spec("monitor")["namespaceSelector"] = selector
        assert chain.look().reason == "too_few_targets", selector
    chain.spec("monitor")["namespaceSelector"] = {"any": False, "matchNames": ["monitoring"]}
    chain.broken("service_not_selected", "in namespace monitoring", "shop/flask has these labels")


def test_prometheus_ignores_the_namespaces(chain: Chain) -> None:
    chain.objects["service"]["metadata"]["namespace"] = "shop"
    chain.spec("monitor")["namespaceSelector"] = {"any": True}
    chain.spec("prometheus")["ignoreNamespaceSelectors"] = True
    chain.broken("service_not_selected", "in namespace vigie", "Prometheus ignores namespaceSelector")


def test_the_whole_cluster(chain: Chain) -> None:
    chain.spec("monitor")["namespaceSelector"] = {"any": True}
    chain.objects["service"]["metadata"]["labels"] = {}
    chain.broken("service_not_selected", "in the whole cluster", "vigie/flask", "get services -A --show-labels")


def test_an_empty_selector_selects_every_service(chain: Chain) -> None:
    chain.spec("monitor")["selector"] = {}
    chain.prometheus.yaml = ""
    chain.objects["service"]["metadata"]["labels"] = {}
    assert chain.look().reason == "too_few_targets"
    del chain.objects["service"]
    chain.broken("service_not_selected", "could select, nor any other")


# --- it names a port ---


def test_another_name_of_the_port(chain: Chain) -> None:
    chain.spec("monitor")["endpoints"] = [{"port": "http"}]
    hint = chain.broken(
        "port_unknown", "names port http, but Service vigie/flask has metrics (80)", "get service flask -o yaml"
    )
    assert "not its number or target" in hint
    chain.spec("monitor")["endpoints"] = [{"port": "metrics"}, {"port": "web"}]
    assert "not its number" not in chain.broken("port_unknown", "names port web")


def test_a_port_without_a_name(chain: Chain) -> None:
    chain.spec("service")["ports"] = [{"port": 80}]
    chain.broken("port_unknown", "80 without a name")
    chain.spec("monitor")["endpoints"] = [{"port": "80"}]
    chain.broken("port_unknown", "not its number or target")


def test_a_port_is_a_regular_expression_to_the_operator(chain: Chain) -> None:
    chain.spec("monitor")["endpoints"] = [{"port": "web|metrics"}]
    chain.prometheus.yaml = CONFIG.replace("regex: metrics", "regex: web|metrics")
    assert chain.look().reason == "too_few_targets"


def test_no_endpoints_in_the_monitor(chain: Chain) -> None:
    chain.spec("monitor")["endpoints"] = []
    chain.broken("port_unknown", "has no endpoints", "get servicemonitor flask-monitor -o yaml")


@pytest.mark.parametrize(
    ("given", "right"), [("http", True), (5000, True), ("metrics", False), (80, False), ("5000", False)]
)
def test_target_port(chain: Chain, given: int | str, right: bool) -> None:
    chain.spec("monitor")["endpoints"] = [{"targetPort": given}]
    chain.prometheus.yaml = ""
    if right:
        assert chain.look().reason == "too_few_targets"
    else:
        chain.broken("port_unknown", f"targetPort {given}", "declare http (5000)", "get pod flask-1 -o yaml")


def test_port_goes_before_target_port(chain: Chain) -> None:
    chain.spec("monitor")["endpoints"] = [{"port": "metrics", "targetPort": 1}]
    assert chain.look().reason == "too_few_targets"


def test_every_port(chain: Chain) -> None:
    chain.spec("monitor")["endpoints"] = [{"path": "/metrics"}]
    chain.broken("configuration_pending", "with port metrics")
    chain.prometheus.yaml = CONFIG.replace("[__meta_kubernetes_endpointslice_port_name]", "[__address__]")
    assert chain.look().reason == "too_few_targets"


def test_the_services_own_target_port(chain: Chain) -> None:
    chain.objects["slice"]["ports"] = None
    chain.broken("port_unknown", "Port metrics of Service vigie/flask leads to targetPort http, which no container")
    chain.spec("monitor")["endpoints"] = [{"path": "/metrics"}]
    chain.spec("service")["ports"] = []  # a headless Service may have none
    chain.broken("port_unknown", "has no ports")


# --- there are endpoints ---


def unready(chain: Chain, **status: Any) -> None:
    chain.objects["slice"]["endpoints"][0]["conditions"] = {"ready": False}
    chain.objects["pod"]["status"] = status


def test_no_pod(chain: Chain) -> None:
    chain.objects["slice"]["endpoints"] = []
    chain.objects["pod"]["metadata"]["labels"] = {"app": "flask-metrics"}
    chain.broken(
        "no_endpoints",
        "No pod has the labels app=flask that Service vigie/flask selects",
        "nearest comes flask-1, which has app=flask-metrics instead of app=flask",
        "-n vigie get pods --show-labels",
    )
    del chain.objects["pod"]
    assert "nearest" not in chain.broken("no_endpoints", "No pod has the labels")
    del chain.objects["slice"]
    chain.broken("no_endpoints", "No pod has the labels")


def test_pods_that_are_not_ready(chain: Chain) -> None:
    ended = {"exitCode": 1, "reason": "Error", "finishedAt": "2026-11-28T18:01:00Z"}
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 40s"}
    status = {"name": "flask", "ready": False, "state": {"waiting": waiting}, "lastState": {"terminated": ended}}
    unready(chain, phase="Running", containerStatuses=[status])
    chain.prometheus.found = [target("down", error="connection refused")]
    chain.broken(
        "no_endpoints",
        "flask-1 waits in container flask: CrashLoopBackOff, after it ended with 1 (Error) at 2026-11-28T18:01:00Z",
        "describe pod flask-1",
    )


def test_a_pod_that_never_was_ready_says_how_it_ended(chain: Chain) -> None:
    unready(chain, phase="Running", containerStatuses=[{"name": "flask", "ready": False, "state": {"running": {}}}])
    chain.broken("no_endpoints", "container flask runs but its readiness probe doesn't succeed")


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ({"status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu."}]}},
         "is not scheduled (0/1 nodes are available: 1 Insufficient cpu.)"),
        ({"status": {"containerStatuses": [
            {"name": "a", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such\nimage"}}}]}},
         "waits in container a: ErrImagePull (no such image)"),
        ({"status": {"initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}},
                                               {"name": "j", "state": {"waiting": {}}}]}},
         "waits in container j: waiting"),
        ({"status": {"containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}},
         "has stopped: container a ended with 137 (OOMKilled)"),
        ({"status": {"phase": "Failed", "reason": "Evicted"}}, "is Failed (Evicted)"),
        ({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}}, "is being deleted"),
        ({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}},
         "is ready, but its endpoint isn't yet"),
        ({"status": {"phase": "Running"}}, "isn't ready"),
        ({}, "is unknown"),
    ],
)  # fmt: skip
def test_why_a_pod_is_not_ready(pod: Json, words: str) -> None:
    assert pod_state(pod) == words


def test_services_without_pods(chain: Chain) -> None:
    chain.objects["slice"]["endpoints"] = []
    del chain.spec("service")["selector"]
    chain.broken("no_endpoints", "selects no pods", "get endpointslices -l kubernetes.io/service-name=flask")
    chain.spec("service").update(type="ExternalName", externalName="example.org")
    chain.broken("no_endpoints", "ExternalName for example.org")


def test_one_service_with_endpoints_is_enough(chain: Chain) -> None:
    chain.objects["another"] = copy.deepcopy(chain.objects["service"])
    chain.objects["another"]["metadata"]["name"] = "a-flask"
    assert chain.look().reason == "too_few_targets"


# --- Prometheus has loaded it ---


def test_not_loaded_yet(chain: Chain) -> None:
    chain.prometheus.pools = ["other"]
    chain.broken(
        "configuration_pending",
        f"no job {POOL} yet",
        "created at 2026-11-28T18:00:00Z",
        "1970-01-01T00:15:00",
        "-n monitoring describe prometheus main",
    )


def test_why_it_is_not_loaded(chain: Chain) -> None:
    chain.prometheus.pools = []
    chain.prometheus.reloaded = (False, 900.0)
    chain.spec("prometheus")["paused"] = True
    chain.objects["prometheus"]["status"] = {
        "conditions": [
            {"type": "Available", "status": "True"},
            {"type": "Reconciled", "status": "False", "reason": "ReconciliationFailed", "message": "no such secret"},
        ]
    }
    words = (
        "last reload failed",
        "monitoring/main is paused",
        "the operator says ReconciliationFailed: no such secret",
    )
    assert "reloader" not in chain.broken("configuration_pending", *words)


def test_another_prometheus_may_be_meant(chain: Chain) -> None:
    chain.prometheus.pools = []
    chain.objects["other"] = thing("prometheuses", "other", "monitoring", spec={})
    chain.broken("configuration_pending", "only Prometheus monitoring/main selects it, monitoring/other doesn't")


def test_the_second_endpoint_is_not_loaded(chain: Chain) -> None:
    chain.spec("monitor")["endpoints"] = [{"port": "metrics"}, {"port": "metrics", "path": "/more"}]
    chain.prometheus.found = [target()]
    verdict = chain.look(count=2)
    assert verdict.reason == "configuration_pending" and "flask-monitor/1 yet" in verdict.hint


def test_rejected_by_event(chain: Chain) -> None:
    chain.prometheus.pools = []
    event = thing(
        "events",
        "e1",
        type="Warning",
        reason="InvalidConfiguration",
        message='"vigie/flask-monitor" was rejected due to invalid configuration: no secret',
        involvedObject={"uid": "u1", "resourceVersion": "77"},
    )
    chain.objects["event"] = event
    chain.broken("monitor_rejected", "was rejected due to invalid configuration: no secret")
    event["involvedObject"]["resourceVersion"] = "76"  # mended since
    chain.broken("configuration_pending")
    chain.api.forbidden = {"events"}
    assert "events" not in chain.broken("configuration_pending")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("regex: metrics", "regex: web", f"still runs {POOL} with port web"),
        ("(flask);true", "(shop);true", "__meta_kubernetes_service_labelpresent_app (shop);true"),
    ],
)
def test_an_older_version_is_loaded(chain: Chain, old: str, new: str, words: str) -> None:
    assert chain.look().reason == "too_few_targets"
    chain.prometheus.yaml = CONFIG.replace(old, new)
    chain.broken("configuration_pending", words)


def test_what_is_loaded_by_way_of_expressions(chain: Chain) -> None:
    chain.spec("monitor")["selector"] = {
        "matchExpressions": [
            {"key": "app", "operator": "In", "values": ["flask", "web"]},
            {"key": "app", "operator": "Exists"},
            {"key": "none", "operator": "DoesNotExist"},
        ]
    }
    config = yaml.safe_load(CONFIG)
    rules = config["scrape_configs"][0]["relabel_configs"]
    rules[1]["regex"] = "(flask|web);true"
    present = "__meta_kubernetes_service_labelpresent_app"
    rules.append({"action": "keep", "source_labels": [present], "regex": "true"})
    rules.append({"action": "keep", "source_labels": ["__address__"], "regex": ".*"})
    chain.prometheus.yaml = yaml.safe_dump(config)
    assert chain.look().reason == "too_few_targets"


@pytest.mark.parametrize("text", ["", "[", "scrape_configs:", "scrape_configs: [{job_name: x}]"])
def test_a_configuration_that_says_nothing(chain: Chain, text: str) -> None:
    chain.prometheus.yaml = text
    assert chain.look().reason == "too_few_targets"


# --- afterwards the plain reasons ---


def test_the_plain_reason_of_a_target_in_the_pool(chain: Chain) -> None:
    chain.prometheus.found = [target("down", error="dial tcp: connection refused")]
    assert chain.look().reason == "exporter_down"
    # Whatever its label is.
    chain.prometheus.found = [target("down", job="flask", error="dial tcp: connection refused")]
    verdict = chain.look()
    assert verdict.reason == "exporter_down" and len(verdict.observed["targets"]) == 1


def test_another_label_job(chain: Chain) -> None:
    chain.prometheus.found = [target(job="flask"), target(job="x", pool="serviceMonitor/vigie/flask-monitor-2/0")]
    verdict = chain.look()
    assert verdict.reason == "too_few_targets"
    assert "label job is flask and not app" in verdict.hint and "Service's label name (jobLabel)" in verdict.hint
    del chain.spec("monitor")["jobLabel"]
    assert "has no jobLabel" in chain.look().hint


def test_no_target_is_discovered(chain: Chain) -> None:
    hint = chain.look().hint
    assert f"Job {POOL} of ServiceMonitor vigie/flask-monitor is configured but discovers no target" in hint
    assert "-n vigie auth can-i list endpoints --as system:serviceaccount:monitoring:prom" in hint
    chain.spec("prometheus")["serviceDiscoveryRole"] = "EndpointSlice"
    assert "auth can-i list endpointslices --as" in chain.look().hint
    chain.spec("monitor")["serviceDiscoveryRole"] = "Endpoints"
    assert "auth can-i list endpoints --as" in chain.look().hint


def test_dropped_targets(chain: Chain) -> None:
    labels = {
        "job": POOL,
        "__address__": "10.0.0.9:5000",
        "__meta_kubernetes_namespace": "vigie",
        "__meta_kubernetes_service_name": "grafana",
        "__meta_kubernetes_endpointslice_port_name": "metrics",
    }
    chain.prometheus.dropped = [labels]  # another Service: the operator's own rules drop it
    assert chain.look().reason == "too_few_targets"
    labels["__meta_kubernetes_service_name"] = "flask"
    verdict = chain.look()
    assert verdict.reason == "target_dropped" and "10.0.0.9:5000" in verdict.hint
    labels["job"] = "app"  # as old versions show it
    assert chain.look().reason == "target_dropped"
    labels["job"] = "serviceMonitor/vigie/other/0"
    assert chain.look().reason == "too_few_targets"
    labels.update(job=POOL, __meta_kubernetes_endpointslice_port_name="admin")
    assert chain.look().reason == "too_few_targets"


# --- what may not be asked ---


def note(verdict: Verdict) -> str:
    assert "; not every link of ServiceMonitor vigie/flask-monitor could be checked: " in verdict.hint
    assert verdict.hint.endswith(".") and ".." not in verdict.hint
    return verdict.hint.partition("could be checked: ")[2]


@pytest.mark.parametrize(
    ("forbidden", "asked"),
    [
        ("servicemonitors", ["servicemonitors"]),
        ("prometheuses", ["servicemonitors", "prometheuses", "services", "endpointslices"]),
        ("services", ["servicemonitors", "prometheuses", "services"]),
        ("endpointslices", ["servicemonitors", "prometheuses", "services", "endpointslices"]),
    ],
)
def test_what_may_not_be_seen_is_skipped(chain: Chain, forbidden: str, asked: list[str]) -> None:
    chain.api.forbidden = {forbidden}
    verdict = chain.look()
    assert verdict.reason == "too_few_targets"
    assert f"may not see {forbidden}" in note(verdict)
    assert chain.api.asked == asked


def test_a_link_after_the_one_that_may_not_be_seen(chain: Chain) -> None:
    chain.api.forbidden = {"prometheuses"}
    chain.spec("monitor")["endpoints"] = [{"port": "web"}]
    verdict = chain.look()
    assert verdict.reason == "port_unknown" and "may not see prometheuses" in note(verdict)


def test_namespaces_may_not_be_seen(chain: Chain) -> None:
    chain.api.forbidden = {"namespaces"}
    assert "checked" not in chain.look().hint  # an empty selector needs none
    chain.spec("prometheus")["serviceMonitorNamespaceSelector"] = {"matchLabels": {"team": "red"}}
    verdict = chain.look()
    assert verdict.reason == "too_few_targets" and "may not see namespaces" in note(verdict)


def test_pods_may_not_be_seen(chain: Chain) -> None:
    chain.api.forbidden = {"pods"}
    assert chain.look().reason == "too_few_targets"
    unready(chain)
    verdict = chain.look()
    assert verdict.reason == "no_endpoints" and "may not see pods" in note(verdict)
    chain.spec("monitor")["endpoints"] = [{"targetPort": "http"}]
    verdict = chain.look()
    assert verdict.reason == "no_endpoints" and "may not see pods" in note(verdict)


def test_other_namespaces_may_not_be_seen(chain: Chain) -> None:
    chain.api.forbidden = {"services -A"}
    chain.objects["service"]["metadata"]["labels"] = {"app": "flaskk"}
    verdict = chain.look()
    assert verdict.reason == "service_not_selected" and "checked" not in verdict.hint


def test_the_api_server_can_not_be_reached(chain: Chain) -> None:
    chain.api.error = CheckError(
        "unreachable", "The API server https://10.0.0.1 can't be reached; try x.", transient=True
    )
    chain.prometheus.found = [target("down", error="dial tcp: connection refused")]
    verdict = chain.look()
    assert verdict.reason == "exporter_down"
    assert note(verdict) == "The API server https://10.0.0.1 can't be reached; try x."


def test_an_answer_of_another_form(chain: Chain) -> None:
    chain.objects["monitor"]["spec"] = ["x"]
    verdict = chain.look()
    assert verdict.reason == "too_few_targets" and "not of the documented form" in note(verdict)


def test_the_time_of_all_questions_is_bounded(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, *(index * 12.0 for index in range(100))])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    chain.prometheus.found = [target("down", error="dial tcp: connection refused")]
    verdict = chain.look()
    assert verdict.reason == "exporter_down" and "too slow" in note(verdict)
    assert max(chain.api.seconds) <= 10 and len(chain.api.seconds) <= WALK_REQUESTS + 2


# --- options ---


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"namespace": "Vigie"}, "monitor.namespace=Vigie "),
        ({"namespace": "a.b"}, "monitor.namespace=a.b "),
        ({"name": "flask_monitor"}, "monitor.name=flask_monitor "),
        ({"name": "a/../b"}, "monitor.name=a/../b "),
        ({"name": ""}, "monitor.name= "),
        ({"prometheus": {"namespace": "monitoring", "name": "?"}}, "monitor.prometheus.name=? "),
        ({"kubeconfig": "/nowhere"}, "monitor.kubeconfig=/nowhere is missing"),
    ],
)
def test_bad_options(option: Json, words: str) -> None:
    with pytest.raises(CheckError) as caught:
        Monitor({**OPTION, **option})
    assert caught.value.reason == "bad_option" and caught.value.hint.startswith(words)


def test_names_that_are_right(tmp_path: Path) -> None:
    (tmp_path / "config").touch()
    Monitor({**OPTION, "name": "flask.monitor-1", "kubeconfig": str(tmp_path / "config"), "prometheus": None})
