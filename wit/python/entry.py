"""Connects the call of the host with the author's function, in CPython as a core module."""

import io
import os
import sys

import numpy
import tensorgate
import tensorgate_abi as abi

# The folder of the project while the handler is built. Its files are the author's.
PROJECT = "/project/"

# Frames of a fault's traceback that are logged: the innermost.
MAX_FRAMES = 8

# Exceptions that a fault's text has, with causes and the parts of groups.
MAX_ERRORS = 4

# Calls of a function that does nothing, at the end of a build.
WARM_CALLS = 20
PROBE = numpy.zeros((1, 1), numpy.float32)

# What the log says after an exception of each kind, if the handler's environment is its cause.
LATE_IMPORT = "; import modules of the project at the top of a file"
NO_FILES = "; a handler has no files during a call: read the file at the top of a module"
NO_THREADS = "; a handler has no threads: call the function itself"
SHORT_NUMBERS = "; whole numbers of numpy have 32 bits here: give the type np.int64"
NO_SOCKETS = (
    "; a handler has no sockets, which asyncio needs too, no processes, and nothing to wait for:"
    " use `fetch` or `lookup` of tensorgate, if the policy grants them"
)
NO_LIBRARIES = "; a handler has no compiled libraries: use numpy"


class _Lines(io.TextIOBase):
    """Standard output or error: lines of the log while a call runs, in order with `log`."""

    def __init__(self, level, stream):
        self.level = level
        self.stream = stream
        self.rest = ""

    @property
    def buffer(self):
        return self.stream.buffer

    def writable(self):
        return True

    def write(self, text):
        if not abi.running:
            return self.stream.write(text)
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            getattr(tensorgate.log, self.level)(line)
        return len(text)

    def end(self):
        """Writes the last line, which does not end with a line break."""
        self.write("\n")


# Before the handler's modules are imported: what they configure keeps these streams.
_streams = [_Lines("info", sys.stdout), _Lines("warn", sys.stderr)]
sys.stdout, sys.stderr = _streams


