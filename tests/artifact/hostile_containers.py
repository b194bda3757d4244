"""Zip, tar and numpy files whose readers disagree, or that hold a pickle that runs code."""

import base64
import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib

from hostile_pickles import EMPTY, HOSTILE, legacy_torch, protocol

DATE = (2026, 1, 1, 0, 0, 0)


def archive(*members, compression=zipfile.ZIP_STORED):
    """A zip of these names and contents, as zipfile writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as writer:
        for name, content in members:
            info = zipfile.ZipInfo(name, DATE)
            info.compress_type = compression
            writer.writestr(info, content)
    return file.getvalue()


def member(name, content, **other):
    """A member for `crafted`: what its local and central header say may differ from the content."""
    return {"name": name, "content": content, **other}


def crafted(*members, comment=b""):
    """A zip that is written by hand, so that its headers can say anything."""
    body, directory = b"", b""
    for m in members:
        content = m["content"]
        packed = m.get("packed", content)
        size = m.get("size", len(content))
        fields = (
            m.get("flags", 0),
            m.get("method", 0),
            0,
            0x5821,
            m.get("crc", zlib.crc32(content)),
            m.get("packed_size", len(packed)),
            size,
        )
        local = m.get("local", m["name"]).encode()
        central = m["name"].encode()
        extra = m.get("extra", b"")
        offset = m.get("offset", len(body))
        local_fields = (
            m.get("local_flags", fields[0]),
            m.get("local_method", fields[1]),
            *fields[2:],
        )
        body += struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, *local_fields, len(local), len(extra))
        body += local + extra + packed
        directory += struct.pack(
            "<IHHHHHHIIIHHHHHII",
            0x02014B50,
            0x0314,
            20,
            *fields,
            len(central),
            len(extra),
            0,
            0,
            0,
            m.get("attributes", 0),
            offset,
        )
        directory += central + extra
    end = struct.pack(
        "<IHHHHIIH",
        0x06054B50,
        0,
        0,
        len(members),
        len(members),
        len(directory),
        len(body),
        len(comment),
    )
    return body + directory + end + comment


def torch_zip(pickle, *others, **kind):
    """A file of torch since 1.6."""
    return archive(
        ("archive/data.pkl", pickle),
        ("archive/version", b"3\n"),
        ("archive/byteorder", b"little"),
        *others,
        **kind,
    )


VERSION = member("archive/version", b"3\n")


def torch_crafted(*members):
    """A file of torch with these members and a version."""
    return crafted(*members, VERSION)


def tar(*members):
    """A tar of (name, content) or of TarInfo."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as writer:
        for entry in members:
            if isinstance(entry, tarfile.TarInfo):
                writer.addfile(entry)
                continue
            info = tarfile.TarInfo(entry[0])
            info.size = len(entry[1])
            writer.addfile(info, io.BytesIO(entry[1]))
    return file.getvalue()


def link(name, target, kind=tarfile.SYMTYPE):
    """A link in a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def npy(header, content):
    """A file of numpy with this header."""
    text = header.encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


OBJECTS = npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", HOSTILE)
NUMBERS = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", bytes(8))
DATA = "archive/data.pkl"


def bomb():
    """A zip of a member that unpacks to 1 GiB of zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = bytes(1 << 20)
    packed = b"".join(packer.compress(block) for _ in range(1 << 10)) + packer.flush()
    return torch_crafted(
        member(DATA, b"", packed=packed, packed_size=len(packed), size=1 << 30, method=8, crc=0)
    )


def nested(depth):
    """A zip in a zip in a zip."""
    content = torch_zip(HOSTILE)
    for _ in range(depth):
        content = archive(("inner.zip", content))
    return content


def unicode_path(name, other):
    """The extra field by which Info-ZIP gives a member another name."""
    data = b"\x01" + struct.pack("<I", zlib.crc32(name.encode())) + other.encode()
    return struct.pack("<HH", 0x7075, len(data)) + data


