"""First elements that ask a model for a fault; the tests read them too."""

RAISES, SHAPE, DATATYPE, NOT_A_NUMBER, MISNAMED, OVERSIZED = 900, 901, 902, 903, 904, 905
# Slower than an instant, and slower than the gate waits.
SLOW, TOO_SLOW = 910, 911
WAITS_S = {SLOW: 0.5, TOO_SLOW: 4}