def _log_records(logging):
    """Makes records for standard output and error lines of the log at the level of the record."""
    emit = logging.StreamHandler.emit

    def emit_lines(self, record):
        if not (abi.running and isinstance(self.stream, _Lines)):
            return emit(self, record)
        level = ("debug", "debug", "info", "warn", "error")[min(record.levelno // 10, 4)]
        try:
            for line in self.format(record).split("\n"):
                getattr(tensorgate.log, level)(line)
        except Exception:
            self.handleError(record)

    logging.StreamHandler.emit = emit_lines


def connect(world, function):
    """Makes the function of a world the one that `entry` calls, after all imports. Adapts what the
    handler has imported to a call.
    """
    global _world, _function
    # From now on all is found in the archive of the library: a call has no other files.
    sys.path[:] = [path for path in sys.path if path.endswith(".zip")]
    if "logging" in sys.modules:
        _log_records(sys.modules["logging"])
    # Their state is part of the image, so without a new one each call has the same numbers.
    if "random" in sys.modules:
        random = sys.modules["random"]
        _seeds.append(lambda: random.seed(os.urandom(16)))
    if "numpy.random" in sys.modules:
        generator = sys.modules["numpy.random"]
        _seeds.append(lambda: generator.seed(list(os.urandom(16))))
    # With the first product OpenBLAS takes 16 MiB for its work, and clears them.
    numpy.ones((2, 2), numpy.float32) @ numpy.ones((2, 2), numpy.float32)
    # CPython specialises code that runs often, and writes to its pages. Calls find that done.
    _world, _function = world, lambda given: [tensorgate.Tensor.of("x", given[0].array() if given else PROBE)]
    for _ in range(WARM_CALLS):
        entry()
        abi.pass_back(world)
    if abi.array_address(PROBE) != PROBE.__array_interface__["data"][0]:
        raise SystemError("arrays do not lie in memory as expected")
    abi.reset()
    _function = function
    for stream in _streams:
        stream.stream.flush()


_seeds = []


def entry():
    """Serves one call. Raises nothing, as long as there is memory for the text of a fault."""
    abi.running = True
    try:
        for seed in _seeds:
            seed()
        returned = _function(_given(*abi.parameters()))
        abi.return_tensors([_lowered(each) for each in _tensors_of(returned)])
    except tensorgate.BadInput as error:
        caller = getattr(error, "caller", None)
        abi.return_rejection(_text(error), None if caller is None else _text(caller))
    except BaseException as error:  # SystemExit, too: otherwise the log has only a trap
        abi.return_fault(_story(error))
    finally:
        for stream in _streams:
            if stream.rest:
                stream.end()


def _given(*words):
    """The argument of the author's function."""
    is_body, *place = words if _world == "preprocess" else (0, *words)
    if is_body:
        return tensorgate.Raw(abi.text(*place[:2]), bytes(abi.view(*place[2:])))
    return [tensorgate.Tensor(*fields) for fields in abi.given_tensors(*place[:2])]


def _lowered(tensor):
    """The fields of a returned tensor, with the place of its elements in memory."""
    elements = tensor.elements()
    abi._kept.append(elements)
    if isinstance(elements, bytes):
        place = abi.address(elements), len(elements)
    else:
        place = abi.array_address(elements), elements.nbytes
    if tensor.datatype not in abi.DATATYPES:
        raise tensorgate.Fault(f"tensor {tensor.name!r}: there is no datatype {tensor.datatype!r}")
    return tensor.name, tensor.datatype, tensor.shape, place


# What a handler returns in place of a list of tensors, by the name of its type, and the cure.
WRONG_RETURNS = {
    "NoneType": "end it with `return` and a list of tensors, which may be empty: `return []`",
    "Tensor": "put it into a list, as in `return [tensor]`",
    "ndarray": 'name it and put it into a list, as in `return [Tensor.of("name", array)]`',
    "coroutine": "write `def` in place of `async def`, because a handler never waits",
    "Raw": "return tensors, because a model gets no raw body",
}

# What to do about any other type.
RETURN_TENSORS = 'return a list of tensors, as in `return [Tensor.of("name", array)]`'


def _tensors_of(returned):
    """The tensors that a handler returned. Raises Fault, which says what to return."""
    kind = type(returned).__name__
    if isinstance(returned, dict):
        returned = [
            value if isinstance(value, tensorgate.Tensor) else tensorgate.Tensor.of(str(name), value)
            for name, value in returned.items()
        ]
    elif kind in WRONG_RETURNS or not hasattr(returned, "__iter__"):
        raise tensorgate.Fault(f"{_world} returned {_named(returned)}: {WRONG_RETURNS.get(kind, RETURN_TENSORS)}")
    tensors = list(returned)
    for index, item in enumerate(tensors):
        if not isinstance(item, tensorgate.Tensor):
            raise tensorgate.Fault(
                f"{_world} returned {_named(returned)} whose item {index} is {_named(item)}: {RETURN_TENSORS}"
            )
    return tensors


def _named(value):
    """The type of a value in a sentence."""
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "AEIOaeio" else f"a {kind}"


def _text(error):
    """The text of an exception, whose class may be the author's."""
    try:
        return str(error)
    except Exception as other:
        return f"({type(other).__name__} while its text was made)"


def _story(error):
    """An exception with its traceback, its causes and the parts of a group. Without source lines,
    because a component has no sources.
    """
    told, seen = [], set()
    rest = [("", error)]
    while rest and len(told) < MAX_ERRORS:
        relation, error = rest.pop(0)
        if id(error) in seen:
            continue
        seen.add(id(error))
        told.append(relation + _part(error))
        cause = error.__cause__
        if cause is None and not error.__suppress_context__:
            cause = error.__context__
        # The cause of an exception is told before the next part of its group.
        if cause is not None:
            rest.insert(0, ("caused by " if error.__cause__ else "while handling ", cause))
        if isinstance(error, BaseExceptionGroup):
            rest[:0] = [("with ", part) for part in error.exceptions]
    return "; ".join(told) + ("; …" if rest else "")


def _part(error):
    if isinstance(error, tensorgate.Fault):
        return _text(error)
    frames, at = [], error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        if code is not entry.__code__:
            frame = f"{code.co_filename.rpartition('/')[2]}:{at.tb_lineno} in {code.co_name}"
            frames.append((code.co_filename.startswith(PROJECT), frame))
        at = at.tb_next
    shown = frames[-MAX_FRAMES:]
    # Below a deep stack of a package, the author's line says more than the package's own.
    if not any(is_authors for is_authors, _ in shown):
        shown[:1] = [each for each in frames if each[0]][-1:] or shown[:1]
    # A syntax error has its file and line in its text.
    place = f" ({', '.join(frame for _, frame in shown)})" if shown else ""
    text = ": ".join(filter(None, (type(error).__name__, _text(error))))
    return f"{text}{place}{_environment(error)}"


def _environment(error):
    """What a handler lacks, if that caused the exception."""
    if isinstance(error, ModuleNotFoundError):
        return LATE_IMPORT
    if isinstance(error, FileNotFoundError):
        return NO_FILES
    text = _text(error)
    if "can't start new thread" in text:
        return NO_THREADS
    if "too large to convert to C long" in text:
        return SHORT_NUMBERS
    # The number is "not supported" in WASI.
    return NO_SOCKETS if "[Errno 58]" in text or "module '_socket'" in text else ""
