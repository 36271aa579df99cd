"""This library through ctypes, on PyTorch's own memory, and a loop that moves as many bytes."""

import ctypes
import os

import torch
from of_torch import tensors

CODES = {"float32": 1, "float16": 3, "bfloat16": 4}


def libadamw(case, threads):
    lib = ctypes.CDLL(os.environ["LIBADAMW"])
    helper = ctypes.CDLL(os.environ["PEERS_HELPER"])
    helper.create.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(helper.create(threads, case.name.encode()))
    assert handle, "adamw_create failed"
    params, code = tensors(case), ctypes.c_uint32(CODES[case.dtype])
    lib.adamw_last_error.restype = ctypes.c_char_p

    def ok(status):
        assert status == 0, lib.adamw_last_error()

    for i, param in enumerate(params):
        number, n = ctypes.c_uint32(), ctypes.c_uint64(param.numel())
        ok(lib.adamw_add_array(handle, b"p%d" % i, ctypes.c_void_p(param.data_ptr()), n, code, ctypes.byref(number)))
        ok(lib.adamw_set_grad_array(handle, number, ctypes.c_void_p(param.grad.data_ptr()), n, code))
    return lambda: ok(lib.adamw_step(handle)), params


def traffic(case, threads):
    helper = ctypes.CDLL(os.environ["PEERS_HELPER"])
    n = sum(case.lengths)
    arrays = [torch.full((n,), 0.5) for _ in range(4)]
    pointers = [ctypes.c_void_p(array.data_ptr()) for array in arrays]
    return lambda: helper.traffic(*pointers, ctypes.c_ssize_t(n), threads, ctypes.c_uint32(0)), arrays
