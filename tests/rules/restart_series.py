"""Restart series of a container that keeps dying, as kube-state-metrics exposes them.

A container lives `life` seconds, dies, waits as its supervisor's law says, needs `latency` seconds to run again, dies again.
The counter moves when the container is started again. A `Pod` turns this into the series that Prometheus would hold:
scraped at its own phase, absent during an outage of Prometheus, marked stale when the object or its waiting state is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from math import inf
from typing import Protocol

NAMESPACE = "vigie"
CONTAINER = "flask-metrics"
DAY = 86400


class Law(Protocol):
    """How long a supervisor waits before it starts a dead process again."""

    def waits(self, life: float) -> Iterator[float]:
        """Yield the wait in seconds before each restart of a process that lives `life` seconds; infinite: given up."""


@dataclass(frozen=True)
class Kubelet:
    """Restart at once, then 10 s doubled up to `cap` seconds; a run longer than `reset` seconds starts over."""

    cap: float = 300
    reset: float = 600

    def waits(self, life: float) -> Iterator[float]:
        """See `Law.waits`."""
        yield 0
        wait = 10.0
        while True:
            yield 0 if life > self.reset else min(wait, self.cap)
            wait = min(2 * wait, self.cap)


@dataclass(frozen=True)
class Supervisor:
    """supervisord: restart at once after `startsecs` of running; else wait 1, 2, 3 ... s and give up after `startretries`."""

    startsecs: float = 1
    startretries: int = 3

    def waits(self, life: float) -> Iterator[float]:
        """See `Law.waits`."""
        if life >= self.startsecs:
            return repeat(0.0)
        return chain(map(float, range(1, self.startretries + 1)), [inf])


@dataclass(frozen=True)
class Crash:
    """One death and what follows, in seconds on the test's clock."""

    at: float
    wait_until: float
    restart: float


@dataclass(frozen=True)
class Pod:
    """A pod with one container that crashes, and how Prometheus looks at it.

    Times are seconds on the test's clock, which starts at 0. `born=None` is a pod one day older than the test, whose first
    crash comes at `first_crash`; a pod with `born` runs from then and dies after its first `life`. `history` restarts
    happened long ago; `crashes` deaths happen (None: for ever), after the last restart the container stays up. At `gone`
    the pod is deleted. Prometheus scrapes at `phase`, `phase + scrape` ... and is down in each of `outages`. `exporter`
    labels the scraping side (instance, job); from `moved` on it has a new address.
    """

    name: str
    life: float = 1
    law: Law = field(default_factory=Kubelet)
    latency: float = 1
    born: float | None = None
    first_crash: float = 1000
    history: int = 0
    crashes: int | None = None
    gone: float | None = None
    scrape: int = 30
    phase: int = 7
    outages: tuple[tuple[float, float], ...] = ()
    moved: float | None = None

    @property
    def uid(self) -> str:
        """Return the uid of the pod's object."""
        return f"uid-{self.name}"

    def timeline(self, until: float) -> list[Crash]:
        """Return the crashes that happen before `until` (seconds)."""
        crashes: list[Crash] = []
        at = self.first_crash if self.born is None else self.born + self.latency + self.life
        for wait in self.law.waits(self.life):
            if at > until or len(crashes) == self.crashes or (self.gone is not None and at > self.gone):
                break
            crashes.append(Crash(at, at + wait, at + wait + self.latency))
            at = crashes[-1].restart + self.life
        return crashes

    def restarts(self, until: float) -> list[float]:
        """Return the times (seconds) at which the restart counter moves, up to `until`."""
        alive = until if self.gone is None else min(until, self.gone)
        return [crash.restart for crash in self.timeline(until) if crash.restart <= alive]

    def exists(self, at: float) -> bool:
        """Tell whether the pod's object is there at `at` seconds."""
        return (self.born is None or at >= self.born) and (self.gone is None or at < self.gone)

    def series(self, step: int, until: int) -> list[dict[str, str]]:
        """Return promtool `input_series` on a grid of `step` seconds up to `until` seconds.

        Raises ValueError when the scrapes do not fall on the grid.
        """
        if self.scrape % step or self.phase % step:
            raise ValueError(f"scrape {self.scrape} s and phase {self.phase} s must be multiples of the step {step} s")
        timeline = self.timeline(until)
        restarts = self.restarts(until)
        created = -DAY if self.born is None else self.born
        labels = f'namespace="{NAMESPACE}",pod="{self.name}",uid="{self.uid}"'
        container = f'{labels},container="{CONTAINER}"'

        def total(at: float) -> float | None:
            return self.history + sum(restart <= at for restart in restarts) if self.exists(at) else None

        def waiting(at: float) -> float | None:
            return 1 if self.exists(at) and any(crash.at <= at < crash.wait_until for crash in timeline) else None

        def age(at: float) -> float | None:
            return created if self.exists(at) else None

        result = []
        for name, selector, value in (
            ("kube_pod_container_status_restarts_total", container, total),
            ("kube_pod_container_status_waiting_reason", f'{container},reason="CrashLoopBackOff"', waiting),
            ("kube_pod_created", labels, age),
        ):
            for instance, start, end in self._exporters(until):
                samples: list[float | str | None] = []
                present = False
                for at in range(0, until + 1, step):
                    scraped = at >= self.phase and (at - self.phase) % self.scrape == 0
                    if not scraped or any(begin <= at < finish for begin, finish in self.outages):
                        samples.append(None)
                        continue
                    sample = value(at) if start <= at < end else None
                    # A series that was in the last scrape and is not in this one is marked stale by Prometheus.
                    samples.append("stale" if sample is None and present else sample)
                    present = sample is not None
                if any(sample is not None for sample in samples):
                    result.append(
                        {
                            "series": f'{name}{{{selector},job="kube-state-metrics",instance="{instance}"}}',
                            "values": encode(samples),
                        }
                    )
        return result

    def _exporters(self, until: int) -> list[tuple[str, float, float]]:
        """Return (instance, from, to) of the exporter's addresses."""
        if self.moved is None:
            return [("10.0.0.1:8080", 0, until + 1)]
        return [("10.0.0.1:8080", 0, self.moved), ("10.0.0.2:8080", self.moved, until + 1)]


def encode(samples: list[float | str | None]) -> str:
    """Write samples in promtool's notation; None is a missing sample."""
    words: list[str] = []
    missing = 0
    for sample in [*samples, "end"]:
        if sample is None:
            missing += 1
            continue
        if missing:
            words.append(f"_x{missing}")
            missing = 0
        words.append(sample if isinstance(sample, str) else f"{sample:g}")
    return " ".join(words[:-1])
