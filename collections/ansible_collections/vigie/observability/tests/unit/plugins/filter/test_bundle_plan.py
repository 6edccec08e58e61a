"""What goes into a bundle: versions, addresses and checksums out of a table, and every reason why something can't."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.filter.bundle_plan import FilterModule

SUMS = {name: f"{number:064x}" for number, name in enumerate(["old", "new", "arm", "wheel", "given", "other"], 1)}
HOST = "https://dl.example.org"
TABLE: dict[str, dict[str, Any]] = {
    "crds": {"version": "0.9.0", "kind": "manifest", "url": f"{HOST}/v0.9.0/crds.yaml", "sha256": SUMS["old"]},
    "go": {"version": "1.26.6", "kind": "source"},
    "helm": {
        "version": "4.2.4",
        "kind": "binary",
        "architectures": {
            "amd64": {
                "url": f"{HOST}/helm-v4.2.4-linux-amd64.tar.gz",
                "sha256": SUMS["old"],
                "member": "linux-amd64/helm",
            }
        },
    },
    "kube-proxy": {"version": "1.35.8", "kind": "image", "ref": "registry.k8s.io/kube-proxy:v1.35.8", "digest": None},
    "kubectl": {
        "version": "1.35.8",
        "kind": "binary",
        "architectures": {
            "amd64": {"url": f"{HOST}/v1.35.8/amd64/kubectl", "sha256": SUMS["old"]},
            "arm64": {"url": f"{HOST}/v1.35.8/arm64/kubectl", "sha256": SUMS["arm"]},
        },
        "others": {"1.36.4": {"amd64": SUMS["new"], "arm64": None}},
    },
    "kubelet": {
        "version": "1.35.8",
        "kind": "binary",
        "architectures": {"amd64": {"url": f"{HOST}/v1.35.8/amd64/kubelet", "sha256": None}},
    },
    "kubernetes.core": {"version": "6.6.0", "kind": "collection", "wheel": "ansible==14.5.0", "sha256": SUMS["wheel"]},
    "stack": {"version": "88.5.3", "kind": "chart", "chart": "stack", "repository": f"{HOST}/charts", "sha256": None},
}


def plan(*components: str, architecture: str = "amd64", mirrors: dict[str, str] | None = None, **chosen: Any) -> Any:
    return FilterModule().filters()["bundle_plan"](TABLE, list(components), architecture, chosen, mirrors or {})


def test_everything_whose_content_is_known_and_nothing_of_source() -> None:
    found = plan()
    assert found["faults"] == []
    assert [entry["name"] for entry in found["artifacts"]] == [
        "crds",
        "helm",
        "kube-proxy",
        "kubectl",
        "kubernetes.core",
    ]
    assert [entry["name"] for entry in found["left_out"]] == ["kubelet", "stack"]
    assert (
        "set stack_sha256 to the SHA-256 of https://dl.example.org/charts/stack-88.5.3.tgz"
        in found["left_out"][1]["why"]
    )
    assert all(not entry["file"].startswith("/") for entry in found["artifacts"])
    assert {entry["architecture"] for entry in found["artifacts"] if entry["kind"] in ("binary", "image")} == {"amd64"}
    assert {entry["architecture"] for entry in found["artifacts"] if entry["kind"] in ("manifest", "collection")} == {
        "noarch"
    }


def test_each_kind_comes_from_its_own_origin_through_its_mirror() -> None:
    mirrors = {HOST: "http://127.0.0.1:8080/dl", "registry.k8s.io": "127.0.0.1:5000/k8s"}
    crds, helm, proxy, _kubectl, collection = plan(mirrors=mirrors)["artifacts"]
    assert (crds["url"], crds["sha256"]) == ("http://127.0.0.1:8080/dl/v0.9.0/crds.yaml", SUMS["old"])
    assert helm["member"] == "linux-amd64/helm"
    assert (proxy["ref"], proxy["source"]) == (
        "registry.k8s.io/kube-proxy:v1.35.8",
        "127.0.0.1:5000/k8s/kube-proxy:v1.35.8",
    )
    assert proxy["digest"] == ""
    assert collection["file"] == "collections/ansible-14.5.0-py3-none-any.whl"


def test_a_version_that_is_known_is_taken_by_its_variable() -> None:
    (kubectl,) = plan("kubectl", kubectl_version="1.36.4")["artifacts"]
    assert (kubectl["version"], kubectl["sha256"]) == ("1.36.4", SUMS["new"])
    assert kubectl["url"] == f"{HOST}/v1.36.4/amd64/kubectl"
    assert kubectl["file"] == "binaries/kubectl-1.36.4-amd64"
    (empty,) = plan("kubectl", kubectl_version="", kubectl_sha256=None)["artifacts"]
    assert empty["version"] == "1.35.8"


def test_a_version_of_ones_own_comes_with_its_checksum() -> None:
    (helm,) = plan("helm", helm_version="4.9.9", helm_sha256=SUMS["given"])["artifacts"]
    assert (helm["sha256"], helm["url"]) == (SUMS["given"], f"{HOST}/helm-v4.9.9-linux-amd64.tar.gz")
    (stack,) = plan("stack", stack_sha256=SUMS["given"])["artifacts"]
    assert (stack["sha256"], stack["file"]) == (SUMS["given"], "charts/stack-88.5.3.tgz")


def test_the_node_has_a_kubectl_of_its_own_version() -> None:
    chosen = {"kubectl_version": "1.36.4", "kubelet_sha256": SUMS["given"]}
    assert [(entry["name"], entry["version"]) for entry in plan("kubectl", "kubelet", **chosen)["artifacts"]] == [
        ("kubectl", "1.36.4"),
        ("kubectl", "1.35.8"),
        ("kubelet", "1.35.8"),
    ]
    # A checksum is of the version that was chosen with it, not of the node's.
    given = plan(
        "kubectl", "kubelet", kubectl_version="1.36.9", kubectl_sha256=SUMS["given"], kubelet_sha256=SUMS["other"]
    )
    assert [entry["sha256"] for entry in given["artifacts"]] == [SUMS["given"], SUMS["old"], SUMS["other"]]
    assert given["faults"] == []


@pytest.mark.parametrize(
    ("components", "options", "part"),
    [
        (("nope", "go"), {}, "bundle_components=nope, go is not known; choose of: crds, helm, kube-proxy, kubectl"),
        ((), {"architecture": "s390x"}, "bundle_architecture=s390x is not known; choose one of: amd64, arm64."),
        (("helm",), {"architecture": "arm64"}, "helm is there for amd64 only, not for bundle_architecture=arm64"),
        (("kubectl",), {"kubectl_version": "1.99.0"}, "kubectl_version=1.99.0 has no known checksum for amd64; choose one of 1.35.8, 1.36.4"),
        (("kubectl",), {"kubectl_version": "1.36.4", "architecture": "arm64"}, "choose one of 1.35.8, or set kubectl_sha256"),
        (("kubectl",), {"kubectl_version": "v1.36.4"}, "kubectl_version=v1.36.4 is no version; write it like 1.35.8"),
        (("kubectl",), {"kubectl_version": "../1"}, "is no version"),
        (("kubectl",), {"kubectl_sha256": "0" * 63}, "is not 64 hex digits"),
        (("kubectl",), {"kubectl_sha256": SUMS["given"]}, f"is not what vars/versions.yml has for kubectl 1.35.8 (amd64), {SUMS['old']}"),
        (("kubelet",), {}, "kubelet 1.35.8 has no known checksum for amd64; set kubelet_sha256 to the SHA-256 of"),
        ((), {"minikube_kubernetes_version": "1.36.0"}, "minikube_kubernetes_version=1.36.0: image kube-proxy is known in version 1.35.8 only"),
        (("kubernetes.core",), {"kubernetes_core_version": "7.0.0"}, "collection kubernetes.core is known in version 6.6.0 only"),
        (("crds",), {"crds_version": "0.10.0"}, "crds_version=0.10.0 has no known checksum; choose one of 0.9.0"),
    ],
)  # fmt: skip
def test_what_can_not_be_brought_is_one_sentence(
    components: tuple[str, ...], options: dict[str, Any], part: str
) -> None:
    faults = plan(*components, **options)["faults"]
    assert any(part in fault for fault in faults), faults


def test_all_faults_at_once_and_none_of_them_in_the_list() -> None:
    found = plan("nope", "kubectl", "kubelet", "helm", kubectl_version="9", helm_version="x")
    assert len(found["faults"]) == 4
    # The node's own is as it should be.
    assert [(entry["name"], entry["version"]) for entry in found["artifacts"]] == [("kubectl", "1.35.8")]


def test_a_word_is_no_list() -> None:
    found = FilterModule().filters()["bundle_plan"](TABLE, "kubectl", "amd64", {}, {})
    assert (
        'bundle_components=kubectl is no list; write it like {"bundle_components": ["kubectl", "helm"]}.'
        in found["faults"]
    )
