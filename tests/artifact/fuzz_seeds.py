"""Writes the seeds of the fuzz targets of `model scan`.

They are small fixtures of `hostile.py`, and files of data that reach what is behind the first
checks.

    python3 tests/artifact/fuzz_seeds.py [FOLDER]

The folder is `fuzz/seeds`. The first byte of a seed selects the name of the file, by its position
in `fuzz/src/model_scan/formats.rs`. Its highest bit says that members of an archive follow, as
`fuzz/src/model_scan/archive.rs` reads them.
"""

import json
import pathlib
import struct
import sys

import hostile
import hostile_cards
import hostile_folders
import hostile_tensors
from hostile_tensors import external, field, node, onnx

#: The target of a file by its ending, and the position of a name with this ending.
BY_ENDING = {
    ".gguf": ("gguf", 0),
    ".h5": ("hdf5", 0),
    ".gif": ("picture", 2),
    ".jinja": ("jinja", 0),
    ".joblib": ("joblib", 0),
    ".json": ("json", 0),
    ".keras": ("zip", 1),
    ".jpg": ("picture", 1),
    ".mar": ("zip", 2),
    ".md": ("text", 1),
    ".model": ("sentencepiece", 0),
    ".nemo": ("tar", 0),
    ".npy": ("numpy", 0),
    ".npz": ("numpy", 1),
    ".onnx": ("onnx", 0),
    ".pb": ("saved_model", 0),
    ".pbtxt": ("saved_model", 1),
    ".pkl": ("pickle", 0),
    ".png": ("picture", 0),
    ".pt2": ("zip", 3),
    ".safetensors": ("safetensors", 0),
    ".tar": ("tar", 0),
    ".tflite": ("tflite", 0),
    ".ubj": ("xgboost", 1),
    ".webp": ("picture", 3),
    ".yaml": ("yaml", 0),
    ".yml": ("yaml", 5),
    ".zip": ("zip", 0),
}
#: Fixtures whose ending does not tell the format, by the beginning of their names.
BY_FAMILY = {
    "lightgbm-": ("lightgbm", 0),
    "triton-": ("triton", 0),
    "xgboost-cut": ("xgboost", 0),
}
#: Files that end in `.pt`, by their first bytes.
BY_CONTENT = {b"PK": ("torch", 0), b"\x80\x02\x8a\x0a": ("torch_legacy", 0)}
#: The most fixtures of a target, and the longest, bytes.
MAX_FIXTURES, MAX_BYTES = 14, 1_100
ARCHIVE = 0x80
DEFLATED = 0x80

STATE = (
    b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n"
    b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x02tQ"
    b"K\0K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs."
)
ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nt"
    b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nC\x08abcdefghtb."
)
NPY_HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
NPY = b"\x93NUMPY\x01\0\x46\0" + NPY_HEADER.ljust(69) + b"\n" + bytes(8)
LEGACY = (
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
    b"\x80\x02}(X\x10\0\0\0protocol_versionM\xe9\x03X\x0d\0\0\0little_endian\x88u."
    b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n"
    b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x02NtQ"
    b"K\0K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs."
    b"\x80\x02]X\x01\0\0\x000a." + struct.pack("<Q", 2) + bytes(8)
)


def joblib_array():
    """A pickle of joblib with one array."""
    pickle = (
        b"\x80\x02cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}("
        b"\x8c\x08subclasscnumpy\nndarray\n\x8c\x05shapeK\x02K\x01\x86\x8c\x05order\x8c\x01C"
        b"\x8c\x05dtypecnumpy\ndtype\n\x8c\x02f4\x89\x88\x87R\x8c\nallow_mmap\x88"
        b"\x8c\x1bnumpy_array_alignment_bytesK\x10ub"
    )
    padding = 16 - (len(pickle) + 1) % 16
    return pickle + bytes([padding]) + b"\xff" * padding + bytes(8) + b"."


def members(*contents):
    """Members of an archive: the position of the name, perhaps `DEFLATED`, and the content."""
    return b"".join(struct.pack("<BH", name, len(content)) + content for name, content in contents)


def ubjson(value):
    """A value in UBJSON as XGBoost writes it: lists of numbers of one type have it before them."""
    if isinstance(value, dict):
        members = (ubjson(key)[1:] + ubjson(part) for key, part in value.items())
        return b"{" + b"".join(members) + b"}"
    if isinstance(value, str):
        return b"SL" + struct.pack(">q", len(value)) + value.encode()
    if isinstance(value, int):
        return b"l" + struct.pack(">i", value)
    if isinstance(value, float):
        return b"d" + struct.pack(">f", value)
    count = b"#L" + struct.pack(">q", len(value))
    kinds = {type(part) for part in value}
    if kinds in ({int}, {float}):
        kind = ubjson(value[0])[:1]
        return b"[$" + kind + count + b"".join(ubjson(part)[1:] for part in value)
    return b"[" + count + b"".join(map(ubjson, value))


