"""A second of sound as a mel spectrogram in decibels: what `librosa.feature.melspectrogram` and
`librosa.power_to_db` compute with their defaults, without librosa.
"""

import numpy as np

RATE, WIDTH, HOP, MELS = 16_000, 2_048, 512, 128


def slaney(frequencies):
    """Frequencies in Hz on the mel scale of Slaney, linear below 1 kHz."""
    linear, steps = frequencies * 3 / 200, np.log(6.4) / 27
    return np.where(frequencies < 1_000, linear, 15 + np.log(np.maximum(frequencies, 1) / 1_000) / steps)


def filters():
    """Triangles on the mel scale, each with the area of one."""
    tops = np.linspace(slaney(np.float64(0)), slaney(np.float64(RATE / 2)), MELS + 2)
    edges = np.where(tops < 15, tops * 200 / 3, 1_000 * np.exp((tops - 15) * np.log(6.4) / 27))
    ramps = edges[:, np.newaxis] - np.fft.rfftfreq(WIDTH, 1 / RATE)
    widths = np.diff(edges)[:, np.newaxis]
    rising, falling = -ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]
    areas = 2 / (edges[2:] - edges[:-2])
    return (np.maximum(0, np.minimum(rising, falling)) * areas[:, np.newaxis]).astype(np.float32)


FILTERS = filters()
# Of one period, as for a Fourier transform. As in librosa, it and so the transform are of 64 bits.
WINDOW = np.hanning(WIDTH + 1)[:-1, np.newaxis]


def run(samples):
    padded = np.pad(samples, WIDTH // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WIDTH)[::HOP].T
    spectrum = np.fft.rfft(WINDOW * frames, axis=-2).astype(np.complex64)
    mel = FILTERS @ np.abs(spectrum) ** 2
    decibels = 10 * np.log10(np.maximum(1e-10, mel))
    return np.maximum(decibels, decibels.max() - 80)


# The first uses of a library prepare it. Calls find that done.
run(np.zeros(RATE, np.float32))
