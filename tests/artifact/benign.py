"""Makes several hundred benign model files with the libraries that write them, and scans them.

    python tests/artifact/benign.py FOLDER [--tensorgate PROGRAM] [--also FOLDER]...

Each file holds data alone, so a verdict other than `safe` is a false refusal, and the script
lists it with its findings and exits with 1. `EXPECTED` has the exceptions. `--also` scans
further folders, such as installed packages that carry weights; there only refusals of model
files are listed.

The libraries are pinned in `tools/requirements-benign.txt`. One that is not installed is named,
and its formats are left out.
"""

import argparse
import collections
import io
import itertools
import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np

SHAPES = [(), (0,), (1,), (3,), (2, 3), (0, 4), (2, 0, 3), (4, 5, 6), (1, 1, 1, 1), (257,)]
NUMPY_TYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
]
#: Endings of files of `--also` that are models; the others there are programs and notes.
MODEL_ENDINGS = {
    ".bin", ".gguf", ".jinja", ".joblib", ".json", ".keras", ".npy", ".npz", ".onnx", ".pb",
    ".pickle", ".pkl", ".pt", ".pth", ".safetensors", ".tflite", ".ubj",
}

#: Files with another verdict than `safe`, by a pattern of their path, and why.
EXPECTED = [
    # Objects of classes.
    ("estimators/*", "executable"),
    # HDF5 is not followed.
    ("keras/*", "unknown"),
    # The layout of structures in pickles is not checked.
    ("joblib/structure.joblib", "executable"),
    ("pickle/np-structure-*.pkl", "unknown"),
    # Its data is one line of more than a megabyte.
    ("pickle/np-large-0.pkl", "unknown"),
    # Only little-endian files, and types that tensors are stored in.
    ("gguf/big-endian.gguf", "unknown"),
    ("gguf/type-q8_1.gguf", "unknown"),
    # An archive without members.
    ("npz/*-empty.npz", "unknown"),
    # Servers may install what it lists before they load the model.
    ("huggingface/requirements.txt", "unknown"),
    # Python writes NaN, which is no JSON.
    ("huggingface/trainer_state.json", "malformed"),
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
    try:
        import ml_dtypes
    except ImportError:
        return
    for name in ["bfloat16", "float8_e4m3fn", "float8_e5m2"]:
        values = {"a": array(getattr(ml_dtypes, name), (2, 4))}
        save_file(values, out.path("safetensors", f"{name}.safetensors"))


#: Templates as the families of models publish them.
TEMPLATES = {
    "chatml": (
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
        "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama-2": (
        "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
        "{% set system_message = messages[0]['content'] %}{% else %}"
        "{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
        "{% for message in loop_messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/...') }}"
        "{% endif %}{% if loop.index0 == 0 and system_message != false %}"
        "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + "
        "message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}"
        "{% if message['role'] == 'user' %}"
        "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}"
        "{% endif %}{% endfor %}"
    ),
    "llama-3": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}"
        "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ "
        "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
        "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    ),
    "llama-3.1": (
        "{{- bos_token }}\n{%- if custom_tools is defined %}\n"
        "    {%- set tools = custom_tools %}\n{%- endif %}\n"
        "{%- if not tools_in_user_message is defined %}\n"
        "    {%- set tools_in_user_message = true %}\n{%- endif %}\n"
        "{%- if not date_string is defined %}\n"
        "    {%- if strftime_now is defined %}\n"
        "        {%- set date_string = strftime_now(\"%d %b %Y\") %}\n    {%- else %}\n"
        "        {%- set date_string = \"26 Jul 2024\" %}\n    {%- endif %}\n{%- endif %}\n"
        "{%- if not tools is defined %}\n    {%- set tools = none %}\n{%- endif %}\n\n"
        "{#- This block extracts the system message. #}\n"
        "{%- if messages[0]['role'] == 'system' %}\n"
        "    {%- set system_message = messages[0]['content']|trim %}\n"
        "    {%- set messages = messages[1:] %}\n{%- else %}\n"
        "    {%- set system_message = \"\" %}\n{%- endif %}\n"
        "{%- if builtin_tools is defined or tools is not none %}\n"
        "    {{- \"Environment: ipython\\n\" }}\n{%- endif %}\n"
        "{%- if builtin_tools is defined %}\n"
        "    {{- \"Tools: \" + builtin_tools | reject('equalto', 'code_interpreter') | "
        "join(\", \") + \"\\n\\n\"}}\n{%- endif %}\n"
        "{%- for message in messages %}\n"
        "    {%- if not (message.role == 'ipython' or message.role == 'tool' or "
        "'tool_calls' in message) %}\n"
        "        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ "
        "message['content'] | trim + '<|eot_id|>' }}\n"
        "    {%- elif 'tool_calls' in message %}\n"
        "        {%- if not message.tool_calls|length == 1 %}\n"
        "            {{- raise_exception(\"This model only supports single tool-calls\") }}\n"
        "        {%- endif %}\n"
        "        {%- set tool_call = message.tool_calls[0].function %}\n"
        "        {%- for arg_name, arg_val in tool_call.arguments | items %}\n"
        "            {{- arg_name + '=\"' + arg_val + '\"' }}\n"
        "            {%- if not loop.last %}\n                {{- \", \" }}\n"
        "            {%- endif %}\n        {%- endfor %}\n"
        "    {%- elif message.role == \"tool\" or message.role == \"ipython\" %}\n"
        "        {%- if message.content is mapping or message.content is iterable %}\n"
        "            {{- message.content | tojson }}\n        {%- else %}\n"
        "            {{- message.content }}\n        {%- endif %}\n    {%- endif %}\n"
        "{%- endfor %}\n"
    ),
    "mistral": (
        "{{ bos_token }}{% for message in messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
        "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
        "{% endif %}{% endfor %}"
    ),
    "mistral-v3": (
        "{%- if messages[0][\"role\"] == \"system\" %}\n"
        "    {%- set system_message = messages[0][\"content\"] %}\n"
        "    {%- set loop_messages = messages[1:] %}\n{%- else %}\n"
        "    {%- set loop_messages = messages %}\n{%- endif %}\n"
        "{%- if not tools is defined %}\n    {%- set tools = none %}\n{%- endif %}\n"
        "{%- set user_messages = loop_messages | selectattr(\"role\", \"equalto\", \"user\") | "
        "list %}\n\n{%- set ns = namespace() %}\n{%- set ns.index = 0 %}\n"
        "{%- for message in loop_messages %}\n"
        "    {%- if not (message.role == \"tool\" or message.role == \"tool_results\" or "
        "(message.tool_calls is defined and message.tool_calls is not none)) %}\n"
        "        {%- set ns.index = ns.index + 1 %}\n    {%- endif %}\n{%- endfor %}\n"
        "{{- bos_token }}\n{%- for message in loop_messages %}\n"
        "    {%- if message[\"role\"] == \"user\" %}\n"
        "        {%- if tools is not none and (message == user_messages[-1]) %}\n"
        "            {{- \"[AVAILABLE_TOOLS] [\" }}\n            {%- for tool in tools %}\n"
        "                {%- set tool = tool.function %}\n"
        "                {{- '{\"type\": \"function\", \"function\": {' }}\n"
        "                {%- for key, val in tool.items() if key != \"return\" %}\n"
        "                    {%- if val is string %}\n"
        "                        {{- '\"' + key + '\": \"' + val + '\"' }}\n"
        "                    {%- else %}\n"
        "                        {{- '\"' + key + '\": ' + val|tojson }}\n"
        "                    {%- endif %}\n"
        "                    {%- if not loop.last %}\n                        {{- \", \" }}\n"
        "                    {%- endif %}\n                {%- endfor %}\n"
        "                {{- \"}}\" }}\n            {%- endfor %}\n"
        "            {{- \"[/AVAILABLE_TOOLS]\" }}\n        {%- endif %}\n"
        "    {%- elif message.tool_calls is defined and message.tool_calls is not none %}\n"
        "        {{- \"[TOOL_CALLS] [\" }}\n"
        "        {%- for tool_call in message.tool_calls %}\n"
        "            {%- set out = tool_call.function|tojson %}\n            {{- out[:-1] }}\n"
        "            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}\n"
        "                {{- raise_exception(\"Tool call IDs should be 9 long!\") }}\n"
        "            {%- endif %}\n            {{- ', \"id\": \"' + tool_call.id + '\"}' }}\n"
        "        {%- endfor %}\n"
        "    {%- elif message[\"role\"] == \"assistant\" %}\n"
        "        {{- \" \" + message[\"content\"]|trim + eos_token}}\n    {%- endif %}\n"
        "{%- endfor %}\n"
    ),
    "qwen-2.5": (
        "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n"
        "    {%- if messages[0]['role'] == 'system' %}\n"
        "        {{- messages[0]['content'] }}\n    {%- else %}\n"
        "        {{- 'You are Qwen, created by Alibaba Cloud.' }}\n    {%- endif %}\n"
        "    {%- for tool in tools %}\n        {{- \"\\n\" }}\n        {{- tool | tojson }}\n"
        "    {%- endfor %}\n{%- endif %}\n{%- for message in messages %}\n"
        "    {%- if (message.role == \"user\") or (message.role == \"system\" and not "
        "loop.first) or (message.role == \"assistant\" and not message.tool_calls) %}\n"
        "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + "
        "'\\n' }}\n    {%- elif message.role == \"assistant\" %}\n"
        "        {%- for tool_call in message.tool_calls %}\n"
        "            {%- if tool_call.function is defined %}\n"
        "                {%- set tool_call = tool_call.function %}\n            {%- endif %}\n"
        "            {{- '\\n<tool_call>\\n{\"name\": \"' }}\n"
        "            {{- tool_call.name }}\n            {{- '\", \"arguments\": ' }}\n"
        "            {{- tool_call.arguments | tojson }}\n"
        "            {{- '}\\n</tool_call>' }}\n        {%- endfor %}\n"
        "    {%- elif message.role == \"tool\" %}\n"
        "        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != \"tool\") %}"
        "\n            {{- '<|im_start|>user' }}\n        {%- endif %}\n"
        "        {%- if loop.last or (messages[loop.index0 + 1].role != \"tool\") %}\n"
        "            {{- '<|im_end|>\\n' }}\n        {%- endif %}\n    {%- endif %}\n"
        "{%- endfor %}\n"
    ),
    "qwen-3": (
        "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}\n"
        "{%- for message in messages[::-1] %}\n"
        "    {%- set index = (messages|length - 1) - loop.index0 %}\n"
        "    {%- if ns.multi_step_tool and message.role == \"user\" and message.content is "
        "string and not(message.content.startswith('<tool_response>') and "
        "message.content.endswith('</tool_response>')) %}\n"
        "        {%- set ns.multi_step_tool = false %}\n"
        "        {%- set ns.last_query_index = index %}\n    {%- endif %}\n{%- endfor %}\n"
        "{%- for message in messages %}\n    {%- if message.role == \"assistant\" %}\n"
        "        {%- set reasoning_content = '' %}\n"
        "        {%- if message.reasoning_content is string %}\n"
        "            {%- set reasoning_content = message.reasoning_content %}\n"
        "        {%- else %}\n            {%- if '</think>' in content %}\n"
        "                {%- set reasoning_content = content.split('</think>')[0]"
        ".rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}\n"
        "                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n"
        "            {%- endif %}\n        {%- endif %}\n    {%- endif %}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n"
        "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
        "        {{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- endif %}\n{%- endif %}"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
        "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
        "{% else %}{% set role = message['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
    ),
    "gemma-3": (
        "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n"
        "    {%- if messages[0]['content'] is string -%}\n"
        "        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}\n"
        "    {%- else -%}\n"
        "        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}\n"
        "    {%- endif -%}\n    {%- set loop_messages = messages[1:] -%}\n{%- else -%}\n"
        "    {%- set first_user_prefix = \"\" -%}\n"
        "    {%- set loop_messages = messages -%}\n{%- endif -%}\n"
        "{%- for message in loop_messages -%}\n"
        "    {{ '<start_of_turn>' + message['role'] + '\n' + (first_user_prefix if loop.first "
        "else \"\") }}\n    {%- if message['content'] is string -%}\n"
        "        {{ message['content'] | trim }}\n"
        "    {%- elif message['content'] is iterable -%}\n"
        "        {%- for item in message['content'] -%}\n"
        "            {%- if item['type'] == 'image' -%}\n"
        "                {{ '<start_of_image>' }}\n"
        "            {%- elif item['type'] == 'text' -%}\n"
        "                {{ item['text'] | trim }}\n            {%- endif -%}\n"
        "        {%- endfor -%}\n    {%- else -%}\n"
        "        {{ raise_exception(\"Invalid content type\") }}\n    {%- endif -%}\n"
        "    {{ '<end_of_turn>\n' }}\n{%- endfor -%}\n"
    ),
    "phi-3": (
        "{% for message in messages %}{% if message['role'] == 'system' %}"
        "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
        "{% elif message['role'] == 'user' %}"
        "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
        "{% elif message['role'] == 'assistant' %}"
        "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}"
        "{% endif %}"
    ),
    "deepseek": (
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}"
        "{% endif %}{% set ns = namespace(is_first=false, is_tool=false, system_prompt='') %}"
        "{%- for message in messages %}{%- if message['role'] == 'system' %}"
        "{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}"
        "{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}"
        "{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}"
        "{%- if message['role'] == 'assistant' and message['content'] is not none %}"
        "{% set content = message['content'] %}{% if '</think>' in content %}"
        "{% set content = content.split('</think>')[-1] %}{% endif %}"
        "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}"
        "{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜>'}}{% endif %}"
    ),
    "zephyr": (
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
        "{{ '<|user|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'system' %}\n"
        "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
        "{% endfor %}"
    ),
    "macro": (
        "{%- macro json_to_python_type(json_spec) %}\n"
        "{%- set basic_type_map = {\n  \"string\": \"str\",\n  \"number\": \"float\"\n} %}\n"
        "{%- if basic_type_map[json_spec.type] is defined %}\n"
        "{{- basic_type_map[json_spec.type] }}\n{%- elif json_spec.type == \"array\" %}\n"
        "{{- \"List[\" + json_to_python_type(json_spec.items) + \"]\" }}\n"
        "{%- else %}\n{{- \"Any\" }}\n{%- endif %}\n{%- endmacro %}\n"
        "{%- for tool in tools %}{{ json_to_python_type(tool.parameters) }}{%- endfor %}"
    ),
}

