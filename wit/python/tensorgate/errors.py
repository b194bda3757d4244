"""The two kinds of failure of a handler."""

from __future__ import annotations

from typing import Optional


class BadInput(Exception):
    """The input is bad: the caller gets 400. The text goes to the log.

    `caller` is a text for the caller. It is passed on if the policy has `errors: public` for the
    handler: at most 256 characters, without control characters.
    """

    caller: Optional[str]

    def __init__(self, *log: object, caller: Optional[str] = None) -> None:
        super().__init__(*log)
        self.caller = caller


class Fault(Exception):
    """The handler failed: the caller gets 500. The text goes to the log. Any other exception is a
    fault too, and is logged with its traceback.
    """
