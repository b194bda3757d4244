"""Write a tensorgate handler in Python.

A handler is a function from tensors (or a raw body) to tensors. `handler.py` defines one of

    def preprocess(input: Payload) -> list[Tensor]: ...
    def postprocess(outputs: list[Tensor]) -> list[Tensor]: ...

It only computes. Each call gets a fresh instance, so nothing that it stores survives its call.
The policy bounds instructions, memory and time.

What modules compute while they are imported is computed once, when the component is built. A
vocabulary or a table at the top of a module therefore costs a call nothing. Keep it in lists,
dicts, bytes or small arrays, because the tensor kit is not available at that time.

Available:
- CPython 3.14 with the pure Python part of its standard library.
- C modules of the standard library, among others array, math, struct, json, re, zlib, hashlib,
  decimal, datetime, csv and unicodedata.
- Modules of pure Python beside handler.py, and in the virtual environment that is active when
  the component is built.

Not available, and how it shows:
- numpy, or any other package with compiled parts: importing it fails the build. `Array` has
  numpy's names for the operations that it supports. The tensor kit
  computes arrays of 256 elements and more, at about a nanosecond for an operation on an element.
- Operations that the kit lacks (`map`, a loop over elements, `flat`): they run as plain Python,
  at hundreds of nanoseconds and 1500 fuel an element.
- In the kit: views (each operation makes a new array), einsum, sort, lists of indices
  and complex numbers. FP16 is converted on input and output.
- Files, sockets, processes, threads and the environment: an exception says what a handler lacks.
  `fetch` and `lookup` request files and features from the host, if the policy grants it.
- A clock that advances: `time` and `datetime` have the time of the request, so nothing can sleep.
- Secrets: `random`, `uuid` and `os.urandom` have a seed of the request.
- Late imports: every module is imported while the component is built. Import at the top of a
  file, not inside a function. There, a module that was not imported yet is not found
  (ModuleNotFoundError).
- ssl, ctypes, lzma, bz2.
"""

from .array import Array, DType, Filter, array, concatenate, full, stack, zeros
from .errors import BadInput, Fault
from .host import config, log
from .masks import count_nonzero, nonzero, where
from .media import decode_image, decode_wav, nms, pad_tokens
from .reach import File, Missing, fetch, lookup
from .request import Input, Request, carry, context
from .tensor import Datatype, Payload, Raw, Tensor

__all__ = [
    "Array",
    "BadInput",
    "DType",
    "Datatype",
    "Fault",
    "File",
    "Filter",
    "Input",
    "Missing",
    "Payload",
    "Raw",
    "Request",
    "Tensor",
    "array",
    "carry",
    "concatenate",
    "config",
    "context",
    "count_nonzero",
    "decode_image",
    "decode_wav",
    "fetch",
    "full",
    "log",
    "lookup",
    "nms",
    "nonzero",
    "pad_tokens",
    "stack",
    "where",
    "zeros",
]
