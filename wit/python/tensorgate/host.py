"""The host's functions for every handler: its configuration, and the log.

In a unit test there is no host: `testing.set_config` sets the configuration, and lines go to
standard error. `reach.py` has the functions that a policy may grant.
"""

from __future__ import annotations

import sys
from typing import Optional

try:
    import tensorgate_abi as _abi  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    _abi = None

_set: dict[str, str] = {}


def config(key: str) -> Optional[str]:
    """The value of a key in the policy's `config:` of this handler, or None if it is not set."""
    return _set.get(key) if _abi is None else _abi.config_get(key)


class log:
    """The operator's log. Lines over the host's bound are dropped and counted, which is never an
    error.
    """

    @staticmethod
    def debug(message: str) -> None:
        """Writes details for the handler's author."""
        _write("DEBUG", message)

    @staticmethod
    def info(message: str) -> None:
        """Writes a line about normal operation."""
        _write("INFO", message)

    @staticmethod
    def warn(message: str) -> None:
        """Writes a line about something unexpected."""
        _write("WARN", message)

    @staticmethod
    def error(message: str) -> None:
        """Writes an error that an operator should act on."""
        _write("ERROR", message)


def _write(level: str, message: str) -> None:
    if _abi is None:
        print(f"{level}: {message}", file=sys.stderr)
    else:
        _abi.log_write(level, str(message))
