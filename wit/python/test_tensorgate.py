"""The package as an author's own tests see it: in plain CPython, without a host."""

import struct
import types
import unittest

import tensorgate as tg
from tensorgate import reach, request
from tensorgate.testing import set_carry, set_config, set_context, set_feature, set_file


class Arrays(unittest.TestCase):
    def test_shapes_and_places(self):
        a = tg.array([[1, 2, 3], [4, 5, 6]], "INT32")
        self.assertEqual((a.shape, a.ndim, a.size, len(a)), ((2, 3), 2, 6, 2))
        for found, expected in [
            (a[1, 2], 6),
            (a[-1, 0], 4),
            (a[0].tolist(), [1, 2, 3]),
            (a[:, 1].tolist(), [2, 5]),
            (a[::-1, 1:].tolist(), [[5, 6], [2, 3]]),
            (a[..., 0].tolist(), [1, 4]),
            (a.T.tolist(), [[1, 4], [2, 5], [3, 6]]),
            (a.reshape(3, -1).tolist(), [[1, 2], [3, 4], [5, 6]]),
            (a.reshape((6,)).tolist(), [1, 2, 3, 4, 5, 6]),
            ([row.tolist() for row in a], [[1, 2, 3], [4, 5, 6]]),
            (tg.array([[[1, 2]], [[3, 4]]]).transpose(2, 0, 1).tolist(), [[[1.0], [3.0]], [[2.0], [4.0]]]),
            (tg.zeros((2, 0)).tolist(), [[], []]),
            (tg.zeros((0, 2)).tolist(), []),
            (tg.zeros((0, 2, 0)).transpose(1, 2, 0).shape, (2, 0, 0)),
            ((tg.zeros((2, 0)) + tg.zeros((1, 0))).shape, (2, 0)),
            (tg.array(7).tolist(), 7.0),
            (tg.stack([a[0], a[1]]).tolist(), a.tolist()),
            (tg.concatenate([a, a]).shape, (4, 3)),
        ]:
            self.assertEqual(found, expected)

    def test_what_does_not_fit_is_an_error(self):
        a = tg.array([[1, 2, 3], [4, 5, 6]], "INT32")
        for error, wrong in [
            (IndexError, lambda: a[2, 0]),
            (IndexError, lambda: a[0, 0, 0]),
            (ValueError, lambda: a.reshape(4, -1)),
            (ValueError, lambda: a.reshape(5)),
            (ValueError, lambda: a.transpose(0, 0)),
            (ValueError, lambda: tg.array([[1, 2], [3]])),
            (ValueError, lambda: a + tg.zeros((2,))),
            (ValueError, lambda: tg.concatenate([a, tg.zeros((1, 3))])),
            (OverflowError, lambda: tg.array([200], "INT8")),
            (OverflowError, lambda: tg.array([200], "UINT8") + 100),
            (TypeError, lambda: tg.array([1], "FP16")),
            (TypeError, lambda: hash(a)),
        ]:
            with self.assertRaises(error):
                wrong()

    def test_arithmetic_broadcasts_and_promotes(self):
        a = tg.array([[1, 2, 3], [4, 5, 6]], "UINT8")
        row, column = tg.array([10, 20, 30], "UINT8"), tg.array([[1], [2]], "UINT8")
        for found, dtype, expected in [
            (a + row, "UINT8", [[11, 22, 33], [14, 25, 36]]),
            (a * column, "UINT8", [[1, 2, 3], [8, 10, 12]]),
            (10 - a[0], "UINT8", [9, 8, 7]),
            (a[0] / 2, "FP64", [0.5, 1.0, 1.5]),
            (1 / tg.array([2.0, 4.0]), "FP32", [0.5, 0.25]),
            (a[0] * 0.5, "FP64", [0.5, 1.0, 1.5]),
            (a[0].astype("FP32") * 0.5, "FP32", [0.5, 1.0, 1.5]),
            (a[0] // 2, "UINT8", [0, 1, 1]),
            (a[0] % 2, "UINT8", [1, 0, 1]),
            (a[0] ** 2, "UINT8", [1, 4, 9]),
            (-a[0].astype("INT8"), "INT8", [-1, -2, -3]),
            (abs(tg.array([-1.5])), "FP32", [1.5]),
            (a[0] + tg.array([1, 1, 1], "INT8"), "INT16", [2, 3, 4]),
            (a[0] + tg.array([1, 1, 1], "INT32"), "INT32", [2, 3, 4]),
            (a[0] + tg.array([1.0, 1.0, 1.0]), "FP32", [2.0, 3.0, 4.0]),
            (tg.array([1], "INT32") + tg.array([1.0]), "FP64", [2.0]),
            (tg.array([1], "UINT64") + tg.array([1], "INT64"), "FP64", [2.0]),
            (a[0] > 1, "BOOL", [False, True, True]),
            (a[0] == row, "BOOL", [False, False, False]),
            ((a[0] > 1) * 3, "INT64", [0, 3, 3]),
            (tg.array([-1.0, 0.5, 2.0]).clip(0, 1), "FP32", [0.0, 0.5, 1.0]),
            (tg.array([1.9, -1.9]).astype("INT8"), "INT8", [1, -1]),
            (tg.array([0.0, 2.0]).astype("BOOL"), "BOOL", [False, True]),
        ]:
            self.assertEqual((found.dtype, found.tolist()), (dtype, expected))

    def test_reductions(self):
        a = tg.array([[1, 2, 3], [4, 6, 5]])
        for found, expected in [
            (a.sum(), 21.0),
            (a.mean(), 3.5),
            (a.sum(axis=0).tolist(), [5.0, 8.0, 8.0]),
            (a.sum(axis=1).tolist(), [6.0, 15.0]),
            (a.max(axis=-1).tolist(), [3.0, 6.0]),
            (a.min(axis=0, keepdims=True).tolist(), [[1.0, 2.0, 3.0]]),
            (a.argmax(axis=1).tolist(), [2, 1]),
            (a.argmin(), 0),
            ((a - a.mean(axis=1, keepdims=True)).tolist(), [[-1.0, 0.0, 1.0], [-1.0, 1.0, 0.0]]),
            (tg.array([200, 100], "UINT8").sum(axis=0).dtype, "INT64"),
            (tg.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]).sum(axis=1).tolist(), [[4.0, 6.0], [12.0, 14.0]]),
        ]:
            self.assertEqual(found, expected)

    def test_writing(self):
        a = tg.zeros((2, 2))
        a[0, 1] = 3
        a[1] = tg.array([4.0, 5.0])
        self.assertEqual(a.tolist(), [[0.0, 3.0], [4.0, 5.0]])
        given = tg.Tensor.of("t", a).array()
        with self.assertRaises(TypeError):
            given[0, 0] = 1
        mine = given.copy()
        mine[:, 0] = 7
        self.assertEqual(mine.tolist(), [[7.0, 3.0], [7.0, 5.0]])


