"""Ages, which a real Prometheus can't be made to have on purpose; the rest is in tests/contract/test_scrape_check.py."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.poll import Deadline
from ansible_collections.vigie.observability.plugins.module_utils.prometheus import Prometheus, Target
from ansible_collections.vigie.observability.plugins.module_utils.scraping import ScrapeCheck, _same_place


class Fake(Prometheus):
    """A Prometheus with one target, scraped at second 100."""

    address = "http://prometheus"

    def __init__(self, clock: float) -> None:
        self.clock = clock

    def targets(self, deadline: Deadline) -> list[Target]:
        return [Target({"job": "app"}, "http://app/metrics", "up", "", 100.0, "15s")]


def look(clock: float, **options: Any) -> Any:
    return ScrapeCheck(Fake(clock), "app", **options).look(Deadline(0))


@pytest.mark.parametrize("clock", [99.0, 100.0, 160.0])
def test_fresh_by_prometheus_own_clock(clock: float) -> None:
    verdict = look(clock)
    assert verdict.matched and verdict.times == {"last_scrape": 100.0}


def test_too_old() -> None:
    verdict = look(161.0)
    assert (verdict.matched, verdict.reason) == (False, "stale_scrape")
    assert "61 s before Prometheus' clock" in verdict.hint and "at most 60 s old" in verdict.hint
    assert look(161.0, max_age=100.0).matched


def test_since_is_exclusive() -> None:
    assert look(101.0, since=99.9).matched
    assert look(101.0, since=100.0).reason == "stale_scrape"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("http://127.0.0.1:80/metrics", "http://127.0.0.1/", True),
        ("https://127.0.0.1/metrics", "https://127.0.0.1:443", True),
        ("http://127.0.0.1:5000/metrics", "http://127.0.0.1:5001/metrics", False),
        ("http://127.0.0.1:5000/metrics", "http://127.0.0.2:5000/metrics", False),
        ("http://name.invalid:5000/metrics", "http://127.0.0.1:5000/metrics", False),
    ],
)
def test_the_same_place(first: str, second: str, same: bool) -> None:
    assert _same_place(first, second) is same
