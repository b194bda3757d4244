"""The input and output of a handler: tensors and request bodies."""

from __future__ import annotations

import struct
import sys
from array import array as _flat
from dataclasses import dataclass
from typing import Iterable, Literal, Optional, Sequence, Union

from . import kit
from .array import Array, DType, count_of, dtype_of, size_of
from .errors import BadInput, Fault

if sys.byteorder != "little":
    raise ImportError("tensor data is little-endian, and is read in place")

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


@dataclass(frozen=True)
class Tensor:
    """A tensor: its name in the contract, datatype, shape, and elements, row-major and
    little-endian.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: bytes

    def array(self, dtype: Optional[Datatype] = None) -> Array:
        """The elements as a read-only array, without a copy. FP16 and BF16 are converted to FP32.

        Raises BadInput if the tensor is BYTES, if `dtype` is given and is not the tensor's, or
        if the data does not fit the shape.
        """
        if dtype is not None and self.datatype != dtype:
            raise BadInput(f"tensor {self.name!r} is {self.datatype}, not {dtype}")
        if self.datatype == "BYTES":
            raise BadInput(f"tensor {self.name!r} is BYTES: it has items()")
        halves = self.datatype in ("FP16", "BF16")
        size = 2 if halves else size_of(self.datatype)
        if count_of(self.shape) * size != len(self.data):
            raise BadInput(f"tensor {self.name!r}: {len(self.data)} bytes do not fit {list(self.shape)}")
        if halves and kit.ready() and len(self.data) >= size * kit.LEAST:
            return Array.of_held(kit.held(self.datatype, self.shape, self.data), "FP32", self.shape)
        if self.datatype == "FP16":
            return Array(_flat("f", [value for (value,) in struct.iter_unpack("<e", self.data)]), self.shape, "FP32")
        if self.datatype == "BF16":
            widened = _flat("I", [bits << 16 for bits in Array.over(self.data, self.shape, "UINT16").flat])
            return Array(_flat("f", widened.tobytes()), self.shape, "FP32")
        return Array.over(self.data, self.shape, dtype_of(self.datatype))

    def items(self) -> list[bytes]:
        """The items of a BYTES tensor. Raises BadInput for other tensors, and if the lengths do
        not fit its data and shape.
        """
        if self.datatype != "BYTES":
            raise BadInput(f"tensor {self.name!r} is {self.datatype}, not BYTES")
        items, at = [], 0
        while at + 4 <= len(self.data):
            end = at + 4 + int.from_bytes(self.data[at : at + 4], "little")
            items.append(self.data[at + 4 : end])
            at = end
        if at != len(self.data) or len(items) != count_of(self.shape):
            raise BadInput(f"tensor {self.name!r}: item lengths do not fit its data and shape")
        return items

    @classmethod
    def of(cls, name: str, array: Array, datatype: Optional[Datatype] = None) -> Tensor:
        """A tensor with a copy of an array's elements, of the array's type, or of FP16 or BF16 if
        `datatype` is given.
        """
        held = array.in_kit() if kit.ready() and array.is_large else None
        if held is not None and (datatype is None or datatype == array.dtype or array.dtype == "FP32" and datatype in ("FP16", "BF16")):
            data = kit.asked(held.to_bytes, kit.datatype(datatype or array.dtype))
        elif datatype == "FP16":
            data = struct.pack(f"<{array.size}e", *array.flat)
        elif datatype == "BF16":
            data = _flat("H", map(_brain, Array.over(array.astype("FP32").tobytes(), array.shape, "UINT32").flat)).tobytes()
        elif datatype is None or datatype == array.dtype:
            data = array.tobytes()
        else:
            raise Fault(f"an array of {array.dtype} is not {datatype}: see Array.astype")
        return cls(name, datatype or array.dtype, array.shape, data)

    @classmethod
    def of_items(cls, name: str, items: Iterable[Union[bytes, str]], shape: Optional[Sequence[int]] = None) -> Tensor:
        """A BYTES tensor of byte strings or texts, with one dimension unless `shape` is given."""
        encoded = [item.encode() if isinstance(item, str) else bytes(item) for item in items]
        dims = (len(encoded),) if shape is None else tuple(shape)
        if count_of(dims) != len(encoded):
            raise Fault(f"{len(encoded)} items do not fit {list(dims)}")
        return cls(name, "BYTES", dims, b"".join(len(item).to_bytes(4, "little") + item for item in encoded))


@dataclass(frozen=True)
class Raw:
    """A request body that the policy admits unparsed (`accepts: {raw: …}`)."""

    content_type: str
    data: bytes


Payload = Union[list[Tensor], Raw]
"""The input of a preprocess handler."""


def _brain(bits: int) -> int:
    """The upper half of a single-precision float, rounded to even. A NaN stays a NaN."""
    if bits & 0x7FFFFFFF > 0x7F800000:
        return bits >> 16 | 0x40
    return min(bits + 0x7FFF + (bits >> 16 & 1), 0xFFFFFFFF) >> 16
