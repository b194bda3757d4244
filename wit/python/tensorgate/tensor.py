"""The input and output of a handler: tensors, whose elements are numpy arrays, and bodies."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Iterable, Literal, Optional, Sequence, Union, get_args

import numpy as np

from .errors import BadInput, Fault

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "BF16",
    "FP32",
    "FP64",
    "BYTES",
]
"""The Open Inference Protocol's element types, and BF16."""

# numpy's types by datatype. BF16 is read as its bits.
_TYPES = dict(zip(get_args(Datatype), map(np.dtype, "?BHIQbhiqeHfd")))

# Datatypes by the letter of a type. `l` is numpy's choice for whole numbers. In the sandbox it has
# 32 bits, and on most computers 64, so it becomes INT64 on both (runtime/packages.py).
_DATATYPES = {dtype.char: name for name, dtype in _TYPES.items() if name != "BF16"} | {"l": "INT64", "L": "UINT64"}

# What to do about an array that is no tensor, by the kind of its type.
_CURES = {
    "O": 'convert it, as in `.astype("float32")`, and a sparse matrix with `.toarray()` before',
    "c": "return its parts, as in `np.stack([z.real, z.imag], -1)`",
    "M": 'convert it to numbers, as in `.astype("datetime64[s]").astype("int64")`',
    "V": "make a tensor of each field",
}


class Tensor:
    """A tensor: its name in the contract, datatype, shape, and elements, row-major and
    little-endian. `data` has them as bytes, `array()` as numpy's array.
    """

    __slots__ = ("name", "datatype", "shape", "_buffer")

    def __init__(self, name: str, datatype: Datatype, shape: Sequence[int], data: Any) -> None:
        """`data` is bytes, or anything that has such a buffer. It is not copied."""
        self.name, self.datatype, self.shape, self._buffer = name, datatype, tuple(shape), data

    @property
    def data(self) -> bytes:
        """The elements as bytes: a copy unless the tensor was made of bytes."""
        if isinstance(self._buffer, bytes):
            return self._buffer
        return self._buffer.tobytes() if hasattr(self._buffer, "tobytes") else bytes(self._buffer)

    def elements(self) -> Any:
        """The elements where they are: bytes, or a contiguous array."""
        buffer = self._buffer
        if isinstance(buffer, bytes):
            return buffer
        return np.ascontiguousarray(buffer) if isinstance(buffer, np.ndarray) else np.frombuffer(buffer, np.uint8)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tensor):
            return NotImplemented
        one, two = [(each.name, each.datatype, each.shape, each.data) for each in (self, other)]
        return one == two

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.datatype}, {list(self.shape)})"

    def array(self, dtype: Optional[Datatype] = None) -> np.ndarray:
        """The elements as a read-only array, without a copy. BF16 is converted to float32.

        Raises BadInput if the tensor is BYTES, if `dtype` is given and is not the tensor's, or
        if the data does not fit the shape.
        """
        if dtype is not None and self.datatype != dtype:
            raise BadInput(f"tensor {self.name!r} is {self.datatype}, not {dtype}")
        if self.datatype == "BYTES":
            raise BadInput(f"tensor {self.name!r} is BYTES: it has items()")
        buffer, type_ = memoryview(self._buffer), _TYPES[self.datatype]
        if prod(self.shape) * type_.itemsize != buffer.nbytes:
            raise BadInput(f"tensor {self.name!r}: {buffer.nbytes} bytes do not fit {list(self.shape)}")
        found = np.ndarray(self.shape, type_, buffer)
        if self.datatype == "BF16":
            found = (found.astype(np.uint32) << 16).view(np.float32)
        if not buffer.readonly:
            found.flags.writeable = False
        return found

    def items(self) -> list[bytes]:
        """The items of a BYTES tensor. Raises BadInput for other tensors, and if the lengths do
        not fit its data and shape.
        """
        if self.datatype != "BYTES":
            raise BadInput(f"tensor {self.name!r} is {self.datatype}, not BYTES")
        items, at, data = [], 0, self.data
        while at + 4 <= len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "little")
            items.append(data[at + 4 : end])
            at = end
        if at != len(data) or len(items) != prod(self.shape):
            raise BadInput(f"tensor {self.name!r}: item lengths do not fit its data and shape")
        return items

    @classmethod
    def of(cls, name: str, values: Any, datatype: Optional[Datatype] = None) -> Tensor:
        """A tensor of an array, or of anything that numpy makes an array of: lists, numbers, texts,
        a table or a column of pandas.

        It has the array's type, so an array of float64 becomes FP64: `.astype("float32")` makes
        it FP32. Whole numbers of no chosen type, as `argmax` and lists have, become INT64.

        With `datatype`, elements are converted to it. FP16 and BF16 round, and a conversion that
        could change the kind of a number, or drop a whole number's upper part, is a Fault.

        A contiguous array is not copied. Do not write to it afterwards.
        """
        if datatype is None and type(values) is np.ndarray and values.flags.c_contiguous and values.dtype.isnative:
            found = _DATATYPES.get(values.dtype.char)
            if found is not None and _TYPES[found].itemsize == values.dtype.itemsize:
                return cls(name, found, values.shape, values)
        array = _array_of(name, values)
        if array.dtype.kind in "SUTO":
            return cls.of_items(name, array.ravel().tolist(), array.shape)
        wanted = _DATATYPES.get(array.dtype.char) if datatype is None else datatype
        if wanted is None or array.dtype.kind in "cMmV":
            cure = _CURES.get(array.dtype.kind, _CURES["O"])
            raise Fault(f"tensor {name!r}: an array of {array.dtype} has no datatype: {cure}")
        dtype = np.dtype("f") if wanted == "BF16" else _TYPES.get(wanted)
        rule: Any = "safe" if dtype is not None and dtype.kind in "iu" else "same_kind"
        if dtype is None or not np.can_cast(array.dtype, dtype, rule):
            raise Fault(f"tensor {name!r}: an array of {array.dtype} is not {wanted}: convert it with `.astype(…)`")
        made = np.ascontiguousarray(array, dtype)
        if wanted == "BF16":
            made = _brain(made)
        return cls(name, wanted, array.shape, made)

    @classmethod
    def of_items(cls, name: str, items: Iterable[Union[bytes, str]], shape: Optional[Sequence[int]] = None) -> Tensor:
        """A BYTES tensor of byte strings or texts, with one dimension unless `shape` is given."""
        encoded = [item.encode() if isinstance(item, str) else bytes(item) for item in items]
        dims = (len(encoded),) if shape is None else tuple(shape)
        if prod(dims) != len(encoded):
            raise Fault(f"{len(encoded)} items do not fit {list(dims)}")
        return cls(name, "BYTES", dims, b"".join(len(item).to_bytes(4, "little") + item for item in encoded))