#: The configuration of models, with keys of the families.
CONFIGS = {
    "llama": {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu", "hidden_size": 4096,
        "model_type": "llama", "num_hidden_layers": 32, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 8.0, "rope_type": "llama3"}, "torch_dtype": "bfloat16",
        "transformers_version": "4.43.0.dev0", "use_cache": True, "vocab_size": 128256,
    },
    "bert": {
        "_name_or_path": "bert-base-uncased", "architectures": ["BertForMaskedLM"],
        "id2label": {"0": "NEGATIVE", "1": "POSITIVE"}, "label2id": {"NEGATIVE": 0},
        "layer_norm_eps": 1e-12, "model_type": "bert", "gradient_checkpointing": False,
        "pad_token_id": 0, "position_embedding_type": "absolute", "classifier_dropout": None,
    },
    "quantized": {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
        "quantization_config": {
            "bits": 4, "group_size": 128, "quant_method": "gptq", "modules_to_not_convert": None,
        },
        "sliding_window": 131072, "tie_word_embeddings": False,
    },
    "vision": {
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava",
        "text_config": {"model_type": "llama"}, "vision_config": {"model_type": "clip"},
        "image_token_index": 32000, "trust_remote_code": False,
    },
}


def hugging_face(out):
    """Folders as on the Hugging Face hub: configurations, tokenizers, templates, notes."""
    form = "huggingface"
    for name, config in CONFIGS.items():
        out.json(form, f"{name}/config.json", config, indent=2)
        out.json(form, f"{name}/generation_config.json", {"do_sample": True, "temperature": 0.6})
    for name, template in TEMPLATES.items():
        token = {
            "__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": True,
            "rstrip": False, "single_word": False, "special": True,
        }
        config = {
            "add_bos_token": True, "added_tokens_decoder": {"0": token}, "bos_token": token,
            "chat_template": template, "clean_up_tokenization_spaces": False, "eos_token": "</s>",
            "model_max_length": 1000000000000000019884624838656, "pad_token": None,
            "tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": [],
        }
        out.json(form, f"{name}/tokenizer_config.json", config, indent=2, ensure_ascii=False)
        out.text(form, f"{name}/chat_template.jinja", template)
        out.json(form, f"{name}/chat_template.json", {"chat_template": template})
    named = [{"name": name, "template": text} for name, text in TEMPLATES.items()]
    out.json(form, "named/tokenizer_config.json", {"chat_template": named})
    words = {chr(0x100 + n): n for n in range(500)} | {"Ġthe": 501, '"': 502, "\\": 503}
    merges = ["Ġ t", "Ġ a", "h e", "i n", "r e", '" "', "# #"]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": 0, "content": "<unk>", "special": True}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
        "pre_tokenizer": {
            "type": "Split", "pattern": {"Regex": "(?i:'s|'t)|\\p{N}{1,3}|\\s+(?!\\S)|\\s+"},
            "behavior": "Isolated", "invert": False,
        },
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "A"}}]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "vocab": words, "merges": merges},
    }
    pieces = [["<unk>", 0.0], ["▁the", -3.5], ["\u0000", -10.0]]
    unigram = {**tokenizer, "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces}}
    index = {"metadata": {"total_size": 16060522496}, "weight_map": {"a": "m-00001.safetensors"}}
    sentence = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2", "type": "sentence_transformers.models.Normalize"},
    ]
    diffusion = {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.21.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"], "safety_checker": [None, None],
        "scheduler": ["diffusers", "PNDMScheduler"], "unet": ["diffusers", "UNet2DConditionModel"],
    }
    adapter = {
        "auto_mapping": None, "base_model_name_or_path": "m", "lora_alpha": 16, "peft_type": "LORA",
        "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", "modules_to_save": None,
    }
    processor = {
        "crop_size": {"height": 224, "width": 224}, "do_resize": True, "resample": 3,
        "image_mean": [0.48145466, 0.4578275], "image_processor_type": "CLIPImageProcessor",
        "feature_extractor_type": "CLIPFeatureExtractor", "processor_class": "LlavaProcessor",
    }
    documents = {
        "tokenizer.json": tokenizer, "unigram/tokenizer.json": unigram, "vocab.json": words,
        "model.safetensors.index.json": index, "pytorch_model.bin.index.json": index,
        "modules.json": sentence, "model_index.json": diffusion, "adapter_config.json": adapter,
        "preprocessor_config.json": processor, "added_tokens.json": {"<pad>": 3},
        "special_tokens_map.json": {"bos_token": "<s>", "pad_token": {"content": "<pad>"}},
        "scheduler/scheduler_config.json": {"_class_name": "PNDMScheduler", "beta_end": 0.012},
        "unet/config.json": {"_class_name": "UNet2DConditionModel", "act_fn": "silu"},
        "1_Pooling/config.json": {"pooling_mode_cls_token": False},
        "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False},
        "config_sentence_transformers.json": {"__version__": {"torch": "1.10"}, "prompts": {}},
        "trainer_state.json": {"log_history": [{"loss": float("nan"), "step": 1}]},
        "all_results.json": {"eval_accuracy": 0.9}, "empty.json": {}, "list.json": [],
        "generation_config.json": {"suppress_tokens": [], "forced_decoder_ids": [[1, None]]},
        "quantize_config.json": {"bits": 4, "desc_act": False, "damp_percent": 0.1},
        "tokenizer_config-processor.json": {"processor_class": "WhisperProcessor"},
        "sentencepiece.json": {"language": "日本語 \U0001f600 \u2028"},
    }
    for name, document in documents.items():
        out.json(form, name, document, indent=2 if len(name) % 2 else None)
    card = "---\nlicense: mit\ntags:\n- text-generation\n---\n\n# Model\n\n```python\nx\n```\n"
    texts = {
        "README.md": card, "bom/README.md": "\ufeff# Notes\r\n", "merges.txt": "#version: 0.2\n",
        "vocab.txt": "[PAD]\n[unused0]\n##ing\n日本\n", "LICENSE": "Apache License\n",
        "LICENSE.txt": "MIT\n", "USE_POLICY.md": "* one\n", "NOTICE": "Notice\n",
        "requirements.txt": "torch>=2.0\n", "labels.txt": "cat\ndog\n", "vocab.bpe": "Ġ t\n",
        ".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
        "config.yaml": "model:\n  name: a\n  layers: [1, 2]\n  path: null\n",
        "data.csv": "a,b\n1,2\n", "rows.jsonl": '{"a": 1}\n{"a": 2}\n', "empty.txt": "\n",
    }
    for name, text in texts.items():
        out.text(form, name, text)


