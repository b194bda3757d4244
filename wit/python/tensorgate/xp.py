"""Functions of the Array API standard on `Array`: `from tensorgate import xp`.

`__all__` is the complete list. Element types are those of tensors ("FP32"). Without one, integers
become INT64, and floats become FP32. A reduction of all axes without `keepdims` returns a number.
`sin`, `cos`, `prod`, `nonzero` and the search for indices run as plain Python. All others run in
the tensor kit for arrays of 256 elements and more.
"""

from __future__ import annotations

import builtins
import math
import operator
from typing import Any, Callable, Optional, Sequence, Union

from .array import (
    Array,
    DType,
    Operand,
    Scalar,
    _binary,
    _common,
    array,
    concatenate,
    count_of,
    full,
    greatest,
    least,
    zeros,
)
from .masks import count_nonzero, expanded, nonzero, where

__all__ = [
    "abs", "add", "all", "any", "arange", "argmax", "argmin", "asarray", "astype", "broadcast_to",
    "ceil", "clip", "concat", "cos", "count_nonzero", "divide", "equal", "exp", "expand_dims",
    "eye", "flip", "floor", "floor_divide", "full", "greater", "greater_equal", "isfinite",
    "isinf", "isnan", "less", "less_equal", "linspace", "log", "logical_and", "logical_not",
    "logical_or", "logical_xor", "matmul", "max", "maximum", "mean", "min", "minimum", "multiply",
    "negative", "nonzero", "not_equal", "ones", "permute_dims", "pow", "prod", "remainder",
    "reshape", "roll", "round", "sign", "sin", "sqrt", "square", "squeeze", "stack", "std",
    "subtract", "sum", "tanh", "trunc", "var", "where", "zeros",
]  # fmt: skip

# The most products that `matmul` has in memory at once.
_PRODUCTS = 1 << 20


def _is_float(x: Array) -> bool:
    return x.dtype in ("FP32", "FP64")


# Creation


def asarray(values: Any, dtype: Optional[DType] = None) -> Array:
    """An array of a number, of nested sequences of numbers, or of an array."""
    if isinstance(values, Array):
        return values if dtype in (None, values.dtype) else values.astype(dtype or values.dtype)
    leaves = [values]
    while leaves and isinstance(leaves[0], (list, tuple)):
        leaves = [each for sequence in leaves for each in sequence]
    return array(values, dtype or _type_of(leaves))


def _type_of(numbers: Sequence[Scalar]) -> DType:
    """The type of Python's numbers."""
    if not numbers or not builtins.all(isinstance(each, int) for each in numbers):
        return "FP32"
    return "BOOL" if builtins.all(isinstance(each, bool) for each in numbers) else "INT64"


def ones(shape: Sequence[int], dtype: DType = "FP32") -> Array:
    """An array of ones."""
    return full(shape, 1, dtype)


def arange(start: Scalar, stop: Optional[Scalar] = None, step: Scalar = 1, dtype: Optional[DType] = None) -> Array:
    """The numbers from `start` to before `stop`, or from 0 to before `start`."""
    low, high = (0, start) if stop is None else (start, stop)
    count = builtins.max(math.ceil((high - low) / step), 0)
    return asarray([low + at * step for at in range(count)], dtype or ("INT64" if isinstance(low + step, int) else "FP32"))


def linspace(start: float, stop: float, num: int, dtype: DType = "FP32", endpoint: bool = True) -> Array:
    """`num` numbers at equal distances, from `start` to `stop`."""
    parts = builtins.max(num - 1 if endpoint else num, 1)
    return asarray([start + (stop - start) * at / parts for at in range(num)], dtype)


def eye(n_rows: int, n_cols: Optional[int] = None, k: int = 0, dtype: DType = "FP32") -> Array:
    """Ones on the diagonal that is `k` right of the main one, and zeros elsewhere."""
    columns = n_rows if n_cols is None else n_cols
    return Array([int(column == row + k) for row in range(n_rows) for column in range(columns)], (n_rows, columns), dtype)


def astype(x: Array, dtype: DType) -> Array:
    """Converts to another type, as `Array.astype`."""
    return x.astype(dtype)


# Element by element


def _pairs(function: Callable[[Any, Any], Any], name: str, result: Optional[DType] = None, divides: bool = False) -> Callable[[Operand, Operand], Array]:
    def applied(x1: Operand, x2: Operand) -> Array:
        return _binary(function, x1, x2, result, divides)

    applied.__name__, applied.__doc__ = name, "`" + name + "` of each pair of elements."
    return applied


