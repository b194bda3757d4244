"""Makes reference.json: what numpy and Pillow make of small arrays, images and sounds.

Run it with both installed. The file is committed, so the tests need neither.

    python3 make-reference.py > reference.json
"""

import io
import json
import struct
import wave

import numpy as np
from PIL import Image

RNG = np.random.default_rng(7)
NAMES = {"float32": "FP32", "float64": "FP64", "bool": "BOOL"}


def of(array):
    array = np.asarray(array)
    name = NAMES.get(array.dtype.name, array.dtype.name.upper())
    return {"datatype": name, "shape": list(array.shape), "hex": array.tobytes().hex()}


def photo(height, width, channels=3):
    y, x = np.mgrid[0:height, 0:width]
    planes = [(x * 7 + y * 3 + 40 * c) % 256 for c in range(channels)]
    noise = RNG.integers(0, 40, (height, width, channels))
    return ((np.stack(planes, -1) + noise) % 256).astype(np.uint8)


def bilinear(image, height, width):
    """Bilinear resampling in double precision, as torch's interpolate(bilinear,
    align_corners=False).
    """
    out = image.astype(np.float64)
    for axis, new in ((0, height), (1, width)):
        old = image.shape[axis]
        at = np.maximum((np.arange(new) + 0.5) * old / new - 0.5, 0)
        low = np.minimum(np.floor(at).astype(int), old - 1)
        high = np.minimum(low + 1, old - 1)
        share = np.expand_dims(at - low, tuple(i for i in range(out.ndim) if i != axis))
        out = np.take(out, low, axis) * (1 - share) + np.take(out, high, axis) * share
    return out


def case(name, given, expected, tolerance=0.0, **arguments):
    return {"call": name, "arguments": arguments, "given": [of(each) for each in given], "expected": [of(each) for each in expected], "tolerance": tolerance}


def file(name, data, expected, tolerance=0.0, **arguments):
    return {"call": name, "arguments": arguments, "file": data.hex(), "given": [], "expected": [of(each) for each in expected], "tolerance": tolerance}


def saved(image, **options):
    made = io.BytesIO()
    image.save(made, **options)
    return made.getvalue()


def resizes():
    for height, width, new_height, new_width in ((9, 13, 5, 7), (5, 7, 11, 10), (8, 8, 8, 3), (16, 4, 4, 4), (1, 1, 3, 2)):
        image = photo(height, width)
        pillow = Image.fromarray(image)
        size = {"height": new_height, "width": new_width}
        resized = lambda filter: np.asarray(pillow.resize((new_width, new_height), filter))
        yield case("resize", [image], [resized(Image.BILINEAR)], filter="antialias", **size)
        yield case("resize", [image], [resized(Image.NEAREST)], filter="nearest", **size)
        yield case("resize", [image], [np.rint(bilinear(image, new_height, new_width)).astype(np.uint8)], 1.0, filter="bilinear", **size)
        floats = image[..., 0].astype(np.float32)
        single = np.asarray(Image.fromarray(floats, mode="F").resize((new_width, new_height), Image.BILINEAR))
        yield case("resize", [floats], [single], 1e-3, filter="antialias", **size)
        yield case("resize", [floats], [bilinear(floats, new_height, new_width).astype(np.float32)], 1e-3, filter="bilinear", **size)


def images():
    rgb, rgba = photo(6, 5), photo(6, 5, 4)
    for image, options in (
        (Image.fromarray(rgb), {}),
        (Image.fromarray(rgba), {}),
        (Image.fromarray(rgb[..., 0]), {}),
        (Image.fromarray(rgba[..., :2], mode="LA"), {}),
        (Image.fromarray(rgb).quantize(8), {}),
        (Image.fromarray(rgb[..., 0] > 100), {}),
    ):
        data = saved(image, format="PNG", **options)
        for mode, name in (("RGB", "rgb"), ("RGBA", "rgba"), ("L", "gray")):
            # Pillow converts palettes and alpha to grey in several ways; from RGB there is only
            # one.
            made = image.convert("RGB").convert("L") if mode == "L" else image.convert(mode)
            pixels = np.asarray(made)
            yield file("decode_image", data, [pixels.reshape(*pixels.shape[:2], -1)], channels=name)
    large = Image.fromarray(photo(24, 17)).resize((40, 48), Image.BICUBIC)
    for options in ({"quality": 90}, {"quality": 60, "progressive": True}, {"quality": 95, "subsampling": 0}):
        data = saved(large, format="JPEG", **options)
        yield file("decode_image", data, [np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))], channels="rgb")
    data = saved(large.convert("L"), format="JPEG", quality=90)
    yield file("decode_image", data, [np.asarray(Image.open(io.BytesIO(data)))[..., None]], channels="gray")


