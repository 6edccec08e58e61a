"""PodCrashLoop under the restart laws of the kubelet and of supervisord: the exact rule and the seed's rule side by side."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from promtool_runner import Firing, firing
from restart_series import Pod, Supervisor
from rule_rendering import restart_rule

SCRAPE = EVALUATION = 30
SEEN = SCRAPE + EVALUATION  # a restart shows in an evaluation after at most so long
WINDOW = KEEP = 600
MEMORY = 300  # of the back-off in the expression
UNTIL = 6000
NEVER: list[tuple[int, int]] = []

# Lives that put three restarts into ten minutes, and lives for which the back-off has to tell.
LIVES = (1, 10, 30, 60, 120, 180, 200, 240)
SLOW_LIVES = (290, 330, 400, 540, 590)
PHASES = (1, 8, 14, 22, 29)

OLD = {life: Pod(f"old-{life}", life=life) for life in (*LIVES, *SLOW_LIVES, 900)}
NEW = {life: Pod(f"new-{life}", life=life, born=100, phase=14) for life in (*LIVES, *SLOW_LIVES, 900)}

KINDS: dict[str, dict[str, Any]] = {
    "old": {},
    "new": {"born": 100},
    "with-history": {"history": 5},
    "with-history-fresh-prometheus": {"history": 5, "first_crash": 60},
}
TWO = [
    Pod(f"two-{kind}-{life}-{phase}", life=life, crashes=2, phase=phase, **more)
    for life in (1, 60, 240, 540)
    for phase in PHASES
    for kind, more in KINDS.items()
]
QUIET = [
    Pod("never-crashed", crashes=0),
    Pod("restarted-long-ago", crashes=0, history=9),
    Pod("outage-6m", crashes=0, history=9, outages=((1000, 1360),)),
    Pod("outage-14m", crashes=0, history=9, outages=((1000, 1840),)),
    Pod("outages-ten-minutes-apart", crashes=0, history=9, outages=((1000, 1330), (1600, 1930))),
    Pod("exporter-moved", crashes=0, history=9, moved=1500),
    Pod("one-crash-and-exporter-moved", crashes=1, history=9, moved=1015),
    Pod("two-crashes-after-outage", crashes=2, history=9, first_crash=1860, outages=((1000, 1840),)),
    Pod("supervisord-two", law=Supervisor(), life=20, crashes=2),
]
RECOVERED = [
    Pod(f"recovered-{life}-after-{crashes}", life=life, crashes=crashes) for life in (1, 60, 330) for crashes in (3, 6)
]
REDEPLOYED = [
    Pod("redeployed-old", life=10, gone=2405),
    Pod("redeployed-new", crashes=0, born=2401),
    Pod("redeployed-looping", life=10, born=2401),
]
THRESHOLDS = {
    (threshold, crashes): Pod(f"threshold-{threshold}-crashes-{crashes}", life=1, crashes=crashes)
    for threshold in (1, 4)
    for crashes in (threshold, threshold + 1)
}
SUPERVISED = [
    Pod("supervisord-fast", law=Supervisor(), life=5),
    Pod("supervisord-minute", law=Supervisor(), life=60),
    Pod("supervisord-new", law=Supervisor(), life=60, born=100),
    Pod("supervisord-four-minutes", law=Supervisor(), life=250),
    Pod("supervisord-gave-up", law=Supervisor(), life=0.5),
]
# First scraped 21 s after its birth, with the fourth restart when it is ten minutes old.
TEN_MINUTES_OLD = Pod("supervisord-ten-minutes-old", law=Supervisor(), life=150, born=100, scrape=60, phase=1)
MOVED = Pod("looping-exporter-moved", life=60, moved=2500)
OUTAGE = Pod("looping-through-outage", life=60, outages=((2500, 2980),))


@pytest.fixture(scope="module")
def result(promtool: Path, tmp_path_factory: pytest.TempPathFactory) -> Firing:
    """Evaluate every pod of this module once, at 30 s, with the settings for the kubelet."""
    rules = {
        "exact": restart_rule("exact", alerting_keep_firing_for="10m"),
        "bare": restart_rule("bare", alerting_keep_firing_for="0s"),
        "seed": restart_rule("seed", "seed"),
        "above-1": restart_rule("above-1", alerting_keep_firing_for="10m", alerting_restart_threshold=1),
        "above-4": restart_rule("above-4", alerting_keep_firing_for="10m", alerting_restart_threshold=4),
    }
    pods = [*OLD.values(), *NEW.values(), *TWO, *QUIET, *RECOVERED, *REDEPLOYED, *THRESHOLDS.values(), *SUPERVISED]
    return firing(
        promtool,
        tmp_path_factory.mktemp("restart"),
        {f"{name}.yml": text for name, text in rules.items()},
        [*pods, TEN_MINUTES_OLD, MOVED, OUTAGE],
        step=1,
        evaluation=EVALUATION,
        until=UNTIL,
    )


def spans(result: Firing, rule: str, pod: Pod) -> list[tuple[int, int]]:
    """Return when the rule fired for the pod."""
    return result.get((rule, pod.name), NEVER)


def names(pods: list[Pod]) -> list[str]:
    """Return the names as test ids."""
    return [pod.name for pod in pods]


@pytest.mark.parametrize("pod", [OLD[life] for life in LIVES] + [NEW[life] for life in LIVES], ids=lambda pod: pod.name)
def test_a_loop_fires_with_the_third_restart_and_stays(result: Firing, pod: Pod) -> None:
    [(first, last)] = spans(result, "exact", pod)
    third = pod.restarts(UNTIL)[2]
    assert third <= first <= third + SEEN
    assert last == UNTIL


@pytest.mark.parametrize("pod", [pods[life] for pods in (OLD, NEW) for life in SLOW_LIVES], ids=lambda pod: pod.name)
def test_a_slow_loop_fires_with_the_back_off_and_stays(result: Firing, pod: Pod) -> None:
    [(first, last)] = spans(result, "exact", pod)
    # The third wait lasts 20 s and may fall between two scrapes; the fourth lasts 40 s and cannot.
    assert pod.restarts(UNTIL)[2] <= first <= pod.timeline(UNTIL)[3].at + SCRAPE + SEEN
    assert last == UNTIL


def test_without_keep_firing_for_the_slow_loops_would_flap(result: Firing) -> None:
    """What the test above would catch."""
    assert all(len(spans(result, "bare", OLD[life])) > 1 for life in SLOW_LIVES)


@pytest.mark.parametrize("life", LIVES[:5])
def test_the_expression_itself_stays_true_in_a_fast_loop(result: Firing, life: int) -> None:
    assert len(spans(result, "bare", OLD[life])) == len(spans(result, "bare", NEW[life])) == 1


def test_there_is_no_gap_when_a_pod_gets_as_old_as_the_window(result: Firing) -> None:
    [(first, last)] = spans(result, "bare", TEN_MINUTES_OLD)
    assert first < 100 + WINDOW
    assert last == UNTIL


def test_a_life_beyond_the_back_offs_memory_is_left_to_the_slow_rule(result: Firing) -> None:
    assert spans(result, "exact", OLD[900]) == spans(result, "exact", NEW[900]) == NEVER


@pytest.mark.parametrize("pod", TWO, ids=names(TWO))
def test_two_restarts_are_not_more_than_two(result: Firing, pod: Pod) -> None:
    assert len(pod.restarts(UNTIL)) == 2
    assert spans(result, "exact", pod) == NEVER


@pytest.mark.parametrize("pod", QUIET, ids=names(QUIET))
def test_old_restarts_and_outages_are_silent(result: Firing, pod: Pod) -> None:
    assert spans(result, "exact", pod) == NEVER


@pytest.mark.parametrize("pod", RECOVERED, ids=names(RECOVERED))
def test_recovery_resolves_once_and_not_before(result: Firing, pod: Pod) -> None:
    [(_, last)] = spans(result, "exact", pod)
    recovered = pod.restarts(UNTIL)[-1]
    assert recovered + MEMORY <= last <= recovered + WINDOW + KEEP + SEEN


def test_a_redeployed_pod_resolves_after_keep_firing_for(result: Firing) -> None:
    old, healthy, looping = REDEPLOYED
    [(_, last)] = spans(result, "exact", old)
    assert old.gone is not None
    assert old.gone + KEEP - EVALUATION <= last <= old.gone + KEEP + SEEN
    assert spans(result, "exact", healthy) == NEVER
    [(first, last)] = spans(result, "exact", looping)
    assert looping.restarts(UNTIL)[2] <= first <= looping.restarts(UNTIL)[2] + SEEN
    assert last == UNTIL


@pytest.mark.parametrize(("threshold", "crashes"), THRESHOLDS)
def test_the_threshold_is_the_users(result: Firing, threshold: int, crashes: int) -> None:
    pod = THRESHOLDS[threshold, crashes]
    found = spans(result, f"above-{threshold}", pod)
    if crashes <= threshold:
        assert found == NEVER
    else:
        [(first, _)] = found
        assert pod.restarts(UNTIL)[threshold] <= first <= pod.restarts(UNTIL)[threshold] + SEEN


@pytest.mark.parametrize("life", LIVES + SLOW_LIVES)
@pytest.mark.parametrize("threshold", [1, 4])
def test_other_thresholds_do_not_resolve_in_a_loop(result: Firing, threshold: int, life: int) -> None:
    [(first, last)] = spans(result, f"above-{threshold}", OLD[life])
    assert OLD[life].restarts(UNTIL)[threshold] <= first
    assert last == UNTIL


@pytest.mark.parametrize("pod", SUPERVISED, ids=names(SUPERVISED))
def test_supervisords_loops_fire_and_stay(result: Firing, pod: Pod) -> None:
    [(first, last)] = spans(result, "exact", pod)
    assert pod.restarts(UNTIL)[2] <= first <= pod.restarts(UNTIL)[2] + SEEN
    assert last == UNTIL


def test_without_back_off_a_period_near_the_window_needs_keep_firing_for(result: Firing) -> None:
    """Nothing but the count tells that supervisord's loop goes on: two or three restarts in ten minutes, in turns."""
    periodic = next(pod for pod in SUPERVISED if pod.life == 250)
    found = spans(result, "bare", periodic)
    assert len(found) > 5
    gaps = [later[0] - earlier[1] for earlier, later in pairwise(found)]
    assert max(gaps) <= WINDOW / 2  # hence the advice: at least window / threshold


