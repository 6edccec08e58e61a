"""What the roles of traces and logs hand to a cluster: images of the table, least rights, and values that Fluent Bit's chart has."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from promtool_runner import check_rules, find_promtool
from rendering import REPOSITORY, leaves, render_roles

TABLE = yaml.safe_load((REPOSITORY / "vars" / "versions.yml").read_text())["vigie_versions"]
KEYS = Path(__file__).with_name("fluent-bit-0.58.1.keys.tsv")
OPTIONS = Path(__file__).with_name("fluent-bit-5.1.options.yml")
COLLECTOR = "opentelemetry-collector"

CHOICES: dict[str, dict[str, Any]] = {
    "defaults": {},
    # As where the lab has neither a Kibana nor a Fluent Bit, and an Elasticsearch without logins.
    "plain": {
        "logging_shipper": COLLECTOR,
        "logging_security": False,
        "logging_kibana": False,
        "logging_storage_size": "",
        "tracing_storage": "badger",
        "tracing_storage_class": "standard",
    },
    "secure": {"logging_shipper": COLLECTOR, "tracing_storage": "elasticsearch", "logging_node": False},
    "external": {
        "logging_elasticsearch_url": "https://es.example.org:9243/",
        "logging_elasticsearch_username": "lab",
        "logging_elasticsearch_password_file": "/etc/hostname",
        "logging_elasticsearch_ca_file": "/etc/hosts",
        "logging_labels": False,
        "logging_monitor": False,
        "logging_data_stream": "logs-shop-prod",
        "tracing_storage": "elasticsearch",
        "tracing_elasticsearch_username": "",
        "tracing_ui_path": "/jaeger",
        "logging_values": {"priorityClassName": "system-node-critical"},
    },
}
ROLES = ("tracing", "logging")


def render(folder: Path, **variables: Any) -> dict[str, Any]:
    """What the two roles make of the variables."""
    # The state directory is only named, never made: a path of pytest's may be too long for it.
    return render_roles(folder / "play", name="signals.yml", roles=ROLES, vigie_state_dir="/tmp/vigie", **variables)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Return what becomes of a choice, by its name; each is made once."""
    made: dict[str, dict[str, Any]] = {}

    def of(name: str) -> dict[str, Any]:
        if name not in made:
            made[name] = render(tmp_path_factory.mktemp(name), **CHOICES[name])
        return made[name]

    return of


