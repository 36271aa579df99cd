"""Steps without a gradient, of this library and of PyTorch: `make bench-peers`.

An element whose gradients are 0 forgets: its moments shrink, and are subnormal numbers for as long as they are kept.
Of each optimizer there are two, one with gradients and one whose gradients were 0 for some steps; the four take turns.
Prints the medians, and the quartiles of the latter's time over the former's."""

import statistics
import time

import cases
import torch
from native import libadamw
from of_torch import tensors

ROUNDS = 41
#: Elements, how many steps without a gradient come before the measurement, and how many a round has.
AGES = [(16 << 10, 1_000, 20), (16 << 10, 100_000, 20), (16 << 20, 1_000, 1)]


def fused(case, threads):
    """PyTorch's kernel alone: in a step of 16 Ki elements the class in Python takes nine tenths of the time."""
    torch.set_num_threads(threads)
    [param] = params = tensors(case)
    state = [[param.detach()], [param.grad], [torch.zeros_like(param)], [torch.zeros_like(param)], [], [torch.zeros(())]]
    constants = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01, "eps": 1e-8}
    constants |= {"amsgrad": False, "maximize": False}

    def step():
        torch._foreach_add_(state[-1], 1)
        torch._fused_adamw_(*state, **constants)

    return step, params


WHO = {"libadamw": libadamw, "PyTorch fused": fused}


class Optimizer:
    def __init__(self, make, n, threads, idle_steps=0):
        case = cases.Case("forgotten", "", [n], [])
        self.run, [self.param] = make(case, threads)
        self.param.grad.normal_(0, 0.01)
        self.take(10)
        if idle_steps:
            self.param.grad.zero_()
        self.take(idle_steps)
        self.times = []

    def take(self, steps):
        """The nanoseconds of all of them."""
        start = time.perf_counter_ns()
        for _ in range(steps):
            self.run()
        return time.perf_counter_ns() - start

    def round(self, steps):
        self.times.append(self.take(steps) / steps)


def measure(n, idle_steps, steps, threads):
    pairs = {who: [Optimizer(make, n, threads), Optimizer(make, n, threads, idle_steps)] for who, make in WHO.items()}
    for _ in range(ROUNDS):
        for pair in pairs.values():
            for optimizer in pair:
                optimizer.round(steps)
    for who, (usual, idle) in pairs.items():
        low, middle, high = statistics.quantiles([b / a for a, b in zip(usual.times, idle.times)], n=4)
        before, after = (statistics.median(optimizer.times) / n for optimizer in (usual, idle))
        ratio = f"{middle:.3g} ({low:.3g} to {high:.3g})"
        print(f"| {n:,} | {idle_steps:,} | {threads} | {who} | {before:.3f} | {after:.3f} | {ratio} |", flush=True)


def main():
    print("| elements | steps without a gradient | threads | | usual ns/element | after them | ratio |")
    print("|---|---|---|---|---|---|---|")
    for n, idle_steps, steps in AGES:
        for threads in (1, 2):
            measure(n, idle_steps, steps, threads)


main()
