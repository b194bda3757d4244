"""Hostile files beside a model: tokenizers, configurations of Triton, pictures and notes."""

import struct
import zlib


def varint(value):
    """A number of a protocol buffer."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def field(number, content):
    """A field with a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


#: The first piece of a model of SentencePiece.
PIECE = field(1, field(1, b"<unk>") + b"\x15\0\0\0\0\x18\x02")


def charsmap(value, root=256):
    """A table of a normalizer that replaces "a" by the text at `value`."""
    step, leaf = 256 + 97, 300
    units = [0] * 512
    units[0] = root << 10
    units[step] = (step ^ leaf) << 10 | 1 << 8 | 97
    units[leaf] = 1 << 31 | value
    array = struct.pack("<512I", *units)
    return struct.pack("<I", len(array)) + array + b"b\0c\0"


def png(*behind):
    """A picture of one pixel, with bytes behind it."""
    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"") + b"".join(behind)


GIF = b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


def fixtures():
    """Families with the judged file and its content."""
    tables = {
        "value": charsmap(4), "step": charsmap(2, root=512), "length": b"\xff\xff\0\0" + bytes(99),
    }
    for name, table in tables.items():
        content = PIECE + field(3, field(2, table))
        yield f"sentencepiece-charsmap-{name}", "tokenizer.model", content
    yield "sentencepiece-extension", "tokenizer.model", PIECE + field(200, b"code")
    yield "sentencepiece-behind", "tokenizer.model", PIECE + b"\x7fELF"
    yield "sentencepiece-program", "tokenizer.php", PIECE
    options = {
        "python": 'backend: "pyth" "on"',
        "runtime": 'runtime: "../libtriton_x.so"',
        "library": 'model_operations { op_library_filename: "a.so" }',
        "extension": 'parameters { key: "CPU_EXTENSION_PATH" value { string_value: "a.so" } }',
        "environment": 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/e" } }',
        "file": 'default_model_filename: "../../secret.onnx"',
        "labels": 'output { label_filename: "/etc/passwd" }',
        "warm-up": 'model_warmup { inputs { value { input_data_file: "../../x" } } }',
        "backend": 'backend: "mine"',
        "vllm": 'backend: "vllm"',
        "twice": 'backend: "identity" backend: "python"',
        "note": 'default_model_filename: "notes.md"',
    }
    for name, text in options.items():
        yield f"triton-{name}", "config.pbtxt", text.encode()
    yield "picture-behind", "card.png", png(b"import os")
    yield "picture-script", "card.php", png(b"<?php system('id'); ?>")
    yield "picture-gif-behind", "card.gif", GIF + b"<script>1</script>"
    yield "picture-jpeg-cut", "card.jpg", b"\xff\xd8\xff\xe0\0\x04JF\xff\xda\0\x02abc"
    yield "picture-webp-behind", "card.webp", b"RIFF\x10\0\0\0WEBPVP8L\3\0\0\0abc\0import os"
    yield "text-utf16-control", "README.md", b"\xff\xfe#\0\x1b\0[\0"
    yield "text-latin-pickle", "README.md", b"cos\nsystem\n(S'echo \xe9'\ntR."


def controls():
    """Files of data."""
    yield "control-sentencepiece", "tokenizer.model", PIECE + field(3, field(2, charsmap(2)))
    yield "triton-control", "config.pbtxt", b'name: "a"\nbackend: "onnxruntime"\n'
    yield "control-picture", "card.png", png()
    yield "control-gif", "card.gif", GIF
    yield "control-latin", "LICENSE", b"\xa9 A. Author\n"
    yield "control-utf16", "README.md", b"\xff\xfe#\0 \0a\0"
