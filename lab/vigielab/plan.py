"""All that `make lab` makes, as steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from vigielab import archive, golang
from vigielab.components import LAB, REPOSITORY, Module, modules, versions
from vigielab.pypi import pip_install
from vigielab.rootfs import Root
from vigielab.steps import Job, Step

BINARIES = ("crictl", "helm", "kubeadm", "kubectl", "kubelet", "minikube")
"""Programs that a host needs as files."""
CRDS = "prometheus-operator-crds"
CLUSTER = (
    *BINARIES,
    *("coredns", "etcd", "kicbase", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler"),
    *("pause", "python", "storage-provisioner"),
)
"""What a cluster needs that runs the application and nothing else."""
CHARTS = ("kube-prometheus-stack",)
"""Charts of our own in charts/, which stand for those of the same name."""
PARTS = {
    "cluster": CLUSTER,
    "monitoring": (
        *CHARTS,
        CRDS,
        *("alertmanager", "kube-state-metrics", "mailpit", "node-exporter", "prometheus"),
        *("prometheus-config-reloader", "prometheus-operator"),
    ),
    "telemetry": ("elasticsearch", "jaeger", "node", "opentelemetry-collector"),
}
"""Names for several components, in the order in which a host needs them."""

ROOTS = (
    Root(
        name="node-root",
        variant="minbase",
        packages=(
            "systemd systemd-sysv dbus conntrack iptables iproute2 ethtool socat ebtables containerd runc containernetworking-plugins "
            "openssh-server sudo curl ca-certificates procps kmod mount util-linux iputils-ping jq python3 tar gzip zstd lz4 rsync"
        ),
        hook="node.sh",
        needs=("crictl", "kicbase-files"),
    ),
    Root(name="iptables-root", variant="essential", packages="iptables conntrack kmod"),
    Root(
        name="python-root",
        variant="essential",
        packages="python3 python3-pip ca-certificates",
        hook="python.sh",
        needs=("python-packages",),
    ),
    Root(
        name="nodejs-root",
        variant="essential",
        packages="libstdc++6 ca-certificates",
        hook="nodejs.sh",
        needs=("node-packages",),
    ),
    Root(
        name="elasticsearch-root",
        variant="essential",
        packages="openjdk-17-jre-headless ca-certificates",
        hook="java.sh",
        needs=("elasticsearch-jars",),
    ),
)
"""In the order of need: Minikube can't start without the first."""


def described() -> dict[str, dict[str, Any]]:
    """Return the images that are made."""
    images: dict[str, dict[str, Any]] = yaml.safe_load((LAB / "images.yml").read_text())
    return images


def steps(architecture: str) -> dict[str, Step]:
    """Return every step by name.

    Args:
        architecture: amd64 or arm64.
    """
    table = versions()
    known = modules()
    found = [golang.toolchain(table["go"]["version"])]
    for module in known.values():
        found += [golang.fetch(module), *golang.programs(module)]
    found += [_kicbase_files(known["minikube"]), _python_packages(table["python"]["version"]), _node_packages()]
    found += [_elasticsearch_jars(table["elasticsearch"]["version"]), _crds(known["prometheus-operator"])]
    found += [root.step(architecture) for root in ROOTS]
    found += [_chart(name, table[name]["version"]) for name in CHARTS]
    origins = {program: module.origin for module in known.values() for program in module.programs}
    for name, entry in described().items():
        found.append(_image(name, entry, table[name]["ref"], architecture, origins))
    return {step.name: step for step in found}


def image_step(name: str) -> str:
    """Return the name of the step that makes an image."""
    return f"{name}-image"


def chart_step(name: str) -> str:
    """Return the name of the step that packs a chart."""
    return f"{name}-chart"


def wanted(only: list[str]) -> list[str]:
    """Return the steps whose results go into the bundle: all, or those of the named components.

    The order is that in which they are best begun: Kubernetes takes longest, and most waits for the node's image.
    """
    binaries = [name for name in ("kubelet", *BINARIES) if not only or name in only]
    images = [image_step(name) for name in described() if not only or name in only]
    first = [image_step(name) for name in CLUSTER if image_step(name) in images]
    others = [CRDS] if not only or CRDS in only else []
    others += [chart_step(name) for name in CHARTS if not only or name in only]
    return list(dict.fromkeys([*binaries, *first, *images, *others]))


def _image(name: str, entry: dict[str, Any], ref: str, architecture: str, origins: dict[str, str]) -> Step:
    programs: dict[str, str] = entry.get("programs", {})
    root = entry.get("root")
    config = dict(entry.get("config", {}))
    if programs:
        config.setdefault("Entrypoint", [next(iter(programs))])
    origin = ", ".join(dict.fromkeys(origins[program] for program in programs.values())) or "Debian packages"

    def make(job: Job) -> None:
        layers = [job.results[root] / "root.tar"] if root else []
        if programs:
            own = job.scratch / "layer.tar"
            files: dict[str, Path | bytes] = {
                path: job.results[program] / program for path, program in programs.items()
            }
            archive.layer(own, files, folders={} if root else {"/tmp": 0o1777})  # noqa: S108 - in the image
            layers.append(own)
        archive.image(job.out / f"{name}.tar", ref, layers, architecture=architecture, config=config, origin=origin)

    return Step(
        name=image_step(name),
        make=make,
        recipe=[ref, architecture, entry, config, origin],
        files=(LAB / "vigielab" / "archive.py",),
        needs=tuple(dict.fromkeys([*([root] if root else []), *programs.values()])),
        lane="fetch",
    )


