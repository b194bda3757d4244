"""Write a tensorgate handler in Python with numpy.

A handler is a function from tensors (or a raw body) to tensors. `handler.py` defines one of

    def preprocess(input: Payload) -> list[Tensor]: ...
    def postprocess(outputs: list[Tensor]) -> list[Tensor]: ...

It only computes. Each call gets a fresh instance, so nothing that it stores survives its call.
The policy bounds instructions, memory and time. A dict of arrays by name is a result, too.

What modules compute while they are imported is computed once, when the component is built. A
vocabulary, a table or a fitted scaler at the top of a module therefore costs a call nothing.
Files of the project can be read there, as in `open("labels.txt")` or `np.load("mean.npy")`.

Available:
- CPython 3.15 with its standard library.
- numpy, scipy, pandas, scikit-learn, Pillow, PyYAML, jinja2, regex, lxml. Pillow reads JPEG, WebP,
  PNG, GIF and BMP, in a call and not while modules are imported. It does not write JPEG and WebP.
- Modules of pure Python beside handler.py, and in the virtual environment that is active when
  the component is built.

Not available, and how it shows:
- Other packages with compiled parts: importing one fails the build.
- Files during a call, sockets, processes and threads: an exception says what a handler lacks.
  `fetch` and `lookup` request files and features from the host, if the policy grants it.
- A clock that advances: `time` and `datetime` have the time of the request, so nothing can sleep.
- Secrets: `random`, `uuid` and `os.urandom` have a seed of the request. A generator that is made
  at the top of a module has the same numbers in each call.
- Pickles at the top of a module: export parameters as .npz or .json, or with skops.
- 64-bit whole numbers where numpy chooses the type: it chooses int32 in the sandbox, also for
  the sums of smaller types, which wrap without an error. Give the type, as in
  `np.arange(n, dtype="int64")` or `x.sum(dtype="int64")`.
"""

from .errors import BadInput, Fault
from .host import config, log
from .image import decode_image
from .media import decode_wav, nms, pad_tokens
from .reach import File, Missing, fetch, lookup
from .request import Input, Request, carry, context
from .tensor import Datatype, Payload, Raw, Tensor

__all__ = [
    "BadInput",
    "Datatype",
    "Fault",
    "File",
    "Input",
    "Missing",
    "Payload",
    "Raw",
    "Request",
    "Tensor",
    "carry",
    "config",
    "context",
    "decode_image",
    "decode_wav",
    "fetch",
    "log",
    "lookup",
    "nms",
    "pad_tokens",
]
