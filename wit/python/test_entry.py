"""The modules that connect a handler with its host, in plain CPython, with a stand-in for the
host.
"""

import importlib
import sys
import types
import unittest

import tensorgate
import world_check


def module(name, source):
    """A module with the given source."""
    made = types.ModuleType(name)
    exec(compile(source, f"/0/{name}.py", "exec"), made.__dict__)
    return made


class Worlds(unittest.TestCase):
    def test_a_handler_defines_the_function_of_its_world(self):
        missing = "handler.py defines no function preprocess(input)\nfound: "
        called = "but the host calls preprocess(input) with one argument"
        for source, expected in [
            ("def preprocess(input): pass", None),
            ("def preprocess(input, size=3, *, name=''): pass", None),
            ("def preprocess(*inputs): pass", None),
            ("def preprocess(input=None): pass", None),
            ("class Model:\n    def run(self, input): pass\npreprocess = Model().run", None),
            ("from math import sqrt as preprocess", None),
            ("table = [1]", f"{missing}no function"),
            ("from os.path import join", f"{missing}no function"),
            ("def process(input): pass", f"{missing}process; did you mean preprocess?"),
            ("def a(): pass\ndef preproces(): pass", f"{missing}a, preproces; did you mean preprocess?"),
            ("def classify(input): pass", f"{missing}classify"),
            (
                "def postprocess(outputs): pass",
                f"{missing}postprocess; handler.yaml has `world: preprocess`,"
                " did you mean `world: postprocess`?",
            ),
            ("preprocess = 1", "handler.py defines preprocess as int, not as a function"),
            ("def preprocess(): pass", f"handler.py defines preprocess(), {called}"),
            ("def preprocess(a, b): pass", f"handler.py defines preprocess(a, b), {called}"),
            ("def preprocess(a, *, b): pass", f"handler.py defines preprocess(a, b), {called}"),
            ("def preprocess(*, a=1): pass", f"handler.py defines preprocess(a), {called}"),
        ]:
            try:
                found = world_check.check(module("handler", source), "preprocess")
            except world_check.WorldMismatch as error:
                found = str(error)
            self.assertEqual(found, expected, source)

    def test_a_long_list_of_names_is_cut(self):
        source = "\n".join(f"def helper{at}(): pass" for at in range(20))
        with self.assertRaises(world_check.WorldMismatch) as raised:
            world_check.check(module("handler", source), "postprocess")
        self.assertTrue(str(raised.exception).endswith(", helper7, …"), raised.exception)


class Err(Exception):
    """The error of a world's function, as in componentize-py."""

    def __init__(self, value):
        self.value = value


