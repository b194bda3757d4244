"""Files of tensors and graphs that break their own format or reach beyond data."""

import io
import json
import struct
import zipfile

from hostile_containers import archive
from hostile_pickles import HOSTILE


def safetensors(header, data=bytes(8), length=None):
    """A file of safetensors with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(start, end, dtype="F32", shape=(1,)):
    """An entry of the header."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


TWO = {"a": tensor(0, 4), "b": tensor(4, 8)}


def all_safetensors():
    """Safetensors."""
    good = safetensors(TWO)
    cases = {
        "zip-polyglot": good + archive(("model.pkl", HOSTILE)),
        "payload-in-padding": safetensors(json.dumps(TWO).encode() + HOSTILE.ljust(64)),
        "payload-between": safetensors(
            {"a": tensor(0, 4), "b": tensor(44, 48)}, bytes(4) + HOSTILE.ljust(40) + bytes(4)
        ),
        "payload-behind": safetensors(TWO, bytes(8) + HOSTILE),
        "overlap": safetensors({"a": tensor(0, 4), "b": tensor(2, 6)}, bytes(6)),
        "same-bytes": safetensors({"a": tensor(0, 4), "b": tensor(0, 4)}, bytes(4)),
        "reversed-offsets": safetensors({"a": tensor(4, 0)}, bytes(4)),
        "offset-past-end": safetensors({"a": tensor(0, 1 << 40, shape=(1 << 38,))}, bytes(4)),
        "offset-negative": safetensors({"a": tensor(-4, 0)}, bytes(4)),
        "offset-of-2-64": safetensors({"a": tensor(0, 1 << 64)}, bytes(4)),
        "shape-overflow": safetensors({"a": tensor(0, 4, shape=(1 << 32, 1 << 32, 0))}, bytes(4)),
        "shape-differs": safetensors({"a": tensor(0, 4, shape=(2,))}, bytes(4)),
        "zero-size-with-bytes": safetensors({"a": tensor(0, 4, shape=(0,))}, bytes(4)),
        "zero-size-outside": safetensors(
            {"a": tensor(0, 4), "b": tensor(99, 99, shape=(0,))}, bytes(4)
        ),
        "unknown-dtype": safetensors({"a": tensor(0, 4, dtype="PICKLE")}, bytes(4)),
        "duplicate-key": safetensors(
            b'{"a":%b,"a":%b}' % (2 * (json.dumps(tensor(0, 4)).encode(),)), bytes(4)
        ),
        "leading-space": safetensors(b" " + json.dumps(TWO).encode()),
        "metadata-not-text": safetensors({"__metadata__": {"x": [1]}, **TWO}),
        "header-of-2-63": safetensors(TWO, length=1 << 63),
        "header-not-object": safetensors(b"[]"),
        "header-nested": safetensors(b'{"a":' + b"[" * 100_000),
        "header-not-utf8": safetensors(b'{"\xff":1}'),
        "truncated": good[:-1],
        "surrogate-name": safetensors(
            b'{"\\ud800":%b}' % json.dumps(tensor(0, 4)).encode(), bytes(4)
        ),
    }
    for family, content in cases.items():
        yield f"safetensors-{family}", "model.safetensors", content


def string(value):
    """A string of GGUF."""
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(value)) + value


def gguf(values=(), tensors=(), data=bytes(64), version=3, counts=None):
    """A file of GGUF: values (key, type, bytes), tensors (name, dimensions, type, offset)."""
    n_tensors, n_values = counts or (len(tensors), len(values))
    file = b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_values)
    for key, kind, value in values:
        file += string(key) + struct.pack("<I", kind) + value
    for name, dimensions, kind, offset in tensors:
        file += string(name) + struct.pack("<I", len(dimensions))
        file += b"".join(struct.pack("<Q", d & (2**64 - 1)) for d in dimensions)
        file += struct.pack("<IQ", kind, offset)
    return file + bytes(-len(file) % 32) + data


def u32(value):
    """A number of 32 bits."""
    return struct.pack("<I", value)


def array(kind, count, content=b""):
    """An array of GGUF."""
    return struct.pack("<IQ", kind, count) + content


