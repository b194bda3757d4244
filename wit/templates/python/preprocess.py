"""Before the model: subtracts `mean` from each element of `image` (FP32, any shape) and multiplies
by `scale`. Both are set in the configuration.
"""

from tensorgate import BadInput, Fault, Payload, Raw, Tensor, config


def preprocess(input: Payload) -> list[Tensor]:
    if isinstance(input, Raw):
        raise BadInput("expected tensors, not a body")
    if len(input) != 1:
        raise BadInput("expected one tensor")
    pixels = input[0].array("FP32")
    # The array is computed as a whole: its elements never become Python numbers.
    return [Tensor.of("image", (pixels - number("mean", 0.0)) * number("scale", 1.0))]


def number(key: str, otherwise: float) -> float:
    """A number of the configuration, or the default if it is not set."""
    text = config(key)
    try:
        return otherwise if text is None else float(text)
    except ValueError:
        raise Fault(f"config {key}: {text!r} is not a number") from None
