"""`double` in Triton's Python backend."""

import time

import triton_python_backend_utils as pb_utils
from double import double, name, wait_s


class TritonPythonModel:
    """One instance."""

    def execute(self, requests):
        """Answers each request separately."""
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            time.sleep(wait_s(x))
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor(name(x), double(x))]))
        return answers
