"""Pickles that run code, hide it, or stop a scanner in the middle.

Nothing here is ever loaded. Each command is an `echo`.
"""

import bz2
import gzip
import lzma
import struct
import zlib

COMMAND = "echo hostile"


def text(value):
    """A string, as protocol 2 writes it."""
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value):
    """A number of 32 bits."""
    return b"J" + struct.pack("<i", value)


def name(module, attribute):
    """The import of a global by GLOBAL."""
    return f"c{module}\n{attribute}\n".encode()


def call(function, *arguments):
    """A call by REDUCE. Strings and numbers are written as such, bytes are operations."""
    written = [
        text(a) if isinstance(a, str) else number(a) if isinstance(a, int) else a for a in arguments
    ]
    return function + b"(" + b"".join(written) + b"tR"


def protocol(operations, version=2):
    """A pickle of these operations."""
    return bytes([0x80, version]) + operations + b"."


SYSTEM = name("os", "system")
RUN = call(SYSTEM, COMMAND)
HOSTILE = protocol(RUN)
EMPTY = protocol(b"}")

# Functions that find another by its name, so that the pickle names neither.
RESOLVERS = {
    "builtins-getattr": call(
        call(name("builtins", "getattr"), call(name("builtins", "__import__"), "os"), "system"),
        COMMAND,
    ),
    "pkgutil-resolve-name": call(call(name("pkgutil", "resolve_name"), "os:system"), COMMAND),
    "importlib-methodcaller": call(
        call(name("operator", "methodcaller"), "system", COMMAND),
        call(name("importlib", "import_module"), "os"),
    ),
    "inspect-getattr-static": call(
        call(
            name("inspect", "getattr_static"),
            call(name("importlib", "import_module"), "os"),
            "system",
        ),
        COMMAND,
    ),
    "operator-itemgetter": call(
        call(call(name("operator", "itemgetter"), "eval"), name("builtins", "__dict__")), "1+1"
    ),
    "operator-attrgetter": call(
        call(
            call(name("operator", "attrgetter"), "system"),
            call(name("importlib", "import_module"), "os"),
        ),
        COMMAND,
    ),
    "runpy": call(name("runpy", "run_module"), "this"),
    "runpy-run-code": call(name("runpy", "_run_code"), "print('hostile')", b"}"),
    "ctypes": call(name("ctypes", "CDLL"), "libhostile.so"),
    "pydoc-locate": call(call(name("pydoc", "locate"), "os.system"), COMMAND),
    "builtins-eval": call(name("builtins", "eval"), "1+1"),
    "builtins-exec": call(name("builtins", "exec"), "print('hostile')"),
    "python2-builtin": call(name("__builtin__", "eval"), "1+1"),
    "functools-partial": call(call(name("functools", "partial"), SYSTEM, COMMAND)),
    "functools-reduce": call(name("functools", "reduce"), SYSTEM, b"]" + text(COMMAND) + b"a"),
    "builtins-map": call(
        name("builtins", "list"),
        call(name("builtins", "map"), SYSTEM, b"]" + text(COMMAND) + b"a"),
    ),
    "logging-resolve": call(call(name("logging.config", "_resolve"), "os.system"), COMMAND),
    "unittest-importer": call(call(name("unittest.mock", "_importer"), "os.system"), COMMAND),
    "types-code": call(name("types", "FunctionType"), call(name("types", "CodeType"), 0)),
    "collections-defaultdict": call(name("collections", "defaultdict"), SYSTEM),
    "collections-defaultdict-partial": call(
        name("collections", "defaultdict"), call(name("functools", "partial"), SYSTEM, COMMAND)
    ),
    "numpy-generator-class": call(name("numpy.random._pickle", "__bit_generator_ctor"), SYSTEM),
    "numpy-generator-function": call(
        name("numpy.random._pickle", "__generator_ctor"), COMMAND, SYSTEM
    ),
    "torch-rebuild-from-type": call(
        name("torch._tensor", "_rebuild_from_type_v2"),
        SYSTEM,
        name("torch", "Tensor"),
        text(COMMAND) + b"\x85",
        b"}",
    ),
    "dotted-attribute": b"\x80\x04" + text("collections") + text("abc.sys.modules") + b"\x93.",
    "sys-modules": name("sys", "modules"),
}

