"""The classes with the highest probabilities, as Triton's classification extension writes them."""

import numpy as np
from scipy.special import softmax
from tensorgate import Tensor, config

with open("labels.txt", encoding="utf-8") as f:
    labels = np.array([line.rstrip("\n") for line in f])


def postprocess(outputs):
    k = int(config("top_k") or 3)
    logits = outputs[0].array("FP32")
    probabilities = softmax(logits, axis=-1)
    top = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
    scores = np.take_along_axis(probabilities, top, axis=-1)
    text = [[f"{s:.4f}:{i}:{labels[i]}" for s, i in zip(*row)] for row in zip(scores, top)]
    return [
        Tensor.of("classification", np.array(text)),
        Tensor.of("class_id", top),
        Tensor.of("score", scores),
        Tensor.of("argmax", logits.argmax(axis=1)),
    ]
