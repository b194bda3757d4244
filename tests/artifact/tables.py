"""Compares what the scanner knows with the names that the newest packages have.

    python tests/artifact/tables.py TENSORGATE TORCH [FOLDER]

The scanner judges a small file for each name: a tensor of each type of GGUF and of safetensors, an
ONNX model for each operator, type and field, a Keras archive for each class and function, a pickle
for each global that `torch.load` accepts by itself, a configuration for each type of PyTorch. A
name whose file is not safe is printed, and without a reason in `REASONS` the script exits with 1.

The packages are pinned in `tools/requirements-tables.txt`; a newer version shows what is missing.
TORCH has those sources of PyTorch that hold its lists, because its library is large.
"""

import collections
import inspect
import io
import json
import os
import pathlib
import re
import struct
import sys
import tempfile
import zipfile

from hostile import scan
from hostile_tensors import gguf, string

os.environ.setdefault("KERAS_BACKEND", "numpy")

#: Names whose files are rightly not safe: a table, a pattern for the whole name, and why.
REASONS = [
    ("GGUF types", r"Q8_1 \(9\)", "only computed with, never stored"),
    ("Keras classes", r"keras\.layers\.(Lambda|TorchModuleWrapper)", "runs code of the file"),
    ("Keras classes", r"keras\.layers\.(FlaxLayer|JaxLayer|TFSMLayer)", "runs code of the file"),
    (
        "Keras classes",
        r"keras\.((InputSpec|Function|Initializer|Layer|Loss|Metric|Operation|Optimizer|Quantizer"
        r"|Regularizer)|constraints\.Constraint|layers\.Wrapper"
        r"|optimizers\.schedules\.LearningRateSchedule"
        r"|src\.ops\.(function\.Function|math\.SegmentReduction|operation\.Operation))",
        "a base class, which no model has",
    ),
    (
        "Keras classes",
        r"keras\.src\.ops\.(core\.(AssociativeScan|Cond|ForiLoop|Map|Scan|Switch|VectorizedMap"
        r"|WhileLoop)|linalg\.JVP)",
        "calls functions, which Keras writes as code",
    ),
    ("ONNX fields", "a field that ONNX lacks", "shows that such a field is found"),
    ("ONNX Runtime operators", r"com\.microsoft\.EPContext", "has a compiled program"),
    ("ONNX Runtime operators", r"com\.microsoft\.Snpe", "has a program for a processor"),
    ("PyTorch globals", r"torch\._utils\._rebuild_wrapper_subclass", "needs a package's class"),
    ("PyTorch globals", r"torch\.storage\.TypedStorage", "the base of those that files name"),
]
#: Types that llama.cpp has and no release of its package: elements and bytes of a block.
NEW_GGUF_TYPES = {("Q2_0", 42): (64, 18)}
#: The files of PyTorch with its lists.
TORCH_SOURCES = [
    "__init__.py", "_C/__init__.pyi", "_weights_only_unpickler.py", "cuda/__init__.py",
]
#: Second names of types of PyTorch, which it does not write.
TYPE_ALIASES = {
    "cdouble", "cfloat", "chalf", "double", "float", "half", "int", "long", "short",
}


def archive(members):
    """A zip file of these members, without compression."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()


def gguf_types():
    """A model for each type of tensors, and one for each type of values."""
    from gguf.constants import GGML_QUANT_SIZES, GGUFValueType

    architecture = ("general.architecture", 8, string("llama"))
    known = {(kind.name, int(kind)): sizes for kind, sizes in GGML_QUANT_SIZES.items()}
    for (name, number), (block, size) in {**known, **NEW_GGUF_TYPES}.items():
        content = gguf([architecture], [("a", (block,), number, 0)], bytes(size))
        yield f"{name} ({number})", "model.gguf", content
    empty_array = struct.pack("<IQ", int(GGUFValueType.UINT32), 0)
    for kind in GGUFValueType:
        value = {"STRING": string("a"), "ARRAY": empty_array}.get(kind.name)
        if value is None:
            value = bytes(8 if "64" in kind.name else 4 if "32" in kind.name else
                          2 if "16" in kind.name else 1)
        content = gguf([architecture, ("a", int(kind), value)], data=b"")
        yield f"value {kind.name} ({int(kind)})", "model.gguf", content


def safetensors_file(dtype, elements, size):
    """A file with one tensor."""
    tensor = {"dtype": dtype, "shape": [elements], "data_offsets": [0, size]}
    header = json.dumps({"a": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


def safetensors_types():
    """A file for each type. The reader names them all in its message on a type that is none."""
    import safetensors

    def fault(dtype, elements, size):
        try:
            safetensors.deserialize(safetensors_file(dtype, elements, size))
        except safetensors.SafetensorError as error:
            return str(error)
        return ""

    names = re.findall("`([^`]+)`", fault("?", 1, 1).partition("expected one of")[2])
    assert len(names) >= 20, "the message of safetensors has changed"
    for name in names:
        size = next(size for size in range(1, 257) if not fault(name, 8, size))
        yield name, "model.safetensors", safetensors_file(name, 8, size)


def onnx_model(nodes=(), tensors=(), domain=""):
    """An ONNX model."""
    from onnx import TensorProto, helper

    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", [], [output], list(tensors))
    imports = [helper.make_opsetid(name, 1) for name in {"", domain}]
    return helper.make_model(graph, opset_imports=imports)


def operator_files(names):
    """A model for each operator, by domain and name."""
    from onnx import helper

    for domain, name in sorted(names):
        node = helper.make_node(name, ["x"], ["y"], domain=domain)
        model = onnx_model([node], domain=domain)
        yield f"{domain or 'ai.onnx'}.{name}", "model.onnx", model.SerializeToString()


def onnx_operators():
    """All operators that ONNX has or had."""
    import onnx

    schemas = onnx.defs.get_all_schemas_with_history()
    return operator_files({(schema.domain, schema.name) for schema in schemas})


def onnx_runtime_operators():
    """All operators of ONNX Runtime."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    schemas = runtime.get_all_operator_schema()
    return operator_files({(schema.domain, schema.name) for schema in schemas})