class Calls(unittest.TestCase):
    """The entry, with the modules of componentize-py replaced."""

    def setUp(self):
        host = types.SimpleNamespace(
            Error_BadInput=lambda text: ("bad-input", text),
            Error_Fault=lambda text: ("fault", text),
            Tensor=lambda *fields: fields,
            Datatype={"FP32": "FP32"},
        )
        self.modules = {
            "handler": module("handler", ""),
            "componentize_py_types": types.SimpleNamespace(Err=Err),
            "wit_world": types.ModuleType("wit_world"),
            "wit_world.imports": types.SimpleNamespace(types=host),
        }
        sys.modules.update(self.modules)
        self.finders, self.streams = sys.meta_path[:], (sys.stdout, sys.stderr)
        # The tests adapt modules of their own.
        hidden = {name: sys.modules.pop(name) for name in ("logging", "socket") if name in sys.modules}
        self.entry = importlib.import_module("entry")
        sys.modules.update(hidden)
        self.lines = []
        self.write = tensorgate.host._write
        tensorgate.host._write = lambda level, message: self.lines.append((level, message))

    def tearDown(self):
        tensorgate.host._write = self.write
        sys.meta_path[:] = self.finders
        sys.stdout, sys.stderr = self.streams
        for name in [*self.modules, "entry"]:
            del sys.modules[name]

    def failure(self, source):
        """How a call of a handler with the given source fails."""
        handler = module("handler", source)
        with self.assertRaises(Err) as raised:
            self.entry._call("preprocess", handler.preprocess, [])
        return raised.exception.value

    def test_an_import_in_a_call_fails_with_its_module_and_a_hint(self):
        # The module exists, and is not imported yet: its file must not be searched.
        self.assertNotIn("colorsys", sys.modules)
        kind, text = self.failure("def preprocess(input):\n    import colorsys\n")
        self.assertEqual(kind, "fault")
        self.assertTrue(text.startswith("ModuleNotFoundError: No module named 'colorsys' (handler.py:2"), text)
        self.assertIn("move the import to the top of the file", text)
        _, text = self.failure("def preprocess(input):\n    from math import nothing\n")
        self.assertTrue(text.startswith("ImportError: cannot import name 'nothing'"), text)
        self.assertIn("move the import to the top of the file", text)

    def test_every_exception_is_logged_with_its_own_text(self):
        for statement, expected in [
            ("1 / 0", "ZeroDivisionError: division by zero (handler.py:2 in preprocess)"),
            ("raise SystemExit('no model')", "SystemExit: no model (handler.py:2 in preprocess)"),
            (
                "open('no-such-file')",
                "FileNotFoundError: [Errno 2] No such file or directory: 'no-such-file'"
                f" (handler.py:2 in preprocess){self.entry.NO_FILES}",
            ),
            (
                'raise RuntimeError("can\'t start new thread")',
                "RuntimeError: can't start new thread"
                f" (handler.py:2 in preprocess){self.entry.NO_THREADS}",
            ),
        ]:
            self.assertEqual(self.failure(f"def preprocess(input):\n    {statement}\n"), ("fault", expected))

    def test_frames_of_a_development_build_are_left_out(self):
        loader = {}
        source = "def load(function):\n    return lambda given: function(given)\n"
        exec(compile(source, f"/0/{self.entry.LOADER}", "exec"), loader)
        handler = module("handler", "def preprocess(input):\n    1 / 0\n")
        with self.assertRaises(Err) as raised:
            self.entry._call("preprocess", loader["load"](handler.preprocess), [])
        expected = ("fault", "ZeroDivisionError: division by zero (handler.py:2 in preprocess)")
        self.assertEqual(raised.exception.value, expected)

    def test_refused_memory_is_logged_with_its_line(self):
        handler = module("handler", "def preprocess(input):\n    raise MemoryError\n")
        with self.assertRaises(MemoryError):
            self.entry._call("preprocess", handler.preprocess, [])
        self.assertEqual(self.lines, [("ERROR", "MemoryError:  (handler.py:2 in preprocess)")])

    def test_printed_lines_are_in_the_log_in_order(self):
        source = (
            "import sys\nfrom tensorgate import log\nsaved = sys.stdout\n"
            "def preprocess(input):\n"
            "    print('one', end=' '); log.debug('first'); print('two\\nthree', file=saved)\n"
            "    print('four', file=sys.stderr); print('five', end='')\n    return []\n"
        )
        handler = module("handler", source)
        self.assertEqual(self.entry._call("preprocess", handler.preprocess, []), [])
        expected = [
            ("DEBUG", "first"),
            ("INFO", "one two"),
            ("INFO", "three"),
            ("WARN", "four"),
            ("INFO", "five"),
        ]
        self.assertEqual(self.lines, expected)

    def test_records_of_logging_have_their_level(self):
        import logging

        emit = logging.StreamHandler.emit
        handlers = logging.root.handlers[:]
        source = (
            "import logging\nlogging.basicConfig(level=logging.INFO, format='%(message)s', force=True)\n"
            "def preprocess(input):\n"
            "    logging.debug('no'); logging.info('one'); logging.warning('two')\n"
            "    logging.error('three\\nfour')\n    return []\n"
        )
        try:
            handler = module("handler", source)
            self.entry.prepare({"logging": logging})
            self.entry._call("preprocess", handler.preprocess, [])
        finally:
            logging.StreamHandler.emit = emit
            logging.root.handlers[:] = handlers
        expected = [("INFO", "one"), ("WARN", "two"), ("ERROR", "three"), ("ERROR", "four")]
        self.assertEqual(self.lines, expected)

    def test_sockets_are_named_as_what_a_handler_lacks(self):
        socket = types.SimpleNamespace(socket=type("socket", (), {}))
        self.entry.prepare({"socket": socket})
        for open_socket in (socket.socket, lambda: socket.getaddrinfo("example.com", 443)):
            with self.assertRaisesRegex(PermissionError, "a handler has no sockets"):
                open_socket()

    def test_a_wrong_return_is_one_sentence_that_says_what_to_return(self):
        for returned, expected in [
            ("pass", "preprocess returned None: end it with `return`"),
            ("return Tensor.of('x', array([1]))", "preprocess returned a Tensor: put it into a list"),
            ("return array([1])", "preprocess returned an Array: name it and put it into a list"),
            ("return {'x': array([1])}", "preprocess returned a dict: make a list of tensors of it"),
            ("return 1", "preprocess returned an int: return a list of tensors"),
            ("return [[1.0, 2.0]]", "preprocess returned a list whose item 0 is a list: return a list of"),
            ("return [Tensor.of('x', array([1])), None]", "preprocess returned a list whose item"),
            ("return 'text'", "preprocess returned a str whose item 0 is a str: return a list"),
        ]:
            lines = "from tensorgate import Tensor, array\ndef preprocess(input):\n    "
            kind, text = self.failure(lines + returned)
            self.assertEqual(kind, "fault")
            self.assertTrue(text.startswith(expected), text)
            self.assertNotIn("Traceback", text)

    def test_an_async_function_is_named(self):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind, text = self.failure("async def preprocess(input):\n    return []")
        self.assertEqual(kind, "fault")
        self.assertTrue(text.startswith("preprocess returned a coroutine: write `def`"), text)

    def test_any_iterable_of_tensors_is_a_result(self):
        handler = module(
            "handler",
            "from tensorgate import Tensor, array\n"
            "def preprocess(input):\n    yield Tensor.of('x', array([1]))\n",
        )
        self.assertEqual(self.entry._call("preprocess", handler.preprocess, []), [("x", "FP32", [1], b"\0\0\x80?")])

    def test_a_bad_input_has_a_text_for_the_caller_since_version_0_2(self):
        bad = "from tensorgate import BadInput\ndef preprocess(input):\n    raise BadInput('row 3', caller='no rows')\n"
        self.assertEqual(self.failure(bad), ("bad-input", "row 3"))
        errors = types.SimpleNamespace(
            Error_BadInput=lambda rejection: ("bad-input", rejection), Rejection=lambda log, caller: (log, caller)
        )
        self.entry.errors = errors
        self.assertEqual(self.failure(bad), ("bad-input", ("row 3", "no rows")))
        plain = bad.replace(", caller='no rows'", "")
        self.assertEqual(self.failure(plain), ("bad-input", ("row 3", None)))


if __name__ == "__main__":
    unittest.main()
