"""Parameters on a CUDA device are stepped there, to the same bits: on the driver of
tests/cuda-standin, which has no GPU behind it.

environment: LIBADAMW, CARGO_TARGET_DIR
"""

import ctypes
import os
import pathlib
import subprocess
import sys
import unittest

from case import Model, arrays, bits, np

ROOT = pathlib.Path(__file__).resolve().parents[3]
DRIVER = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug"

if str(DRIVER) not in os.environ.get("LD_LIBRARY_PATH", "").split(":"):
    subprocess.run(["cargo", "build", "--locked", "-q", "-p", "cuda-standin"], cwd=ROOT, check=True)
    path = f"{DRIVER}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "LD_LIBRARY_PATH": path})

import adamw  # noqa: E402  (with the driver above)
from adamw import AdamW, _abi, _dlpack  # noqa: E402

cuda = ctypes.CDLL("libcuda.so")
POINTER = ctypes.c_uint64


def check(status):
    """Checks a result of the driver."""
    assert status == 0, status


class OnDevice:
    """An array on the device, which is exported by DLPack."""

    def __init__(self, values):
        self.host, self.streams = np.ascontiguousarray(values), []
        self.address = POINTER()
        check(cuda.cuMemAlloc_v2(ctypes.byref(self.address), ctypes.c_size_t(self.host.nbytes)))
        self.write(self.host)

    def write(self, values):
        size = ctypes.c_size_t(values.nbytes)
        check(cuda.cuMemcpyHtoD_v2(self.address, ctypes.c_void_p(values.ctypes.data), size))

    def read(self):
        values = np.empty_like(self.host)
        size = ctypes.c_size_t(values.nbytes)
        check(cuda.cuMemcpyDtoH_v2(ctypes.c_void_p(values.ctypes.data), self.address, size))
        return values

    def __dlpack_device__(self):
        return _abi.DEVICE_CUDA, 0

    def __dlpack__(self, *, stream, max_version):
        self.streams.append(stream)
        ndim = self.host.ndim
        self.shape = (ctypes.c_int64 * ndim)(*self.host.shape)
        self.managed = _dlpack.Versioned()
        self.managed.version.major = max_version[0]
        self.managed.tensor = _abi.Tensor(
            self.address.value,
            _abi.Device(_abi.DEVICE_CUDA, 0),
            ndim,
            _abi.DataType(_abi.CODE_FLOAT, 8 * self.host.itemsize, 1),
            self.shape,
        )
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.managed), b"dltensor_versioned", None)


class Device(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        context = ctypes.c_void_p()
        check(cuda.cuInit(0))
        check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
        check(cuda.cuCtxSetCurrent(context))

    def setUp(self):
        self.values, self.grad = arrays(1, (40, 3), (40, 3))
        self.param, self.on_device = OnDevice(self.values), OnDevice(self.grad)
        self.model = Model(self.values)

    def assert_like_the_model(self):
        self.assertEqual(bits(self.param.read()), bits(self.model.param))

    def test_steps_have_the_processors_bits(self):
        self.assertIn("cuda", adamw.capabilities().devices)
        with AdamW({"w": self.param}) as optimizer:
            for _ in range(2):
                optimizer.step(grads={"w": self.on_device})
                self.model.step(self.grad)
                self.assert_like_the_model()
            optimizer.set_grad("w", self.on_device)
            optimizer.step()
            self.model.step(self.grad)
            self.assert_like_the_model()
            self.assertEqual(optimizer.param("w").step, 3)

    def test_state_is_copied_or_the_hosts_own(self):
        first, second = (OnDevice(np.zeros_like(self.values)) for _ in range(2))
        with AdamW({"w": self.param}) as optimizer:
            optimizer.step(grads={"w": self.on_device})
            self.model.step(self.grad)
            with self.assertRaisesRegex(adamw.UnsupportedError, "copy it by get_state"):
                optimizer.state("w")
            copy = optimizer.get_state("state.w.exp_avg")
            self.assertEqual(bits(copy), bits(self.model.exp_avg))
            optimizer.add_param(
                "own", OnDevice(self.values), state={"exp_avg": first, "exp_avg_sq": second}
            )
            optimizer.step(grads={"own": self.on_device})
            self.assertEqual(bits(first.read()), bits(self.model.exp_avg))

    def test_an_offloaded_parameter_has_its_state_here(self):
        with AdamW() as optimizer:
            optimizer.add_param("w", self.param, offload=True)
            optimizer.set_offload_timing()
            optimizer.step(grads={"w": self.on_device})
            self.model.step(self.grad)
            info = optimizer.offload_info()
            self.assertEqual((info.n_bytes_down, info.n_bytes_up), (self.grad.nbytes,) * 2)
            self.assertTrue(0 <= info.hidden <= 1 and info.seconds_down > 0)
            self.assertEqual(bits(optimizer.state("w")["exp_avg"]), bits(self.model.exp_avg))
            self.assert_like_the_model()

    def test_exports_are_made_ready_for_the_stream(self):
        stream = ctypes.c_void_p()
        check(cuda.cuStreamCreate(ctypes.byref(stream), 1))
        with AdamW({"w": self.param}) as optimizer:
            self.assertEqual(self.param.streams, [1])
            optimizer.set_stream(stream.value)
            optimizer.step(grads={"w": self.on_device})
            self.assertEqual(self.on_device.streams, [stream.value])
            check(cuda.cuStreamSynchronize(stream))
            optimizer.prepare()
            optimizer.set_stream(None)
        self.model.step(self.grad)
        self.assert_like_the_model()

    def test_scalars_on_the_device_are_read_in_each_step(self):
        lr = OnDevice(np.array([0.5], np.float32))
        with AdamW({"w": self.param}) as optimizer:
            optimizer.set_device_inputs(lr=lr)
            self.model.lr = 0.5
            optimizer.step(grads={"w": self.on_device})
            self.model.step(self.grad)
            self.assert_like_the_model()
            lr.write(np.array([0.25], np.float32))
            optimizer.step(grads={"w": self.on_device})
            self.model.lr = 0.25
            self.model.step(self.grad)
            self.assert_like_the_model()
            optimizer.set_device_inputs()
            optimizer.step(grads={"w": self.on_device})
            self.model.lr = 1e-3
            self.model.step(self.grad)
            self.assert_like_the_model()

    def test_the_loss_scale_adapts_on_the_device(self):
        scale = OnDevice(np.zeros(1, np.float32))
        with AdamW({"w": self.param}) as optimizer:
            optimizer.set_loss_scaler(scale=8.0, growth_interval=1)
            optimizer.set_device_scale(scale)
            self.assertEqual(scale.read()[0], 8)
            optimizer.step(grads={"w": self.on_device})
            self.assertEqual((scale.read()[0], optimizer.grad_scale), (16, 16))
            optimizer.set_device_scale(None)
            with self.assertRaisesRegex(adamw.InvalidArgumentError, "out_scale has the shape"):
                optimizer.set_device_scale(self.on_device)

    def test_memory_of_another_place_is_refused(self):
        with AdamW({"w": self.param, "here": self.values.copy()}) as optimizer:
            for name, grad in (("w", self.grad), ("here", self.on_device)):
                with self.assertRaisesRegex(adamw.AdamWError, f'param "{name}"'):
                    optimizer.set_grad(name, grad)
            with self.assertRaisesRegex(adamw.InvalidArgumentError, "lr has the shape"):
                optimizer.set_device_inputs(lr=self.on_device)
            with self.assertRaises(adamw.InvalidArgumentError):
                optimizer.set_device_inputs(lr=np.ones(1, np.float32))


if __name__ == "__main__":
    unittest.main()
