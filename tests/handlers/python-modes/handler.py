"""A handler for tests: its config's `mode` selects what it does, and `arg` with what.

`expected.json` has the outcome of each mode. The ones here are mistakes and idioms of authors,
those in `limits.py` and `attacks.py` are hostile.
"""

import base64
import csv
import dataclasses
import datetime
import decimal
import enum
import functools
import hashlib
import importlib
import io
import json
import logging
import os
import random
import re
import statistics
import sys
import threading
import time
import unicodedata
import uuid
import warnings
import zlib

import attacks
import limits
import numpy as np
from tensorgate import BadInput, Fault, Tensor, carry, config, context, log

STDLIB = (
    "abc argparse ast asyncio bisect bz2 calendar cmath codecs collections.abc"
    " concurrent.futures configparser contextlib contextvars copy decimal difflib"
    " email.message fractions graphlib gzip heapq hmac html.parser http.cookies inspect"
    " ipaddress itertools lzma mimetypes operator pathlib pickle pkgutil platform pprint queue"
    " secrets selectors shlex shutil signal socket sqlite3 ssl string struct tempfile textwrap"
    " timeit tokenize tomllib traceback typing unittest.mock urllib.parse wave weakref"
    " xml.etree.ElementTree zipfile zoneinfo"
).split()

COUNT = 0
CACHE: dict = {}


@dataclasses.dataclass
class Box:
    x: float
    y: float = 0.0


class Kind(enum.StrEnum):
    A = "a"


@functools.lru_cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def stdlib(_arg):
    missing = []
    for name in STDLIB:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    return f"missing: {' '.join(missing)}"


def late(_arg):
    import colorsys

    return colorsys.rgb_to_hsv(1, 0, 0)


def count(_arg):
    global COUNT
    COUNT += 1
    CACHE[COUNT] = 1
    return f"{COUNT} {len(CACHE)}"


def match(arg):
    match json.loads(arg):
        case {"messages": [{"role": str(role), "content": content}, *_]}:
            return f"{role} {content}"
    raise BadInput("no messages")


def zone(_arg):
    import zoneinfo

    return datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")).isoformat()


def run_async(_arg):
    import asyncio

    async def five():
        return 5

    return asyncio.run(five())


def pool(_arg):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as workers:
        return list(workers.map(abs, [-1, 2]))


def temporary(_arg):
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        return file.name


def request(_arg):
    import urllib.request

    return urllib.request.urlopen("http://127.0.0.1:1/").status


def lock(_arg):
    with threading.Lock():
        return "locked"


def check(arg):
    assert arg == "x", "arg must be x"
    return "ok"


def decomposed(_arg):
    parts = unicodedata.normalize("NFD", "Ünïcode")
    return "".join(c for c in parts if not unicodedata.combining(c))


def warn(arg):
    warnings.warn("old")
    logging.warning("careful %s", arg)
    print("seen", arg)
    return "warned"


def chain(_arg):
    try:
        json.loads("{")
    except ValueError as error:
        raise RuntimeError("could not read") from error


def group(_arg):
    raise ExceptionGroup("two", [ValueError("a"), KeyError("b")])


def bad_input(_arg):
    raise BadInput("row 3 is bad", caller="a row needs 8 columns")


def fault(_arg):
    raise Fault("the table is wrong")


def carried(_arg):
    carry.set(b"x" * 65536)
    return len(carry.get())


def jinja(arg):
    import jinja2

    return jinja2.Template("Hi {{ x }}").render(x=arg)


def yaml(_arg):
    import yaml

    return yaml.safe_load("a: [1, 2]")


def frame(_arg):
    import pandas

    table = pandas.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    return [Tensor.of("out", table)]


def many_logs(_arg):
    log.info("a\nERROR forged")
    log.warn("x" * 5000)
    return "logged"


def request_context(_arg):
    found = context()
    return f"{found.client}|{found.model}|{found.parameters}"


def assigned(_arg):
    array = np.array([1.0, 2.0])
    array[0] = 5.0
    array += 1
    return array


def write_input(_arg):
    Tensor("x", "FP32", (1,), b"1234").array()[0] = 1


def of(values, datatype=None):
    return lambda _arg: [Tensor.of("out", values(), datatype)]


F = np.float32
LINE = np.arange(6, dtype=F)

