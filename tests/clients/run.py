"""`make test-clients`: unmodified clients, a real Envoy with the gate, and servers behind it. Each
client's calls are made through the gate, and directly to a server if one speaks its protocol. The
table shows both answers. Exits 0 only if every line is as expected. Logs stay in target/clients.
Usage: `run.py [AI_SDK]`, with the folder of Vercel's AI SDK.
"""

import json
import ssl
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append(str(Path(__file__).resolve().parents[1] / "harness"))

import pki
from processes import TOP, Gate, Process, begin, fetch, wait
from table import Table

HERE = Path(__file__).resolve().parent
# Each client runs in a process of its own, and takes seconds.
PARTS = ["of_kserve", "of_triton", "of_tensorflow", "of_openai", "of_sdk_types", "of_answers", "of_descriptions", "of_json", "of_httpx", "of_agents", "of_langchain", "of_ai_sdk", "of_mlserver", "of_java", "of_senders", "of_forms"]
PART_S = 120
# How long the last lines of the audit logs may take.
SETTLE_S = 10
TLS = "  tls: {"
# Rejections that follow the server's answer.
AFTERWARDS = {"backend-fault", "backend-too-long"}


class Server(Process):
    """A server of these tests: prints its ports as JSON."""

    def __init__(self, script, folder):
        super().__init__(script, [sys.executable, HERE / f"{script}.py"], folder / f"{script}.log", stdout=subprocess.PIPE)
        self.ports = json.loads(self.process.stdout.readline() or "{}")
        if not self.ports:
            raise RuntimeError(f"{script} did not start\n{self.tail()}")
        self.address = f"127.0.0.1:{self.ports['port']}"
        self.seen = f"http://127.0.0.1:{self.ports['seen']}/"

    def calls(self):
        """The calls that reached it through the gate, apart from the gate's own."""
        _, text = fetch(self.seen, 10)
        asked = {"POST", "ModelInfer", "Predict"}
        return [call for call in json.loads(text) if call["by"] == "gate" and call["method"] in asked]


class Embedded(Process):
    """The project's own CPU server."""

    def __init__(self, folder):
        arguments = [TOP / "target/debug/tensorgate-embedded", "--models", TOP / "examples/models", "--listen", "127.0.0.1:0"]
        super().__init__("embedded", arguments, folder / "embedded.log", stdout=subprocess.PIPE)
        line = self.process.stdout.readline().decode()
        if " ready at " not in line:
            raise RuntimeError(f"the embedded server did not start\n{self.tail()}")
        self.address = line.split(" ready at ")[1].strip()


def policies(folder, places):
    """The policy in two files: with TLS and without."""
    text = (HERE / "gate.yaml").read_text()
    for port, place in (("8000", "llm"), ("8001", "cpu"), ("8002", "echoes"), ("8003", "own"), ("8004", "tf")):
        text = text.replace(f"http://127.0.0.1:{port}", f"http://{places[place]}")
    plain = [line for line in text.splitlines() if not line.startswith(TLS) and "risk-engine: " not in line]
    (folder / "tls.yaml").write_text(text)
    (folder / "plain.yaml").write_text("\n".join(plain).replace(", risk-engine]", "]") + "\n")


def spend(places):
    """Uses up a client's one request per hour, so that the next call with its key exceeds the rate.
    """
    body = json.dumps({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": [0] * 64}]}).encode()
    headers = {"content-type": "application/json", "x-api-key": places["keys"]["burst"]}
    trust = ssl.create_default_context(cafile=places["ca"])
    for base in (f"http://{places['plain']}", f"https://{places['tls']}"):
        request = urllib.request.Request(f"{base}/v2/models/digits/infer", body, headers)
        with urllib.request.urlopen(request, timeout=30, context=trust if base.startswith("https") else None) as answer:
            answer.read()


def run_part(module, folder):
    """Runs one client's rows in a process, which ends in any case."""
    counts, log = folder / f"{module}.json", folder / f"{module}.log"
    process = Process(module, [sys.executable, HERE / "part.py", module, folder / "places.json", counts], log, stdout=sys.stdout)
    try:
        process.process.wait(PART_S)
    except subprocess.TimeoutExpired:
        print(f"{module}: not within {PART_S} s", flush=True)
    process.stop()
    if not counts.exists():
        print(process.tail(), flush=True)
        return {"rows": 1, "wrong": 1}
    return json.loads(counts.read_text())


def let_through(folder, models):
    """How many inferences the gates allowed for these models, by their own audit logs."""
    count = 0
    for gate in ("plain", "tls"):
        for line in (folder / gate / "audit/decisions.jsonl").read_text().splitlines():
            said = json.loads(line)
            known = said.get("type") == "decision" and said.get("model") in models and said.get("operation") in ("infer", "stream")
            count += known and (said["verdict"] == "allow" or said.get("reason") in AFTERWARDS)
    return count


def settled(folder, models, seen):
    """The same count, once it equals `seen`: the audit line of a streamed answer may follow it."""
    give_up = time.monotonic() + SETTLE_S
    while (let := let_through(folder, models)) != seen and time.monotonic() < give_up:
        time.sleep(0.1)
    return let


def main():
    """Starts everything, runs the calls, and stops everything."""
    started = time.monotonic()
    folder = begin("clients")
    keys = {path.stem: path.read_text().strip() for path in (TOP / "examples/policies/digits/keys").glob("*.key")}
    places = {"keys": keys, "tokens": pki.tokens(folder), "ai_sdk": "".join(sys.argv[1:2]), **pki.certificates(folder)}
    table = Table()
    with ExitStack() as stack:
        kept = lambda process: stack.callback(process.stop) and process
        cpu, llm, echoes = kept(Embedded(folder)), kept(Server("openai_server", folder)), kept(Server("oip_server", folder))
        own, tf = kept(Server("json_server", folder)), kept(Server("tf_server", folder))
        places |= {"cpu": cpu.address, "llm": llm.address, "llm_seen": llm.seen, "echoes": echoes.address, "own": own.address, "own_seen": own.seen, "tf": tf.address, "tf_seen": tf.seen}
        policies(folder, places)
        gates = {name: kept(Gate(folder / f"{name}.yaml", folder, name, serving=False)) for name in ("plain", "tls")}
        places |= {name: gate.ready_address() for name, gate in gates.items()}
        for gate in gates.values():
            wait("every model is ready", gate.all_ready, gate.process)
        spend(places)
        (folder / "places.json").write_text(json.dumps(places))
        print(f"Servers and gates are up after {time.monotonic() - started:.1f} s", flush=True)
        took = {}
        for module in PARTS:
            begun = time.monotonic()
            counts = run_part(module, folder)
            table.rows, table.wrong = table.rows + counts["rows"], table.wrong + counts["wrong"]
            took[module] = f"{module} {time.monotonic() - begun:.1f} s"
        table.head("what reached the servers through the gate, and what the gates let through")
        for server, models in ((llm, {"assistant", "embedder", "agent"}), (echoes, {"echo", "notes"}), (own, {"iris"}), (tf, {"linear"})):
            seen = len(server.calls())
            let = settled(folder, models, seen)
            table.row(f"{server.name}: {', '.join(sorted(models))}", seen, let, seen == let > 0)
        if table.wrong:
            print(*(folder.joinpath(name, "host.log").read_text()[-2048:] for name in gates), sep="\n")
    seconds = time.monotonic() - started
    print(f"\n{table.rows} calls, {table.wrong} wrong, {seconds:.1f} s ({', '.join(took.values())}); logs in {folder}")
    return 1 if table.wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, RuntimeError) as error:
        sys.exit(f"test-clients: {error or 'stopped'}")
