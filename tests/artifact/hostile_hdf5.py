"""HDF5 files that refer to other files, that readers understand differently, or that run code."""

import json
import struct
import zlib

from hostile_containers import archive
from hostile_folders import HDF5, LAMBDA, keras, layer, sequential
from hostile_pickles import HOSTILE

UNDEFINED = (1 << 64) - 1
SPACE, LINK_INFO, DATATYPE, LINK, FILES, LAYOUT, FILTERS, ATTRIBUTE, SYMBOLS = (
    1, 2, 3, 6, 7, 8, 11, 12, 17,
)
#: A group without links outside of its header.
GROUP = (LINK_INFO, struct.pack("<BBQQ", 0, 0, UNDEFINED, UNDEFINED))
FLOAT = struct.pack("<BBBBI", 0x11, 0x20, 0x1F, 0, 4) + bytes.fromhex("00002000170800177f000000")
VARIABLE_TEXT = struct.pack("<BBBBI", 0x19, 1, 0, 0, 16) + struct.pack("<BBBBI", 0x13, 0, 0, 0, 1)
REFERENCE = struct.pack("<BBBBI", 0x17, 0, 0, 0, 8)


def pad(data):
    """Data up to a multiple of eight bytes."""
    return data + bytes(-len(data) % 8)


def space(*sizes):
    """A dataspace."""
    return struct.pack("<BBBBI", 1, len(sizes), 0, 0, 0) + b"".join(
        struct.pack("<Q", size) for size in sizes
    )


def attribute(name, text, datatype=None, count=None):
    """An attribute with a text of fixed length."""
    datatype = datatype or struct.pack("<BBBBI", 0x13, 0, 0, 0, len(text))
    shape = space() if count is None else space(count)
    name = name.encode() + b"\0"
    sizes = struct.pack("<BBHHH", 1, 0, len(name), len(datatype), len(shape))
    return (ATTRIBUTE, sizes + pad(name) + pad(datatype) + pad(shape) + text)


def link(name, address):
    """A link to an object."""
    return (LINK, struct.pack("<BBB", 1, 0, len(name)) + name + struct.pack("<Q", address))


def other_link(name, kind, value):
    """A link of another kind."""
    head = struct.pack("<BBBB", 1, 8, kind, len(name)) + name
    return (LINK, head + struct.pack("<H", len(value)) + value)


def contiguous(address, size):
    """The layout of a dataset in one piece."""
    return (LAYOUT, struct.pack("<BBQQ", 3, 1, address, size))


def chunked(*sizes, address=UNDEFINED):
    """The layout of a dataset in chunks."""
    sizes = (*sizes, 4)
    head = struct.pack("<BBBQ", 3, 2, len(sizes), address)
    return (LAYOUT, head + b"".join(struct.pack("<I", size) for size in sizes))


class File:
    """A file of HDF5 that is written by hand. Its root group comes last."""

    def __init__(self):
        self.bytes = bytearray(96)
        self.root = [GROUP]

    def put(self, data):
        """Appends bytes, and returns where they begin."""
        self.bytes.extend(bytes(-len(self.bytes) % 8))
        address = len(self.bytes)
        self.bytes.extend(data)
        return address

    def object(self, *messages):
        """Appends an object with these messages, and returns where it is."""
        body = b""
        for kind, data in messages:
            data = pad(data)
            body += struct.pack("<HHBxxx", kind, len(data), 0) + data
        return self.put(struct.pack("<BxHIIxxxx", 1, len(messages), 1, len(body)) + body)

    def dataset(self, *messages, sizes=(2,), datatype=FLOAT, name=b"d"):
        """Adds a dataset to the root group."""
        messages = messages or [contiguous(self.put(bytes(8)), 8)]
        address = self.object((SPACE, space(*sizes)), (DATATYPE, datatype), *messages)
        self.root.append(link(name, address))
        return address

    def finish(self, end=None, base=0, root=None, cached=None):
        """The bytes of the file."""
        root = root or self.object(*self.root)
        end = len(self.bytes) if end is None else end
        kind, scratch = (0, (0, 0)) if cached is None else (1, cached)
        self.bytes[:96] = (
            HDF5[:8]
            + struct.pack("<BBBBBBBBHHI", 0, 0, 0, 0, 0, 8, 8, 0, 4, 16, 0)
            + struct.pack("<QQQQ", base, UNDEFINED, end, UNDEFINED)
            + struct.pack("<QQIIQQ", 0, root, kind, 0, *scratch)
        )
        return bytes(self.bytes)


def with_root(*messages):
    """A file whose root group has these messages, too."""
    file = File()
    file.root.extend(messages)
    return file.finish()


def with_dataset(*messages, **options):
    """A file with a dataset."""
    file = File()
    file.dataset(*messages, **options)
    return file.finish()


