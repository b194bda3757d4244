"""Makes Pillow open JPEG and WebP, which the runtime's own was compiled without.

Pillow's modules read the headers, and their metadata. The decoder in the component, which
`decode_image` uses, takes the place of libjpeg and libwebp. It writes no pictures.
"""

import struct
from importlib import import_module
from types import SimpleNamespace

import tensorgate_abi

# A build imports what an import statement names, and this file is in every build.
Image, ImageFile, JpegImagePlugin, WebPImagePlugin = (
    import_module(f"PIL.{name}") for name in ("Image", "ImageFile", "JpegImagePlugin", "WebPImagePlugin")
)

# The most parts of a WebP file that are looked at for metadata.
MAX_CHUNKS = 64

# Pillow's names of channels, by those of the decoder.
CHANNELS = {"L": "GRAY", "RGB": "RGB", "RGBA": "RGBA"}


def _pixels(data, mode, size):
    """The pixels of a file whose header states a mode and a size."""
    width, height = size
    try:
        pixels = tensorgate_abi.decoded(data, CHANNELS.get(mode, "RGB"), width * height)
    # The caller has chosen the size, and handlers expect this exception.
    except (ValueError, MemoryError) as error:
        raise OSError(f"cannot decode the picture: {error or 'no memory is left'}") from None
    if pixels.shape[:2] != (height, width):
        raise OSError("broken data stream when reading image file")
    return pixels


class JpegDecoder(ImageFile.PyDecoder):
    """Reads the rest of a file."""

    _pulls_fd = True

    def decode(self, _buffer):
        self.set_as_raw(_pixels(self.fd.read(), self.mode, (self.state.xsize, self.state.ysize)))
        return -1, 0


class WebPAnimDecoder:
    """libwebp's decoder of animations. It has the first frame."""

    def __init__(self, data):
        self.data = data
        self.size = WebPImagePlugin._get_size(data)
        if self.size is None:
            raise OSError("could not create decoder object")
        # Where the header has its flags: a lossless picture has the one for alpha after its sizes.
        flags = {b"VP8X": data[20] & 0x10, b"VP8L": data[24] & 0x10}
        self.mode = "RGBA" if flags.get(data[12:16]) else "RGB"
        self.is_read = False

    def get_info(self):
        return self.size, 1, 0xFFFFFFFF, 1, self.mode

    def get_chunk(self, name):
        at = 12
        for _ in range(MAX_CHUNKS):
            if at + 8 > len(self.data):
                return None
            kind, size = struct.unpack_from("<4sI", self.data, at)
            if kind == name.encode():
                return self.data[at + 8 : at + 8 + size]
            at += 8 + size + size % 2

    def reset(self):
        self.is_read = False

    def get_next(self):
        if not self.is_read:
            self.is_read = True
            return _pixels(self.data, self.mode, self.size), 0


tensorgate_abi.need_decoder()
Image.register_decoder("jpeg", JpegDecoder)
# Without libjpeg's smaller scales, `thumbnail` begins with the whole picture.
del JpegImagePlugin.JpegImageFile.draft
WebPImagePlugin._webp = SimpleNamespace(WebPAnimDecoder=WebPAnimDecoder)
WebPImagePlugin.SUPPORTED = True
Image.register_extension("WEBP", ".webp")
Image.register_mime("WEBP", "image/webp")
