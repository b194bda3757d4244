"""Runs a task of bench/handlers/python in this machine's Python.

tasks.py TASK RUNS OUTPUT INPUT…: TASK is a file of that folder, or `librosa` for what mel.py
computes by librosa's own functions. An input is DATATYPE:SHAPE:FILE. Prints the microseconds of
each run, and writes the bytes of the last result to OUTPUT.
"""

import importlib
import pathlib
import sys
import time

import numpy as np

TYPES = {"UINT8": np.uint8, "FP32": np.float32, "FP64": np.float64}


def by_librosa():
    import librosa

    def run(samples):
        return librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=16_000))

    return run


def read(text):
    datatype, shape, file = text.split(":", 2)
    data = pathlib.Path(file).read_bytes()
    if datatype != "BYTES":
        return np.frombuffer(data, TYPES[datatype]).reshape([int(dim) for dim in shape.split(",")])
    items, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        items.append(data[at + 4 : end])
        at = end
    return items


def main(task, runs, output, *inputs):
    sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "handlers/python"))
    run = by_librosa() if task == "librosa" else importlib.import_module(task).run
    values = [read(each) for each in inputs]
    # Lazy imports and caches of the libraries are not what is compared.
    made = run(*values)
    for _ in range(int(runs)):
        began = time.perf_counter()
        made = run(*values)
        print((time.perf_counter() - began) * 1e6)
    pathlib.Path(output).write_bytes(np.ascontiguousarray(made).tobytes())


main(*sys.argv[1:])
