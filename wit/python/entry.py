"""Connects the world that the host calls with the functions of handler.py. Each build writes it
anew.
"""

import gc
import io
import sys
from importlib.machinery import PathFinder

import tensorgate

# Frames of a fault's traceback that are logged: the innermost.
MAX_FRAMES = 8

# The file that calls the author's function in a development build. Its frames are not the author's.
LOADER = "tensorgate_development.py"

# What the log says after an exception of each kind, if the handler's environment is its cause.
LATE_IMPORT = (
    "; a handler can import only what was imported while it was built:"
    " move the import to the top of the file, so that the build checks it"
)
NO_FILES = "; a handler has no files: put the data into a module, or into the policy's `config:`"
NO_THREADS = "; a handler has no threads: call the function itself"
NO_SOCKETS = (
    "a handler has no sockets, which asyncio needs too:"
    " use `fetch` or `lookup` of tensorgate, if the policy grants them"
)

# Functions of `socket` that would open a socket or ask a name server.
SOCKET_FUNCTIONS = (
    "create_connection",
    "create_server",
    "fromfd",
    "getaddrinfo",
    "gethostbyaddr",
    "gethostbyname",
    "gethostbyname_ex",
    "getnameinfo",
    "socketpair",
)

# Whether a call runs. Until then, the component is being built.
_running = False


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
        if not _running:
            return self.stream.write(text)
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            getattr(tensorgate.log, self.level)(line)
        return len(text)

    def flush(self):
        self.stream.flush()

    def end(self):
        """Writes the last line, if it does not end with a line break."""
        if self.rest:
            self.write("\n")


# Before the handler's modules are imported: what they configure keeps these streams.
_streams = [_Lines("info", sys.stdout), _Lines("warn", sys.stderr)]
sys.stdout, sys.stderr = _streams

import handler
from componentize_py_types import Err
from wit_world.imports import types

try:
    from wit_world.imports import errors
except ImportError:  # version 0.1 of the interface
    errors = types

# The `tensorgate` folder of an older project has no kit.
_kit = getattr(tensorgate, "kit", None)


def prepare(modules):
    """Adapts the modules that the handler has imported to the environment of a call."""
    if "logging" in modules:
        _log_records(modules["logging"])
    if "socket" in modules:
        _refuse_sockets(modules["socket"])


def _log_records(logging):
    """Makes records for standard output and error lines of the log at the level of the record."""
    emit = logging.StreamHandler.emit

    def emit_lines(self, record):
        if not (_running and isinstance(self.stream, _Lines)):
            return emit(self, record)
        levels = [(logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info")]
        level = next((name for least, name in levels if record.levelno >= least), "debug")
        try:
            for line in self.format(record).split("\n"):
                getattr(tensorgate.log, level)(line)
        except Exception:
            self.handleError(record)

    logging.StreamHandler.emit = emit_lines


def _refuse_sockets(socket):
    """Makes sockets fail with an exception. The host would end the call with a trap."""

    def refuse(*_args, **_kwargs):
        raise PermissionError(NO_SOCKETS)

    socket.socket.__init__ = refuse
    for name in SOCKET_FUNCTIONS:
        setattr(socket, name, refuse)


def _story(error):
    """An exception with its traceback. Without source lines, because a component has no sources."""
    frames, at = [], error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        file = code.co_filename.rpartition("/")[2]
        if file != LOADER:
            frames.append(f"{file}:{at.tb_lineno} in {code.co_name}")
        at = at.tb_next
    story = f"{type(error).__name__}: {error}"
    # A syntax error has its file and line in its text.
    if shown := frames[1:][-MAX_FRAMES:]:
        story += f" ({', '.join(shown)})"
    return story + _environment(error)


def _environment(error):
    """What a handler lacks, if that caused the exception."""
    if isinstance(error, ImportError):
        return LATE_IMPORT
    if isinstance(error, FileNotFoundError):
        return NO_FILES
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return NO_THREADS
    return ""


def _without_files():
    """Makes the import of a module that is not in the component fail at once. A call has no files
    to search.
    """
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not PathFinder]


def _rejection(error):
    """What a bad input says: the text for the log and, since version 0.2, the one for the caller."""
    if errors is types:
        return str(error)
    caller = getattr(error, "caller", None)
    return errors.Rejection(str(error), None if caller is None else str(caller))


# What a handler returns in place of a list of tensors, by the name of its type, and the cure.
WRONG_RETURNS = {
    "NoneType": "end it with `return` and a list of tensors, which may be empty: `return []`",
    "Tensor": "put it into a list, as in `return [tensor]`",
    "Array": 'name it and put it into a list, as in `return [Tensor.of("name", array)]`',
    "dict": "make a list of tensors of it, as in `return [Tensor.of(name, array) for name, array in result.items()]`",
    "coroutine": "write `def` in place of `async def`, because a handler never waits",
    "Raw": "return a list of tensors, because a model gets no raw body",
}

# What to do about any other type.
RETURN_TENSORS = 'return a list of tensors, as in `return [Tensor.of("name", array(values))]`'

# What a tensor has, whichever class it is of.
TENSOR_FIELDS = ("name", "datatype", "shape", "data")


def _tensors_of(world, returned):
    """The tensors that a handler returned. Raises Fault, which says what to return."""
    kind = type(returned).__name__
    if kind in WRONG_RETURNS or not hasattr(returned, "__iter__"):
        raise tensorgate.Fault(f"{world} returned {_named(returned)}: {WRONG_RETURNS.get(kind, RETURN_TENSORS)}")
    for index, item in enumerate(returned):
        if not all(hasattr(item, field) for field in TENSOR_FIELDS):
            raise tensorgate.Fault(
                f"{world} returned {_named(returned)} whose item {index} is {_named(item)}: {RETURN_TENSORS}"
            )
        yield item


def _named(value):
    """The type of a value in a sentence."""
    if value is None:
        return "None"
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "AEIOaeio" else f"a {kind}"


def _call(world, function, given):
    global _running
    _running = True
    _without_files()
    if _kit is not None:
        _kit.start()
    try:
        return [
            types.Tensor(each.name, types.Datatype[each.datatype], list(each.shape), bytes(each.data))
            for each in _tensors_of(world, function(given))
        ]
    except tensorgate.BadInput as error:
        failed = errors.Error_BadInput(_rejection(error))
    except tensorgate.Fault as error:
        failed = errors.Error_Fault(str(error))
    except MemoryError as error:
        # The host reports this itself, because it refused the memory. It does not know the line.
        tensorgate.log.error(_story(error))
        raise
    except BaseException as error:  # SystemExit, too: otherwise the log has only a trap
        failed = errors.Error_Fault(_story(error))
    finally:
        for stream in _streams:
            stream.end()
    raise Err(failed)


def _tensors(given):
    return [tensorgate.Tensor(each.name, each.datatype.name, tuple(each.shape), each.data) for each in given]


class WitWorld:
    def preprocess(self, input):
        if isinstance(input.value, types.RawBody):
            given = tensorgate.Raw(input.value.content_type, input.value.data)
        else:
            given = _tensors(input.value)
        return _call("preprocess", handler.preprocess, given)

    def postprocess(self, outputs):
        return _call("postprocess", handler.postprocess, _tensors(outputs))


# The adapted modules become part of the component.
prepare(sys.modules)

# So do all objects that exist now. A collection in a call would visit each of them, and write to
# most of the memory that an instance shares with the component until then.
gc.collect()
gc.freeze()
