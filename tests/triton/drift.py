"""The contract is compared with Triton's own description of each model: at the start, and whenever
a model is loaded again.
"""

import json

import answers
import numpy as np
from clients import attempt, status
from processes import fetch, wait
from servers import Gate

WRONG = [
    # The right text in the policy, its replacement, and what operators must read.
    ("{name: n, max: 32}, 1, 8, 8]", "{name: n, max: 32}, 1, 8, 9]", 'input "image" has 8 in dim 3 there, 9 in the contract'),
    ("name: text, datatype: BYTES, shape: [t]", "name: texts, datatype: BYTES, shape: [t]", 'it has no output "texts"'),
    ("name: count, datatype: INT64, shape: [{", "name: count, datatype: INT32, shape: [{", 'input "count" is "INT64" there, INT32'),
    ("      - {name: half, datatype: FP16, shape: [{name: h, max: 8}], optional: true}\n", "", 'input "half" is not in the contract'),
]


def wrong_contracts(table, triton, folder):
    """A gate whose contracts are for other models reports which models are not ready, and why."""
    table.head("contracts that are not Triton's models (what /readyz says)")

    def spoil(policy):
        for right, wrong, _ in WRONG:
            assert policy.count(right) == 1, right
            policy = policy.replace(right, wrong)
        return policy

    gate = Gate(triton, folder, "wrong", spoil, serving=False)
    try:
        said = wait("the wrong contracts are found", lambda: drifted(gate.readyz), gate.process)
    finally:
        gate.stop()
    for _, wrong, expected in WRONG:
        table.row(wrong.strip() or "the input left out", "", expected if expected in said else said, expected in said)


def drifted(readyz, text="breaks the contract"):
    """Waits until /readyz reports this text. The gate itself is ready all along."""
    code, said = fetch(readyz) or (0, "")
    return said if code == 200 and text in said else None


def another_model(table, triton, gate, direct, through):
    """A model that is loaded with another signature gets no more requests from the gate, until the
    right one is loaded again.
    """
    table.head("a model that becomes another while the gate runs")
    image = [("image", "FP32", np.ones((1, 1, 8, 8), np.float32))]
    right = direct.http.get_model_config("digits")
    wrong = json.loads(json.dumps(right))
    wrong["output"][0]["dims"] = ["11"]
    direct.http.load_model("digits", config=json.dumps(wrong))
    said = wait("the drift is found", lambda: drifted(gate.readyz), gate.process)
    expected = 'output "probabilities" has 11 in dim 1 there, 10 in the contract'
    table.row("/readyz once digits has 11 classes", "", expected if expected in said else said, expected in said)
    count = lambda: direct.http.get_inference_statistics("digits")["model_stats"][0]["execution_count"]
    before = count()
    for protocol, code in (("http", "502"), ("grpc", "INTERNAL")):
        _, error = attempt(lambda: answers.infer(through, protocol, "digits", image))
        ready = through.client(protocol)[0].is_model_ready("digits", headers=dict(through.headers))
        shown = "served" if error is None else f"{status(error)}: {error.message()}"
        sent = count() - before
        good = error is not None and status(error) == code and not ready and sent == 0
        table.row(f"{protocol}: digits meanwhile", "", f"{shown}; ready {ready}; {sent} sent", good)
    direct.http.load_model("digits", config=json.dumps(right))
    wait("digits fits again", gate.all_ready, gate.process)
    answers.equal(table, "grpc: digits as it was", lambda side: answers.infer(side, "grpc", "digits", image), direct, through)
