"""Steps without a gradient, of this library and of PyTorch: `make bench-forgotten`.

forgotten.py [ELEMENTS/STEPS/THREADS ...]

An element whose gradients are 0 forgets: its moments shrink, and are subnormal numbers for as long as they are kept.
Of each optimizer there are two, and the four take turns: first all with gradients, then one of each two without, with the
moments that a tensor has after so many steps. Prints medians, and quartiles of how much longer such a step is than the
other's, beside what it was before: where their memory lies makes two that do the same work differ."""

import ctypes
import itertools
import statistics
import sys
import time

import cases
import native
import torch
from of_torch import tensors

ROUNDS = 41
#: Elements of which steps without a gradient are taken: a longer tensor repeats their moments, which are the same.
FEW = 16 << 10
SIZES, AGES, THREADS = (FEW, 64 << 20), (1_000, 100_000), (1, 2)


class Libadamw(native.Libadamw):
    def moments(self):
        moments = [torch.empty_like(self.params[0]) for _ in range(2)]
        self.copy("adamw_get_state", moments)
        return moments

    def resume(self, steps, moments):
        self.call("adamw_set_steps", None, ctypes.byref(ctypes.c_uint64(steps)), ctypes.c_size_t(1))
        self.copy("adamw_set_state", moments)

    def copy(self, function, moments):
        code = ctypes.c_uint32(native.CODES["float32"])
        for name, moment in zip((b"state.p0.exp_avg", b"state.p0.exp_avg_sq"), moments):
            self.call(function, name, ctypes.c_void_p(moment.data_ptr()), ctypes.c_uint64(moment.numel()), code)


class Fused:
    """PyTorch's kernel alone: in a step of 16 Ki elements the class in Python takes nine tenths of the time."""

    def __init__(self, case, threads):
        torch.set_num_threads(threads)
        [param] = self.params = tensors(case)
        self.both, self.steps = [torch.zeros_like(param) for _ in range(2)], torch.zeros(())
        moments = ([moment] for moment in self.both)
        self.state = [[param.detach()], [param.grad], *moments, [], [self.steps]]

    def step(self):
        torch._foreach_add_(self.state[-1], 1)
        constants = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01, "eps": 1e-8}
        torch._fused_adamw_(*self.state, **constants, amsgrad=False, maximize=False)

    def moments(self):
        return self.both

    def resume(self, steps, moments):
        self.steps.fill_(steps)
        for moment, after in zip(self.both, moments):
            moment.copy_(after)


WHO = {"libadamw": Libadamw, "PyTorch fused": Fused}


def begun(kind, n, threads):
    optimizer = kind(cases.Case("forgotten", "", [n], []), threads)
    optimizer.params[0].grad.normal_(0, 0.01)
    take(optimizer, 10)
    return optimizer


def take(optimizer, steps):
    """The nanoseconds of one."""
    start = time.perf_counter_ns()
    for _ in range(steps):
        optimizer.step()
    return (time.perf_counter_ns() - start) / steps


def forget(optimizer, steps):
    """Gives an optimizer what it had after so many steps without a gradient."""
    [param] = optimizer.params
    few = begun(type(optimizer), FEW, 1)
    few.params[0].grad.zero_()
    take(few, steps)
    param.grad.zero_()
    optimizer.resume(10 + steps, [moment.repeat(param.numel() // FEW) for moment in few.moments()])


def take_turns(pairs, steps):
    """For each the times of its two, round by round."""
    rounds = [[[take(optimizer, steps) for optimizer in pair] for pair in pairs] for _ in range(ROUNDS)]
    return list(zip(*rounds))


def measure(n, idle_steps, threads):
    steps = 20 if n == FEW else 1
    pairs = [[begun(kind, n, threads) for _ in range(2)] for kind in WHO.values()]
    before = take_turns(pairs, steps)
    for _, idle in pairs:
        forget(idle, idle_steps)
        torch.set_num_threads(threads)
    for who, first, then in zip(WHO, before, take_turns(pairs, steps)):
        usual, without = (statistics.median(times) / n for times in zip(*then))
        apart = statistics.median(b / a for a, b in first)
        low, middle, high = statistics.quantiles([b / a / apart for a, b in then], n=4)
        ratio = f"{middle:.3g} ({low:.3g} to {high:.3g})"
        print(f"| {n:,} | {idle_steps:,} | {threads} | {who} | {usual:.3f} | {without:.3f} | {ratio} |", flush=True)


def main(*names):
    print("| elements | steps without a gradient | threads | | usual ns/element | after them | as long |")
    print("|---|---|---|---|---|---|---|")
    chosen = [map(int, name.split("/")) for name in names]
    for case in chosen or itertools.product(SIZES, AGES, THREADS):
        measure(*case)


main(*sys.argv[1:])
