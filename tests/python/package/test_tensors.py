"""Arrays are taken as they are, from whatever shares memory; what could not be stepped in place is
refused, with its name, the value and the way out, and nothing has changed.

environment: LIBADAMW
"""

import array
import ctypes
import sys
import types
import unittest

from case import arrays, bits, np

import adamw
from adamw import AdamW, _abi, _dlpack, tensors

try:
    import ml_dtypes
except ImportError:
    print("ml_dtypes is missing")
    sys.exit(77)


class Exporter:
    """numpy's memory through DLPack alone, as a library exports it that has versions or has none."""

    def __init__(self, values, versions=True):
        self.values, self.versions = values, versions

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()

    def __dlpack__(self, **options):
        if not self.versions and options:
            raise TypeError(f"unexpected keywords {sorted(options)}")
        return self.values.__dlpack__(**options)


class Tracked(Exporter):
    """An array whose history is recorded, as that of torch's parameters, and which is exported only
    without it."""

    requires_grad = True

    def __dlpack__(self, **options):
        raise BufferError("detach it first")

    def detach(self):
        return Exporter(self.values)


def exporting(values, stride=0, flags=0, major=1, lanes=1, byte_offset=0):
    """Returns an exporter that says of 4 elements what numpy never does: a writable stride of 0,
    other flags, versions, lanes and offsets."""
    kept = values, (ctypes.c_int64 * 1)(4), (ctypes.c_int64 * 1)(stride)
    managed = _dlpack.Versioned(flags=flags)
    managed.version.major = major
    managed.tensor = _abi.Tensor(
        values.ctypes.data - byte_offset,
        _abi.Device(_abi.DEVICE_CPU, 0),
        1,
        _abi.DataType(_abi.CODE_FLOAT, 32, lanes),
        kept[1],
        kept[2],
        byte_offset,
    )
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = (
        ctypes.py_object,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
    )
    capsule = new(ctypes.addressof(managed), b"dltensor_versioned", None)
    return types.SimpleNamespace(
        kept=(kept, managed),
        __dlpack__=lambda **options: capsule,
        __dlpack_device__=lambda: (_abi.DEVICE_CPU, 0),
    )


def read_only(values):
    values.flags.writeable = False
    return values


class Taken(unittest.TestCase):
    def assert_stepped(self, param, seen):
        before = np.array(seen, copy=True)
        with AdamW({"w": param}) as optimizer:
            optimizer.step(grads={"w": np.ones(before.shape, np.float32)})
        self.assertNotEqual(bits(before), bits(seen))

    def test_is_memory_of_numpy_dlpack_and_buffers(self):
        (values,) = arrays(1, (3, 2))
        self.assert_stepped(values, values)
        self.assert_stepped(Exporter(values), values)
        self.assert_stepped(Exporter(values, versions=False), values)
        interface = types.SimpleNamespace(__array_interface__=values.__array_interface__)
        self.assert_stepped(interface, values)
        values = np.ones(4, np.float32)
        self.assert_stepped(exporting(values, stride=1, byte_offset=64), values)
        self.assert_stepped(Tracked(values), values)
        buffer = array.array("d", [1.0, 2.0])
        self.assert_stepped(buffer, buffer)
        in_c = (ctypes.c_float * 3)(1, 2, 3)
        self.assert_stepped(in_c, in_c)

    def test_has_axes_of_one_anywhere_and_may_be_empty(self):
        whole = np.ones((4, 1, 6), np.float32)
        for values in (whole, whole[1:3], whole[:, :, :].transpose(1, 0, 2), whole[2:3, :, 2:3]):
            self.assert_stepped(values, values)
        with AdamW([np.zeros((0, 3), np.float32)[:, ::2]]) as optimizer:
            optimizer.step(grads={"0": np.zeros((0, 2), np.float32)})

    def test_may_lie_in_any_order(self):
        def in_order(values, axes):
            lying = np.empty([values.shape[axis] for axis in axes], values.dtype)
            lying = lying.transpose(np.argsort(axes))
            lying[...] = values
            return lying

        param, grad, moment = arrays(1, (4, 1, 3, 5), (4, 1, 3, 5), (4, 1, 3, 5))
        plain = param.copy()
        with AdamW({"w": plain}) as optimizer:
            optimizer.step(grads={"w": grad})
            optimizer.set_state("state.w.exp_avg", moment)
            optimizer.step(grads={"w": grad})
        for axes in ((0, 2, 3, 1), (3, 1, 0, 2), (3, 2, 1, 0)):
            own = in_order(param, axes)
            with AdamW({"w": own}) as optimizer:
                optimizer.set_grad("w", Exporter(in_order(grad, axes)))
                optimizer.step()
                state = optimizer.state("w")["exp_avg"]
                self.assertEqual(state.shape, own.shape)
                self.assertEqual(state.strides[2:], own.strides[2:])
                for values in (moment, in_order(moment, (2, 3, 0, 1))):
                    state[...] = 0
                    optimizer.set_state("state.w.exp_avg", values)
                    self.assertEqual(bits(state), bits(moment))
                in_memory = np.transpose(moment, axes).reshape(-1)
                self.assertEqual(bits(optimizer.get_state("state.w.exp_avg")), bits(in_memory))
                optimizer.step()
                with self.assertRaisesRegex(adamw.InvalidArgumentError, "another order of axes"):
                    optimizer.set_grad("w", in_order(grad, (2, 0, 3, 1)))
                del state
            self.assertEqual(bits(own), bits(plain))

    def test_may_be_bf16_of_ml_dtypes(self):
        param = np.ones(5000, ml_dtypes.bfloat16)
        for options in ({"precision": "split"}, {"precision": "kahan"}, {"moments": "bf16"}):
            with AdamW([param], lr=0.1, **options) as optimizer:
                grads = {"0": np.ones(5000, ml_dtypes.bfloat16)}
                optimizer.step(grads=grads)
                state = optimizer.state("0")
            self.assertEqual(state.get("remainder", param).shape, (5000,))
            if "moments" in options:
                self.assertEqual(state["exp_avg"].dtype, ml_dtypes.bfloat16)
                self.assertAlmostEqual(float(state["exp_avg"][0]), 0.1, 2)
        self.assertTrue(np.all(param.astype(np.float32) < 1))

    def test_gradients_may_be_read_only(self):
        param, (grad,) = np.ones(3, np.float32), arrays(2, (3,))
        with AdamW([param]) as optimizer:
            for given in (read_only(grad), Exporter(read_only(grad))):
                optimizer.step(grads={"0": given})
                optimizer.set_grad("0", given)
                optimizer.step()
        self.assertNotEqual(bits(param), bits(np.ones(3, np.float32)))


