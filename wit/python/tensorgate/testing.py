"""Stands in for the host where there is none, so that a handler can be tested by any test runner."""

from __future__ import annotations

from . import host, reach


def set_config(**entries: str) -> None:
    """Sets what `config` answers, in place of what it answered before."""
    host._set.clear()
    host._set.update(entries)


def set_file(url: str, content_type: str, data: bytes) -> None:
    """Puts a file where `fetch` finds it. Any other is a `Missing` that says "not-found"."""
    reach._files[url] = reach.File(content_type, bytes(data))


def set_feature(lookup: str, feature: str, key: str, value: float) -> None:
    """Gives a key's feature a value, which `lookup` finds. Any other has none."""
    reach._features[lookup, feature, key] = float(value)
