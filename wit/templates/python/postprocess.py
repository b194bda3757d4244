"""After the model: from `probabilities` FP32 [n, classes] to `label` INT64 [n] and `confidence`
FP32 [n], the class with the highest score and that score.
"""

from tensorgate import Fault, Tensor


def postprocess(outputs: list[Tensor]) -> list[Tensor]:
    if len(outputs) != 1:
        raise Fault("expected one tensor")
    scores = outputs[0].array("FP32")
    if scores.ndim != 2:
        raise Fault("expected [n, classes]")
    return [
        Tensor.of("label", scores.argmax(axis=1), "INT64"),
        Tensor.of("confidence", scores.max(axis=1)),
    ]
