"""An audio handler: a WAV to a mel spectrogram in decibels, low frequencies at the bottom, from 0
to 255.9. The filter bank is librosa's (Slaney), computed when the component is built.
"""

import io
import wave

import numpy as np
from scipy.signal import get_window
from tensorgate import BadInput, Tensor

SAMPLE_RATE, N_FFT, HOP, N_MELS = 8000, 512, 160, 40


def hz_to_mel(frequencies):
    frequencies = np.asanyarray(frequencies, dtype=float)
    linear = frequencies / (200.0 / 3)
    log = 15.0 + np.log(np.maximum(frequencies, 1000.0) / 1000.0) / (np.log(6.4) / 27.0)
    return np.where(frequencies >= 1000.0, log, linear)


def mel_to_hz(mels):
    mels = np.asanyarray(mels, dtype=float)
    log = 1000.0 * np.exp(np.log(6.4) / 27.0 * (mels - 15.0))
    return np.where(mels >= 15.0, log, mels * (200.0 / 3))


def mel_filters():
    fft_freqs = np.fft.rfftfreq(N_FFT, 1.0 / SAMPLE_RATE)
    mel_f = mel_to_hz(np.linspace(hz_to_mel(20), hz_to_mel(SAMPLE_RATE / 2), N_MELS + 2))
    ramps = np.subtract.outer(mel_f, fft_freqs)
    fdiff = np.diff(mel_f)
    lower = -ramps[:-2] / fdiff[:-1, np.newaxis]
    upper = ramps[2:] / fdiff[1:, np.newaxis]
    weights = np.maximum(0, np.minimum(lower, upper))
    return (weights * (2.0 / (mel_f[2:] - mel_f[:-2]))[:, np.newaxis]).astype(np.float32)


MEL = mel_filters()
WINDOW = get_window("hann", N_FFT, fftbins=True)


def power_to_db(s, top_db=100.0):
    log_spec = 10.0 * np.log10(np.maximum(1e-10, s))
    log_spec -= 10.0 * np.log10(np.maximum(1e-10, np.max(s)))
    return np.maximum(log_spec, log_spec.max() - top_db)


def mel_spec(y):
    y = np.pad(y, N_FFT // 2, mode="constant")
    frames = np.lib.stride_tricks.sliding_window_view(y, N_FFT)[::HOP]
    spectrum = np.abs(np.fft.rfft(frames * WINDOW, axis=-1)) ** 2
    mel = power_to_db(np.einsum("mf,tf->mt", MEL, spectrum))[::-1, ...]
    mel -= mel.min()
    if mel.max():
        mel /= mel.max()
    return 255.9 - mel * 255.9


def preprocess(input):
    try:
        with wave.open(io.BytesIO(input[0].items()[0])) as wav:
            if wav.getframerate() != SAMPLE_RATE or wav.getsampwidth() != 2:
                raise BadInput(f"expected 16 bits at {SAMPLE_RATE} Hz")
            pcm = np.frombuffer(wav.readframes(wav.getnframes()), dtype="<i2")
            y = pcm.reshape(-1, wav.getnchannels()).mean(axis=1) / 32768.0
    except (wave.Error, EOFError) as error:
        raise BadInput(f"not a WAV: {error}") from error
    return [Tensor.of("spectrogram", mel_spec(y).astype(np.float32)[np.newaxis])]
