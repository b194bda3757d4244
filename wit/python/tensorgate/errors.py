"""The two ways in which a handler fails."""


class BadInput(Exception):
    """The input is bad: the caller gets 400. The text goes to the log."""


class Fault(Exception):
    """The handler failed: the caller gets 500. The text goes to the log. Any other exception is one too, with its traceback."""