def _kicbase_files(minikube: Module) -> Step:
    """The files of Minikube's own recipe for its node image that the node needs as they are."""
    names = (
        *("entrypoint", "containerd.toml", "10-network-security.conf"),
        *("automount/minikube-automount", "automount/minikube-automount.service"),
    )
    version = minikube.module_version
    # Minikube warns where this isn't its own version.
    told = {"minikube_version": version, "iso_version": version, "kicbase_version": "lab", "commit": "source"}

    def make(job: Job) -> None:
        source = golang.module_folder(job, minikube, minikube.path) / "deploy" / "kicbase"
        for name in names:
            shutil.copyfile(source / name, job.out / Path(name).name)
        (job.out / "version.json").write_text(json.dumps(told))

    return Step(
        name="kicbase-files",
        make=make,
        recipe=[names, told],
        needs=(golang.TOOLCHAIN, f"{minikube.name}{golang.SOURCE}"),
        lane="fetch",
        listed=False,
    )


def _python_packages(version: str) -> Step:
    """The application's requirements, for the Python of the image."""
    requirements = REPOSITORY / "app" / "requirements.txt"

    def make(job: Job) -> None:
        pip_install(job, requirements, job.out / "packages", "--only-binary=:all:", f"--python-version={version}")

    return Step(name="python-packages", make=make, recipe=version, files=(requirements,), lane="fetch", listed=False)


def _node_packages() -> Step:
    """Node.js and npm themselves, and the requirements of the second service, each as its lock file pins it."""
    sources = {"runtime": LAB / "node", "catalog": REPOSITORY / "app" / "catalog"}
    names = ("package.json", "package-lock.json", ".npmrc")

    def make(job: Job) -> None:
        for name, source in sources.items():
            folder = job.out / name
            folder.mkdir()
            for file in names:
                shutil.copyfile(source / file, folder / file)
            job.run(["npm", "ci", "--silent", "--omit=dev", "--cache", job.root / "npm"], cwd=folder, attempts=3)

    files = tuple(source / name for source in sources.values() for name in names)
    return Step(name="node-packages", make=make, recipe=names, files=files, lane="fetch", listed=False)


def _elasticsearch_jars(version: str) -> Step:
    """Elasticsearch's jars, laid out as the server wants them, with a launcher of ours."""
    source = LAB / "elasticsearch"

    def make(job: Job) -> None:
        folder = job.scratch / "source"
        shutil.copytree(source, folder)
        repository = job.root / "maven"
        job.run(
            ["mvn", "-B", "-q", f"-Dmaven.repo.local={repository}", f"-Des.version={version}", "package"],
            cwd=folder,
            attempts=3,
        )
        shutil.move(folder / "target" / "es", job.out / "es")

    return Step(name="elasticsearch-jars", make=make, recipe=version, files=(source,), lane="fetch", listed=False)


def _crds(operator: Module) -> Step:
    """The operator's CustomResourceDefinitions, from its API types."""
    api = f"{operator.path}/pkg/apis/monitoring"
    packages = [f"paths={api}/v1", f"paths={api}/v1alpha1"]

    def make(job: Job) -> None:
        generated = job.scratch / "crds"
        job.run(
            [
                job.results["controller-gen"] / "controller-gen",
                "crd:crdVersions=v1",
                *packages,
                f"output:dir={generated}",
            ],
            cwd=golang.workspace(job, operator),
            env=golang.environment(job),
        )
        texts = [path.read_text() for path in sorted(generated.glob("*.yaml"))]
        (job.out / f"{CRDS}.yml").write_text("".join(texts))

    return Step(
        name=CRDS,
        make=make,
        recipe=[operator.module_version, packages],
        needs=(golang.TOOLCHAIN, f"{operator.name}{golang.SOURCE}", "controller-gen"),
    )


def _chart(name: str, version: str) -> Step:
    """A chart of ours, packed as Helm packs one."""
    source = LAB / "charts" / name

    def make(job: Job) -> None:
        archive.chart(job.out / f"{name}-{version}.tgz", source)

    return Step(
        name=chart_step(name),
        make=make,
        recipe=version,
        files=(source, LAB / "vigielab" / "archive.py"),
        lane="fetch",
    )


def entries(names: list[str], architecture: str) -> list[tuple[dict[str, str], str, str]]:
    """Return what the bundle holds: keys of the manifest, the step that makes the file, and the file's name in its result."""
    table = versions()
    origins = {program: module.origin for module in modules().values() for program in module.programs}
    found: list[tuple[dict[str, str], str, str]] = []

    def add(name: str, kind: str, file: str, step: str, source: str, **further: str) -> None:
        keys = {"name": name, "version": table[name]["version"], "kind": kind}
        found.append(
            (
                {
                    **keys,
                    "architecture": "noarch" if kind in ("manifest", "chart") else architecture,
                    "file": file,
                    **further,
                },
                step,
                source,
            )
        )

    for name in BINARIES:
        if name in names:
            add(name, "binary", f"binaries/{name}", name, name, origin=origins[name])
    for name in described():
        if image_step(name) in names:
            add(name, "image", f"images/{name}.tar", image_step(name), f"{name}.tar", ref=table[name]["ref"])
    if CRDS in names:
        add(CRDS, "manifest", f"manifests/{CRDS}.yml", CRDS, f"{CRDS}.yml")
    for name in CHARTS:
        if chart_step(name) in names:
            file = f"{name}-{table[name]['version']}.tgz"
            add(name, "chart", f"charts/{file}", chart_step(name), file)
    return found
