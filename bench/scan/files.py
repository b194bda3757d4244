"""Writes the files that `bench/scan/run.py` scans. All of them hold data alone."""

import pickle
import random
import struct
import zipfile

import numpy as np

MB = 1_000_000
DATE = (2026, 1, 1, 0, 0, 0)
#: Tensors of the large files.
TENSORS = 32


def numbers(rng, count):
    """Weights as training leaves them: floats that hardly compress."""
    return rng.standard_normal(count, dtype=np.float32)


def archive(path, members):
    """A zip with members that are stored, as torch writes it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as writer:
        for name, content in members:
            writer.writestr(zipfile.ZipInfo(name, DATE), content)


def text(value):
    """A text in a pickle of protocol 2."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    """A number in a pickle."""
    return b"J" + struct.pack("<i", value)


def state_dict(path, tensors, elements, rng):
    """A state dict of torch, without torch: one storage for each tensor."""
    state = b"\x80\x02}("
    members = []
    for key in map(str, range(tensors)):
        storage = text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu")
        state += text(f"layer.{key}.weight") + b"ctorch._utils\n_rebuild_tensor_v2\n(("
        state += storage + number(elements) + b"tQK\x00" + number(elements) + b"\x85K\x01\x85\x89"
        state += b"ccollections\nOrderedDict\n)RtR"
        members.append((f"archive/data/{key}", numbers(rng, elements).tobytes()))
    version = ("archive/version", b"3\n")
    archive(path, [("archive/data.pkl", state + b"u."), *members, version])


def arrays(path, size, rng):
    """A pickle of numpy arrays, whose bytes are most of the file."""
    elements = size // 4 // TENSORS
    state = {f"layer.{index}": numbers(rng, elements) for index in range(TENSORS)}
    path.write_bytes(pickle.dumps(state, protocol=4))


def objects(path, size):
    """A pickle of many small values: most of its bytes are operations and their arguments."""
    rng = random.Random(7)
    rows = []
    # A row takes about 290 bytes.
    for index in range(size // 290):
        names = [f"{kind}-{index}" for kind in ("user", "item", "shop")]
        whole = [rng.randrange(300, 60_000) for _ in range(20)]
        rows.append(names + whole + [rng.random() for _ in range(20)])
    path.write_bytes(pickle.dumps(rows, protocol=4))


def safetensors(path, size, rng):
    """A file of safetensors."""
    elements = size // 4 // TENSORS
    entries = ",".join(
        f'"model.layers.{index}.weight":{{"dtype":"F32","shape":[{elements}],'
        f'"data_offsets":[{index * elements * 4},{(index + 1) * elements * 4}]}}'
        for index in range(TENSORS)
    )
    header = f"{{{entries}}}".encode()
    header += b" " * (-len(header) % 8)
    data = numbers(rng, elements * TENSORS).tobytes()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def compressed_arrays(path, size, rng):
    """A `.npz` whose members are deflated. Labels and counts compress, weights hardly do."""
    elements = size // 8 // 4
    members = {f"weights-{index}": numbers(rng, elements) for index in range(4)}
    for index in range(4):
        members[f"labels-{index}"] = rng.integers(0, 1_000, elements, dtype=np.int32)
    np.savez_compressed(path, **members)


def varint(value):
    """A number in a protocol buffer."""
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(key, content):
    """A field of a protocol buffer: a number, or bytes."""
    if isinstance(content, int):
        return varint(key << 3) + varint(content)
    return varint(key << 3 | 2) + varint(len(content)) + content


def onnx(path, size, rng):
    """A model of ONNX: nodes in a row, each with weights in the file."""
    elements = size // 4 // TENSORS
    graph = []
    for index in range(TENSORS):
        names = [f"x{index}".encode(), f"w{index}".encode(), f"x{index + 1}".encode()]
        node = field(1, names[0]) + field(1, names[1]) + field(2, names[2]) + field(4, b"Mul")
        graph.append(field(1, node))
        # Dimensions, the type FLOAT, the name, the bytes.
        tensor = field(1, elements) + field(2, 1) + field(8, names[1])
        graph.append(field(5, tensor + field(9, numbers(rng, elements).tobytes())))
    graph.append(field(2, b"graph"))
    path.write_bytes(field(1, 9) + field(7, b"".join(graph)) + field(8, field(2, 17)))


def folder(path, count, rng):
    """Small files: seven pickles, then three state dicts of torch, and again."""
    path.mkdir()
    for index in range(count):
        if index % 10 < 7:
            vocabulary = {f"token{word}": word for word in range(50)}
            (path / f"{index:04}.pkl").write_bytes(pickle.dumps(vocabulary, protocol=4))
        else:
            state_dict(path / f"{index:04}.pt", 2, 64, rng)


def write_all(root, scale):
    """Writes the files into a folder. `scale` is a part of the full sizes."""
    rng = np.random.default_rng(7)
    large, middle = int(128 * MB * scale), int(32 * MB * scale)
    state_dict(root / "state.pt", TENSORS, large // 4 // TENSORS, rng)
    # One of the peers searches the numbers for more than a second a megabyte.
    arrays(root / "arrays.pkl", middle // 2, rng)
    objects(root / "objects.pkl", int(12 * MB * scale))
    safetensors(root / "tensors.safetensors", large, rng)
    compressed_arrays(root / "arrays.npz", middle, rng)
    onnx(root / "model.onnx", large, rng)
    folder(root / "small", max(10, int(1_000 * scale)), rng)
    (root / "start.pkl").write_bytes(pickle.dumps({}, protocol=4))
