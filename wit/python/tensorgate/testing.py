"""Stands in for the host where there is none, so that a handler can be tested by any test runner."""

from __future__ import annotations

from . import host


def set_config(**entries: str) -> None:
    """Sets what `config` answers, in place of what it answered before."""
    host._set.clear()
    host._set.update(entries)
