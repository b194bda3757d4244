"""Images, sounds, boxes and token lists. All but `pad_tokens` is the tensor kit's: see `kit.py` for when that is there."""

from __future__ import annotations

from typing import Literal, Optional, Sequence

from . import kit
from .array import Array


def decode_image(data: bytes, channels: Literal["GRAY", "RGB", "RGBA"] = "RGB", max_pixels: int = 1 << 24) -> Array:
    """A PNG's or a JPEG's pixels, UINT8 [height, width, channels]; Pillow's `convert("RGB")` makes the same of a PNG, of a JPEG nearly.

    Raises BadInput for what is neither, is damaged, or says that it has more than `max_pixels`: nothing is unpacked then.
    """
    kit.needed("decode_image")
    return Array.of_held(kit.image(data, channels, max_pixels))


def decode_wav(data: bytes, max_frames: int = 1 << 22) -> tuple[Array, int]:
    """A WAV's samples, FP32 [frames, channels] from -1 to 1, and its frames a second. Raises as `decode_image` does."""
    kit.needed("decode_wav")
    samples, rate = kit.wav(data, max_frames)
    return Array.of_held(samples), rate


def nms(boxes: Array, scores: Array, overlap: float, classes: Optional[Array] = None, least: float = 0.0, limit: int = 300) -> Array:
    """Which of the boxes FP32 [n, 4] (x1, y1, x2, y2) stay, best first, at most `limit`: INT64 indices, for `take`.

    A box goes if its score, FP32 [n], is below `least`, or if a better one of its class covers it by more than `overlap` (intersection over union).
    """
    kit.needed("nms")
    return Array.of_held(
        kit.asked(boxes.in_kit().nms, scores.in_kit(), None if classes is None else classes.in_kit(), overlap, least, limit)
    )


def pad_tokens(rows: Sequence[Sequence[int]], length: int, value: int = 0) -> tuple[Array, Array]:
    """Token lists cut or padded to one length: INT64 [rows, length], and INT64 of the same shape that is 1 where a token is."""
    tokens: list[int] = []
    there: list[int] = []
    for row in rows:
        count = min(len(row), length)
        tokens += [*row[:count], *[value] * (length - count)]
        there += [1] * count + [0] * (length - count)
    shape = (len(rows), length)
    return Array(tokens, shape, "INT64"), Array(there, shape, "INT64")
