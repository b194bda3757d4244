"""An image transformer as KServe's users write it: the shorter side to 256, the centre 224 x 224,
ImageNet's mean and deviation. Pillow and numpy take the place of torchvision.
"""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError
from tensorgate import BadInput, Tensor

MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


def resize(image: Image.Image, size: int) -> Image.Image:
    w, h = image.size
    if w <= h:
        return image.resize((size, int(size * h / w)), Image.Resampling.BILINEAR)
    return image.resize((int(size * w / h), size), Image.Resampling.BILINEAR)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    w, h = image.size
    left, top = int(round((w - size) / 2.0)), int(round((h - size) / 2.0))
    return image.crop((left, top, left + size, top + size))


def image_transform(data: bytes) -> np.ndarray:
    try:
        image = Image.open(io.BytesIO(data)).convert("RGB")
    except UnidentifiedImageError as error:
        raise BadInput("not an image") from error
    pixels = np.asarray(center_crop(resize(image, 256), 224), dtype=np.float32) / 255.0
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)


def preprocess(input):
    return [Tensor.of("image", np.stack([image_transform(item) for item in input[0].items()]))]
