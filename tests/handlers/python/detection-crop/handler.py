"""The first model of Triton's text detection ensemble: the largest centred square whose side is a
multiple of 32, height x width x colours, from 0 to 255.
"""

import io

import numpy as np
from PIL import Image
from tensorgate import Tensor


def image_loader(image):
    w, h = image.size
    side = min((w // 32) * 32, (h // 32) * 32)
    top, left = int(round((h - side) / 2.0)), int(round((w - side) / 2.0))
    im = np.asarray(image.convert("RGB"))[top : top + side, left : left + side]
    return (im.transpose(2, 0, 1) / np.float32(255))[np.newaxis].transpose(0, 2, 3, 1)


def preprocess(input):
    img = np.frombuffer(input[0].items()[0], dtype=np.uint8)
    image = Image.open(io.BytesIO(img.tobytes()))
    img_out = np.array(image_loader(image)) * 255.0
    return [Tensor.of("detection_preprocessing_output", img_out.astype(np.float32))]
