"""The tensor kit: array operations in Rust, inside the same component.

`tensorgate handler build` adds it, and `Array` uses it automatically. It is available while a
call runs. It is not available while modules are imported, which happens when the component is
built, nor in a unit test. There arrays are computed in plain Python, and operations that only
the kit has raise RuntimeError.
"""

from __future__ import annotations

from typing import Any, Callable

from .errors import BadInput

try:
    from componentize_py_types import Err as _Err  # type: ignore[import-not-found,unused-ignore]
    from wit_world.imports import arrays as _arrays  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    _arrays = None

    class _Err(Exception):  # type: ignore[no-redef]
        value: Any


LEAST = 256
"""The fewest elements for which the kit is faster than plain Python."""

_ready = False


def start() -> None:
    """Marks the start of a call."""
    global _ready
    _ready = _arrays is not None


def ready() -> bool:
    """Whether the kit can be called."""
    return _ready


def needed(what: str) -> None:
    """Raises RuntimeError if there is no kit."""
    if not _ready:
        raise RuntimeError(f"{what} needs the tensor kit, which is available while a call runs in a component, as in `tensorgate handler test`")


def datatype(name: str) -> Any:
    """The kit's name of an element type."""
    return _arrays.Datatype[name]


def case(of: str, name: str) -> Any:
    """A case of one of the kit's enums."""
    return getattr(_arrays, of)[name]


def span(start: int, count: int, step: int) -> Any:
    """A range of an axis."""
    return _arrays.Span(start, count, step)


def held(name: str, shape: Any, data: bytes) -> Any:
    """Copies an array to the kit."""
    return asked(_arrays.Array.from_bytes, _arrays.Datatype[name], list(shape), data)


def joined(arrays: Any, axis: int) -> Any:
    """Joins arrays in the kit along an axis."""
    return asked(_arrays.Array.concat, arrays, axis)


def image(data: bytes, channels: str, max_pixels: int) -> Any:
    """A decoded image."""
    return asked(_arrays.decode_image, data, _arrays.Channels[channels], max_pixels)


def wav(data: bytes, max_frames: int) -> Any:
    """A decoded sound."""
    return asked(_arrays.decode_wav, data, max_frames)


def asked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls the kit. A failure is raised as the exception that plain Python raises."""
    try:
        return function(*arguments)
    except _Err as error:
        failure = error.value
    raise _RAISED[failure.kind.name](failure.message)


_RAISED: dict[str, type[Exception]] = {
    "VALUE": ValueError,
    "DATATYPE": TypeError,
    "OVERFLOW": OverflowError,
    "DIVISION": ZeroDivisionError,
    "DATA": BadInput,
    "ROOM": ValueError,
}
