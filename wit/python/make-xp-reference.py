"""Makes xp_reference.json: what numpy makes of calls of the Array API. numpy 2 has its names.

Run it with numpy installed. The file is committed, so the tests need no numpy.

    python3 make-xp-reference.py > xp_reference.json
"""

import json

import numpy as np

NAMES = {"float32": "FP32", "float64": "FP64", "bool": "BOOL"}
GIVEN = {
    "a": np.array([[1.5, -2.5, 0.0], [3.25, -0.75, 8.0]], np.float32),
    "b": np.array([[2.0, 0.5, 4.0]], np.float32),
    "i": np.array([[7, -3, 0], [2, 9, -8]], np.int32),
    "j": np.array([3, 2, 5], np.int32),
    "u": np.array([0, 3, 200], np.uint8),
    "m": np.array([[True, False, True], [False, False, True]]),
    "n": np.array([1.0, np.nan, -np.inf, 0.0], np.float32),
    "one": np.array([[[1.0], [2.0]]], np.float32),
    "wide": (np.arange(600) * 37 % 23 - 11).reshape(6, 100).astype(np.float32),
}
CALLS = """
asarray([[1, 2], [3, 4]]) | asarray([True, False]) | zeros((2, 3), dtype=F) | ones((3,), dtype=F) | full((2, 2), 7, dtype=I) | arange(5) | arange(2, 9, 3) | arange(5, 0, -2)
linspace(0.0, 1.0, 5, dtype=F) | linspace(0.0, 1.0, 4, dtype=F, endpoint=False) | eye(3, dtype=F) | eye(2, 4, k=1, dtype=F) | astype(a, I)
add(a, b) | subtract(a, b) | multiply(i, j) | divide(i, j) | floor_divide(i, j) | remainder(i, j) | pow(a, 2.0) | minimum(a, b) | maximum(i, j) | minimum(n, 0.5) | maximum(n, 0.5)
equal(i, j) | not_equal(a, b) | less(a, b) | less_equal(a, b) | greater(i, j) | greater_equal(i, j) | negative(i) | abs(i) | abs(a) | square(a) | sign(a) | sign(n) | sign(i) | sign(u)
sqrt(b) | exp(a) | log(b) | tanh(a) | sin(a) | sin(n) | cos(a) | floor(a) | floor(n) | floor(i) | ceil(a) | round(a) | trunc(a) | trunc(n) | clip(a, -1.0, 2.0)
logical_and(m, i) | logical_or(m, i) | logical_xor(m, i) | logical_not(m) | logical_not(i) | isnan(n) | isnan(i) | isinf(n) | isinf(i) | isfinite(n) | isfinite(i)
sum(a) | sum(i, axis=0) | prod(a, axis=1) | prod(i) | mean(a, axis=0) | mean(i) | min(a) | max(i, axis=1) | argmax(a) | argmin(i, axis=0) | var(a) | var(i, axis=1) | var(a, axis=0, correction=1.0) | std(a, axis=1) | std(a)
any(m, axis=1) | any(i) | all(m, axis=0) | all(m) | count_nonzero(i) | count_nonzero(m)
reshape(a, (3, -1)) | permute_dims(i, (1, 0)) | concat([a, b]) | concat([i, i], axis=1) | concat([i, i], axis=None) | expand_dims(a, axis=1) | squeeze(one, axis=(0, 2)) | stack([i, i], axis=1) | flip(i) | flip(i, axis=1)
roll(i, 1) | roll(i, -2, axis=1) | roll(a, 1, axis=0) | broadcast_to(b, (4, 3)) | where(m, a, b) | where(m, i, 0) | where(m, 1.5, a) | where(m, u, i) | nonzero(i)[0] | nonzero(m)[1]
matmul(i, permute_dims(i, (1, 0))) | matmul(a, permute_dims(b, (1, 0))) | matmul(i, j) | matmul(j, j) | matmul(wide, permute_dims(wide, (1, 0))) | std(wide, axis=0)
a[m] | i[i > 0] | i[:, 1][i[:, 1] > 0] | a[isfinite(a)] | i[i[:, 0] > 5]
"""


def of(array):
    array = np.asarray(array)
    name = NAMES.get(array.dtype.name, array.dtype.name.upper())
    return {"dtype": name, "shape": list(array.shape), "values": array.flatten().tolist()}


cases = []
for call in CALLS.replace("\n", " | ").split(" | "):
    if call.strip():
        names = {name: getattr(np, name) for name in dir(np)}
        with np.errstate(all="ignore"):
            made = eval(call, {**names, "F": np.float32, "I": np.int32, **GIVEN})
        cases.append({"call": call.strip(), "expected": of(made)})
given = {name: of(array) for name, array in GIVEN.items()}
lines = ",\n".join(json.dumps(each) for each in cases)
print('{"given": ' + json.dumps(given) + ',\n"cases": [\n' + lines + "\n]}")
