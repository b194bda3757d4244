"""The digits network in Triton's Python backend, computed by ONNX Runtime."""

import os

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance."""

    def initialize(self, args):
        """Loads model.onnx beside this file."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        """Answers each request by itself."""
        answers = []
        for request in requests:
            image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            (scores,) = self.session.run(["probabilities"], {"image": image})
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("probabilities", scores)]))
        return answers
