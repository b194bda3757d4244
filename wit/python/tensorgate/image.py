"""Pictures as arrays."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any, Literal

import numpy as np

from .errors import BadInput

try:
    import tensorgate_abi as _abi  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    _abi = None

# Pillow's names of channels, and those of its formats that are decoded.
_MODES = {"GRAY": "L", "RGB": "RGB", "RGBA": "RGBA"}
_FORMATS = ["PNG", "JPEG", "WEBP", "GIF"]


def decode_image(data: bytes, channels: Literal["GRAY", "RGB", "RGBA"] = "RGB", max_pixels: int = 1 << 24) -> np.ndarray:
    """Decodes a PNG, JPEG, WebP or GIF to pixels, uint8 [height, width, channels].

    The pixels are those of Pillow's `Image.open(…).convert("RGB")`; for a lossy WebP they differ by
    1 at most. Of an animation the first frame is decoded. Raises BadInput for other formats, damaged
    files, and files whose header states more than `max_pixels`. Those are rejected before they are
    decoded.

    It needs no Pillow. In a unit test, where there is no component, Pillow takes its place.
    """
    try:
        return (_with_pillow if _abi is None else _abi.decoded)(data, channels, max_pixels)
    except ValueError as error:
        raise BadInput(f"the picture cannot be decoded as PNG, JPEG, WebP or GIF: {error}") from None


def _with_pillow(data: bytes, channels: str, max_pixels: int) -> np.ndarray:
    # A build imports what an import statement names.
    Image: Any = import_module("PIL.Image")
    try:
        picture = Image.open(io.BytesIO(data), formats=_FORMATS)
        if picture.width * picture.height > max_pixels:
            raise ValueError(f"{picture.width}×{picture.height} pixels, at most {max_pixels}")
        return np.array(picture.convert(_MODES[channels])).reshape(picture.height, picture.width, -1)
    except (OSError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError) as error:
        raise ValueError(error) from None