class Masks(unittest.TestCase):
    def test_masks_select_and_write(self):
        a = tg.array([[1, 2, 3], [4, 5, 6]], "INT32")
        rows = tg.array([False, True], "BOOL")
        self.assertEqual((a[a > 2].tolist(), a[rows].tolist(), a[a > 9].shape), ([3, 4, 5, 6], [[4, 5, 6]], (0,)))
        a[a > 4] = 0
        a[rows] = tg.array([7, 8, 9], "INT32")
        self.assertEqual(a.tolist(), [[1, 2, 3], [7, 8, 9]])
        a[a > 7] = tg.array([1, 2], "INT32")
        self.assertEqual(a.tolist(), [[1, 2, 3], [7, 1, 2]])
        for wrong in [lambda: a[tg.array([0, 1], "INT32")], lambda: a[tg.array([True], "BOOL")]]:
            with self.assertRaises(IndexError):
                wrong()


class Tensors(unittest.TestCase):
    def test_every_datatype_survives_the_way_there_and_back(self):
        for dtype, value in [("BOOL", True), ("UINT64", 2**64 - 1), ("INT64", -(2**63)), ("INT8", -128), ("FP32", 0.5), ("FP64", 0.1)]:
            tensor = tg.Tensor.of("t", tg.array([[value]], dtype))
            self.assertEqual((tensor.datatype, tensor.shape), (dtype, (1, 1)))
            self.assertEqual(tensor.array(dtype)[0, 0], value)

    def test_half_precision_is_widened_and_rounded(self):
        half = tg.Tensor("t", "FP16", (2,), struct.pack("<2e", 0.5, -2))
        self.assertEqual((half.array().dtype, half.array().tolist()), ("FP32", [0.5, -2.0]))
        self.assertEqual(tg.Tensor.of("t", half.array(), "FP16").data, half.data)
        for value, expected in [(1.0, 0x3F80), (1 + 2**-8, 0x3F80), (1 + 3 * 2**-8, 0x3F82), (float("inf"), 0x7F80), (-2.0, 0xC000)]:
            brain = tg.Tensor.of("t", tg.array([value]), "BF16")
            self.assertEqual(int.from_bytes(brain.data, "little"), expected)
        nan = tg.Tensor.of("t", tg.array([float("nan")]), "BF16").array()[0]
        self.assertNotEqual(nan, nan)
        self.assertEqual(tg.Tensor("t", "BF16", (1,), b"\x80\x3f").array().tolist(), [1.0])

    def test_a_tensor_without_elements_has_a_shape(self):
        for datatype in ["FP32", "FP16", "BF16", "BOOL"]:
            empty = tg.Tensor("t", datatype, (0, 3), b"").array()
            self.assertEqual((empty.shape, empty.sum(), (empty * 2).tolist(), empty.sum(axis=0).tolist()), ((0, 3), 0, [], [0, 0, 0]))
            self.assertEqual(tg.Tensor.of("t", empty, "FP16" if datatype == "FP16" else None).data, b"")

    def test_items(self):
        tensor = tg.Tensor.of_items("t", ["seven", b""])
        self.assertEqual((tensor.data, tensor.items()), (b"\x05\0\0\0seven\0\0\0\0", [b"seven", b""]))
        for data in [b"\1\0\0", b"\2\0\0\0a", b"\xff\xff\xff\xffa", b"", b"\1\0\0\0a\1\0\0\0b"]:
            with self.assertRaises(tg.BadInput):
                tg.Tensor("t", "BYTES", (1,), data).items()
        with self.assertRaises(tg.Fault):
            tg.Tensor.of_items("t", ["a"], (2,))

    def test_what_is_no_such_tensor_is_bad_input(self):
        for tensor, dtype in [
            (tg.Tensor("t", "FP32", (2,), bytes(4)), None),
            (tg.Tensor("t", "FP32", (1,), bytes(4)), "INT32"),
            (tg.Tensor("t", "FP32", (2**40, 2**40), bytes(4)), None),
            (tg.Tensor("t", "BYTES", (0,), b""), None),
        ]:
            with self.assertRaises(tg.BadInput):
                tensor.array(dtype)
        with self.assertRaises(tg.Fault):
            tg.Tensor.of("t", tg.zeros((1,)), "INT8")


