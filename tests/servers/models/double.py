"""The model that every server here serves: twice its input, or the fault that its first element
selects.
"""

import numpy as np
from triggers import DATATYPE, MISNAMED, NOT_A_NUMBER, OVERSIZED, RAISES, SHAPE, WAITS_S

OVERSIZED_ROWS = 1 << 17


def wait_s(x):
    """How long an answer takes."""
    return WAITS_S.get(x.flat[0], 0)


def double(x):
    """The answer to FP32 rows of two: an array, with another datatype or shape if the fault asks
    for it.
    """
    first, y = x.flat[0], np.asarray(x, np.float32) * 2
    if first == RAISES:
        raise RuntimeError("secret: no room on the device, in /srv/models/double.py")
    if first == SHAPE:
        return np.append(y, y, axis=1)
    if first == DATATYPE:
        return y.astype(np.int64)
    if first == OVERSIZED:
        return np.ones((OVERSIZED_ROWS, 2), np.float32)
    if first == NOT_A_NUMBER:
        y.flat[0] = np.nan
    return y


def name(x):
    """The name of the answer."""
    return "z" if x.flat[0] == MISNAMED else "y"


def document(x):
    """The same as a document, for servers without datatypes: a wrong datatype becomes texts there.
    """
    y = double(x)
    return {name(x): y.astype(str).tolist() if y.dtype == np.int64 else y.tolist()}
