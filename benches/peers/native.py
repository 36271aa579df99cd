"""This library through ctypes, on PyTorch's own memory, and a loop that moves as many bytes."""

import ctypes
import os

import torch
from of_torch import tensors

CODES = {"float32": 1, "float16": 3, "bfloat16": 4}


class Libadamw:
    """An optimizer of a case's tensors, whose names are p0, p1 and so on."""

    def __init__(self, case, threads):
        self.lib = ctypes.CDLL(os.environ["LIBADAMW"])
        self.lib.adamw_last_error.restype = ctypes.c_char_p
        helper = ctypes.CDLL(os.environ["PEERS_HELPER"])
        helper.create.restype = ctypes.c_void_p
        self.handle = ctypes.c_void_p(helper.create(threads, case.name.encode()))
        assert self.handle, "adamw_create failed"
        self.params, code = tensors(case), ctypes.c_uint32(CODES[case.dtype])
        for i, param in enumerate(self.params):
            number, n = ctypes.c_uint32(), ctypes.c_uint64(param.numel())
            self.call("adamw_add_array", b"p%d" % i, ctypes.c_void_p(param.data_ptr()), n, code, ctypes.byref(number))
            self.call("adamw_set_grad_array", number, ctypes.c_void_p(param.grad.data_ptr()), n, code)

    def call(self, name, *arguments):
        assert getattr(self.lib, name)(self.handle, *arguments) == 0, self.lib.adamw_last_error()

    def step(self):
        self.call("adamw_step")


def libadamw(case, threads):
    optimizer = Libadamw(case, threads)
    return optimizer.step, optimizer


def traffic(case, threads):
    helper = ctypes.CDLL(os.environ["PEERS_HELPER"])
    n = sum(case.lengths)
    arrays = [torch.full((n,), 0.5) for _ in range(4)]
    pointers = [ctypes.c_void_p(array.data_ptr()) for array in arrays]
    return lambda: helper.traffic(*pointers, ctypes.c_ssize_t(n), threads, ctypes.c_uint32(0)), arrays