def pictures():
    """JPEGs of each kind, WebPs and GIFs, decoded as Pillow does."""
    rng = np.random.default_rng(8)

    def drawn(height, width):
        y, x = np.mgrid[0:height, 0:width]
        planes = np.stack([x * 7 + y * 3, x * 3 - y * 5, x * y], -1)
        return Image.fromarray(((planes + rng.integers(0, 40, planes.shape)) % 256).astype(np.uint8))

    def decoded(data, mode="RGB", tolerance=0.0):
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert(mode))
        return file("decode_image", data, [pixels.reshape(*pixels.shape[:2], -1)], tolerance, channels=mode.lower() if mode != "L" else "gray")

    for size, options in (
        ((17, 13), {"subsampling": 0}),
        ((17, 13), {"subsampling": 1}),
        ((17, 13), {"subsampling": 2}),
        ((7, 5), {"subsampling": 2}),
        ((3, 3), {"subsampling": 2}),
        ((1, 1), {"subsampling": 1}),
        ((13, 18), {"subsampling": 0, "progressive": True}),
        ((19, 9), {"subsampling": 2, "progressive": True}),
        ((9, 21), {"subsampling": 1, "progressive": True, "restart_marker_blocks": 1}),
        ((18, 17), {"subsampling": 2, "restart_marker_blocks": 1}),
        ((12, 11), {"keep_rgb": True}),
        ((16, 16), {"quality": 5}),
        ((16, 16), {"quality": 100, "optimize": True}),
    ):
        yield decoded(saved(drawn(*size), format="JPEG", **{"quality": 85, **options}))
    # 4:4:0, which Pillow reads and does not write: a square of whole MCUs has as many of either.
    data = saved(drawn(16, 16), format="JPEG", subsampling=1)
    yield decoded(data.replace(b"\x03\x01\x21\x00", b"\x03\x01\x12\x00"))
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 2}):
        yield decoded(saved(drawn(11, 19).convert("L"), format="JPEG", **options), "L")
    solid, veiled = drawn(9, 11), drawn(9, 11)
    veiled.putalpha(drawn(9, 11).convert("L"))
    for image in (solid, veiled):
        for options in ({"lossless": True, "exact": True}, {"quality": 80}):
            for mode in ("RGB", "RGBA"):
                yield decoded(saved(image, format="WEBP", **options), mode, 0.0 if "exact" in options else 1.0)
    frames = {"save_all": True, "append_images": [drawn(9, 11)], "duration": 50}
    yield decoded(saved(solid, format="WEBP", lossless=True, **frames))
    flat = solid.quantize(8)
    for options in ({}, {"interlace": 1}, {"save_all": True, "append_images": [drawn(9, 11).quantize(8)], "duration": 50}):
        yield decoded(saved(flat, format="GIF", **options))
    yield decoded(saved(flat, format="GIF", transparency=flat.getpixel((0, 0))), "RGBA")


def selections():
    rng = np.random.default_rng(9)
    mask = rng.integers(0, 2, (5, 7)).astype(np.bool_)
    for name in (np.bool_, np.uint8, np.int16, np.float32, np.float64):
        one, other = (rng.integers(0, 2 if name is np.bool_ else 99, (5, 7)).astype(name) for _ in range(2))
        yield case("choose", [mask, one, other], [np.where(mask, one, other)])


