"""First elements that select a fault of the model; the tests use them too."""

RAISES, SHAPE, DATATYPE, NOT_A_NUMBER, MISNAMED, OVERSIZED = 900, 901, 902, 903, 904, 905
# Slow, and slower than the gate's timeout.
SLOW, TOO_SLOW = 910, 911
WAITS_S = {SLOW: 0.5, TOO_SLOW: 4}