def data():
    """Files of data: target, name of the seed, first byte, content."""
    yield "pickle", "array", 0, ARRAY
    yield "pickle", "stack-global", 0, (
        b"\x80\x04\x95\x1f\0\0\0\0\0\0\0\x8c\x0bcollections\x94"
        b"\x8c\x0bOrderedDict\x94\x93\x94)R\x94."
    )
    yield "pickle", "two", 0, b"\x80\x03}q\0.\x80\x04]\x94(K\x01K\x02e."
    yield "pickle", "memo", 0, b"(lp0\nI1\naF1.5\naL5L\na(dp1\nVtext\np2\ng2\nsa."
    yield "joblib", "array", 0, joblib_array()
    yield "torch_legacy", "state", 0, LEGACY
    yield "torch", "state", ARCHIVE, members((0, STATE), (1, b"3\n"), (2, bytes(8)))
    packed = members((DEFLATED, STATE), (1, b"3\n"), (2 | DEFLATED, bytes(8)))
    yield "torch", "deflated", ARCHIVE, packed
    yield "numpy", "archive", ARCHIVE | 1, members((0, NPY), (1 | DEFLATED, NPY))
    config = json.dumps(hostile_folders.sequential()).encode()
    yield "zip", "keras", ARCHIVE | 1, members((0, config), (1, b"{}"), (3, b"a\n"))
    manifest = b'{"model":{"handler":"handler.py"}}'
    yield "zip", "mar", ARCHIVE | 2, members((4, manifest), (5 | DEFLATED, b"import os\n"))
    yield "zip", "folder", ARCHIVE, members((6, ARRAY), (11, b"{{ messages }}"))
    yield "tar", "torch", ARCHIVE | 1, members((1, b"\x80\x02}."), (0, b"\x80\x02}."))
    yield "tar", "folder", ARCHIVE, members((4, ARRAY), (5, b"{}"), (7, b"a\n"))
    yield "json", "index", 0, b'{"weight_map":{"a.b":"model-00001-of-00002.safetensors"}}'
    yield "json", "template", 0, json.dumps({
        "chat_template": "{% for m in messages %}{{ m['role'] + '\\n' }}{% endfor %}",
    }).encode()
    yield "jinja", "loop", 0, (
        b"{%- set ns = namespace(a=0) -%}{% for m in messages if m.role == 'user' %}"
        b"{{ m['content'] | trim }}{% elif x is defined %}{% endfor %}{# note #}"
    )
    yield "jinja", "macro", 0, b"{% macro f(a, b=1) %}{{ a[:2] ~ b }}{% endmacro %}{{ f(1) }}"
    yield "onnx", "external", 2, onnx(
        node("Relu"), field(5, external("w.data")), field(5, external("w.data", "4"))
    )
    tree = {
        "base_weights": [0.5, 1.0, 2.0], "categories": [0, 3], "categories_nodes": [0],
        "categories_segments": [0], "categories_sizes": [2], "default_left": [0, 1, 0], "id": 0,
        "left_children": [1, -1, -1], "loss_changes": [1.0, 0.0, 0.0],
        "parents": [2147483647, 0, 0], "right_children": [2, -1, -1],
        "split_conditions": [0.5, 1.0, 2.0], "split_indices": [1, 0, 0], "split_type": [1, 0, 0],
        "sum_hessian": [2.0, 1.0, 1.0], "tree_param": {"num_nodes": "3", "size_leaf_vector": "1"},
    }
    columns = [{"offsets": [0, 2], "values": [1, 2]}, {"type": 15, "values": [7]}]
    cats = {"enc": columns, "feature_segments": [0, 1, 2], "sorted_idx": [0, 0]}
    booster = {"model": {"cats": cats, "tree_info": [0], "trees": [tree]}, "name": "gbtree"}
    parameters = {"num_class": "0", "num_feature": "2", "num_target": "1"}
    learner = {"gradient_booster": booster, "learner_model_param": parameters}
    model = {"learner": learner, "version": [3, 2, 0]}
    yield "xgboost", "json", 0, json.dumps(model, separators=(",", ":")).encode()
    yield "xgboost", "ubjson", 1, ubjson(model)
    yield "lightgbm", "trees", 0, (
        b"tree\nversion=v4\nnum_class=1\nmax_feature_idx=1\nfeature_names=a b\ntree_sizes=230\n\n"
        b"Tree=0\nnum_leaves=3\nnum_cat=1\nsplit_feature=1 0\nthreshold=0 0.5\n"
        b"decision_type=1 2\nleft_child=-1 -2\nright_child=1 -3\nleaf_value=1 2 3\n"
        b"cat_boundaries=0 1\ncat_threshold=5\nis_linear=1\nnum_features=1 0 0\n"
        b"leaf_features=1\nleaf_coeff=2\n\n\nend of trees\n\n"
        b"feature_importances:\na=1\n\nparameters:\n[boosting: gbdt]\n\nend of parameters\n\n"
        b"pandas_categorical:null\n"
    )
    yield "sentencepiece", "notes", 0, (
        hostile_cards.PIECE
        + hostile_cards.field(2, hostile_cards.field(1, b"corpus.txt") + b"\x18\x02")
        + hostile_cards.field(3, hostile_cards.field(2, hostile_cards.charsmap(2)))
    )
    yield "triton", "fields", 0, (
        b"# A model\nname: 'a' \"b\\x41\" max_batch_size: 0x8; "
        b"input [ < name: \"x\" dims: [ 1, -1 ] > ]"
        b"\nparameters { key: \"execution_mode\" value { string_value: \"0\" } }\n"
    )
    yield "saved_model", "saver", 0, hostile_tensors.saver("save/Const")
    yield "saved_model", "index", 2, hostile_tensors.index(1)
    yield "saved_model", "fingerprint", 3, bytes.fromhex("0886c29789f7e891e7f30132020801")
    yield "saved_model", "layers", 4, b"\x0a\x21\x22\x0f_tf_keras_layer\x2a\x0e{\"units\": 2.5}"
    yield "saved_model", "state", 5, b'model_checkpoint_path: "ckpt-1"\n'
    yield "text", "plug-ins", 0, b"[mlflow.tracking]\nx = hostile:Store\n"
    yield "json", "settings", 4, b'{"implementation":"mlserver_sklearn.SKLearnModel"}'
    yield "yaml", "anchors", 0, b"a: 1\nb:\n  - &x c\n  - *x\n"
    yield "yaml", "merge", 2, b"a: &x {import_path: b}\nc:\n  <<: [*x, {d: e}]\n"
    yield "yaml", "spelled", 5, b'? "_tar\\\n  get_"\n: x\n"\\x61": |\n  b\n...\n---\nc: \'d\'\n'
    yield "yaml", "model", 1, b"flavors:\n  python_function: {loader_module: mlflow.sklearn}\n"
    yield "yaml", "sections", 6, b"[loggers]\nkeys=root\n[handler_a]\nargs=(1,)\n"
    yield "text", "packages", 2, b"numpy==2.0\n"
    yield "text", "blob", 5, b"\x01\x02\x03"