def onnx_files(out):
    """ONNX models: one of each standard operator of several releases, and forms of tensors."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def save(name, nodes, initializers=(), opsets=(("", 21),), **rest):
        info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, "n", 3])
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "g", [info], [output], list(initializers))
        imports = [helper.make_opsetid(domain, version) for domain, version in opsets]
        model = helper.make_model(graph, opset_imports=imports, **rest)
        onnx.save(model, out.path("onnx", f"{name}.onnx"))

    schemas = onnx.defs.get_all_schemas()
    for schema in schemas:
        domain = schema.domain
        node = helper.make_node(schema.name, ["x"], ["y"], domain=domain)
        name = f"op-{domain.replace('.', '_') or 'default'}-{schema.name}"
        save(name, [node], opsets=[(domain, schema.since_version)])
    types = ["float32", "float64", "float16", "int8", "int64", "uint8", "bool", "complex64"]
    for dtype in types:
        tensors = [numpy_helper.from_array(array(dtype, s), f"t{n}") for n, s in enumerate(SHAPES)]
        save(f"tensor-{dtype}", [helper.make_node("Identity", ["t4"], ["y"])], tensors)
    texts = helper.make_tensor("t", TensorProto.STRING, [2], [b"a", "ä".encode()])
    values = helper.make_tensor("t", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    constant = helper.make_node("Constant", [], ["y"], value=values)
    save("tensor-text", [helper.make_node("Identity", ["t"], ["y"])], [texts])
    save("tensor-typed", [helper.make_node("Identity", ["t"], ["y"])], [values])
    for kind in ["BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2", "INT4", "UINT4", "FLOAT4E2M1"]:
        size = {"BFLOAT16": 8}.get(kind, 4 if kind.startswith("FLOAT8") else 2)
        code = getattr(TensorProto, kind)
        tensor = helper.make_tensor("t", code, [4], b"\0" * size, raw=True)
        save(f"tensor-{kind.lower()}", [helper.make_node("Identity", ["t"], ["y"])], [tensor])
    branch = helper.make_graph([constant], "b", [], [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
    ])
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    save("subgraphs", [node])
    function = helper.make_function(
        "local", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 21)],
    )
    node = helper.make_node("Double", ["x"], ["y"], domain="local")
    save("function", [node], opsets=[("", 21), ("local", 1)], functions=[function])
    save("metadata", [constant], producer_name="pytorch", producer_version="2.1",
         doc_string="notes ä", domain="ai.onnx")
    save("attributes", [helper.make_node(
        "Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], auto_pad="SAME_UPPER", group=1,
        name="conv/1", doc_string="d",
    )])
    chain = [helper.make_node("Relu", [f"v{n}"], [f"v{n + 1}"]) for n in range(2000)]
    save("chain", chain)
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", TensorProto.FLOAT, [2], [1.0, 2.0]),
        helper.make_tensor("i", TensorProto.INT64, [2], [1, 5]), [10],
    )
    save("sparse", [helper.make_node("Constant", [], ["y"], sparse_value=sparse)])
    try:
        from skl2onnx import to_onnx
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        print("skl2onnx is not installed")
        return
    x, y = array("f4", (60, 4)), np.arange(60) % 3
    models = {
        "forest": RandomForestClassifier(5, random_state=1),
        "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
    }
    for name, model in models.items():
        converted = to_onnx(model.fit(x, y), x)
        out.path("onnx", f"sklearn-{name}.onnx").write_bytes(converted.SerializeToString())


def gguf_files(out):
    """GGUF: architectures, types of values, quantized tensors, alignments, templates."""
    from gguf import GGMLQuantizationType, GGUFEndian, GGUFWriter
    from gguf.constants import GGML_QUANT_SIZES

    def save(name, fill, **options):
        writer = GGUFWriter(out.path("gguf", f"{name}.gguf"), "llama", **options)
        fill(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def values(writer):
        writer.add_name("ä")
        writer.add_block_count(2)
        writer.add_context_length(2048)
        writer.add_rope_freq_base(10000.0)
        writer.add_bool("a.bool", True)
        for width in [8, 16, 32, 64]:
            getattr(writer, f"add_int{width}")(f"a.int{width}", -1)
            getattr(writer, f"add_uint{width}")(f"a.uint{width}", 1)
        writer.add_float64("a.float64", 0.5)
        writer.add_array("a.texts", ["a", "", "ä" * 100])
        writer.add_array("a.ints", [1, 2, 3])
        writer.add_array("a.bools", [True, False])
        writer.add_array("a.floats", [0.5])

    def tokenizer(writer):
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("llama-bpe")
        writer.add_token_list([f"t{n}" for n in range(2000)])
        writer.add_token_scores([0.0] * 2000)
        writer.add_token_types([1] * 2000)
        writer.add_token_merges(["a b", "c d"])
        writer.add_bos_token_id(1)
        writer.add_add_bos_token(True)

    def tensors(writer):
        for dtype in ["float32", "float16", "float64", "int8", "int16", "int32", "int64"]:
            for number, shape in enumerate([(1,), (3,), (32, 7), (2, 3, 4)]):
                writer.add_tensor(f"{dtype}.{number}", array(dtype, shape))

    save("values", values)
    save("tokenizer", tokenizer)
    save("tensors", tensors)
    save("nothing", lambda writer: None)
    save("all", lambda writer: (values(writer), tokenizer(writer), tensors(writer)))
    for alignment in [8, 16, 32, 64, 4096]:
        save(f"alignment-{alignment}", lambda writer: (
            writer.add_custom_alignment(alignment), tensors(writer)))
    save("big-endian", lambda writer: (values(writer), tensors(writer)),
         endianess=GGUFEndian.BIG)
    for name, template in TEMPLATES.items():
        save(f"template-{name}", lambda writer: writer.add_chat_template(template))
    save("templates", lambda writer: writer.add_chat_template(
        [{"name": "default", "template": TEMPLATES["chatml"]},
         {"name": "tool_use", "template": TEMPLATES["llama-3.1"]}]))
    for kind in GGMLQuantizationType:
        block, size = GGML_QUANT_SIZES[kind]
        if kind.name in {"F64", "F32", "F16", "I8", "I16", "I32", "I64"}:
            continue
        data = np.zeros((4, size * 2), dtype="u1")
        save(f"type-{kind.name.lower()}", lambda writer: writer.add_tensor(
            "blk.0.attn_q.weight", data, raw_dtype=kind))


def boosters(out):
    """XGBoost's JSON and UBJSON and LightGBM's texts: objectives, boosters, categories."""
    x, y = array("f4", (80, 5)), np.arange(80) % 2
    try:
        import xgboost

        objectives = [
            "binary:logistic", "reg:squarederror", "multi:softprob", "count:poisson", "rank:ndcg",
            "reg:quantileerror", "survival:cox", "reg:absoluteerror",
        ]
        for objective, booster in itertools.product(objectives, ["gbtree", "dart", "gblinear"]):
            extra = {"num_class": 3} if "multi" in objective else {}
            if "quantile" in objective:
                extra["quantile_alpha"] = 0.5
            data = xgboost.DMatrix(x, label=y, feature_names=[f"f {n}" for n in "abcdä"])
            if "rank" in objective:
                data.set_group([40, 40])
            parameters = {"objective": objective, "booster": booster, "max_depth": 3, **extra}
            try:
                model = xgboost.train(parameters, data, 3)
            except xgboost.core.XGBoostError as error:
                print(f"xgboost: {objective} {booster}: {str(error).splitlines()[0][:80]}")
                continue
            name = f"{objective.replace(':', '-')}-{booster}"
            model.set_attr(best_iteration="2", note="ä\"\\")
            model.save_model(out.path("xgboost", f"{name}.json"))
            model.save_model(out.path("xgboost", f"{name}.ubj"))
        model = xgboost.XGBClassifier(n_estimators=4, early_stopping_rounds=2)
        model.fit(x, y, eval_set=[(x, y)], verbose=False)
        model.save_model(out.path("xgboost", "classifier.json"))
        model.save_model(out.path("xgboost", "classifier.ubj"))
    except ImportError:
        print("xgboost is not installed")
    try:
        import lightgbm

        cases = {
            "binary": {"objective": "binary"}, "regression": {"objective": "regression"},
            "multiclass": {"objective": "multiclass", "num_class": 2},
            "dart": {"objective": "binary", "boosting": "dart"},
            "forest": {"objective": "binary", "boosting": "rf", "bagging_freq": 1,
                       "bagging_fraction": 0.5},
            "linear": {"objective": "regression", "linear_tree": True},
            "quantile": {"objective": "quantile", "alpha": 0.3},
            "tweedie": {"objective": "tweedie"},
        }
        for name, parameters in cases.items():
            data = lightgbm.Dataset(x.astype("f8"), y, categorical_feature=[4])
            parameters = {"verbosity": -1, "min_data_in_leaf": 5, **parameters}
            model = lightgbm.train(parameters, data, 3)
            model.save_model(out.path("lightgbm", f"{name}.txt"))
    except ImportError:
        print("lightgbm is not installed")


def keras_files(out):
    """Keras archives of models with layers of many kinds."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras
    from keras import layers

    def save(name, *stack, shape=(16, 16, 3), compiled=False):
        try:
            model = keras.Sequential([keras.Input(shape), *stack])
            if compiled:
                model.compile(optimizer="adam", loss="mse", metrics=["mae"])
            path = out.path("keras", f"{name}.keras")
            model.save(path)
        except Exception as error:  # A layer that this backend has not.
            print(f"keras: {name}: {type(error).__name__}: {str(error)[:80]}")

    image = {
        "conv": layers.Conv2D(2, 3, activation="relu"), "depthwise": layers.DepthwiseConv2D(3),
        "separable": layers.SeparableConv2D(2, 3), "transpose": layers.Conv2DTranspose(2, 3),
        "max-pooling": layers.MaxPooling2D(), "mean": layers.GlobalAveragePooling2D(),
        "normalization": layers.BatchNormalization(), "group": layers.GroupNormalization(1),
        "flatten": layers.Flatten(), "padding": layers.ZeroPadding2D(),
        "cropping": layers.Cropping2D(), "up": layers.UpSampling2D(), "flip": layers.RandomFlip(),
        "rescaling": layers.Rescaling(1 / 255), "resizing": layers.Resizing(8, 8),
        "spatial": layers.SpatialDropout2D(0.2), "noise": layers.GaussianNoise(0.1),
    }
    for name, layer in image.items():
        save(f"image-{name}", layer)
    sequence = {
        "lstm": layers.LSTM(3), "gru": layers.GRU(3, return_sequences=True),
        "rnn": layers.SimpleRNN(3), "both": layers.Bidirectional(layers.LSTM(3)),
        "time": layers.TimeDistributed(layers.Dense(2)), "conv": layers.Conv1D(2, 3),
        "pooling": layers.GlobalMaxPooling1D(), "norm": layers.LayerNormalization(),
        "permute": layers.Permute((2, 1)), "reshape": layers.Reshape((32,)),
    }
    for name, layer in sequence.items():
        save(f"sequence-{name}", layer, shape=(8, 4))
    flat = {
        "dense": layers.Dense(3, kernel_regularizer="l2", bias_constraint="non_neg"),
        "dropout": layers.Dropout(0.5), "prelu": layers.PReLU(), "leaky": layers.LeakyReLU(),
        "elu": layers.ELU(), "softmax": layers.Softmax(), "activation": layers.Activation("gelu"),
        "repeat": layers.RepeatVector(3), "masking": layers.Reshape((4, 2)),
        "initializer": layers.Dense(2, kernel_initializer=keras.initializers.HeNormal(seed=1)),
    }
    for name, layer in flat.items():
        save(f"flat-{name}", layer, shape=(8,))
    save("embedding", layers.Embedding(10, 4), layers.Dense(1), shape=(5,))
    save("compiled", layers.Dense(3), layers.Dense(1), shape=(4,), compiled=True)
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    both = layers.Concatenate()([a, b])
    total = layers.Add()([layers.Dense(8)(both), both])
    try:
        keras.Model([a, b], total).save(out.path("keras", "functional.keras"))
        q = keras.Input((6, 8))
        keras.Model(q, layers.MultiHeadAttention(2, 4)(q, q)).save(
            out.path("keras", "attention.keras"))
        keras.Model(a, keras.ops.relu(a) + 1).save(out.path("keras", "operations.keras"))
    except Exception as error:  # As above.
        print(f"keras: functional: {type(error).__name__}: {str(error)[:80]}")


