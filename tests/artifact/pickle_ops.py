"""Compares the scanner's opcode walker with CPython's `pickletools.genops`.

Without arguments: writes `pickle_ops.json`, the pickles with their operations that a unit test of
`artifact/src/scan/pickle` reads. The pickles are random, from a fixed seed: `pickle.dumps` of
random values in each protocol, and sequences of opcodes with random arguments, valid or cut.
"""

import base64
import collections
import json
import pathlib
import pickle
import pickletools
import random
import struct

OUTPUT = pathlib.Path(__file__).with_suffix(".json")
DUMPED = 180
ASSEMBLED = 120
CUT = 60
BITS = [1, 7, 8, 15, 31, 32, 63, 90, 2100]


class Plain:
    """An object with a state."""

    def __init__(self, value):
        self.value = value


def value(rng, depth):
    """A random value of the types that have opcodes of their own."""
    leaf = [
        lambda: None,
        lambda: rng.random() < 0.5,
        lambda: rng.choice([1, -1]) * rng.getrandbits(rng.choice(BITS)),
        lambda: rng.uniform(-1e9, 1e9),
        lambda: rng.choice([float("inf"), float("nan"), -0.0, 1e-300]),
        lambda: "".join(rng.choice("ab'\"\\\n\x00\x80é€😀") for _ in range(rng.randrange(20))),
        lambda: rng.randbytes(rng.choice([0, 1, 5, 255, 256, 300])),
        lambda: bytearray(rng.randbytes(rng.randrange(9))),
        lambda: complex(rng.random(), 2),
        lambda: range(rng.randrange(9)),
    ]
    if depth == 0 or rng.random() < 0.4:
        return rng.choice(leaf)()
    inner = [value(rng, depth - 1) for _ in range(rng.randrange(6))]
    keys = [key for key in inner if isinstance(key, (str, int, bytes, float))]
    kinds = [
        lambda: inner,
        lambda: tuple(inner),
        lambda: dict.fromkeys(keys, inner),
        lambda: set(keys),
        lambda: frozenset(keys),
        lambda: collections.OrderedDict.fromkeys(keys, 1),
        lambda: [inner, inner],
        lambda: Plain(inner),
    ]
    return rng.choice(kinds)()


def argument(rng, kind):
    """A random valid argument."""
    data = rng.randbytes(rng.randrange(12))
    text = "".join(rng.choice("abc é€") for _ in range(rng.randrange(6))).encode()
    word = bytes(rng.choice(b"abcdef.") for _ in range(rng.randrange(1, 9)))
    number = str(rng.getrandbits(rng.choice([3, 31, 80]))).encode()
    return {
        None: lambda: b"",
        "decimalnl_short": lambda: rng.choice([number, b"-" + number, b"00", b"01"]) + b"\n",
        "decimalnl_long": lambda: number + rng.choice([b"", b"L"]) + b"\n",
        "floatnl": lambda: rng.choice([b"1.5", b"-2e10", b"inf", b"nan", b".5", b"1."]) + b"\n",
        "stringnl": lambda: rng.choice([b"'%s'\n", b'"%s"\n', b"'%s\\x41'\n"]) % word,
        "stringnl_noescape": lambda: word + b"\n",
        "stringnl_noescape_pair": lambda: word + b"\n" + word + b"\n",
        "unicodestringnl": lambda: word + rng.choice([b"", b"\\u20ac"]) + b"\n",
        "uint1": lambda: rng.randbytes(1),
        "uint2": lambda: rng.randbytes(2),
        "uint4": lambda: rng.randbytes(4),
        "uint8": lambda: rng.randbytes(8),
        "int4": lambda: rng.randbytes(4),
        "float8": lambda: rng.randbytes(8),
        "long1": lambda: struct.pack("<B", len(data)) + data,
        "long4": lambda: struct.pack("<i", len(data)) + data,
        "string1": lambda: struct.pack("<B", len(text)) + text,
        "string4": lambda: struct.pack("<i", len(text)) + text,
        "bytes1": lambda: struct.pack("<B", len(data)) + data,
        "bytes4": lambda: struct.pack("<I", len(data)) + data,
        "bytes8": lambda: struct.pack("<Q", len(data)) + data,
        "bytearray8": lambda: struct.pack("<Q", len(data)) + data,
        "unicodestring1": lambda: struct.pack("<B", len(text)) + text,
        "unicodestring4": lambda: struct.pack("<I", len(text)) + text,
        "unicodestring8": lambda: struct.pack("<Q", len(text)) + text,
    }[kind]()


def assembled(rng):
    """Random opcodes. An unpickler would refuse most, but they can be walked."""
    parts = []
    for _ in range(rng.randrange(1, 30)):
        opcode = rng.choice([opcode for opcode in pickletools.opcodes if opcode.name != "STOP"])
        parts.append(opcode.code.encode("latin-1"))
        parts.append(argument(rng, opcode.arg and opcode.arg.name))
    return b"".join(parts) + b"."


def operations(data):
    """Offsets and names up to STOP or to what cannot be walked, and whether STOP was reached."""
    found = []
    try:
        for opcode, _, offset in pickletools.genops(data):
            found.append(f"{offset} {opcode.name}")
    except ValueError:
        return found, False
    return found, True


def main():
    rng = random.Random(37)
    pickles = []
    while len(pickles) < DUMPED:
        data = pickle.dumps(value(rng, 3), protocol=len(pickles) % 6)
        if len(data) < 1_500:
            pickles.append(data)
    pickles += [assembled(rng) for _ in range(ASSEMBLED)]
    for data in rng.sample(pickles, CUT):
        if len(data) > 2:
            pickles.append(data[: rng.randrange(1, len(data) - 1)])
    rows = []
    for data in pickles:
        found, complete = operations(data)
        rows.append([base64.b64encode(data).decode(), " ".join(found), complete])
    assert {name for row in rows for name in row[1].split()[1::2]} == {
        opcode.name for opcode in pickletools.opcodes
    }
    OUTPUT.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