def all_gguf():
    """GGUF."""
    arch = ("general.architecture", 8, string("llama"))
    one = ("a", (8,), 0, 0)
    template = "tokenizer.chat_template"
    cases = {
        "alignment-large": gguf([arch, ("general.alignment", 4, u32(1 << 31))], [one]),
        "alignment-zero": gguf([arch, ("general.alignment", 4, u32(0))], [one]),
        "alignment-three": gguf([arch, ("general.alignment", 4, u32(3))], [one]),
        "alignment-type": gguf([arch, ("general.alignment", 8, string("32"))], [one]),
        "padding-wraps": gguf([arch], [("a", ((1 << 62),), 0, 0), ("b", (8,), 0, (1 << 64) - 32)]),
        "dimension-zero": gguf([arch], [("a", (0,), 0, 0)]),
        "dimension-negative": gguf([arch], [("a", (-1,), 0, 0)]),
        "dimensions-overflow": gguf([arch], [("a", (1 << 32, 1 << 32), 0, 0)]),
        "dimensions-count": b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + string("a") + b"\xff" * 4,
        "nested-arrays": gguf([arch, ("x", 9, array(9, 1) * 5000 + array(4, 0))], [one]),
        "array-of-2-63": gguf([arch, ("x", 9, array(4, 1 << 63))], [one]),
        "array-of-strings-cut": gguf([arch, ("x", 9, array(8, 1 << 40))]),
        "string-of-2-64": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + b"\xff" * 8,
        "aliased-offsets": gguf([arch], [one, ("b", (8,), 0, 0)]),
        "offset-past-end": gguf([arch], [("a", (8,), 0, 1 << 40)]),
        "offset-unaligned": gguf([arch], [("a", (8,), 0, 1)]),
        "unknown-type": gguf([arch], [("a", (8,), 999, 0)]),
        "value-type": gguf([arch, ("x", 99, b"")], [one]),
        "duplicate-key": gguf([arch, arch], [one]),
        "duplicate-tensor": gguf([arch], [one, ("a", (8,), 0, 32)]),
        "tensor-count": gguf([arch], [], counts=((1 << 63), 1)),
        "version-one": gguf([arch], [one], version=1),
        "big-endian": gguf([arch], [one], version=0x03000000),
        "charsmap": gguf(
            [
                arch,
                (
                    "tokenizer.ggml.precompiled_charsmap",
                    9,
                    array(0, 8, b"\xff\xff\xff\x7f" + bytes(4)),
                ),
            ],
            [one],
        ),
        "template-class": gguf([arch, (template, 8, string("{{ ''.__class__.__mro__ }}"))], [one]),
        "template-named": gguf([arch, (template + ".tool", 8, string("{{ x.__init__ }}"))], [one]),
        "template-attr-filter": gguf(
            [arch, (template, 8, string("{{ x|attr('__cla' ~ 'ss__') }}"))], [one]
        ),
        "template-joined": gguf([arch, (template, 8, string("{{ x['__cla' + 'ss__'] }}"))], [one]),
        "template-escaped": gguf([arch, (template, 8, string("{{ x['\\x5f_class__'] }}"))], [one]),
        "template-globals": gguf(
            [arch, (template, 8, string("{{ cycler.__init__.__globals__.os }}"))], [one]
        ),
        "template-range": gguf(
            [arch, (template, 8, string("{% for i in range(10**12) %}x{% endfor %}"))], [one]
        ),
        "template-format": gguf(
            [arch, (template, 8, string("{{ '{0.__class__}'.format(x) }}"))], [one]
        ),
        "template-import": gguf([arch, (template, 8, string("{% import 'x' as y %}"))], [one]),
        "template-not-utf8": gguf([arch, (template, 8, string(b"\xff\xfe"))], [one]),
        "payload-in-padding": gguf(
            [arch], [one, ("b", (8,), 0, 96)], bytes(32) + HOSTILE.ljust(64) + bytes(32)
        ),
        "payload-behind": gguf([arch], [one], bytes(32) + HOSTILE * 8),
        "zip-polyglot": gguf([arch], [one], bytes(32) + archive(("model.pkl", HOSTILE))),
        "truncated": gguf([arch], [one])[:-60],
    }
    for family, content in cases.items():
        yield f"gguf-{family}", "model.gguf", content


