"""The last model of a YOLOv8 ensemble for Triton: [batch, 4 + classes, boxes] to rows of image,
class, score, x1, y1, x2, y2, with non-maximum suppression in each class.
"""

import numpy as np
from tensorgate import Tensor

CONFIDENCE, IOU = 0.25, 0.45


def xywh2xyxy(x):
    y = np.copy(x)
    y[..., 0] = x[..., 0] - x[..., 2] / 2
    y[..., 1] = x[..., 1] - x[..., 3] / 2
    y[..., 2] = x[..., 0] + x[..., 2] / 2
    y[..., 3] = x[..., 1] + x[..., 3] / 2
    return y


def nms(boxes, scores, iou_threshold):
    order = np.argsort(scores, kind="stable")[::-1]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    keep = []
    while order.size > 0:
        best, rest = order[0], order[1:]
        keep.append(best)
        top_left = np.maximum(boxes[best, :2], boxes[rest, :2])
        bottom_right = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        overlap = np.prod(np.clip(bottom_right - top_left, 0, None), axis=1)
        iou = overlap / (areas[best] + areas[rest] - overlap + 1e-9)
        order = rest[np.where(iou <= iou_threshold)[0]]
    return np.array(keep, dtype=np.intp)


def postprocess(outputs):
    predictions = outputs[0].array().transpose(0, 2, 1)
    rows = []
    for batch, prediction in enumerate(predictions):
        scores = prediction[:, 4:].max(axis=1)
        prediction, scores = prediction[scores > CONFIDENCE], scores[scores > CONFIDENCE]
        class_ids = np.argmax(prediction[:, 4:], axis=1)
        boxes = xywh2xyxy(prediction[:, :4])
        for class_id in np.unique(class_ids):
            of_class = np.flatnonzero(class_ids == class_id)
            keep = of_class[nms(boxes[of_class], scores[of_class], IOU)]
            ids = np.full(keep.size, batch)
            rows.append(np.column_stack((ids, class_ids[keep], scores[keep], boxes[keep])))
    found = np.vstack(rows) if rows else np.empty((0, 7))
    return [
        Tensor.of("num_detections", np.array([[len(found)]], dtype=np.int32)),
        Tensor.of("detections", found.astype(np.float32)),
    ]
