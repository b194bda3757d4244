"""`double` as a runtime of MLServer."""

import asyncio

from double import double, name, wait_s
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Double(MLModel):
    """One instance."""

    async def predict(self, payload):
        """Answers one request."""
        x = NumpyCodec.decode_input(payload.inputs[0])
        await asyncio.sleep(wait_s(x))
        outputs = [NumpyCodec.encode_output(name(x), double(x))]
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=outputs)
