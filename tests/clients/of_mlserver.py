"""MLServer's own codecs and types, which name each tensor's kind as `content_type`. The package's
server is left out: its `__init__` would import it with all that it needs.
"""

import importlib.util
import json
import sys
import types

import httpx
import numpy as np
import pandas as pd
from common import DIGITS, Direct, Part, exact, image
from of_httpx import told


def without_server():
    """Makes `mlserver` a package without its `__init__`."""
    package = types.ModuleType("mlserver")
    package.__path__ = list(importlib.util.find_spec("mlserver").submodule_search_locations)
    sys.modules["mlserver"] = package


without_server()

from mlserver.codecs import NumpyCodec, PandasCodec, StringCodec, StringRequestCodec
from mlserver.types import InferenceRequest, InferenceResponse, Parameters

NOTES = ["", "na\u00efve \u2713", 'quote " and \\ backslash']


def ask(table, places):
    """Runs all calls."""
    table.head("MLServer's codecs")
    direct, part = Direct(places), Part(table, "mlserver", 0, told)
    client = httpx.Client(base_url=f"http://{places.plain}", headers={"x-api-key": places.keys["scorer"], "content-type": "application/json"}, timeout=30)

    def send(model, content):
        """One request; the answer in the types of the package."""
        answer = client.post(f"/v2/models/{model}/infer", content=content)
        answer.raise_for_status()
        return InferenceResponse.model_validate_json(answer.content)

    numbers = InferenceRequest(inputs=[NumpyCodec.encode_input("image", image())], parameters=Parameters(content_type="np"))

    def scores(request):
        """The scores, decoded by the codec."""
        outputs = send("digits", request.model_dump_json()).outputs
        return {output.name: exact(NumpyCodec.decode_output(output).astype(np.float32)) for output in outputs}

    part.same("NumpyCodec", lambda: direct.infer("digits", DIGITS), lambda: scores(numbers))

    def notes(content):
        """The texts, decoded by the codec."""
        return [StringCodec.decode_output(output) for output in send("notes", content).outputs]

    texts = InferenceRequest(inputs=[StringCodec.encode_input("text", NOTES)])
    part.same("StringCodec", lambda: [NOTES], lambda: notes(texts.model_dump_json()))
    whole = StringRequestCodec.encode_request(NOTES)
    whole.inputs[0].name = "text"
    part.same("StringRequestCodec", lambda: [NOTES], lambda: notes(whole.model_dump_json()))
    frame = PandasCodec.encode_request(pd.DataFrame({"text": NOTES}))
    part.same("PandasCodec", lambda: [NOTES], lambda: notes(frame.model_dump_json()))
    # Older versions write null for each member that is absent.
    nulls = {"id": None, "parameters": None, "outputs": None, **json.loads(texts.model_dump_json())}
    part.same("absent members as null", lambda: [NOTES], lambda: notes(json.dumps(nulls)))
    other = InferenceRequest(inputs=[StringCodec.encode_input("text", NOTES)], parameters=Parameters(content_type="pickle"))
    part.refused("a content type that no rule names", "parameter", lambda: notes(other.model_dump_json()), "content_type")
    client.close()
