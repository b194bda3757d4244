"""Returns its inputs: BYTES, INT64 and, if present, FP16. Text that begins with `raise` makes it
fail.
"""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance."""

    def execute(self, requests):
        """Answers each request by itself."""
        return [self.answer(request) for request in requests]

    def answer(self, request):
        """One answer, or an error whose text only an operator should see."""
        text, count, half = (
            pb_utils.get_input_tensor_by_name(request, name) for name in ("text", "count", "half")
        )
        if any(item.startswith(b"raise") for item in text.as_numpy().flatten()):
            secret = pb_utils.TritonError("/opt/models/secret.py: line 7 of the model")
            return pb_utils.InferenceResponse(error=secret)
        half = np.zeros(1, np.float16) if half is None else half.as_numpy()
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("text", text.as_numpy()),
                pb_utils.Tensor("count", count.as_numpy()),
                pb_utils.Tensor("half", half),
            ]
        )
