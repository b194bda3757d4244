"""Arrays of numbers, with numpy's names for the operations that they support.

Elements are row-major, in one flat buffer of Python's or in the tensor kit. While a call runs,
the kit (in Rust) computes arrays of 256 elements and more. They stay there until `flat`,
`tolist` or a single element is read. Small arrays are plain Python, as are all arrays if there
is no kit.

Indexing and every method return a new array, where numpy sometimes returns a view. Arithmetic
broadcasts as numpy's does. A whole number that does not fit its type raises OverflowError
(numpy wraps it), and a division by zero raises ZeroDivisionError.
"""

from __future__ import annotations

import math
import operator
from array import array as _flat
from itertools import compress, repeat
from typing import Any, Callable, Iterable, Iterator, Literal, Optional, Sequence, Union

from . import kit

DType = Literal["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64"]
"""The element types of an array. FP16 and BF16 are converted to FP32 on input, and can be
requested on output.
"""

Scalar = Union[bool, int, float]

Operand = Union["Array", Scalar]

Filter = Literal["nearest", "bilinear", "antialias"]
"""How an image is resampled; see `Array.resize`."""

# Type code of the flat buffer, and bytes of an element.
_TYPES: dict[str, tuple[str, int]] = {
    "BOOL": ("B", 1),
    "UINT8": ("B", 1),
    "UINT16": ("H", 2),
    "UINT32": ("I", 4),
    "UINT64": ("Q", 8),
    "INT8": ("b", 1),
    "INT16": ("h", 2),
    "INT32": ("i", 4),
    "INT64": ("q", 8),
    "FP32": ("f", 4),
    "FP64": ("d", 8),
}


def dtype_of(name: str) -> DType:
    """Checks that a name is an element type of arrays. Raises TypeError if not."""
    if name not in _TYPES:
        raise TypeError(f"{name!r} is not an element type of arrays")
    return name  # type: ignore[return-value]


def size_of(dtype: str) -> int:
    """Bytes of an element."""
    return _TYPES[dtype_of(dtype)][1]


def count_of(shape: Iterable[int]) -> int:
    """The number of elements of a shape."""
    return math.prod(shape)


