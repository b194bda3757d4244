"""Loads the author's modules in each call of a development component, from the files that the host
hands over.

Only the runtime and the modules of the standard library are in the component, so a change of the
author's files needs no build. `entry.py` calls the handler as in any other component.
"""

import builtins
import functools
import importlib
import importlib.machinery
import io
import posixpath
import sys
import types

import tensorgate
import tensorgate_world_check
from wit_world.imports import sources

# The folder of the project, in `__file__` and in tracebacks.
ROOT = "/project/"

# The name of the author's module.
HANDLER = "handler"


def unpacked(archive):
    """The files of an archive (`wit/development.wit`), by their paths."""
    files, at = {}, 0
    while at < len(archive):
        parts = []
        for _ in range(2):
            start = at + 4
            at = start + int.from_bytes(archive[at:start], "little")
            parts.append(bytes(archive[start:at]))
        files[parts[0].decode()] = parts[1]
    return files


class Files:
    """Finds, loads and opens the files of the project."""

    def __init__(self, files):
        self.files = files
        self.folders = {path[:at] for path in files for at, letter in enumerate(path) if letter == "/"}

    def find_spec(self, name, path=None, target=None):
        base = name.replace(".", "/")
        for file, is_package in ((f"{base}/__init__.py", True), (f"{base}.py", False)):
            if file in self.files:
                return self._spec(name, ROOT + file, is_package)
        if base in self.folders:
            return self._spec(name, None, True)
        return None

    def _spec(self, name, origin, is_package):
        spec = importlib.machinery.ModuleSpec(name, self, origin=origin, is_package=is_package)
        spec.has_location = origin is not None
        if is_package:
            spec.submodule_search_locations.append(ROOT + name.replace(".", "/"))
        return spec

    def close(self):
        """Forgets the files: each later import and each later `open` fails."""
        self.files, self.folders = {}, set()

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        origin = module.__spec__.origin
        # A folder without `__init__.py` has no code.
        if origin is not None:
            exec(compile(self.files[origin[len(ROOT) :]], origin, "exec"), module.__dict__)

    def open(self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *_, **__):
        """`open` for reading files of the project. There are no others."""
        path = posixpath.normpath(posixpath.join(ROOT, str(file)))
        content = self.files.get(path[len(ROOT) :]) if path.startswith(ROOT) else None
        if content is None or set(mode) & set("wax+"):
            raise FileNotFoundError(2, "a handler reads only the files of its project", str(file))
        if "b" in mode:
            return io.BytesIO(content)
        return io.TextIOWrapper(io.BytesIO(content), encoding or "utf-8", errors, newline)


def loaded(world):
    """The author's function for a world, after the modules of the project were imported. A file
    without a name asks for the imports alone, which show the faults that a build would.
    """
    files = Files(unpacked(sources.read()))
    is_check = files.files.pop("", None) is not None
    sys.meta_path.insert(0, files)
    builtins.open = io.open = files.open
    del sys.modules[HANDLER]
    handler = importlib.import_module(HANDLER)
    # As in an ordinary build, the files are there while the modules are imported, and not later.
    files.close()
    try:
        tensorgate_world_check.check(handler, world)
    except tensorgate_world_check.WorldMismatch as error:
        # Its text says all, so it needs no traceback.
        raise tensorgate.Fault(str(error)) from None
    return (lambda *_: []) if is_check else getattr(handler, world)


def authors_frames(traceback):
    """A traceback without the frames of this module and of Python's import."""
    frames = []
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename.startswith(ROOT):
            frames.append(traceback)
        traceback = traceback.tb_next
    following = None
    for frame in reversed(frames):
        following = types.TracebackType(following, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return following


def called(world, *arguments):
    """Calls the author's function."""
    try:
        return loaded(world)(*arguments)
    except BaseException as error:
        raise error.with_traceback(authors_frames(error.__traceback__))


def prepare(modules, world):
    """Imports modules of the standard library while the component is built, and puts a module in
    the place of `handler.py` that loads that file in a call.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception:
            # The author's own import of it fails in the call, with its name.
            continue
    stand_in = types.ModuleType(HANDLER)
    setattr(stand_in, world, functools.partial(called, world))
    sys.modules[HANDLER] = stand_in