def target_of(family, name, content):
    """The target of a fixture, and the first byte of its seed; nothing if it has none."""
    for beginning, target in BY_FAMILY.items():
        if family.startswith(beginning):
            return target
    ending = pathlib.PurePath(name).suffix.lower()
    if ending != ".pt":
        return BY_ENDING.get(ending)
    known = (target for mark, target in BY_CONTENT.items() if content.startswith(mark))
    return next(known, ("tar", 1))


def fixtures():
    """The small fixtures of each target: name, first byte, content. Files of data come first."""
    found = {}
    for cases in ([case for module in hostile.MODULES for case in module.controls()],
                  [case for module in hostile.MODULES for case in module.fixtures()]):
        for family, judged, content in cases:
            if isinstance(content, dict) or not isinstance(content, bytes):
                continue
            target = target_of(family, judged, content)
            if target is None:
                continue
            if target[0] == "tar":
                # The end of a tar is two blocks. Writers fill it up.
                content = content.rstrip(b"\0")
                content += bytes(-len(content) % 512 + 1_024)
            if len(content) <= MAX_BYTES or (target[0] == "tar" and len(content) <= 3_072):
                found.setdefault(target[0], []).append((family, target[1], content))
    return found


def main():
    """Writes the seeds."""
    root = pathlib.Path(__file__).resolve().parents[2] / "fuzz" / "seeds"
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root
    seeds = [(f"scan_{target}", name, first, content) for target, name, first, content in data()]
    for target, cases in fixtures().items():
        # Evenly over all, because neighbours are alike.
        step = max(1, -(-len(cases) // MAX_FIXTURES))
        seeds += [(f"scan_{target}", *case) for case in cases[::step]]
    total = 0
    for target, name, first, content in seeds:
        path = folder / target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([first]) + content)
        total += 1 + len(content)
    print(f"{len(seeds)} seeds, {total} bytes")


if __name__ == "__main__":
    main()