def onnx_types():
    """A model for each type of elements, with values as ONNX stores them and as bytes."""
    from onnx import TensorProto, helper, numpy_helper

    for name, kind in TensorProto.DataType.items():
        if kind == TensorProto.UNDEFINED:
            continue
        is_text = kind == TensorProto.STRING
        tensor = helper.make_tensor("t", kind, [8], [b"a"] * 8 if is_text else [0] * 8)
        forms = {"values": tensor}
        if not is_text:
            forms["bytes"] = numpy_helper.from_array(numpy_helper.to_array(tensor), "t")
        for form, content in forms.items():
            model = onnx_model([helper.make_node("Identity", ["t"], ["y"])], [content])
            yield f"{name} ({kind}), {form}", "model.onnx", model.SerializeToString()


def onnx_fields():
    """A message for each field of each message within a model, with nothing else."""
    import onnx

    paths, waiting = {onnx.ModelProto.DESCRIPTOR.full_name: []}, [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop(0)
        path = paths[message.full_name]
        for field in message.fields:
            model = innermost = onnx.ModelProto()
            for step in [*path, field]:
                innermost = set_field(innermost, step)
            content = model.SerializeToString()
            yield f"{message.full_name}.{field.name} ({field.number})", "model.onnx", content
            if field.message_type and field.message_type.full_name not in paths:
                paths[field.message_type.full_name] = [*path, field]
                waiting.append(field.message_type)
    # An empty text of field 999.
    yield "a field that ONNX lacks", "model.onnx", b"\xba\x3e\x00"


def set_field(message, field):
    """Sets a field of a message to anything, and returns the message that it is."""
    if field.message_type:
        value = getattr(message, field.name)
        if field.is_repeated:
            return value.add()
        value.SetInParent()
        return value
    value = {field.TYPE_STRING: "a", field.TYPE_BYTES: b"a"}.get(field.type, 1)
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)
    return None


def keras_archive(value):
    """A Keras archive whose layer has this value in its configuration."""
    layers = [
        {"module": "keras.layers", "class_name": name, "config": config, "registered_name": None}
        for name, config in (("InputLayer", {}), ("Dense", {"value": value}))
    ]
    model = {
        "module": "keras", "class_name": "Sequential", "registered_name": "Sequential",
        "config": {"name": "m", "layers": layers},
    }
    return archive({"metadata.json": "{}", "config.json": json.dumps(model)})


def keras_classes():
    """An archive for each class that Keras writes into configurations, under the name it writes."""
    import keras
    from keras.src import api_export, ops

    names = {
        name
        for symbol, name in api_export.REGISTERED_OBJS_TO_NAMES.items()
        if inspect.isclass(symbol) and hasattr(symbol, "from_config")
    }
    modules = [module for _, module in inspect.getmembers(ops, inspect.ismodule)]
    for module in modules:
        for name, symbol in inspect.getmembers(module, inspect.isclass):
            if issubclass(symbol, keras.Operation) and symbol.__module__ == module.__name__:
                names.add(f"{module.__name__}.{name}")
    for name in sorted(names):
        module, _, class_name = name.rpartition(".")
        value = {
            "module": module, "class_name": class_name, "config": {}, "registered_name": None,
        }
        yield name, "model.keras", keras_archive(value)


def keras_functions():
    """An archive for each function of an activation, a loss or a metric."""
    import keras

    for module in (keras.activations, keras.losses, keras.metrics):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name in ("deserialize", "get", "serialize"):
                continue
            value = keras.saving.serialize_keras_object(function)
            yield f"{module.__name__}.{name}", "model.keras", keras_archive(value)


def torch_types(sources):
    """The types of elements of PyTorch, without their second names."""
    declared = re.findall(r"^(\w+): dtype = ", sources["_C/__init__.pyi"], re.MULTILINE)
    # Narrow integers are made by a loop, and declared nowhere.
    narrow = [f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)]
    return sorted({*declared, *narrow} - TYPE_ALIASES)


