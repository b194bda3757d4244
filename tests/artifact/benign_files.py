"""What the makers of benign files share: a writer of files, and arrays with values that vary."""

import collections
import json

import numpy as np

SHAPES = [(), (0,), (1,), (3,), (2, 3), (0, 4), (2, 0, 3), (4, 5, 6), (1, 1, 1, 1), (257,)]
NUMPY_TYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
]


class Writer:
    """Writes files below a folder, and counts those of each format."""

    def __init__(self, folder):
        self.folder = folder
        self.counts = collections.Counter()

    def path(self, format, name):
        """The path of a new file of this format."""
        path = self.folder / format / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise ValueError(f"{path} is written twice")
        self.counts[format] += 1
        return path

    def text(self, format, name, text):
        """Writes a text."""
        self.path(format, name).write_text(text, encoding="utf-8")

    def json(self, format, name, value, **options):
        """Writes a JSON document."""
        self.text(format, name, json.dumps(value, **options))


def array(dtype, shape, rng=np.random.default_rng(7)):
    """An array of this type with values that vary."""
    values = rng.integers(0, 100, size=shape)
    return np.asarray(values).astype(dtype)
