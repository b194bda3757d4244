"""Answers once for each of its values, and waits before each. A negative value makes it fail there,
and 100 gives another shape. When it is cancelled, it writes how far it came into a file beside the
models.
"""

import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """One instance."""

    def initialize(self, args):
        """Where it records that it was cancelled."""
        self.cancelled = Path(args["model_repository"]).parents[1] / "cancelled"

    def execute(self, requests):
        """Answers each request separately, and completes one before the next."""
        for request in requests:
            self.answer(request.get_response_sender(), request)

    def answer(self, sender, request):
        """Its answers, and the mark that they are complete."""
        values, wait_ms = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("values", "wait_ms"))
        for number, value in enumerate(values):
            time.sleep(int(wait_ms[0]) / 1000)
            if sender.is_cancelled():
                self.cancelled.write_text(str(number))
                break
            if value < 0:
                secret = pb_utils.TritonError("/opt/models/secret.py: line 7 of the model")
                sender.send(pb_utils.InferenceResponse(error=secret))
                break
            # Twice for 100, which its configuration does not allow.
            answer = np.array([value] * (2 if value == 100 else 1), np.int32)
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("value", answer)]))
        sender.send(flags=FINAL)
