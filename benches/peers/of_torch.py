"""The optimizers of PyTorch, and those that step PyTorch's tensors."""

import torch

SETTINGS = {"lr": 1e-3, "weight_decay": 0.01}


def tensors(case):
    """Parameters on one run of memory, as a framework's allocator would not promise: the best case for everyone."""
    dtype = getattr(torch, case.dtype)
    flat, grad = torch.full((sum(case.lengths),), 0.5, dtype=dtype), torch.full((sum(case.lengths),), 0.01, dtype=dtype)
    params = [torch.nn.Parameter(p) for p in flat.split(case.lengths)]
    for param, g in zip(params, grad.split(case.lengths)):
        param.grad = g
    return params


def stepping(case, make):
    """A step of a torch-like optimizer, with what the case has around it."""
    params = tensors(case)
    if case.master:
        return with_master(params, make)
    optimizer = make(params)
    if case.name != "clip-clear":
        return lambda: optimizer.step(), params

    def step():
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    return step, params


def with_master(params, make):
    """16-bit parameters with f32 masters, as mixed-precision training does it around such an optimizer."""
    masters = [torch.nn.Parameter(param.detach().float()) for param in params]
    for master in masters:
        master.grad = torch.zeros_like(master)
    optimizer = make(masters)
    master_grads, grads = [master.grad for master in masters], [param.grad for param in params]

    def step():
        with torch.no_grad():
            torch._foreach_copy_(master_grads, grads)
            optimizer.step()
            torch._foreach_copy_(params, masters)

    return step, (params, masters)


def plain(case, threads, make):
    torch.set_num_threads(threads)
    return stepping(case, make)


def compiled(case, threads, make):
    """The whole step by torch.compile, with what is around it; to compile once more is an error."""
    step, kept = plain(case, threads, make)
    step = torch.compile(step)
    for _ in range(2):
        step()
    torch._dynamo.config.error_on_recompile = True
    return step, kept


def adamw(**options):
    return lambda params: torch.optim.AdamW(params, **SETTINGS, **options)


def fused(case, threads):
    return plain(case, threads, adamw(fused=True))


def foreach(case, threads):
    return plain(case, threads, adamw(foreach=True))


def fused_compiled(case, threads):
    """Only what is around it is compiled: PyTorch leaves its fused kernels out."""
    return compiled(case, threads, adamw(fused=True))


def foreach_compiled(case, threads):
    return compiled(case, threads, adamw(foreach=True))


def deepspeed(case, threads):
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    return plain(case, threads, lambda params: DeepSpeedCPUAdam(params, adamw_mode=True, **SETTINGS))


def bitsandbytes(case, threads):
    import bitsandbytes

    return plain(case, threads, lambda params: bitsandbytes.optim.AdamW8bit(params, **SETTINGS))


def torchao(case, threads):
    """It compiles its own step."""
    from torchao.optim import AdamW8bit

    return plain(case, threads, lambda params: AdamW8bit(params, **SETTINGS))
