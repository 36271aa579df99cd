"""One optimizer on one case, in a process of its own: for each line that it reads it takes some steps and prints the
nanoseconds of one."""

import importlib
import os
import sys
import time

import cases

#: The module and the function that make the step of each.
WORKERS = {
    "the same traffic": ("native", "traffic"),
    "libadamw": ("native", "libadamw"),
    "PyTorch fused": ("of_torch", "fused"),
    "PyTorch foreach": ("of_torch", "foreach"),
    "PyTorch fused, compiled": ("of_torch", "fused_compiled"),
    "PyTorch foreach, compiled": ("of_torch", "foreach_compiled"),
    "DeepSpeed CPUAdam": ("of_torch", "deepspeed"),
    "bitsandbytes 8-bit": ("of_torch", "bitsandbytes"),
    "torchao 8-bit": ("of_torch", "torchao"),
    "optax, jit": ("of_optax", "optax_jit"),
    "Paddle": ("of_paddle", "paddle_adamw"),
}
ROUND_NS = 5e7


def main(peer, name, threads):
    module, function = WORKERS[peer]
    make = getattr(importlib.import_module(module), function)
    if threads == "1":  # XLA starts a thread for each processor that it may use, and has no other way to limit them
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    step, _kept = make(cases.CASES[name], int(threads))
    for _ in range(3):
        step()
    start = time.perf_counter_ns()
    step()
    repeats = max(1, min(200, int(ROUND_NS / (time.perf_counter_ns() - start))))
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter_ns()
        for _ in range(repeats):
            step()
        print((time.perf_counter_ns() - start) / repeats, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