class Host(unittest.TestCase):
    def test_the_configuration_is_set_by_a_test(self):
        set_config(mean="0.5")
        self.assertEqual((tg.config("mean"), tg.config("scale")), ("0.5", None))
        set_config()
        self.assertIsNone(tg.config("mean"))

    def test_files_and_features_are_set_by_a_test(self):
        set_file("https://a.example/1", "text/plain", b"one")
        one, other = tg.fetch(["https://a.example/1", "https://a.example/2"])
        self.assertEqual(one, tg.File("text/plain", b"one"))
        self.assertEqual((type(other), other.why), (tg.Missing, "not-found"))
        set_feature("customers", "age", "7", 40)
        self.assertEqual(tg.lookup("customers", ["age"], ["7", "8"]), {"age": [40.0, None]})
        for wrong in [lambda: tg.fetch("https://a.example/1"), lambda: tg.lookup("customers", "age", ["7"]), lambda: tg.lookup("customers", ["age"], "7")]:
            with self.assertRaises(TypeError):
                wrong()

    def test_a_component_without_the_interface_has_nobody_to_ask(self):
        reach._host = object()
        try:
            for field, wrong in [("fetch", lambda: tg.fetch(["a"])), ("lookups", lambda: tg.lookup("customers", ["age"], ["7"]))]:
                with self.assertRaisesRegex(RuntimeError, f"`{field}:`"):
                    wrong()
        finally:
            reach._host = None


class Requests(unittest.TestCase):
    def test_the_request_and_carried_bytes_come_from_the_test(self):
        self.assertEqual(tg.context(), tg.Request())
        set_context(tg.Request(client="scorer", parameters={"top": 3}))
        self.assertEqual((tg.context().client, tg.context().parameters["top"]), ("scorer", 3))
        self.assertEqual(tg.carry.get(), b"")
        set_carry(b"12")
        self.assertEqual(tg.carry.get(), b"12")
        tg.carry.set(bytes(65_536))
        self.assertEqual(len(tg.carry.get()), 65_536)
        with self.assertRaises(ValueError):
            tg.carry.set(bytes(65_537))

    def test_the_request_of_a_component_has_plain_values(self):
        value = types.SimpleNamespace
        shape = value(name="x", shape=[1, 2])
        given = value(
            request_id="r",
            client="c",
            model="m",
            version="1",
            operation="infer",
            time=7,
            parameters=[("a", value(value=3)), ("b", value(value="t"))],
            input=value(tensors=[shape], media_type=None, media_bytes=8),
        )
        expected = tg.Request("r", "c", "m", "1", "infer", 7, {"a": 3, "b": "t"}, tg.Input({"x": (1, 2)}, None, 8))
        self.assertEqual(request._request(given), expected)

    def test_a_bad_input_may_have_a_text_for_the_caller(self):
        error = tg.BadInput("row 3", caller="no rows")
        self.assertEqual((str(error), error.caller, tg.BadInput("row 3").caller), ("row 3", "no rows", None))


if __name__ == "__main__":
    unittest.main()
