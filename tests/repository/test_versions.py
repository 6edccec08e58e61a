"""One table of versions: well-formed, and nothing that roles or playbooks download stands anywhere else."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.vigie.observability.plugins.module_utils.bundle import KEYS as MANIFEST_KEYS
from ansible_collections.vigie.observability.plugins.module_utils.bundle import KINDS, REASONS, Bundle

REPOSITORY = Path(__file__).parents[2]
TABLE: dict[str, dict[str, Any]] = yaml.safe_load((REPOSITORY / "vars/versions.yml").read_text())["vigie_versions"]
SHA256 = re.compile(r"[0-9a-f]{64}")
VERSION = re.compile(r"\d[\w.+-]*")
KEYS = {
    "binary": {"architectures"},  # and `others`, where further versions are known
    "image": {"ref", "digest"},
    "chart": {"chart", "repository", "sha256"},
    "collection": {"name", "wheel", "sha256"},
    "manifest": {"url", "sha256"},
    "source": set(),
}
TEXT = {".cfg", ".conf", ".j2", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml", ""}
# An address on the internet: a host with a dot that is no IP address, no cluster name and no example.
URL = re.compile(r"\bhttps?://(?!\d+\.)(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}(?::\d+)?/[^\s\"'`|)}]+", re.IGNORECASE)
LOCAL = re.compile(
    r"^https?://[^/]*\.(?:svc|local|localdomain|internal|example|test|invalid|example\.(?:com|org|net))(?::\d+)?/"
)
# registry.host/path:tag wherever it stands; docker.io may be left out after `image:` and `FROM`.
IMAGE = re.compile(r"(?<![\w./@:-])((?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?/[a-z0-9._/-]+(?::[\w.-]+|@sha256:[0-9a-f]+))")
SHORT_IMAGE = re.compile(
    r"^\s*(?:- )?(?:image:|FROM)\s+[\"']?([a-z0-9._-]+(?:/[a-z0-9._-]+)*:[\w.-]+)", re.MULTILINE | re.IGNORECASE
)


def faults(table: dict[str, dict[str, Any]]) -> list[str]:
    """What is wrong with a table of versions."""
    found = [] if list(table) == sorted(table) else ["the components are not sorted"]
    for name, entry in table.items():
        kind = entry.get("kind")
        if kind not in KEYS:
            found.append(f"{name}: kind {kind!r}")
            continue
        version = entry.get("version")
        if not isinstance(version, str) or not VERSION.fullmatch(version):
            found.append(f"{name}: version {version!r}")
            continue
        optional = {"others"} if kind == "binary" else set()
        if entry.keys() - optional != KEYS[kind] | {"version", "kind"}:
            found.append(f"{name}: keys {sorted(entry)}")
            continue
        found += [f"{name}: {fault}" for fault in globals()[f"{kind}_faults"](entry, version)]
    return found


def hash_faults(value: Any) -> list[str]:
    fine = value is None or (isinstance(value, str) and SHA256.fullmatch(value))
    return [] if fine else [f"sha256 {value!r}"]


def binary_faults(entry: dict[str, Any], version: str) -> Iterator[str]:
    if "amd64" not in entry["architectures"] or not entry["architectures"].keys() <= {"amd64", "arm64"}:
        yield f"architectures {sorted(entry['architectures'])}"
    for architecture, file in entry["architectures"].items():
        if file.keys() - {"member"} != {"url", "sha256"}:
            yield f"{architecture} keys {sorted(file)}"
            continue
        yield from hash_faults(file["sha256"])
        if not file["url"].startswith("https://") or f"v{version}" not in file["url"]:
            yield f"url {file['url']}"
        if architecture not in file["url"]:
            yield f"{architecture} url {file['url']}"
        member = file.get("member")
        if member and not re.search(r"\.(tar\.\w+|tgz)$", file["url"]):
            yield f"member {member} of something that is no archive"
        for other in {"amd64", "arm64"} - {architecture}:
            if member and other in member:
                yield f"{architecture} member {member}"
    hashes = [file.get("sha256") for file in entry["architectures"].values() if file.get("sha256")]
    for other, checksums in entry.get("others", {}).items():
        if not isinstance(other, str) or not VERSION.fullmatch(other) or other == version:
            yield f"others: version {other!r}"
            continue
        if checksums.keys() != entry["architectures"].keys():
            yield f"others: {other}: architectures {sorted(checksums)}"
        for value in checksums.values():
            yield from hash_faults(value)
            hashes += [value] if value else []
    if len(hashes) != len(set(hashes)):
        yield "two files of the same sha256"


def image_faults(entry: dict[str, Any], version: str) -> Iterator[str]:
    if not re.fullmatch(rf"(?:[a-z0-9-]+\.)+[a-z]+/[a-z0-9._/-]+:v?{re.escape(version)}(-[a-z]+)*", entry["ref"]):
        yield f"ref {entry['ref']}"
    digest = entry["digest"]
    if digest is not None and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        yield f"digest {digest}"


def chart_faults(entry: dict[str, Any], version: str) -> Iterator[str]:
    yield from hash_faults(entry["sha256"])
    if not entry["repository"].startswith(("https://", "oci://")):
        yield f"repository {entry['repository']}"


def manifest_faults(entry: dict[str, Any], version: str) -> Iterator[str]:
    yield from hash_faults(entry["sha256"])
    if not entry["url"].startswith("https://") or f"v{version}" not in entry["url"]:
        yield f"url {entry['url']}"


def source_faults(entry: dict[str, Any], version: str) -> Iterator[str]:
    yield from ()


def collection_faults(entry: dict[str, Any], version: str) -> Iterator[str]:
    yield from hash_faults(entry["sha256"])
    if (
        f"{entry['wheel']} --hash=sha256:{entry['sha256']}"
        not in (REPOSITORY / "requirements/collections.txt").read_text()
    ):
        yield f"wheel {entry['wheel']} is not the one of requirements/collections.txt"


def test_the_table_is_well_formed() -> None:
    assert faults(TABLE) == []


def test_collections_are_those_of_requirements() -> None:
    for entry in yaml.safe_load((REPOSITORY / "requirements.yml").read_text())["collections"]:
        assert entry["version"] == f"=={TABLE[entry['name']]['version']}", entry["name"]


def test_the_page_about_bundles_says_what_the_reader_does(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/bundle.md").read_text()
    example = re.search(r"```yaml\n(- name: helm\n.+?)```", page, re.DOTALL)
    assert example
    (tmp_path / "manifest.yml").write_text(example[1])
    listed = Bundle(tmp_path).artifacts[0]
    entry = TABLE[listed.name]
    assert (listed.version, listed.kind) == (entry["version"], entry["kind"])
    rows = re.findall(r"^\| (`[a-z_0-9`, ]+) \|", page, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"[a-z_0-9]+", row)}
    assert named == {*MANIFEST_KEYS, *REASONS} - {"missing_library", "bad_option"}
    assert KEYS.keys() - {"source"} == set(KINDS)


def test_nothing_is_there_twice() -> None:
    urls = [file["url"] for entry in TABLE.values() for file in entry.get("architectures", {}).values()]
    refs = [entry["ref"] for entry in TABLE.values() if entry["kind"] == "image"]
    assert len({*urls, *refs}) == len(urls) + len(refs)


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        (("kubectl", "kind"), "program", "kubectl: kind"),
        (("kubectl", "version"), 1.35, "kubectl: version"),
        (("kubectl", "extra"), 1, "kubectl: keys"),
        (("kubectl", "version"), "1.35.9", "kubectl: url"),
        (("kubectl", "architectures", "amd64", "sha256"), "0" * 63, "kubectl: sha256"),
        (("kubectl", "architectures", "amd64", "sha256"), "A" * 64, "kubectl: sha256"),
        (("kubectl", "architectures", "s390x"), {}, "kubectl: architectures"),
        (("kubectl", "architectures", "arm64", "url"), "https://dl.k8s.io/v1.35.8/amd64", "kubectl: arm64 url"),
        (("kubectl", "architectures", "amd64", "member"), "kubectl", "no archive"),
        (("helm", "architectures", "arm64", "member"), "linux-amd64/helm", "helm: arm64 member"),
        (("kubectl", "others", "1.36.4", "arm64"), "0" * 63, "kubectl: sha256"),
        (("kubectl", "others", "1.36.4"), {"amd64": "0" * 64}, "kubectl: others: 1.36.4: architectures"),
        (("kubectl", "others", "1.35.8"), {"amd64": None, "arm64": None}, "kubectl: others: version"),
        (("kubectl", "others", 1.36), {"amd64": None, "arm64": None}, "kubectl: others: version"),
        (
            ("kubectl", "others", "1.36.3", "amd64"),
            TABLE["kubectl"]["others"]["1.36.4"]["amd64"],
            "kubectl: two files of the same sha256",
        ),
        (("mailpit", "others"), {}, "mailpit: keys"),
        (("mailpit", "digest"), "b868", "mailpit: digest"),
        (("mailpit", "ref"), "docker.io/axllent/mailpit:latest", "mailpit: ref"),
        (("mailpit", "ref"), "axllent/mailpit:v1.30.5", "mailpit: ref"),
        (("kube-prometheus-stack", "repository"), "http://charts", "repository"),
        (("kubernetes.core", "sha256"), "0" * 64, "kubernetes.core: wheel"),
        (("prometheus-operator-crds", "url"), "https://github.com/x/v0.1.0/crds.yaml", "prometheus-operator-crds: url"),
        (("go", "sha256"), None, "go: keys"),
        (("zzz",), {"kind": "image"}, "zzz: version"),
        (("000",), {"kind": "image"}, "not sorted"),
    ],
)
def test_the_checker_sees_faults(path: tuple[str, ...], value: Any, part: str) -> None:
    table = copy.deepcopy(TABLE)
    place: Any = table
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert part in "\n".join(faults(table))


def foreign(text: str) -> list[str]:
    """Addresses and images in a text that the table doesn't list."""
    urls = {file["url"] for entry in TABLE.values() for file in entry.get("architectures", {}).values()}
    urls |= {entry["url"] for entry in TABLE.values() if entry["kind"] == "manifest"}
    urls |= {entry["repository"] for entry in TABLE.values() if entry["kind"] == "chart"}
    refs = {entry["ref"] for entry in TABLE.values() if entry["kind"] == "image"}
    refs |= {f"{entry['ref']}@{entry['digest']}" for entry in TABLE.values() if entry["kind"] == "image"}
    found = [url for url in URL.findall(text) if not LOCAL.match(url) and url not in urls]
    rest = URL.sub("", text)
    found += [ref for ref in IMAGE.findall(rest) if ref not in refs]
    found += [ref for ref in SHORT_IMAGE.findall(rest) if ref not in refs and ref not in found]
    return found


