"""detection: non-maximum suppression by class, in numpy. Compares all pairs of boxes at once, then
selects the best first.
"""

import numpy as np
from case import Case, answer, refused, tensor, tensors, texts

HANDLER = "detection"
CLOSE = 1e-6


def reference(raw, config):
    setting = lambda key, otherwise: float(config.get(key, otherwise))
    rows = raw[0].T
    scores = rows[:, 4:].max(axis=1)
    classes = rows[:, 4:].argmax(axis=1)
    order = np.flatnonzero(scores >= np.float32(setting("score_threshold", 0.25)))
    order = order[np.argsort(-scores[order], kind="stable")][: int(setting("max_candidates", 1000))]
    center, half = rows[order, :2], np.maximum(rows[order, 2:4], 0) / np.float32(2)
    frame = np.array([setting("width", 640), setting("height", 640)] * 2, np.float32)
    boxes = np.clip(np.hstack([center - half, center + half]), 0, frame)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    low, high = np.maximum(boxes[:, None, :2], boxes[None, :, :2]), np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    together = area[:, None] + area[None] - shared
    overlap = np.divide(shared, together, out=np.zeros_like(shared), where=together > 0)
    same = classes[order][:, None] == classes[order][None]
    covers = same & (overlap > np.float32(setting("iou_threshold", 0.45)))
    alive = np.ones(len(order), bool)
    for at in range(len(order)):
        if alive[at]:
            alive[at + 1 :] &= ~covers[at, at + 1 :]
    kept = np.flatnonzero(alive)[: int(setting("max_detections", 100))]
    names = [name.strip() for name in config["labels"].split(",")] if "labels" in config else None
    found = classes[order][kept]
    return [
        tensor("boxes", boxes[kept].astype(np.float32)),
        tensor("scores", scores[order][kept].astype(np.float32)),
        tensor("classes", found.astype(np.int64)),
        texts("labels", [len(kept)], [names[one] if names else str(one) for one in found]),
    ]


def anchors(rng, count, classes):
    """Anchors around a few objects, as a detector returns them."""
    things = rng.uniform(50, 590, (4, 2))
    center = things[rng.integers(0, 4, count)] + rng.normal(0, 8, (count, 2))
    size = rng.uniform(20, 160, (count, 2))
    scores = rng.beta(0.6, 2, (count, classes))
    return np.round(np.hstack([center, size, scores]).T[None], 3).astype(np.float32)


def case(name, raw, config):
    return Case(name, tensors(tensor("output0", raw)), answer(CLOSE, *reference(raw, config)), config)


def committed(rng):
    named = {"labels": "person, car, dog"}
    yield case("things", anchors(rng, 60, 3), named)
    yield case("strict", anchors(rng, 60, 3), {"score_threshold": "0.7", "iou_threshold": "0.1"})
    yield case("few", anchors(rng, 80, 2), {"max_detections": "3", "max_candidates": "20"})
    yield case("nothing", anchors(rng, 10, 2) * np.float32(0.001), {})
    yield case("at-the-edge", np.array([[[635], [5], [40], [40], [0.9]]], np.float32), {"width": "640", "height": "20"})
    yield case("turned-inside-out", np.array([[[50], [50], [-40], [-1], [0.9]]], np.float32), {})
    few = tensors(tensor("output0", anchors(rng, 3, 2)))
    yield Case("too-many-labels", few, refused("3 labels for 2", "reported"), named)
    yield Case("two-images", tensors(tensor("output0", np.zeros((2, 6, 3), np.float32))), refused("one image", "reported"))
    yield Case("another-rank", tensors(tensor("output0", np.zeros((6, 3), np.float32))), refused("", "reported"))


def fresh(rng):
    for at in range(8):
        config = {"score_threshold": f"{rng.uniform(0.1, 0.8):.2f}", "iou_threshold": f"{rng.uniform(0.1, 0.9):.2f}"}
        yield case(f"things-{at}", anchors(rng, int(rng.integers(1, 2000)), int(rng.integers(1, 20))), config)
