"""Arrays and plain values: NumPy's files, pickles, joblib and safetensors."""

import collections
import datetime
import io
import itertools
import pathlib
import pickle

import numpy as np

from benign_files import NUMPY_TYPES, SHAPES, array


def numpy_files(out):
    """`.npy` and `.npz`: types, byte orders, memory orders, structures, texts, dates, versions."""
    for dtype, shape in itertools.product(NUMPY_TYPES, SHAPES[:6]):
        name = f"{dtype}-{'x'.join(map(str, shape)) or 'scalar'}.npy"
        np.save(out.path("npy", name), array(dtype, shape))
    special = {
        "big-endian": array(">f4", (3, 4)),
        "big-endian-int": array(">i8", (3,)),
        "fortran": np.asfortranarray(array("f8", (3, 4))),
        "transposed": array("f4", (3, 4)).T,
        "strided": array("f4", (8, 8))[::2, ::3],
        "bytes": np.array([b"a", b"bcd"]),
        "text": np.array(["a", "bcd", "ä"]),
        "empty-text": np.array([], dtype="U1"),
        "date": np.array(["2020-01-01"], dtype="M8[D]"),
        "time-ns": np.array([1, 2], dtype="M8[ns]"),
        "duration": np.array([1, 2], dtype="m8[25s]"),
        "void": np.zeros(3, dtype="V5"),
        "structure": np.zeros(3, dtype=[("a", "i4"), ("b", "f8", (2, 2)), ("c", "S3")]),
        "nested": np.zeros(2, dtype=[("a", [("x", "u1"), ("y", ">f4")]), ("b", "?")]),
        "aligned": np.zeros(2, dtype=np.dtype([("a", "u1"), ("b", "f8")], align=True)),
        "titled": np.zeros(2, dtype=[(("title", "name"), "f4")]),
        "unicode-field": np.zeros(2, dtype=[("größe", "f4"), ("日本", "i4")]),
        "many-dimensions": np.zeros((1,) * 32, dtype="f4"),
        "long-header": np.zeros(1, dtype=[(f"field_number_{n}", "f4") for n in range(900)]),
    }
    if np.dtype(np.longdouble).itemsize > 8:
        special["long-double"] = np.zeros(3, dtype=np.longdouble)
        special["complex-long-double"] = np.zeros(3, dtype=np.clongdouble)
    for name, value in special.items():
        np.save(out.path("npy", f"{name}.npy"), value)
    for version in [(1, 0), (2, 0), (3, 0)]:
        with out.path("npy", f"version-{version[0]}.npy").open("wb") as file:
            np.lib.format.write_array(file, array("f4", (5,)), version=version)
    mapped = out.path("npy", "memory-mapped.npy")
    np.lib.format.open_memmap(mapped, mode="w+", dtype="f4", shape=(10, 10)).flush()
    for name, save in [("stored", np.savez), ("compressed", np.savez_compressed)]:
        save(out.path("npz", f"{name}-empty.npz"))
        save(out.path("npz", f"{name}-one.npz"), array("f4", (3,)))
        save(out.path("npz", f"{name}-named.npz"), weight=array("f4", (30, 40)), b=array("i8", ()))
        save(out.path("npz", f"{name}-slashes.npz"), **{"layer/kernel:0": array("f4", (3, 3))})
        save(out.path("npz", f"{name}-unicode.npz"), **{"größe": array("f4", (3, 3))})
        save(out.path("npz", f"{name}-many.npz"), *[array("f4", (n,)) for n in range(100)])
        save(out.path("npz", f"{name}-zeros.npz"), np.zeros((500, 500)))
        save(out.path("npz", f"{name}-special.npz"), **special)
    in_memory = io.BytesIO()
    np.savez(in_memory, a=array("f4", (3,)))
    out.path("npz", "in-memory.npz").write_bytes(in_memory.getvalue())
    try:
        from scipy import sparse
    except ImportError:
        return
    matrix = sparse.random(20, 30, 0.1, format="csr", random_state=1)
    for form in ["csr", "csc", "coo", "bsr", "dia"]:
        sparse.save_npz(out.path("npz", f"sparse-{form}.npz"), matrix.asformat(form))


#: Generators of random numbers.
GENERATORS = [
    np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64,
]


def plain_values():
    """Values that need no code to be read."""
    return {
        "none": None,
        "numbers": [0, 1, -1, 255, 256, 65535, 65536, 2**31, 2**63, -(2**70), 1 << 3000, 0.5],
        "floats": [float("inf"), float("-inf"), float("nan"), 1e-310],
        "texts": ["", "a", "ä", "日本語", "x" * 300, "line\nline", "back\\slash", "\ud800"],
        "bytes": [b"", b"a", b"\x00\xff" * 200, bytes(range(256))],
        "bytearray": bytearray(b"abc"),
        "complex": 1 + 2j,
        "range": [range(5), slice(1, 2, 3)],
        "sets": [set(), {1, 2}, frozenset({"a"}), frozenset()],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), tuple(range(10))],
        "dictionary": {"a": {"b": [1, 2, {"c": (None, True, False)}]}, 1: 2, (1, 2): 3},
        "ordered": collections.OrderedDict(a=1, b=collections.OrderedDict()),
        "defaults": collections.defaultdict(dict, {0: {"step": 1}}),
        "counts": collections.defaultdict(int, a=1),
        "times": [
            datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.timezone.utc), datetime.time(1),
            datetime.date(2026, 1, 2), datetime.timedelta(1),
            datetime.timezone(datetime.timedelta(hours=1), "CET"),
        ],
        "paths": [pathlib.Path("/models/a"), pathlib.PureWindowsPath("C:/a"), pathlib.Path()],
        "shared": [[1, 2]] * 3,
        "long": list(range(5000)),
        "deep": [[[[[[[[[[[[]]]]]]]]]]]],
        "vocabulary": {f"token{n}": n for n in range(3000)},
    }


