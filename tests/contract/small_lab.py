"""The chain of the embedded platform for real, without the role: application and exporter under supervisord, node-exporter,
Alertmanager, and Prometheus with the role's own scrape configuration and rules."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

import jinja2
import yaml
from systems import AlertmanagerServer, PrometheusServer, eventually, fetch, find_program, free_port, runnable

REPOSITORY = Path(__file__).parents[2]
SCRAPES = REPOSITORY / "roles/monitoring/templates/prometheus.yml.j2"
EXPORTER = REPOSITORY / "roles/embedded/files/supervisor_exporter.py"
INTERVAL = "1s"


class SmallLab:
    """Everything that a complete embedded lab scrapes, on 127.0.0.1."""

    def __init__(self, prometheus: PrometheusServer, alertmanager: AlertmanagerServer, folder: Path) -> None:
        sys.path.insert(0, str(REPOSITORY / "tests/rules"))
        from rule_rendering import render

        self._rules = render(alerting_evaluation_interval=INTERVAL)
        self.prometheus = prometheus
        self._alertmanager = alertmanager
        self._folder = folder
        self.ports = {name: free_port() for name in ("app", "supervisor_exporter", "node_exporter")}
        self.ports |= {"prometheus": prometheus.port, "alertmanager": alertmanager.port}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start everything and wait until each job was scraped often enough for a rate."""
        self._run(sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self._supervisord()))
        program, cwd = runnable(find_program("VIGIE_NODE_EXPORTER", "prometheus-node-exporter"), self._folder)
        self._run(str(program), f"--web.listen-address=127.0.0.1:{self.ports['node_exporter']}", cwd=cwd)
        self._alertmanager.start({"route": {"receiver": "null"}, "receivers": [{"name": "null"}]})
        self.configure()
        self.prometheus.start()
        for _number in range(3):
            eventually(lambda: self.ask("/"), "an answer of the application")
        eventually(lambda: self.value("min(count_over_time(up[1m]))") >= 3, "three scrapes of every job")
        eventually(lambda: self.value('count(ALERTS{alertname="Watchdog"})') == 1, "the first evaluation of the rules")

    def configure(self, **relabel: list[dict[str, Any]]) -> None:
        """Write Prometheus' configuration, with metric_relabel_configs by name of the job."""
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, autoescape=False)
        text = environment.from_string(SCRAPES.read_text()).render(
            ansible_managed="a test",
            monitoring_background_interval=INTERVAL,
            monitoring_rules_dir=str(self.prometheus.folder),
            monitoring_apps=["flask-metrics"],
            monitoring_extra_scrape_configs=[],
            vigie_intervals={"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL},
            vigie_listen_address="127.0.0.1",
            vigie_ports=self.ports,
            vigie_namespace="vigie",
        )
        config = yaml.safe_load(text)
        for job in config["scrape_configs"]:
            job["metric_relabel_configs"] = relabel.get(job["job_name"].replace("-", "_"), [])
        # One file only: the pattern of the configuration finds prometheus.yml as well.
        config["rule_files"] = [str(self.prometheus.folder / "rules.yml")]
        self.prometheus.configure(config, self._rules)

    def reconfigure(self, **relabel: list[dict[str, Any]]) -> None:
        """Have Prometheus take up another configuration, and wait until every job was scraped with it."""
        self.configure(**relabel)
        assert self.prometheus.reload() == 200
        changed = time.time()
        # Series that come no more are marked stale about two intervals after the reload.
        eventually(lambda: self.value("min(timestamp(up))") > changed + 4, "scrapes with the new configuration")

    def ask(self, path: str) -> bool:
        """Send a request to the application; return whether it was answered well."""
        return fetch(f"http://127.0.0.1:{self.ports['app']}{path}")[0] == 200

    def value(self, query: str) -> float:
        """Return the value of a query that gives one, or -1."""
        url = f"{self.prometheus.url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        result = json.loads(fetch(url)[1])["data"]["result"]
        return float(result[0]["value"][1]) if result else -1.0

    def stop(self) -> None:
        """End what was started here; the fixtures end the two servers."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _run(self, *command: str, cwd: Path | None = None) -> None:
        log = (self._folder / f"{len(self._processes)}.log").open("wb")
        self._processes.append(subprocess.Popen(command, cwd=cwd, stdout=log, stderr=subprocess.STDOUT))

    def _supervisord(self) -> Path:
        quiet = "stdout_logfile=NONE\nstderr_logfile=NONE"
        sections = {
            "supervisord": f"logfile={self._folder}/supervisord.log\npidfile={self._folder}/supervisord.pid",
            "unix_http_server": f"file={self._folder}/s.sock",
            "rpcinterface:supervisor": "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
            "eventlistener:supervisor-exporter": (
                f"command={sys.executable} {EXPORTER} --port {self.ports['supervisor_exporter']}"
                f" --state-file {self._folder}/state.json --namespace vigie\n"
                f"events=PROCESS_STATE,PROCESS_GROUP,REMOTE_COMMUNICATION\nbuffer_size=1000\nautorestart=true\n{quiet}"
            ),
            "program:flask-metrics": (
                f"command={sys.executable} -m flask_metrics\ndirectory={REPOSITORY / 'app'}\nautorestart=true\nstartsecs=0\n"
                f'environment=APP_HOST="127.0.0.1",APP_PORT="{self.ports["app"]}",PYTHONDONTWRITEBYTECODE="1"\n{quiet}'
            ),
        }
        path = self._folder / "supervisord.conf"
        path.write_text("\n".join(f"[{section}]\n{body}\n" for section, body in sections.items()))
        return path
