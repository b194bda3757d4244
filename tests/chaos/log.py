"""The audit log after a run: whether it is whole, and whether each request that was answered with a
result has its line.
"""

import itertools
import json
from collections import Counter

# The most lines and requests that are shown.
SHOWN = 10


def decisions(folder):
    """The lines about requests, those of closed files first."""
    for file in sorted(folder.glob("decisions.jsonl*"), key=lambda file: (file.suffix == ".jsonl", file.name)):
        if file.suffix == ".jsonl" or file.suffix.lstrip(".").isdigit():
            # A kill may have cut off the last line. Nobody was answered for it.
            for text in file.read_text().split("\n")[:-1]:
                line = json.loads(text)
                if line["type"] in ("decision", "amend"):
                    yield line


def faults_of(gate, loads, wrong):
    """What is wrong with the log. Prints the lines of answers that were wrong."""
    verified = gate.command("audit", "verify")
    print(f"audit verify: {verified.stdout.strip()}", flush=True)
    faults = [] if verified.returncode == 0 else [f"audit verify: {verified.stdout}{verified.stderr}"]
    lines = list(decisions(gate.state / "audit"))
    about = (line for line in lines if line.get("request_id") in wrong or line.get("client_request_id") in wrong)
    for line in itertools.islice(about, SHOWN):
        print(f"a wrong answer: {json.dumps(line)}", flush=True)
    allowed = Counter(line["request_id"] for line in lines if line["type"] == "decision" and line["verdict"] == "allow")
    answered = [seen.id for load in loads.values() for seen in load.seen if seen.outcome == "200"]
    lost = [identity for identity in answered if allowed[identity] != 1]
    print(f"{len(answered)} requests answered with 200; {len(lost)} of them have not exactly one line that allows them", flush=True)
    return faults + [f"{identity} has {allowed[identity]} lines that allow it" for identity in lost[:SHOWN]]