@pytest.fixture(params=CHOICES)
def choice(request: pytest.FixtureRequest, rendered: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Return what becomes of each choice."""
    return rendered(request.param) | {"name": request.param}


def all_objects(choice: dict[str, Any]) -> list[dict[str, Any]]:
    return choice["tracing"]["objects"] + choice["logging"]["objects"]


def workloads(choice: dict[str, Any]) -> dict[str, dict[str, Any]]:
    kinds = ("Deployment", "StatefulSet", "DaemonSet")
    return {each["metadata"]["name"]: each for each in all_objects(choice) if each["kind"] in kinds}


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (one,) = workload["spec"]["template"]["spec"]["containers"]
    return one


def test_images_are_those_of_the_table(choice: dict[str, Any]) -> None:
    refs = {TABLE[name]["ref"] for name in choice["logging"]["images"]} | {TABLE["jaeger"]["ref"]}
    found = {container(each)["image"] for each in workloads(choice).values()}
    image = choice["logging"]["values"]["image"]
    fluent_bit = {f"{image['repository']}:{image['tag']}"}
    assert fluent_bit == {TABLE["fluent-bit"]["ref"]}
    shipped = fluent_bit if choice["logging"]["shipper"] == "fluent-bit" else set()
    assert found | shipped == refs


def test_kibana_is_of_elasticsearchs_version() -> None:
    assert TABLE["kibana"]["version"] == TABLE["elasticsearch"]["version"]


def test_the_charts_version_is_that_of_its_image() -> None:
    entry = TABLE["fluent-bit-chart"]
    assert (entry["chart"], entry["version"]) == ("fluent-bit", KEYS.name.split("-")[2].removesuffix(".keys.tsv"))
    assert TABLE["fluent-bit"]["version"].startswith(OPTIONS.name.split("-")[2].removesuffix(".options.yml"))


def test_pods_may_do_nothing_that_they_need_not(choice: dict[str, Any]) -> None:
    for name, workload in workloads(choice).items():
        pod, one = workload["spec"]["template"]["spec"], container(workload)
        security = one["securityContext"]
        assert security["allowPrivilegeEscalation"] is False and security["capabilities"] == {"drop": ["ALL"]}, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["enableServiceLinks"] is False, name
        assert "memory" in one["resources"]["limits"] and "memory" in one["resources"]["requests"], name
        # Only who reads the node's files is root, and only who asks for labels has a token.
        shipper = name == COLLECTOR
        assert (pod["securityContext"]["runAsUser"] == 0) is shipper, name
        assert shipper or pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["automountServiceAccountToken"] is shipper, name
        if name in ("jaeger", COLLECTOR):
            assert security["readOnlyRootFilesystem"] is True, name


def test_the_node_is_only_read(choice: dict[str, Any]) -> None:
    values = choice["logging"]["values"]
    mounts = {each["name"]: each for each in values["daemonSetVolumeMounts"]}
    volumes = values["daemonSetVolumes"]
    if COLLECTOR in workloads(choice):
        workload = workloads(choice)[COLLECTOR]
        mounts = {each["name"]: each for each in container(workload)["volumeMounts"]}
        volumes = workload["spec"]["template"]["spec"]["volumes"]
    of_node = {each["name"]: each["hostPath"]["path"] for each in volumes if "hostPath" in each}
    writable = {name for name in of_node if not mounts[name].get("readOnly")}
    assert writable == {"state"}
    assert of_node["state"] == f"/var/lib/vigie-logging/{choice['logging']['shipper']}"


def test_the_collector_may_only_look_at_pods(rendered: Callable[[str], dict[str, Any]]) -> None:
    objects = {each["kind"]: each for each in rendered("secure")["logging"]["objects"]}
    assert objects["ClusterRole"]["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    ]
    assert objects["ClusterRoleBinding"]["roleRef"]["name"] == objects["ClusterRole"]["metadata"]["name"]
    (subject,) = objects["ClusterRoleBinding"]["subjects"]
    account = objects["ServiceAccount"]["metadata"]
    assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])


def test_no_password_is_anywhere_but_in_a_secret(choice: dict[str, Any]) -> None:
    for workload in workloads(choice).values():
        for each in container(workload).get("env", []):
            assert ("PASSWORD" in each["name"] or "ENCRYPTION" in each["name"]) == ("secretKeyRef" in str(each)), each
    for each in choice["logging"]["values"].get("env", []):
        assert ("PASSWORD" in each["name"]) == ("secretKeyRef" in str(each)), each
    assert "Secret" not in {each["kind"] for each in all_objects(choice)}


def test_without_security_nobody_logs_in(rendered: Callable[[str], dict[str, Any]]) -> None:
    plain, secure = rendered("plain"), rendered("secure")
    assert "secretKeyRef" not in json.dumps(all_objects(plain))
    assert "username" not in plain["logging"]["endpoint"] and "password" not in plain["logging"]["collector"]
    assert secure["logging"]["endpoint"]["username"] == "vigie-reader"
    settings = {each["name"]: each.get("value") for each in container(workloads(plain)["elasticsearch"])["env"]}
    assert settings["xpack.security.enabled"] == "false"
    settings = {each["name"]: each.get("value") for each in container(workloads(secure)["elasticsearch"])["env"]}
    assert settings["xpack.security.enabled"] == "true" and "ELASTIC_PASSWORD" in settings


def test_users_of_elasticsearch_have_the_least_rights(choice: dict[str, Any]) -> None:
    roles = choice["logging"]["roles"]
    stream = choice["logging"]["data_stream"]
    assert roles["vigie-shipper"] == {
        "cluster": [],
        "indices": [{"names": [stream], "privileges": ["auto_configure", "create_doc"]}],
    }
    assert roles["vigie-reader"]["cluster"] == ["monitor"]
    (rights,) = roles["vigie-reader"]["indices"]
    assert set(rights["privileges"]) == {"read", "view_index_metadata", "monitor"}
    (rights,) = roles["vigie-tracing"]["indices"]
    assert rights["names"] == ["jaeger-*"]


def test_heap_and_limit_fit(rendered: Callable[[str], dict[str, Any]]) -> None:
    one = container(workloads(rendered("defaults"))["elasticsearch"])
    (heap,) = [each["value"] for each in one["env"] if each["name"] == "ES_JAVA_OPTS"]
    assert heap == "-Xms512m -Xmx512m"
    assert one["resources"] == {"requests": {"cpu": "100m", "memory": "768Mi"}, "limits": {"memory": "1280Mi"}}
    assert yaml.safe_load(rendered("defaults")["logging"]["elasticsearch"])["node.store.allow_mmap"] is False


def mebibytes(size: str) -> int:
    return int(size[:-2]) * {"Mi": 1, "Gi": 1024}[size[-2:]]


def test_all_of_it_fits_into_a_small_node(rendered: Callable[[str], dict[str, Any]]) -> None:
    """With the cluster and the monitoring beside it, 6 GB must do."""
    choice = rendered("defaults")
    limits = [mebibytes(container(each)["resources"]["limits"]["memory"]) for each in workloads(choice).values()]
    limits.append(mebibytes(choice["logging"]["values"]["resources"]["limits"]["memory"]))
    assert sum(limits) <= 2752


def test_volumes_are_a_choice(rendered: Callable[[str], dict[str, Any]]) -> None:
    plain, secure = rendered("plain"), rendered("secure")
    assert "volumeClaimTemplates" not in workloads(plain)["elasticsearch"]["spec"]
    (claim,) = workloads(secure)["elasticsearch"]["spec"]["volumeClaimTemplates"]
    assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "8Gi"}}}
    claims = {each["metadata"]["name"]: each["spec"] for each in all_objects(plain) if "Claim" in each["kind"]}
    assert claims["jaeger"]["storageClassName"] == "standard"
    assert not any("Claim" in each["kind"] for each in all_objects(secure))


def test_every_service_finds_pods_and_their_ports(choice: dict[str, Any]) -> None:
    for service in (each for each in all_objects(choice) if each["kind"] == "Service"):
        (workload,) = [
            each
            for each in workloads(choice).values()
            if service["spec"]["selector"].items() <= each["spec"]["template"]["metadata"]["labels"].items()
        ]
        ports = {port["name"] for port in container(workload)["ports"]}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports and len(port["targetPort"]) <= 15, service["metadata"]["name"]


def test_every_service_monitor_finds_a_service_and_its_port(choice: dict[str, Any]) -> None:
    services = [each for each in all_objects(choice) if each["kind"] == "Service"]
    for monitor in (each for each in all_objects(choice) if each["kind"] == "ServiceMonitor"):
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        labels = monitor["spec"]["selector"]["matchLabels"]
        if labels == {"app.kubernetes.io/name": "fluent-bit"}:
            # The chart's own Service, whose port is called so.
            assert [each["port"] for each in monitor["spec"]["endpoints"]] == ["http"]
            continue
        (service,) = [each for each in services if labels.items() <= each["metadata"]["labels"].items()]
        assert {each["port"] for each in monitor["spec"]["endpoints"]} <= {
            port["name"] for port in service["spec"]["ports"]
        }


def test_the_alerts_are_loaded_by_prometheus(choice: dict[str, Any], tmp_path: Path) -> None:
    (rule,) = [each for each in choice["logging"]["objects"] if each["kind"] == "PrometheusRule"]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps(rule["spec"]))
    result = check_rules(find_promtool(), path)
    assert result.returncode == 0, result.stdout + result.stderr
    alerts = {each["alert"] for group in rule["spec"]["groups"] for each in group["rules"]}
    assert alerts == {"LogsLost", "LogsRefused", "LogShipperDown"}
    assert "{{ $labels.pod }}" in str(rule)


def test_spans_go_to_a_port_of_the_service(choice: dict[str, Any]) -> None:
    assert choice["tracing"]["otlp"] == "http://jaeger.tracing.svc:4318"
    (service,) = [each for each in choice["tracing"]["objects"] if each["kind"] == "Service"]
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    assert ports["otlp-http"] == 4318 and ports["otlp-grpc"] == 4317
    assert choice["tracing"]["endpoint"]["service"]["port"] in ports


def provisioned(choice: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The data sources that Grafana finds: of logs and of traces."""
    secret, config_map = choice["logging"]["datasource"], choice["tracing"]["datasource"]
    assert (secret["kind"], config_map["kind"]) == ("Secret", "ConfigMap")
    for each in (secret, config_map):
        assert each["metadata"]["labels"]["grafana_datasource"] == "1" and each["metadata"]["namespace"] == "monitoring"
    files = base64.b64decode(secret["data"]["vigie-logs.yaml"]).decode(), config_map["data"]["vigie-traces.yaml"]
    (logs,), (traces,) = (yaml.safe_load(text)["datasources"] for text in files)
    return logs, traces


def test_grafana_goes_from_traces_to_logs_and_back(choice: dict[str, Any]) -> None:
    logs, traces = provisioned(choice)
    assert (logs["type"], traces["type"]) == ("elasticsearch", "jaeger")
    assert logs["jsonData"]["index"] == choice["logging"]["data_stream"]
    (link,) = logs["jsonData"]["dataLinks"]
    assert link["datasourceUid"] == traces["uid"]
    # The field of the link and of the query is one of the index.
    properties = choice["logging"]["template"]["template"]["mappings"]["properties"]
    to_logs = traces["jsonData"]["tracesToLogsV2"]
    assert to_logs["datasourceUid"] == logs["uid"] and link["field"] in properties
    assert {logs["jsonData"][key] for key in ("timeField", "logMessageField", "logLevelField")} <= properties.keys()
    # Grafana's provisioning makes one dollar of two, and would replace a single one.
    assert (link["url"], to_logs["query"]) == ("$${__value.raw}", f'{link["field"]}:"$${{__trace.traceId}}"')


def test_grafana_logs_in_as_who_may_only_look(rendered: Callable[[str], dict[str, Any]]) -> None:
    logs, traces = provisioned(rendered("secure"))
    assert (logs["url"], traces["url"]) == (
        "http://elasticsearch.logging.svc:9200",
        "http://jaeger.tracing.svc:16686",
    )
    assert (logs["basicAuthUser"], logs["secureJsonData"]) == ("vigie-reader", {"basicAuthPassword": "reader"})
    logs, dummy = provisioned(rendered("plain"))
    assert "basicAuth" not in logs and "secureJsonData" not in logs
    logs, traces = provisioned(rendered("external"))
    assert (logs["url"], traces["url"]) == ("https://es.example.org:9243", "http://jaeger.tracing.svc:16686/jaeger")
    assert logs["jsonData"]["tlsAuthWithCACert"] is True
    assert (logs["basicAuthUser"], logs["secureJsonData"]) == ("lab", {"basicAuthPassword": "other", "tlsCACert": "ca"})


def test_jaegers_storage_is_a_choice(rendered: Callable[[str], dict[str, Any]]) -> None:
    def backend(name: str) -> dict[str, Any]:
        config = yaml.safe_load(rendered(name)["tracing"]["config"])
        return config["extensions"]["jaeger_storage"]["backends"]["main"]

    assert backend("defaults") == {"memory": {"max_traces": 10000}}
    assert backend("plain")["badger"]["ephemeral"] is False
    found = backend("secure")["elasticsearch"]
    assert found["server_urls"] == ["http://elasticsearch.logging.svc:9200"]
    assert found["auth"]["basic"]["password_file"] == "/secret/password"
    for kind in ("spans", "services", "dependencies", "sampling"):
        assert found["indices"][kind] == {"shards": 1, "replicas": 0}
    found = backend("external")["elasticsearch"]
    assert found["server_urls"] == ["https://es.example.org:9243/"] and "auth" not in found


def chart_keys() -> dict[str, str]:
    lines = [line.split("\t") for line in KEYS.read_text().splitlines() if not line.startswith("#")]
    return {line[0]: line[1] for line in lines}


def strangers(values: dict[str, Any]) -> list[str]:
    """Paths that Fluent Bit's chart does not have."""
    keys, found = chart_keys(), []
    for leaf in leaves(values):
        parts = leaf.split(".")
        above = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
        if leaf not in keys and not any(keys.get(path) in {"map", "list", "null"} for path in above):
            found.append(leaf)
    return found


def test_fluent_bits_chart_knows_every_key(choice: dict[str, Any]) -> None:
    assert strangers(choice["logging"]["values"]) == []
    assert len(list(leaves(choice["logging"]["values"]))) > 25
    assert strangers({"config": {"output": ""}, "serviceMonitor": {"selector": {}}, "images": {}}) == [
        "config.output",
        "serviceMonitor.selector",
        "images",
    ]


def fluent_bit(choice: dict[str, Any]) -> dict[str, Any]:
    values = choice["logging"]["values"]
    text = values["config"]["extraFiles"]["fluent-bit.yaml"]
    assert values["args"][-1] == "--config=/fluent-bit/etc/conf/fluent-bit.yaml"
    # The chart passes it through Helm's templates.
    assert "{{" not in text
    # Its values are texts for Fluent Bit, so `on` is no boolean.
    return yaml.load(text, Loader=yaml.BaseLoader)


def undocumented(config: dict[str, Any]) -> list[str]:
    """Options that Fluent Bit's documentation does not have."""
    known = yaml.safe_load(OPTIONS.read_text())
    found = [f"service.{key}" for key in config["service"] if key not in known["service"]]
    for section, common in (("inputs", "input"), ("filters", "filter"), ("outputs", "output")):
        for plugin in config["pipeline"][section]:
            options = set(known[section].get(plugin["name"], [])) | set(known["common"][common])
            found += [f"{section}.{plugin['name']}.{key}" for key in plugin if key not in options]
    return found


def test_fluent_bit_documents_every_option(choice: dict[str, Any]) -> None:
    config = fluent_bit(choice)
    assert undocumented(config) == []
    assert config.keys() == {"service", "pipeline"}
    broken = json.loads(json.dumps(config))
    broken["service"]["flushh"] = "1"
    broken["pipeline"]["outputs"][0]["retry_limits"] = "1"
    broken["pipeline"]["inputs"].append({"name": "tails", "path": "x"})
    assert undocumented(broken) == ["service.flushh", "inputs.tails.path", "outputs.es.retry_limits"]


def test_fluent_bit_loses_nothing_and_writes_additions(choice: dict[str, Any]) -> None:
    config = fluent_bit(choice)
    (output,) = config["pipeline"]["outputs"]
    wanted = {
        "suppress_type_name": "on",
        "replace_dots": "on",
        "write_operation": "create",
        "generate_id": "on",
        "retry_limit": "false",
        "trace_error": "on",
        "index": choice["logging"]["data_stream"],
        "storage.total_limit_size": "500M",
    }
    assert wanted.items() <= output.items()
    assert all(each["storage.type"] == "filesystem" for each in config["pipeline"]["inputs"])
    state = choice["logging"]["values"]["daemonSetVolumeMounts"][3]["mountPath"]
    assert config["service"]["storage.path"].startswith(state)
    assert all(each["db"].startswith(state) for each in config["pipeline"]["inputs"])
    names = [each["name"] for each in config["pipeline"]["inputs"]]
    assert names == (["tail"] if choice["name"] == "secure" else ["tail", "systemd"])


def test_fluent_bit_reaches_another_elasticsearch_by_tls(rendered: Callable[[str], dict[str, Any]]) -> None:
    (output,) = fluent_bit(rendered("external"))["pipeline"]["outputs"]
    assert (output["host"], output["port"], output["tls"], output["tls.verify"]) == (
        "es.example.org",
        "9243",
        "on",
        "on",
    )
    assert output["tls.ca_file"] == "/secret/ca.crt" and output["http_user"] == "${ELASTICSEARCH_USERNAME}"
    values = rendered("external")["logging"]["values"]
    assert values["rbac"]["create"] is False and values["priorityClassName"] == "system-node-critical"


@pytest.fixture(scope="session")
def monitoring_schemas(crds: Path) -> dict[str, Any]:
    """Return the schema of each of the operator's kinds in version v1."""

    class Loader(yaml.CSafeLoader):
        pass

    Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))
    found = {}
    for document in yaml.load_all(crds.read_text(), Loader=Loader):
        for version in document["spec"]["versions"]:
            if version["name"] == "v1":
                found[document["spec"]["names"]["kind"]] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def test_objects_of_the_operator_are_as_it_defines_them(
    choice: dict[str, Any], monitoring_schemas: dict[str, Any]
) -> None:
    ours = [each for each in all_objects(choice) if each["apiVersion"] == "monitoring.coreos.com/v1"]
    assert len(ours) == 3
    for each in ours:
        jsonschema.Draft7Validator(monitoring_schemas[each["kind"]]).validate(each["spec"])


