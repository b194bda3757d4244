"""Builds the image of a handler in the runtime's `__main__`: imports the author's modules, and
makes `entry`, the function that a call runs.

The program that builds sets `_memory` and `_exchange` (see abi.py), `_world`, and whether the
component imports the interfaces, `_fetch` and `_lookup`. The project is at `/project`, read-only.
"""

import ast
import contextlib
import gc
import importlib
import os
import sys

PROJECT = "/project"

# The modules beside this one, and the package for authors. Faults in them are not the author's.
OWN = (f"{PROJECT}/build/", f"{PROJECT}/tensorgate/")

# Names whose use cannot work in a call, by the text of tensorgate_entry that says what to do.
LACKING = {
    "NO_THREADS": ("threading.Thread", "threading.Timer", "concurrent.futures"),
    "NO_SOCKETS": ("asyncio.run", "socket", "urllib.request", "subprocess", "multiprocessing"),
    "NO_LIBRARIES": ("ctypes",),
}

NO_PICKLE = (
    "a pickle can run any code, so a build loads none: export the parameters as .npz or .json,"
    " or use skops.io.dump and skops.io.load"
)

# The count that CPython 3.15 gives immortal objects where addresses have 32 bits, and the smallest
# that it takes for one. A count that is one off after its object was made immortal is still one.
IMMORTAL, IMMORTAL_MINIMUM = 5 << 28, 1 << 30

# What `except:` without a type catches.
ALL = ast.Name("BaseException")

# Exceptions that a failed import is, if code goes on without the module.
GUARDS = ("ImportError", "ModuleNotFoundError", "Exception", ALL.id)

# What a condition on the system or for type checkers is about, as in `sys.platform == "win32"`.
CONDITIONS = ("os", "platform", "sys", "typing", "typing.TYPE_CHECKING")

LATE = "; or put the import into `try: … except ImportError:`"


def _build():
    sys.path[:0] = [PROJECT, f"{PROJECT}/build/python"]
    os.chdir(PROJECT)
    import tensorgate_abi as abi

    abi.bind(_memory, int(_exchange))
    abi.has_fetch, abi.has_lookups = _fetch, _lookup
    import tensorgate_entry
    from tensorgate_world_check import WorldMismatch, check

    _complete_pillow()
    restore = _refuse_pickles()
    try:
        handler = importlib.import_module("handler")
        check(handler, _world)
        _look_through()
    except SystemExit as error:
        text = str(error) or "a module of the handler ended the interpreter while it was imported"
        raise WorldMismatch(text) from None
    finally:
        restore()
    tensorgate_entry.connect(_world, getattr(handler, _world))
    _make_immortal()
    return tensorgate_entry.entry


def _make_immortal():
    """Gives the image's objects the reference count of an immortal object, which CPython never
    changes. Otherwise a call writes to each object that it uses, and each page with one is copied.
    None of them is ever freed: the instance ends with its call.
    """
    gc.collect()
    containers = gc.get_objects()
    # The first word of an object is its count. Word 0 of this view is at address 4.
    counts = _memory[3:].cast("i")
    while containers:
        pending = [containers.pop()]
        while pending:
            each = pending.pop()
            at = (id(each) >> 2) - 1
            if 0 < counts[at] < IMMORTAL_MINIMUM:
                counts[at] = IMMORTAL
                # Tracked objects are among the containers.
                pending += [part for part in gc.get_referents(each) if not gc.is_tracked(part)]
    # A collection in a call would visit each object of the image, and write to its memory.
    gc.freeze()


def _show(_kind, error, _traceback):
    """Writes an exception as the program reads it that runs the build: the frames of the project,
    and below its text.
    """
    lines, at = ["Traceback (most recent call last):"], error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        if _is_authors(code.co_filename):
            file = code.co_filename.removeprefix(f"{PROJECT}/")
            lines.append(f'  File "/0/{file}", line {at.tb_lineno}, in {code.co_name}')
        at = at.tb_next
    text = f"{type(error).__name__}: {error}".replace("\n", "\n    ")
    sys.__stdout__.flush()
    print(*lines, "", "Caused by:", f"    {text}", sep="\n", file=sys.stderr, flush=True)


def _is_authors(file):
    return file.startswith(f"{PROJECT}/") and not file.startswith(OWN)


def _refuse_pickles():
    """Makes the author's modules fail that load a pickle while they are imported, also through a
    package such as joblib. Returns a function that ends this.
    """
    import pickle

    before = pickle.load, pickle.loads, pickle._Unpickler.load
    active = [True]

    def guarded(load):
        def loading(*arguments, **named):
            frame = sys._getframe(1)
            # A package that loads its own data while it is imported is below the import's frames.
            while active and frame is not None and "importlib" not in frame.f_code.co_filename:
                if _is_authors(frame.f_code.co_filename):
                    raise pickle.UnpicklingError(NO_PICKLE)
                frame = frame.f_back
            return load(*arguments, **named)

        return loading

    def set_to(loads):
        pickle.load, pickle.loads, pickle._Unpickler.load = loads

    set_to(map(guarded, before))
    return lambda: (active.clear(), set_to(before))


