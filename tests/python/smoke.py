"""The library from Python with nothing but ctypes: trains a numpy array in place.

usage: smoke.py LIBADAMW_SO
"""

import ctypes
import os
import sys
import threading
from ctypes import POINTER, byref, c_char_p, c_double, c_size_t, c_uint32, c_uint64, c_void_p

try:
    import numpy as np
except ImportError:
    print("numpy is missing")
    sys.exit(77)

OK, INVALID_ARGUMENT, BAD_HANDLE = 0, 1, 7
DTYPES = {np.dtype(np.float32): 1, np.dtype(np.float64): 2}


class Config(ctypes.Structure):
    """adamw_config"""

    _fields_ = [
        ("struct_size", c_size_t),
        ("lr", c_double),
        ("beta1", c_double),
        ("beta2", c_double),
        ("eps", c_double),
        ("weight_decay", c_double),
        ("amsgrad", c_uint32),
        ("maximize", c_uint32),
        ("multi_precision", c_uint32),
        ("num_threads", c_uint32),
        ("isa", c_uint32),
        ("nonfinite", c_uint32),
        ("parallel_for", c_void_p),
        ("parallel_for_data", c_void_p),
    ]


def load(path):
    library = ctypes.CDLL(path)
    library.adamw_config_init.argtypes = [POINTER(Config), c_size_t]
    library.adamw_create.argtypes = [POINTER(Config), POINTER(c_void_p)]
    library.adamw_destroy.argtypes = [c_void_p]
    library.adamw_add_array.argtypes = [c_void_p, c_char_p, c_void_p, c_uint64, c_uint32, POINTER(c_uint32)]
    library.adamw_set_grad_array.argtypes = [c_void_p, c_uint32, c_void_p, c_uint64, c_uint32]
    library.adamw_step.argtypes = [c_void_p]
    library.adamw_set_lr.argtypes = [c_void_p, c_double]
    library.adamw_last_error.restype = c_char_p
    library.adamw_version.restype = c_char_p
    return library


library = load(sys.argv[1])


def check(status):
    assert status == OK, f"status {status}: {library.adamw_last_error().decode()}"


class AdamW:
    """One parameter and its gradient, both numpy arrays, which stay where they are."""

    def __init__(self, param, grad, lr, weight_decay=0.0, num_threads=0):
        config = Config()
        check(library.adamw_config_init(byref(config), ctypes.sizeof(config)))
        config.lr, config.weight_decay, config.num_threads = lr, weight_decay, num_threads
        self.handle, self.param = c_void_p(), c_uint32()
        check(library.adamw_create(byref(config), byref(self.handle)))
        check(library.adamw_add_array(self.handle, b"param", *self.array(param), byref(self.param)))
        check(library.adamw_set_grad_array(self.handle, self.param, *self.array(grad)))

    @staticmethod
    def array(values):
        return values.ctypes.data, values.size, DTYPES[values.dtype]

    def step(self, lr=None):
        if lr is not None:
            check(library.adamw_set_lr(self.handle, lr))
        check(library.adamw_step(self.handle))

    def destroy(self):
        check(library.adamw_destroy(self.handle))


def linear_regression(dtype):
    """Fits 20 coefficients to exact data: the minimum is known."""
    random = np.random.default_rng(0)
    coefficients = random.normal(size=20).astype(dtype)
    x = random.normal(size=(200, 20)).astype(dtype)
    y = x @ coefficients
    param, grad = np.zeros(20, dtype), np.empty(20, dtype)
    address = param.ctypes.data
    optimizer = AdamW(param, grad, lr=0.05)
    steps = 1500
    for step in range(steps):
        grad[:] = x.T @ (x @ param - y) / len(x)
        optimizer.step(lr=0.05 * (1 - step / steps))
    optimizer.destroy()
    error = np.abs(param - coefficients).max()
    print(f"linear regression, {np.dtype(dtype).name}: largest error {error:.1e}")
    assert error < 1e-4
    assert param.ctypes.data == address, "the array was moved"


def same_bits_for_any_threads():
    def train(num_threads):
        random = np.random.default_rng(1)
        param = random.normal(size=300_001).astype(np.float32)
        grad = np.empty_like(param)
        optimizer = AdamW(param, grad, lr=1e-3, weight_decay=0.1, num_threads=num_threads)
        for _ in range(10):
            grad[:] = random.normal(size=param.size)
            optimizer.step()
        threads_in_process.append(len(os.listdir("/proc/self/task")))
        optimizer.destroy()
        return param.tobytes()

    threads_in_process = []
    one = train(1)
    assert all(train(n) == one for n in (2, 3))
    assert threads_in_process[0] < min(threads_in_process[1:]), "the library used no threads of its own"
    print("1, 2 and 3 threads of the library: same bits")

    results = [None] * 4

    def keep(i):
        results[i] = train(2)

    # ctypes gives up Python's lock around each call, so these four handles work at the same time.
    workers = [threading.Thread(target=keep, args=(i,)) for i in range(len(results))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(result == one for result in results)
    print("four handles in four Python threads: same bits")


def errors_say_what_is_wrong():
    param, grad = np.zeros(12, np.float32), np.zeros(10, np.float32)
    optimizer = AdamW(param, np.zeros(12, np.float32), lr=1e-3)
    status = library.adamw_set_grad_array(optimizer.handle, optimizer.param, *AdamW.array(grad))
    text = library.adamw_last_error().decode()
    print(f"status {status}: {text}")
    assert status == INVALID_ARGUMENT
    assert '"param"' in text and "10" in text and "12" in text
    optimizer.destroy()

    status = library.adamw_step(optimizer.handle)
    print(f"status {status}: {library.adamw_last_error().decode()}")
    assert status == BAD_HANDLE


print(f"adamw {library.adamw_version().decode()}, numpy {np.__version__}")
linear_regression(np.float32)
linear_regression(np.float64)
same_bits_for_any_threads()
errors_say_what_is_wrong()
