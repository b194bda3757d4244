"""The modules of this folder in the runtime itself, with a stand-in for the host.

`run` is for a handler of a test: it needs CPython as a core module, where addresses have 32 bits.
"""

import os
import struct
import sys
import types
import unittest

import numpy as np
import tensorgate
import tensorgate_abi as abi
import tensorgate_entry as entry
from tensorgate import BadInput, Fault, Tensor


class Memory:
    """Writes values in the layouts of the canonical ABI."""

    def __init__(self):
        self.alive = []

    def place(self, data):
        self.alive.append(data)
        return abi.address(data), len(data)

    def text(self, value):
        return self.place(value.encode())

    def records(self, layout, rows):
        return self.place(b"".join(struct.pack(layout, *row) for row in rows))[0], len(rows)

    def shape(self, dims):
        return self.place(struct.pack(f"<{len(dims)}Q", *dims))[0], len(dims)

    def tensors(self, *tensors):
        rows = [
            (*self.text(name), abi.DATATYPES.index(kind), *self.shape(shape), *self.place(data))
            for name, kind, shape, data in tensors
        ]
        return self.records("<IIB3x4I", rows)


class Host:
    """Answers with bytes at the place of the answer, and keeps what it was asked."""

    def __init__(self, **answers):
        self.answers, self.asked, self.lines = answers, [], []

    def call(self, frame):
        operation, *words = abi.unpack("<7I", abi._block + abi.OPERATION)
        if operation == abi.LOG_WRITE:
            self.lines.append(("debug info warn error".split()[words[0]], abi.text(*words[1:3])))
        else:
            self.asked.append((operation, words))
            answer = self.answers[str(operation)]
            abi._memory[abi._place + abi.RETURNED :][: len(answer)] = answer
        raise ConnectionRefusedError


def strings(start, count):
    return [abi.text(*row) for row in abi.records("<II", start, count)]


