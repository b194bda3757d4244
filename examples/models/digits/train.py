#!/usr/bin/env python3
"""Trains the example model and records the answers that a second runtime must give.

Data: the 1797 handwritten digits that scikit-learn bundles (8x8 pixels, whole numbers 0 to 16,
one for each of a block's 4x4 scanned pixels). A quarter, 450 images, is held out and never
trained on.

It writes, beside this file:
- 1/model.onnx: Flatten, Gemm, Relu, Gemm, Softmax, from `image` FP32 [n,1,8,8] in 0..16 to
  `probabilities` FP32 [n,10]
- heldout.bin: the whole held-out split with ONNX Runtime's answers; see `write_heldout` for the
  layout
- model.json: accuracy, versions, digests
- in ../../images: real held-out digits as PNGs, digit-<label>-<index in the split>.png

Run: python3 -m venv V && V/bin/pip install --require-hashes -r requirements.txt && V/bin/python
train.py

Two runs on one machine write the same bytes. Another kind of CPU may round differently in
training. The files in the repository are the record, and the tests compare with those.
"""

import os

# Before numpy is loaded: one thread and one kernel, so that sums are added up in one order.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["OPENBLAS_CORETYPE"] = "Haswell"

import hashlib
import json
import pathlib
import platform
import struct
import zlib

import numpy
import onnx
import onnxruntime
import sklearn
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HERE = pathlib.Path(__file__).resolve().parent
IMAGES = HERE.parent.parent / "images"
SEED = 7
HIDDEN = 32
SIDE = 8
CLASSES = 10
# The greatest value in the dataset.
WHITE = 16
# Held-out digits that are written as images, one of each label here, and the one that is also
# written enlarged.
PICTURED = [0, 2, 3, 5, 7, 8]
ENLARGED = 5
ENLARGED_SIDE = 64


def build(network):
    """The trained network as an ONNX graph. Pixels stay 0..16: the first weights include the
    division by 16, which is exact.
    """
    weights = [
        ("hidden_weight", network.coefs_[0] / WHITE),
        ("hidden_bias", network.intercepts_[0]),
        ("class_weight", network.coefs_[1]),
        ("class_bias", network.intercepts_[1]),
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["pixels"], axis=1),
            helper.make_node("Gemm", ["pixels", "hidden_weight", "hidden_bias"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("Gemm", ["active", "class_weight", "class_bias"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        ],
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(value.astype(numpy.float32), name) for name, value in weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tensorgate")
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def write_heldout(path, images, labels, answers):
    """Little-endian, no padding: b"TGSPLIT1", u32 images, u32 pixels an image, u32 classes; then
    every image's pixels (u8, 0..16, row-major), every label (u8), every image's probabilities
    (f32).
    """
    header = b"TGSPLIT1" + struct.pack("<III", len(images), SIDE * SIDE, CLASSES)
    path.write_bytes(header + images.astype("u1").tobytes() + labels.astype("u1").tobytes() + answers.astype("<f4").tobytes())


def png(pixels):
    """An 8-bit greyscale PNG of values 0..16. A value v is written as round(v * 255 / 16). This is
    lossless: round(p * 16 / 255) is v again.
    """

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = pixels.shape
    grey = (pixels.astype("u4") * 255 * 2 + WHITE) // (2 * WHITE)
    rows = b"".join(b"\0" + row.astype("u1").tobytes() for row in grey)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def write_pictures(images, labels, predicted):
    """For each of these labels the first held-out image that the model classifies correctly."""
    IMAGES.mkdir(exist_ok=True)
    for old in IMAGES.glob("digit-*.png"):
        old.unlink()
    names = []
    for label in PICTURED:
        index = int(numpy.flatnonzero((labels == label) & (predicted == label))[0])
        pictures = {f"digit-{label}-{index}.png": images[index, 0]}
        if label == ENLARGED:
            scale = numpy.ones((ENLARGED_SIDE // SIDE, ENLARGED_SIDE // SIDE))
            pictures[f"digit-{label}-{index}-{ENLARGED_SIDE}x{ENLARGED_SIDE}.png"] = numpy.kron(images[index, 0], scale)
        for name, pixels in pictures.items():
            (IMAGES / name).write_bytes(png(pixels))
            names.append(name)
    return names


def main():
    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        digits.data, digits.target, test_size=0.25, random_state=SEED, stratify=digits.target
    )
    network = MLPClassifier((HIDDEN,), alpha=1e-2, learning_rate_init=5e-3, max_iter=400, random_state=SEED)
    network.fit(train_x / WHITE, train_y)

    model = build(network)
    model_path = HERE / "1" / "model.onnx"
    model_path.parent.mkdir(exist_ok=True)
    model_path.write_bytes(model)

    images = test_x.reshape(-1, 1, SIDE, SIDE).astype(numpy.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    # One image at a time, as in a request. A larger batch may add in another order.
    answers = numpy.concatenate([session.run(["probabilities"], {"image": image[None]})[0] for image in images])
    predicted = answers.argmax(axis=1)
    write_heldout(HERE / "heldout.bin", images, test_y, answers)
    pictures = write_pictures(images, test_y, predicted)

    correct = int((predicted == test_y).sum())
    record = {
        "model": "digits",
        "version": "1",
        "trained_on": len(train_y),
        "held_out": len(test_y),
        "correct": correct,
        "accuracy": round(correct / len(test_y), 6),
        "sha256": {
            name: hashlib.sha256((HERE / name).read_bytes()).hexdigest() for name in ["1/model.onnx", "heldout.bin"]
        },
        "images": pictures,
        "made_with": {
            "numpy": numpy.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
            "scikit-learn": sklearn.__version__,
        },
    }
    (HERE / "model.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{correct} of {len(test_y)} held-out images right ({correct / len(test_y):.2%})")


if __name__ == "__main__":
    main()
