"""KServe's MNIST transformer: a version 1 request with images in base64 becomes a batch."""

import base64
import binascii
import io
import json
import logging

import numpy as np
from PIL import Image
from tensorgate import BadInput, Tensor

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger(__name__)


def image_transform(instance):
    byte_array = base64.b64decode(instance["image_bytes"]["b64"], validate=True)
    image = Image.open(io.BytesIO(byte_array)).convert("L")
    a = np.asarray(image).astype(np.float32) / 255
    res = (a[np.newaxis, ...] - 0.1307) / 0.3081
    logger.info("image %s, mean %.3f", image.size, res.mean())
    return res.tolist()


def preprocess(input):
    try:
        inputs = json.loads(input.data)
        instances = [image_transform(instance) for instance in inputs["instances"]]
    except (json.JSONDecodeError, KeyError, TypeError, binascii.Error) as error:
        raise BadInput(f"bad request: {error!r}") from error
    return [Tensor.of("images", np.array(instances, dtype=np.float32))]