@pytest.mark.parametrize("pod", [MOVED, OUTAGE], ids=names([MOVED, OUTAGE]))
def test_a_new_exporter_or_an_outage_does_not_resolve_a_loop(result: Firing, pod: Pod) -> None:
    [(first, last)] = spans(result, "exact", pod)
    assert pod.restarts(UNTIL)[2] <= first <= pod.restarts(UNTIL)[2] + SEEN
    assert last == UNTIL


# The seed's rule.


def test_the_seed_rule_fires_after_two_restarts(result: Firing) -> None:
    fired = [pod for pod in TWO if spans(result, "seed", pod)]
    assert {pod.life for pod in fired} >= {1, 60}
    old = [pod for pod in fired if pod.name.startswith("two-old-1-")]
    assert len(old) == len(PHASES)


@pytest.mark.parametrize("life", [1, 10, 30])
def test_the_seed_rule_says_resolved_while_the_container_is_looping(result: Firing, life: int) -> None:
    pod = OLD[life]
    (first, last), *_ = spans(result, "seed", pod)
    assert first - pod.first_crash <= 150
    assert 400 <= last - pod.first_crash <= 540  # seconds; the loop goes on to the end
    assert pod.restarts(UNTIL)[-1] > UNTIL - 400


@pytest.mark.parametrize("life", [200, 240, 290, 330])
def test_the_seed_rule_never_sees_slower_loops(result: Firing, life: int) -> None:
    assert spans(result, "seed", OLD[life]) == spans(result, "seed", NEW[life]) == NEVER


# At the intervals that are shipped.


def test_at_short_intervals_the_alert_is_as_exact(promtool: Path, tmp_path: Path) -> None:
    loops = [
        replace(pod, name=f"{pod.name}-{phase}", first_crash=700, scrape=3, phase=phase)
        for pod in (OLD[1], OLD[60], NEW[1], NEW[60], SUPERVISED[0], SUPERVISED[-1])
        for phase in (1, 2)
    ]
    twos = [replace(pod, first_crash=700, scrape=3, phase=2) for pod in TWO if pod.life <= 60 and pod.phase == 1]
    text = restart_rule("exact", alerting_keep_firing_for="15s")
    result = firing(promtool, tmp_path, {"exact.yml": text}, [*loops, *twos], step=1, evaluation=3, until=1300)
    for pod in loops:
        [(first, last)] = spans(result, "exact", pod)
        assert pod.restarts(1300)[2] <= first <= pod.restarts(1300)[2] + 6, pod.name
        assert last >= 1299, pod.name
    assert all(spans(result, "exact", pod) == NEVER for pod in twos)