def model(config, training=None):
    """A model with this configuration, as Keras 2 writes it."""
    texts = {"keras_version": "2.15.0", "backend": "tensorflow", "model_config": json.dumps(config)}
    if training is not None:
        texts["training_config"] = json.dumps(training)
    return with_root(*(attribute(name, text.encode()) for name, text in texts.items()))


def configurations():
    """What a model is built from."""
    dense = {"class_name": "Dense", "config": {"units": 1}}
    code = {"class_name": "Lambda", "config": {"function": ["4wEAAAA=", None, None]}}

    def of(*layers):
        return {"class_name": "Sequential", "config": {"name": "m", "layers": list(layers)}}

    cases = {
        "lambda": of(code),
        "lambda-nested": of({"class_name": "TimeDistributed", "config": {"layer": code}}),
        "lambda-of-keras-3": sequential(LAMBDA),
        "tfsm-layer": of({"class_name": "TFSMLayer", "config": {"filepath": "../hostile"}}),
        "custom-class": of({"class_name": "Custom>Hostile", "config": {}}),
        "module-os": sequential(layer("system", {"command": "echo"}, module="os")),
        "vocabulary": of({"class_name": "StringLookup", "config": {"vocabulary": "/etc/hostname"}}),
        "no-class": {"layers": [dense]},
    }
    for family, config in cases.items():
        yield f"hdf5-{family}", "model.h5", model(config)
    yield "hdf5-lambda-in-training", "model.h5", model(of(dense), {"loss": code})
    both = [json.dumps(of(inner)).encode() for inner in (dense, code)]
    both = [attribute("model_config", text) for text in both]
    yield "hdf5-two-configurations", "model.h5", with_root(*both)


def global_heap(*objects):
    """A global heap with these objects, each a number and data, and free space behind them."""
    content = b""
    for number, data in objects:
        content += struct.pack("<HHIQ", number, 1, 0, len(data)) + pad(data)
    free = 16 + -(len(content) + 16) % 4_096
    content += struct.pack("<QQ", 0, free) + bytes(free - 16)
    return b"GCOL" + struct.pack("<BxxxQ", 1, 16 + len(content)) + content


def heaps():
    """Configurations in a global heap, of which readers find different ones."""
    dense = {"class_name": "Dense", "config": {"units": 1}}
    code = {"class_name": "Lambda", "config": {"function": ["4wEAAAA=", None, None]}}
    texts = [
        json.dumps({"class_name": "Sequential", "config": {"name": "m", "layers": [inner]}})
        for inner in (dense, code)
    ]
    length = max(map(len, texts))
    first, second = ((1, text.ljust(length).encode()) for text in texts)
    # Free space of 32 bytes. The size of free space includes these 16 bytes.
    within = global_heap(first, (0, bytes(32)), second).replace(
        struct.pack("<HHIQ", 0, 1, 0, 32), struct.pack("<HHIQ", 0, 0, 0, 48)
    )
    cases = {
        # libhdf5 takes the second object.
        "free-space-within": within,
        # libhdf5 reads the same free space again and again.
        "free-space-of-nothing": within.replace(struct.pack("<QQ", 0, 48), bytes(16)),
        # Older releases copy the whole object into room for the text.
        "long-object": global_heap((1, first[1] + bytes(1 << 16))),
    }
    for family, content in cases.items():
        file = File()
        reference = struct.pack("<IQI", length, file.put(content), 1)
        file.root.append(attribute("model_config", reference, VARIABLE_TEXT))
        yield f"hdf5-{family}", "model.h5", file.finish()


def compressed_twice():
    """A dataset of eight bytes whose only chunk expands to 64 MiB."""
    once = zlib.compressobj(9)
    data = b"".join(once.compress(bytes(1 << 20)) for _ in range(64)) + once.flush()
    data = zlib.compress(data, 9)
    file = File()
    node = b"TREE" + struct.pack("<BBHQQ", 1, 0, 1, UNDEFINED, UNDEFINED)
    node += struct.pack("<IIQQQ", len(data), 0, 0, 0, file.put(data))
    tree = file.put(node + struct.pack("<IIQQ", 0, 0, 2, 0) + bytes(4_096))
    deflate = struct.pack("<HHHHII", 1, 0, 0, 1, 9, 0)
    filters = (FILTERS, struct.pack("<BBxxxxxx", 1, 2) + deflate * 2)
    file.dataset(filters, chunked(2, address=tree))
    return file.finish()


