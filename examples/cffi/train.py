"""As examples/c/train.c, with cffi. usage: train.py <libadamw.so> <adamw.cffi.h> <checkpoint>"""

import sys
import zlib

import cffi

N, NUM_STEPS = 64, 50

library, header, checkpoint = sys.argv[1:]
ffi = cffi.FFI()
with open(header) as file:
    ffi.cdef(file.read())
adamw = ffi.dlopen(library)


def check(status):
    if status != adamw.ADAMW_STATUS_OK:
        raise RuntimeError(ffi.string(adamw.adamw_last_error()).decode())


# Memory of ffi.new stays where it is as long as something refers to it.
weight, bias, weight_grad, bias_grad = (ffi.new("float[]", N) for _ in range(4))


@ffi.callback("adamw_decay_filter", error=-1)
def decays(name, user_data):
    return ffi.string(name) != b"bias"


def new_optimizer():
    out, number = ffi.new("adamw_optimizer **"), ffi.new("uint32_t *")
    check(adamw.adamw_create(ffi.NULL, out))
    check(adamw.adamw_set_lr(out[0], 0.05))
    check(adamw.adamw_set_decay_filter(out[0], decays, ffi.NULL))
    for name, data, grad in (b"weight", weight, weight_grad), (b"bias", bias, bias_grad):
        check(adamw.adamw_add_array(out[0], name, data, N, adamw.ADAMW_DTYPE_F32, number))
        check(adamw.adamw_set_grad_array(out[0], number[0], grad, N, adamw.ADAMW_DTYPE_F32))
    return out[0]


def train(optimizer):
    for _ in range(NUM_STEPS):
        for i in range(N):
            weight_grad[i] = weight[i] - i / 16
            bias_grad[i] = bias[i] + i / 16
        check(adamw.adamw_step(optimizer))


optimizer = new_optimizer()
train(optimizer)
check(adamw.adamw_save(optimizer, checkpoint.encode()))
check(adamw.adamw_destroy(optimizer))

optimizer = new_optimizer()
check(adamw.adamw_load(optimizer, checkpoint.encode(), ffi.NULL))
train(optimizer)
check(adamw.adamw_destroy(optimizer))

print(f"{zlib.adler32(bytes(ffi.buffer(weight)) + bytes(ffi.buffer(bias))):08X}")