def _look_through():
    """Imports what the author's functions import, so that a call need not, and warns of what cannot
    work. Raises ImportError with each import that fails.
    """
    failed, seen = [], set()
    while fresh := [module for name, module in sorted(sys.modules.items()) if name not in seen]:
        seen.update(list(sys.modules))
        for module in fresh:
            file = getattr(module, "__file__", None) or ""
            if _is_authors(file) and file.endswith(".py"):
                with open(file, "rb") as opened:
                    source = opened.read()
                _Look(file.removeprefix(f"{PROJECT}/"), module, failed).visit(ast.parse(source, file))
                if b"decode_image" in source:
                    sys.modules["tensorgate_abi"].need_decoder()
    _complete_pillow()
    if failed:
        error, place = failed[0]
        others = "".join(f"\n{place}: {error}" for error, place in failed[1:])
        text = f"{error} ({place}){LATE}{others}"
        raise (type(error) if isinstance(error, ImportError) else ImportError)(text)


def _complete_pillow():
    """Gives Pillow, if it is imported, its missing decoders, and the formats that it would import
    with the first picture.
    """
    if "PIL.Image" in sys.modules:
        importlib.import_module("tensorgate_pillow")
        sys.modules["PIL.Image"].init()


def _names(nodes):
    return {each.id for node in nodes for each in ast.walk(node) if isinstance(each, ast.Name)}


class _Look(ast.NodeVisitor):
    """Goes through a module of the author's."""

    def __init__(self, place, module, failed):
        self.place, self.module, self.failed = place, module, failed
        self.functions, self.guards = 0, 0
        self.names = {}

    def visit_FunctionDef(self, node):
        self.functions += 1
        self.generic_visit(node)
        self.functions -= 1

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_Try(self, node):
        self._guarded([handler.type or ALL for handler in node.handlers], node.body)
        for each in node.handlers + node.orelse + node.finalbody:
            self.visit(each)

    visit_TryStar = visit_Try

    def visit_With(self, node):
        contexts = [item.context_expr for item in node.items]
        for each in contexts:
            self.visit(each)
        self._guarded([each for each in contexts if "suppress(" in ast.unparse(each)], node.body)

    def _guarded(self, caught, body):
        guards = not _names(caught).isdisjoint(GUARDS)
        self.guards += guards
        for each in body:
            self.visit(each)
        self.guards -= guards

    def visit_If(self, node):
        holds, origins = None, {name: self.names.get(name) for name in _names([node.test])}
        if set(origins.values()) <= set(CONDITIONS):
            known = {name: sys.modules.get(origin) for name, origin in origins.items()}
            with contextlib.suppress(BaseException):
                holds = bool(eval(ast.unparse(node.test), known))
        self.visit(node.test)
        for each in node.body * (holds is not False) + node.orelse * (holds is not True):
            self.visit(each)

    def visit_Import(self, node):
        for alias in node.names:
            name = alias.name if alias.asname else alias.name.split(".")[0]
            self.names[alias.asname or name] = name
            self._import(node, alias.name, None)

    def visit_ImportFrom(self, node):
        name = "." * node.level + (node.module or "")
        for alias in node.names:
            self.names[alias.asname or alias.name] = f"{name}.{alias.name}"
            self._import(node, name, alias.name)

    def _import(self, node, name, member):
        if not self.functions:
            return
        try:
            module = importlib.import_module(name, self.module.__package__)
            if member not in (None, "*") and not hasattr(module, member):
                importlib.import_module(f"{module.__name__}.{member}")
        except Exception as error:
            place = f"{self.place}:{node.lineno}"
            # A package that was copied into the project may offer more than the author uses.
            if not self.guards and "/" in self.place:
                print(f"warning: {place}: {error}{LATE}", file=sys.stderr)
            elif not self.guards:
                self.failed.append((error, place))

    def visit_Call(self, node):
        first, *rest = ast.unparse(node.func).split(".")
        name = ".".join([self.names.get(first, ""), *rest])
        # numpy and scipy import some of their modules when they are first used.
        found = sys.modules.get(self.names.get(first))
        with contextlib.suppress(Exception):
            for part in rest:
                found = getattr(found, part)
        for cure, lacking in LACKING.items():
            if any(f"{name}.".startswith(f"{each}.") for each in lacking):
                self._warn(node, name, cure)
        types = [each.value for each in node.keywords if each.arg == "dtype"]
        types += node.args[:1] if rest[-1:] == ["astype"] else []
        if any(ast.unparse(each) in ("int", "'int'", "np.int_") for each in types):
            self._warn(node, ast.unparse(node), "SHORT_NUMBERS")
        self.generic_visit(node)

    def _warn(self, node, what, cure):
        cure = getattr(sys.modules["tensorgate_entry"], cure)
        print(f"warning: {self.place}:{node.lineno}: {what}{cure}", file=sys.stderr)


# An exception ends this script, and is shown in the form that the program reads.
sys.excepthook = _show
entry = _build()
sys.excepthook = sys.__excepthook__
