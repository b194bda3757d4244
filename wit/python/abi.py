"""The host's interfaces of wit/handler.wit for CPython as a core module: the canonical ABI of
components over the runtime's memory.

Parameters and results lie in a block of memory whose address the build knows. The package for
authors calls the functions here.
"""

import struct
from collections import namedtuple
from math import prod

import _host
import numpy as np

DATATYPES = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 BF16 FP32 FP64 BYTES".split()

# Places in the block: the result's head behind its address, an operation with its arguments, and
# what the host returns.
RESULT, OPERATION, RETURNED = 8, 64, 128

# What each call uses. A layout in a string would be looked up, and touch more memory of the image.
_parameters = struct.Struct("<5I").unpack_from
_tensor = struct.Struct("<IIB3x4I")
_pack_list = struct.Struct("<I4xB3xII").pack_into
_word = struct.Struct("<I").unpack_from
_shapes = [struct.Struct(f"<{rank}Q") for rank in range(65)]  # numpy has 64 dimensions at most

# The operations of `_host.call`, by the functions that they call.
CONFIG_GET, LOG_WRITE, CONTEXT_GET, CARRY_SET, CARRY_GET, FETCH_GET, LOOKUP_GET = range(7)
IMAGE_DECODE, IMAGE_TAKE = 7, 8

# The address of the first byte of the view of the address space.
BASE = 1

# From the address of a bytes object to that of its first byte.
_HEADER = bytes.__basicsize__ - 1

AT_BUILD = "{} belongs to a request: use it in the function, not at the top of a module"
NO_DECODER = (
    "the build has put no decoder for pictures into the component, because it found neither"
    " `decode_image` nor Pillow in the project: import one of them at the top of a module"
)

# Whether a call runs. Until then, the image is being built.
running = False

# Whether the component has the interfaces that a policy grants.
has_fetch = has_lookups = False

# What the host reads after the call has returned. CPython must not reuse the memory before.
_kept = []


# The size of the block. Its last byte tells the build that the component decodes images.
BLOCK_BYTES = 4096
DECODES = BLOCK_BYTES - 1

# The bytes of a block of the tensor kit, which gets images in blocks, and the kind of a failure
# that the data is invalid. The other that can occur is exhausted memory.
KIT_BLOCK, KIT_DATA = 128, 4
CHANNELS = {"GRAY": 0, "RGB": 1, "RGBA": 2}


def bind(memory, exchange):
    """Takes a view of the address space and the address of the block. Raises SystemError unless
    bytes objects lie where this module expects them.
    """
    global _memory, _block, _place
    _memory, _block, _place = memory, exchange, exchange - BASE
    _memory[_place : _place + BLOCK_BYTES] = bytes(BLOCK_BYTES)
    probe = b"tensorgate"
    if view(address(probe), len(probe)) != probe or address(probe) % 8:
        raise SystemError("bytes objects do not lie in memory as expected")


def array_address(array):
    """The address of an array's elements, which the object has behind its head."""
    return _word(_memory, id(array) + object.__basicsize__ - BASE)[0]


def pass_back(world):
    """Makes the tensors that a call has returned the parameters of the next one."""
    words = unpack("<II", _block + RESULT + 4)
    struct.pack_into("<3I", _memory, _place, *([0, *words] if world == "preprocess" else [*words, 0]))


def need_decoder():
    """Makes the build put the decoder of images into the component."""
    _memory[_place + DECODES] = 1


def reset():
    """Ends the calls that were made while the image is built."""
    global running
    running = False
    _kept.clear()
    _memory[_place : _place + RETURNED] = bytes(RETURNED)


def address(data):
    """The address of the first byte of a bytes object."""
    return id(data) + _HEADER


def view(start, count):
    """Memory as a read-only view, without a copy."""
    start -= BASE
    return _memory[start : start + count].toreadonly()


def unpack(layout, start):
    return struct.unpack_from(layout, _memory, start - BASE)


def records(layout, start, count):
    """The items of a list whose records have this layout."""
    return struct.iter_unpack(layout, view(start, count * struct.calcsize(layout)))


def text(start, count):
    return str(view(start, count), "utf-8")


def parameters():
    """The flat parameters of the export."""
    return _parameters(_memory, _place)


def given_tensors(start, count):
    """The fields of each tensor of a parameter. The data is a view of the request's bytes."""
    for name, length, datatype, dims, rank, data, size in _tensor.iter_unpack(view(start, count * _tensor.size)):
        shape = _shapes[rank].unpack_from(_memory, dims - BASE)
        yield text(name, length), DATATYPES[datatype], shape, view(data, size)


def return_tensors(tensors):
    """Returns tensors: for each its name, datatype, shape, and the address and size of its data."""
    lowered = [
        _tensor.pack(*_bytes(name.encode()), DATATYPES.index(datatype), *_dims(shape), *data)
        for name, datatype, shape, data in tensors
    ]
    _pack_list(_memory, _place, _block + RESULT, 0, _bytes(b"".join(lowered))[0], len(lowered))


