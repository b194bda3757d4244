"""The task of the normalise handler in this machine's Python: planes.py plain|numpy FILE RUNS

Prints the microseconds of each run, then the sum of the output.
"""

import sys
import time
from array import array

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def plain(photo, channels=3):
    image = array("f")
    for channel in range(channels):
        scale, offset = 1 / (255 * DEVIATION[channel]), MEAN[channel] / DEVIATION[channel]
        image.extend([byte * scale - offset for byte in photo[channel::channels]])
    return image.tobytes()


def by_numpy():
    import numpy as np

    mean, deviation = np.array(MEAN, dtype=np.float32), np.array(DEVIATION, dtype=np.float32)
    scale, offset = np.float32(1) / (np.float32(255) * deviation), mean / deviation

    def planes(photo):
        pixels = np.frombuffer(photo, dtype=np.uint8).reshape(1, -1, 3)
        image = (pixels * scale - offset).astype(np.float32, copy=False)
        return np.ascontiguousarray(image.transpose(0, 2, 1)).tobytes()

    return planes


how, file, runs = sys.argv[1:]
with open(file, "rb") as opened:
    photo = opened.read()
planes = plain if how == "plain" else by_numpy()
made = planes(photo)
for _ in range(int(runs)):
    began = time.perf_counter()
    made = planes(photo)
    print((time.perf_counter() - began) * 1e6)
print(sum(array("f", made)))
