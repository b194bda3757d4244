"""What a hostile handler may try on the system, the interpreter and the runtime. None of it may
reach beyond its own call.
"""

import atexit
import builtins
import faulthandler
import gc
import linecache
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import threading
import zipimport

import numpy as np
from limits import Returned, loop, of
from tensorgate import BadInput, Tensor, config, log


def unpickle(_arg):
    class Bomb:
        def __reduce__(self):
            return os.system, ("id",)

    return pickle.loads(pickle.dumps(Bomb()))


def patch_numpy(_arg):
    np.asarray = np.ndarray = np.ascontiguousarray = None
    Tensor.array = Tensor.of = None
    return "patched"


def fork(_arg):
    return os.fork()


def raise_signal(_arg):
    signal.raise_signal(signal.SIGSEGV)


def memory_view():
    return sys.modules["tensorgate_abi"]._memory


def write_zero(_arg):
    view = memory_view()
    for index in range(4096):
        view[index] = 255
    return "written"


def write_random(_arg):
    view = memory_view()
    for _ in range(1_000_000):
        view[random.randrange(40 << 20)] = random.randrange(256)


def write_all(_arg):
    view = memory_view()
    view[16 << 20 : 40 << 20] = b"\xff" * (24 << 20)


def write_beyond(_arg):
    memory_view()[(1 << 31) - 2] = 1


def read_beyond(_arg):
    return bytes(memory_view()[(1 << 31) - 4096 : (1 << 31) - 2])


def host_call(operation, *words):
    """Calls the host with any operation and arguments."""

    def call(_arg):
        abi = sys.modules["tensorgate_abi"]
        return abi._ask("hostile", operation, *words)

    return call


def host_frame(_arg):
    import _host

    for size in (0, 1, 4096, 1 << 20):
        try:
            _host.call(b"\xff" * size)
        except ConnectionRefusedError:
            pass
    return "refused"


def wrong_result(_arg):
    """Has the host read a result from an address that the handler chooses."""
    abi = sys.modules["tensorgate_abi"]
    abi.return_tensors = lambda _: abi._pack_list(abi._memory, abi._place, 0x7FFFFFF0, 0, 0, 0)
    return "moved"


def huge_list(_arg):
    abi = sys.modules["tensorgate_abi"]
    abi.return_tensors = lambda _: abi._pack_list(
        abi._memory, abi._place, abi._block + abi.RESULT, 0, 16, (1 << 32) - 1
    )
    return "huge"


def poison_modules(_arg):
    for name in list(sys.modules):
        sys.modules[name] = None
    return "poisoned"


def poison_caches(_arg):
    linecache.cache.clear()
    linecache.getline = None
    zipimport._zip_directory_cache.clear()
    sys.path_importer_cache.clear()
    sys.meta_path.clear()
    import colorsys

    return colorsys


def no_builtins(_arg):
    for name in [name for name in vars(builtins) if name != "delattr"]:
        delattr(builtins, name)
    return "none"


def print_much(_arg):
    for _ in range(10 << 10):
        sys.stdout.write("x" * 1023 + "\n")
    return "printed"


def raw_output(_arg):
    for _ in range(10 << 10):
        os.write(1, b"y" * 1024)
    return "written"


def log_much(_arg):
    for _ in range(20_000):
        log.info("again")
    return "logged"


def ask_much(_arg):
    while True:
        config("mode")


class LoopingText(Exception):
    def __str__(self):
        while True:
            pass


class RaisingText(Exception):
    def __str__(self):
        raise RaisingText


class LargeText(BadInput):
    def __str__(self):
        return "x" * (1 << 20)


def raising(error):
    def call(_arg):
        raise error

    return call


def cycle(_arg):
    error = ValueError("a")
    error.__cause__ = KeyError("b")
    error.__cause__.__cause__ = error
    raise error


def del_loop(_arg):
    class Again:
        def __del__(self):
            Again()

    Again()
    return "deleted"


def del_forever(_arg):
    class Slow:
        def __del__(self):
            while True:
                pass

    Slow()


def collect(_arg):
    gc.callbacks.append(lambda *_: gc.collect())
    gc.unfreeze()
    gc.set_threshold(1)
    for each in gc.get_objects():
        if type(each) is dict and "collect" not in each and "__builtins__" not in each:
            gc.is_tracked(each)
    gc.collect()
    return "collected"


def clear_objects(_arg):
    gc.unfreeze()
    for each in gc.get_objects():
        if type(each) in (dict, list, set):
            each.clear()


def trace(_arg):
    sys.settrace(lambda *_: loop(None))
    return (lambda: 1)()


def audit(_arg):
    def refuse(*_):
        raise BaseException("audit")

    sys.addaudithook(refuse)
    return open("x")


def exit_handler(_arg):
    atexit.register(loop, None)
    return "registered"


def write_file(_arg):
    for path in ("x.txt", "/tmp/x", "/usr/local/lib/python315.zip", "/project/handler.py"):
        try:
            open(path, "wb").write(b"x")
        except OSError:
            continue
        return path
    return "nothing"


def read_many(_arg):
    found = []
    for path in ("/proc/self/maps", "/etc/passwd", "/dev/random", "/project/handler.py", "../.."):
        try:
            found.append(open(path, "rb").read(1))
        except OSError:
            pass
    return f"read {found} {os.listdir('/usr/local/lib') if not found else ''}"


def hostile_tensor(name="out", datatype="FP32", shape=(1,), data=b"1234"):
    return lambda _arg: Returned([Tensor(name, datatype, shape, data)])


def looping_property(_arg):
    class Slow(Tensor):
        name = property(loop)

        def __init__(self):
            self.datatype, self.shape, self._buffer = "FP32", (1,), b"1234"

    return Returned([Slow()])


MODES = {
    # The system.
    "read-files": read_many,
    "write-files": write_file,
    "import-ctypes": lambda _: __import__("ctypes").CDLL(None),
    "unpickle": unpickle,
    "thread": lambda _: threading.Thread(target=loop, args=("",)).start(),
    "socket": lambda _: socket.create_connection(("127.0.0.1", 80)),
    "subprocess": lambda _: subprocess.run(["id"]),
    "fork": fork,
    "os-exit": lambda _: os._exit(0),
    "kill": lambda _: os.kill(os.getpid(), 9),
    "raise-signal": raise_signal,
    "abort": lambda _: os.abort(),
    "crash": lambda _: faulthandler._sigsegv(),
    "stack-overflow": lambda _: faulthandler._stack_overflow(),
    "interrupt": raising(KeyboardInterrupt()),
    "print-much": print_much,
    "raw-output": raw_output,
    "log-much": log_much,
    "ask-much": ask_much,
    # The interpreter.
    "patch-numpy": patch_numpy,
    "poison-modules": poison_modules,
    "poison-caches": poison_caches,
    "no-builtins": no_builtins,
    "collect": collect,
    "clear-objects": clear_objects,
    "trace": trace,
    "audit": audit,
    "atexit": exit_handler,
    "del-loop": del_loop,
    "del-forever": del_forever,
    "text-loops": raising(LoopingText()),
    "text-raises": raising(RaisingText()),
    "text-large": raising(LargeText()),
    "cause-cycle": cycle,
    # Memory of the runtime, and calls of the host.
    "write-zero": write_zero,
    "write-random": write_random,
    "write-all": write_all,
    "write-beyond": write_beyond,
    "read-beyond": read_beyond,
    "host-operation": host_call(99),
    "host-negative": host_call(0xFFFFFFFF),
    "host-address": host_call(0, 0xFFFFFFF0, 64),
    "host-length": host_call(1, 1, 64, 0xFFFFFFF0),
    "host-fetch": host_call(5, 0, 0),
    "host-level": host_call(1, 77, 64, 1),
    "host-frame": host_frame,
    "result-address": wrong_result,
    "result-length": huge_list,
    # Returned values.
    "objects": of(lambda: np.array([object()])),
    "complex": of(lambda: np.array([1j])),
    "structured": of(lambda: np.zeros(2, [("a", "f4")])),
    "dates": of(lambda: np.array(["2026-01-01"], "datetime64[D]")),
    "masked": of(lambda: np.ma.masked_array([1.0], [True])),
    "memoryview": of(lambda: memoryview(b"abcd")),
    "negative-shape": hostile_tensor(shape=(-1,)),
    "huge-dim": hostile_tensor(shape=(1 << 64,)),
    "text-shape": hostile_tensor(shape=("one",)),
    "many-dims": hostile_tensor(shape=(1,) * 1000),
    "wrong-size": hostile_tensor(shape=(2,)),
    "wrong-datatype": hostile_tensor(datatype="FP8"),
    "wrong-data": hostile_tensor(data=None),
    "surrogate-name": hostile_tensor(name="\ud800"),
    "long-name": hostile_tensor(name="x" * (1 << 20)),
    "property-loops": looping_property,
    "many-tensors": lambda _: Returned([Tensor.of("out", [1.0])] * 1000),
}
