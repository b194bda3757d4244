"""What the host brings from elsewhere, if the policy grants it: files (`fetch:`) and features (`lookups:`).

A handler has no network and never waits. It says what it wants; where that is not at hand yet the call ends there, the host brings it, and a fresh instance
runs the call again from its beginning. A handler cannot tell, but its fuel and time are those of all runs together: ask for all files in one call, as early as
it can be said which, before anything that costs.

`tensorgate handler build` gives a component these interfaces if its handler.yaml has a `fetch:` or `lookups:`, and a host loads such a component only where its
policy has one, too. Where there is no host, in a unit test, there is what `testing.set_file` and `testing.set_feature` say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Optional, Sequence, Union

try:
    from wit_world.imports import config as _host  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    _host = None
try:
    from wit_world.imports import fetch as _fetch  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    _fetch = None
try:
    from wit_world.imports import lookup as _lookup  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    _lookup = None
try:
    from componentize_py_types import Err as _Err  # type: ignore[import-not-found,unused-ignore]
except ImportError:

    class _Err(Exception):  # type: ignore[no-redef]
        value: Any


Why = Literal["refused", "unavailable", "timeout", "too-large", "wrong-type", "not-found"]
"""Why something was not brought: the policy does not let it be asked for or reached; nobody answers there, or not as who they should be; it took too long; it is
larger than it may be; it is of no type that the policy lists; the server has nothing, or nothing for us."""


class Missing(Exception):
    """Something was not brought, and `why`. One that a handler lets pass is a fault: whose fault it is, is for the handler to say."""

    why: Why

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class File:
    """A fetched file: its media type, one that the policy lists, and its bytes, at most the policy's `max_bytes`. Nothing has looked at them."""

    content_type: str
    data: bytes


_files: dict[str, File] = {}
_features: dict[tuple[str, str, str], float] = {}


def fetch(urls: Sequence[str]) -> list[Union[File, Missing]]:
    """The files at these `https` URLs, one for each: a `File`, or a `Missing` that says why there is none.

    More than the policy's `max_requests` in all ends the call as a fault.
    """
    urls = _texts("URLs", urls)
    if _fetch is not None:
        return [_file(each) for each in _fetch.get(urls)]
    _granted("fetch")
    return [_files.get(url, Missing("not-found")) for url in urls]


def lookup(name: str, features: Sequence[str], keys: Sequence[str]) -> dict[str, list[Optional[float]]]:
    """Each feature's values from the policy's lookup of that name, in the keys' order: None where the service has none.

    Raises Missing where nothing came. A lookup that the policy does not name, and more than its `max_requests`, end the call as a fault.
    """
    features, keys = _texts("features", features), _texts("keys", keys)
    if _lookup is None:
        _granted("lookups")
        return {feature: [_features.get((name, feature, key)) for key in keys] for feature in features}
    try:
        columns = _lookup.get(name, features, keys)
    except _Err as error:
        failure = error.value
    else:
        return {column.feature: column.values for column in columns}
    raise _missing(failure)


def _file(brought: Any) -> Union[File, Missing]:
    if isinstance(brought, _Err):
        return _missing(brought.value)
    return File(brought.value.content_type, brought.value.data)


def _missing(failure: Any) -> Missing:
    return Missing(failure.name.lower().replace("_", "-"))


def _texts(what: str, given: Sequence[str]) -> list[str]:
    if isinstance(given, str):
        raise TypeError(f"{what} are a list, not one text")
    return list(given)


def _granted(field: str) -> None:
    """In a component without the interface there is nobody to ask."""
    if _host is not None:
        raise RuntimeError(f"this component was built without a `{field}:` in its handler.yaml")