def test_bad_choices_are_refused_in_a_sentence_each(tmp_path: Path) -> None:
    logging = {
        "logging_shipper": ("fluentd", "is not known; choose one of: fluent-bit, opentelemetry-collector."),
        "logging_data_stream": ("Logs App", "can't be the name of a data stream"),
        "logging_retention": ("1w", "is no time that Elasticsearch knows"),
        "logging_elasticsearch_heap": ("100m", "is below 256m"),
        "logging_storage_size": ("8 GB", "is no size of a volume"),
        "logging_shipper_memory_limit": ("64Mi", "is below 128Mi"),
        "logging_chart_version": ("latest", "is no version"),
        "logging_namespace": ("My_Logs", "is no DNS label"),
    }
    tracing = {
        "tracing_storage": ("disk", "is not known; choose one of: memory, badger, elasticsearch."),
        "tracing_memory_limit": ("64Mi", "is below 128Mi"),
        "tracing_retention": ("7d", "is no duration that Jaeger knows"),
        "tracing_ui_path": ("jaeger/", "is no path"),
    }
    for number, choices in enumerate((logging, tracing)):
        with pytest.raises(RuntimeError) as refused:
            render(tmp_path / str(number), **{name: value for name, (value, dummy) in choices.items()})
        said = " ".join(str(refused.value).split())
        for name, (value, sentence) in choices.items():
            assert f"{name}={value} {sentence}" in said


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"logging_elasticsearch_memory_limit": "900Mi"},
            "logging_elasticsearch_memory_limit=900Mi is less than twice logging_elasticsearch_heap=512m",
        ),
        (
            {
                "logging_elasticsearch_url": "https://es:9200",
                "logging_elasticsearch_username": "lab",
                "logging_elasticsearch_password_file": "/nowhere/password",
            },
            "logging_elasticsearch_password_file=/nowhere/password does not exist on localhost",
        ),
        (
            {"logging_elasticsearch_url": "es:9200"},
            "logging_elasticsearch_url=es:9200 is no address; write it like https://host:9200",
        ),
        (
            {"logging_elasticsearch_url": "https://es:9200", "logging_kibana": True},
            "logging_kibana=true, but logging_elasticsearch_url=https://es:9200 is another's",
        ),
        (
            {"tracing_storage": "elasticsearch", "tracing_elasticsearch_password_file": "/nowhere/password"},
            "tracing_elasticsearch_password_file=/nowhere/password does not exist on localhost",
        ),
    ],
    ids=["memory", "password", "address", "kibana", "tracing"],
)
def test_choices_that_do_not_go_together_are_refused(tmp_path: Path, variables: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RuntimeError) as refused:
        render(tmp_path, **variables)
    assert re.sub(r"\s+", " ", sentence) in re.sub(r"\s+", " ", str(refused.value))
