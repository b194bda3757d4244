"""The loader of development components, in plain CPython, with a stand-in for the host."""

import builtins
import importlib
import io
import sys
import types
import unittest

import world_check


def packed(files):
    """An archive as in `wit/development.wit`."""
    parts = [part for path, text in files.items() for part in (path.encode(), text.encode())]
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


class Loads(unittest.TestCase):
    def setUp(self):
        self.host = types.SimpleNamespace(read=lambda: packed(self.files))
        self.modules = {
            "tensorgate_world_check": world_check,
            "wit_world": types.ModuleType("wit_world"),
            "wit_world.imports": types.SimpleNamespace(sources=self.host),
        }
        sys.modules.update(self.modules)
        self.before, self.finders = set(sys.modules), sys.meta_path[:]
        self.open = (builtins.open, io.open)
        self.development = importlib.import_module("development")

    def tearDown(self):
        sys.meta_path[:] = self.finders
        builtins.open, io.open = self.open
        for name in (set(sys.modules) - self.before) | set(self.modules):
            sys.modules.pop(name, None)

    def called(self, files, given=1):
        self.files = files
        self.development.prepare(["json", "no_such_module"], "preprocess")
        return sys.modules["handler"].preprocess(given)

    def test_modules_packages_and_files_of_the_project_are_read(self):
        files = {
            "handler.py": "import pathlib\nfrom lib import scale\nfrom tables.words import WORDS\n"
            "TEXT = (pathlib.Path(__file__).parent / 'note.txt').read_text()\n"
            "BYTES = open('note.txt', 'rb').read()\n"
            "def preprocess(input):\n    return scale.twice(input), WORDS, TEXT, BYTES\n",
            "lib/__init__.py": "",
            "lib/scale.py": "def twice(value):\n    return 2 * value\n",
            "tables/words.py": "WORDS = ['a']\n",
            "note.txt": "é",
        }
        self.assertEqual(self.called(files, 4), (8, ["a"], "é", "é".encode()))

    def test_faults_name_the_authors_file_and_line(self):
        for text, expected, line in [
            ("import no_such_module\n", "No module named 'no_such_module'", 1),
            ("x = 1\ndef preprocess(input):\n    return 1 / 0\n", "division by zero", 3),
            ("def process(input): pass\n", "did you mean preprocess?", None),
            ("open('/etc/passwd')\n", "only the files of its project", 1),
            ("open('handler.py', 'w')\n", "only the files of its project", 1),
            ("def preprocess(input):\n    open('handler.py')\n", "only the files of its project", 2),
            ("def preprocess(input):\n    import late\n", "No module named 'late'", 2),
        ]:
            try:
                found = self.called({"handler.py": text, "late.py": ""})
            except Exception as error:
                found, at = str(error), error.__traceback__
            lines, others = [], []
            while at is not None:
                file = at.tb_frame.f_code.co_filename
                if file == "/project/handler.py":
                    lines.append(at.tb_lineno)
                else:
                    others.append(at.tb_frame.f_code.co_name)
                at = at.tb_next
            self.assertIn(expected, found)
            self.assertEqual(lines, [line] if line else [], text)
            # The test, its method, and the module's one function.
            self.assertEqual(others[1:], ["called", "called"], text)
            self.tearDown()
            self.setUp()

    def test_a_check_loads_the_modules_and_calls_nothing(self):
        text = "def preprocess(input):\n    return 1 / 0\n"
        self.assertEqual(self.called({"": "", "handler.py": text}), [])
        with self.assertRaises(ModuleNotFoundError):
            self.called({"": "", "handler.py": "import no_such_module\n"})

    def test_text_that_is_no_python_is_named_with_its_line(self):
        with self.assertRaises(SyntaxError) as raised:
            self.called({"handler.py": "x = 1\ndef preprocess(:\n"})
        self.assertEqual((raised.exception.filename, raised.exception.lineno), ("/project/handler.py", 2))


if __name__ == "__main__":
    unittest.main()