add = _pairs(operator.add, "add")
subtract = _pairs(operator.sub, "subtract")
multiply = _pairs(operator.mul, "multiply")
divide = _pairs(operator.truediv, "divide", divides=True)
floor_divide = _pairs(operator.floordiv, "floor_divide")
remainder = _pairs(operator.mod, "remainder")
pow = _pairs(operator.pow, "pow")
minimum = _pairs(least, "minimum")
maximum = _pairs(greatest, "maximum")
equal = _pairs(operator.eq, "equal", "BOOL")
not_equal = _pairs(operator.ne, "not_equal", "BOOL")
less = _pairs(operator.lt, "less", "BOOL")
less_equal = _pairs(operator.le, "less_equal", "BOOL")
greater = _pairs(operator.gt, "greater", "BOOL")
greater_equal = _pairs(operator.ge, "greater_equal", "BOOL")


def negative(x: Array) -> Array:
    """-x"""
    return -x


def abs(x: Array) -> Array:
    """|x|"""
    return builtins.abs(x)


def square(x: Array) -> Array:
    """x × x"""
    return x * x


def sign(x: Array) -> Array:
    """-1, 0 or 1; NaN for NaN."""
    signs = (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype) if x.dtype[0] != "U" else (x > 0).astype(x.dtype)
    return where(x != x, x, signs) if _is_float(x) else signs


def sqrt(x: Array) -> Array:
    """The square root."""
    return x.sqrt()


def exp(x: Array) -> Array:
    """e to the power of x."""
    return x.exp()


def log(x: Array) -> Array:
    """The natural logarithm."""
    return x.log()


def tanh(x: Array) -> Array:
    """The hyperbolic tangent."""
    return x.tanh()


def sin(x: Array) -> Array:
    """The sine."""
    return x.map(lambda value: math.sin(value) if math.isfinite(value) else math.nan, x.dtype if _is_float(x) else "FP64")


def cos(x: Array) -> Array:
    """The cosine."""
    return x.map(lambda value: math.cos(value) if math.isfinite(value) else math.nan, x.dtype if _is_float(x) else "FP64")


def _to_whole(x: Array, name: str, function: Callable[[float], float]) -> Array:
    """Applies a function that changes no whole number, infinity or NaN."""
    if not _is_float(x):
        return x
    return x._function(name, lambda value: float(function(value)) if math.isfinite(value) else value)


def floor(x: Array) -> Array:
    """The greatest whole number that is not greater."""
    return _to_whole(x, "FLOOR", math.floor)


def ceil(x: Array) -> Array:
    """The least whole number that is not less."""
    return _to_whole(x, "CEIL", math.ceil)


def round(x: Array) -> Array:
    """The nearest whole number, halves to even."""
    return _to_whole(x, "ROUND", builtins.round)


def trunc(x: Array) -> Array:
    """The whole number towards zero."""
    return where(x < 0, ceil(x), floor(x)) if _is_float(x) else x


def clip(x: Array, min: Scalar, max: Scalar) -> Array:
    """Limits each element to at least `min` and at most `max`."""
    return x.clip(min, max)


def _truth(x: Array) -> Array:
    return x if x.dtype == "BOOL" else x != 0


def logical_and(x1: Array, x2: Array) -> Array:
    """Whether both are true, or not zero."""
    return _truth(x1) * _truth(x2)


def logical_or(x1: Array, x2: Array) -> Array:
    """Whether one is true, or not zero."""
    return maximum(_truth(x1), _truth(x2))


def logical_xor(x1: Array, x2: Array) -> Array:
    """Whether exactly one is true, or not zero."""
    return _truth(x1) != _truth(x2)  # type: ignore[no-any-return]


def logical_not(x: Array) -> Array:
    """Whether it is false, or zero."""
    return _truth(x) != full((), True, "BOOL")  # type: ignore[no-any-return]


def isnan(x: Array) -> Array:
    """Whether it is NaN."""
    return x != x  # type: ignore[no-any-return]


def isinf(x: Array) -> Array:
    """Whether it is an infinity."""
    return builtins.abs(x) == math.inf if _is_float(x) else full(x.shape, False, "BOOL")


def isfinite(x: Array) -> Array:
    """Whether it is neither NaN nor an infinity."""
    return builtins.abs(x) < math.inf if _is_float(x) else full(x.shape, True, "BOOL")


# Reductions


def sum(x: Array, axis: Optional[int] = None, keepdims: bool = False) -> Any:
    """The sum; INT64 for whole numbers."""
    return x.sum(axis, keepdims)


def prod(x: Array, axis: Optional[int] = None, keepdims: bool = False) -> Any:
    """The product; INT64 for whole numbers."""
    return x._folded(math.prod, x.dtype if _is_float(x) else "INT64", _axis(x, axis), keepdims)


def mean(x: Array, axis: Optional[int] = None, keepdims: bool = False) -> Any:
    """The mean; FP64 for whole numbers."""
    return x.mean(axis, keepdims)


def min(x: Array, axis: Optional[int] = None, keepdims: bool = False) -> Any:
    """The minimum."""
    return x.min(axis, keepdims)


def max(x: Array, axis: Optional[int] = None, keepdims: bool = False) -> Any:
    """The maximum."""
    return x.max(axis, keepdims)


