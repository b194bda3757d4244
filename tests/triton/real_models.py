"""Models as real tools write them: folders that the pages about verified models are followed with."""

import json
import shutil
import struct
import sysconfig
import zlib
from pathlib import Path

import numpy as np
import onnx
import safetensors.numpy
import sentencepiece
from processes import TOP

# Macros that call one that stands further down, and lists that are put together, as Gemma 4 has them.
TEMPLATE = """{%- macro parameters(properties) -%}
{%- for name, property in properties | dictsort -%}
{{ name }}:{{ kind(property) }}{% if not loop.last %},{% endif %}
{%- endfor -%}
{%- endmacro -%}
{%- macro kind(property) -%}
{{ property.type | upper }}{% if property.properties %}{{ '{' + parameters(property.properties) + '}' }}{% endif %}
{%- endmacro -%}
{%- set turns = namespace(texts=[]) -%}
{{- bos_token -}}
{%- for message in messages -%}
{%- set turns.texts = turns.texts + [message.role ~ '\\n' ~ message.content | trim] -%}
{%- endfor -%}
{%- for tool in tools or [] -%}
{{- tool.function.name }}({{ parameters(tool.function.parameters.properties) }})
{%- endfor -%}
{%- for text in turns.texts -%}
{{- '<start_of_turn>' + text + '<end_of_turn>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}
"""


def triton_repository(folder):
    """A repository of Triton: a model of the Python backend, which loads ONNX with external data."""
    model = folder / "digits"
    shutil.copytree(TOP / "tests/triton/models/digits", model)
    digits = onnx.load(TOP / "examples/models/digits/1/model.onnx")
    for initializer in digits.graph.initializer:
        # The writer moves only raw data into another file.
        initializer.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(initializer), initializer.name))
    onnx.save_model(
        digits, model / "1/model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=0
    )


def saved_model(folder):
    """A folder of TensorFlow Serving: the SavedModel of the package basic-pitch, as version 1."""
    package = Path(sysconfig.get_path("purelib")) / "basic_pitch/saved_models/icassp_2022/nmp"
    shutil.copytree(package, folder / "1")


def language_model(folder):
    """A folder as on the hub of Hugging Face: weights, a tokenizer of SentencePiece, a chat
    template, and a card with a picture.
    """
    folder.mkdir(parents=True)
    words = (folder.parent / "words.txt")
    words.write_text("".join(f"the model {number} serves a request of client {number * 7}\n" for number in range(400)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(words), model_prefix=str(folder / "tokenizer"), vocab_size=64, minloglevel=2
    )
    (folder / "tokenizer.vocab").unlink()
    weights = {"model.embed_tokens.weight": np.zeros((64, 8), np.float32)}
    safetensors.numpy.save_file(weights, folder / "model.safetensors", {"format": "pt"})
    configurations = {
        "config.json": {
            "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_size": 8,
            "vocab_size": 64, "num_hidden_layers": 1, "torch_dtype": "bfloat16", "sliding_window_pattern": 6,
        },
        "generation_config.json": {"bos_token_id": 2, "eos_token_id": [1, 3], "do_sample": True, "top_k": 64},
        "tokenizer_config.json": {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>"},
    }
    for name, content in configurations.items():
        (folder / name).write_text(json.dumps(content, indent=2))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "README.md").write_text("---\nlicense: gemma\n---\n# A model\n![logo](logo.png)\n")
    (folder / "LICENSE").write_bytes("Gemma terms \u00a9 somebody\n".encode("cp1252"))
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
    (folder / "logo.png").write_bytes(picture())


def picture():
    """A PNG of one grey pixel."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\x80")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks
