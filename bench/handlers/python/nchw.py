"""A photograph of bytes as the normalised FP32 tensor that a model of ImageNet expects."""

import numpy as np

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
SCALE = np.float32(1) / (np.float32(255) * DEVIATION)
OFFSET = MEAN / DEVIATION


def run(photo):
    return np.ascontiguousarray((photo * SCALE - OFFSET).transpose(0, 3, 1, 2))
