"""A KServe transformer with the task of the normalise handler.

It converts bytes to FP32 NCHW and calls the predictor over gRPC.
"""

import argparse

import numpy as np
from kserve import InferInput, InferRequest, Model, ModelServer, model_server

MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)
SCALE = np.float32(1) / (np.float32(255) * DEVIATION)
OFFSET = MEAN / DEVIATION


class Normalise(Model):
    def __init__(self, name):
        super().__init__(name)
        self.ready = True

    def preprocess(self, payload, headers=None):
        photo = payload.inputs[0].as_numpy()
        image = np.ascontiguousarray((photo * SCALE - OFFSET).astype(np.float32, copy=False).transpose(0, 3, 1, 2))
        tensor = InferInput("image", list(image.shape), "FP32")
        tensor.set_data_from_numpy(image, binary_data=True)
        return InferRequest(model_name="large", infer_inputs=[tensor])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    args, _ = parser.parse_known_args()
    ModelServer(workers=1).start([Normalise("photo")])
