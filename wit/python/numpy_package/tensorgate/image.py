"""Pictures as arrays."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np

from .errors import BadInput

# Pillow's names of pixels.
_MODES = {"GRAY": "L", "RGB": "RGB", "RGBA": "RGBA"}


def decode_image(data: bytes, channels: Literal["GRAY", "RGB", "RGBA"] = "RGB", max_pixels: int = 1 << 24) -> np.ndarray:
    """Decodes a PNG, GIF or BMP to pixels, uint8 [height, width, channels], as Pillow's
    `Image.open(…).convert("RGB")` does.

    Of an animation the first frame is decoded. Raises BadInput for other formats, damaged files,
    and files whose header states more than `max_pixels`. Those are rejected before they are
    decoded.
    """
    from PIL import Image

    faults = (OSError, SyntaxError, ValueError, EOFError, IndexError, Image.DecompressionBombError)
    try:
        picture = Image.open(io.BytesIO(data), formats=["PNG", "GIF", "BMP"])
        if picture.width * picture.height > max_pixels:
            raise ValueError(f"{picture.width} x {picture.height} pixels are more than {max_pixels}")
        return np.array(picture.convert(_MODES[channels])).reshape(picture.height, picture.width, -1)
    except faults as error:
        raise BadInput(f"the picture cannot be decoded as PNG, GIF or BMP: {error}") from None
