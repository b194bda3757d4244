"""The package for authors as an author's tests see it, in CPython with numpy and Pillow, and
in the runtime.
"""

import io
import math
import struct
import unittest

import numpy as np
import tensorgate as tg
from tensorgate import BadInput, Fault, Tensor


class Tensors(unittest.TestCase):
    def test_every_datatype_survives_the_way_there_and_back(self):
        for datatype, dtype, value in [
            ("BOOL", "bool", True),
            ("UINT8", "uint8", 255),
            ("UINT64", "uint64", 2**64 - 1),
            ("INT64", "int64", -(2**63)),
            ("INT32", "int32", -5),
            ("FP16", "float16", 0.5),
            ("FP32", "float32", 0.5),
            ("FP64", "float64", 0.1),
        ]:
            tensor = Tensor.of("t", np.array([[value]], dtype))
            self.assertEqual((tensor.datatype, tensor.shape), (datatype, (1, 1)))
            again = Tensor("t", datatype, (1, 1), tensor.data).array(datatype)
            self.assertEqual((again.dtype, again[0, 0]), (np.dtype(dtype), value))
            self.assertFalse(again.flags.writeable)

    def test_brain_floats_are_widened_and_rounded(self):
        values = [(1.0, 0x3F80), (1 + 2**-8, 0x3F80), (1 + 3 * 2**-8, 0x3F82), (math.inf, 0x7F80), (-2.0, 0xC000)]
        for value, expected in values:
            brain = Tensor.of("t", np.float32([value]), "BF16")
            self.assertEqual((brain.datatype, int.from_bytes(brain.data, "little")), ("BF16", expected))
        nan = Tensor.of("t", np.float32([math.nan]), "BF16").array()
        self.assertTrue(np.isnan(nan).all() and nan.dtype == np.float32)

    def test_what_numpy_makes_an_array_of_is_a_tensor(self):
        class Column:
            """As a column of pandas."""

            def __array__(self, dtype=None, copy=None):
                return np.array(["a", "bé"], dtype=object)

        for values, datatype, shape, data in [
            ([[1.5, 2.0]], "FP64", (1, 2), struct.pack("<2d", 1.5, 2)),
            (np.float32(1), "FP32", (), struct.pack("<f", 1)),
            (np.array([1, 2], ">i2"), "INT16", (2,), struct.pack("<2h", 1, 2)),
            (np.arange(6, dtype="u1").reshape(2, 3)[:, ::-1].T, "UINT8", (3, 2), b"\2\5\1\4\0\3"),
            (["a", b"\0"], "BYTES", (2,), b"\1\0\0\0a\1\0\0\0\0"),
            (np.array([["ab"]]), "BYTES", (1, 1), b"\2\0\0\0ab"),
            (np.array([b"ab"]), "BYTES", (1,), b"\2\0\0\0ab"),
            (Column(), "BYTES", (2,), b"\1\0\0\0a\3\0\0\0b\xc3\xa9"),
            ([[1, 2]], "INT64", (1, 2), struct.pack("<2q", 1, 2)),
            (3, "INT64", (), struct.pack("<q", 3)),
            (np.zeros((0, 3), "f4"), "FP32", (0, 3), b""),
        ]:
            found = Tensor.of("t", values)
            self.assertEqual((found.datatype, found.shape, found.data), (datatype, shape, data))

    def test_a_given_datatype_converts_without_loss_of_kind(self):
        for values, datatype, ok in [
            (np.int32([1]), "INT64", True),
            (np.float64([1]), "FP32", True),
            (np.float32([1]), "FP16", True),
            (np.int64([1]), "INT32", False),
            (np.float32([1]), "INT64", False),
            (np.int64([1]), "FP32", True),
            (np.float32([1]), "FP31", False),
        ]:
            try:
                self.assertEqual((Tensor.of("t", values, datatype).datatype, ok), (datatype, True))
            except Fault as fault:
                self.assertFalse(ok, fault)

    def test_what_is_no_tensor_says_what_to_do(self):
        for values, part in [
            (np.array([{}], dtype=object), "such as dict: convert it"),
            ([None], "such as NoneType"),
            (["a", None], "such as NoneType"),
            ([1j], "np.stack"),
            (np.array(["2026-01-01"], "datetime64[D]"), '.astype("int64")'),
            (np.zeros(1, [("a", "i4")]), "each field"),
            ([[1, 2], [3]], "the same length"),
            (np.ma.masked_array([1, 2], [0, 1]), ".filled("),
            (object(), "such as object"),
        ]:
            with self.assertRaises(Fault) as raised:
                Tensor.of("t", values)
            self.assertIn(part, str(raised.exception))
        for wrong in [
            lambda: Tensor("t", "FP32", (2,), bytes(4)).array(),
            lambda: Tensor("t", "FP32", (1,), bytes(4)).array("INT32"),
            lambda: Tensor("t", "FP32", (2**40, 2**40), bytes(4)).array(),
            lambda: Tensor("t", "BYTES", (0,), b"").array(),
            lambda: Tensor("t", "BYTES", (1,), b"\2\0\0\0a").items(),
        ]:
            with self.assertRaises(BadInput):
                wrong()

    def test_a_tensor_is_equal_to_one_of_the_same_values(self):
        one = Tensor.of("t", np.float32([1]))
        self.assertEqual(one, Tensor("t", "FP32", (1,), struct.pack("<f", 1)))
        self.assertNotEqual(one, Tensor.of("u", np.float32([1])))


