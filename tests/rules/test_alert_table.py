"""The table in docs/alert-rules.md is what promtool says today."""

from __future__ import annotations

from pathlib import Path

import pytest
import table


@pytest.fixture(scope="module")
def rows(promtool: Path) -> list[table.Row]:
    """Measure once."""
    return table.measure(promtool)


def test_the_page_is_current(rows: list[table.Row], capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main(["--check"], rows) == 0, capsys.readouterr().err


def test_an_outdated_page_is_refused_and_then_written(
    rows: list[table.Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(table.DOCS.read_text(encoding="utf-8").replace("| 1 s |", "| 2 s |"), encoding="utf-8")
    before = page.read_text(encoding="utf-8")
    assert table.main(["--check", "--page", str(page)], rows) == 1
    assert "the table is not current" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == before
    assert table.main(["--page", str(page)], rows) == 0
    assert page.read_text(encoding="utf-8") == table.DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["no markers", table.END + table.BEGIN, table.BEGIN + table.BEGIN + table.END])
def test_a_page_without_its_markers_is_an_error(
    rows: list[table.Row], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    assert table.main(["--page", str(page)], rows) == 2
    assert "needs the lines" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == text


def test_at_every_phase_the_exact_rule_fires_after_three_restarts_and_never_resolves(rows: list[table.Row]) -> None:
    for row in rows:
        if row.life > 600:
            assert not [run for run in row.exact + row.shipped if run.fires is not None], row.life
            continue
        for run in row.exact + row.shipped:
            assert run.fires is not None, row.life
            assert run.restarts >= 3, row.life
            assert run.resolved is None, row.life
        assert all(run.fires is not None and run.fires <= row.third_restart + 6 for run in row.shipped), row.life


def test_the_seed_rule_fires_early_and_resolves_falsely(rows: list[table.Row]) -> None:
    by_life = {row.life: row.seed for row in rows}
    assert any(run.restarts == 2 for run in by_life[120])
    assert all(run.resolved is not None and 400 < run.resolved < 600 for life in (1, 10, 30) for run in by_life[life])
    assert not [run for life in (200, 240, 290, 330, 540, 900) for run in by_life[life] if run.fires is not None]
