"""image-classifier: Pillow and numpy, computed as in `torchvision.transforms` on a Pillow image:
Resize(bilinear), CenterCrop, ToTensor, Normalize.
"""

import io
import struct
import zlib

import numpy as np
from case import Case, answer, raw, refused, tensor
from PIL import Image, ImageFile

HANDLER = "image-classifier"
# The encoder writes a progressive image in one piece.
ImageFile.MAXBLOCK = 16 << 20
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# The rounding error of one operation on an FP32.
EXACT = 1e-6
# Four steps of 255 over the smallest deviation, because decoders round colours differently.
JPEG = 0.07
SMALL = {"resize": "32", "crop": "28"}


def reference(data, resize, crop):
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    short, long = min(width, height), max(width, height)
    longer = int(resize * long / short)
    size = (resize, longer) if width <= height else (longer, resize)
    image = image.resize(size, Image.Resampling.BILINEAR)
    top, left = (int(round((side - crop) / 2.0)) for side in (size[1], size[0]))
    image = image.crop((left, top, left + crop, top + crop))
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    pixels = (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))[None]


def picture(rng, width, height, smooth=True):
    """A few blurred patches of colour, or noise. Only whole numbers, so that every machine draws
    the same.
    """
    if not smooth:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    patches = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels, kind, **more):
    out = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(out, kind, **more)
    return out.getvalue()


def case(name, data, config):
    kind = "jpeg" if data[:2] == b"\xff\xd8" else "png"
    made = reference(data, int(config.get("resize", 256)), int(config.get("crop", 224)))
    tolerance = JPEG if kind == "jpeg" else EXACT
    file = f"{name}.{'jpg' if kind == 'jpeg' else 'png'}"
    return Case(name, raw(f"image/{kind}", file), answer(tolerance, tensor("image", made)), config, {file: data})


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(width, height):
    """A PNG of a few hundred bytes that declares a large size, and expands to its first rows."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100_000), 9)) + chunk(b"IEND", b"")


def committed(rng):
    grey = Image.fromarray(picture(rng, 40, 50)).convert("L")
    yield case("colour", encoded(picture(rng, 75, 50), "png"), SMALL)
    yield case("grey", encoded(grey, "png"), SMALL)
    yield case("palette", encoded(Image.fromarray(picture(rng, 33, 47)).quantize(16), "png"), SMALL)
    yield case("alpha", encoded(Image.fromarray(rng.integers(0, 256, (30, 41, 4), dtype=np.uint8), "RGBA"), "png"), SMALL)
    yield case("smaller", encoded(picture(rng, 9, 12, smooth=False), "png"), SMALL)
    yield case("photo", encoded(picture(rng, 96, 64), "jpeg", quality=90), SMALL)
    yield case("progressive", encoded(picture(rng, 64, 80), "jpeg", quality=85, progressive=True), SMALL)
    yield case("grey-photo", encoded(grey, "jpeg", quality=90), SMALL)
    yield from hostile(rng)


def hostile(rng):
    good_png, good_jpeg = encoded(picture(rng, 40, 30), "png"), encoded(picture(rng, 40, 30), "jpeg", progressive=True)
    scan = good_jpeg.index(b"\xff\xda")
    tall = bytearray(good_jpeg)
    size = next(at for at in range(len(tall)) if tall[at : at + 2] in (b"\xff\xc0", b"\xff\xc2")) + 5
    tall[size : size + 4] = b"\xff\xff\xff\xff"
    wide = Image.fromarray(rng.integers(0, 60000, (30, 40), dtype=np.uint16))
    cmyk = Image.fromarray(picture(rng, 20, 20)).convert("CMYK")
    for name, kind, data, says in [
        ("png-bomb", "png", bomb(16000, 16000), "at most"),
        ("png-without-end", "png", bomb(2_000_000_000, 2_000_000_000), "at most"),
        ("png-cut", "png", good_png[: len(good_png) // 2], ""),
        ("png-16-bits", "png", encoded(wide, "png"), "16 bits"),
        ("png-and-more", "png", good_png + b"PK\x03\x04", "after the end"),
        ("png-as-jpeg", "jpeg", good_png, "no JPEG"),
        ("jpeg-as-png", "png", good_jpeg, ""),
        ("jpeg-huge", "jpeg", bytes(tall), ""),
        ("jpeg-cut", "jpeg", good_jpeg[: len(good_jpeg) // 2], "without its end"),
        ("jpeg-cut-and-ended", "jpeg", good_jpeg[: len(good_jpeg) // 2] + b"\xff\xd9", ""),
        ("jpeg-many-scans", "jpeg", good_jpeg[:scan] + good_jpeg[scan:-2] * 20 + good_jpeg[-2:], "scans"),
        ("jpeg-cmyk", "jpeg", encoded(cmyk, "jpeg"), "a JPEG in"),
        ("gif", "gif", b"GIF89a\x01\x00\x01\x00", "neither"),
    ]:
        file = f"{name}.bin"
        yield Case(name, raw(f"image/{kind}", file), refused(says), SMALL, {file: data})
    yield Case("not-a-size", raw("image/png", "png-cut.bin"), refused("crop", "reported"), {"crop": "300"})


def fresh(rng):
    for at in range(12):
        width, height = (int(side) for side in rng.integers(5, 400, 2))
        pixels = picture(rng, width, height, smooth=at % 3 == 0)
        config = {"resize": str(int(rng.integers(24, 120)))}
        config["crop"] = str(int(rng.integers(8, int(config["resize"]) + 1)))
        yield case(f"png-{at}", encoded(pixels, "png"), config)
    for at in range(8):
        width, height = (int(side) for side in rng.integers(16, 400, 2))
        more = {"quality": int(rng.integers(60, 96)), "progressive": bool(at & 1), "subsampling": int(rng.integers(0, 3))}
        yield case(f"jpeg-{at}", encoded(picture(rng, width, height), "jpeg", **more), {"resize": "64", "crop": "56"})
    for name, kind, more in (("png", "png", {}), ("jpeg", "jpeg", {"quality": 95, "progressive": True, "subsampling": 0})):
        yield case(f"largest-{name}", encoded(picture(rng, 1448, 1448, smooth=False), kind, **more), {})
    yield case("as-it-is-set", encoded(picture(rng, 640, 480), "png"), {})
