"""The task of the normalise handler in an MLServer runtime.

It converts bytes to FP32 NCHW. The model ignores its input and answers ten numbers.
"""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)
SCALE = np.float32(1) / (np.float32(255) * DEVIATION)
OFFSET = MEAN / DEVIATION
SCORES = np.full((1, 10), 0.5, dtype=np.float32)


def scores(image):
    return SCORES


class Normalise(MLModel):
    async def predict(self, payload):
        photo = NumpyCodec.decode_input(payload.inputs[0])
        image = np.ascontiguousarray((photo * SCALE - OFFSET).astype(np.float32, copy=False).transpose(0, 3, 1, 2))
        return InferenceResponse(model_name=self.name, model_version="1", outputs=[NumpyCodec.encode_output("scores", scores(image))])
