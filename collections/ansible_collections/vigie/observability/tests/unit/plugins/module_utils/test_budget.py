from __future__ import annotations

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.budget import ALLOWANCES, budgets, in_ticks

SHIPPED = {
    "scrape_interval": 3.0,
    "evaluation_interval": 3.0,
    "for": 0.0,
    "keep_firing_for": 0.0,
    "group_wait": 2.0,
    "group_interval": 5.0,
    "repeat_interval": 14400.0,
}


def test_the_stages_add_up() -> None:
    total, parts = budgets(SHIPPED, ALLOWANCES)
    assert total == {
        "scraped": 3.5,
        "firing": 3.5,
        "routed": 1.0,
        "mailed": 3.5,
        "resolved": 14.5,
        "end_to_end": 11.5,
    }
    for stage, pieces in parts.items():
        assert sum(pieces.values()) == pytest.approx(total[stage])
    assert total["end_to_end"] == pytest.approx(
        sum(total[stage] for stage in ("scraped", "firing", "routed", "mailed"))
    )


@pytest.mark.parametrize("name", ["scrape_interval", "evaluation_interval", "for", "group_wait"])
def test_every_interval_on_the_way_counts(name: str) -> None:
    longer, _parts = budgets({**SHIPPED, name: SHIPPED[name] + 7}, ALLOWANCES)
    assert longer["end_to_end"] == 18.5


@pytest.mark.parametrize("name", ["keep_firing_for", "group_interval"])
def test_recovery_has_intervals_of_its_own(name: str) -> None:
    longer, _parts = budgets({**SHIPPED, name: SHIPPED[name] + 7}, ALLOWANCES)
    assert (longer["resolved"], longer["end_to_end"]) == (21.5, 11.5)


@pytest.mark.parametrize(
    ("seconds", "tick", "waited"), [(0, 3, 0), (1, 3, 3), (3, 3, 3), (4, 3, 6), (60, 15, 60), (0.3, 0.1, 0.3)]
)
def test_a_for_ends_at_an_evaluation(seconds: float, tick: float, waited: float) -> None:
    assert in_ticks(seconds, tick) == pytest.approx(waited)
