"""A preprocessing model of a Triton ensemble: pictures as base64 or as they are, 224 x 224, CHW."""

import base64
import io

import numpy as np
from PIL import Image
from tensorgate import Tensor


class TritonPythonModel:
    def initialize(self, args):
        self.output0_dtype = np.dtype(args["data_type"])

    def execute(self, requests):
        responses = []
        for in_0 in requests:
            img = in_0.ravel()[0]
            try:
                img = base64.b64decode(img, validate=True)
            except ValueError:
                pass
            image = Image.open(io.BytesIO(img)).convert("RGB").resize((224, 224))
            img_out = np.array(image).astype(np.float32) / 255.0
            img_out = np.expand_dims(np.transpose(img_out, (2, 0, 1)), axis=0)
            responses.append(img_out.astype(self.output0_dtype))
        return responses


model = TritonPythonModel()
model.initialize({"data_type": "float32"})


def preprocess(input):
    requests = [np.array([item], dtype=object) for item in input[0].items()]
    return [Tensor.of("input", np.concatenate(model.execute(requests)))]
