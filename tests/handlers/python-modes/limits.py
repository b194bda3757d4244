"""What uses up a limit: instructions, memory, and the stack by recursion in Python and in C."""

import copy
import functools
import itertools
import json
import pickle
import re
import sys

import numpy as np
from tensorgate import Tensor

DEEP = 100_000


class Returned:
    """A result that is returned as it is."""

    def __init__(self, value):
        self.value = value


def loop(_arg):
    while True:
        pass


def hoard(_arg):
    held = []
    while True:
        held.append(bytearray(1 << 20))


def hoard_arrays(_arg):
    held = []
    while True:
        held.append(np.ones((512, 512)))


def swallow(_arg):
    """Goes on after each MemoryError."""
    held = []
    while True:
        try:
            held.append(bytearray(1 << 20))
        except MemoryError:
            pass


def deny_all(_arg):
    """Answers after a MemoryError: more than the limit in one piece, which is not taken."""
    try:
        bytearray(1 << 30)
    except MemoryError:
        return "no memory"


def matmul(_arg):
    a = np.ones((1024, 1024))
    while True:
        a @ a


def sort(_arg):
    a = np.arange(8_000_000)[::-1] % 1_000_003
    while True:
        np.sort(a, kind="stable")


def broadcast(_arg):
    one = np.broadcast_to(np.float32(1), (1 << 28,))
    while True:
        np.add.reduce(one)


def einsum(_arg):
    one = np.broadcast_to(1.0, (1 << 15,))
    return np.einsum("i,j->", one, one)


def recurse(_arg):
    def again(n):
        return again(n + 1)

    return again(0)


def recurse_raised(_arg):
    sys.setrecursionlimit(10**9)
    return recurse(_arg)


def nested(kind=list):
    value = kind()
    for _ in range(DEEP):
        value = kind([value])
    return value


def recurse_call(_arg):
    class Calls:
        def __getattr__(self, name):
            return getattr(self, name + "x")

    return Calls().x


def recurse_less(_arg):
    class Less:
        def __lt__(self, other):
            return sorted([Less(), Less()]) is None

    return sorted([Less(), Less()])


def partials(_arg):
    call = int
    for _ in range(DEEP):
        call = functools.partial(functools.partial, call)
        call = functools.reduce(lambda inner, _: lambda: inner(), range(1), call)
    return call()()


def chains(_arg):
    numbers = iter([1])
    for _ in range(DEEP):
        numbers = itertools.chain(numbers)
    return next(numbers)


def maps(_arg):
    numbers = iter([1])
    for _ in range(DEEP):
        numbers = map(int, numbers)
    return next(numbers)


def dealloc(_arg):
    value = nested(tuple)
    del value
    return "freed"


def object_array(_arg):
    array = np.empty(1, object)
    array[0] = array
    return repr(np.array([array, array], object)) and str(array.tolist())


def nested_groups(_arg):
    error = ValueError("a")
    for _ in range(DEEP):
        error = ExceptionGroup("g", [error])
    raise error


def of(values):
    return lambda _arg: [Tensor.of("out", values())]


MODES = {
    # Instructions.
    "loop": loop,
    "matmul": matmul,
    "sort": sort,
    "broadcast": broadcast,
    "einsum-large": einsum,
    "numbers": lambda _: 7 ** (10**9),
    "generate": lambda _: sum(1 for _ in iter(int, 1)),
    "redos": lambda _: re.match(r"(a+)+$", "a" * 64 + "b"),
    "endless-tensors": lambda _: Returned(Tensor.of("out", [1.0]) for _ in iter(int, 1)),
    # Memory.
    "hoard": hoard,
    "hoard-arrays": hoard_arrays,
    "swallow": swallow,
    "denied": deny_all,
    "mem": lambda _: np.ones(1 << 26),
    "huge-shape": of(lambda: np.broadcast_to(np.float32(1), (1 << 26,))),
    # Recursion, in Python and in C.
    "recurse": recurse,
    "recurse-raised": recurse_raised,
    "recurse-getattr": recurse_call,
    "recurse-sorted": recurse_less,
    "deep-json": lambda _: json.dumps(nested()),
    "deep-loads": lambda _: json.loads("[" * DEEP),
    "deep-repr": lambda _: repr(nested()),
    "deep-equal": lambda _: nested() == nested(),
    "deep-hash": lambda _: hash(nested(tuple)),
    "deep-copy": lambda _: copy.deepcopy(nested()),
    "deep-pickle": lambda _: pickle.dumps(nested()),
    "deep-dealloc": dealloc,
    "deep-array": lambda _: np.array(nested()),
    "deep-compile": lambda _: compile("(" * DEEP + ")" * DEEP, "x", "eval"),
    "deep-minus": lambda _: compile("-" * DEEP + "1", "x", "eval"),
    "deep-regex": lambda _: re.compile("(" * 5_000 + ")" * 5_000),
    "deep-chain": chains,
    "deep-map": maps,
    "deep-partial": partials,
    "deep-groups": nested_groups,
    "self-array": object_array,
}
