"""The second service as a process: it comes, is called and scraped, dies and is started again, and goes."""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from typing import Any

import pytest
from own_lab import Lab, listens

PATIENT = 20
"""Seconds until something that was just started is seen by Prometheus at the latest."""

pytestmark = pytest.mark.skipif(
    not shutil.which("npm"), reason="Node.js and npm are not installed; the second service needs them."
)


def page(lab: Lab) -> dict[str, Any]:
    with urllib.request.urlopen(f"{lab.url('app')}/", timeout=10) as answer:
        return dict(json.loads(answer.read()))


def test_it_comes_and_goes(lab: Lab) -> None:
    done = lab.playbook("site.yml", vigie_catalog=True)
    assert done.returncode == 0, done.stdout[-6000:]
    try:
        assert page(lab)["catalog"]["status"] == "ok"
        scraped = lab.check("scrape_check", job="catalog", origin=lab.endpoint("catalog"), timeout=PATIENT)
        assert scraped["reason"] == "ok", scraped
        # Called by the first service.
        calls = 'http_requests_total{job="catalog",namespace="vigie",route="/",status="200"} >= 1'
        assert lab.check("promql_check", query=calls, timeout=PATIENT)["reason"] == "ok"

        since = time.time()
        lab.kill("catalog")
        restarts = 'kube_pod_container_status_restarts_total{container="catalog"}'
        counted = lab.check("promql_check", query=restarts, operator=">=", value=1, since=since, timeout=PATIENT)
        assert counted["reason"] == "ok", counted
        lab.await_ready("catalog")
        assert page(lab)["catalog"]["status"] == "ok"

        with lab.stopped("catalog"):
            # The first one answers all the same.
            assert page(lab)["catalog"]["status"] != "ok"
            down = lab.check("scrape_check", job="catalog", origin=lab.endpoint("catalog"), since=time.time())
            assert down["reason"] == "exporter_down", down
    finally:
        lab.build()
    assert not listens(lab.ports["catalog"]) and "catalog" not in page(lab)
    assert "catalog" not in lab.ctl("status")
