"""One optimizer on one case, in a process of its own: for each line that it reads it takes some steps and prints the
nanoseconds of one."""

import ctypes
import os
import sys
import time

import cases

def tensors(lengths, dtype, requires_grad=True):
    """Parameters on one run of memory, as a framework's allocator would not promise: the best case for everyone."""
    import torch

    flat, grad = torch.full((sum(lengths),), 0.5, dtype=dtype), torch.full((sum(lengths),), 0.01, dtype=dtype)
    params = [torch.nn.Parameter(p, requires_grad) for p in flat.split(lengths)]
    for param, g in zip(params, grad.split(lengths)):
        param.grad = g
    return params


def ours(case, threads):
    """libadamw through ctypes, on torch's own memory."""
    import torch

    lib = ctypes.CDLL(os.environ["LIBADAMW"])
    helper = ctypes.CDLL(os.environ["PEERS_HELPER"])
    helper.create.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(helper.create(threads, case.name.encode()))
    assert handle, "adamw_create failed"
    bf16 = case.name == "bf16 master"
    params = tensors(case.lengths, torch.bfloat16 if bf16 else torch.float32)
    code = ctypes.c_uint32(4 if bf16 else 1)
    lib.adamw_last_error.restype = ctypes.c_char_p

    def ok(status):
        assert status == 0, lib.adamw_last_error()

    for i, param in enumerate(params):
        number, n = ctypes.c_uint32(), ctypes.c_uint64(param.numel())
        ok(lib.adamw_add_array(handle, b"p%d" % i, ctypes.c_void_p(param.data_ptr()), n, code, ctypes.byref(number)))
        ok(lib.adamw_set_grad_array(handle, number, ctypes.c_void_p(param.grad.data_ptr()), n, code))
    return lambda: ok(lib.adamw_step(handle)), params


def traffic(case, threads):
    import torch

    helper = ctypes.CDLL(os.environ["PEERS_HELPER"])
    n = sum(case.lengths)
    arrays = [torch.full((n,), 0.5) for _ in range(4)]
    pointers = [ctypes.c_void_p(array.data_ptr()) for array in arrays]
    return lambda: helper.traffic(*pointers, ctypes.c_ssize_t(n), threads, ctypes.c_uint32(0)), arrays


def stepping(case, params, optimizer):
    """A step of a torch-like optimizer, with what the case has around it."""
    import torch

    if case.name != "clip and clear":
        return optimizer.step

    def step():
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    return step


def with_master(case, make):
    """bf16 parameters with f32 masters, as mixed-precision training does it around such an optimizer."""
    import torch

    params = tensors(case.lengths, torch.bfloat16)
    masters = [torch.nn.Parameter(param.detach().float()) for param in params]
    for master in masters:
        master.grad = torch.zeros_like(master)
    optimizer = make(masters)

    def step():
        with torch.no_grad():
            torch._foreach_copy_([master.grad for master in masters], [param.grad for param in params])
            optimizer.step()
            torch._foreach_copy_(params, masters)

    return step, (params, masters)


def torch_adamw(**options):
    def build(case, threads):
        import torch

        torch.set_num_threads(threads)
        make = lambda params: torch.optim.AdamW(params, lr=1e-3, weight_decay=0.01, **options)
        if case.name == "bf16 master":
            return with_master(case, make)
        params = tensors(case.lengths, torch.float32)
        return stepping(case, params, make(params)), params

    return build


def deepspeed(case, threads):
    import torch
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    torch.set_num_threads(threads)
    make = lambda params: DeepSpeedCPUAdam(params, lr=1e-3, weight_decay=0.01, adamw_mode=True)
    if case.name == "bf16 master":
        return with_master(case, make)
    params = tensors(case.lengths, torch.float32)
    return stepping(case, params, make(params)), params


def bitsandbytes(case, threads):
    import bitsandbytes
    import torch

    torch.set_num_threads(threads)
    params = tensors(case.lengths, torch.float32)
    return bitsandbytes.optim.AdamW8bit(params, lr=1e-3, weight_decay=0.01).step, params


def paddle(case, threads):
    import paddle

    paddle.set_device("cpu")
    clip = paddle.nn.ClipGradByGlobalNorm(1.0) if case.name == "clip and clear" else None
    params = []
    for n in case.lengths:
        param = paddle.create_parameter([n], "float32", default_initializer=paddle.nn.initializer.Constant(0.5))
        param.grad = paddle.full([n], 0.01)
        params.append(param)
    optimizer = paddle.optimizer.AdamW(1e-3, parameters=params, weight_decay=0.01, grad_clip=clip)

    def step():
        optimizer.step()
        if clip:
            optimizer.clear_grad(set_to_zero=True)

    return step, params


WORKERS = {
    "the same traffic": traffic,
    "libadamw": ours,
    "PyTorch fused": torch_adamw(fused=True),
    "PyTorch foreach": torch_adamw(foreach=True),
    "DeepSpeed CPUAdam": deepspeed,
    "bitsandbytes 8-bit": bitsandbytes,
    "Paddle": paddle,
}


def main(peer, name, threads):
    case = cases.CASES[name]
    step, _kept = WORKERS[peer](case, int(threads))
    step()
    start = time.perf_counter_ns()
    step()
    repeats = max(1, min(200, int(5e7 / (time.perf_counter_ns() - start))))
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter_ns()
        for _ in range(repeats):
            step()
        print((time.perf_counter_ns() - start) / repeats, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
