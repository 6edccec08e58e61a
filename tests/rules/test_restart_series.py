"""The generator itself: the laws of the supervisors and the series made of them."""

from __future__ import annotations

from itertools import islice
from math import inf

import pytest
from restart_series import Kubelet, Pod, Supervisor, encode


def values(pod: Pod, name: str, step: int, until: int) -> list[str]:
    """Return the samples of the pod's series whose name starts with `name`, one list item for each such series."""
    return [series["values"] for series in pod.series(step, until) if series["series"].startswith(name)]


def test_the_kubelet_doubles_its_wait_up_to_five_minutes() -> None:
    assert list(islice(Kubelet().waits(1), 9)) == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_the_kubelet_forgets_after_ten_minutes_of_running() -> None:
    assert list(islice(Kubelet().waits(601), 4)) == [0, 0, 0, 0]
    assert list(islice(Kubelet().waits(600), 4)) == [0, 10, 20, 40]


def test_a_container_that_dies_at_once_restarts_when_the_kubelet_says() -> None:
    pod = Pod("a", life=1, latency=1, first_crash=0)
    assert pod.restarts(700) == [1, 13, 35, 77, 159, 321, 623]


def test_a_new_pod_lives_once_before_it_dies() -> None:
    pod = Pod("a", life=5, latency=2, born=100)
    assert pod.restarts(150) == [100 + 2 + 5 + 2, 109 + 5 + 10 + 2]


def test_supervisord_restarts_at_once_after_a_good_start_and_gives_up_after_bad_ones() -> None:
    assert list(islice(Supervisor(startsecs=1).waits(2), 5)) == [0, 0, 0, 0, 0]
    assert list(Supervisor(startsecs=1, startretries=3).waits(0.5)) == [1, 2, 3, inf]


def test_a_crash_limit_and_the_end_of_the_pod_stop_the_loop() -> None:
    assert len(Pod("a", crashes=2, first_crash=0).restarts(5000)) == 2
    assert Pod("a", gone=50, first_crash=0).restarts(5000) == [1, 13, 35]


def test_series_are_scraped_at_their_phase_and_missing_in_between() -> None:
    pod = Pod("a", life=100, first_crash=20, scrape=10, phase=5)
    assert values(pod, "kube_pod_container_status_restarts_total", 5, 40) == ["_x1 0 _x1 0 _x1 1 _x1 1 _x1"]


def test_the_waiting_series_exists_only_while_waiting_and_then_turns_stale() -> None:
    pod = Pod("a", life=10, first_crash=0, scrape=5, phase=0)  # dies again at second 11 and waits 10 s
    assert values(pod, "kube_pod_container_status_waiting_reason", 5, 30) == ["_x3 1 1 stale _x1"]


def test_a_process_that_was_given_up_waits_for_ever() -> None:
    pod = Pod("a", law=Supervisor(startretries=2), life=0.5, first_crash=0)
    assert pod.restarts(1000) == [2, 2 + 0.5 + 2 + 1]
    assert [crash.wait_until for crash in pod.timeline(1000)] == [1, 4.5, inf]


def test_a_deleted_pod_turns_stale_and_an_outage_leaves_no_mark() -> None:
    gone = Pod("a", first_crash=500, gone=20, scrape=10, phase=0)
    assert values(gone, "kube_pod_container_status_restarts_total", 10, 40) == ["0 0 stale _x2"]
    outage = Pod("a", first_crash=500, outages=((10, 30),), scrape=10, phase=0)
    assert values(outage, "kube_pod_container_status_restarts_total", 10, 40) == ["0 _x2 0 0"]


def test_a_moved_exporter_ends_one_series_and_begins_another() -> None:
    pod = Pod("a", first_crash=500, moved=20, scrape=10, phase=0)
    assert values(pod, "kube_pod_container_status_restarts_total", 10, 40) == ["0 0 stale _x2", "_x2 0 0 0"]


def test_a_scrape_off_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of the step 5 s"):
        Pod("a", scrape=30, phase=7).series(5, 60)


def test_samples_are_written_in_promtools_notation() -> None:
    assert encode([None, None, 1, 2.5, "stale", None]) == "_x2 1 2.5 stale _x1"
