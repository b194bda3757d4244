"""What every handler can ask of its host: its configuration, and a line in the log. Where there is no host, in a unit test, the
configuration is what `testing.set_config` says, and lines go to standard error. `reach.py` has what a policy may grant beside."""

from __future__ import annotations

import sys
from typing import Optional

try:
    from wit_world.imports import config as _config  # type: ignore[import-not-found,unused-ignore]
    from wit_world.imports import log as _log
except ImportError:
    _config = None
    _log = None

_set: dict[str, str] = {}


def config(key: str) -> Optional[str]:
    """What the policy's `config:` of this handler says of a key, or None if it does not set it."""
    return _set.get(key) if _config is None else _config.get(key)


class log:
    """Lines for the operator's log, under the request's id. Past a bound they are dropped and counted, never an error."""

    @staticmethod
    def debug(message: str) -> None:
        """A line for the author."""
        _write("DEBUG", message)

    @staticmethod
    def info(message: str) -> None:
        """A line worth knowing."""
        _write("INFO", message)

    @staticmethod
    def warn(message: str) -> None:
        """A line worth a look."""
        _write("WARN", message)

    @staticmethod
    def error(message: str) -> None:
        """A line worth waking somebody."""
        _write("ERROR", message)


def _write(level: str, message: str) -> None:
    if _log is None:
        print(f"{level}: {message}", file=sys.stderr)
    else:
        _log.write(_log.Level[level], str(message))
