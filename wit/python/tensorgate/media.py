"""Images, sounds, boxes and token lists. All functions but `pad_tokens` need the tensor kit; see
`kit.py` for when it is available.
"""

from __future__ import annotations

from typing import Literal, Optional, Sequence

from . import kit
from .array import Array


def decode_image(data: bytes, channels: Literal["GRAY", "RGB", "RGBA"] = "RGB", max_pixels: int = 1 << 24) -> Array:
    """Decodes a PNG, JPEG, WebP or GIF to pixels, UINT8 [height, width, channels].

    The pixels are those of Pillow's `convert("RGB")`; for a lossy WebP they differ by 1 at most.
    Of an animation the first frame is decoded. Raises BadInput for other formats, damaged files,
    and files whose header states more than `max_pixels`. Those are rejected before they are
    decoded.
    """
    kit.needed("decode_image")
    return Array.of_held(kit.image(data, channels, max_pixels))


def decode_wav(data: bytes, max_frames: int = 1 << 22) -> tuple[Array, int]:
    """Decodes a WAV to samples, FP32 [frames, channels] from -1 to 1, and its frame rate. Raises
    BadInput as `decode_image` does.
    """
    kit.needed("decode_wav")
    samples, rate = kit.wav(data, max_frames)
    return Array.of_held(samples), rate


def nms(boxes: Array, scores: Array, overlap: float, classes: Optional[Array] = None, least: float = 0.0, limit: int = 300) -> Array:
    """Non-maximum suppression of boxes FP32 [n, 4] (x1, y1, x2, y2).

    Returns the INT64 indices of the boxes to keep, best first, at most `limit`, for `take`. A
    box is removed if its score, FP32 [n], is below `least`, or if its intersection over union
    with a better box of its class exceeds `overlap`.
    """
    kit.needed("nms")
    return Array.of_held(
        kit.asked(boxes.in_kit().nms, scores.in_kit(), None if classes is None else classes.in_kit(), overlap, least, limit)
    )


def pad_tokens(rows: Sequence[Sequence[int]], length: int, value: int = 0) -> tuple[Array, Array]:
    """Truncates or pads token lists to one length: INT64 [rows, length], and an attention mask of
    the same shape with 1 for each token.
    """
    tokens: list[int] = []
    there: list[int] = []
    for row in rows:
        count = min(len(row), length)
        tokens += [*row[:count], *[value] * (length - count)]
        there += [1] * count + [0] * (length - count)
    shape = (len(rows), length)
    return Array(tokens, shape, "INT64"), Array(there, shape, "INT64")
