"""What a cluster would get: images of the table, kinds as the operator defines them, selectors that find something."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from promtool_runner import check_rules, find_promtool
from rendering import REPOSITORY

TABLE = yaml.safe_load((REPOSITORY / "vars" / "versions.yml").read_text())["vigie_versions"]
# What the operator, the kubelet and Kubernetes itself make; everything else is in what is applied.
MADE_ELSEWHERE = {"prometheus-kube-prometheus-apiserver", "prometheus-kube-prometheus-kubelet"}
PODS_OF_OTHERS: list[dict[str, str]] = [
    {"app.kubernetes.io/name": "prometheus", "operator.prometheus.io/name": "prometheus-kube-prometheus-prometheus"},
    {"app.kubernetes.io/name": "alertmanager", "alertmanager": "prometheus-kube-prometheus-alertmanager"},
    {"k8s-app": "kube-dns"},
    {"k8s-app": "kube-proxy"},
    *({"component": name} for name in ("etcd", "kube-scheduler", "kube-controller-manager")),
]


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
    elif isinstance(value, str):
        yield value


def of_kind(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [each for each in objects if each["kind"] in kinds]


def named(objects: list[dict[str, Any]], kind: str) -> set[str]:
    return {each["metadata"]["name"] for each in of_kind(objects, kind)}


def test_images_are_those_of_the_table(objects: list[dict[str, Any]]) -> None:
    refs = {entry["ref"] for entry in TABLE.values() if entry["kind"] == "image"}
    hosts = ("quay.io/", "docker.io/", "registry.k8s.io/", "ghcr.io/", "gcr.io/")
    texts = {text.split("=")[-1] for text in strings(objects)}
    found = {text for text in texts if text.startswith(hosts)}
    assert found <= refs
    assert len(found) == 7
    images = {
        container["image"]
        for each in of_kind(objects, "Deployment", "DaemonSet")
        for container in each["spec"]["template"]["spec"]["containers"]
    }
    assert images - found == {"flask-metrics:0123456789ab"}


def test_names_are_those_of_the_official_chart(objects: list[dict[str, Any]], roles: dict[str, Any]) -> None:
    stack = "prometheus-kube-prometheus"
    services = {
        f"{stack}-prometheus": {"http-web", "reloader-web"},
        f"{stack}-alertmanager": {"http-web", "reloader-web"},
        f"{stack}-operator": {"http"},
        "prometheus-kube-state-metrics": {"http"},
        "prometheus-prometheus-node-exporter": {"http-metrics"},
    }
    found = {
        each["metadata"]["name"]: {port["name"] for port in each["spec"]["ports"]}
        for each in of_kind(objects, "Service")
        if each["metadata"].get("namespace") == roles["namespace"]
    }
    assert found == services | {"mailpit": {"smtp", "http"}}
    assert named(objects, "Prometheus") == {f"{stack}-prometheus"}
    assert named(objects, "Alertmanager") == {f"{stack}-alertmanager"}
    for kind in ("Deployment", "DaemonSet"):
        assert set(roles["workloads"][kind]) <= named(objects, kind)
    made_by_operator = {f"prometheus-{name}" for name in named(objects, "Prometheus")}
    assert set(roles["workloads"]["StatefulSet"]) == made_by_operator


def strict(schema: Any) -> Any:
    """A schema of Kubernetes that refuses fields it does not name, as the API server prunes them without a word."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    free = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and "type" in schema and not free:
        made.setdefault("additionalProperties", False)
    return made


