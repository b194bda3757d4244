"""`double` as a model of KServe's own server."""

import argparse
import asyncio
import os

from double import double, name, wait_s
from kserve import InferOutput, InferResponse, Model, ModelServer, model_server


class Double(Model):
    """One instance."""

    def __init__(self):
        super().__init__("double")
        self.ready = True

    def get_input_types(self):
        """Its inputs."""
        return [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]

    def get_output_types(self):
        """Its outputs."""
        return [{"name": os.environ.get("DOUBLE_OUTPUT", "y"), "datatype": "FP32", "shape": [-1, 2]}]

    async def predict(self, payload, headers=None, response_headers=None):
        """Answers one request."""
        x = payload.inputs[0].as_numpy()
        await asyncio.sleep(wait_s(x))
        y = double(x)
        output = InferOutput(name(x), list(y.shape), {"float32": "FP32", "int64": "INT64"}[y.dtype.name])
        output.set_data_from_numpy(y, binary_data=False)
        return InferResponse(payload.id, self.name, [output])


if __name__ == "__main__":
    options, _ = argparse.ArgumentParser(parents=[model_server.parser]).parse_known_args()
    ModelServer(workers=1).start([Double()])