class Media(unittest.TestCase):
    def test_pictures(self):
        from PIL import Image

        pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        data = file.getvalue()
        self.assertTrue((tg.decode_image(data) == pixels).all())
        self.assertEqual(tg.decode_image(memoryview(data), "GRAY").shape, (2, 4, 1))
        self.assertEqual(tg.decode_image(data, "RGBA").shape, (2, 4, 4))
        for wrong in [b"", b"\xff\xd8\xff\xe0", data[:50], data[:30], b"BM" + data]:
            with self.assertRaises(BadInput):
                tg.decode_image(wrong)
        with self.assertRaisesRegex(BadInput, "4×2 pixels, at most 7"):
            tg.decode_image(data, max_pixels=7)

    def test_sounds(self):
        def wav(tag, bits, raw, channels=1, more=b""):
            form = struct.pack("<HHIIHH", tag, channels, 8000, 0, channels * bits // 8, bits) + more
            body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(raw)) + raw
            return b"RIFF" + struct.pack("<I", len(body)) + body

        for data, expected in [
            (wav(1, 16, struct.pack("<2h", -32768, 16384)), [[-1.0], [0.5]]),
            (wav(1, 16, struct.pack("<2h", -32768, 16384), 2), [[-1.0, 0.5]]),
            (wav(1, 8, b"\0\xc0"), [[-1.0], [0.5]]),
            (wav(1, 24, b"\0\0\x80\0\0\x40"), [[-1.0], [0.5]]),
            (wav(3, 32, struct.pack("<f", 0.25)), [[0.25]]),
            (wav(0xFFFE, 16, struct.pack("<h", 16384), 1, struct.pack("<HHIHxx", 22, 16, 0, 1) + bytes(12)), [[0.5]]),
        ]:
            samples, rate = tg.decode_wav(data)
            self.assertEqual((samples.tolist(), samples.dtype, rate), (expected, np.float32, 8000))
        for wrong in [b"", b"RIFF", data[:20], wav(1, 12, b""), wav(1, 16, b"", 0), b"X" + data[1:]]:
            with self.assertRaises(BadInput):
                tg.decode_wav(wrong)
        with self.assertRaisesRegex(BadInput, "at most 1"):
            tg.decode_wav(wav(1, 8, b"12"), max_frames=1)

    def test_boxes_and_tokens(self):
        boxes = np.float32([[0, 0, 2, 2], [0, 0, 2, 1.9], [5, 5, 6, 6], [0, 0, 2, 2]])
        scores = np.float32([0.5, 0.9, 0.7, 0.1])
        self.assertEqual(tg.nms(boxes, scores, 0.5).tolist(), [1, 2])
        self.assertEqual(tg.nms(boxes, scores, 0.5, classes=[0, 1, 0, 0]).tolist(), [1, 2, 0])
        self.assertEqual(tg.nms(boxes, scores, 0.99, least=0.2, limit=2).tolist(), [1, 2])
        self.assertEqual(tg.nms(np.zeros((0, 4)), np.zeros(0), 0.5).tolist(), [])
        tokens, there = tg.pad_tokens([[1, 2, 3], [4]], 2, value=9)
        self.assertEqual((tokens.tolist(), there.tolist()), ([[1, 2], [4, 9]], [[1, 1], [1, 0]]))
        self.assertEqual((tokens.dtype, there.dtype), (np.int64, np.int64))


if __name__ == "__main__":
    unittest.main()
