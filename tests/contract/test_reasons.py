"""Every reason that a check documents has a test here in which a system makes it fail for that reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.vigie.observability.plugins.module_utils import (
    alerts,
    budget,
    dashboards,
    logs,
    promql,
    scraping,
    traces,
)
from ansible_collections.vigie.observability.plugins.module_utils.verdict import COMMON_REASONS

HERE = Path(__file__).parent
FILES = {
    "test_scrape_check*.py": scraping.REASONS,
    "test_promql_check.py": promql.REASONS,
    "test_alert_check.py": alerts.REASONS,
    "test_chain_budget.py": budget.REASONS,
    "test_dashboard_check.py": dashboards.REASONS,
    "test_log_check.py": logs.REASONS,
    "test_trace_check.py": traces.REASONS,
}


@pytest.mark.parametrize("name", FILES)
def test_every_reason_of_a_module_has_a_case(name: str) -> None:
    text = "".join(path.read_text() for path in HERE.glob(name))
    assert [reason for reason in FILES[name] if f'"{reason}' not in text] == []


def test_every_common_reason_has_a_case() -> None:
    text = "".join(path.read_text() for path in HERE.glob("test_*.py") if path != Path(__file__))
    assert [reason for reason in COMMON_REASONS if f'"{reason}"' not in text] == []
