"""The task of the normalise handler, with the tensor kit, in plain Python, or as an empty call.

The configuration selects one.
"""

from array import array

from tensorgate import Tensor, config

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def preprocess(input):
    (photo,) = input
    if config("how") == "start":
        return [photo]
    if config("how") == "plain":
        return [plain(photo)]
    return [Tensor.of("image", photo.array("UINT8").planes(MEAN, DEVIATION))]


def plain(photo):
    _, height, width, channels = photo.shape
    image = array("f")
    for channel in range(channels):
        scale, offset = 1 / (255 * DEVIATION[channel]), MEAN[channel] / DEVIATION[channel]
        image.extend([byte * scale - offset for byte in photo.data[channel::channels]])
    return Tensor("image", "FP32", (1, channels, height, width), image.tobytes())
