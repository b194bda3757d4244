"""A real Prometheus with the shipped rules, in which time runs faster: each duration of a rule is
shortened by one factor, so that an outage of half an hour is replayed in a minute.
"""

import json
import re
import urllib.error
import urllib.parse
import urllib.request

from processes import TOP, Process, fetch, free_ports, wait

RULES = TOP / "monitoring/prometheus/tensorgate.rules.yaml"
# Seconds in which a minute of the rules passes.
MINUTE_S = 2
# Times that Prometheus scrapes and evaluates in such a minute.
SCRAPES = 4
DURATION = re.compile(r"(?<=\[)(\d+)([mh])(?=\])|(?<=for: )(\d+)([mh])\b|(?<=offset )(\d+)([mh])\b")
MINUTES = {"m": 1, "h": 60}


def shortened(text):
    """Rules with shorter durations."""

    def short(match):
        number, unit = (part for part in match.groups() if part)
        return f"{int(number) * MINUTES[unit] * MINUTE_S * 1000}ms"

    return DURATION.sub(short, text)


class Prometheus(Process):
    """Scrapes a gate's host and Envoy."""

    def __init__(self, program, folder, host, envoy):
        folder = folder / "prometheus"
        folder.mkdir()
        (folder / "rules.yaml").write_text(shortened(RULES.read_text()))
        interval = f"{MINUTE_S * 1000 // SCRAPES}ms"
        jobs = [
            {"job_name": "tensorgate-host", "static_configs": [{"targets": [host]}]},
            {"job_name": "tensorgate-envoy", "metrics_path": "/stats/prometheus", "static_configs": [{"targets": [envoy]}]},
        ]
        settings = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
        configuration = {"global": settings, "rule_files": ["rules.yaml"], "scrape_configs": jobs}
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        arguments = [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        arguments += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        super().__init__("prometheus", arguments, folder / "log")
        wait("Prometheus", lambda: fetch(f"{self.url}/-/ready"), self.process)

    def firing(self):
        """The alerts that fire: (name, what it is about)."""
        answer = fetch(f"{self.url}/api/v1/alerts", 5)
        alerts = json.loads(answer[1])["data"]["alerts"] if answer and answer[0] == 200 else []
        return {(alert["labels"]["alertname"], alert["annotations"]["summary"]) for alert in alerts if alert["state"] == "firing"}

    def query(self, expression):
        """The values of an expression at this moment. What is wrong with it is a `ValueError`."""
        url = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                result = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from None
        return [float(series["value"][1]) for series in result]
