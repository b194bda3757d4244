"""The task of the normalise handler in Triton's Python backend: bytes to FP32 NCHW."""

import numpy as np
import triton_python_backend_utils as pb_utils

MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)
SCALE = np.float32(1) / (np.float32(255) * DEVIATION)
OFFSET = MEAN / DEVIATION


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            photo = pb_utils.get_input_tensor_by_name(request, "photo").as_numpy()
            image = np.ascontiguousarray((photo * SCALE - OFFSET).astype(np.float32, copy=False).transpose(0, 3, 1, 2))
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("image", image)]))
        return responses
