"""The page for people: well formed, self-contained, escaped, and its pictures true to the times."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vigie.observability.plugins.module_utils.report import build_report
from ansible_collections.vigie.observability.plugins.module_utils.report_html import report_page

FIXTURES = Path(__file__).parents[2] / "fixtures"
START = 1795518220.0
SCENARIOS = ("pass", "routed", "over_budget", "disturbed", "minikube")
VOID = {"meta", "wbr", "link", "br", "img"}
ATTACK = "<img src=x onerror=alert(1)>\"'&</style></svg>"


class Page(HTMLParser):
    """Collects elements and texts and complains about tags that don't match."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text_of: dict[str, list[str]] = {}
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.text_of.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.text_of[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def source(name: str) -> str:
    return report_page(build_report(**json.loads((FIXTURES / f"report_{name}.json").read_text())))


def page_of(*stages: dict[str, Any], expected: tuple[str, ...], **more: Any) -> str:
    given = {"run_id": "run", "platform": "embedded", "host": "lab1", "started": START, "stages": stages}
    return report_page(build_report(**{**given, "expected_stages": expected, **more}))


def figure_row(text: str, name: str) -> str:
    """Return the markup of one row of a picture."""
    return next(row for row in text.split('<div class="row">') if f'<span class="name">{name}' in row)


def bars(row: str, kind: str = "bar") -> list[tuple[float, float]]:
    """Return (left, width) in per cent of the bars in a row, without their 3 px shadows."""
    shapes = re.findall(rf'<rect class="{kind}" x="([\d.]+)%" y="9" height="12" width="([\d.]+)%"/>', row)
    return [(float(left), float(width)) for left, width in shapes]


@pytest.mark.parametrize("name", SCENARIOS)
def test_page_is_well_formed_and_needs_nothing_from_outside(name: str) -> None:
    text = source(name)
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.all("html") == [{"lang": "en"}]
    assert not {"script", "link", "img", "iframe", "object", "use", "image", "base"} & {
        tag for tag, _attrs in page.elements
    }
    assert [attributes["href"] for attributes in page.all("a")] == ["report.json", "junit.xml", "summary.txt"]
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert re.findall(r"url\(([^)]*)\)", text) == ["#hatch"]
    handlers = [key for _tag, attributes in page.elements for key in attributes if key.startswith("on")]
    assert handlers == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_policy_allows_this_style_sheet_and_nothing_else(name: str) -> None:
    page = Page(source(name))
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    (style,) = page.text_of["style"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert not any("style" in attributes for _tag, attributes in page.elements)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("pass", "The crash became a mail in 6.2 s"),
        ("minikube", "The crash became a mail in 6.6 s"),
        ("routed", "Broken at: routed"),
        ("over_budget", "Over budget at: firing"),
    ],
)
def test_headline_comes_first(name: str, title: str) -> None:
    page = Page(source(name))
    assert title in page.text_of["h1"][0]
    assert page.text_of["title"][0].startswith(title)
    assert title in page.text_of["section"][0]


def test_failure_shows_reason_and_hint_with_its_command_as_code_on_top() -> None:
    top = source("routed").split("</section>", maxsplit=1)[0]
    assert "<code>route_elsewhere</code>" in top
    assert (
        "<code>amtool config routes test --config.file ~/.local/state/vigie/etc/alertmanager.yml severity=critical</code>"
        in top
    )


@pytest.mark.parametrize(
    ("hint", "code"),
    [
        ("see 'date -u'.", ["date -u"]),
        ("this host's clock isn't right: see 'date -u' and 'uptime'", ["date -u", "uptime"]),
        ("run `jq '.a' x` or 'y'", ["jq &#x27;.a&#x27; x", "y"]),
        ("it's the other host's fault", []),
        ("it's './run --now' that helps", ["./run --now"]),
        ("see '<b>'", ["&lt;b&gt;"]),
    ],
)
def test_commands_in_hints(hint: str, code: list[str]) -> None:
    failed = {"name": "crash", "ok": False, "evidence": {"reason": "broken", "hint": hint}}
    top = page_of(failed, expected=("crash",)).split("</section>", maxsplit=1)[0]
    assert re.findall(r"<code>(.*?)</code>", top) == [*code, "broken"]


def test_everything_is_escaped() -> None:
    evidence = {ATTACK: ATTACK, "nested": {"a": [ATTACK]}, "budget_parts": {ATTACK: ATTACK}, "notes": [ATTACK]}
    stages = [
        {"name": "crash", "started": START, "finished": START + 1, "budget_seconds": 2.0, "evidence": evidence},
        {
            "name": "restart",
            "started": START + 1,
            "ok": False,
            "evidence": {**evidence, "reason": ATTACK, "hint": f"see `{ATTACK}`"},
        },
    ]
    negative = {"name": ATTACK, "started": START + 3, "ok": False, "evidence": {"reason": ATTACK, "hint": ATTACK}}
    text = page_of(
        *stages,
        expected=("crash", "restart"),
        negatives=[negative],
        platform=ATTACK,
        host=ATTACK,
        versions={ATTACK: ATTACK},
        disturbances=[{"process": ATTACK, "at": START, "what": ATTACK}],
    )
    page = Page(text)
    assert page.all("img") == []
    assert "onerror" in text
    assert "<img" not in text
    assert len(page.all("style")) == 1
    assert not any(key.startswith("on") for _tag, attributes in page.elements for key in attributes)


def test_long_evidence_is_cut() -> None:
    stage = {"name": "crash", "started": START, "finished": START + 1, "evidence": {"body": "y" * 100_000}}
    text = page_of(stage, expected=("crash",))
    assert "99700 characters more in report.json" in text
    assert "y" * 301 not in text


