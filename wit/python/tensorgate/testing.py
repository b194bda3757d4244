"""A replacement for the host, so that any test runner can test a handler."""

from __future__ import annotations

from . import host, reach
from . import request as _request


def set_config(**entries: str) -> None:
    """Sets what `config` returns, in place of all earlier entries."""
    host._set.clear()
    host._set.update(entries)


def set_file(url: str, content_type: str, data: bytes) -> None:
    """Sets a file that `fetch` finds. All others are a `Missing` with "not-found"."""
    reach._files[url] = reach.File(content_type, bytes(data))


def set_feature(lookup: str, feature: str, key: str, value: float) -> None:
    """Sets the value of a feature for a key, which `lookup` finds. All others have none."""
    reach._features[lookup, feature, key] = float(value)


def set_context(request: _request.Request) -> None:
    """Sets what `context` returns."""
    _request._set = request


def set_carry(data: bytes) -> None:
    """Sets what `carry.get` returns."""
    _request._carried = bytes(data)
