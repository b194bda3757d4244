"""Connects the world that the host calls with the functions of handler.py. Each build writes it
anew.
"""

import io
import sys
from importlib.machinery import PathFinder

import handler
import tensorgate
from componentize_py_types import Err
from wit_world.imports import types

try:
    from wit_world.imports import errors
except ImportError:  # version 0.1 of the interface
    errors = types

# The `tensorgate` folder of an older project has no kit.
_kit = getattr(tensorgate, "kit", None)

# Frames of a fault's traceback that are logged: the innermost.
MAX_FRAMES = 8

# What the log says after an import that failed in a call.
LATE_IMPORT = (
    "; a handler can import only what was imported while it was built:"
    " move the import to the top of the file, so that the build checks it"
)


class _Lines(io.TextIOBase):
    """Writes printed lines to the log, because there is no standard output."""

    def __init__(self):
        self.rest = ""

    def writable(self):
        return True

    def write(self, text):
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            tensorgate.log.debug(line)
        return len(text)


def _story(error):
    """An exception with its traceback. Without source lines, because a component has no sources."""
    frames, at = [], error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        frames.append(f"{code.co_filename.rpartition('/')[2]}:{at.tb_lineno} in {code.co_name}")
        at = at.tb_next
    return f"{type(error).__name__}: {error} ({', '.join(frames[1:][-MAX_FRAMES:])})"


def _without_files():
    """Makes the import of a module that is not in the component fail with an exception. The search
    for its file would end the call with a trap, because a call has no files.
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
    sys.stdout = sys.stderr = _Lines()
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
    except MemoryError:
        # The host reports this itself, because it refused the memory.
        raise
    except ImportError as error:
        failed = errors.Error_Fault(_story(error) + LATE_IMPORT)
    except BaseException as error:  # SystemExit, too: otherwise the log has only a trap
        failed = errors.Error_Fault(_story(error))
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
