"""The two kinds of failure of a handler."""


class BadInput(Exception):
    """The input is bad: the caller gets 400. The text goes to the log."""


class Fault(Exception):
    """The handler failed: the caller gets 500. The text goes to the log. Any other exception is a
    fault too, and is logged with its traceback.
    """
