"""scrape_check with a ServiceMonitor: an API server for tests, a real Prometheus with jobs as the operator writes them."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import TOKEN, FakeCluster
from systems import Exporter, Json, PrometheusServer, RunModule, eventually, fetch, free_port

JOB = "flask-metrics"
KUBECTL = "kubectl --kubeconfig {config} -n vigie"


def operated(name: str, target: str, *rules: Json, labels: Json | None = None) -> Json:
    """Return the scrape configuration that the operator makes of a ServiceMonitor, for a target that is known beforehand."""
    present = "__meta_kubernetes_service_labelpresent_app"
    keep = [
        {"action": "keep", "source_labels": ["__meta_kubernetes_service_label_app", present], "regex": "(flask);true"},
        {"action": "keep", "source_labels": ["__meta_kubernetes_endpointslice_port_name"], "regex": "metrics"},
    ]
    discovered = {
        "__meta_kubernetes_namespace": "vigie",
        "__meta_kubernetes_service_name": "flask",
        "__meta_kubernetes_service_label_app": "flask",
        present: "true",
        "__meta_kubernetes_endpointslice_port_name": "metrics",
        **(labels or {}),
    }
    return {
        "job_name": f"serviceMonitor/vigie/{name}/0",
        "static_configs": [{"targets": [target], "labels": discovered}] if target else [],
        "relabel_configs": [*keep, {"target_label": "job", "replacement": JOB}, *rules],
    }


@pytest.fixture(scope="module")
def operated_prometheus(make_prometheus: Callable[[], PrometheusServer], exporter: Exporter) -> PrometheusServer:
    """A Prometheus whose jobs have names and rules as the operator gives them."""
    server = make_prometheus()
    at = f"127.0.0.1:{exporter.web.port}"
    server.configure(
        {
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
            "scrape_configs": [
                operated("down", f"127.0.0.1:{free_port()}", {"target_label": "job", "replacement": "down"}),
                operated("misnamed", at, {"target_label": "job", "replacement": "flask"}),
                operated("dropped", at, {"action": "drop", "source_labels": ["__address__"]}),
                operated(
                    "older",
                    at,
                    labels={
                        "__meta_kubernetes_service_label_app": "grafana",
                        "__meta_kubernetes_service_name": "grafana",
                    },
                ),
                operated("quiet", ""),
                operated("well", at, {"target_label": "job", "replacement": "well"}),
            ],
        }
    )
    server.start()
    seen = {'"health":"down"', '"health":"up"'}
    eventually(lambda: all(one in fetch(f"{server.url}/api/v1/targets")[1] for one in seen), "the first scrapes")
    return server


def thing(kind: str, name: str, namespace: str | None = "vigie", labels: Json | None = None, **more: Any) -> Json:
    metadata = {"name": name, "labels": labels or {}, **({"namespace": namespace} if namespace else {})}
    return {"kind": kind, "metadata": metadata, **more}


class Links:
    """The objects between a ServiceMonitor and its pods, all of them well."""

    def __init__(self) -> None:
        spec = {"selector": {"matchLabels": {"app": "flask"}}, "endpoints": [{"port": "metrics"}]}
        self.monitor = thing("ServiceMonitor", "quiet", labels={"release": "prometheus"}, spec=spec)
        self.monitor["metadata"].update(uid="u", resourceVersion="7", creationTimestamp="2026-11-28T18:00:00Z")
        selectors = {
            "serviceMonitorSelector": {"matchLabels": {"release": "prometheus"}},
            "serviceMonitorNamespaceSelector": {},
        }
        self.prometheus = thing("Prometheus", "main", "monitoring", spec=selectors)
        ports = [{"name": "metrics", "port": 80, "targetPort": "http"}]
        self.service = thing(
            "Service", "flask", labels={"app": "flask"}, spec={"selector": {"app": "flask"}, "ports": ports}
        )
        self.endpoint: Json = {"conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": "flask-1"}}
        self.slice = thing(
            "EndpointSlice",
            "flask-x",
            labels={"kubernetes.io/service-name": "flask"},
            ports=[{"name": "metrics", "port": 5000}],
            endpoints=[self.endpoint],
        )
        self.pod = thing("Pod", "flask-1", labels={"app": "flask"}, spec={}, status={"phase": "Running"})
        self.namespace = thing("Namespace", "vigie", None)

    def all(self) -> list[Json]:
        return [self.monitor, self.prometheus, self.service, self.slice, self.pod, self.namespace]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    one = FakeCluster(tmp_path)
    yield one
    one.stop()


@pytest.fixture
def links() -> Links:
    return Links()


Check = Callable[..., Json]


@pytest.fixture
def check(run_module: RunModule, operated_prometheus: PrometheusServer, cluster: FakeCluster, links: Links) -> Check:
    """Return a function that runs the module for a ServiceMonitor; the objects are those of ``links`` then."""

    def run(name: str = "quiet", *, job: str = "", monitor: Json | None = None, **options: Any) -> Json:
        links.monitor["metadata"]["name"] = name
        # A Prometheus of Debian 12 shows dropped targets with the label as it would have been.
        job = job or {"quiet": "quiet", "older": "older"}.get(name, JOB)
        if not cluster.objects:
            cluster.objects = links.all()
        option = {"namespace": "vigie", "name": name, "kubeconfig": cluster.kubeconfig, **(monitor or {})}
        endpoint = {"url": operated_prometheus.url}
        result = run_module(
            "scrape_check", endpoint=endpoint, job=job, monitor=option, **{"timeout": 0.3, "interval": 0.2, **options}
        )
        assert TOKEN not in json.dumps(result)
        return result

    return run


def other_label(links: Links) -> None:
    links.monitor["metadata"]["labels"] = {"release": "monitoring"}


def other_namespaces(links: Links) -> None:
    links.prometheus["spec"]["serviceMonitorNamespaceSelector"] = {"matchLabels": {"team": "red"}}


def own_namespace(links: Links) -> None:
    del links.prometheus["spec"]["serviceMonitorNamespaceSelector"]


def rejected(links: Links) -> None:
    condition = {"type": "Accepted", "status": "False", "reason": "InvalidConfiguration", "message": "no such secret"}
    binding = {"resource": "prometheuses", "name": "main", "namespace": "monitoring", "conditions": [condition]}
    links.monitor["status"] = {"bindings": [binding]}


def other_service(links: Links) -> None:
    links.service["metadata"]["labels"] = {"app": "flaskk"}


def elsewhere(links: Links) -> None:
    links.service["metadata"]["namespace"] = "shop"


def expression(links: Links) -> None:
    links.monitor["spec"]["selector"] = {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["flask"]}]}


def other_port(links: Links) -> None:
    links.monitor["spec"]["endpoints"] = [{"port": "http"}]


def other_target_port(links: Links) -> None:
    links.monitor["spec"]["endpoints"] = [{"targetPort": 8080}]


def no_pod(links: Links) -> None:
    links.slice["endpoints"] = []
    links.pod["metadata"]["labels"] = {}


def crashing(links: Links) -> None:
    links.endpoint["conditions"]["ready"] = False
    ended = {"exitCode": 1, "reason": "Error", "finishedAt": "2026-11-28T18:01:00Z"}
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    links.pod["status"]["containerStatuses"] = [{"name": "flask", "state": state, "lastState": {"terminated": ended}}]


def well(links: Links) -> None:
    pass


CASES: dict[str, tuple[Callable[[Links], None], str, list[str]]] = {
    "monitor_not_selected": (other_label, "quiet", ["release=monitoring instead of release=prometheus", f"{KUBECTL} get servicemonitor quiet"]),
    "monitor_not_selected by namespace": (other_namespaces, "quiet", ["no label team", "get namespace vigie --show-labels"]),
    "monitor_not_selected without a selector": (own_namespace, "quiet", ["own namespace only", "get prometheus main -o yaml"]),
    "monitor_rejected": (rejected, "quiet", ["InvalidConfiguration: no such secret", f"{KUBECTL} describe servicemonitor quiet"]),
    "service_not_selected": (other_service, "quiet", ["app=flaskk instead of app=flask", f"{KUBECTL} get services --show-labels"]),
    "service_not_selected elsewhere": (elsewhere, "quiet", ["shop/flask has these labels", "get services -A -l app=flask"]),
    "service_not_selected by expression": (expression, "quiet", ["app=flask instead of app notin (flask)"]),
    "port_unknown": (other_port, "quiet", ["names port http", "has metrics (80)", f"{KUBECTL} get service flask"]),
    "port_unknown of a pod": (other_target_port, "quiet", ["names targetPort 8080", "no port at all", f"{KUBECTL} get pod flask-1"]),
    "no_endpoints": (no_pod, "quiet", ["No pod has the labels app=flask", f"{KUBECTL} get pods --show-labels"]),
    "no_endpoints of a crashing pod": (crashing, "down", ["CrashLoopBackOff, after it ended with 1 (Error)", f"{KUBECTL} describe pod flask-1"]),
    "configuration_pending": (well, "late", ["Prometheus has no job serviceMonitor/vigie/late/0 yet", "describe prometheus main"]),
    "exporter_down": (well, "down", ["connection refused"]),
    "target_dropped": (well, "dropped", ["Relabelling drops all 1 targets"]),
    "too_few_targets": (well, "quiet", ["Job serviceMonitor/vigie/quiet/0 of ServiceMonitor vigie/quiet", "auth can-i list endpoints"]),
    "too_few_targets of another service": (well, "older", ["discovers no target"]),
    "too_few_targets by another label": (well, "misnamed", ["label job is flask and not flask-metrics"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_reason(check: Check, cluster: FakeCluster, links: Links, case: str) -> None:
    break_it, name, words = CASES[case]
    break_it(links)
    result = check(name)
    assert result["failed"] and not result["matched"]
    assert result["reason"] == case.split(maxsplit=1)[0], result["hint"]
    assert [word for word in words if word.format(config=cluster.kubeconfig) not in result["hint"]] == [], result[
        "hint"
    ]
    assert "could be checked" not in result["hint"]
    assert result["msg"] == f"{result['reason']}: {result['hint']}"
    assert "labels" in result["observed"]["monitor"]


def test_monitor_missing(check: Check, cluster: FakeCluster, links: Links) -> None:
    cluster.objects = links.all()[2:]  # no object of the operator's kinds is as if they were not defined
    result = check()
    assert (result["reason"], "no kind ServiceMonitor" in result["hint"]) == ("monitor_missing", True)
    cluster.objects = links.all()
    result = check(monitor={"name": "nobody"})
    assert result["reason"] == "monitor_missing"
    assert "There is no ServiceMonitor vigie/nobody, only quiet" in result["hint"]


def test_configuration_of_an_older_monitor(check: Check, links: Links) -> None:
    # Everything is right with the objects as they are, but what Prometheus runs is from before.
    links.monitor["spec"]["selector"]["matchLabels"] = links.service["metadata"]["labels"] = {"app": "shop"}
    result = check("older")
    assert result["reason"] == "configuration_pending"
    assert "still runs serviceMonitor/vigie/older/0 with" in result["hint"] and "(flask);true" in result["hint"]


def test_rejected_by_an_event(check: Check, cluster: FakeCluster, links: Links) -> None:
    about = {"kind": "ServiceMonitor", "name": "late", "uid": "u", "resourceVersion": "7"}
    event = thing(
        "Event", "e", type="Warning", reason="InvalidConfiguration", message="rejected: bad", involvedObject=about
    )
    cluster.objects = [*links.all(), event]
    assert check("late")["reason"] == "monitor_rejected"
    about["resourceVersion"] = "6"
    assert check("late")["reason"] == "configuration_pending"


def test_a_named_prometheus(check: Check, cluster: FakeCluster, links: Links) -> None:
    other = copy.deepcopy(links.prometheus)
    other["metadata"]["name"] = "other"
    other["spec"]["serviceMonitorSelector"] = None
    cluster.objects = [*links.all(), other]
    assert check()["reason"] == "too_few_targets"
    result = check(monitor={"prometheus": {"namespace": "monitoring", "name": "other"}})
    assert result["reason"] == "monitor_not_selected" and "takes no ServiceMonitor at all" in result["hint"]


def test_nothing_is_asked_while_the_target_is_up(check: Check, cluster: FakeCluster) -> None:
    assert check("well", job="well", timeout=5)["matched"]
    assert check("well", job="nobody", expect="absent")["matched"]
    assert cluster.asked == []


def test_the_walk_is_one_connection_at_the_end(check: Check, cluster: FakeCluster) -> None:
    result = check("quiet", timeout=1)
    assert result["attempts"] > 2
    assert cluster.asked == ["servicemonitors", "prometheuses", "services", "endpointslices"]


@pytest.mark.parametrize("resource", ["servicemonitors", "prometheuses", "services", "endpointslices"])
def test_what_may_not_be_seen_hides_nothing(check: Check, cluster: FakeCluster, resource: str) -> None:
    cluster.forbidden = {resource}
    result = check("down", job="down")
    assert result["reason"] == "exporter_down"
    assert (
        "connection refused" in result["hint"]
        and "not every link of ServiceMonitor vigie/down could be checked" in result["hint"]
    )
    assert f"auth can-i {'get' if resource == 'servicemonitors' else 'list'} {resource}" in result["hint"]


def test_credentials_that_are_not_accepted(check: Check, cluster: FakeCluster) -> None:
    config = cluster.write_kubeconfig("stranger", user={"token": "an0ther-token"})
    result = check("down", job="down", monitor={"kubeconfig": config})
    assert result["reason"] == "exporter_down" and "(401)" in result["hint"]
    assert "an0ther-token" not in json.dumps(result)


def test_an_api_server_that_is_gone_or_slow_hides_nothing(check: Check, cluster: FakeCluster) -> None:
    result = check("down", job="down", monitor={"context": "other"})
    assert (
        result["reason"] == "exporter_down" and "The API server https://127.0.0.1:1 can't be reached" in result["hint"]
    )
    cluster.delays["services"] = 4
    started = time.monotonic()
    result = check("down", job="down")
    assert result["reason"] == "exporter_down" and "gave no answer within 2.0 s" in result["hint"]
    assert time.monotonic() - started < 3.5
    cluster.broken["services"] = (500, f"etcd lost {TOKEN}")
    cluster.delays.clear()
    result = check("down", job="down")
    assert result["reason"] == "exporter_down" and "answered 500" in result["hint"]


def test_an_unusable_kubeconfig(check: Check, cluster: FakeCluster, tmp_path: Path) -> None:
    result = check("down", job="down", monitor={"kubeconfig": str(tmp_path / "nowhere")})
    assert result["reason"] == "bad_option" and "monitor.kubeconfig=" in result["hint"] and result["attempts"] == 0
    result = check("down", job="down", monitor={"context": "nobody"})
    assert result["reason"] == "exporter_down" and "has no context nobody, only lab, other" in result["hint"]


def test_a_name_that_is_none(check: Check) -> None:
    result = check(monitor={"namespace": "Vigie"})
    assert result["reason"] == "bad_option" and "monitor.namespace=Vigie" in result["hint"]