# Functions that run a string, a command, a library or another pickle.
EXECUTION = {
    "os-system": RUN,
    "posix-system": call(name("posix", "system"), COMMAND),
    "nt-system": call(name("nt", "system"), COMMAND),
    "subprocess": call(name("subprocess", "Popen"), COMMAND),
    "commands": call(name("commands", "getoutput"), COMMAND),
    "pty": call(name("pty", "spawn"), COMMAND),
    "profile-run": call(name("profile", "run"), "print('hostile')"),
    "cprofile-run": call(name("cProfile", "run"), "print('hostile')"),
    "timeit": call(name("timeit", "timeit"), "print('hostile')"),
    "trace-run": call(name("trace", "Trace.run"), "print('hostile')"),
    "bdb-run": call(name("bdb", "Bdb.run"), "print('hostile')"),
    "pdb-run": call(name("pdb", "run"), "print('hostile')"),
    "doctest": call(name("doctest", "debug_script"), "print('hostile')"),
    "code-interpreter": call(name("code", "InteractiveInterpreter.runsource"), "1+1"),
    "idlelib": call(name("idlelib.pyshell", "ModifiedInterpreter.runcommand"), "1+1"),
    "lib2to3": call(name("lib2to3.pgen2.pgen", "ParserGenerator.make_label"), "1+1"),
    "distutils-spawn": call(name("distutils.spawn", "spawn"), b"]" + text("echo") + b"a"),
    "pipes-template": call(name("pipes", "Template.open"), COMMAND),
    "mailcap": call(name("mailcap", "findmatch"), b"}", "text/plain"),
    "marshal": call(name("marshal", "loads"), text("N")),
    "posixsubprocess": call(name("_posixsubprocess", "fork_exec"), b"]"),
    "winapi": call(name("_winapi", "CreateProcess"), COMMAND),
    "ctypes-raw": call(name("_ctypes", "dlopen"), "libhostile.so"),
    "uuid": call(name("uuid", "_get_command_stdout"), "echo", "hostile"),
    "osx-support": call(name("_osx_support", "_read_output"), COMMAND),
    "aix-support": call(name("_aix_support", "_read_cmd_output"), COMMAND),
    "pyrepl-pager": call(name("_pyrepl.pager", "pipe_pager"), "x", COMMAND),
    "imaplib": call(name("imaplib", "IMAP4_stream"), COMMAND),
    "asyncio": call(name("asyncio.unix_events", "_UnixSubprocessTransport._start"), COMMAND),
    "multiprocessing": call(name("multiprocessing.util", "spawnv_passfds"), "echo", b"]"),
    "ensurepip": call(name("ensurepip", "_run_pip"), b"]"),
    "pip": call(name("pip", "main"), b"]"),
    "webbrowser": call(name("webbrowser", "open"), "http://127.0.0.1/"),
    "urllib": call(name("urllib.request", "urlopen"), "http://127.0.0.1/"),
    "socket": call(name("socket", "create_connection"), b"]"),
    "smtplib": call(name("smtplib", "SMTP"), "127.0.0.1"),
    "shutil": call(name("shutil", "which"), "echo"),
    "write-file": call(name("io", "open"), "/tmp/hostile", "w"),
    "pathlib-write": call(name("pathlib", "Path.write_text"), "/tmp/hostile", "x"),
    "sqlite-extension": call(name("sqlite3", "connect"), "/tmp/hostile"),
    "pickle-loads": call(name("_pickle", "loads"), text("N.")),
    "dill": call(name("dill", "loads"), text("N.")),
    "joblib-load": call(name("joblib", "load"), "hostile.joblib"),
    "pandas": call(name("pandas", "read_pickle"), "hostile.pkl"),
    "numpy-load": call(name("numpy", "load"), "hostile.npy"),
    "numpy-runstring": call(name("numpy.testing._private.utils", "runstring"), "1+1", b"}"),
    "numpy-f2py": call(name("numpy.f2py.crackfortran", "getlincoef"), "1+1", b"}"),
    "torch-hub": call(name("torch.hub", "load"), "owner/hostile", "x"),
    "torch-load-from-bytes": call(name("torch.storage", "_load_from_bytes"), text("N.")),
    "torch-bottleneck": call(name("torch.utils.bottleneck.__main__", "run_cprofile"), "1+1", b"}"),
    "torch-inductor": call(name("torch._inductor.codecache", "compile_file"), "x", "y"),
    "torch-parameter-state": call(
        name("torch._utils", "_rebuild_parameter_with_state"), b"N", b"\x89", b"}", b"}"
    ),
    "torch-load-library": call(name("torch", "ops.load_library"), "libhostile.so"),
    "transformers": call(name("transformers", "AutoModel.from_pretrained"), "owner/hostile"),
    "sklearn-estimator": b"csklearn.linear_model\nLogisticRegression\n)\x81}b",
    "unheard-of-module": call(name("hostile_module", "function"), COMMAND),
}

POISONED = text("os") + b"q\x00" + text("collections") + b"q\x00" + text("OrderedDict") + b"q\x01"


