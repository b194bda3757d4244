"""`double` as a handler of TorchServe. It gets an input's bytes over gRPC and a document over HTTP.
"""

import json
import time

import numpy as np
from double import document, wait_s


def handle(data, context):
    """Answers a batch; without data the model is only loaded."""
    answers = []
    for asked in data or []:
        body = asked.get("body", asked)
        body = json.loads(body) if isinstance(body, (bytes, bytearray)) else body
        x = body["x"]
        x = np.array(json.loads(x) if isinstance(x, (bytes, bytearray)) else x, np.float32)
        time.sleep(wait_s(x))
        answers.append(json.dumps(document(x)))
    return answers
