"""Write a tensorgate handler in Python.

A handler is a function from tensors (or a raw body) to tensors. `handler.py` defines one of

    def preprocess(input: Payload) -> list[Tensor]: ...
    def postprocess(outputs: list[Tensor]) -> list[Tensor]: ...

It computes and nothing else. Each call gets a fresh instance: nothing that it stores survives its call, and what modules compute while
they are imported is computed once, when the component is built. Its policy bounds its instructions, memory and time.

What there is: CPython 3.14 and what its standard library has in pure Python, and of its C modules among others array, math, struct, json,
re, zlib, hashlib, decimal, datetime, csv and unicodedata. Modules of pure Python beside handler.py, and in the virtual environment that is
active when the component is built.

What there is not, and how it shows:
- numpy, or any other package with compiled parts: importing it fails the build. `Array` here has numpy's names for what it can do, in plain
  Python: hundreds of nanoseconds and 1500 of fuel an element and operation, where numpy takes one. Megapixels are for a handler in Rust.
- files, sockets, processes, threads, the environment: there is no system below. A call of one ends the call as a fault.
- clocks: `time.time()` ends the call as a fault, too. A handler's answer depends on its input alone.
- standard output: what is printed goes to the operator's log, at level debug. See `log`.
- random numbers: `random` gives the same sequence in every call, its seed is in the component. Never make a secret with it.
- late imports: every module is imported while the component is built. Import at the top of a file, not inside a function.
- ssl, ctypes, lzma, bz2.
"""

from .array import Array, DType, array, concatenate, full, stack, zeros
from .host import config, log
from .tensor import BadInput, Datatype, Fault, Payload, Raw, Tensor

__all__ = [
    "Array",
    "BadInput",
    "DType",
    "Datatype",
    "Fault",
    "Payload",
    "Raw",
    "Tensor",
    "array",
    "concatenate",
    "config",
    "full",
    "log",
    "stack",
    "zeros",
]