def varint(value):
    """A number of protocol buffers."""
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """A field: a number, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx(*graph, opsets=("",), more=b""):
    """A model of ONNX with these fields in its graph."""
    sets = b"".join(field(8, field(1, o) + field(2, 18)) for o in opsets)
    return field(1, 9) + field(7, b"".join(graph) + field(2, "g")) + sets + more


def node(operator, domain="", attributes=(), inputs=("x",)):
    """A node, as a field of a graph."""
    body = b"".join(field(1, i) for i in inputs) + field(2, "y") + field(4, operator)
    body += b"".join(field(5, a) for a in attributes) + (field(7, domain) if domain else b"")
    return field(1, body)


def external(location, offset="0", length="4"):
    """A tensor whose bytes are in another file."""
    entries = {"location": location, "offset": offset, "length": length}
    body = field(1, 1) + field(2, 1) + field(8, "w") + field(14, 1)
    return body + b"".join(
        field(13, field(1, k) + field(2, v)) for k, v in entries.items() if v is not None
    )


def constant(label, *values, kind=7, form="q"):
    """An initialiser: a list of numbers of 64 bits, or of another kind."""
    body = field(1, len(values)) + field(2, kind) + field(8, label)
    return field(5, body + field(9, struct.pack(f"<{len(values)}{form}", *values)))


def tile_bomb():
    """A Tile of one number to 2^40."""
    value = field(1, 1) + field(2, 1) + field(8, "x") + field(9, bytes(4))
    return onnx(node("Tile", inputs=("x", "r")), field(5, value), constant("r", 1 << 40))


def constant_node():
    """A Constant of 2^40 that a ConstantOfShape takes."""
    value = field(1, 1) + field(2, 7) + field(9, struct.pack("<q", 1 << 40))
    body = field(2, "r") + field(4, "Constant") + field(5, field(1, "value") + field(5, value))
    return onnx(field(1, body), node("ConstantOfShape", inputs=("r",)))


def float_range():
    """A Range from 0 to 1e12, whose bounds are floats in attributes of constants."""
    nodes = []
    for name, value in (("a", 0), ("b", 1e12), ("c", 1)):
        attribute = field(1, "value_float") + b"\x15" + struct.pack("<f", value) + field(20, 1)
        nodes.append(field(1, field(2, name) + field(4, "Constant") + field(5, attribute)))
    return onnx(*nodes, node("Range", inputs=("a", "b", "c")))


def sparse_zeros(elements):
    """A sparse initialiser of so many elements, one of which is written."""
    head = field(1, 1) + field(2, 1) + field(8, "x")
    values = field(1, head + field(9, struct.pack("<f", 1)))
    indices = field(2, field(1, 1) + field(2, 7) + field(9, bytes(8)))
    return onnx(node("Relu"), field(15, values + indices + field(3, elements)))


def all_onnx():
    """ONNX."""
    relu = node("Relu")
    subgraph = (
        field(1, "body") + field(6, node("Evil", "com.hostile") + field(2, "b")) + field(20, 5)
    )
    function = field(
        25, field(1, "F") + field(10, "own") + field(7, node("Evil", "com.hostile")[2:])
    )
    tensor_in_attribute = field(1, "value") + field(5, external("../w")) + field(20, 4)
    sparse = field(15, field(1, external("../w")))
    cases = {
        "custom-domain": onnx(node("Evil", "com.hostile"), opsets=("", "com.hostile")),
        "context-operator": onnx(node("EPContext", "com.microsoft"), opsets=("", "com.microsoft")),
        "metadata-call": onnx(
            relu, more=field(14, field(1, "names") + field(2, "__import__('os').system('id')"))
        ),
        "python-operator": onnx(node("PythonOp", "com.microsoft"), opsets=("", "com.microsoft")),
        "custom-in-subgraph": onnx(node("If", attributes=(subgraph,))),
        "custom-in-function": onnx(node("F", "own"), more=function),
        "external-parent": onnx(relu, field(5, external("../w"))),
        "external-absolute": onnx(relu, field(5, external("/etc/hostname"))),
        "external-backslash": onnx(relu, field(5, external("..\\w"))),
        "external-fragment": onnx(relu, field(5, external("#../w"))),
        "external-inner-parent": onnx(relu, field(5, external("a/../../w"))),
        "external-empty": onnx(relu, field(5, external(""))),
        "external-offset-negative": onnx(relu, field(5, external("w.bin", "-1"))),
        "external-offset-of-2-63": onnx(relu, field(5, external("w.bin", str(1 << 63)))),
        "external-memory": onnx(relu, field(5, external("*/_ORT_MEM_ADDR_/*", "4096"))),
        "external-length-differs": onnx(relu, field(5, external("w.bin", "0", "5"))),
        "external-uri": onnx(relu, field(5, external("file:///etc/hostname"))),
        "external-in-attribute": onnx(node("Constant", attributes=(tensor_in_attribute,))),
        "external-in-sparse": onnx(relu, sparse),
        "tile-bomb": tile_bomb(),
        "expand-bomb": onnx(node("Expand", inputs=("x", "r")), constant("r", 1 << 20, 1 << 20)),
        "range-bomb": onnx(
            node("Range", inputs=("a", "b", "c")),
            constant("a", 0),
            constant("b", 1 << 40),
            constant("c", 1),
        ),
        "resize-bomb": onnx(
            node("Resize", inputs=("x", "", "r")), constant("r", 1e9, 1e9, kind=1, form="f")
        ),
        "constant-of-shape-bomb": constant_node(),
        "float-attribute-bomb": float_range(),
        "pad-bomb": onnx(node("Pad", inputs=("x", "r")), constant("r", 0, 1 << 40)),
        "max-unpool-bomb": onnx(
            node("MaxUnpool", inputs=("x", "i", "r")), constant("r", 1, 1, 1 << 20, 1 << 20)
        ),
        "sparse-bomb": sparse_zeros(1 << 40),
        "core-ml": field(1, 4) + field(2, field(1, "a")) + field(500, b""),
        "length-past-end": field(1, 9) + b"\x3a\xff\xff\xff\x7f",
        "varint-endless": field(1, 9) + b"\x3a" + b"\xff" * 20,
        "unknown-field": onnx(relu, more=field(99, HOSTILE)),
        "tensor-size-differs": onnx(
            relu, field(5, field(1, 4) + field(2, 1) + field(8, "w") + field(9, b"x"))
        ),
        "tensor-size-differs-packed": onnx(
            relu, field(5, field(1, b"\x02\x03") + field(2, 1) + field(9, bytes(4)))
        ),
        "tensor-without-data": onnx(relu, field(5, field(1, 4) + field(2, 1) + field(8, "w"))),
        "tensor-negative": onnx(
            relu, field(5, b"\x08" + b"\xff" * 9 + b"\x01" + field(2, 1) + field(8, "w"))
        ),
        "zip-polyglot": onnx(relu) + archive(("model.pkl", HOSTILE)),
    }
    for family, content in cases.items():
        yield f"onnx-{family}", "model.onnx", content


def saved_model(nodes, functions=()):
    """A SavedModel with these operators, and these in a function."""
    graph = b"".join(field(1, field(1, f"n{i}") + field(2, op)) for i, op in enumerate(nodes))
    inner = b"".join(field(3, field(1, f"f{i}") + field(2, op)) for i, op in enumerate(functions))
    if functions:
        graph += field(2, field(1, field(1, field(1, "f")) + inner))
    return field(1, 1) + field(2, field(2, graph))


def saver(name, *uses, restore="save/restore"):
    """A SavedModel of TensorFlow 1 whose saver reads and writes the files of this tensor."""
    text = field(1, 7) + field(2, b"") + field(8, "model")
    nodes = (
        ("x", "Placeholder"), ("w", "VarHandleOp"), ("y", "Mul", "x", "w"), ("path", "Const"),
        ("save/Const", "PlaceholderWithDefault", "save/input"),
        ("save/SaveV2", "SaveV2", name, "names", "slices", "w"),
        ("save/RestoreV2", "RestoreV2", name, "names", "slices"),
        ("save/restore", "AssignVariableOp", "w", "save/RestoreV2"),
    )
    graph = b"".join(
        field(1, field(1, label) + field(2, op) + b"".join(field(3, i) for i in inputs))
        for label, op, *inputs in nodes
    )
    attribute = field(5, field(1, "value") + field(2, field(8, text)))
    graph += field(1, field(1, "save/input") + field(2, "Const") + attribute)
    saver_def = field(3, field(1, "save/Const:0") + field(2, "save/SaveV2:0") + field(3, restore))
    uses = b"".join(uses) + main_op("y")
    return field(1, 1) + field(2, field(2, graph) + saver_def + uses)


def index(kind):
    """The index of a tensor bundle with one tensor of this type and four bytes."""

    def stored(block):
        crc = 0xFFFFFFFF
        for byte in block + b"\0":
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        crc ^= 0xFFFFFFFF
        masked = (crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF
        return block + b"\0" + masked.to_bytes(4, "little")

    def item(key, value):
        return b"\0" + varint(len(key)) + varint(len(value)) + key + value

    def block(*items):
        return stored(b"".join(items) + bytes(4) + b"\1\0\0\0")

    header = item(b"", field(1, 1) + field(3, field(1, 1)))
    data = block(header, item(b"w", field(1, kind) + field(2, b"") + field(5, 4)))
    extra = block()
    handle = varint(0) + varint(len(data) - 5)
    places = varint(len(data)) + varint(len(extra) - 5)
    table = block(item(b"w", handle))
    places += varint(len(data) + len(extra)) + varint(len(table) - 5)
    magic = bytes.fromhex("57fb808b247547db")
    return data + extra + table + places.ljust(40, b"\0") + magic


def main_op(node):
    """A collection with the operator that a loader runs at the start."""
    return field(4, field(1, "saved_model_main_op") + field(2, field(1, field(1, node))))


def all_tensorflow():
    """SavedModel and TensorFlow Lite."""
    operators = (
        "PyFunc",
        "PyFuncStateless",
        "EagerPyFunc",
        "ReadFile",
        "WriteFile",
        "MergeV2Checkpoints",
        "SaveV2",
        "RestoreV2",
        "LoadLibrary",
        "TFRecordDataset",
        "TextLineDataset",
        "ImmutableConst",
        "DebugNumericSummaryV2",
        "RpcCall",
        "DataServiceDataset",
        "MatchingFiles",
        "InitializeTableFromTextFileV2",
        "XlaCompileOnDemand",
        "RemoteCall",
        "TPUExecute",
        "TensorRTEngineOp",
        "HostileOp",
        "DebugIdentityV2",
        "SummaryWriter",
        "CreateSummaryFileWriter",
        "Abort",
        "Save",
        "ShardedFilename",
        "DiskCache",
        "CacheDataset",
    )
    for operator in operators:
        family = "".join(f"-{c.lower()}" if c.isupper() else c for c in operator).strip("-")
        yield f"saved-model-{family}", "saved_model.pb", saved_model(["Const", operator])
    stream = field(1, "output_stream") + field(2, field(2, "file:///tmp/x"))
    node = field(1, "n") + field(2, "PrintV2") + field(5, stream)
    graph = field(1, 1) + field(2, field(2, field(1, node)))
    yield "saved-model-print-v2", "saved_model.pb", graph
    yield "saved-model-in-function", "saved_model.pb", saved_model(["Const"], ["PyFunc"])
    yield "saved-model-upper-case", "SAVED_MODEL.PB", saved_model(["PyFunc"])
    yield (
        "saved-model-two-graphs",
        "saved_model.pb",
        saved_model(["Const"]) + saved_model(["PyFunc"]),
    )
    yield "saved-model-saver-constant", "saved_model.pb", saver("path")
    yield "saved-model-saver-input", "saved_model.pb", saver("x")
    yield "saved-model-saver-main", "saved_model.pb", saver("save/Const", main_op("save/SaveV2"))
    yield "saved-model-saver-load", "saved_model.pb", saver("save/Const", restore="save/SaveV2")
    yield "saved-model-saver-two", "saved_model.pb", saver("save/Const", field(3, field(1, "x:0")))
    yield "saved-model-fingerprint", "fingerprint.pb", field(1, 7) + field(9, b"x" * 600)
    yield "saved-model-index-variant", "variables.index", index(21)
    yield "saved-model-state", "checkpoint", b'model_checkpoint_path: "/tmp/model"\n'
    yield "saved-model-truncated", "saved_model.pb", saved_model(["Const", "PyFunc"])[:-3]
    yield (
        "saved-model-text",
        "saved_model.pbtxt",
        (
            b"saved_model_schema_version: 1\n"
            b'meta_graphs { graph_def { node { name: "a" op: "PyFunc" } } }\n'
        ),
    )
    yield (
        "saved-model-text-escaped",
        "saved_model.pbtxt",
        (b"meta_graphs < graph_def < node < op: \"Py\" '\\x46unc' > > >\n"),
    )
    yield "saved-model-zip", "model.zip", archive(("m/saved_model.pb", saved_model(["PyFunc"])))
    yield "frozen-graph", "frozen_graph.pb", field(1, field(1, "a") + field(2, "PyFunc"))
    yield (
        "checkpoint-meta",
        "model.ckpt.meta",
        field(2, field(1, field(1, "a") + field(2, "PyFunc"))),
    )
    yield "tflite-custom", "model.tflite", tflite([[("i8", 32), ("text", "Hostile")]])
    yield "tflite-flex", "model.tflite", tflite([[("i8", 32), ("text", "FlexReadFile")]])
    yield (
        "tflite-buffer-outside",
        "model.tflite",
        tflite([], [[None, ("u64", 1 << 40), ("u64", 64)]]),
    )
    yield "tflite-offset", "model.tflite", struct.pack("<I", 0x7FFFFFF0) + b"TFL3" + bytes(32)
    yield "tflite-vtable", "model.tflite", struct.pack("<I", 8) + b"TFL3" + b"\xff" * 32
    yield "tflite-zip", "model.tflite", tflite([]) + archive(("labels.pkl", HOSTILE))
    yield "tflite-packed", "model.tflite", packed(tflite([]), "labels.pkl", HOSTILE)


def flat(value):
    """A value of FlatBuffers: its bytes, and the offsets in it that refer to others."""
    kind, content = value
    packed = {"i8": "<bxxx", "u32": "<I", "u64": "<Q"}.get(kind)
    return (struct.pack(packed, content), None) if packed else (bytes(4), value)


def write(out, value):
    """Appends a table, a vector of tables or a text, and returns where it begins."""
    kind, content = value
    out.extend(bytes(-len(out) % 8))
    if kind == "text":
        start = len(out)
        out.extend(struct.pack("<I", len(content)) + content.encode() + b"\0")
        return start
    later = []
    if kind == "vector":
        start = len(out)
        out.extend(struct.pack("<I", len(content)))
        for table in content:
            later.append((len(out), ("table", table)))
            out.extend(bytes(4))
    else:
        # Four bytes of the table are the distance to its list of fields.
        fields, body = [], b""
        for member in content:
            body += bytes(-(len(body) + 4) % 8) if member and member[0] == "u64" else b""
            fields.append(len(body) + 4 if member else 0)
            data, other = flat(member) if member else (b"", None)
            later.extend([(fields[-1], other)] if other else [])
            body += data
        table = struct.pack("<HH", 4 + 2 * len(fields), 4 + len(body))
        table += b"".join(struct.pack("<H", f) for f in fields)
        table = bytes(-len(table) % 8) + table
        padding = len(table) - 4 - 2 * len(fields)
        out.extend(table)
        start = len(out)
        out.extend(struct.pack("<i", len(table) - padding) + body)
        later = [(start + at, other) for at, other in later]
    for at, other in later:
        out[at : at + 4] = struct.pack("<I", write(out, other) - at)
    return start


def packed(model, name, content):
    """A model with a file behind it, as tools for metadata append it."""
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def tflite(operators, buffers=([],)):
    """A model of TensorFlow Lite with these codes of operators and these buffers."""
    out = bytearray(b"\0\0\0\0TFL3")
    model = [("u32", 3), ("vector", operators), ("vector", []), None, ("vector", list(buffers))]
    out[:4] = struct.pack("<I", write(out, ("table", model)))
    return bytes(out)


def fixtures():
    """Families with the name of the file and its content."""
    yield from all_safetensors()
    yield from all_gguf()
    yield from all_onnx()
    yield from all_tensorflow()


def controls():
    """Files of data."""
    yield "control-safetensors", "a.safetensors", safetensors(TWO)
    arch = ("general.architecture", 8, string("llama"))
    yield "control-gguf", "a.gguf", gguf([arch], [("a", (8,), 0, 0)], bytes(32))
    yield "control-onnx", "a.onnx", onnx(node("Relu"))
    tile = node("Tile", inputs=("x", "r"))
    yield "control-onnx-tile", "a.onnx", onnx(tile, constant("r", 1, 2), constant("w", 1 << 40))
    pad = node("Pad", inputs=("x", "r"))
    yield "control-onnx-pad", "a.onnx", onnx(pad, constant("r", 9, 9, 9, 9))
    yield "control-onnx-sparse", "a.onnx", sparse_zeros(1 << 20)
    yield "control-saver", "saved_model.pb", saver("save/Const")
    yield "control-index", "variables.index", index(1)
    yield "control-fingerprint", "fingerprint.pb", field(6, field(1, 4)) + field(1, 7)
    yield "control-saved-model", "saved_model.pb", saved_model(["Const"], ["AddV2"])
    yield "control-tflite", "a.tflite", tflite([[("i8", 0)]])
    yield "control-tflite-packed", "a.tflite", packed(tflite([]), "labels.txt", b"cat\ndog\n")
