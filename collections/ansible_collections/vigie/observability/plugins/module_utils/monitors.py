# Copyright: Vigie maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Does a ServiceMonitor lead Prometheus to its targets, and if not, which link is the first that is broken?

The links are those of the Prometheus operator: Prometheus selects the ServiceMonitor, which selects Services and names a port of
them; behind that port there are ready pods; and the operator writes a scrape configuration, which Prometheus loads. What is
asked is read-only, and what can't be asked is a note and no verdict.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Prometheus, Target, reading
from ansible_collections.vigie.observability.plugins.module_utils.selectors import (
    Requirement,
    difference,
    joined,
    labels_of,
    nearest,
    requirements,
    unmet,
)
from ansible_collections.vigie.observability.plugins.module_utils.timestamps import format_time
from ansible_collections.vigie.observability.plugins.module_utils.verdict import CheckError

if TYPE_CHECKING:
    from ansible_collections.vigie.observability.plugins.module_utils.cluster import Api
    from ansible_collections.vigie.observability.plugins.module_utils.kubeconfig import ApiServer

WALK_REQUESTS = 3
"""The whole walk may take as long as this many requests: one that hangs ends it, and many that drag along do too."""

_GROUP = "/apis/monitoring.coreos.com/v1"
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LISTED = 5

_Object = dict[str, Any]
Broken = tuple[str, str]
"""A reason and its hint."""