class Described(unittest.TestCase):
    def test_many_at_once_as_the_library_has_one(self):
        for name in ("data", "device", "ndim", "shape", "strides", "byte_offset"):
            dtype, offset = tensors.TENSOR.fields[name]
            one = getattr(_abi.Tensor, name)
            self.assertEqual((offset, dtype.itemsize), (one.offset, one.size), name)
        for name in ("code", "bits", "lanes"):
            dtype, offset = tensors.TENSOR.fields[name]
            one = getattr(_abi.DataType, name)
            expected = _abi.Tensor.dtype.offset + one.offset, one.size
            self.assertEqual((offset, dtype.itemsize), expected, name)
        self.assertEqual(tensors.TENSOR.itemsize, ctypes.sizeof(_abi.Tensor))


BIG_ENDIAN = np.dtype(np.float32).newbyteorder(">")

#: Parameters that are refused: what they are, the class, and what its text has.
REFUSED = [
    (np.zeros(3, np.int64), adamw.TensorTypeError, "elements of int64, expected one of float32"),
    (np.zeros(3, np.uint16), adamw.TensorTypeError, "ml_dtypes.bfloat16"),
    (np.zeros(3, np.complex64), adamw.TensorTypeError, "elements of complex64"),
    (np.zeros(3, BIG_ENDIAN), adamw.TensorTypeError, "float32 in another byte order"),
    (Exporter(np.zeros(3, np.int8)), adamw.TensorTypeError, "elements of code 0 with 8 bits"),
    ([1.0, 2.0], adamw.TensorTypeError, "is a list, expected an array"),
    (None, adamw.TensorTypeError, "is a NoneType, expected an array"),
    (1.0, adamw.TensorTypeError, "is a float, expected an array"),
    (np.float32(1), adamw.TensorTypeError, "is a float32, expected an array"),
    (b"12345678", adamw.TensorTypeError, "elements of uint8"),
    (read_only(np.zeros(3)), adamw.InvalidArgumentError, "is read-only, but the optimizer writes"),
    (Exporter(read_only(np.zeros(3))), adamw.InvalidArgumentError, "is read-only"),
    (
        Exporter(read_only(np.zeros(3)), versions=False),
        adamw.InvalidArgumentError,
        "cannot be shared by DLPack",
    ),
    (np.broadcast_to(np.float32(1), 3), adamw.InvalidArgumentError, "is read-only"),
    (
        np.zeros((4, 4))[:, :2],
        adamw.InvalidArgumentError,
        "has gaps, or runs backwards (shape (4, 2), strides (4, 1) elements)",
    ),
    (np.zeros((4, 3))[::2].T, adamw.InvalidArgumentError, "strides (1, 6) elements)"),
    (np.zeros(6)[::2], adamw.InvalidArgumentError, "numpy.ascontiguousarray"),
    (np.zeros(6)[::-1], adamw.InvalidArgumentError, "strides (-1,) elements)"),
    (Exporter(np.zeros(6)[::-1]), adamw.InvalidArgumentError, "strides (-1,)"),
    (
        np.zeros(3, [("a", np.float32), ("b", np.int8)])["a"],
        adamw.InvalidArgumentError,
        "strides (nan,)",
    ),
    (
        exporting(np.zeros(1, np.float32)),
        adamw.InvalidArgumentError,
        "repeats its elements (shape (4,), strides (0,)), expected a place in memory for each",
    ),
    (exporting(np.zeros(4), lanes=2), adamw.TensorTypeError, "elements of 2 lanes of float32"),
    (exporting(np.zeros(4), flags=1), adamw.InvalidArgumentError, "is read-only"),
    (exporting(np.zeros(4), flags=2), adamw.InvalidArgumentError, "is read-only"),
    (exporting(np.zeros(4), major=2), adamw.InvalidArgumentError, "DLPack 2 is not known"),
    (
        types.SimpleNamespace(__dlpack__=lambda **_: 7, __dlpack_device__=lambda: (1, 0)),
        adamw.InvalidArgumentError,
        "a capsule of DLPack was expected, which 7 is not",
    ),
    (
        np.frombuffer(bytearray(9), np.uint8)[1:].view(np.float32),
        adamw.InvalidArgumentError,
        "align",
    ),
]