# A function's result is a text if it is no tensor, no array and no list of tensors.
MODES = {
    # The standard library and packages.
    "stdlib": stdlib,
    "late-import": late,
    "count": count,
    "fib": lambda _: fib(200),
    "dataclass": lambda _: json.dumps(dataclasses.asdict(Box(1.5))) + Kind.A,
    "match": match,
    "decimal": lambda _: decimal.Decimal("0.1") + decimal.Decimal("0.2"),
    "date": lambda _: datetime.date(2026, 11, 30).strftime("%a"),
    "strptime": lambda _: datetime.datetime.strptime("30 Nov 2026", "%d %b %Y").isoformat(),
    "zoneinfo": zone,
    "environ": lambda _: f"{sorted(os.environ)} {sys.argv}",
    "sleep": lambda _: time.sleep(0.01),
    "perf": lambda _: time.perf_counter() - time.perf_counter(),
    "lock": lock,
    "asyncio": run_async,
    "pool": pool,
    "tempfile": temporary,
    "requests": request,
    "exit": lambda _: sys.exit(3),
    "assert": check,
    "keyerror": lambda _: json.loads("{}")["instances"],
    "badjson": json.loads,
    "b64": lambda arg: len(base64.b64decode(arg, validate=True)),
    "unicode": decomposed,
    "regex": lambda arg: re.findall(r"\p{L}+", arg),
    "regex2": lambda arg: re.findall(r"[^\W\d_]+", arg),
    "warn": warn,
    "chain": chain,
    "group": group,
    "badinput": bad_input,
    "fault": fault,
    "carry": carried,
    "jinja": jinja,
    "yaml": yaml,
    "late-pandas": frame,
    "csv": lambda _: list(csv.DictReader(io.StringIO("a,b\n1,2\n"))),
    "crc": lambda _: zlib.crc32(b"abc"),
    "hash": lambda _: hashlib.sha256(b"a").hexdigest()[:8] + hashlib.md5(b"a").hexdigest()[:4],
    "statistics": lambda _: statistics.median([1, 5, 2]),
    "open": lambda _: open("labels.txt").read(),
    "log": many_logs,
    "context": request_context,
    "random": lambda _: f"{random.random() < 1} {len(str(uuid.uuid4()))} {np.random.rand() < 1}",
    # Arrays.
    "fp16": of(lambda: F([[1.5, 2.5]]), "FP16"),
    "bf16": of(lambda: F([1, np.nan]), "BF16"),
    "narrowed": of(lambda: np.array([1.5]), "INT64"),
    "nan": of(lambda: F([np.nan, np.inf])),
    "ragged": of(lambda: [[1.0, 2.0], [3.0]]),
    "bigint": of(lambda: [2**64]),
    "mixed": of(lambda: [1, 2.5, True]),
    "texts": of(lambda: ["a", "bc"]),
    "text-column": of(lambda: np.array(["a", "bc"])),
    "empty": of(lambda: np.zeros((0, 3), F)),
    "scalar": of(lambda: F(5)),
    "reshape": lambda _: F([1, 2, 3]).reshape(2, -1),
    "reversed": of(lambda: LINE[::-1]),
    "strided": of(lambda: LINE.reshape(2, 3).T[::2]),
    "read-only": of(lambda: np.broadcast_to(F(1), (2, 3))),
    "big-endian": of(lambda: LINE.astype(">f4")),
    "mask": of(lambda: LINE[LINE > 3]),
    "assign": assigned,
    "write-input": write_input,
    "argmax-nan": lambda _: int(np.array([1.0, np.nan, 2.0]).argmax()),
    "sum": lambda _: float(F([1, 2]).sum()),
    "einsum": lambda _: np.einsum("ij,j->i", np.eye(2), [1, 2]).tolist(),
    "fft": lambda _: abs(np.fft.rfft([1.0, 0, 0, 0])).tolist(),
    "linalg": lambda _: round(float(np.linalg.det([[2, 0], [0, 3]])), 3),
    "singular": lambda _: np.linalg.inv(np.zeros((2, 2))),
    "divide": lambda _: (np.array([1, 0]) / 0).tolist(),
    # What the image has is never freed, and what a call makes is.
    "counts": lambda _: (sys.getrefcount(CACHE) > 1 << 30, sys.getrefcount([]) < 3),
    # What a handler returns.
    "none": lambda _: limits.Returned(None),
    "array": lambda _: limits.Returned(LINE),
    "dict": lambda _: limits.Returned({"out": LINE}),
    "list": lambda _: limits.Returned([[1.0, 2.0]]),
    "tensor": lambda _: limits.Returned(Tensor.of("out", LINE)),
    "generator": lambda _: limits.Returned(Tensor.of("out", LINE) for _ in range(1)),
    "tuple": lambda _: limits.Returned((Tensor.of("out", LINE),)),
    **limits.MODES,
    **attacks.MODES,
}


def preprocess(_input):
    mode = config("mode")
    if mode not in MODES:
        raise BadInput(f"no mode {mode}")
    result = MODES[mode](config("arg") or "")
    if isinstance(result, limits.Returned):
        return result.value
    if isinstance(result, list) and result and isinstance(result[0], Tensor):
        return result
    if isinstance(result, np.ndarray):
        return [Tensor.of("out", result)]
    return [Tensor.of_items("out", [str(result)])]
