"""A case of `tensorgate handler test`, as data: the input, and the output that the reference
expects.
"""

import json
import math

DATATYPES = {"float32": "FP32", "int64": "INT64"}


class Case:
    """A case. `files` are stored beside it."""

    def __init__(self, name, given, expect, config=None, files=None):
        self.name, self.given, self.expect = name, given, expect
        self.config, self.files = config or {}, files or {}

    def document(self):
        document = {"config": self.config} if self.config else {}
        return document | {"input": self.given, "expect": self.expect}

    def write(self, folder):
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        (folder / f"{self.name}.json").write_text(text(self.document()))


def text(document):
    """The document with one line for each member of input and expect, so that diffs are small."""
    lines = []
    for key, value in document.items():
        if key == "config":
            lines.append(f'  "config": {json.dumps(value, ensure_ascii=False)}')
            continue
        inner = []
        for name, member in value.items():
            if name == "tensors":
                rows = ",\n".join(f"      {json.dumps(one, ensure_ascii=False)}" for one in member)
                inner.append(f'    "tensors": [\n{rows}\n    ]' if member else '    "tensors": []')
            else:
                inner.append(f'    "{name}": {json.dumps(member, ensure_ascii=False)}')
        lines.append(f'  "{key}": {{\n' + ",\n".join(inner) + "\n  }")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def number(value):
    """An FP32 as a short number: nine digits, which identify it."""
    value = float(f"{float(value):.9g}")
    return int(value) if value == int(value) and abs(value) < 1e9 else value


def tensor(name, array):
    """A numpy array in OIP's JSON format."""
    kind = DATATYPES[str(array.dtype)]
    numbers = array.reshape(-1).tolist()
    data = [int(one) for one in numbers] if kind == "INT64" else [number(one) for one in numbers]
    return {"name": name, "datatype": kind, "shape": list(array.shape), "data": data}


def texts(name, shape, items):
    return {"name": name, "datatype": "BYTES", "shape": list(shape), "data": list(items)}


def tensors(*given):
    return {"tensors": list(given)}


def raw(content_type, file):
    return {"raw": {"content_type": content_type, "file": file}}


def answer(tolerance, *expected):
    expect = {"tensors": list(expected)}
    return expect | {"tolerance": tolerance} if tolerance else expect


def refused(says="", why="bad-input"):
    expect = {"refused": why}
    return expect | {"says": says} if says else expect


def differences(one, other, tolerance, at="case"):
    """The paths at which two documents differ by more than a tolerance."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for key in one for found in differences(one[key], other[key], tolerance, f"{at}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other))
        return [found for index, (a, b) in pairs for found in differences(a, b, tolerance, f"{at}[{index}]")]
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (one, other))
    if numbers and math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance):
        return []
    return [] if one == other else [f"{at}: {str(one)[:80]} is not {str(other)[:80]}"]