@dataclass(frozen=True)
class Raw:
    """A request body that the policy admits unparsed (`accepts: {raw: …}`)."""

    content_type: str
    data: bytes


Payload = Union[list[Tensor], Raw]
"""The input of a preprocess handler."""


def _array_of(name: str, values: Any) -> np.ndarray:
    """The values as an array: one of objects has only texts."""
    if type(values).__name__ == "MaskedArray":
        raise Fault(f"tensor {name!r}: a masked array hides values: fill them with `.filled(value)`")
    try:
        array = np.asarray(values)
        # numpy cuts zeros at the end of bytes, and turns numbers among texts into texts.
        if array.dtype.kind in "SU" and not isinstance(values, (np.ndarray, np.generic)):
            array = np.asarray(values, dtype=object)
    except ValueError as error:
        raise Fault(f"tensor {name!r}: {error}: give each row the same length") from None
    if array.dtype.kind == "O":
        for item in array.flat:
            if not isinstance(item, (str, bytes)):
                raise Fault(f"tensor {name!r}: an array of objects such as {type(item).__name__}: {_CURES['O']}")
    return array


def _brain(array: np.ndarray) -> np.ndarray:
    """The upper halves of floats, rounded to even. A NaN stays a NaN."""
    bits = array.view(np.uint32)
    rounded = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    return np.where(np.isnan(array), bits >> 16 | 0x40, rounded).astype(np.uint16)
