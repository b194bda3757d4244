"""A hostile handler. Its config's `behaviour` selects what it does, honest mistakes included."""

import os
import random
import re
import struct
import threading
import time

import tensorgate
from tensorgate import BadInput, Fault, Tensor


def loop():
    while True:
        pass


def recurse():
    return recurse() + 1


def hoard():
    held = []
    while True:
        held.append(bytearray(1 << 20))


def log():
    while True:
        tensorgate.log.info("again")


def ask():
    while True:
        tensorgate.config("behaviour")


def numbers():
    return 7 ** (10**9)


def backtrack():
    return re.match(r"(a+)+$", "a" * 64 + "b")


def generate():
    return sum(1 for _ in iter(int, 1))


def deep():
    nested = []
    for _ in range(10**7):
        nested = [nested]
    return str(nested)


def fail():
    raise Fault("x" * (1 << 20))


def reject():
    raise BadInput("no good\nERROR forged")


def leave():
    raise SystemExit(0)


def interrupt():
    raise KeyboardInterrupt


def opened():
    return open("/etc/passwd").read()


def listed():
    return os.listdir("/")


def clock():
    return time.time()


def sleep():
    time.sleep(3600)


def thread():
    threading.Thread(target=loop).start()


def exit_at_once():
    os._exit(0)


def tensor(shape, data, datatype="FP32"):
    return [Tensor("x", datatype, shape, data)]


def seeded():
    return tensor((4,), struct.pack("<4f", *(random.random() for _ in range(4))))


# A set, whose order depends on a seed.
def hashed():
    return tensor((1,), struct.pack("<q", hash("a text"))[:4])


BEHAVIOURS = {
    "loop": loop,
    "recurse": recurse,
    "hoard": hoard,
    "log": log,
    "ask": ask,
    "numbers": numbers,
    "backtrack": backtrack,
    "generate": generate,
    "deep": deep,
    "fail": fail,
    "reject": reject,
    "leave": leave,
    "interrupt": interrupt,
    "open": opened,
    "list": listed,
    "clock": clock,
    "sleep": sleep,
    "thread": thread,
    "exit": exit_at_once,
    "nothing": lambda: None,
    "no-tensors": lambda: [1, 2],
    "no-datatype": lambda: tensor((1,), b"1234", "FP8"),
    "negative": lambda: tensor((-1,), b"1234"),
    "huge-dim": lambda: tensor((2**64,), b"1234"),
    "no-number": lambda: tensor(("one",), b"1234"),
    "no-bytes": lambda: tensor((1,), None),
    "large": lambda: tensor((1,), bytes(100 << 20)),
    "many": lambda: tensor((1,), b"1234") * 1_000,
    "long-name": lambda: [Tensor("x" * (1 << 20), "FP32", (1,), b"1234")],
    "surrogate": lambda: [Tensor("\ud800", "FP32", (1,), b"1234")],
    "nan": lambda: tensor((1,), struct.pack("<f", float("nan"))),
    "seeded": seeded,
    "hashed": hashed,
}


def preprocess(_input):
    return BEHAVIOURS[tensorgate.config("behaviour")]()