class Refused(unittest.TestCase):
    def test_as_parameters_with_the_name_the_value_and_the_way_out(self):
        with AdamW() as optimizer:
            for param, error, text in REFUSED:
                with self.assertRaises(error, msg=text) as raised:
                    optimizer.add_param("layer.w", param)
                self.assertIn(text, str(raised.exception))
                self.assertIn('param "layer.w"', str(raised.exception))
            self.assertEqual(optimizer.names, ())

    def test_of_types_that_python_calls_so(self):
        self.assertTrue(issubclass(adamw.TensorTypeError, TypeError))
        self.assertTrue(issubclass(adamw.InvalidArgumentError, ValueError))

    def test_as_gradients(self):
        param, before = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
        with AdamW({"w": param}) as optimizer:
            for grad, error, text in [
                (
                    np.ones((3, 2), np.float32),
                    adamw.InvalidArgumentError,
                    "the shape (3, 2), expected (2, 3)",
                ),
                (
                    np.ones(6, np.float32),
                    adamw.InvalidArgumentError,
                    "the shape (6,), expected (2, 3)",
                ),
                (np.ones((2, 3), np.float64), adamw.InvalidArgumentError, "f64"),
                (
                    np.ones((3, 2), np.float32).T,
                    adamw.InvalidArgumentError,
                    "another order of axes in memory than the param (strides (1, 2), expected "
                    "row-major ones)",
                ),
                (np.ones((2, 3), int), adamw.TensorTypeError, "elements of int64"),
            ]:
                for give in (
                    lambda: optimizer.set_grad("w", grad),
                    lambda: optimizer.set_grads({"w": grad}),
                    lambda: optimizer.step(grads={"w": grad}),
                    lambda: optimizer.accumulate_grad("w", grad),
                ):
                    with self.assertRaises(error, msg=text) as raised:
                        give()
                    self.assertIn(text, str(raised.exception))
                    self.assertIn('param "w": grad', str(raised.exception))
            with self.assertRaisesRegex(adamw.InvalidArgumentError, "overlaps"):
                optimizer.set_grad("w", param)
            optimizer.step()
        self.assertEqual(bits(param), bits(before))

    def test_as_gradients_that_a_step_would_clear(self):
        grad = read_only(np.ones(3, np.float32))
        with AdamW([np.ones(3, np.float32)], clear_grads=True) as optimizer:
            with self.assertRaisesRegex(adamw.InvalidArgumentError, 'param "0": grad is read-only'):
                optimizer.set_grad("0", grad)
            with self.assertRaisesRegex(adamw.InvalidArgumentError, "is read-only"):
                optimizer.step(grads={"0": grad})
        with AdamW([np.ones(3, np.float32)]) as optimizer:
            optimizer.set_grad("0", grad)
            with self.assertRaisesRegex(adamw.InvalidArgumentError, "forget gradients"):
                optimizer.zero_grad(set_to_none=False)
        self.assertEqual(bits(grad), bits(np.ones(3, np.float32)))

    def test_as_arrays_of_jax_whose_capsules_cannot_say_that_they_never_change(self):
        jax = type("Array", (Exporter,), {"__module__": "jaxlib.xla_extension"})
        with AdamW() as optimizer:
            with self.assertRaisesRegex(adamw.InvalidArgumentError, "is read-only"):
                optimizer.add_param("w", jax(np.ones(3, np.float32), versions=False))
            optimizer.add_param("w", np.ones(3, np.float32))
            optimizer.step(grads={"w": jax(np.ones(3, np.float32), versions=False)})

    def test_as_names_that_are_no_text(self):
        with self.assertRaisesRegex(TypeError, "the name is 1, expected a str"):
            AdamW({1: np.ones(3, np.float32)})

    def test_as_rows_and_values_of_a_sparse_gradient(self):
        values = np.ones((2, 3), np.float32)
        with AdamW({"w": np.ones((4, 3), np.float32)}) as optimizer:
            for rows, of_rows, error, text in [
                (
                    np.array([0.0, 1.0]),
                    values,
                    adamw.TensorTypeError,
                    "expected one of int32, int64",
                ),
                (np.array([0]), values, adamw.InvalidArgumentError, "expected (1, 3)"),
                (np.array([0, 1]), values.T.copy(), adamw.InvalidArgumentError, "expected (2, 3)"),
            ]:
                with self.assertRaises(error) as raised:
                    optimizer.set_sparse_grad("w", rows, of_rows)
                self.assertIn(text, str(raised.exception))
            optimizer.set_sparse_grad("w", np.array([0, 4]), values)
            with self.assertRaisesRegex(adamw.InvalidArgumentError, "row"):
                optimizer.step()

    def test_as_numbers_that_c_would_wrap(self):
        param = np.ones(3, np.float32)
        for options in ({"num_threads": -1}, {"num_threads": 1 << 32}, {"seed": -1}):
            with self.assertRaisesRegex(adamw.InvalidArgumentError, "expected 0 to"):
                AdamW([param], **options)
        with AdamW([param]) as optimizer:
            for call in (
                lambda: optimizer.set_accumulation_window(-1),
                lambda: optimizer.add_param("x", param, step=-1),
                lambda: optimizer.add_param("x", param, group=-1),
                lambda: optimizer.set_options("0", group=1 << 33),
                lambda: optimizer.set_schedule_index(-1),
                lambda: optimizer.set_loss_scaler(growth_interval=-1),
                lambda: optimizer.set_schedule(adamw.schedules.step(period=-1)),
                lambda: optimizer.set_schedule(adamw.schedules.multi_step([-1])),
            ):
                with self.assertRaisesRegex(adamw.InvalidArgumentError, "expected 0 to"):
                    call()

    def test_as_choices_names_and_groups(self):
        param = np.ones(3, np.float32)
        for call, text in [
            (
                lambda: AdamW([param], precision="fp32"),
                "precision is 'fp32', expected one of None, 'master'",
            ),
            (lambda: AdamW([param], moments=8), "moments is 8, expected one of None, 'bf16'"),
            (lambda: AdamW([param], clip_norm=1.0, clip_value=1.0), "at most one of them"),
            (lambda: AdamW([param], lr=-1.0), "lr is -1, expected a finite number >= 0"),
            (
                lambda: AdamW([{"params": [param], "seed": 1}]),
                "a group has no 'seed' of its own",
            ),
            (
                lambda: AdamW([{"params": [param], "precision": "master"}]),
                "make the optimizer with",
            ),
            (
                lambda: AdamW([{"params": [param], "lr": 1.0, "lr_scale": 1.0}]),
                "expected one of them",
            ),
            (
                lambda: AdamW([{"params": [param], "lr": 1.0}], lr=0.0),
                "give the optimizer another lr",
            ),
            (
                lambda: AdamW([{"params": [param]}, param]),
                "group 1 of params is no dict with 'params'",
            ),
            (lambda: AdamW([{"lr": 1.0}]), "group 0 of params is no dict with 'params'"),
            (lambda: AdamW(param), "params is an array, expected a dict or a list of arrays"),
            (lambda: AdamW({"a\0b": param}), "has a NUL in it"),
            (lambda: AdamW([param, param]), "overlaps"),
            (lambda: AdamW([("w", param), ("w", param.copy())]), "w"),
        ]:
            with self.assertRaises(adamw.InvalidArgumentError, msg=text) as raised:
                call()
            self.assertIn(text, str(raised.exception))


if __name__ == "__main__":
    unittest.main()
