# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: bundle_plan
short_description: Say what goes into a bundle and where it comes from
version_added: 0.1.0
author: Vigie maintainers (@vigie)
description:
  - Makes of a table of versions a list of files with their addresses, for one architecture, and of what can't be brought a list of
    sentences. Nothing is downloaded or looked at.
  - A program, chart or manifest is brought only when its SHA-256 is known. Otherwise it is left out, or refused when it was named or
    its version was chosen.
positional: components, architecture, chosen, mirrors
options:
  _input:
    description: The table, as in C(vars/versions.yml).
    type: dict
    required: true
  components:
    description: Names out of the table. An empty list means all, except those of kind V(source).
    type: list
    elements: str
    required: true
  architecture:
    description: V(amd64) or V(arm64).
    type: str
    required: true
  chosen:
    description:
      - Values of the variables that choose another version, C(<name>_version), and give its SHA-256, C(<name>_sha256). In place of other
        characters than letters and digits they have an underscore. Empty ones count as not set.
      - The parts of Kubernetes in the node have one variable in common, C(minikube_kubernetes_version).
    type: dict
    required: true
  mirrors:
    description: Origin to mirror, as for the filter P(vigie.observability.mirrored#filter).
    type: dict
    required: true
"""

EXAMPLES = r"""
plan: "{{ vigie_versions | vigie.observability.bundle_plan(['kubectl'], 'arm64', {'kubectl_version': '1.36.4'}, {}) }}"
"""

RETURN = r"""
_value:
  description: Keys C(artifacts), a list of dicts; C(faults), a list of sentences; and C(left_out), a list of dicts with C(name) and C(why).
  type: dict
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ansible_collections.vigie.observability.plugins.filter.mirrored import mirrored

ARCHITECTURES = ("amd64", "arm64")
KUBERNETES = ("kubeadm", "kubelet", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler")
"""What runs in the node, in the version of the cluster; the node has a kubectl of it, too."""
CLUSTER_VERSION = "minikube_kubernetes_version"
VERSION = re.compile(r"\d+(\.\d+)*([-+.][0-9A-Za-z.+-]+)?")
SHA256 = re.compile(r"[0-9a-f]{64}")


def variable(name: str, what: str) -> str:
    """Return the variable that says something about a component."""
    return f"{re.sub('[^A-Za-z0-9]', '_', name)}_{what}"


class _Fault(Exception):
    """A sentence about what can't be brought."""


class _Unknown(_Fault):
    """It can't be brought because nobody knows its SHA-256."""


class _Wanted(NamedTuple):
    """A component in a version."""

    name: str
    version: str
    by: str
    """The variable that chose the version, or nothing."""
    sha256: str
    """What the user gave for it, or nothing."""
    entry: Mapping[str, Any]

    def at(self, text: str) -> str:
        """Return an address or a path of the table's version as that of this one."""
        return text.replace(self.entry["version"], self.version)


class _Plan:
    def __init__(
        self,
        table: Mapping[str, Mapping[str, Any]],
        architecture: str,
        chosen: Mapping[str, Any],
        mirrors: Mapping[str, str],
    ) -> None:
        self.table = table
        self.architecture = architecture
        self.chosen = {name: str(value) for name, value in chosen.items() if value not in (None, "")}
        self.mirrors = mirrors

    def wanted(self, name: str, components: Iterable[str]) -> list[_Wanted]:
        """Return the versions of a component that are wanted."""
        options = [CLUSTER_VERSION if name in KUBERNETES else variable(name, "version")]
        if name == "kubectl" and "kubelet" in components:
            options.append(CLUSTER_VERSION)
        entry = self.table[name]
        found: dict[str, _Wanted] = {}
        sha256 = self.chosen.get(variable(name, "sha256"), "")
        for option in options:
            version = self.chosen.get(option, entry["version"])
            found.setdefault(version, _Wanted(name, version, option if option in self.chosen else "", sha256, entry))
            sha256 = ""  # it is of the version of the component's own variable
        return list(found.values())

    def artifact(self, wanted: _Wanted) -> dict[str, str]:
        """Return one file of the bundle.

        Raises:
            _Fault: why there is none.
        """
        name, version, by, _sha256, entry = wanted
        if not VERSION.fullmatch(version):
            raise _Fault(f"{by}={version} is no version; write it like {entry['version']}, without a leading v.")
        kinds = {
            "binary": self._binary,
            "image": self._image,
            "chart": self._chart,
            "manifest": self._manifest,
            "collection": self._collection,
        }
        made = {"name": name, "version": version, "kind": entry["kind"], "architecture": "noarch"}
        return {**made, **kinds[entry["kind"]](wanted)}

    def _download(self, wanted: _Wanted, url: str, known: Mapping[str, str | None]) -> dict[str, str]:
        """Return an address, and the SHA-256 of what it gives: the table's, or the one that was given."""
        name, version, by, given, entry = wanted
        url = wanted.at(url)
        option = variable(name, "sha256")
        if given and not SHA256.fullmatch(given):
            raise _Fault(f"{option}={given} is not 64 hex digits in lower case.")
        listed = known.get(version) or ""
        if given and listed and given != listed:
            raise _Fault(
                f"{option}={given} is not what vars/versions.yml has for {name} {version} ({self.architecture}), {listed}; leave it out, or "
                "correct the table."
            )
        if given or listed:
            return {"url": mirrored(url, self.mirrors), "sha256": given or listed, "member": ""}
        others = [other for other, checksum in known.items() if checksum]
        what = f"{by}={version}" if by else f"{name} {version}"
        choice = f"choose one of {', '.join(others)}, or " if others else ""
        place = f" for {self.architecture}" if entry["kind"] == "binary" else ""
        raise _Unknown(f"{what} has no known checksum{place}; {choice}set {option} to the SHA-256 of {url}.")

    def _binary(self, wanted: _Wanted) -> dict[str, str]:
        entry = wanted.entry
        download = entry["architectures"].get(self.architecture)
        if not download:
            raise _Fault(
                f"{wanted.name} is there for {' and '.join(entry['architectures'])} only, not for bundle_architecture="
                f"{self.architecture}; leave it out of bundle_components."
            )
        known = {entry["version"]: download["sha256"]}
        known |= {other: sums.get(self.architecture) for other, sums in entry.get("others", {}).items()}
        return {
            **self._download(wanted, download["url"], known),
            "architecture": self.architecture,
            "file": f"binaries/{wanted.name}-{wanted.version}-{self.architecture}",
            "member": wanted.at(download.get("member", "")),
        }

    def _image(self, wanted: _Wanted) -> dict[str, str]:
        self._require_listed(wanted)
        return {
            "architecture": self.architecture,
            "file": f"images/{wanted.name}-{wanted.version}-{self.architecture}.tar",
            "ref": wanted.entry["ref"],
            "source": mirrored(wanted.entry["ref"], self.mirrors),
            "digest": wanted.entry["digest"] or "",
        }

    def _chart(self, wanted: _Wanted) -> dict[str, str]:
        entry = wanted.entry
        # Most repositories keep charts beside their index; those on a page of releases elsewhere have a url in the table.
        url = entry.get("url") or f"{entry['repository'].rstrip('/')}/{entry['chart']}-{entry['version']}.tgz"
        known = {entry["version"]: entry["sha256"]}
        return {**self._download(wanted, url, known), "file": f"charts/{entry['chart']}-{wanted.version}.tgz"}

    def _manifest(self, wanted: _Wanted) -> dict[str, str]:
        entry = wanted.entry
        known = {entry["version"]: entry["sha256"]}
        return {
            **self._download(wanted, entry["url"], known),
            "file": f"manifests/{wanted.name}-{wanted.version}.yml",
        }

    def _collection(self, wanted: _Wanted) -> dict[str, str]:
        self._require_listed(wanted)
        package, _equals, number = wanted.entry["wheel"].partition("==")
        return {
            # By this name pip finds it when the folder is all that it may look into.
            "file": f"collections/{package}-{number}-py3-none-any.whl",
            "requirement": wanted.entry["wheel"],
            "sha256": wanted.entry["sha256"],
        }

    @staticmethod
    def _require_listed(wanted: _Wanted) -> None:
        if wanted.version != wanted.entry["version"]:
            raise _Fault(
                f"{wanted.by}={wanted.version}: {wanted.entry['kind']} {wanted.name} is known in version "
                f"{wanted.entry['version']} only; choose that one."
            )


def bundle_plan(
    table: Mapping[str, Mapping[str, Any]],
    components: list[str],
    architecture: str,
    chosen: Mapping[str, Any],
    mirrors: Mapping[str, str],
) -> dict[str, Any]:
    """Return what goes into a bundle.

    Args:
        table: component to version, kind and origin.
        components: names; none: all that upstream publishes.
        architecture: amd64 or arm64.
        chosen: variable to value, for other versions and their SHA-256.
        mirrors: origin to mirror.
    """
    if not isinstance(components, list):
        fault = (
            f'bundle_components={components} is no list; write it like {{"bundle_components": ["kubectl", "helm"]}}.'
        )
        return {"artifacts": [], "faults": [fault], "left_out": []}
    published = [name for name, entry in table.items() if entry["kind"] != "source"]
    unknown = [name for name in components if name not in published]
    faults = []
    if unknown:
        faults.append(
            f"bundle_components={', '.join(map(str, unknown))} is not known; choose of: {', '.join(published)}."
        )
    if architecture not in ARCHITECTURES:
        faults.append(f"bundle_architecture={architecture} is not known; choose one of: {', '.join(ARCHITECTURES)}.")
        return {"artifacts": [], "faults": faults, "left_out": []}
    names = [name for name in published if not components or name in components]
    plan = _Plan(table, architecture, chosen, mirrors)
    artifacts, left_out = [], []
    for wanted in [wanted for name in names for wanted in plan.wanted(name, names)]:
        try:
            artifacts.append(plan.artifact(wanted))
        except _Unknown as error:
            if wanted.by or components:
                faults.append(str(error))
            else:
                left_out.append({"name": wanted.name, "why": str(error)})
        except _Fault as error:
            faults.append(str(error))
    return {"artifacts": artifacts, "faults": faults, "left_out": left_out}


class FilterModule:
    """Filters of this collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name to function."""
        return {"bundle_plan": bundle_plan}
