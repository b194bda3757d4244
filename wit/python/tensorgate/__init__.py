"""Write a tensorgate handler in Python.

A handler is a function from tensors (or a raw body) to tensors. `handler.py` defines one of

    def preprocess(input: Payload) -> list[Tensor]: ...
    def postprocess(outputs: list[Tensor]) -> list[Tensor]: ...

It computes and nothing else. Each call gets a fresh instance: nothing that it stores survives its call, and what modules compute while
they are imported is computed once, when the component is built: a vocabulary or a table that is made at the top of a module costs a call nothing. Keep it in
lists, dicts, bytes or small arrays; the tensor kit is not there yet. Its policy bounds its instructions, memory and time.

What there is: CPython 3.14 and what its standard library has in pure Python, and of its C modules among others array, math, struct, json,
re, zlib, hashlib, decimal, datetime, csv and unicodedata. Modules of pure Python beside handler.py, and in the virtual environment that is
active when the component is built.

What there is not, and how it shows:
- numpy, or any other package with compiled parts: importing it fails the build. `Array` here has numpy's names for what it can do. Arrays of 256 elements and
  more go to the tensor kit, which the build puts into the component: about a nanosecond an element and operation. What it has no operation for (`map`, a loop over
  elements, `flat`) is plain Python: hundreds of nanoseconds and 1500 of fuel an element.
- in the kit: no views (each operation makes a new array), no einsum, matmul, sort or fancy indexing, no complex numbers, and FP16 only on the way in and out.
- files, sockets, processes, threads, the environment: there is no system below. A call of one ends the call as a fault. `fetch` and `lookup` say what the host
  shall bring, where the policy grants it.
- clocks: `time.time()` ends the call as a fault, too. A handler's answer depends on its input alone.
- standard output: what is printed goes to the operator's log, at level debug. See `log`.
- random numbers: `random` gives the same sequence in every call, its seed is in the component. Never make a secret with it.
- late imports: every module is imported while the component is built. Import at the top of a file, not inside a function.
- ssl, ctypes, lzma, bz2.
"""

from .array import Array, DType, Filter, array, concatenate, full, stack, zeros
from .errors import BadInput, Fault
from .host import config, log
from .media import decode_image, decode_wav, nms, pad_tokens
from .reach import File, Missing, fetch, lookup
from .tensor import Datatype, Payload, Raw, Tensor

__all__ = [
    "Array",
    "BadInput",
    "DType",
    "Datatype",
    "Fault",
    "File",
    "Filter",
    "Missing",
    "Payload",
    "Raw",
    "Tensor",
    "array",
    "concatenate",
    "config",
    "decode_image",
    "decode_wav",
    "fetch",
    "full",
    "log",
    "lookup",
    "nms",
    "pad_tokens",
    "stack",
    "zeros",
]
