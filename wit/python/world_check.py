"""Checks, while a component is built, that the handler defines the function of its world.

Without this check a misspelt name is found by the first request, which gets 500.
"""

# Names in a message: the first of the module's functions.
MAX_NAMES = 8

# The flag of a code object that takes `*args`.
VARIADIC = 0x04

# The parameter of each world's function, as in wit/handler.wit.
PARAMETERS = {"preprocess": "input", "postprocess": "outputs"}


class WorldMismatch(Exception):
    """The handler does not fit its world. The build shows the text without a traceback."""


def check(handler, world):
    """Raises `WorldMismatch` unless the module defines a function that the host can call."""
    wanted = f"{world}({PARAMETERS[world]})"
    found = getattr(handler, world, None)
    if found is None:
        raise WorldMismatch(f"handler.py defines no function {wanted}\n{_others(handler, world)}")
    if not callable(found):
        raise WorldMismatch(f"handler.py defines {world} as {type(found).__name__}, not as a function")
    # Parameters are only certain for a function that is written in Python.
    if type(found) is type(check) and not _takes_one(found):
        code = found.__code__
        count = code.co_argcount + code.co_kwonlyargcount
        parameters = ", ".join(code.co_varnames[:count])
        raise WorldMismatch(
            f"handler.py defines {world}({parameters}), but the host calls {wanted} with one argument"
        )


def _takes_one(function):
    """Whether a function can be called with exactly one positional argument."""
    code = function.__code__
    required = code.co_argcount - len(function.__defaults__ or ())
    named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    missing = [name for name in named if name not in (function.__kwdefaults__ or {})]
    has_room = code.co_argcount >= 1 or code.co_flags & VARIADIC
    return bool(has_room) and required <= 1 and not missing


def _others(handler, world):
    """The functions that the module itself defines, and the one that was probably meant."""
    # Only needed when the build fails: in the component it would take memory.
    from difflib import get_close_matches

    names = [
        name
        for name, value in vars(handler).items()
        if type(value) is type(check) and value.__module__ == handler.__name__
    ]
    if not names:
        of_class = [name for name, value in vars(handler).items() if hasattr(value, world)]
        return f"found: {of_class[0]} with {world}: move it out of the class" if of_class else "found: no function"
    listed = ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")
    other = next((each for each in PARAMETERS if each != world and each in names), None)
    if other is not None:
        return f"found: {listed}; handler.yaml has `world: {world}`, did you mean `world: {other}`?"
    if get_close_matches(world, names, 1):
        return f"found: {listed}; did you mean {world}?"
    return f"found: {listed}"