class Calls(unittest.TestCase):
    def setUp(self):
        self.before = abi._host, entry._function, entry._world, abi.running
        self.memory = Memory()

    def tearDown(self):
        abi._host, entry._function, entry._world, abi.running = self.before

    def call(self, function, *words, world="preprocess", host=None):
        """Calls the entry, and returns what the host reads."""
        abi._host, entry._function, entry._world = host or Host(), function, world
        struct.pack_into("<5I", abi._memory, abi._place, *words, *[0] * (5 - len(words)))
        try:
            entry.entry()
        finally:
            abi.running = self.before[3]
        (start,) = abi.unpack("<I", abi._block)
        failed, first, second = abi.unpack("<B3xII", start)
        if not failed:
            return [
                (abi.text(name, length), abi.DATATYPES[kind], abi.unpack(f"<{rank}Q", dims), bytes(abi.view(data, size)))
                for name, length, kind, dims, rank, data, size in abi.records("<IIB3x4I", first, second)
            ]
        if first & 255:
            return "fault", abi.text(*abi.unpack("<II", start + 8))
        return "bad-input", abi.text(*abi.unpack("<II", start + 8)), abi._optional_text(start + 16)

    def text(self, source, host=None, **names):
        """The text of the fault of a function with this body."""
        code = "def preprocess(input):\n" + "".join(f"    {line}\n" for line in source.split("\n"))
        exec(compile(code, f"{entry.PROJECT}handler.py", "exec"), names)
        kind, text, *_ = self.call(names["preprocess"], host=host)
        self.assertEqual(kind, "fault", text)
        return text

    def test_tensors_go_in_and_out_in_place(self):
        numbers = np.arange(6, dtype="<f4").reshape(1, 2, 3)
        texts = b"\2\0\0\0ab"
        place = self.memory.tensors(("x", "FP32", (1, 2, 3), numbers.tobytes()), ("t", "BYTES", (1,), texts))
        seen = []

        def function(given):
            one, two = given
            seen.append(one.array("FP32").__array_interface__["data"][0])
            return [Tensor.of("y", one.array()[0].T * 2), two, Tensor.of("z", np.float64(2)), one]

        found = self.call(function, 0, *place)
        expected = (numbers[0].T * 2).tobytes()
        self.assertEqual(found[0], ("y", "FP32", (3, 2), expected))
        self.assertEqual(found[1:3], [("t", "BYTES", (1,), texts), ("z", "FP64", (), struct.pack("<d", 2))])
        self.assertEqual(found[3], ("x", "FP32", (1, 2, 3), numbers.tobytes()))
        self.assertIn(seen[0], [abi.address(data) for data in self.memory.alive])
        self.assertEqual(self.call(list, *place, world="postprocess")[1][0], "t")
        self.assertEqual(self.call(list, 0, 0, 0), [])

    def test_a_body_is_bytes(self):
        body = (*self.memory.text("image/png"), *self.memory.place(b"\x89PNG\0"))
        shown = lambda given: [Tensor.of_items("x", [given.content_type, given.data])]
        self.assertEqual(self.call(shown, 1, *body)[0][3], b"\x09\0\0\0image/png\x05\0\0\0\x89PNG\0")

    def test_a_dict_of_arrays_is_a_result(self):
        found = self.call(lambda _: {"a": np.zeros(2, "<i8"), "b": ["x"]})
        self.assertEqual([each[:3] for each in found], [("a", "INT64", (2,)), ("b", "BYTES", (1,))])

    def test_failures_have_their_texts(self):
        def rejecting(_):
            raise BadInput("row 3", caller="no rows")

        self.assertEqual(self.call(rejecting), ("bad-input", "row 3", "no rows"))
        for source, start in [
            ("raise BadInput('row', caller=None)", None),
            ("1 / 0", "ZeroDivisionError: division by zero (handler.py:2 in preprocess)"),
            ("raise SystemExit('no model')", "SystemExit: no model (handler.py:2 in preprocess)"),
            ("raise Fault('broken')", "broken"),
            ("try:\n    1 / 0\nexcept ArithmeticError as error:\n    raise Fault('no') from error", "no; caused by ZeroDivision"),
            ("raise MemoryError", "MemoryError (handler.py:2 in preprocess)"),
            ("open('no-such-file')", "FileNotFoundError: "),
            ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module' (handler.py:2 in"),
            ("pass", "preprocess returned None: end it with `return`"),
            ("return np.zeros(1)", "preprocess returned a ndarray: name it and put it into a list"),
            ("return Tensor.of('x', 1)", "preprocess returned a Tensor: put it into a list"),
            ("return [[1.0]]", "preprocess returned a list whose item 0 is a list: return a list of"),
            ("return 1", "preprocess returned an int: return a list of tensors"),
            ("return [Tensor('x', 'FP31', (1,), bytes(4))]", "tensor 'x': there is no datatype 'FP31'"),
            ("try:\n    1 / 0\nexcept ValueError:\n    pass", "ZeroDivisionError"),
            (
                "try:\n    int('x')\nexcept ValueError as error:\n    raise KeyError('k') from error",
                "KeyError: 'k' (handler.py:5 in preprocess); caused by ValueError: invalid literal for int()",
            ),
            ("raise ExceptionGroup('two', [ValueError('a'), TypeError('b')])", "ExceptionGroup: two (2 sub-exceptions)"),
            ("class Odd(Exception):\n    def __str__(self):\n        1 / 0\nraise Odd", "Odd: (ZeroDivisionError while its"),
            ("import threading\nthreading.Thread(target=print).start()", "RuntimeError: can't start new thread"),
            ("import socket\nsocket.socket()", "OSError: [Errno 58] Not supported"),
        ]:
            with self.subTest(source):
                if start is not None:
                    text = self.text(source, np=np, Tensor=Tensor, Fault=Fault, BadInput=BadInput)
                    self.assertTrue(text.startswith(start), text)
        text = self.text("raise ExceptionGroup('two', [ValueError('a'), TypeError('b')])")
        self.assertIn("; with ValueError: a; with TypeError: b", text)
        self.assertIn("a handler has no threads", self.text("import threading\nthreading.Thread(target=print).start()"))
        self.assertIn("a handler has no sockets", self.text("import socket\nsocket.socket()"))
        self.assertIn("a handler has no files", self.text("open('no-such-file')"))
        chain = "error = None\nfor at in range(9):\n    try:\n        raise ValueError(at) from error\n    except ValueError as other:\n        error = other\nraise error"
        self.assertEqual(self.text(chain).count("ValueError"), entry.MAX_ERRORS)

    def test_the_authors_line_stays_below_a_deep_stack(self):
        deep = {}
        source = "def fall(n):\n    return fall(n - 1) if n else 1 / 0\n"
        exec(compile(source, "/usr/local/lib/python315.zip/deep.py", "exec"), deep)
        text = self.text("fall(20)", fall=deep["fall"])
        self.assertIn("(handler.py:2 in preprocess, deep.py:2 in fall", text)

    def test_output_is_lines_of_the_log_in_order(self):
        import logging

        logger = logging.getLogger("a test")
        logger.propagate = False
        handler = logging.StreamHandler(entry._streams[1])
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        if logging.StreamHandler.emit.__name__ != "emit_lines":
            entry._log_records(logging)

        def function(_):
            print("one", end=" ", file=entry._streams[0])
            tensorgate.log.debug("first")
            print("two\nthree", file=entry._streams[0])
            logger.error("four")
            print("five", end="", file=entry._streams[1])
            return []

        host = Host()
        self.assertEqual(self.call(function, host=host), [])
        expected = [("debug", "first"), ("info", "one two"), ("info", "three"), ("error", "four"), ("warn", "five")]
        self.assertEqual(host.lines, expected)

    def test_the_hosts_functions_have_their_layouts(self):
        memory = self.memory
        texts = [field for value in ["r", "client", "m", "1", "infer"] for field in memory.text(value)]
        values = [(1, struct.pack("<q", -3)), (3, struct.pack("<d", 0.5)), (4, struct.pack("<II", *memory.text("v")))]
        rows = [(*memory.text(f"p{kind}"), kind, value) for kind, value in [(0, b"\1" + bytes(7)), *values]]
        entries = memory.records("<IIB7x8s", rows)
        shapes = memory.records("<4I", [(*memory.text("x"), *memory.shape((1, 2)))])
        context = struct.pack("<10IQ4IB3xIIxxxxQ", *texts, 7, *entries, *shapes, 1, *memory.text("image/png"), 99)
        files = memory.records("<B3x4I", [(0, *memory.text("text/plain"), *memory.place(b"one")), (1, 0xAA03, 0, 0, 0)])
        column = memory.records("<B7xd", [(1, 40.0), (0, 0.0)])
        columns = memory.records("<4I", [(*memory.text("age"), *column)])
        host = Host(
            **{
                "0": struct.pack("<B3xII", 1, *memory.text("0.5")),
                "2": context,
                "3": b"",
                "4": struct.pack("<II", *memory.place(b"12")),
                "5": struct.pack("<II", *files),
                "6": struct.pack("<B3xII", 0, *columns),
            }
        )
        found = {}

        def function(_):
            found["config"] = tensorgate.config("mean")
            found["asked"] = abi.text(*host.asked[-1][1][:2])
            found["context"] = tensorgate.context()
            tensorgate.carry.set(b"123")
            found["carried"] = bytes(abi.view(*host.asked[-1][1][:2])), tensorgate.carry.get()
            found["files"] = tensorgate.fetch(["https://a/1", "https://a/é"])
            found["urls"] = strings(*host.asked[-1][1][:2])
            found["columns"] = tensorgate.lookup("customers", ["age"], ["7", "8"])
            found["keys"] = strings(*host.asked[-1][1][4:6])
            host.answers["6"] = struct.pack("<B3xII", 1, 0xFF05, 0)
            host.answers["0"] = struct.pack("<B3xII", 0, 0, 0)
            found["none"] = tensorgate.config("mean")
            with self.assertRaises(tensorgate.Missing) as raised:
                tensorgate.lookup("customers", [], [])
            found["missing"] = raised.exception.why
            return []

        self.assertEqual(self.call(function, host=host), [])
        request = tensorgate.Request(
            "r", "client", "m", "1", "infer", 7, {"p0": True, "p1": -3, "p3": 0.5, "p4": "v"},
            tensorgate.Input({"x": (1, 2)}, "image/png", 99),
        )
        one, other = found.pop("files")
        self.assertEqual((one, other.why), (tensorgate.File("text/plain", b"one"), "too-large"))
        self.assertEqual(found.pop("context"), request)
        expected = {
            "config": "0.5", "asked": "mean", "carried": (b"123", b"12"), "urls": ["https://a/1", "https://a/é"],
            "columns": {"age": [40.0, None]}, "keys": ["7", "8"], "none": None, "missing": "not-found",
        }
        self.assertEqual(found, expected)

    def test_global_generators_have_a_new_state_in_each_call(self):
        import random

        seeds, entry._seeds[:] = entry._seeds[:], [lambda: random.seed(os.urandom(16))]
        try:
            random.seed(1)
            first = random.random()
            random.seed(1)
            found = []
            self.call(lambda _: found.append(random.random()) or [])
            self.assertNotEqual(found, [first])
        finally:
            entry._seeds[:] = seeds

    def test_the_host_cannot_be_asked_while_the_image_is_built(self):
        abi.running = False
        with self.assertRaisesRegex(RuntimeError, "config belongs to a request"):
            abi.config_get("a")


def run():
    """The failures of all tests, as texts."""
    import test_tensorgate

    suite = unittest.TestSuite()
    for module in (sys.modules[__name__], test_tensorgate):
        suite.addTests(unittest.defaultTestLoader.loadTestsFromModule(module))
    result = unittest.TestResult()
    suite.run(result)
    assert result.testsRun >= 18, result.testsRun
    return [f"{case}: {text}" for case, text in result.failures + result.errors]
