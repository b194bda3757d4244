"""A sensor's samples to features of overlapping windows: a zero-phase low-pass filter, missing
values interpolated, statistics, power in bands and a linear trend.
"""

import numpy as np
from scipy import signal, stats
from scipy.interpolate import interp1d
from tensorgate import BadInput, Tensor

RATE, WINDOW, STEP = 50.0, 64, 32
B, A = signal.butter(4, 10.0, btype="low", fs=RATE)
BANDS = [(0.5, 3.0), (3.0, 8.0)]


def fill(x):
    there = np.isfinite(x)
    if there.sum() < 2:
        raise BadInput("fewer than two samples are numbers")
    at = np.arange(x.size)
    return interp1d(at[there], x[there], fill_value="extrapolate")(at)


def features(window):
    f, p = signal.welch(window, fs=RATE, nperseg=32)
    slope, _ = np.polyfit(np.arange(window.size) / RATE, window, 1)
    powers = [np.trapezoid(p[(f >= lo) & (f < hi)], f[(f >= lo) & (f < hi)]) for lo, hi in BANDS]
    quartiles = np.percentile(window, [25, 50, 75])
    return [window.mean(), window.std(ddof=1), stats.skew(window), *quartiles, slope, *powers]


def preprocess(input):
    x = input[0].array().astype(np.float64).reshape(-1)
    if x.size < WINDOW:
        raise BadInput(f"expected at least {WINDOW} samples")
    y = signal.filtfilt(B, A, fill(x))
    windows = np.lib.stride_tricks.sliding_window_view(y, WINDOW)[::STEP]
    result = np.array([features(w) for w in windows])
    return [Tensor.of("features", result.astype(np.float32))]
