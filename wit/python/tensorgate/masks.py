"""Selections by masks: BOOL arrays, which comparisons make. `array[mask]` selects elements or
rows, and `array[mask] = value` writes them.
"""

from __future__ import annotations

from array import array as _flat
from itertools import repeat

from . import kit
from .array import Array, DType, Operand, _common, _of_scalar, _shape, _steps, count_of, full


def where(mask: Array, one: Operand, other: Operand) -> Array:
    """The elements of `one` where a mask is true, and those of `other` elsewhere. All three
    broadcast; the types of `one` and `other` promote.
    """
    mask = mask if mask.dtype == "BOOL" else mask != 0
    dtype, shape = joint_type(one, other), mask.shape
    for each in (one, other):
        shape = _shape(shape, each.shape) if isinstance(each, Array) else shape
    if kit.ready() and count_of(shape) >= kit.LEAST:
        chosen, rest = expanded(one, shape, dtype), expanded(other, shape, dtype)
        return chosen._asked("choose", expanded(mask, shape, "BOOL").in_kit(), rest.in_kit())
    left, right = (each._spread(shape) if isinstance(each, Array) else repeat(each) for each in (one, other))
    return Array([a if chosen else b for chosen, a, b in zip(mask._spread(shape), left, right)], shape, dtype)


def nonzero(array: Array) -> tuple[Array, ...]:
    """For each axis, the INT64 indices of the elements that are not zero, in row-major order."""
    mask = array if array.dtype == "BOOL" else array != 0
    rows = mask._rows_of(mask)
    dims = zip(_steps(array.shape), array.shape)
    return tuple(Array([row // step % dim for row in rows], (len(rows),), "INT64") for step, dim in dims)


def count_nonzero(array: Array) -> int:
    """The number of elements that are not zero."""
    return (array if array.dtype == "BOOL" else array != 0).tobytes().count(1)


def joint_type(one: Operand, other: Operand) -> DType:
    """The type that two operands promote to."""
    if isinstance(one, Array) and isinstance(other, Array):
        return _common(one.dtype, other.dtype)
    if isinstance(one, Array):
        return _of_scalar(one.dtype, other)  # type: ignore[arg-type]
    if isinstance(other, Array):
        return _of_scalar(other.dtype, one)
    if isinstance(one, float) or isinstance(other, float):
        return "FP32"
    return "BOOL" if isinstance(one, bool) and isinstance(other, bool) else "INT64"


def expanded(value: Operand, shape: tuple[int, ...], dtype: DType) -> Array:
    """An operand as an array of a shape and a type."""
    if not isinstance(value, Array):
        return full(shape, value, dtype)
    made = value if value.dtype == dtype else value.astype(dtype)
    if made.shape == shape:
        return made
    if kit.ready() and count_of(shape) >= kit.LEAST:
        # A multiplication by ones is exact, and broadcasts in the kit.
        return made * full(shape, 1, dtype)
    return Array(_flat(made._code, made._spread(shape)), shape, dtype)
