import json
import pickle

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.config = json.loads(args["model_config"])
        with open("/models/scaler.pkl", "rb") as f:
            self.scaler = pickle.load(f)

    def execute(self, requests):
        responses = []
        for request in requests:
            rows = pb_utils.get_input_tensor_by_name(request, "rows").as_numpy()
            scaled = (rows - self.scaler.mean_) / self.scaler.scale_
            call = pb_utils.InferenceRequest(
                model_name="risk", requested_output_names=["score"], inputs=[pb_utils.Tensor("x", scaled.astype(np.float32))]
            )
            answer = call.exec()
            if answer.has_error():
                raise pb_utils.TritonModelException(answer.error().message())
            score = pb_utils.get_output_tensor_by_name(answer, "score")
            responses.append(pb_utils.InferenceResponse(output_tensors=[score]))
        return responses

    def finalize(self):
        print("done")
