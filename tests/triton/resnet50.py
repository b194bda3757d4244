"""The tutorial's model, for Triton's Python backend: logits of the contract's shape."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance."""

    def execute(self, requests):
        """Answers each request by itself."""
        return [self.answer(request) for request in requests]

    def answer(self, request):
        """Equal logits for each image of the batch."""
        images = pb_utils.get_input_tensor_by_name(request, "input").as_numpy()
        logits = np.zeros((len(images), 1000), np.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("logits", logits)])
