"""class-labels: softmax and the best classes of each row, in numpy."""

import numpy as np
from case import Case, answer, refused, tensor, tensors, texts

HANDLER = "class-labels"
# Exponentials differ in the last one or two bits between libraries, and the sum of a thousand by
# more.
CLOSE = 1e-5


def reference(scores, top_k, labels, activation="softmax"):
    if activation == "softmax":
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores = powers / powers.sum(axis=1, keepdims=True)
    elif activation == "sigmoid":
        scores = 1 / (1 + np.exp(-scores))
    scores = scores.astype(np.float32)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    names = [labels[index] if labels else str(index) for index in best.reshape(-1)]
    return [
        texts("label", best.shape, names),
        tensor("probability", np.take_along_axis(scores, best, axis=1)),
        tensor("class", best.astype(np.int64)),
    ]


def case(name, scores, config):
    labels = [label.strip() for label in config["labels"].split(",")] if "labels" in config else None
    made = reference(scores, int(config.get("top_k", 5)), labels, config.get("activation", "softmax"))
    return Case(name, tensors(tensor("logits", scores)), answer(CLOSE, *made), config)


def scores(rng, rows, classes):
    return np.round(rng.normal(0, 4, (rows, classes)), 4).astype(np.float32)


def committed(rng):
    animals = {"labels": "cat, dog, fish, bird", "top_k": "2"}
    yield case("labelled", scores(rng, 3, 4), animals)
    yield case("numbered", scores(rng, 2, 10), {})
    yield case("several-at-once", scores(rng, 2, 6), {"activation": "sigmoid", "top_k": "6"})
    yield case("equal", np.zeros((1, 4), np.float32), animals)
    yield case("far-apart", np.array([[1e30, -1e30, 0, 1e30]], np.float32), animals)
    yield case("as-they-are", np.array([[0.25, 0.5, 0.25]], np.float32), {"activation": "none", "top_k": "9"})
    logits = tensors(tensor("logits", scores(rng, 1, 3)))
    yield Case("too-few-labels", logits, refused("4 labels for 3", "reported"), animals)
    yield Case("another-name", tensors(tensor("scores", scores(rng, 1, 3))), refused("logits", "reported"))


def fresh(rng):
    yield case("a-batch-of-imagenet", scores(rng, 32, 1000), {})
    for at, rows in enumerate((1, 7, 32)):
        yield case(f"many-{at}", scores(rng, rows, int(rng.integers(2, 1000))), {"top_k": str(int(rng.integers(1, 20)))})