def references():
    """What leads out of the file, or nowhere."""
    file = File()
    heap = file.put(b"GCOL" + struct.pack("<BxxxQ", 1, 4_096) + bytes(4_080))
    names = file.put(pad(b"\0/etc/hostname\0"))
    names = file.put(b"HEAP" + struct.pack("<BxxxQQQ", 0, 16, 1, names))
    files = (FILES, struct.pack("<BxxxHHQQQQ", 1, 1, 1, names, 1, 0, 8))
    cases = {
        "external-data": (files, contiguous(UNDEFINED, 8)),
        "virtual": ((LAYOUT, struct.pack("<BBQI", 4, 3, heap, 1)),),
    }
    for family, messages in cases.items():
        other = File()
        other.bytes = bytearray(file.bytes)
        other.dataset(*messages)
        content = other.finish()
        yield f"hdf5-{family}", "model.weights.h5", content
        config = sequential(layer("Dense", {"units": 1}))
        yield f"hdf5-{family}-in-keras", "model.keras", keras(config, ("model.weights.h5", content))
    links = {
        "external-link": other_link(b"d", 64, b"\0/etc/hostname\0/d\0"),
        "soft-link-cycle": other_link(b"d", 1, b"/d"),
        "link-of-a-program": other_link(b"d", 187, b"hostile"),
        "link-with-path": link(b"../d", 96),
    }
    for family, message in links.items():
        yield f"hdf5-{family}", "model.weights.h5", with_root(message)
    file = File()
    root = file.object(GROUP, link(b"a", 96))
    assert root == 96
    yield "hdf5-cycle", "model.weights.h5", file.finish(root=root)
    file = File()
    root = file.object(GROUP)
    for _ in range(200):
        root = file.object(GROUP, link(b"a", root))
    yield "hdf5-deep", "model.weights.h5", file.finish(root=root)
    plugin = (FILTERS, struct.pack("<BBxxxxxxHHHH", 1, 1, 0xFFFF, 0, 0, 0))
    yield "hdf5-plugin", "model.weights.h5", with_dataset(plugin, chunked(2))
    yield "hdf5-compressed-twice", "model.weights.h5", compressed_twice()


def structures():
    """Structures that break the format, or that readers understand differently."""
    plain = with_dataset()
    cases = {
        "truncated": plain[:-1],
        "behind": plain + HOSTILE,
        "zip-polyglot": plain + archive(("model.pkl", HOSTILE)),
        "end-differs": File().finish(end=4_096),
        "base-differs": File().finish(base=512),
        "cached-differs": File().finish(cached=(96, 96)),
        "pickle-in-attribute": with_root(attribute("weight_names", HOSTILE)),
        "attribute-of-pytables": with_root(attribute("PYTABLES_FORMAT_VERSION", b"2.1")),
        "references": with_dataset(datatype=REFERENCE),
        "variable-texts": with_dataset(datatype=VARIABLE_TEXT),
        "data-outside": with_dataset(contiguous(1 << 40, 8)),
        "data-of-2-63": with_dataset(contiguous(UNDEFINED - 7, 8)),
        "size-differs": with_dataset(contiguous(96, 4)),
        "size-overflow": with_dataset(sizes=(1 << 63, 4)),
        "not-written": with_dataset(contiguous(UNDEFINED, 4 << 40), sizes=(1 << 40,)),
        "chunk-bomb": with_dataset(chunked(1 << 29), sizes=(1 << 29,)),
        "two-links": with_root(link(b"a", 96), link(b"a", 104)),
        "group-and-dataset": with_root((SPACE, space(1))),
        "continuation-cycle": with_root((16, struct.pack("<QQ", 96, 64))),
        "symbols-and-links": with_root((SYMBOLS, struct.pack("<QQ", 96, 96))),
        "unknown-message": with_root((24, bytes(16))),
        "text-outside": with_root(
            attribute("name", struct.pack("<IQI", 8, 1 << 40, 1), VARIABLE_TEXT)
        ),
    }
    for family, content in cases.items():
        yield f"hdf5-{family}", "model.h5", content
    yield "hdf5-user-block", "model.bin", bytes(512) + with_root(other_link(b"d", 64, b"\0x\0y\0"))
    file = File()
    file.dataset(name=b"a")
    shared = file.put(bytes(8))
    file.dataset(contiguous(shared, 8), name=b"b")
    file.dataset(contiguous(shared, 8), name=b"c")
    yield "hdf5-overlap", "model.h5", file.finish()


def fixtures():
    """Families with the judged file and its content."""
    yield from configurations()
    yield from heaps()
    yield from references()
    yield from structures()


def controls():
    """Files of data."""
    dense = {"class_name": "Dense", "config": {"units": 1, "activation": "relu"}}
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": [dense]}}
    yield "control-hdf5", "model.weights.h5", with_dataset()
    yield "control-hdf5-model", "model.h5", model(config, {"loss": "mse"})
    weights = ("model.weights.h5", with_dataset())
    yield "control-keras-weights", "a.keras", keras(sequential(layer("Dense")), weights)