def sounds():
    for width, channels in ((1, 1), (2, 2), (3, 1), (4, 2)):
        frames = 9
        whole = RNG.integers(-(2 ** (8 * width - 1)), 2 ** (8 * width - 1), (frames, channels))
        made = io.BytesIO()
        with wave.open(made, "wb") as sound:
            sound.setnchannels(channels)
            sound.setsampwidth(width)
            sound.setframerate(16_000)
            stored = whole + 128 if width == 1 else whole
            sound.writeframes(b"".join(int(each).to_bytes(width, "little", signed=width > 1) for each in stored.flatten()))
        yield file("decode_wav", made.getvalue(), [(whole / 2 ** (8 * width - 1)).astype(np.float32)], 1e-7, rate=16_000)
    floats = RNG.normal(size=(5, 1)).astype(np.float32)
    body = struct.pack("<HHIIHH", 3, 1, 8_000, 32_000, 4, 32)
    data = floats.tobytes()
    riff = b"WAVE" + b"fmt " + struct.pack("<I", len(body)) + body + b"data" + struct.pack("<I", len(data)) + data
    yield file("decode_wav", b"RIFF" + struct.pack("<I", len(riff)) + riff, [floats], rate=8_000)


def arithmetic():
    a8 = RNG.integers(0, 100, (4, 5)).astype(np.uint8)
    i32 = RNG.integers(-50, 50, (4, 5)).astype(np.int32)
    f32 = RNG.normal(size=(4, 5)).astype(np.float32)
    f64 = RNG.normal(size=(1, 5))
    column = RNG.integers(1, 9, (4, 1)).astype(np.int16)
    row = np.array([3, 1, 4, 1, 5], np.int32)
    three = RNG.normal(size=(2, 3, 70)).astype(np.float32)
    per_channel = np.array([[0.5], [2], [-1]], np.float32)
    pixels = photo(9, 11).astype(np.float32)
    operators = {
        "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "floor-divide": np.floor_divide, "remainder": np.remainder,
        "minimum": np.minimum, "maximum": np.maximum, "equal": np.equal, "not-equal": np.not_equal, "less": np.less, "less-equal": np.less_equal,
        "greater": np.greater, "greater-equal": np.greater_equal,
    }
    for name, function in operators.items():
        for one, other in ((i32, row), (i32, column), (f32, f64), (f32, column), (three, per_channel), (pixels, np.array([0.5, 2, 3], np.float32)), (f32, f32 + 1)):
            yield case("combine", [one, other], [function(one, other)], 1e-6, operator=name)
    for name, number in (("add", 7), ("multiply", 2), ("floor-divide", 3), ("remainder", 7), ("divide", 4)):
        yield case("combine_number", [a8], [operators[name](a8, np.uint8(number))], operator=name, number=number, reversed=False)
        yield case("combine_number", [f32], [operators[name](f32, np.float32(number))], 1e-6, operator=name, number=number, reversed=False)
    yield case("combine_number", [f32], [np.float32(1.5) - f32], 1e-6, operator="subtract", number=1.5, reversed=True)
    yield case("combine_number", [a8], [a8 * 0.5], operator="multiply", number=0.5, reversed=False)
    for name, function in {"negative": np.negative, "absolute": np.abs, "exp": np.exp, "tanh": np.tanh, "floor": np.floor, "ceil": np.ceil, "round": np.rint}.items():
        yield case("apply", [f32], [function(f32)], 1e-6, function=name)
    yield case("apply", [i32], [np.abs(i32)], function="absolute")
    yield case("apply", [np.abs(f64)], [np.sqrt(np.abs(f64))], 1e-12, function="sqrt")
    yield case("clip", [i32], [np.clip(i32, -5, 9)], low=-5, high=9)
    yield case("clip", [f32], [np.clip(f32, np.float32(-0.5), np.float32(0.25))], low=-0.5, high=0.25)