def return_rejection(log, caller):
    option = (0, 0, 0) if caller is None else (1, *_text(caller))
    _return("B3xB3xIIB3xII", 1, 0, *_text(log), *option)


def return_fault(log):
    _return("B3xB3xII", 1, 1, *_text(log))


def _return(layout, *fields):
    struct.pack_into("<I4x" + layout, _memory, _place, _block + RESULT, *fields)


def _bytes(data):
    """Address and size of a bytes object, which stays alive until the end of the call. A list of
    records must be aligned even if it is empty, and objects that CPython has from the start are not.
    """
    _kept.append(data)
    return address(data) if data else 0, len(data)


def _text(value):
    return _bytes(value.encode("utf-8", "replace"))


def _dims(shape):
    return _bytes(_shapes[len(shape)].pack(*shape))[0], len(shape)


def _texts(values):
    """Address and length of a list of strings."""
    fields = [field for value in values for field in _text(value)]
    return _bytes(struct.pack(f"<{len(fields)}I", *fields))[0], len(values)


def _ask(name, operation, *words):
    """Calls the host, and returns the address of what it returns."""
    if not running:
        raise RuntimeError(AT_BUILD.format(name))
    struct.pack_into(f"<{len(words) + 1}I", _memory, _place + OPERATION, operation, *words)
    try:
        _host.call(b"")
    except ConnectionRefusedError:  # the host has answered in the block, not in a frame
        pass
    return _block + RETURNED


def _optional_text(start):
    there, *place = unpack("<B3xII", start)
    return text(*place) if there else None


def config_get(key):
    return _optional_text(_ask("config", CONFIG_GET, *_text(key)))


def log_write(level, message):
    _ask("log", LOG_WRITE, LEVELS.index(level), *_text(message))


def carry_set(data):
    _ask("carry", CARRY_SET, *_bytes(data))


def carry_get():
    return bytes(view(*unpack("<II", _ask("carry", CARRY_GET))))


def context_get():
    start = _ask("context", CONTEXT_GET)
    *places, time, listed, count, tensors, rank = unpack("<10IQ4I", start)
    texts = [text(*places[at : at + 2]) for at in range(0, 10, 2)]
    entries = [
        (text(name, length), Parameter(_parameter(kind, value)))
        for name, length, kind, value in records("<IIB7x8s", listed, count)
    ]
    shapes = [
        Shape(text(name, length), _shapes[rank].unpack_from(_memory, dims - BASE))
        for name, length, dims, rank in records("<4I", tensors, rank)
    ]
    body = Body(shapes, _optional_text(start + 64), *unpack("<Q", start + 80))
    return Request(*texts, time, entries, body)


def _parameter(kind, value):
    if kind == 4:
        return text(*struct.unpack("<II", value))
    return struct.unpack_from(("<?", "<q", "<Q", "<d")[kind], value)[0]


def fetch_get(urls):
    start, count = unpack("<II", _ask("fetch", FETCH_GET, *_texts(urls)))
    return [
        FAILURES[kind & 255] if failed else File(text(kind, length), bytes(view(data, size)))
        for failed, kind, length, data, size in records("<B3x4I", start, count)
    ]


def lookup_get(name, features, keys):
    start = _ask("lookup", LOOKUP_GET, *_text(name), *_texts(features), *_texts(keys))
    failed, listed, count = unpack("<B3xII", start)
    if failed:
        return FAILURES[listed & 255]
    return {
        text(name, length): [value if there else None for there, value in records("<B7xd", values, rows)]
        for name, length, values, rows in records("<4I", listed, count)
    }


def decoded(data, channels, max_pixels):
    """The pixels of an image in GRAY, RGB or RGBA, by the decoder in the component. Raises
    ValueError for data that is no image, damaged or too large.
    """
    if running and not _memory[_place + DECODES]:
        raise RuntimeError(NO_DECODER)
    data, kind = bytes(data), CHANNELS[channels]
    blocks, last = divmod(len(data), KIT_BLOCK)
    start = address(data)
    parts = start if blocks else 0, blocks, start + blocks * KIT_BLOCK, last
    handle, dims = _image(IMAGE_DECODE, *parts, kind, min(max_pixels, 0xFFFFFFFF))
    shape = unpack("<3I", dims)
    size = prod(shape)
    pixels = np.empty(size + -size % KIT_BLOCK, np.uint8)
    _image(IMAGE_TAKE, handle, array_address(pixels))
    return pixels[:size].reshape(shape)


def _image(operation, *words):
    failed, found, *message, dims = unpack("<B3x4I", _ask("decoding a picture", operation, *words))
    if failed:
        raise (ValueError if found & 255 == KIT_DATA else MemoryError)(text(*message))
    return found, dims


Parameter = namedtuple("Parameter", "value")
Shape = namedtuple("Shape", "name shape")
Body = namedtuple("Body", "tensors media_type media_bytes")
Request = namedtuple("Request", "request_id client model version operation time parameters input")
File = namedtuple("File", "content_type data")

LEVELS = "DEBUG INFO WARN ERROR".split()
FAILURES = "refused unavailable timeout too-large wrong-type not-found".split()