class Array:
    """An array of numbers: `shape`, `dtype`, and `flat`, its elements in row-major order."""

    __slots__ = ("_flat", "_held", "shape", "dtype")

    _flat: Any
    _held: Any
    shape: tuple[int, ...]
    dtype: DType

    def __init__(self, values: Iterable[Scalar], shape: Sequence[int], dtype: DType = "FP32") -> None:
        """An array of values, as many as the shape has elements."""
        code = _TYPES[dtype_of(dtype)][0]
        flat = values if isinstance(values, _flat) and values.typecode == code else None
        if flat is None:
            flat = _flat(code, map(bool, values)) if dtype == "BOOL" else _flat(code, _cast(values, dtype))
        if len(flat) != count_of(shape):
            raise ValueError(f"{len(flat)} elements do not fit {list(shape)}")
        self._flat, self._held, self.shape, self.dtype = flat, None, tuple(shape), dtype

    @classmethod
    def over(cls, data: bytes, shape: Sequence[int], dtype: DType) -> Array:
        """An array that borrows bytes. It is read-only."""
        made = cls.__new__(cls)
        code: Any = _TYPES[dtype_of(dtype)][0]
        # An empty memoryview cannot be cast.
        made._flat = memoryview(data).cast(code) if data else _flat(code)
        made._held, made.shape, made.dtype = None, tuple(shape), dtype
        if len(made._flat) != count_of(shape):
            raise ValueError(f"{len(made._flat)} elements do not fit {list(shape)}")
        return made

    @classmethod
    def of_held(cls, held: Any, dtype: Optional[DType] = None, shape: Optional[Sequence[int]] = None) -> Array:
        """An array in the kit."""
        made = cls.__new__(cls)
        made._flat, made._held = None, held
        made.shape = tuple(held.shape() if shape is None else shape)
        made.dtype = dtype or held.datatype().name
        return made

    def in_kit(self) -> Any:
        """The kit's handle of the array. Copies the array to the kit if it is not there yet."""
        if self._held is not None:
            return self._held
        flat = self._flat
        if isinstance(flat, memoryview):
            # A read-only buffer does not change, so the copy in the kit stays valid.
            self._held = kit.held(self.dtype, self.shape, flat.obj if isinstance(flat.obj, bytes) else flat.tobytes())
            return self._held
        return kit.held(self.dtype, self.shape, flat.tobytes())

    @property
    def flat(self) -> Any:
        """The elements in row-major order, in a buffer of Python's."""
        if self._flat is None:
            self._flat = _flat(self._code, kit.asked(self._held.to_bytes, kit.datatype(self.dtype)))
            # The caller may write to the buffer from now on.
            self._held = None
        return self._flat

    @property
    def is_large(self) -> bool:
        """Whether the kit is faster: the array is large, or in the kit already."""
        return self._held is not None or count_of(self.shape) >= kit.LEAST

    @property
    def _at_kit(self) -> bool:
        return kit.ready() and self.is_large

    def _asked(self, method: str, *arguments: Any) -> Array:
        """Calls a method of the kit's array that returns an array."""
        held = self.in_kit()
        return Array.of_held(kit.asked(getattr(held, method), *arguments))

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return count_of(self.shape)

    @property
    def T(self) -> Array:
        """The array with its dimensions reversed."""
        return self.transpose()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without dims has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        shown = self.tolist() if self.size <= 64 else "…"
        return f"Array({shown}, shape={list(self.shape)}, dtype={self.dtype})"

    def item(self) -> Scalar:
        """The only element of an array with one element."""
        if self.size != 1:
            raise ValueError(f"{self.size} elements where one is asked for")
        return self._out(self.flat[0])

    def tolist(self) -> Any:
        """The elements as nested lists, or as a number if the array has no dimensions."""
        if not self.shape:
            return self.item()
        values = [bool(value) for value in self.flat] if self.dtype == "BOOL" else list(self.flat)
        for dim in reversed(self.shape[1:]):
            outer = len(values) // dim if dim else count_of(self.shape[: self.shape.index(0)])
            values = [values[at * dim : (at + 1) * dim] for at in range(outer)]
        return values

    def tobytes(self) -> bytes:
        """The elements as the bytes of a tensor."""
        if self._flat is None:
            return bytes(kit.asked(self._held.to_bytes, kit.datatype(self.dtype)))
        return bytes(self._flat.tobytes())

    def copy(self) -> Array:
        """A copy that can be written."""
        return Array(_flat(self._code, self.tobytes()), self.shape, self.dtype)

    def astype(self, dtype: DType) -> Array:
        """Converts to another type. Floats are truncated to integers. A number that does not fit
        raises OverflowError.
        """
        if self._at_kit:
            return self._asked("cast", kit.datatype(dtype_of(dtype)))
        return self.copy() if dtype == self.dtype else Array(self.flat, self.shape, dtype)

    def map(self, function: Callable[[Any], Scalar], dtype: Optional[DType] = None) -> Array:
        """Applies a function to each element: `a.map(math.exp)`."""
        return Array(map(function, self.flat), self.shape, dtype or self.dtype)

    def reshape(self, *shape: Any) -> Array:
        """The same elements in another shape. One dimension may be -1."""
        dims = list(shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)
        if dims.count(-1) == 1:
            known = count_of(dim for dim in dims if dim != -1)
            if known == 0 or self.size % known:
                raise ValueError(f"{self.size} elements do not fit {dims}")
            dims[dims.index(-1)] = self.size // known
        if self._at_kit and all(dim >= 0 for dim in dims):
            return self._asked("reshape", dims)
        made = self.copy()
        return Array(made.flat, dims, self.dtype)

    def transpose(self, *axes: int) -> Array:
        """Permutes the dimensions: `planes = image.transpose(2, 0, 1)`."""
        order = axes or tuple(reversed(range(self.ndim)))
        if sorted(order) != list(range(self.ndim)):
            raise ValueError(f"{order} is not a permutation of {self.ndim} dims")
        if self._at_kit:
            return self._asked("transpose", list(order))
        steps = _steps(self.shape)
        return self._pick([_every(self.shape[axis], steps[axis]) for axis in order], [self.shape[axis] for axis in order])

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, Array):
            return self._masked(key)
        if self._at_kit:
            return self._part(key)
        places, shape = self._places(key)
        if not shape and len(places) == self.ndim:
            return self._out(self.flat[sum(place[0] for place in places)])
        return self._pick(places, shape)

    def __setitem__(self, key: Any, value: Union[Scalar, Array]) -> None:
        if isinstance(self.flat, memoryview):
            raise TypeError("a tensor's own elements cannot be written: copy() them first")
        if isinstance(key, Array):
            inner = count_of(self.shape[key.ndim :])
            rows = self._rows_of(key)
            shape = [len(rows), *self.shape[key.ndim :]]
            offsets = [row * inner + at for row in rows for at in range(inner)]
        else:
            places, shape = self._places(key)
            offsets = _offsets(places)
        values = value._spread(tuple(shape)) if isinstance(value, Array) else repeat(value)
        for place, each in zip(offsets, values):
            self.flat[place] = bool(each) if self.dtype == "BOOL" else _cast1(each, self.dtype)

    def sum(self, axis: Optional[int] = None, keepdims: bool = False) -> Any:
        """The sum over all elements or along an axis."""
        return self._reduce("SUM", sum, self.dtype if self._float else "INT64", axis, keepdims)

    def mean(self, axis: Optional[int] = None, keepdims: bool = False) -> Any:
        """The mean over all elements or along an axis."""
        return self._reduce("MEAN", lambda values: sum(values) / len(values), self.dtype if self._float else "FP64", axis, keepdims)

    def min(self, axis: Optional[int] = None, keepdims: bool = False) -> Any:
        """The minimum over all elements or along an axis."""
        return self._reduce("MINIMUM", min, self.dtype, axis, keepdims)

    def max(self, axis: Optional[int] = None, keepdims: bool = False) -> Any:
        """The maximum over all elements or along an axis."""
        return self._reduce("MAXIMUM", max, self.dtype, axis, keepdims)

    def argmax(self, axis: Optional[int] = None, keepdims: bool = False) -> Any:
        """The index of the first maximum, over all elements or along an axis."""
        return self._reduce("ARGMAX", lambda values: values.index(max(values)), "INT64", axis, keepdims)

    def argmin(self, axis: Optional[int] = None, keepdims: bool = False) -> Any:
        """The index of the first minimum, over all elements or along an axis."""
        return self._reduce("ARGMIN", lambda values: values.index(min(values)), "INT64", axis, keepdims)

    def clip(self, low: Scalar, high: Scalar) -> Array:
        """Limits each element to at least `low` and at most `high`."""
        if self._at_kit:
            return self._asked("clip", low, high)
        return self.map(lambda value: low if value < low else high if value > high else value)

    def exp(self) -> Array:
        """e to the power of each element."""
        return self._function("EXP", math.exp)

    def log(self) -> Array:
        """The natural logarithm of each element. An invalid argument raises ValueError in plain
        Python, and gives -inf or NaN in the kit.
        """
        return self._function("LOG", math.log)

    def sqrt(self) -> Array:
        """The square root of each element. Invalid arguments behave as in `log`."""
        return self._function("SQRT", math.sqrt)

    def tanh(self) -> Array:
        """The hyperbolic tangent of each element."""
        return self._function("TANH", math.tanh)

    def sigmoid(self) -> Array:
        """1 / (1 + exp(-x)) of each element."""
        return self._function("SIGMOID", lambda value: 1 / (1 + math.exp(-value)))

    def round(self) -> Array:
        """Rounds each element to the nearest whole number, halves to even. The type stays a float.
        """
        return self._function("ROUND", lambda value: float(round(value)))

    def softmax(self, axis: int = -1) -> Array:
        """The softmax along an axis."""
        return self._kits("softmax", range(self.ndim)[axis])

    def topk(self, k: int) -> tuple[Array, Array]:
        """The `k` greatest of the last axis in descending order, and their indices as INT64."""
        kit.needed("topk")
        values, places = kit.asked(self.in_kit().top_k, k)
        return Array.of_held(values), Array.of_held(places)

    def take(self, indices: Union[Array, Sequence[int]], axis: int = 0) -> Array:
        """Selects indices of an axis, in the given order."""
        listed = indices.flat if isinstance(indices, Array) else indices
        dim = self.shape[axis]
        return self._kits("gather", range(self.ndim)[axis], [range(dim)[index] for index in listed])

    def pad(self, widths: Sequence[tuple[int, int]], value: Scalar = 0) -> Array:
        """Adds elements before and after each axis: `image.pad([(2, 2), (0, 1), (0, 0)])`."""
        return self._kits("pad", [before for before, _ in widths], [after for _, after in widths], value)

    def fit(self, length: int, value: Scalar = 0, axis: int = -1) -> Array:
        """Truncates or pads an axis to a length, at its end."""
        return self._kits("fit", range(self.ndim)[axis], length, value)

    def resize(self, height: int, width: int, filter: Filter = "bilinear", layout: Literal["HWC", "CHW"] = "HWC") -> Array:
        """Resizes an image, UINT8 or FP32.

        `layout` HWC is [height, width] or […, height, width, channels]; CHW is […, height,
        width]. Pixel centres are at halves. `bilinear` is torch's (align_corners=False,
        antialias=False), `antialias` is Pillow's BILINEAR, `nearest` is Pillow's NEAREST.
        """
        axis = self.ndim - (3 if layout == "HWC" and self.ndim > 2 else 2)
        kit.needed("resize")
        return self._kits("resize", axis, height, width, kit.case("Filter", filter.upper()))

    def planes(self, mean: Sequence[float], std: Sequence[float], scale: float = 1 / 255) -> Array:
        """Converts pixels to planes in one pass, with (x × scale - mean) / std for each channel.

        The shape changes from […, height, width, channels] to FP32 […, channels, height,
        width].
        """
        return self._kits("planes", scale, list(mean), list(std))

    def __neg__(self) -> Array:
        if self._at_kit:
            return self._asked("apply", kit.case("Function", "NEGATIVE"))
        return self.map(operator.neg)

    def __abs__(self) -> Array:
        if self._at_kit:
            return self._asked("apply", kit.case("Function", "ABSOLUTE"))
        return self.map(abs)

    def __add__(self, other: Operand) -> Array:
        return _binary(operator.add, self, other)

    def __radd__(self, other: Scalar) -> Array:
        return _binary(operator.add, other, self)

    def __sub__(self, other: Operand) -> Array:
        return _binary(operator.sub, self, other)

    def __rsub__(self, other: Scalar) -> Array:
        return _binary(operator.sub, other, self)

    def __mul__(self, other: Operand) -> Array:
        return _binary(operator.mul, self, other)

    def __rmul__(self, other: Scalar) -> Array:
        return _binary(operator.mul, other, self)

    def __truediv__(self, other: Operand) -> Array:
        return _binary(operator.truediv, self, other, divides=True)

    def __rtruediv__(self, other: Scalar) -> Array:
        return _binary(operator.truediv, other, self, divides=True)

    def __floordiv__(self, other: Operand) -> Array:
        return _binary(operator.floordiv, self, other)

    def __rfloordiv__(self, other: Scalar) -> Array:
        return _binary(operator.floordiv, other, self)

    def __mod__(self, other: Operand) -> Array:
        return _binary(operator.mod, self, other)

    def __rmod__(self, other: Scalar) -> Array:
        return _binary(operator.mod, other, self)

    def __pow__(self, other: Operand) -> Array:
        return _binary(operator.pow, self, other)

    def __rpow__(self, other: Scalar) -> Array:
        return _binary(operator.pow, other, self)

    def __lt__(self, other: Operand) -> Array:
        return _binary(operator.lt, self, other, "BOOL")

    def __le__(self, other: Operand) -> Array:
        return _binary(operator.le, self, other, "BOOL")

    def __gt__(self, other: Operand) -> Array:
        return _binary(operator.gt, self, other, "BOOL")

    def __ge__(self, other: Operand) -> Array:
        return _binary(operator.ge, self, other, "BOOL")

    def __eq__(self, other: object) -> Any:
        return _binary(operator.eq, self, other, "BOOL")  # type: ignore[arg-type]

    def __ne__(self, other: object) -> Any:
        return _binary(operator.ne, self, other, "BOOL")  # type: ignore[arg-type]

    __hash__ = None  # type: ignore[assignment]

    @property
    def _code(self) -> str:
        return _TYPES[self.dtype][0]

    @property
    def _float(self) -> bool:
        return self.dtype in ("FP32", "FP64")

    def _out(self, value: Scalar) -> Scalar:
        return bool(value) if self.dtype == "BOOL" else value

    def _kits(self, method: str, *arguments: Any) -> Array:
        """Calls a method that only the kit has, however small the array is."""
        kit.needed(method)
        return self._asked(method, *arguments)

    def _function(self, name: str, function: Callable[[Any], float]) -> Array:
        if self._at_kit:
            return self._asked("apply", kit.case("Function", name))
        return self.map(function, self.dtype if self._float else "FP64")

    def _rows_of(self, mask: Array) -> list[int]:
        """The rows, of the first dimensions joined, for which a mask is true."""
        if mask.dtype != "BOOL":
            raise IndexError(f"an array as an index is BOOL, not {mask.dtype}: take() selects indices")
        if mask.shape != self.shape[: mask.ndim]:
            raise IndexError(f"a mask of {list(mask.shape)} for {list(self.shape)}")
        return list(compress(range(mask.size), mask.tobytes()))

    def _masked(self, mask: Array) -> Array:
        """The elements, or rows, for which a mask is true, in row-major order."""
        rows, left = self._rows_of(mask), self.shape[mask.ndim :]
        if self._at_kit:
            return self._asked("reshape", [mask.size, *left])._asked("gather", 0, rows)
        inner, flat = count_of(left), self.flat
        return Array(_flat(self._code, [flat[row * inner + at] for row in rows for at in range(inner)]), (len(rows), *left), self.dtype)

    def _part(self, key: Any) -> Any:
        """An element or a slice of an array in the kit."""
        spans, shape = [], []
        for each, dim in zip(self._keys(key), self.shape):
            if isinstance(each, slice):
                chosen = range(dim)[each]
                shape.append(len(chosen))
                spans.append(kit.span(chosen.start if chosen else 0, len(chosen), chosen.step))
            else:
                spans.append(kit.span(range(dim)[each], 1, 1))
        part = self._asked("slice", spans)
        if not shape and len(spans) == self.ndim:
            return part.item()
        return part if len(shape) == self.ndim else part._asked("reshape", shape)

    def _keys(self, key: Any) -> list[Any]:
        """An index or a slice for each axis."""
        keys = list(key) if isinstance(key, tuple) else [key]
        if keys.count(Ellipsis) == 1:
            at = keys.index(Ellipsis)
            keys[at : at + 1] = [slice(None)] * (self.ndim - len(keys) + 1)
        if len(keys) > self.ndim:
            raise IndexError(f"{len(keys)} indices for {self.ndim} dims")
        return keys + [slice(None)] * (self.ndim - len(keys))

    def _pick(self, places: Sequence[Sequence[int]], shape: Sequence[int]) -> Array:
        flat = self.flat
        return Array(_flat(self._code, [flat[place] for place in _offsets(places)]), shape, self.dtype)

    def _places(self, key: Any) -> tuple[list[Sequence[int]], list[int]]:
        """The offsets that each axis contributes, and the remaining dimensions."""
        places: list[Sequence[int]] = []
        shape = []
        for each, dim, step in zip(self._keys(key), self.shape, _steps(self.shape)):
            if isinstance(each, slice):
                chosen = range(dim)[each]
                shape.append(len(chosen))
                places.append([index * step for index in chosen])
            else:
                places.append([range(dim)[each] * step])
        return places, shape

    def _spread(self, shape: tuple[int, ...]) -> Iterable[Scalar]:
        """The elements, repeated by broadcasting to a shape."""
        flat: Sequence[Scalar] = self.flat
        if shape == self.shape:
            return flat
        if self.size == 1 and self.ndim <= len(shape):
            return repeat(flat[0], count_of(shape))
        missing = len(shape) - self.ndim
        dims = (1,) * missing + self.shape
        if missing < 0 or any(mine not in (1, dim) for mine, dim in zip(dims, shape)):
            raise ValueError(f"{list(self.shape)} does not broadcast to {list(shape)}")
        steps = (0,) * missing + _steps(self.shape)
        places = [[0] * dim if mine == 1 else _every(mine, step) for mine, dim, step in zip(dims, shape, steps)]
        return [flat[place] for place in _offsets(places)]

    def _reduce(self, name: str, function: Callable[[list[Any]], Scalar], dtype: DType, axis: Optional[int], keepdims: bool) -> Any:
        if self._at_kit:
            along = None if axis is None else range(self.ndim)[axis]
            reduced = self._asked("reduce", kit.case("Reduction", name), along, keepdims)
            return reduced if reduced.shape or keepdims or axis is not None else reduced.item()
        return self._folded(function, dtype, axis, keepdims)

    def _folded(self, function: Callable[[list[Any]], Scalar], dtype: DType, axis: Optional[int], keepdims: bool) -> Any:
        """A reduction in plain Python."""
        if axis is None:
            found = function(self.flat.tolist())
            return Array([found], (1,) * self.ndim, dtype) if keepdims else found
        axis = range(self.ndim)[axis]
        dim, inner = self.shape[axis], count_of(self.shape[axis + 1 :])
        block = dim * inner
        rows = [
            function(self.flat[outer * block + at : (outer + 1) * block : inner].tolist())
            for outer in range(count_of(self.shape[:axis]))
            for at in range(inner)
        ]
        left = (1,) if keepdims else ()
        return Array(rows, self.shape[:axis] + left + self.shape[axis + 1 :], dtype)