def scan(program, paths):
    """The reports of all files below these paths."""
    command = [program, "model", "scan", "--json", *map(str, paths)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"{command[:4]} ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def expected(path):
    """The verdict that a file should have."""
    return next((verdict for pattern, verdict in EXPECTED if path.match(pattern)), "safe")


def main():
    """Makes the files, scans them, and prints what is refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tensorgate", default="tensorgate")
    parser.add_argument("--also", type=pathlib.Path, action="append", default=[])
    arguments = parser.parse_args()
    if arguments.folder.exists() and any(arguments.folder.iterdir()):
        sys.exit(f"{arguments.folder} is not empty")
    out = Writer(arguments.folder)
    for make in [numpy_files, pickles, joblib_files, safetensors_files, hugging_face, onnx_files,
                 gguf_files, boosters, keras_files]:
        try:
            make(out)
        except ImportError as error:
            print(f"{make.__name__}: {error}")
    for format, count in sorted(out.counts.items()):
        print(f"{count:5} {format}")
    reports = scan(arguments.tensorgate, [arguments.folder, *arguments.also])
    wrong = 0
    for report in reports:
        path = pathlib.Path(report["path"])
        is_own = path.is_relative_to(arguments.folder)
        if not is_own and path.suffix not in MODEL_ENDINGS:
            continue
        if report["verdict"] == (expected(path) if is_own else "safe"):
            continue
        wrong += 1
        print(f"{report['verdict']}: {path} ({report['format']})")
        for finding in report["findings"][:3]:
            print(f"    {finding['rule']} at {finding['offset']}: {finding['detail']}")
    print(f"{len(reports)} files, {wrong} with another verdict than expected")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
