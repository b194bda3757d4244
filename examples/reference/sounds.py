"""audio-features: SciPy reads and transforms the file. The filters are librosa's default (Slaney's
scale and norm).
"""

import io
import struct

import numpy as np
import scipy.fft
import scipy.io.wavfile
import scipy.signal
from case import Case, answer, raw, refused, tensor

HANDLER = "audio-features"
RATE = 16000
# For logarithms between -23 and 10, of which FP32 has six digits.
CLOSE = 1e-5


def mel(hz):
    hz = np.asarray(hz, float)
    return np.where(hz < 1000, 3 * hz / 200, 15 + 27 * np.log(np.maximum(hz, 1e-9) / 1000) / np.log(6.4))


def hertz(mels):
    mels = np.asarray(mels, float)
    return np.where(mels < 15, 200 * mels / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))


def filters(rate, n_fft, n_mels, low, high):
    edges = hertz(np.linspace(mel(low), mel(high), n_mels + 2))
    bins = scipy.fft.rfftfreq(n_fft, 1 / rate)
    slopes = edges[:, None] - bins[None]
    widths = np.diff(edges)
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]


def reference(data, config):
    rate, samples = scipy.io.wavfile.read(io.BytesIO(data))
    samples = samples / 32768.0 if samples.dtype == np.int16 else samples.astype(float)
    samples = samples.mean(axis=1) if samples.ndim == 2 else samples
    setting = lambda key, otherwise: int(config.get(key, otherwise))
    n_fft, win, hop = setting("n_fft", 512), setting("win_length", 400), setting("hop_length", 160)
    window = np.zeros(n_fft)
    window[(n_fft - win) // 2 :][:win] = scipy.signal.get_window("hann", win, fftbins=True)
    padded = np.pad(samples, n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    power = np.abs(scipy.fft.rfft(frames * window)) ** 2
    bank = filters(rate, n_fft, setting("n_mels", 64), float(config.get("f_min", 0)), float(config.get("f_max", rate / 2)))
    return np.log(np.maximum(bank @ power.T, 1e-10)).astype(np.float32)[None]


def wav(samples, rate=RATE):
    out = io.BytesIO()
    scipy.io.wavfile.write(out, rate, samples)
    return out.getvalue()


def sound(rng, count):
    at = np.arange(count) / RATE
    tones = sum(rng.uniform(0.05, 0.3) * np.sin(2 * np.pi * rng.uniform(60, 7000) * at + rng.uniform(0, 6)) for _ in range(3))
    return np.clip(tones + rng.normal(0, 0.01, count), -1, 1)


def whole(samples):
    return np.round(samples * 32767).astype(np.int16)


def case(name, data, config):
    file = f"{name}.wav"
    return Case(name, raw("audio/wav", file), answer(CLOSE, tensor("features", reference(data, config))), config, {file: data})


def committed(rng):
    few = {"n_mels": "20"}
    yield case("mono", wav(whole(sound(rng, 2000))), few)
    yield case("stereo", wav(np.stack([whole(sound(rng, 1500)), whole(sound(rng, 1500))], 1)), few)
    yield case("floats", wav(sound(rng, 1300).astype(np.float32)), few | {"n_fft": "256", "win_length": "256", "hop_length": "128"})
    yield case("one-sample", wav(np.array([12345], np.int16)), few)
    yield case("silence", wav(np.zeros(800, np.int16)), few)
    yield case("a-band", wav(whole(sound(rng, 1600))), few | {"f_min": "300", "f_max": "3400"})
    good = wav(whole(sound(rng, 400)))
    put = lambda at, text: good[:at] + text + good[at + len(text) :]
    for name, data, says in [
        ("no-wav", b"OggS" + bytes(60), "not a WAV"),
        ("cut", good[:-10], "another length"),
        ("more-than-it-says", good + bytes(10), "another length"),
        ("data-without-end", put(40, b"\xff\xff\xff\x7f"), "cut off"),
        ("no-channels", put(22, b"\0\0"), "agree"),
        ("rate-that-lies", put(24, struct.pack("<I", 8000)), "agree"),
        ("another-rate", wav(whole(sound(rng, 400)), 8000), "not 16000"),
        ("8-bits", wav(np.zeros(100, np.uint8)), "8 bits"),
        ("doubles", wav(np.zeros(100)), "64 bits"),
        ("not-a-number", wav(np.array([0, np.nan], np.float32)), "no sound"),
        ("too-loud", wav(np.array([0, 3e38], np.float32)), "no sound"),
        ("too-long", wav(np.zeros(RATE + 1, np.int16)), "are allowed"),
    ]:
        config = {"max_seconds": "1"} if name == "too-long" else {}
        yield Case(name, raw("audio/wav", f"{name}.bin"), refused(says), config, {f"{name}.bin": data})


def fresh(rng):
    yield case("longest", wav(whole(sound(rng, 10 * RATE))), {})
    for at in range(6):
        config = {"n_mels": str(int(rng.integers(8, 100))), "hop_length": str(int(rng.integers(80, 300)))}
        yield case(f"sound-{at}", wav(whole(sound(rng, int(rng.integers(1, 20000))))), config)
