"""Steps without a gradient, of this library and of PyTorch: `make bench-peers`.

An element whose gradients are 0 forgets: its moments shrink, and are subnormal numbers for as long as they are kept.
Of each optimizer there are two, and the four take turns: first all with gradients, then one of each two without, after so
many steps. Prints medians, and quartiles of how much longer such a step is than the other's, beside what it was before:
where their memory lies makes two that do the same work differ."""

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
    def __init__(self, make, n, threads):
        self.run, [self.param] = make(cases.Case("forgotten", "", [n], []), threads)
        self.param.grad.normal_(0, 0.01)
        self.take(10)

    def take(self, steps):
        """The nanoseconds of one."""
        start = time.perf_counter_ns()
        for _ in range(steps):
            self.run()
        return (time.perf_counter_ns() - start) / steps

    def forget(self, steps):
        self.param.grad.zero_()
        self.take(steps)


def take_turns(pairs, steps):
    """For each the times of its two, round by round."""
    rounds = [[[optimizer.take(steps) for optimizer in pair] for pair in pairs] for _ in range(ROUNDS)]
    return list(zip(*rounds))


def measure(n, idle_steps, steps, threads):
    pairs = [[Optimizer(make, n, threads) for _ in range(2)] for make in WHO.values()]
    before = take_turns(pairs, steps)
    for _, idle in pairs:
        idle.forget(idle_steps)
    for who, first, then in zip(WHO, before, take_turns(pairs, steps)):
        usual, without = (statistics.median(times) / n for times in zip(*then))
        apart = statistics.median(b / a for a, b in first)
        low, middle, high = statistics.quantiles([b / a / apart for a, b in then], n=4)
        ratio = f"{middle:.3g} ({low:.3g} to {high:.3g})"
        print(f"| {n:,} | {idle_steps:,} | {threads} | {who} | {usual:.3f} | {without:.3f} | {ratio} |", flush=True)


def main():
    print("| elements | steps without a gradient | threads | | usual ns/element | after them | ratio |")
    print("|---|---|---|---|---|---|---|")
    for n, idle_steps, steps in AGES:
        for threads in (1, 2):
            measure(n, idle_steps, steps, threads)


main()
