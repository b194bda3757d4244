"""The export of the gate's audit log through a collector: every line arrives behind it, also the
lines of a time in which the collector was stopped.
"""

import json

import log_records
import metrics
from processes import wait

# The collector in the policy's file.
ENDPOINT = "http://127.0.0.1:4318"
# The host's pauses between attempts double up to 30 seconds.
ARRIVES_S = 60
LAG, FAILURES = "tensorgate_audit_export_lag", "tensorgate_audit_export_failures_total"


class Export:
    """What a gate exports to a collector. `folder`: where the gate has its state."""

    def __init__(self, collector, folder):
        self.collector, self.folder = collector, folder
        self.log = folder / "gate/audit/decisions.jsonl"

    def policy(self, file, others):
        """A copy of a policy with the collector's port, and with `others`: text -> its replacement."""
        text = file.read_text()
        for found, replacement in ({ENDPOINT: f"http://127.0.0.1:{self.collector.port}"} | others).items():
            if found not in text:
                raise RuntimeError(f"{file} has no {found}")
            text = text.replace(found, replacement)
        path = self.folder / file.name
        path.write_text(text)
        return path

    def lines(self):
        """The complete lines of the log: ID of the record -> text."""
        texts = self.log.read_text().split("\n")[:-1]
        lines = [json.loads(text) for text in texts]
        return {log_records.uid(lines[0]["log"], line): text for line, text in zip(lines, texts)}

    def missing(self):
        """The lines that have not arrived."""
        arrived = {log_records.uid_of(record) for _, record in self.collector.received()}
        return [text for uid, text in self.lines().items() if uid not in arrived]

    def faults_of_arrival(self):
        """Waits until every line has arrived. Returns those that do not."""
        try:
            wait("the lines", lambda: not self.missing(), seconds=ARRIVES_S)
        except RuntimeError:
            return [f"behind the collector, this line is missing: {text}" for text in self.missing()]
        return []

    def all_wait(self, page):
        """Whether the host's page says that an attempt has failed, and how many lines are missing."""
        samples = [each for each in metrics.values(page) if each[1].get("exporter") == "otlp"]
        values = {name: float(value) for name, _, value in samples}
        return values[FAILURES] > 0 and values[LAG] == len(self.missing()) > 0

    def faults_of_stop(self, read_page, send):
        """Stops the collector while requests are sent, then starts it. `send` returns faults."""
        faults = self.faults_of_arrival()
        self.collector.stop()
        faults += send()
        try:
            wait("lines that wait", lambda: self.all_wait(read_page()), seconds=ARRIVES_S)
        except RuntimeError:
            faults.append(f"the collector is stopped, but {LAG} is not {len(self.missing())}, or {FAILURES} is 0")
        self.collector.start()
        return faults + self.faults_of_arrival()

    def faults_of_log(self):
        """Compares everything that arrived with the log of a gate that was stopped."""
        faults = self.faults_of_arrival()
        lines, received = self.lines(), self.collector.received()
        log_id = json.loads(next(iter(lines.values())))["log"]
        for resource, record in received:
            if line := lines.get(log_records.uid_of(record)):
                faults += log_records.faults_of(log_id, line, resource, record)
            else:
                faults.append(f"the log lacks what arrived: {record}")
        severities = {log_records.severity(json.loads(text)) for text in lines.values()}
        if len(severities) < 3:
            faults.append(f"no line of the log has another severity than {severities}")
        print(f"audit log: {len(lines)} lines, {len(received)} records behind the collector", flush=True)
        return faults