def legacy_torch(*pickles):
    """The file of torch before 1.6: the magic number, protocol, system, object, storage keys."""
    magic = protocol(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")
    system = protocol(b"}(" + text("little_endian") + b"\x88u")
    return b"".join([magic, protocol(b"M\xe9\x03"), system, *pickles])


# An array of eight bytes, as joblib before 1.2 describes it.
UNPADDED = (
    name("joblib.numpy_pickle", "NumpyArrayWrapper")
    + b")\x81}("
    + text("subclass")
    + name("numpy", "ndarray")
    + text("shape")
    + b"K\x08\x85"
    + text("order")
    + text("C")
    + text("dtype")
    + call(name("numpy", "dtype"), "u1", b"\x89", b"\x88")
    + text("allow_mmap")
    + b"\x88ub"
)

# Ways to hide a call from a reader that is not the unpickler.
PARSER = {
    "ext1.pkl": protocol(call(name("copyreg", "add_extension"), "os", "system", 7) + b"0\x82\x07"),
    "ext2.pkl": protocol(b"\x83\x07\x01(" + text(COMMAND) + b"tR"),
    "ext4.pkl": protocol(b"\x84\x07\x00\x01\x00(" + text(COMMAND) + b"tR"),
    "stack-global.pkl": protocol(call(text("os") + text("system") + b"\x93", COMMAND), 4),
    "poisoned-memo.pkl": protocol(
        text("os")
        + b"q\x00"
        + b"0"
        + text("x")
        + b"q\x01"
        + text("system")
        + b"q\x02"
        + b"00h\x00h\x02\x93("
        + text(COMMAND)
        + b"tR",
        4,
    ),
    "memo-by-reference.pkl": protocol(
        POISONED
        + b"000"
        + text("os")
        + b"r\x00\x00\x00\x000"
        + b"h\x00"
        + text("system")
        + b"\x93("
        + text(COMMAND)
        + b"tR",
        4,
    ),
    "memo-in-text.pkl": b"S'os'\np0\n0S'system'\np1\n0g0\ng1\n\x93(S'echo hostile'\ntR.",
    "escaped-name.pkl": b"S'o\\x73'\nV\\u0073ystem\n\x93(S'echo hostile'\ntR.",
    "text-protocol.pkl": b"cos\nsystem\n(S'echo hostile'\ntR.",
    "inst.pkl": b"(S'echo hostile'\nios\nsystem\n.",
    "obj.pkl": protocol(b"(" + SYSTEM + text(COMMAND) + b"o"),
    "newobj.pkl": protocol(SYSTEM + text(COMMAND) + b"\x85\x81"),
    "newobj-ex.pkl": protocol(SYSTEM + text(COMMAND) + b"\x85}\x92", 4),
    "build.pkl": protocol(name("hostile_module", "Class") + b")\x81}b"),
    "build-on-allowed.pkl": protocol(
        name("collections", "OrderedDict") + b")R}" + text("__class__") + SYSTEM + b"sb"
    ),
    # NumPy reads the next number from memory beyond the generator.
    "generator-position.pkl": protocol(
        call(
            name("numpy.random._pickle", "__bit_generator_ctor"),
            name("numpy.random._mt19937", "MT19937"),
        )
        + b"}("
        + text("bit_generator")
        + text("MT19937")
        + text("state")
        + b"}("
        + text("pos")
        + number(1 << 20)
        + b"uub"
    ),
    "persistent-id.pkl": protocol(text("hostile") + b"Q"),
    "crash-after-call.pkl": b"\x80\x02" + RUN + b"\xff\xff\xff",
    "truncated-after-call.pkl": b"\x80\x02" + RUN + b"X\xff\xff\xff\x7fab",
    "no-stop.pkl": b"\x80\x02" + RUN,
    "empty-stack-after-call.pkl": b"\x80\x02" + RUN + b"0000000.",
    "import-alone.pkl": protocol(SYSTEM),
    "out-of-band-buffer.pkl": protocol(b"\x97\x98", 5),
    "buffer-before-call.pkl": protocol(b"\x97\x980" + RUN, 5),
    "bytearray-of-2-63.pkl": b"\x80\x05" + RUN + b"\x96" + struct.pack("<Q", 1 << 63) + b"x",
    "oversized-frame.pkl": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + RUN + b".",
    "short-frame.pkl": b"\x80\x04\x95" + struct.pack("<Q", 3) + RUN + b".",
    "frame-over-call.pkl": b"\x80\x04\x95" + struct.pack("<Q", len(RUN) + 1) + RUN + b".",
    "negative-length.pkl": b"\x80\x02" + RUN + b"T\xff\xff\xff\xff.",
    "protocol-255.pkl": b"\x80\xff" + RUN + b".",
    "protocol-in-the-middle.pkl": b"}0\x80\x02" + RUN + b".",
    "second-stream.pkl": EMPTY + HOSTILE,
    "stream-behind-padding.pkl": EMPTY + bytes(64) + HOSTILE,
    "legacy-torch-object.pt": legacy_torch(HOSTILE, protocol(b"]")),
    "legacy-torch-second-pickle.pt": legacy_torch(EMPTY, HOSTILE),
    "legacy-torch-behind.pt": legacy_torch(EMPTY, protocol(b"]"), HOSTILE),
    "legacy-torch-other-magic.pt": protocol(b"M\x01\x02") + HOSTILE,
    "nested-in-bytes.pkl": protocol(
        call(name("pickle", "loads"), b"C" + bytes([len(HOSTILE)]) + HOSTILE), 3
    ),
    "nested-in-string.pkl": protocol(
        call(name("_codecs", "encode"), HOSTILE.decode("latin1"), "latin1")
    ),
    "codec-that-unpacks.pkl": protocol(call(name("_codecs", "encode"), "x", "zlib_codec")),
    "name-with-space.pkl": protocol(call(b"cos \nsystem\n", COMMAND)),
    "name-with-carriage-return.pkl": protocol(call(b"cos\r\nsystem\r\n", COMMAND)),
    "name-of-look-alikes.pkl": protocol(call("cbuiltіns\neval\n".encode(), "1+1")),
    "memo-index-of-2-32.pkl": protocol(b"}r\xff\xff\xff\xff"),
    "shared-key.pkl": protocol(
        b"})q\x00"
        + b"".join(b"0(" + bytes([0x68, i]) * 8 + b"tq" + bytes([i + 1]) for i in range(30))
        + b"Ns"
    ),
    "deep-key.pkl": protocol(b"})" + b"\x85" * 500_000 + b"Ns"),
    "deep-item.pkl": protocol(b"()" + b"\x85" * 500_000 + b"\x91", 4),
    "digits.pkl": b"I" + b"9" * 100_000 + b"\n.",
    "array-of-objects.pkl": protocol(
        call(
            name("numpy.core.multiarray", "scalar"),
            call(name("numpy", "dtype"), "O8", 0, 1),
            b"N",
        )
    ),
    "extension.weights": HOSTILE,
    "extension.dat": HOSTILE,
    "extension.txt": b"cos\nsystem\n(S'echo hostile'\ntR.",
    "extension.json": b"cos\nsystem\n(S'echo hostile'\ntR.",
    "extension.safetensors": HOSTILE,
    "extension.bin": HOSTILE,
    "extension-none": HOSTILE,
    "gzip.pkl": gzip.compress(HOSTILE, mtime=0),
    "zlib.joblib": zlib.compress(HOSTILE),
    "bzip2.joblib": bz2.compress(HOSTILE),
    "xz.joblib": lzma.compress(HOSTILE),
    "bomb.joblib": zlib.compress(bytes(64 << 20)),
    "old-joblib.pkl": b"ZF0x12" + b" " * 13 + zlib.compress(HOSTILE),
    "array-wrapper.joblib": protocol(
        name("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81}b", 3
    )
    + bytes(32),
    "array-wrapper-unpadded.joblib": protocol(UNPADDED + b"cos\nsyst" + RUN, 3),
    "array-wrapper-path.joblib": protocol(
        call(name("joblib.numpy_pickle_compat", "NDArrayWrapper"), "../../hostile.npy", b"N"), 3
    ),
    "lines-in-front.pkl": b"\n\n" + HOSTILE,
    "byte-order-mark.pkl": b"\xef\xbb\xbf" + HOSTILE,
    "empty.pkl": b"",
}


def fixtures():
    """Families with the name of the file and its content."""
    for family, operations in RESOLVERS.items():
        yield f"pickle-resolver-{family}", "model.pkl", protocol(operations)
    for family, operations in EXECUTION.items():
        yield f"pickle-execution-{family}", "model.pkl", protocol(operations)
    for file, content in PARSER.items():
        family, _, ending = file.partition(".")
        if family in ("extension", "extension-none"):
            yield f"pickle-in-{ending or 'no-extension'}", f"model.{ending}".rstrip("."), content
        else:
            yield f"pickle-parser-{family}", f"model.{ending}", content
    yield "pickle-in-upper-case", "MODEL.PKL", HOSTILE


def controls():
    """Pickles of data."""
    yield "control-dictionary", "a.pkl", protocol(b"}" + text("a") + number(1) + b"s")
    yield "control-ordered", "a.pkl", protocol(name("collections", "OrderedDict") + b")R")