def files() -> list[Path]:
    found = [path for folder in ("roles", "playbooks", "inventory") for path in (REPOSITORY / folder).rglob("*")]
    return sorted(path for path in found if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts)


def test_nothing_else_names_what_is_downloaded() -> None:
    assert len(files()) > 20
    found = {str(path.relative_to(REPOSITORY)): foreign(path.read_text()) for path in files()}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("url: https://get.helm.sh/helm-v3.0.0-linux-amd64.tar.gz", True),
        ("url: 'https://get.helm.sh/helm-v{{ version }}-linux-amd64.tar.gz'", True),
        ("url: https://get.helm.sh/helm-v4.2.4-linux-amd64.tar.gz", False),
        ("image: docker.io/axllent/mailpit:latest", True),
        ("image: axllent/mailpit:latest", True),
        ("FROM python:3.12-slim", True),
        ("image: docker.io/axllent/mailpit:v1.30.5", False),
        ("- --image=quay.io/prometheus/prometheus:v3.14.0", True),
        ("image: '{{ vigie_versions.mailpit.ref }}'", False),
        ("see http://127.0.0.1:9090/api/v1/query", False),
        ("http://es.logging.svc:9200/_search and http://jaeger.vigie.svc.cluster.local:4318/v1/traces", False),
        ("runbook: https://wiki.example.com/vigie", False),
        ("time: 2026-11-24T11:03:43", False),
    ],
)
def test_the_search_sees_what_is_foreign(text: str, named: bool) -> None:
    assert bool(foreign(text)) == named