def moves():
    block = RNG.integers(-99, 99, (2, 3, 4, 5)).astype(np.int16)
    for axes in ((0, 1, 2, 3), (3, 2, 1, 0), (0, 2, 3, 1), (0, 3, 1, 2), (2, 3, 0, 1), (1, 0, 2, 3)):
        yield case("transpose", [block], [block.transpose(axes)], axes=axes)
    image = photo(20, 17)
    yield case("transpose", [image], [image.transpose(2, 0, 1)], axes=(2, 0, 1))
    wide = RNG.normal(size=(33, 20))
    yield case("transpose", [wide], [wide.T], axes=(1, 0))
    yield case("slice", [block], [block[:, 1:, ::-1, 1::2]], spans=((0, 2, 1), (1, 2, 1), (3, 4, -1), (1, 2, 2)))
    yield case("slice", [block], [block[:0]], spans=((0, 0, 1), (0, 3, 1), (0, 4, 1), (0, 5, 1)))
    yield case("gather", [block], [np.take(block, [3, 0, 0], 2)], axis=2, indices=(3, 0, 0))
    yield case("pad", [block], [np.pad(block, ((0, 1), (0, 0), (2, 0), (1, 1)), constant_values=-7)], before=(0, 0, 2, 1), after=(1, 0, 0, 1), value=-7)
    yield case("fit", [block], [block[:, :, :, :3]], axis=3, length=3, value=0)
    yield case("fit", [block], [np.pad(block, ((0, 0), (0, 2), (0, 0), (0, 0)), constant_values=9)], axis=1, length=5, value=9)
    for axis in range(4):
        yield case("concat", [block, block[::-1]], [np.concatenate([block, block[::-1]], axis)], axis=axis)
    for name in (np.uint8, np.int64, np.float32, np.float64, np.bool_):
        yield case("cast", [block.clip(0)], [block.clip(0).astype(name)], datatype=NAMES.get(np.dtype(name).name, np.dtype(name).name.upper()))
    floats = (RNG.normal(size=9) * 50).astype(np.float32)
    yield case("cast", [floats], [floats.astype(np.int8)], datatype="INT8")


def reductions():
    f32, i32 = RNG.normal(size=(3, 4, 5)).astype(np.float32), RNG.integers(-9, 9, (3, 4, 5)).astype(np.int32)
    functions = {"sum": np.sum, "mean": np.mean, "minimum": np.min, "maximum": np.max, "argmax": np.argmax, "argmin": np.argmin}
    for name, function in functions.items():
        for axis in (None, 0, 1, 2):
            for array in (f32, i32):
                made = np.asarray(function(array, axis=axis))
                yield case("reduce", [array], [made], 1e-6, reduction=name, axis=axis)
    for axis in range(3):
        power = np.exp(f32.astype(np.float64))
        yield case("softmax", [f32 + 300], [(power / power.sum(axis, keepdims=True)).astype(np.float32)], 1e-4, axis=axis)
    for k in (0, 1, 3, 5):
        places = np.argsort(-i32, axis=-1, kind="stable")[..., :k]
        yield case("top_k", [i32], [np.take_along_axis(i32, places, -1), places.astype(np.int64)], k=k)
    image = photo(13, 9)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    made = ((image / 255 - mean) / std).transpose(2, 0, 1).astype(np.float32)
    yield case("planes", [image], [made], 1e-5, scale=1 / 255, mean=mean, std=std)
    yield case("planes", [np.stack([image, image[::-1]]).astype(np.float32)], [np.stack([made, made[:, ::-1]])], 1e-5, scale=1 / 255, mean=mean, std=std)
    gray = photo(5, 30, 1)
    yield case("planes", [gray], [((gray / 255 - 0.5) / 0.25).transpose(2, 0, 1).astype(np.float32)], 1e-5, scale=1 / 255, mean=(0.5,), std=(0.25,))


def iou(one, other):
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    both = np.prod(np.maximum(high - low, 0))
    return both / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - both)


def suppressions():
    corners = RNG.uniform(0, 40, (60, 2))
    boxes = np.concatenate([corners, corners + RNG.uniform(5, 30, (60, 2))], 1).astype(np.float32)
    scores = RNG.uniform(0, 1, 60).astype(np.float32)
    classes = RNG.integers(0, 3, 60)
    for own in (None, classes):
        kept = []
        for at in np.argsort(-scores, kind="stable"):
            rivals = (other for other in kept if own is None or own[other] == own[at])
            if scores[at] >= 0.2 and all(iou(boxes[other].astype(float), boxes[at].astype(float)) <= 0.4 for other in rivals):
                kept.append(at)
        yield case("nms", [boxes, scores] + ([] if own is None else [own]), [np.array(kept[:10], np.int64)], overlap=0.4, least=0.2, limit=10)


made = [*resizes(), *images(), *sounds(), *arithmetic(), *moves(), *reductions(), *suppressions(), *pictures(), *selections()]
print("[\n" + ",\n".join(json.dumps(each) for each in made) + "\n]")