def array(values: Any, dtype: DType = "FP32") -> Array:
    """An array of a number or of nested sequences of numbers."""
    shape: list[int] = []
    level = values
    while isinstance(level, (list, tuple)):
        shape.append(len(level))
        level = level[0] if level else 0.0
    flat = [values]
    for dim in shape:
        if any(not isinstance(each, (list, tuple)) or len(each) != dim for each in flat):
            raise ValueError("nested sequences of different lengths")
        flat = [each for sequence in flat for each in sequence]
    return Array(flat, shape, dtype)


def full(shape: Sequence[int], value: Scalar, dtype: DType = "FP32") -> Array:
    """An array with the same number in each element."""
    code = _TYPES[dtype_of(dtype)][0]
    return Array(_flat(code, [_cast1(value, dtype)]) * count_of(shape), shape, dtype)


def zeros(shape: Sequence[int], dtype: DType = "FP32") -> Array:
    """An array of zeros."""
    return full(shape, 0, dtype)


def stack(arrays: Sequence[Array]) -> Array:
    """Joins arrays of one shape along a new first dimension."""
    return concatenate([each.reshape(1, *each.shape) for each in arrays])


def concatenate(arrays: Sequence[Array], axis: int = 0) -> Array:
    """Joins arrays along an axis. The other dimensions and the types must be equal."""
    if not arrays:
        raise ValueError("nothing to concatenate")
    first = arrays[0]
    if not first.shape:
        raise ValueError("an array without dims has no axis")
    axis = range(first.ndim)[axis]
    shape = list(first.shape)
    for each in arrays[1:]:
        around = each.shape[:axis] + (first.shape[axis],) + each.shape[axis + 1 :]
        if around != first.shape or each.dtype != first.dtype or each.ndim != first.ndim:
            raise ValueError(f"cannot join {first.dtype} {list(first.shape)} and {each.dtype} {list(each.shape)}")
        shape[axis] += each.shape[axis]
    if kit.ready() and any(each.is_large for each in arrays):
        return Array.of_held(kit.joined([each.in_kit() for each in arrays], axis))
    flat = _flat(first._code)
    blocks = [each.size // max(count_of(each.shape[:axis]), 1) for each in arrays]
    for outer in range(count_of(first.shape[:axis])):
        for each, block in zip(arrays, blocks):
            flat.extend(_flat(first._code, each.flat[outer * block : (outer + 1) * block].tobytes()))
    return Array(flat, shape, first.dtype)


def _steps(shape: Sequence[int]) -> tuple[int, ...]:
    """The distance in elements from one index of each axis to the next."""
    return tuple(count_of(shape[axis + 1 :]) for axis in range(len(shape)))


def _every(dim: int, step: int) -> Sequence[int]:
    """The offset that each index of an axis contributes."""
    return [index * step for index in range(dim)]


def _offsets(places: Sequence[Sequence[int]]) -> list[int]:
    """The offsets of elements in row-major order, from the offsets that each axis contributes."""
    found = [0]
    for axis in places:
        found = [start + place for start in found for place in axis]
    return found


def _cast(values: Iterable[Scalar], dtype: str) -> Iterable[Scalar]:
    return values if dtype in ("FP32", "FP64") else map(int, values)


def _cast1(value: Scalar, dtype: str) -> Scalar:
    return value if dtype in ("FP32", "FP64") else int(value)


def _shape(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that two arrays broadcast to."""
    if one == other:
        return one
    length = max(len(one), len(other))
    pairs = zip((1,) * (length - len(one)) + one, (1,) * (length - len(other)) + other)
    dims = []
    for a, b in pairs:
        if a != b and 1 not in (a, b):
            raise ValueError(f"{list(one)} and {list(other)} do not broadcast")
        dims.append(b if a == 1 else a)
    return tuple(dims)


def _common(one: DType, other: DType) -> DType:
    """The type that two arrays promote to, by numpy's rules."""
    if one == other:
        return one
    if "BOOL" in (one, other):
        return other if one == "BOOL" else one
    floats = [each for each in (one, other) if each.startswith("FP")]
    if len(floats) == 2:
        return "FP64"
    if floats:
        whole = other if floats[0] == one else one
        return "FP32" if floats[0] == "FP32" and size_of(whole) <= 2 else "FP64"
    wide = max(size_of(one), size_of(other))
    signed = {each for each in (one, other) if each.startswith("INT")}
    if len(signed) == 1:
        (alone,) = signed
        unsigned = other if alone == one else one
        if size_of(alone) <= size_of(unsigned):
            wide = 2 * size_of(unsigned)
        return dtype_of(f"INT{8 * wide}") if wide <= 8 else "FP64"
    return dtype_of(f"{'INT' if signed else 'UINT'}{8 * wide}")


def _of_scalar(dtype: DType, scalar: Scalar) -> DType:
    """The type that an array and a Python number promote to: the array's, unless the number is of
    a higher kind.
    """
    if isinstance(scalar, bool) or dtype in ("FP32", "FP64"):
        return dtype
    if isinstance(scalar, float):
        return "FP64"
    return "INT64" if dtype == "BOOL" else dtype


def _binary(function: Callable[[Any, Any], Any], one: Operand, other: Operand, result: Optional[DType] = None, divides: bool = False) -> Array:
    """Applies an operator to two operands, at least one of them an array."""
    found = _at_kit(function, one, other)
    if found is not None:
        return found
    if isinstance(one, Array) and isinstance(other, Array):
        shape, dtype = _shape(one.shape, other.shape), _common(one.dtype, other.dtype)
        left, right = one._spread(shape), other._spread(shape)
    elif isinstance(one, Array) and isinstance(other, (bool, int, float)):
        shape, dtype = one.shape, _of_scalar(one.dtype, other)
        left, right = one.flat, repeat(_rounded(dtype, other))
    elif isinstance(other, Array) and isinstance(one, (bool, int, float)):
        shape, dtype = other.shape, _of_scalar(other.dtype, one)
        left, right = repeat(_rounded(dtype, one)), other.flat
    else:
        return NotImplemented  # type: ignore[no-any-return]
    if divides and dtype not in ("FP32", "FP64"):
        dtype = "FP64"
    return Array(map(function, left, right), shape, result or dtype)


def _rounded(dtype: DType, scalar: Scalar) -> Scalar:
    """Rounds a number to single precision, as numpy does with a number beside singles."""
    return _flat("f", [scalar])[0] if dtype == "FP32" and isinstance(scalar, float) else scalar


def least(one: Any, other: Any) -> Any:
    """The lesser of two numbers; NaN if one is."""
    return one if one <= other or one != one else other


def greatest(one: Any, other: Any) -> Any:
    """The greater of two numbers; NaN if one is."""
    return one if one >= other or one != one else other


# The kit's names of the operators.
_OPERATORS: dict[Any, str] = {
    operator.add: "ADD",
    operator.sub: "SUBTRACT",
    operator.mul: "MULTIPLY",
    operator.truediv: "DIVIDE",
    operator.floordiv: "FLOOR_DIVIDE",
    operator.mod: "REMAINDER",
    operator.pow: "POWER",
    operator.lt: "LESS",
    operator.le: "LESS_EQUAL",
    operator.gt: "GREATER",
    operator.ge: "GREATER_EQUAL",
    operator.eq: "EQUAL",
    operator.ne: "NOT_EQUAL",
    least: "MINIMUM",
    greatest: "MAXIMUM",
}

# Whole numbers up to this are exact in double precision.
_EXACT = 1 << 53


def _at_kit(function: Callable[[Any, Any], Any], one: Operand, other: Operand) -> Optional[Array]:
    """Applies an operator in the kit, if that is faster."""
    if not kit.ready() or not any(isinstance(each, Array) and each.is_large for each in (one, other)):
        return None
    name = kit.case("Operator", _OPERATORS[function])
    if isinstance(one, Array) and isinstance(other, Array):
        return one._asked("combine", name, other.in_kit())
    array, number, reverse = (one, other, False) if isinstance(one, Array) else (other, one, True)
    if not isinstance(array, Array) or not isinstance(number, (bool, int, float)):
        return None
    if isinstance(number, int) and (abs(number) > _EXACT or array.dtype == "BOOL"):
        return None
    return array._asked("combine_number", name, float(number), isinstance(number, float), reverse)