@pytest.mark.parametrize("name", SCENARIOS)
def test_table_tells_every_stage_in_words(name: str) -> None:
    report = build_report(**json.loads((FIXTURES / f"report_{name}.json").read_text()))
    body = report_page(report).split('<h2 id="stages">')[1]
    for entry in report["stages"]:
        row = body.split(f'scope="row">{entry["name"]}<')[1].split("</tr>")[0]
        word = {True: "ok", None: "not reached", False: "failed"}[entry["ok"]]
        if entry["evidence"].get("reason") == "over_budget":
            word = "over budget"
        assert f"</span> {word}</span>" in row
        if entry["seconds"] is not None:
            assert f'data-label="Seconds">{entry["seconds"]:.2f}<' in row


def test_picture_is_described_for_a_screen_reader() -> None:
    labels = [
        attributes["aria-label"] or ""
        for attributes in Page(source("routed")).all("div")
        if attributes.get("role") == "img"
    ]
    assert len(labels) == 2
    assert "crash from 11:03:40.700 to 11:03:44.412" in labels[0]
    assert "routed from 11:03:47.902 without an end" in labels[0]


def test_bars_stand_where_the_times_say() -> None:
    text = source("pass")
    ((crash, crash_width),) = bars(figure_row(text, "crash<"))
    ((mailed, mailed_width),) = bars(figure_row(text, "mailed<"))
    ((scraped, scraped_width),) = bars(figure_row(text, "scraped<"))
    ((firing, _width),) = bars(figure_row(text, "firing<"))
    assert crash_width / mailed_width == pytest.approx(3.712 / 3.815, rel=0.01)
    assert scraped + scraped_width == pytest.approx(firing, abs=0.02)
    assert crash < scraped < firing < mailed
    assert mailed + mailed_width <= 100


def test_the_shortest_stage_is_still_seen() -> None:
    row = figure_row(source("pass"), "routed<")
    ((_left, width),) = bars(row)
    assert width < 0.2
    assert re.search(r'<rect class="bar" x="[\d.]+%" y="9" height="12" width="3"/>', row)


def test_a_long_stage_does_not_squash_the_first_seconds() -> None:
    zoom, whole = source("pass").split("<h3>")[1:3]
    assert "resolved" not in zoom
    assert bars(figure_row(zoom, "mailed<"))[0][1] > 25
    assert bars(figure_row(whole, "resolved<"))[0][1] > 75
    assert "crash to mail" in whole


def test_a_long_back_off_is_cut_and_says_so() -> None:
    zoom = source("minikube").split("<h3>")[1]
    assert bars(figure_row(zoom, "crash<")) == []
    assert 'class="far"' in figure_row(zoom, "crash<")
    assert 'class="more"' in figure_row(zoom, "restart<")
    assert bars(figure_row(zoom, "restart<"))[0][0] == 0
    assert bars(figure_row(zoom, "restart<"))[0][1] > 30
    assert "outside this part of the time" in source("minikube")
    assert "outside this part of the time" not in source("pass")


def test_a_failed_restart_is_no_reason_to_cut_the_picture() -> None:
    text = page_of(
        {"name": "crash", "started": START, "finished": START + 1},
        {"name": "restart", "started": START + 1, "finished": START + 61, "ok": False},
        expected=("crash", "restart"),
    )
    assert len(bars(figure_row(text, "crash<"))) == 1
    assert 'class="far"' not in text
    assert 'class="more"' not in text


def test_the_part_over_the_budget_is_marked() -> None:
    row = figure_row(source("over_budget"), "firing<")
    ((start, within),) = bars(row)
    ((over, beyond),) = bars(row, "bar bad")
    assert over == pytest.approx(start + within, abs=0.02)
    assert within / beyond == pytest.approx(3.0 / 2.531, rel=0.01)


def test_a_failed_stage_is_marked_whole_even_when_waiting_took_longer_than_its_budget() -> None:
    failed = {"reason": "timeout", "hint": "look"}
    text = page_of(
        {"name": "crash", "started": START, "finished": START + 1},
        {
            "name": "restart",
            "started": START + 1,
            "finished": START + 9,
            "budget_seconds": 2.0,
            "ok": False,
            "evidence": failed,
        },
        expected=("crash", "restart"),
    )
    row = figure_row(text, "restart<")
    assert bars(row) == []
    assert len(bars(row, "bar bad")) == 1


def test_a_disturbance_is_shown_on_top_in_its_row_and_in_the_table() -> None:
    text = source("disturbed")
    top = text.split("</section>", maxsplit=1)[0]
    assert "alertmanager</span> at 11:03:49.200 during mailed: killed by signal 9" in top
    row = figure_row(text, "mailed<")
    assert 'class="hit-mark"' in row
    assert "alertmanager" in row
    assert 'class="hit-mark"' not in figure_row(text, "firing<")
    assert "hit-mark" not in source("pass").split("</style>")[1]


def test_nothing_ran() -> None:
    assert "No stage ran." in page_of(expected=("baseline", "crash"))


@pytest.mark.parametrize("seconds", [0.0, 0.004, 0.3, 7.0, 86_400.0, 40_000_000.0])
def test_axis_has_a_handful_of_ticks_at_any_length(seconds: float) -> None:
    text = page_of({"name": "baseline", "started": START, "finished": START + seconds}, expected=("baseline",))
    Page(text)
    assert 0 <= len(re.findall(r'<text x="[\d.]+%" y="15"', text)) <= 6


def test_the_longest_budget_is_drawn() -> None:
    stage = {"name": "baseline", "started": START, "budget_seconds": 31_536_000.0, "ok": False}
    Page(page_of(stage, expected=("baseline",)))