def deflated(content):
    """Raw deflate."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def zips():
    """Zip containers."""
    plain = member(DATA, EMPTY)
    hostile = member(DATA, HOSTILE)
    yield "torch-zip", "model.pt", torch_zip(HOSTILE)
    yield "torch-zip-deflated", "model.pt", torch_zip(HOSTILE, compression=zipfile.ZIP_DEFLATED)
    yield "torch-zip-as-bin", "pytorch_model.bin", torch_zip(HOSTILE)
    yield "torch-zip-second-pickle", "model.pt", torch_zip(EMPTY, ("archive/.data/x", HOSTILE))
    yield "torch-zip-pickle-as-storage", "model.pt", torch_zip(EMPTY, ("archive/data/0", HOSTILE))
    yield "torch-zip-two-roots", "model.pt", torch_zip(EMPTY, ("other/data.pkl", HOSTILE))
    yield "torch-zip-case", "model.pt", torch_zip(EMPTY, ("archive/DATA.PKL", HOSTILE))
    yield (
        "torchscript",
        "model.pt",
        torch_zip(
            EMPTY,
            ("archive/code/__torch__.py", b"def forward(x): return x\n"),
            ("archive/constants.pkl", protocol(b")")),
        ),
    )
    yield "torch-zip-duplicate", "model.pt", torch_crafted(plain, hostile)
    yield "torch-zip-duplicate-first", "model.pt", torch_crafted(hostile, plain)
    yield (
        "torch-zip-local-name",
        "model.pt",
        torch_crafted(member("archive/x", HOSTILE, local=DATA)),
    )
    yield (
        "torch-zip-central-name",
        "model.pt",
        torch_crafted(member(DATA, HOSTILE, local="archive/x")),
    )
    yield "torch-zip-bad-crc", "model.pt", torch_crafted(member(DATA, HOSTILE, crc=1))
    yield "torch-zip-flag-encrypted", "model.pt", torch_crafted(member(DATA, HOSTILE, flags=1))
    yield "torch-zip-flag-local", "model.pt", torch_crafted(member(DATA, HOSTILE, local_flags=1))
    yield "torch-zip-method-unknown", "model.pt", torch_crafted(member(DATA, HOSTILE, method=97))
    yield (
        "torch-zip-method-differs",
        "model.pt",
        torch_crafted(member(DATA, HOSTILE, packed=deflated(HOSTILE), method=8, local_method=0)),
    )
    yield "torch-zip-size-small", "model.pt", torch_crafted(member(DATA, HOSTILE, size=2))
    yield "torch-zip-size-large", "model.pt", torch_crafted(member(DATA, HOSTILE, size=0x7FFFFFFF))
    yield (
        "torch-zip-overlap",
        "model.pt",
        torch_crafted(hostile, member("archive/x", EMPTY, offset=0)),
    )
    yield "torch-zip-offset", "model.pt", torch_crafted(member(DATA, EMPTY, offset=0x7FFFFFFF))
    yield (
        "torch-zip-unicode-path",
        "model.pt",
        torch_crafted(member("archive/x", HOSTILE, extra=unicode_path("archive/x", DATA))),
    )
    yield (
        "torch-zip-symbolic-link",
        "model.pt",
        torch_crafted(plain, member("archive/data/0", b"/etc/hostname", attributes=0o120777 << 16)),
    )
    yield "torch-zip-bomb", "model.pt", bomb()
    yield "zip-nested", "model.zip", nested(2)
    yield "zip-nested-deep", "model.zip", nested(40)
    for family, name in (
        ("parent", "../hostile.pkl"),
        ("absolute", "/tmp/hostile.pkl"),
        ("nul", "a\0.pkl"),
        ("backslash", "..\\hostile.pkl"),
        ("drive", "C:\\hostile.pkl"),
        ("case", "archive/DATA.pkl"),
    ):
        yield f"zip-name-{family}", "model.pt", torch_crafted(plain, member(name, EMPTY))
    whole = torch_zip(EMPTY)
    yield "zip-pickle-in-front", "model.pt", HOSTILE + torch_zip(EMPTY)
    yield "zip-pickle-behind", "model.pt", whole + HOSTILE
    yield "zip-in-comment", "model.pt", crafted(plain, VERSION, comment=torch_zip(HOSTILE))
    yield "zip-two-ends", "model.pt", whole + torch_zip(HOSTILE)
    yield "zip-truncated", "model.pt", torch_zip(HOSTILE)[:-30]
    yield "zip-as-safetensors", "model.safetensors", torch_zip(HOSTILE)
    yield (
        "mar-handler",
        "model.mar",
        archive(
            ("handler.py", b"import os\nprint(os.getcwd())\n"),
            ("MAR-INF/MANIFEST.json", json.dumps({"model": {"handler": "handler.py"}}).encode()),
        ),
    )
    yield (
        "pt2-library",
        "model.pt2",
        archive(
            ("m/archive_format", b"pt2"), ("m/data/aotinductor/model/x.so", b"\x7fELF\x02\x01\x01")
        ),
    )
    yield (
        "pt2-weights",
        "model.pt2",
        archive(
            ("m/archive_format", b"pt2"),
            ("m/data/weights/weight_0", HOSTILE),
            ("m/data/sample_inputs/model.pt", torch_zip(HOSTILE)),
        ),
    )
    yield (
        "pt2-old-weights",
        "model.pt2",
        archive(
            ("version", b"1"),
            ("serialized_state_dict.pt", torch_zip(HOSTILE)),
            ("serialized_exported_program.json", b"{}"),
        ),
    )
    yield (
        "skops-untrusted-type",
        "model.skops",
        archive(
            (
                "schema.json",
                json.dumps(
                    {
                        "__class__": "system",
                        "__module__": "os",
                        "__loader__": "ObjectNode",
                        "__id__": 1,
                    }
                ).encode(),
            )
        ),
    )
    yield (
        "skops-method-node",
        "model.skops",
        archive(
            (
                "schema.json",
                json.dumps(
                    {
                        "__class__": "dict",
                        "__module__": "builtins",
                        "__loader__": "MethodNode",
                        "content": {"func": "__init__", "obj": {}},
                    }
                ).encode(),
            )
        ),
    )
    yield (
        "stable-baselines",
        "model.zip",
        archive(
            (
                "data",
                json.dumps(
                    {
                        "policy_class": {
                            ":type:": "<class 'abc.ABCMeta'>",
                            ":serialized:": base64.b64encode(HOSTILE).decode(),
                        }
                    }
                ).encode(),
            ),
            ("policy.pth", torch_zip(EMPTY)),
            ("_stable_baselines3_version", b"2.3.2"),
        ),
    )
    yield "wheel", "package.whl", archive(("hostile/__init__.py", b"print('hostile')\n"))
    yield "jar", "model.jar", archive(("META-INF/MANIFEST.MF", b"Main-Class: Hostile\n"))


def arrays():
    """Files of numpy."""
    yield "npy-objects", "a.npy", OBJECTS
    yield (
        "npy-objects-in-record",
        "a.npy",
        npy(
            "{'descr': [('a', '<f4'), ('b', '|O')], 'fortran_order': False, 'shape': (1,), }",
            HOSTILE,
        ),
    )
    yield (
        "npy-header-code",
        "a.npy",
        npy(
            "{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (1,), }",
            bytes(8),
        ),
    )
    yield (
        "npy-shape-overflow",
        "a.npy",
        npy(
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387905,), }", bytes(4)
        ),
    )
    yield "npy-truncated", "a.npy", NUMBERS[:-1]
    yield "npy-data-behind", "a.npy", NUMBERS + HOSTILE
    yield "npy-header-of-4-gib", "a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"
    yield "npy-is-pickle", "a.npy", HOSTILE
    yield "npz-objects", "a.npz", archive(("a.npy", NUMBERS), ("b.npy", OBJECTS))
    yield "npz-pickle", "a.npz", archive(("a.npy", HOSTILE))
    yield "npz-other-name", "a.npz", archive(("a.npy", NUMBERS), ("b.pkl", HOSTILE))


def tars():
    """Tar containers."""
    members = ("pickle", HOSTILE), ("storages", EMPTY), ("tensors", EMPTY)
    yield "torch-tar-pickle", "model.pt", tar(*members)
    yield (
        "torch-tar-storages",
        "model.pt",
        tar(("pickle", EMPTY), ("storages", HOSTILE), ("tensors", EMPTY)),
    )
    yield (
        "torch-tar-second",
        "model.pt",
        tar(("pickle", HOSTILE), ("storages", EMPTY), ("tensors", EMPTY), ("pickle", EMPTY)),
    )
    yield "tar-pickle", "model.tar", tar(("a/model.pkl", HOSTILE))
    yield "tar-parent", "model.tar", tar(("../hostile.txt", b"x"))
    yield "tar-absolute", "model.tar", tar(("/tmp/hostile.txt", b"x"))
    yield "tar-symbolic-link", "model.tar", tar(link("a", "/etc"), ("a/hostile.txt", b"x"))
    yield "tar-hard-link", "model.tar", tar(link("a.txt", "../../etc/hostname", tarfile.LNKTYPE))
    yield "tar-device", "model.tar", tar(link("a", "", tarfile.CHRTYPE))
    yield "tar-truncated", "model.tar", tar(("a/model.pkl", bytes(4096)))[:1024]
    yield "tar-bad-checksum", "model.tar", b"x" + tar(("a.pkl", HOSTILE))[1:]
    yield (
        "nemo-target",
        "model.nemo",
        tar(
            ("model_config.yaml", b"target: os.system\nx:\n  _target_: os.system\n"),
            ("model_weights.ckpt", torch_zip(EMPTY)),
        ),
    )
    yield "tar-in-gzip", "model.tar.gz", gzip.compress(tar(("a.pkl", HOSTILE)), mtime=0)


def others():
    """Formats that no scanner of ours follows."""
    yield "seven-zip", "model.7z", b"7z\xbc\xaf'\x1c\0\4" + bytes(24)
    yield "rar", "model.rar", b"Rar!\x1a\x07\x01\0" + bytes(24)
    yield "tensorizer", "model.tensors", b"|TZR|\0" + bytes(64) + HOSTILE
    yield "executorch", "model.pte", struct.pack("<I", 32) + b"ET12" + bytes(64)
    yield "llamafile", "model.llamafile", b"MZqFpD='\n" + bytes(64) + archive(("a.gguf", b"GGUF"))
    yield "native-library", "model.so", b"\x7fELF\x02\x01\x01" + bytes(64)
    yield "native-library-as-bin", "model.bin", b"\x7fELF\x02\x01\x01" + bytes(64)
    yield "serialized-r", "model.rds", b"X\n\0\0\0\3" + bytes(32)
    yield "java-serialized", "model.ser", b"\xac\xed\0\5sr\0\7Hostile"
    yield "tensorrt-plan", "model.engine", b"ptrt\xf9\0\0\0" + bytes(64)
    yield "core-ml-custom", "model.mlmodel", b"\x08\x04\x12\x00\xda\x22\x09\x0a\x07Hostile"
    yield (
        "pmml",
        "model.pmml",
        b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/hostname'>]><PMML>&a;</PMML>",
    )
    yield "legacy-torch-truncated", "model.pt", legacy_torch(EMPTY)[:20]


def fixtures():
    """Families with the name of the file and its content."""
    yield from zips()
    yield from arrays()
    yield from tars()
    yield from others()


def controls():
    """Containers of data."""
    yield "control-npy", "a.npy", NUMBERS
    yield "control-npz", "a.npz", archive(("a.npy", NUMBERS))
    yield "control-npz-empty", "a.npz", archive()
    yield "control-torch-zip", "a.pt", torch_zip(EMPTY)
