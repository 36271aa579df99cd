"""The library with some parameters, for what tests `python/convert.py`."""

import ctypes

import convert
import numpy as np


FILTER = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p)


class Config(ctypes.Structure):
    """adamw_config, as its first version has it."""

    _fields_ = [("struct_size", ctypes.c_size_t)] + [(name, ctypes.c_double) for name in ("lr", "beta1", "beta2", "eps", "weight_decay")]
    _fields_ += [(name, ctypes.c_uint32) for name in ("amsgrad", "maximize", "multi_precision", "num_threads", "isa", "nonfinite")]
    _fields_ += [(name, ctypes.c_void_p) for name in ("parallel_for", "parallel_for_data")]


class Ours:
    """Parameters in f64, f32, or bf16 (as uint16) with masters."""

    def __init__(self, library, names, weights, no_decay=()):
        library.adamw_last_error.restype = ctypes.c_char_p
        self.library, self.weights = library, [weight.copy() for weight in weights]
        self.optimizer, self.numbers, config = ctypes.c_void_p(), [], Config()
        self.ok(library.adamw_config_init(ctypes.byref(config), ctypes.c_size_t(ctypes.sizeof(config))))
        config.multi_precision = 1
        self.ok(library.adamw_create(ctypes.byref(config), ctypes.byref(self.optimizer)))
        self.filter = FILTER(lambda name, _: name.decode() not in no_decay)  # must live as long as the handle
        self.ok(library.adamw_set_decay_filter(self.optimizer, self.filter, None))
        for name, weight in zip(names, self.weights):
            number, data = ctypes.c_uint32(), ctypes.c_void_p(weight.ctypes.data)
            dtype = convert.BF16 if weight.dtype == np.uint16 else convert.DTYPES[weight.dtype]
            self.ok(
                library.adamw_add_array(self.optimizer, name.encode(), data, ctypes.c_uint64(weight.size), dtype, ctypes.byref(number))
            )
            self.numbers.append(number)
        self.handle = convert.Handle(library, self.optimizer)

    def ok(self, status):
        if status:
            raise RuntimeError(self.library.adamw_last_error().decode())

    def step(self, grads):
        for number, grad in zip(self.numbers, grads):
            data, dtype = ctypes.c_void_p(grad.ctypes.data), convert.DTYPES[grad.dtype]
            self.ok(self.library.adamw_set_grad_array(self.optimizer, number, data, ctypes.c_uint64(grad.size), dtype))
        self.ok(self.library.adamw_step(self.optimizer))

    def state(self, name, n, dtype=np.float32):
        values = np.empty(n, dtype)
        data = ctypes.c_void_p(values.ctypes.data)
        constant = convert.DTYPES[values.dtype]
        self.ok(self.library.adamw_get_state(self.optimizer, name.encode(), data, ctypes.c_uint64(n), constant))
        return values

    def save(self, path):
        self.ok(self.library.adamw_save(self.optimizer, path.encode()))


def to_bf16(values):
    """To nearest even, as bits."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)