def argmax(x: Array, axis: Optional[int] = None, keepdims: bool = False) -> Any:
    """The index of the first maximum."""
    return x.argmax(axis, keepdims)


def argmin(x: Array, axis: Optional[int] = None, keepdims: bool = False) -> Any:
    """The index of the first minimum."""
    return x.argmin(axis, keepdims)


def var(x: Array, axis: Optional[int] = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """The variance. The sum of squares is divided by the number of elements minus `correction`."""
    distance = x - x.mean(axis, True)
    count = x.size if axis is None else x.shape[axis]
    return (distance * distance).mean(axis, keepdims) * (count / (count - correction))


def std(x: Array, axis: Optional[int] = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """The square root of the variance."""
    found = var(x, axis, correction, keepdims)
    return found.sqrt() if isinstance(found, Array) else math.sqrt(found)


def any(x: Array, axis: Optional[int] = None, keepdims: bool = False) -> Any:
    """Whether an element is true, or not zero."""
    return _truth(x).sum(axis, keepdims) > 0


def all(x: Array, axis: Optional[int] = None, keepdims: bool = False) -> Any:
    """Whether each element is true, or not zero."""
    return _truth(x).sum(axis, keepdims) == (x.size if axis is None else x.shape[axis])


# Shapes


def _axis(x: Array, axis: Optional[int]) -> Optional[int]:
    return None if axis is None else range(x.ndim)[axis]


def reshape(x: Array, shape: Sequence[int]) -> Array:
    """The same elements in another shape. One dimension may be -1."""
    return x.reshape(list(shape))


def permute_dims(x: Array, axes: Sequence[int]) -> Array:
    """Permutes the dimensions."""
    return x.transpose(*axes)


def concat(arrays: Sequence[Array], axis: Optional[int] = 0) -> Array:
    """Joins arrays along an axis, or all their elements."""
    if axis is None:
        return concatenate([each.reshape(-1) for each in arrays])
    return concatenate(arrays, axis)


def expand_dims(x: Array, axis: int = 0) -> Array:
    """Adds a dimension of 1."""
    at = range(x.ndim + 1)[axis]
    return x.reshape([*x.shape[:at], 1, *x.shape[at:]])


def squeeze(x: Array, axis: Union[int, Sequence[int]]) -> Array:
    """Removes dimensions of 1. Raises ValueError if one is not."""
    listed = [range(x.ndim)[each] for each in ([axis] if isinstance(axis, int) else axis)]
    if builtins.any(x.shape[each] != 1 for each in listed):
        raise ValueError(f"dims {listed} of {list(x.shape)} are not all 1")
    return x.reshape([dim for at, dim in enumerate(x.shape) if at not in listed])


def stack(arrays: Sequence[Array], axis: int = 0) -> Array:
    """Joins arrays of one shape along a new dimension."""
    return concatenate([expand_dims(each, axis) for each in arrays], axis)


def flip(x: Array, axis: Optional[int] = None) -> Array:
    """Reverses an axis, or all axes."""
    forward, backward = slice(None), slice(None, None, -1)
    return x[tuple(backward if axis is None or at == _axis(x, axis) else forward for at in range(x.ndim))]  # type: ignore[no-any-return]


def roll(x: Array, shift: int, axis: Optional[int] = None) -> Array:
    """Moves each element by `shift` along an axis, and those at the end to the start."""
    if axis is None:
        return roll(x.reshape(-1), shift, 0).reshape(x.shape)
    at = range(x.ndim)[axis]
    cut = -shift % builtins.max(x.shape[at], 1)
    before = (slice(None),) * at
    return concatenate([x[(*before, slice(cut, None))], x[(*before, slice(None, cut))]], at)


def broadcast_to(x: Array, shape: Sequence[int]) -> Array:
    """The elements, repeated to a shape."""
    return expanded(x, tuple(shape), x.dtype)


def matmul(x1: Array, x2: Array) -> Array:
    """The product of two matrices, of a matrix and a vector, or of two vectors. Floats are summed
    in double precision.
    """
    if x1.ndim not in (1, 2) or x2.ndim not in (1, 2) or x1.shape[-1] != x2.shape[0]:
        raise ValueError(f"no product of {list(x1.shape)} and {list(x2.shape)}")
    count, depth = count_of(x1.shape[:-1]), x1.shape[-1]
    left, right = x1.reshape([count, depth, 1]), x2.reshape([1, depth, count_of(x2.shape[1:])])
    rows = builtins.max(_PRODUCTS // builtins.max(right.size, 1), 1)
    parts = [(left[at : at + rows] * right).sum(1) for at in range(0, left.shape[0], rows)]
    shape = x1.shape[:-1] + x2.shape[1:]
    dtype = _common(x1.dtype, x2.dtype)
    made = concatenate(parts) if parts else zeros((0, count_of(x2.shape[1:])), dtype)
    return made.reshape(list(shape)).astype(dtype)