def array_values():
    """Values with arrays, as state dictionaries and data sets have them."""
    shared = array("f4", (4, 4))
    return {
        "array": shared,
        "fortran": np.asfortranarray(array("f8", (3, 4))),
        "scalar": np.float32(0.5),
        "scalars": {"i": np.int64(3), "b": np.bool_(True), "c": np.complex128(1j)},
        "empty": np.zeros((0, 3)),
        "zero-dimensional": np.array(3.5),
        "state": {"w": shared, "b": shared[0], "again": shared, "step": 3},
        "types": [array(dtype, (2, 2)) for dtype in NUMPY_TYPES],
        "big-endian": array(">f4", (2, 2)),
        "text": np.array(["a", "bc"]),
        "bytes": np.array([b"a", b"bc"]),
        "dtype": [np.dtype("f4"), np.dtype(">i2")],
        "date": np.array(["2020-01-01"], dtype="M8[D]"),
        "structure": np.zeros(3, dtype=[("a", "i4"), ("b", "f8", (2,))]),
        "large": np.zeros(70_000, dtype="f4"),
        "generators": [
            np.random.default_rng(1), np.random.RandomState(1),
            *[np.random.Generator(kind(1)) for kind in GENERATORS],
        ],
        "seed": np.random.SeedSequence(1 << 200).spawn(2),
    }


def pickles(out):
    """Pickles of plain values and arrays in each protocol."""
    values = {**plain_values(), **{f"np-{k}": v for k, v in array_values().items()}}
    for (name, value), protocol in itertools.product(values.items(), range(6)):
        if "\ud800" in str(value) and protocol == 0:
            continue
        with out.path("pickle", f"{name}-{protocol}.pkl").open("wb") as file:
            pickle.dump(value, file, protocol)
    data = pickle.dumps(array("f4", (3,)), 5)
    out.path("pickle", "no-ending-of-pickles.pickle").write_bytes(data)


def joblib_files(out):
    """joblib's pickles, whose arrays stand between the opcodes, plain; and an estimator."""
    import joblib

    for name, value in {**plain_values(), **array_values()}.items():
        joblib.dump(value, out.path("joblib", f"{name}.joblib"))
    for protocol in range(3, 6):
        path = out.path("joblib", f"protocol-{protocol}.joblib")
        joblib.dump({"w": array("f4", (30, 3))}, path, protocol=protocol)
    try:
        from sklearn.linear_model import LinearRegression
    except ImportError:
        return
    model = LinearRegression().fit(array("f4", (10, 2)), array("f4", (10,)))
    joblib.dump(model, out.path("estimators", "linear.joblib"))
    out.path("estimators", "linear.pkl").write_bytes(pickle.dumps(model))


def safetensors_files(out):
    """safetensors: types, shapes, metadata, no tensors."""
    from safetensors.numpy import save_file

    for dtype in NUMPY_TYPES[:13]:
        tensors = {f"t{n}": array(dtype, shape) for n, shape in enumerate(SHAPES)}
        save_file(tensors, out.path("safetensors", f"{dtype}.safetensors"))
    tensors = {f"model.layers.{n}.weight": array("f4", (n, 3)) for n in range(200)}
    cases = {
        "none": ({}, None),
        "none-metadata": ({}, {"format": "pt"}),
        "metadata": ({"a": array("f4", (3,))}, {"format": "pt", "note": "ä\"\n\\", "": ""}),
        "many": (tensors, {"format": "np"}),
        "names": ({"": array("u1", (1,)), "ä/ö": array("u1", (3,)), "a b": array("f4", ())}, None),
        "odd": ({"a": array("u1", (1,)), "b": array("f8", (1,)), "c": array("i2", (1,))}, None),
        "large": ({"a": np.zeros((1000, 1000), dtype="f4")}, None),
    }
    for name, (values, metadata) in cases.items():
        save_file(values, out.path("safetensors", f"{name}.safetensors"), metadata)
    # The length of the header comes first: some begin as opcodes of pickles, or as zlib.
    for length in range(0, 640, 8):
        path = out.path("safetensors", f"header-{length}.safetensors")
        save_file({"a": array("u1", (320,))}, path, {"note": "x" * length})
    try:
        import ml_dtypes
    except ImportError:
        return
    for name in ["bfloat16", "float8_e4m3fn", "float8_e5m2"]:
        values = {"a": array(getattr(ml_dtypes, name), (2, 4))}
        save_file(values, out.path("safetensors", f"{name}.safetensors"))