def torch_globals(sources):
    """A checkpoint for each global that `torch.load` accepts without being told of it."""
    unpickler, package = sources["_weights_only_unpickler.py"], sources["__init__.py"]
    names = {f"torch.{name}" for name in torch_types(sources)}
    names.update(re.findall(r'^ +"(\w+\.[\w.]+)": ', unpickler, re.MULTILINE))
    names.update(re.findall(r"torch\._utils\._rebuild_\w+|torch\.per_\w+", unpickler))
    names.update(re.findall(r'rc\["(torch\.[\w.]+)"\]', unpickler))
    storages = re.search(r"^_storage_classes: .*?\{(.*?)\}", package, re.MULTILINE | re.DOTALL)
    for name in re.findall(r"\w+", storages[1]):
        is_base = name in ("TypedStorage", "UntypedStorage")
        names.add(f"torch.storage.{name}" if is_base else f"torch.{name}")
    on_device = re.findall(r"\nclass ([A-Z]\w+Storage)\(", sources["cuda/__init__.py"])
    names.update(f"torch.cuda.{name}" for name in on_device)
    for name in re.findall(r"\nclass (\w+Tensor)\(Tensor\)", sources["_C/__init__.pyi"]):
        parts = ("", "cuda.") if name == "BoolTensor" else ("", "cuda.", "sparse.", "cuda.sparse.")
        names.update(f"torch.{part}{name}" for part in parts)
    assert len(names) > 140, "the lists of PyTorch stand elsewhere now"
    for name in sorted(names):
        module, _, attribute = name.rpartition(".")
        program = b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b"."
        checkpoint = {"m/data.pkl": program, "m/byteorder": "little", "m/version": "3\n"}
        yield name, "model.pt", archive(checkpoint)


def configurations(sources):
    """A configuration of Hugging Face for each type of elements."""
    for name in torch_types(sources):
        for form in (name, f"torch.{name}"):
            config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": form}
            yield form, "config.json", json.dumps(config).encode()


def is_not_safe(report):
    """Whether the scanner does not know all of a file."""
    return report["verdict"] != "safe"


def imports_unknown(report):
    """Whether the scanner does not know a global. How it is used does not matter."""
    return any(finding["rule"] == "pickle-global" for finding in report["findings"])


def lacks_field(report):
    """Whether the scanner does not know a field. What it says of the values does not matter."""
    return any("has no field" in finding["detail"] for finding in report["findings"])


def tables(sources):
    """The tables: a name, files by name, and whether a report shows that a name is missing."""
    return [
        ("GGUF types", gguf_types(), is_not_safe),
        ("safetensors types", safetensors_types(), is_not_safe),
        ("ONNX operators", onnx_operators(), is_not_safe),
        ("ONNX Runtime operators", onnx_runtime_operators(), is_not_safe),
        ("ONNX types", onnx_types(), is_not_safe),
        ("ONNX fields", onnx_fields(), lacks_field),
        ("Keras classes", keras_classes(), is_not_safe),
        ("Keras functions", keras_functions(), is_not_safe),
        ("PyTorch globals", torch_globals(sources), imports_unknown),
        ("PyTorch types in configurations", configurations(sources), is_not_safe),
    ]


def reason(table, name):
    """Why the file of a name is rightly not safe. None if it should be."""
    for of, pattern, text in REASONS:
        if of == table and re.fullmatch(pattern, name):
            return text
    return None


def main():
    """Prints how many names each table has, and those that are missing."""
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    torch = pathlib.Path(sys.argv[2])
    sources = {name: (torch / name).read_text(encoding="utf-8") for name in TORCH_SOURCES}
    root = pathlib.Path(sys.argv[3] if len(sys.argv) == 4 else tempfile.mkdtemp(prefix="tables-"))
    rows = []
    for table, files, is_missing in tables(sources):
        for name, file, content in files:
            path = root / str(len(rows)) / file
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
            rows.append((table, name, path, is_missing))
    reports = {report["path"]: report for report in scan(sys.argv[1], root)}
    counts = {table: collections.Counter() for table, *_ in rows}
    for table, name, path, is_missing in rows:
        report, why = reports[str(path)], reason(table, name)
        outcome = "right"
        if is_missing(report):
            outcome = "with a reason" if why else "missing"
        elif why:
            outcome = "safe in spite of a reason"
        counts[table][outcome] += 1
        if outcome not in ("right", "with a reason"):
            causes = "; ".join(f"{f['rule']}: {f['detail']}" for f in report["findings"][:2])
            print(f"{outcome}: {table}: {name}: {report['verdict']}: {causes or why}")
    for table, found in counts.items():
        figures = ", ".join(f"{count} {outcome}" for outcome, count in found.items())
        print(f"{sum(found.values()):5} {table}: {figures}")
    wrong = sum(found["missing"] + found["safe in spite of a reason"] for found in counts.values())
    print(f"{len(rows)} names, {wrong} wrong, in {root}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
