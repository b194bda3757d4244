"""Sounds, boxes and token lists."""

from __future__ import annotations

import struct
from typing import Any, Optional, Sequence

import numpy as np

from .errors import BadInput

# The most parts of a WAV that are looked through for its samples.
_MAX_PARTS = 64

# The samples of a WAV by the format's tag and bits: their type, and the value of full scale.
_SAMPLES: dict[tuple[int, int], tuple[str, float]] = {
    (1, 8): ("u1", 128.0),
    (1, 16): ("<i2", 32768.0),
    (1, 24): ("u1", 8388608.0),
    (3, 32): ("<f4", 1.0),
}


def decode_wav(data: bytes, max_frames: int = 1 << 22) -> tuple[np.ndarray, int]:
    """Decodes a WAV to samples, float32 [frames, channels] from -1 to 1, and its frame rate. Raises
    BadInput for other formats and damaged files.
    """
    parts: dict[bytes, bytes] = {}
    at = 12
    for _ in range(_MAX_PARTS):
        if at + 8 > len(data) or b"data" in parts:
            break
        kind, size = struct.unpack_from("<4sI", data, at)
        parts[kind] = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    form, raw = parts.get(b"fmt ", b""), parts.get(b"data")
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE" or len(form) < 16 or raw is None:
        raise BadInput("the sound is not a WAV, or it is damaged")
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", form)
    if tag == 0xFFFE and len(form) >= 26:
        tag = int.from_bytes(form[24:26], "little")
    if (tag, bits) not in _SAMPLES or not channels or block != channels * bits // 8 or not rate:
        raise BadInput(f"the WAV has format {tag} with {bits} bits in {channels} channels")
    frames = len(raw) // block
    if frames > max_frames:
        raise BadInput(f"the sound has {frames} frames: at most {max_frames}")
    dtype, full = _SAMPLES[tag, bits]
    samples = np.frombuffer(raw[: frames * block], dtype)
    if bits == 24:
        low, middle, high = samples.reshape(-1, 3).astype(np.int32).T
        samples = low | middle << 8 | (high ^ 0x80) - 0x80 << 16
    elif bits == 8:
        samples = samples.astype(np.int16) - 128
    return (samples / full).astype(np.float32).reshape(frames, channels), rate


def nms(boxes: Any, scores: Any, overlap: float, classes: Optional[Any] = None, least: float = 0.0, limit: int = 300) -> np.ndarray:
    """Non-maximum suppression of boxes [n, 4] (x1, y1, x2, y2).

    Returns the indices of the boxes to keep, best first, at most `limit`. A box is removed if its
    score, [n], is below `least`, or if its intersection over union with a better box of its class
    exceeds `overlap`.
    """
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= least]
    sizes = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    groups = np.zeros(len(boxes)) if classes is None else np.asarray(classes)
    chosen: list[int] = []
    while len(order) and len(chosen) < limit:
        best, order = order[0], order[1:]
        chosen.append(int(best))
        corners = np.minimum(boxes[best, 2:], boxes[order, 2:]) - np.maximum(boxes[best, :2], boxes[order, :2])
        shared = np.prod(np.maximum(corners, 0), axis=1)
        both = sizes[best] + sizes[order] - shared
        order = order[(shared <= overlap * both) | (groups[order] != groups[best])]
    return np.array(chosen, np.int64)


def pad_tokens(rows: Sequence[Sequence[int]], length: int, value: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truncates or pads token lists to one length: int64 [rows, length], and an attention mask of
    the same shape with 1 for each token.
    """
    tokens = np.full((len(rows), length), value, np.int64)
    there = np.zeros_like(tokens)
    for at, row in enumerate(rows):
        tokens[at, : len(row)] = row[:length]
        there[at, : len(row)] = 1
    return tokens, there
