"""A server with its own JSON, called by httpx: the same document directly and through the gate, and
the same tensors by the Open Inference Protocol.
"""

import httpx
import numpy as np
from common import Part, told_by_problem
from json_server import NOT_A_NUMBER, RAISES
from seen import DIRECT_KEY

ROUTE = "/classify"
ROWS = [{"features": [5.9, 3, 5.1, 1.8], "note": "na\u00efve \u2713 \"quote\" \\ \u0001"}, {"features": [4.9, 3.1, 1.5, 0.1], "note": ""}]
WITHOUT_NOTES = [{"features": row["features"]} for row in ROWS]
SERVED = [
    ("rows", {"rows": ROWS}),
    ("one row", {"rows": ROWS[:1]}),
    ("without what is optional", {"rows": WITHOUT_NOTES}),
    ("a number beside rows", {"threshold": 0.25, "rows": ROWS}),
    ("64 rows", {"rows": WITHOUT_NOTES * 32}),
]
REFUSED = [
    ("a member that no place is at", {"rows": ROWS, "model_path": "/srv"}, "malformed", "model_path"),
    ("a row that lacks what another has", {"rows": [ROWS[0], WITHOUT_NOTES[1]]}, "malformed", "rows"),
    ("rows of another length", {"rows": [{"features": [1, 2, 3]}]}, "shape", '"features"'),
    ("more rows than may be", {"rows": WITHOUT_NOTES * 33}, "shape", '"features"'),
    ("out of its range", {"rows": [{"features": [31, 1, 1, 1]}]}, "out-of-range", '"features"'),
    ("a text for a number", {"rows": [{"features": ["1", 1, 1, 1]}]}, "datatype", '"features"'),
    ("no rows", {"rows": []}, "missing-input", '"features"'),
    ("a server that fails", {"rows": [{"features": [RAISES, 1, 1, 1]}]}, "backend-fault", ""),
    ("a server that answers NaN", {"rows": [{"features": [NOT_A_NUMBER, 1, 1, 1]}]}, "backend-fault", ""),
]


def told(error):
    """What `raise_for_status` shows: its exception contains the answer."""
    if not isinstance(error, httpx.HTTPStatusError):
        raise TypeError(error)
    return told_by_problem(error.response)


def narrow(answer):
    """The same in floats of 32 bits. The server's floats have 32 bits too, but it writes them with
    more digits.
    """
    results = [{**row, "scores": [np.float32(score).item() for score in row["scores"]]} for row in answer["results"]]
    return {**answer, "results": results}


def placed(answer):
    """The part of a server's answer that the template has pointers for."""
    results = [{name: row[name] for name in ("species", "scores", "echo")} for row in answer["results"]]
    return narrow({"results": results, "threshold": answer["threshold"]})


def ask(table, places):
    """Runs all calls."""
    table.head("a server in JSON of its own")
    part = Part(table, "httpx", 0, told)
    itself = httpx.Client(base_url=f"http://{places.own}", timeout=30, headers={"authorization": f"Bearer {DIRECT_KEY}"})
    gate = httpx.Client(base_url=f"http://{places.plain}", timeout=30, headers={"x-api-key": places.keys["scorer"]})

    def post(client, path, body):
        answer = client.post(path, json=body)
        answer.raise_for_status()
        return answer.json()

    for title, body in SERVED:
        part.same(title, lambda: placed(post(itself, ROUTE, body)), lambda: narrow(post(gate, ROUTE, body)))
    # Members that are allowed and ignored do not reach the server.
    part.same("with what is not read", lambda: placed(post(itself, ROUTE, {"rows": ROWS})), lambda: narrow(post(gate, ROUTE, {"rows": ROWS, "request_id": "r-1"})))
    features = [row["features"] for row in ROWS]
    tensor = {"name": "features", "datatype": "FP32", "shape": [2, 4], "data": np.ravel(features).tolist()}
    species = lambda answer: [row["species"] for row in answer["results"]]
    oip = lambda: post(gate, "/v2/models/iris/infer", {"inputs": [tensor], "outputs": [{"name": "species"}]})["outputs"][0]["data"]
    part.same("the same tensors by another protocol", lambda: species(post(itself, ROUTE, {"rows": WITHOUT_NOTES})), oip)
    for title, body, reason, says in REFUSED:
        part.refused(title, reason, lambda: post(gate, ROUTE, body), says)
    for path in ("/classify/", "/train", "/-/routes", "/docs.json"):
        part.refused(f"POST {path}", "not-an-inference-route", lambda: post(gate, path, {"rows": ROWS}))
    part.refused("GET", "not-an-inference-route", lambda: gate.get(ROUTE).raise_for_status())
    part.refused("with an unknown key", "unauthenticated", lambda: gate.post(ROUTE, json={"rows": ROWS}, headers={"x-api-key": places.keys["unknown"]}).raise_for_status())
    asked = [call for call in httpx.get(places.own_seen).json() if call["by"] == "gate" and call["method"] == "POST"]
    members = {name for call in asked for name in call["asked"]} | {name for call in asked for row in call["asked"]["rows"] for name in row}
    fields = {name for call in asked for name in call["headers"]}
    table.row("what the server got", sorted(members), sorted(fields), members == {"rows", "features", "note", "threshold"} and fields == {"accept", "accept-encoding", "content-length", "content-type", "host", "x-request-id"})
