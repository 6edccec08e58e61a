"""Links of the chain that are broken by hand: the drill or the verification names them, and the roles mend them."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
from typing import Any

from lab_on_cluster import MONITORING, Lab, wait

ALERTMANAGER = "alertmanager-prometheus-kube-prometheus-alertmanager"
SMTP_SECRET = "alertmanager-gmail-secret"


def failed(report: dict[str, Any]) -> tuple[str, str, str]:
    """Return the stage at which a drill failed, the reason and the hint."""
    assert report["verdict"] == "fail"
    (stage,) = [stage for stage in report["stages"] if not stage["ok"] and stage["evidence"].get("reason")]
    return stage["name"], stage["evidence"]["reason"], stage["evidence"]["hint"]


def in_the_pod(lab: Lab, file: str) -> bytes:
    """Return a file of Alertmanager's Secret as the pod sees it: its image has no program that could print it."""
    pod = lab.get(f"--namespace={MONITORING}", "pod", f"{ALERTMANAGER}-0")
    volume = f"/var/lib/kubelet/pods/{pod['metadata']['uid']}/volumes/kubernetes.io~secret/secret-{SMTP_SECRET}/{file}"
    command = ["docker", "exec", os.environ["VIGIE_CLUSTER_PROFILE"], "cat", volume]
    return subprocess.run(command, capture_output=True, check=True).stdout


def test_a_wrong_password_is_named_and_mended(lab: Lab) -> None:
    right = lab.secret(MONITORING, SMTP_SECRET, "smtp_pass")
    lab.change_secret(MONITORING, SMTP_SECRET, "smtp_pass", b"wrong")
    wait(
        lambda: in_the_pod(lab, "smtp_pass") == b"wrong",
        "Alertmanager has the wrong password",
        each=lambda: lab.hurry(f"statefulset.kubernetes.io/pod-name={ALERTMANAGER}-0"),
    )
    stage, reason, hint = failed(lab.drill())
    assert (stage, reason) == ("mailed", "smtp_auth_rejected"), hint
    assert SMTP_SECRET in hint and right.decode() not in hint

    assert lab.part("mail").changed == 1
    assert lab.secret(MONITORING, SMTP_SECRET, "smtp_pass") == right
    wait(
        lambda: in_the_pod(lab, "smtp_pass") == right,
        "Alertmanager has the right password",
        each=lambda: lab.hurry(f"statefulset.kubernetes.io/pod-name={ALERTMANAGER}-0"),
    )


def test_a_route_elsewhere_is_named_and_mended(lab: Lab) -> None:
    text = lab.secret(MONITORING, ALERTMANAGER, "alertmanager.yaml").decode()
    broken = text.replace("receiver: mail\n", "receiver: 'null'\n")
    assert broken != text
    lab.change_secret(MONITORING, ALERTMANAGER, "alertmanager.yaml", broken.encode())
    service = "prometheus-kube-prometheus-alertmanager:http-web"
    status = f"/api/v1/namespaces/{MONITORING}/services/{service}/proxy/api/v2/status"

    def running() -> str:
        return str(json.loads(lab.kubectl("get", f"--raw={status}"))["config"]["original"])

    wait(
        lambda: "receiver: mail\n" not in running(),
        "Alertmanager has the other route",
        each=lambda: lab.hurry(f"statefulset.kubernetes.io/pod-name={ALERTMANAGER}-0"),
    )
    verified = lab.play("playbooks/verify.yml", "--tags=alerting_verify")
    assert verified.status != 0 and "Alertmanager still runs with another configuration" in verified.output

    stage, reason, hint = failed(lab.drill())
    assert (stage, reason) == ("routed", "routed_elsewhere"), hint

    assert lab.part("alerting").changed >= 1
    assert "receiver: mail\n" in running()


def test_a_mail_server_that_is_gone_is_named_and_brought_back(lab: Lab) -> None:
    lab.kubectl("scale", f"--namespace={MONITORING}", "deployment/mailpit", "--replicas=0")
    stage, reason, hint = failed(lab.drill())
    assert (stage, reason) == ("baseline", "workload_down"), hint
    assert "mailpit" in hint
    assert lab.part("mail").changed == 1


def test_rules_that_are_gone_are_named_and_brought_back(lab: Lab) -> None:
    lab.kubectl("delete", f"--namespace={MONITORING}", "prometheusrule/vigie")
    assert lab.part("alerting").changed >= 1
    assert lab.play("playbooks/verify.yml", "--tags=alerting_verify").status == 0


def test_a_release_that_a_killed_run_left_pending_is_repaired(lab: Lab) -> None:
    """As Helm leaves it: a newer revision that is neither deployed nor failed."""
    selector = "--selector=owner=helm,name=prometheus"
    releases = lab.get(f"--namespace={MONITORING}", "secrets", selector)["items"]
    newest = max(releases, key=lambda secret: int(secret["metadata"]["labels"]["version"]))
    assert newest["metadata"]["labels"]["status"] == "deployed"
    revision = int(newest["metadata"]["labels"]["version"]) + 1
    release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(newest["data"]["release"]))))
    release["version"], release["info"]["status"] = revision, "pending-upgrade"
    pending = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": newest["type"],
        "metadata": {
            "name": f"sh.helm.release.v1.prometheus.v{revision}",
            "namespace": MONITORING,
            "labels": {**newest["metadata"]["labels"], "version": str(revision), "status": "pending-upgrade"},
        },
        "data": {"release": base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()},
    }
    lab.kubectl("create", "--filename=-", stdin=json.dumps(pending))
    run = lab.part("monitoring")
    assert run.status == 0, run.output[-3000:]
    assert f"Release prometheus is pending-upgrade since revision {revision}" in run.output
    releases = lab.get(f"--namespace={MONITORING}", "secrets", selector)["items"]
    states = {int(one["metadata"]["labels"]["version"]): one["metadata"]["labels"]["status"] for one in releases}
    assert states[max(states)] == "deployed" and max(states) > revision
    assert lab.part("monitoring").changed == 0