class Loader(yaml.CSafeLoader):
    """YAML in which `=` is a text, as it is for Kubernetes."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


@pytest.fixture(scope="session")
def schemas(crds: Path) -> dict[tuple[str, str], Any]:
    """Return the schema of each kind and version."""
    found = {}
    for document in yaml.load_all(crds.read_text(), Loader=Loader):
        for version in document["spec"]["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            # The schema leaves it to the API server.
            schema["properties"]["metadata"] = {"type": "object"}
            api = f"{document['spec']['group']}/{version['name']}"
            found[api, document["spec"]["names"]["kind"]] = schema
    return found


def test_objects_of_the_operator_are_as_it_defines_them(
    objects: list[dict[str, Any]], schemas: dict[tuple[str, str], Any]
) -> None:
    checked = 0
    for each in objects:
        if each["apiVersion"].startswith("monitoring.coreos.com"):
            jsonschema.Draft7Validator(schemas[each["apiVersion"], each["kind"]]).validate(each)
            checked += 1
    assert checked > 10


def test_a_field_that_the_operator_does_not_know_is_seen(schemas: dict[tuple[str, str], Any]) -> None:
    validator = jsonschema.Draft7Validator(schemas["monitoring.coreos.com/v1", "ServiceMonitor"])
    monitor = {"spec": {"selector": {}, "endpoints": [{"port": "a", "intervall": "1s"}]}}
    assert "intervall" in next(iter(validator.iter_errors(monitor))).message


def test_the_rules_are_loaded_by_prometheus(objects: list[dict[str, Any]], tmp_path: Path) -> None:
    (rule,) = of_kind(objects, "PrometheusRule")
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps(rule["spec"]))
    result = check_rules(find_promtool(), path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "SUCCESS: 11 rules found" in result.stdout
    alerts = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    assert len({each["annotations"]["rules"] for each in alerts}) == 1
    assert "{{ $labels.namespace }}" in alerts[0]["annotations"]["summary"]
    assert rule["spec"]["groups"][0]["interval"] in {"3s", "1s"}


def test_every_service_monitor_finds_a_service_and_its_port(objects: list[dict[str, Any]]) -> None:
    monitors = of_kind(objects, "ServiceMonitor")
    assert {"flask-monitor", *MADE_ELSEWHERE} <= named(objects, "ServiceMonitor")
    for monitor in monitors:
        name, spec = monitor["metadata"]["name"], monitor["spec"]
        if name in MADE_ELSEWHERE:
            continue
        namespaces = spec.get("namespaceSelector", {}).get("matchNames", [monitor["metadata"]["namespace"]])
        services = [
            each
            for each in of_kind(objects, "Service")
            if spec["selector"]["matchLabels"].items() <= each["metadata"].get("labels", {}).items()
            and each["metadata"]["namespace"] in namespaces
        ]
        assert len(services) == 1, name
        ports = {port["name"] for port in services[0]["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in spec["endpoints"]} <= ports, name
        if "jobLabel" in spec:
            assert spec["jobLabel"] in services[0]["metadata"]["labels"], name


def test_every_service_finds_pods_and_their_ports(objects: list[dict[str, Any]]) -> None:
    workloads = of_kind(objects, "Deployment", "DaemonSet")
    for service in of_kind(objects, "Service"):
        selector = service["spec"]["selector"]
        if any(selector.items() <= labels.items() for labels in PODS_OF_OTHERS):
            continue
        (workload,) = [
            each for each in workloads if selector.items() <= each["spec"]["template"]["metadata"]["labels"].items()
        ]
        containers = workload["spec"]["template"]["spec"]["containers"]
        ports = {port[key] for each in containers for port in each["ports"] for key in ("name", "containerPort")}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports, service["metadata"]["name"]


def test_every_job_has_a_monitor(objects: list[dict[str, Any]], roles: dict[str, Any]) -> None:
    """The jobs that verification and the alerts of the chain name are those that the monitors make."""
    jobs = {"kubelet", "apiserver"}
    for monitor in of_kind(objects, "ServiceMonitor"):
        for service in of_kind(objects, "Service"):
            labels = service["metadata"].get("labels", {})
            if monitor["spec"]["selector"]["matchLabels"].items() <= labels.items():
                jobs.add(labels.get(monitor["spec"].get("jobLabel", ""), service["metadata"]["name"]))
    assert set(roles["jobs"]) == jobs
    assert set(roles["chain_jobs"]) <= jobs


def test_nothing_that_is_scraped_is_ignored(objects: list[dict[str, Any]]) -> None:
    (prometheus,) = of_kind(objects, "Prometheus")
    for what in ("serviceMonitor", "podMonitor", "probe", "rule", "scrapeConfig"):
        assert prometheus["spec"][f"{what}Selector"] == {}, what
        assert prometheus["spec"][f"{what}NamespaceSelector"] == {}, what


def test_alertmanager_reads_our_configuration_and_password(
    objects: list[dict[str, Any]], roles: dict[str, Any]
) -> None:
    (alertmanager,) = of_kind(objects, "Alertmanager")
    # Without a name of its own the operator takes the Secret of this name.
    assert "configSecret" not in alertmanager["spec"]
    assert roles["config_secret"] == f"alertmanager-{alertmanager['metadata']['name']}"
    assert alertmanager["spec"]["secrets"] == [roles["smtp_secret"]] == ["alertmanager-gmail-secret"]
    assert alertmanager["spec"]["alertmanagerConfigMatcherStrategy"] == {"type": "None"}
    config = roles["config"]
    mounted = f"/etc/alertmanager/secrets/{roles['smtp_secret']}"
    assert config["global"]["smtp_auth_password_file"] == f"{mounted}/smtp_pass"
    assert config["global"]["smtp_smarthost"] == f"mailpit.{roles['namespace']}.svc:25"
    assert config["receivers"][1]["email_configs"][0]["tls_config"]["ca_file"] == f"{mounted}/ca.crt"
    assert config["route"]["receiver"] == "null"
    assert config["templates"] == ["/etc/alertmanager/config/mail.tmpl"]


def test_roles_and_accounts_that_are_named_exist(objects: list[dict[str, Any]]) -> None:
    for binding in of_kind(objects, "ClusterRoleBinding"):
        assert binding["roleRef"]["name"] in named(objects, "ClusterRole")
        assert {each["name"] for each in binding["subjects"]} <= named(objects, "ServiceAccount")
    for each in of_kind(objects, "Prometheus", "Alertmanager"):
        assert each["spec"]["serviceAccountName"] in named(objects, "ServiceAccount")


def test_memory_is_limited_everywhere(objects: list[dict[str, Any]]) -> None:
    for each in of_kind(objects, "Deployment", "DaemonSet"):
        for container in each["spec"]["template"]["spec"]["containers"]:
            assert "memory" in container["resources"]["limits"], each["metadata"]["name"]
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
    for each in of_kind(objects, "Prometheus", "Alertmanager"):
        assert "memory" in each["spec"]["resources"]["limits"]


def test_volumes_are_a_choice(objects: list[dict[str, Any]], roles: dict[str, Any]) -> None:
    (prometheus,) = of_kind(objects, "Prometheus")
    (alertmanager,) = of_kind(objects, "Alertmanager")
    for each, size in ((prometheus, "4Gi"), (alertmanager, "256Mi")):
        if roles["name"] == "bare":
            assert "storage" not in each["spec"]
        else:
            claim = each["spec"]["storage"]["volumeClaimTemplate"]["spec"]
            assert claim["resources"]["requests"]["storage"] == size
            assert claim.get("storageClassName") == ("standard" if roles["name"] == "full" else None)


def test_the_control_plane_is_a_choice(objects: list[dict[str, Any]], roles: dict[str, Any]) -> None:
    kinds = {"kube-etcd", "kube-scheduler", "kube-controller-manager"}
    found = {name.removeprefix("prometheus-kube-prometheus-") for name in named(objects, "ServiceMonitor")} & kinds
    assert found == (set() if roles["name"] == "bare" else kinds)