class Monitor:
    """A ServiceMonitor that is expected to make the targets of a job.

    Args:
        option: the option ``monitor`` of module ``scrape_check``.
        keep_secret: gets the texts that must never be printed, as soon as they are read.
        name: name of the option, for messages.

    Attributes:
        pools: what the names of its scrape configurations begin with.
        seen: what the walk found, for people.
        spec: its specification, once it was read.

    Raises:
        CheckError: ``bad_option`` for a name that can't be one, or a file that isn't there.
    """

    def __init__(
        self,
        option: Mapping[str, Any],
        keep_secret: Callable[[frozenset[str]], None] = lambda secrets: None,
        name: str = "monitor",
    ) -> None:
        given = option.get("prometheus") or {}
        for key, value in (
            ("namespace", option.get("namespace")),
            ("name", option.get("name")),
            *((f"prometheus.{key}", given[key]) for key in given),
        ):
            if not (_NAMESPACE if key.endswith("namespace") else _NAME).fullmatch(str(value)):
                raise CheckError(
                    "bad_option",
                    f"{name}.{key}={value} is no name in Kubernetes; it has lower-case letters, digits and hyphens.",
                )
        # The rest of the file is looked at when it is needed: most checks never come to that.
        kubeconfig = option.get("kubeconfig")
        if kubeconfig and not Path(kubeconfig).expanduser().is_file():
            raise CheckError(
                "bad_option",
                f"{name}.kubeconfig={kubeconfig} is missing; set it to the cluster's, and check it with 'kubectl config view'.",
            )
        self._option = option
        self._option_name = name
        self._keep_secret = keep_secret
        self._namespace = str(option["namespace"])
        self._name = str(option["name"])
        self._chosen = (str(given["namespace"]), str(given["name"])) if given else None
        self.pools = f"serviceMonitor/{self._namespace}/{self._name}/"
        self.spec: _Object = {}  # of the ServiceMonitor
        self.seen: _Object = {}
        self._notes: list[str] = []
        self._server: ApiServer  # known once it was connected to
        self._api: Api
        self._deadline = Deadline(0)
        self._ends = 0.0
        self._object: _Object = {}
        self._prometheuses: list[_Object] = []
        self._others: list[str] = []
        self._services: list[_Object] | None = None
        self._found_pods: dict[tuple[str, str], list[_Object]] = {}

    def __str__(self) -> str:
        """How to call it in a sentence."""
        return f"ServiceMonitor {self._namespace}/{self._name}"

    @property
    def note(self) -> str:
        """What could not be looked at and why, as the end of a sentence; empty when everything could."""
        if not self._notes:
            return ""
        return f"; not every link of {self} could be checked: {'; '.join(self._notes)}"

    def made(self, targets: list[Target]) -> list[Target]:
        """Return the targets that it made, whatever their labels are."""
        return [target for target in targets if target.pool.startswith(self.pools)]

    def look(self, deadline: Deadline, prometheus: Prometheus, targets: list[Target]) -> Broken | None:
        """Walk along the links.

        Args:
            deadline: bounds each request, and with WALK_REQUESTS all of them.
            prometheus: the server that should scrape.
            targets: those that it scrapes.

        Returns:
            The first broken link, or None when none was found. What could not be asked is in ``note``.
        """
        self._ends = time.monotonic() + WALK_REQUESTS * deadline.request_timeout
        self._deadline = deadline
        try:
            self._connect()
            with contextlib.closing(self._api):
                return self._walk() or self._loaded(prometheus, targets)
        except CheckError as error:
            self._notes.append(error.hint.rstrip("."))
            return None

    def _connect(self) -> None:
        # What it takes costs time, and most checks never need it.
        from ansible_collections.vigie.observability.plugins.module_utils.cluster import Api
        from ansible_collections.vigie.observability.plugins.module_utils.kubeconfig import load_api_server

        self._server = load_api_server(self._option.get("kubeconfig"), self._option.get("context"), self._option_name)
        self._keep_secret(self._server.secrets)
        self._api = Api(self._server, self._option_name, self._deadline.request_timeout)

    def _walk(self) -> Broken | None:
        links = [self._is_there, self._is_selected, self._selects_services, self._names_a_port, self._has_endpoints]
        for link in links:
            try:
                # An object that isn't of the documented form is not the link that was looked for.
                with reading("answer of the API server"):
                    broken = link()
            except CheckError as error:
                if error.reason != "access_denied":
                    raise
                # What may not be seen doesn't keep the rest from being looked at.
                self._notes.append(error.hint.rstrip("."))
                broken = None
                if link == self._is_there:
                    break
            if broken:
                return broken
        return None

    def _see(self, key: str, name: str) -> None:
        """Add a name to what was found, once and not without end."""
        names = self.seen.setdefault(key, [])
        if name not in names and len(names) < _LISTED:
            names.append(name)

    # --- questions ---

    def _ask(self, path: str, what: str) -> _Object | None:
        """Return an object or a list, or None when there is no such thing; see Api.ask."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise CheckError("timeout", "The API server is too slow to answer all questions in time", transient=True)
        self._api.renew(min(left, self._deadline.request_timeout))
        return self._api.ask(path, what)

    def _items(self, path: str, what: str) -> list[_Object]:
        return list((self._ask(path, what) or {}).get("items") or [])

    def _if_allowed(self, path: str, what: str) -> list[_Object]:
        """Return a list that only makes a message better; nothing when it may not be seen."""
        try:
            return self._items(path, what)
        except CheckError as error:
            if error.reason != "access_denied":
                raise
            return []

    def _list(self, resource: str, namespace: str | None, *, needed: bool = True) -> list[_Object]:
        """Return the objects of a core resource in a namespace, or in all of them."""
        path = f"/api/v1/namespaces/{namespace}/{resource}" if namespace else f"/api/v1/{resource}"
        what = f"{resource} -n {namespace}" if namespace else f"{resource} -A"
        return (self._items if needed else self._if_allowed)(path, what)

    def _pods(self, service: _Object) -> list[_Object]:
        """Return the pods that a Service selects."""
        where = (_namespace(service), _name(service))
        if where not in self._found_pods:
            selector = (service.get("spec") or {}).get("selector") or {}
            query = urlencode({"labelSelector": ",".join(f"{key}={value}" for key, value in selector.items())})
            path = f"/api/v1/namespaces/{where[0]}/pods?{query}"
            self._found_pods[where] = self._items(path, f"pods -n {where[0]}") if selector else []
        return self._found_pods[where]

    def _show(self, command: str, namespace: str | None = None) -> str:
        where = f" -n {namespace}" if namespace else ""
        return f"see '{self._server.kubectl}{where} {command}'"

    @property
    def _show_monitor(self) -> str:
        return self._show(f"get servicemonitor {self._name} -o yaml", self._namespace)

    # --- the links ---

    def _is_there(self) -> Broken | None:
        path = f"{_GROUP}/namespaces/{self._namespace}/servicemonitors"
        what = f"servicemonitors.monitoring.coreos.com -n {self._namespace}"
        found = self._ask(f"{path}/{self._name}", what)
        if found is not None:
            self._object = found
            self.spec = dict(found.get("spec") or {})
            self.seen["labels"] = labels_of(found)
            return None
        kinds = {one.get("name") for one in (self._ask(_GROUP, "") or {}).get("resources") or []}
        if "servicemonitors" not in kinds:
            return (
                "monitor_missing",
                "The cluster has no kind ServiceMonitor, because the definitions of the Prometheus operator are not installed; "
                f"{self._show('api-resources --api-group=monitoring.coreos.com')}.",
            )
        names = [_name(one) for one in self._if_allowed(path, what)]
        others = f"only {_some(names)}" if names else "nor any other in that namespace"
        return (
            "monitor_missing",
            f"There is no {self}, {others}; {self._show('get servicemonitors -A')}.",
        )

    def _is_selected(self) -> Broken | None:
        what = "prometheuses.monitoring.coreos.com"
        if self._chosen:
            namespace, name = self._chosen
            found = self._ask(f"{_GROUP}/namespaces/{namespace}/prometheuses/{name}", f"{what} -n {namespace}")
            if found is None:
                return (
                    "monitor_not_selected",
                    f"There is no Prometheus {namespace}/{name} that could select {self}; {self._show('get prometheuses -A')}.",
                )
            candidates = [found]
        else:
            candidates = self._items(f"{_GROUP}/prometheuses", f"{what} -A")
            if not candidates:
                return (
                    "monitor_not_selected",
                    f"The cluster has no object of kind Prometheus that could select {self}; {self._show('get prometheuses -A')}.",
                )
        refusals = [self._refusal(candidate) for candidate in candidates]
        self._others = [_full_name(one) for one, refusal in zip(candidates, refusals, strict=True) if refusal]
        self._prometheuses = [one for one, refusal in zip(candidates, refusals, strict=True) if not refusal]
        self.seen["prometheus"] = [_full_name(one) for one in self._prometheuses]
        if self._prometheuses:
            return self._is_accepted()
        return "monitor_not_selected", f"{_some(refusals, ', and ')}."

    def _refusal(self, prometheus: _Object) -> str:
        """Return why a Prometheus doesn't select the ServiceMonitor; empty when it does."""
        spec = prometheus.get("spec") or {}
        who = f"Prometheus {_full_name(prometheus)}"
        show = self._show(f"get prometheus {_name(prometheus)} -o yaml", _namespace(prometheus))
        # A missing selector selects nothing, an empty one everything.
        selector = spec.get("serviceMonitorSelector")
        if selector is None:
            return f"{who} has no serviceMonitorSelector, so it takes no ServiceMonitor at all; {show}"
        wanted = requirements(selector)
        if unmet(wanted, labels_of(self._object)):
            shown = self._show(f"get servicemonitor {self._name} --show-labels", self._namespace)
            return (
                f"{who} takes only ServiceMonitors with {joined(wanted)} (serviceMonitorSelector), but {self} has "
                f"{difference(wanted, labels_of(self._object))}; {shown}"
            )
        # A missing selector of namespaces means the own one, an empty one all.
        selector = spec.get("serviceMonitorNamespaceSelector")
        if selector is None:
            if _namespace(prometheus) == self._namespace:
                return ""
            return (
                f"{who} has no serviceMonitorNamespaceSelector, so it takes ServiceMonitors of its own namespace only, but {self} "
                f"is in another; {show}"
            )
        wanted = requirements(selector)
        if not wanted:
            return ""
        namespace = self._ask(f"/api/v1/namespaces/{self._namespace}", "namespaces") or {}
        if not unmet(wanted, labels_of(namespace)):
            return ""
        shown = self._show(f"get namespace {self._namespace} --show-labels")
        return (
            f"{who} takes ServiceMonitors only from namespaces with {joined(wanted)} (serviceMonitorNamespaceSelector), but "
            f"namespace {self._namespace} has {difference(wanted, labels_of(namespace))}; {shown}"
        )

    def _is_accepted(self) -> Broken | None:
        """Look for a rejection in the ServiceMonitor's status, where the operator keeps one (a feature gate of it)."""
        names = {(_namespace(one), _name(one)) for one in self._prometheuses}
        for binding in (self._object.get("status") or {}).get("bindings") or []:
            if (
                binding.get("resource") != "prometheuses"
                or (binding.get("namespace"), binding.get("name")) not in names
            ):
                continue
            for condition in binding.get("conditions") or []:
                current = condition.get("observedGeneration") in (None, self._object["metadata"].get("generation"))
                if condition.get("type") == "Accepted" and condition.get("status") == "False" and current:
                    return self._rejected(f"{condition.get('reason')}: {condition.get('message')}")
        return None

    def _rejected(self, said: str) -> Broken:
        show = self._show(f"describe servicemonitor {self._name}", self._namespace)
        return "monitor_rejected", f"The operator rejects {self} ({_short(said)}); {show}."

    def _selects_services(self) -> Broken | None:
        selector = self.spec.get("namespaceSelector") or {}
        confined = all((one.get("spec") or {}).get("ignoreNamespaceSelectors") for one in self._prometheuses)
        namespaces: list[str | None]
        if self._prometheuses and confined:
            namespaces = [self._namespace]
        elif selector.get("any"):
            namespaces = [None]
        else:
            namespaces = [str(one) for one in selector.get("matchNames") or [self._namespace]]
        wanted = requirements(self.spec.get("selector") or {})
        services = [one for place in namespaces for one in self._list("services", place)]
        self._services = [one for one in services if not unmet(wanted, labels_of(one))]
        self.seen["services"] = [_full_name(one) for one in self._services[:_LISTED]]
        if self._services:
            return None
        asked = f"with {joined(wanted)}, which {self} asks for" if wanted else f"that {self} could select"
        if None in namespaces:
            place, show = "in the whole cluster", self._show("get services -A --show-labels")
        else:
            place = f"in namespace {', '.join(str(one) for one in namespaces)}"
            show = self._show("get services --show-labels", namespaces[0])
            away = [one for one in self._list("services", None, needed=False) if not unmet(wanted, labels_of(one))]
            if away and wanted:
                bound = (
                    "Prometheus ignores namespaceSelector"
                    if confined and self._prometheuses
                    else "correct its namespaceSelector"
                )
                return (
                    "service_not_selected",
                    f"There is no Service {place} {asked}, but {_full_name(away[0])} has these labels; {bound}; "
                    f"{self._show(f'get services -A -l {_quoted(joined(wanted))}')}.",
                )
        ports = {one.get("port") for one in self._endpoints()}
        closest = nearest(wanted, services, lambda one: bool(ports & {port.get("name") for port in _ports(one)}))
        if closest is None:
            return "service_not_selected", f"There is no Service {place} {asked}, nor any other; {show}."
        return (
            "service_not_selected",
            f"There is no Service {place} {asked}; nearest comes {_full_name(closest)}, which has "
            f"{difference(wanted, labels_of(closest))}; {show}.",
        )

    def _endpoints(self) -> list[_Object]:
        return list(self.spec.get("endpoints") or [])

    def _names_a_port(self) -> Broken | None:
        if not self._endpoints():
            return "port_unknown", f"{self} has no endpoints, so it makes no targets; {self._show_monitor}."
        for endpoint in self._endpoints() if self._services else []:
            if endpoint.get("port"):
                broken = self._port_of_service(str(endpoint["port"]))
            elif endpoint.get("targetPort"):
                broken = self._port_of_pod(endpoint["targetPort"])
            else:
                broken = None
            if broken:
                return broken
        return None

    def _with_port(self, wanted: str) -> list[_Object]:
        """Return the selected Services that have a port of that name; an empty name is every port."""
        services = self._services or []
        return [one for one in services if not wanted or any(_means(wanted, port) for port in _ports(one))]

    def _port_of_service(self, wanted: str) -> Broken | None:
        if self._with_port(wanted):
            return None
        service = (self._services or [])[0]
        known = ", ".join(
            f"{port['name']} ({port.get('port')})" if port.get("name") else f"{port.get('port')} without a name"
            for port in _ports(service)
        )
        remedy = ""
        if any(wanted in (str(port.get("port")), str(port.get("targetPort"))) for port in _ports(service)):
            remedy = "; a ServiceMonitor's port is the name of the Service's port, not its number or target"
        show = self._show(f"get service {_name(service)} -o yaml", _namespace(service))
        return (
            "port_unknown",
            f"{self} names port {wanted}, but Service {_full_name(service)} has {known or 'none'}{remedy}; {show}.",
        )

    def _port_of_pod(self, wanted: int | str) -> Broken | None:
        key = "name" if isinstance(wanted, str) else "containerPort"
        known = set()
        for service in self._services or []:
            for port in _container_ports(self._pods(service)):
                if port.get(key) == wanted:
                    return None
                known.add(
                    f"{port['name']} ({port.get('containerPort')})"
                    if port.get("name")
                    else str(port.get("containerPort"))
                )
        pods = [pod for service in self._services or [] for pod in self._pods(service)]
        if not pods:
            return None  # the next link says so
        show = self._show(f"get pod {_name(pods[0])} -o yaml", _namespace(pods[0]))
        return (
            "port_unknown",
            f"{self} names targetPort {wanted}, but the containers declare {', '.join(sorted(known)) or 'no port at all'}; {show}.",
        )

    def _has_endpoints(self) -> Broken | None:
        for endpoint in self._endpoints():
            wanted = str(endpoint.get("port") or "")
            stories = [self._behind(service, wanted) for service in self._with_port(wanted)]
            broken = [story for story in stories if story]
            if broken and len(broken) == len(stories):
                return broken[0]
        return None

    def _behind(self, service: _Object, wanted: str) -> Broken | None:
        """Return why there is no ready endpoint behind a port of a Service, or None when there is one."""
        namespace, name = _namespace(service), _name(service)
        spec = service.get("spec") or {}
        who = f"Service {namespace}/{name}"
        show = self._show(f"get endpointslices -l kubernetes.io/service-name={name}", namespace)
        query = urlencode({"labelSelector": f"kubernetes.io/service-name={name}"})
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{query}"
        portless = False
        ready: set[str] = set()
        for item in self._items(path, f"endpointslices.discovery.k8s.io -n {namespace}"):
            with_port = any(not wanted or _means(wanted, port) for port in item.get("ports") or [])
            for one in item.get("endpoints") or []:
                known_as = str((one.get("targetRef") or {}).get("name") or ", ".join(one.get("addresses") or []))
                # Not told means ready.
                if (one.get("conditions") or {}).get("ready") is False:
                    self._see("not_ready", known_as)
                elif with_port:
                    ready.add(known_as)
                    self._see("ready", known_as)
                else:
                    portless = True
        if ready:
            return None
        if spec.get("type") == "ExternalName":
            hint = f"{who} is an ExternalName for {spec.get('externalName')}, which Prometheus finds no endpoints of; {show}."
            return "no_endpoints", hint
        if portless:
            port = next((port for port in _ports(service) if not wanted or _means(wanted, port)), None)
            if port is None:
                return "port_unknown", f"{who} has no ports, so Prometheus makes no targets of it; {show}."
            return (
                "port_unknown",
                f"Port {port.get('name') or port.get('port')} of {who} leads to targetPort {port.get('targetPort')}, which no "
                f"container of its ready pods has; {show}.",
            )
        if not spec.get("selector"):
            return "no_endpoints", f"{who} selects no pods, and nobody else wrote endpoints for it; {show}."
        try:
            return self._unready(service)
        except CheckError as error:
            if error.reason != "access_denied":
                raise
            self._notes.append(error.hint.rstrip("."))
            return "no_endpoints", f"{who} has no ready endpoint; {show}."

    def _unready(self, service: _Object) -> Broken:
        """Return why a Service that selects pods has none that is ready."""
        namespace = _namespace(service)
        who = f"Service {namespace}/{_name(service)}"
        wanted = requirements({"matchLabels": service["spec"]["selector"]})
        pods = self._pods(service)
        if not pods:
            others = self._list("pods", namespace, needed=False)
            closest = nearest(wanted, others)
            near = ""
            # Every pod has labels; one that shares none of the keys is just another program.
            if closest and any(one.key in labels_of(closest) for one in wanted):
                near = f"; nearest comes {_name(closest)}, which has {difference(wanted, labels_of(closest))}"
            return (
                "no_endpoints",
                f"No pod has the labels {joined(wanted)} that {who} selects{near}; {self._show('get pods --show-labels', namespace)}.",
            )
        states = [f"{_name(pod)} {pod_state(pod)}" for pod in pods]
        show = self._show(f"describe pod {_name(pods[0])}", namespace)
        return "no_endpoints", f"No pod behind {who} is ready: {_some(states, '; ')}; {show}."

    # --- what Prometheus has loaded ---

    def _loaded(self, prometheus: Prometheus, targets: list[Target]) -> Broken | None:
        """Return whether Prometheus has yet to load what the ServiceMonitor asks for now."""
        wanted = [f"{self.pools}{number}" for number, dummy in enumerate(self._endpoints())]
        idle = [name for name in wanted if name not in {target.pool for target in targets}]
        if not idle:
            return None
        known = prometheus.scrape_pools(self._deadline)
        absent = next((name for name in idle if name not in known), None)
        if absent:
            rejection = self._rejection()
            return rejection or self._pending(prometheus, f"Prometheus has no job {absent} yet")
        for name in idle:
            outdated = self._outdated(prometheus, name, self._endpoints()[int(name.rpartition("/")[2])])
            if outdated:
                return self._pending(prometheus, f"Prometheus still runs {name} with {outdated}")
        return None

    def _pending(self, prometheus: Prometheus, what: str) -> Broken:
        succeeded, loaded = prometheus.last_reload(self._deadline)
        created = (self._object.get("metadata") or {}).get("creationTimestamp") or "?"
        said = [f"{what}: it loaded its configuration at {format_time(loaded)}, {self} was created at {created}"]
        if not succeeded:
            said.append("its last reload failed, so an older configuration is in force")
        for one in self._prometheuses:
            if (one.get("spec") or {}).get("paused"):
                said.append(f"Prometheus {_full_name(one)} is paused, so the operator leaves it alone")
            for condition in (one.get("status") or {}).get("conditions") or []:
                if condition.get("type") == "Reconciled" and condition.get("status") != "True":
                    said.append(f"the operator says {condition.get('reason')}: {_short(str(condition.get('message')))}")
        if len(said) == 1:
            said.append("the operator may not run or not watch this namespace, or the reloader may not have seen it")
        if self._prometheuses and self._others:
            selecting = _some([_full_name(one) for one in self._prometheuses])
            said.append(f"only Prometheus {selecting} selects it, {_some(self._others)} doesn't")
        first = self._prometheuses[0] if self._prometheuses else None
        show = self._show(f"describe prometheus {_name(first)}", _namespace(first)) if first else self._show_monitor
        return "configuration_pending", f"{'; '.join(said)}; {show}."

    def _rejection(self) -> Broken | None:
        """Look for the event by which the operator says that it rejects this very version of the ServiceMonitor."""
        metadata = self._object.get("metadata") or {}
        fields = f"involvedObject.kind=ServiceMonitor,involvedObject.name={self._name}"
        path = f"/api/v1/namespaces/{self._namespace}/events?{urlencode({'fieldSelector': fields})}"
        for event in self._if_allowed(path, f"events -n {self._namespace}"):
            about = event.get("involvedObject") or {}
            same = all(about.get(key) == metadata.get(key) for key in ("uid", "resourceVersion"))
            if same and (event.get("type"), event.get("reason")) == ("Warning", "InvalidConfiguration"):
                return self._rejected(str(event.get("message") or event.get("note")))
        return None

    def _outdated(self, prometheus: Prometheus, name: str, endpoint: _Object) -> str:
        """Return which rule of the loaded job the ServiceMonitor doesn't ask for any more; empty when none is found.

        Only rules are compared that the operator surely made, and only such as keep targets away.
        """
        import yaml  # kubeconfigs need it too

        try:
            loaded = yaml.load(prometheus.config(self._deadline), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
        except yaml.YAMLError:
            return ""
        jobs = loaded.get("scrape_configs") or [] if isinstance(loaded, dict) else []
        job: _Object = next((one for one in jobs if one.get("job_name") == name), {})
        rules = _kept(requirements(self.spec.get("selector") or {}))
        for rule in job.get("relabel_configs") or []:
            sources = tuple(rule.get("source_labels") or [])
            regex = str(rule.get("regex"))
            if rule.get("action", "replace") != "keep" or not sources:
                continue
            if re.fullmatch(r"__meta_kubernetes_(endpoint|endpointslice)_port_name", sources[0]):
                if regex != endpoint.get("port"):
                    return f"port {regex}"
            elif sources[-1].startswith("__meta_kubernetes_service_labelpresent_") and (sources, regex) not in rules:
                return f"{' and '.join(sources)} {regex}"
        return ""

    # --- what it tells the plain reasons ---

    def dropped(self, discovered: list[dict[str, str]], job: str) -> list[dict[str, str]]:
        """Return those of the dropped targets that its Services and ports should have made.

        The operator's own rules drop every other Service of the namespace, so a dropped target as such says nothing.

        Args:
            discovered: labels of the dropped targets.
            job: label that it should have, which is what old versions (2.42) show already; later ones show the pool.
        """
        names = {(_namespace(one), _name(one)) for one in self._services or []}
        ports = [str(one.get("port") or "") for one in self._endpoints()]
        return [
            labels
            for labels in discovered
            if (labels.get("job") == job or labels.get("job", "").startswith(self.pools))
            and (labels.get("__meta_kubernetes_namespace"), labels.get("__meta_kubernetes_service_name")) in names
            and any(
                not port or port == labels.get(f"__meta_kubernetes_{role}_port_name")
                for port in ports
                for role in ("endpoint", "endpointslice")
            )
        ]

    @property
    def job_rule(self) -> str:
        """Where the label ``job`` of its targets comes from."""
        label = self.spec.get("jobLabel")
        if label:
            return f"it is the Service's label {label} (jobLabel), or else the Service's name"
        return f"it is the Service's name, because {self} has no jobLabel" if self.spec else "jobLabel decides it"

    @property
    def permission(self) -> str:
        """The command that shows whether Prometheus may discover targets; empty when that isn't known."""
        if not self._prometheuses or not self._services:
            return ""
        one = self._prometheuses[0]
        spec = one.get("spec") or {}
        account = f"{_namespace(one)}:{spec.get('serviceAccountName') or 'default'}"
        # The operator's default is the older kind, which clusters keep beside the slices.
        role = self.spec.get("serviceDiscoveryRole") or spec.get("serviceDiscoveryRole")
        kind = "endpointslices" if role == "EndpointSlice" else "endpoints"
        command = f"auth can-i list {kind} --as system:serviceaccount:{account}"
        return f"it may lack the permission, {self._show(command, _namespace(self._services[0]))}"


def pod_state(pod: _Object) -> str:
    """Return in words why a pod isn't ready: why a container waits, how it ended last, or what it has yet to pass."""
    status = pod.get("status") or {}
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return "is being deleted"
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = container.get("state") or {}
        ended = (container.get("lastState") or {}).get("terminated")
        last = f", after it {_ending(ended)}" if ended else ""
        name = f"container {container.get('name')}"
        waiting = state.get("waiting")
        if waiting is not None:
            why = f" ({_short(waiting['message'])})" if waiting.get("message") and not ended else ""
            return f"waits in {name}: {waiting.get('reason') or 'waiting'}{why}{last}"
        terminated = state.get("terminated")
        if terminated and (terminated.get("exitCode") or container in (status.get("containerStatuses") or [])):
            return f"has stopped: {name} {_ending(terminated)}"
        if state.get("running") is not None and container.get("ready") is False:
            return f"isn't ready: {name} runs but its readiness probe doesn't succeed{last}"
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"is not scheduled ({_short(str(condition.get('message') or condition.get('reason')))})"
    phase = status.get("phase") or "unknown"
    if phase == "Running":
        ready = any(
            one.get("type") == "Ready" and one.get("status") == "True" for one in status.get("conditions") or []
        )
        return "is ready, but its endpoint isn't yet" if ready else "isn't ready"
    return f"is {phase}{' (' + status['reason'] + ')' if status.get('reason') else ''}"


def _ending(terminated: _Object) -> str:
    when = f" at {terminated['finishedAt']}" if terminated.get("finishedAt") else ""
    return f"ended with {terminated.get('exitCode')} ({terminated.get('reason') or 'no reason'}){when}"


def _quoted(text: str) -> str:
    """Return a text that stands within single quotes as one word of a command."""
    return text if re.fullmatch(r"[\w./=,:-]+", text) else f'"{text}"'


def _kept(wanted: list[Requirement]) -> set[tuple[tuple[str, ...], str]]:
    """Return source labels and regex of the rules by which the operator keeps the Services that a selector selects."""
    rules: set[tuple[tuple[str, ...], str]] = set()
    for one in wanted:
        label = re.sub(r"[^a-zA-Z0-9_]", "_", one.key)
        present = f"__meta_kubernetes_service_labelpresent_{label}"
        if one.operator == "In":
            rules.add(((f"__meta_kubernetes_service_label_{label}", present), f"({'|'.join(one.values)});true"))
        elif one.operator == "Exists":
            rules.add(((present,), "true"))
    return rules


def _means(wanted: str, port: _Object) -> bool:
    """Return whether an endpoint's port means a port of that name; the operator makes a regular expression of it."""
    name = str(port.get("name") or "")
    try:
        return wanted == name or re.fullmatch(wanted, name) is not None
    except re.error:
        return False


def _name(item: _Object) -> str:
    return str((item.get("metadata") or {}).get("name"))


def _namespace(item: _Object) -> str:
    return str((item.get("metadata") or {}).get("namespace"))


def _full_name(item: _Object) -> str:
    return f"{_namespace(item)}/{_name(item)}"


def _ports(service: _Object) -> list[_Object]:
    return list((service.get("spec") or {}).get("ports") or [])


def _container_ports(pods: list[_Object]) -> Iterator[_Object]:
    for pod in pods:
        spec = pod.get("spec") or {}
        for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
            yield from container.get("ports") or []


def _some(texts: list[str], separator: str = ", ") -> str:
    more = f"{separator}{len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return f"{separator.join(texts[:_LISTED])}{more}"


def _short(text: str, limit: int = 200) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[:limit]}..."
