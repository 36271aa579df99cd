"""adamw.torch.AdamW beside torch.optim.AdamW(fused=True), as a training loop calls them.

Each takes its step in turn, on new gradients, with 1 and with 2 threads. Prints for each case the
median of ours, and the quartiles of its time over PyTorch's. The last case is clip_grad_norm_, step
and zero_grad, beside one step with clip_norm and clear_grads.

usage: LIBADAMW=libadamw.so torch_class.py [CASE]
"""

import statistics
import sys
import time

import torch

import adamw.torch


def gpt2():
    """The shapes of GPT-2 124M."""
    block = [(768,), (768,), (2304, 768), (2304,), (768, 768), (768,), (768,), (768,)]
    block += [(3072, 768), (3072,), (768, 3072), (768,)]
    return [(50257, 768), (1024, 768), *block * 12, (768,), (768,)]


#: The shapes of the parameters, the rounds, and the ratio that is asked for.
CASES = {
    "1,000 tensors of 1,024": ([(1024,)] * 1000, 60, 0.2),
    "10,000 tensors of 64": ([(64,)] * 10_000, 20, 0.02),
    "GPT-2 124M": (gpt2(), 10, 1.0),
    "GPT-2 124M, clip, step, clear": (gpt2(), 10, 0.8),
}


class Loop:
    """One optimizer, with gradients as backward passes leave them."""

    def __init__(self, shapes, make, step, *, new=False):
        self.params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
        self.optimizer, self.step = make(self.params), step
        self.drawn = [torch.randn(shape) for shape in shapes]
        self.times, self.new = [], new

    def round(self):
        """Takes a step, and notes its time in seconds."""
        for param, drawn in zip(self.params, self.drawn, strict=True):
            if param.grad is None:
                param.grad = drawn.clone()
            else:
                param.grad.copy_(drawn)
        start = time.perf_counter()
        self.step(self.params, self.optimizer)
        self.times.append(time.perf_counter() - start)
        if self.new:
            self.optimizer.zero_grad()


def plain(params, optimizer):
    optimizer.step()


def clipped(params, optimizer):
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)


def clipped_inside(params, optimizer):
    optimizer.step()


def loops(shapes, *, clip):
    fused = lambda params: torch.optim.AdamW(params, fused=True)
    inside = lambda params: adamw.torch.AdamW(params, clip_norm=1.0, clear_grads=True)
    if clip:
        return Loop(shapes, fused, clipped), Loop(shapes, inside, clipped_inside)
    return [Loop(shapes, make, plain, new=True) for make in (fused, adamw.torch.AdamW)]


def measure(name, threads):
    shapes, rounds, asked = CASES[name]
    torch.set_num_threads(threads)
    pair = loops(shapes, clip="clip" in name)
    for _ in range(rounds + 3):
        for loop in pair:
            loop.round()
    theirs, ours = (loop.times[3:] for loop in pair)
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"| {name} | {threads} | {statistics.median(ours) * 1e3:.3g} ms "
        f"| {middle:.3g} ({low:.3g} to {high:.3g}) | {asked} |",
        flush=True,
    )


print("| case | threads | libadamw | of PyTorch fused's time | asked |\n|---|---|---|---|---|")
for case in sys.argv[1:] or CASES:
    for count in (1, 2):
        measure(case, count)
