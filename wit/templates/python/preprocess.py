"""Before the model: `image` FP32 of any shape, each element less `mean` and times `scale`, as the configuration says."""

from tensorgate import BadInput, Fault, Payload, Raw, Tensor, config


def preprocess(input: Payload) -> list[Tensor]:
    if isinstance(input, Raw):
        raise BadInput("expected tensors, not a body")
    if len(input) != 1:
        raise BadInput("expected one tensor")
    pixels = input[0].array("FP32")
    # Of large arrays each operation is one pass of the tensor kit's: elements never become Python's numbers.
    return [Tensor.of("image", (pixels - number("mean", 0.0)) * number("scale", 1.0))]


def number(key: str, otherwise: float) -> float:
    """A number of the configuration, or what counts where it is not set."""
    text = config(key)
    try:
        return otherwise if text is None else float(text)
    except ValueError:
        raise Fault(f"config {key}: {text!r} is no number") from None
