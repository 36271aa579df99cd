#!/usr/bin/env bash
# torch.compile computes the powers of beta1 and beta2 anew for every few elements of a CPU step.
#
# Expected: the bias corrections are two numbers of a step. torch.optim.AdamW(foreach=True) finds
# them once, and a step that is compiled does the same before its loop.
# Seen (PyTorch 2.15.0, CPU, g++): the loop over a parameter's elements has both calls of std::pow in
# it, of one number each, with the root and the quotients that follow: for 2^20 elements in vectors
# of 16 that is 131,072 powers, in place of two. With AVX-512 the step takes three times as long
# as with the two corrections computed in front and given to the same formula.
#
# Who compares with a compiled step compares with this, not with what memory allows.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6 setuptools==84.2.1
export TORCHINDUCTOR_CACHE_DIR=$here/cache
"$here/venv/bin/python" - <<'PYTHON'
import re
import time

import torch
from torch._inductor.utils import run_and_get_code

assert torch.__version__.startswith("2.15.0"), torch.__version__
torch.set_num_threads(1)
N, LR, DECAY, BETA1, BETA2, EPS = 1 << 20, 1e-3, 0.01, 0.9, 0.999, 1e-8


def loops(code):
    """The C++ loops over the elements, and how many powers each has in it."""
    bodies = re.findall(rf"for\(int64_t x0=[^\n]*{N}L(.*?)\n    }}\n", "\n".join(code), re.DOTALL)
    return [body.count("std::pow(") for body in bodies]


def median_ms(step):
    times = []
    for _ in range(50):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return sorted(times)[25] * 1e3


param = torch.nn.Parameter(torch.full((N,), 0.5))
param.grad = torch.full((N,), 0.01)
optimizer = torch.optim.AdamW([param], lr=LR, weight_decay=DECAY, foreach=True)
step = torch.compile(optimizer.step)
_, code = run_and_get_code(step)
theirs, their_ms = loops(code), median_ms(step)
print(f"torch.optim.AdamW, compiled: powers in each loop over {N} elements: {theirs}; {their_ms:.2f} ms")


@torch.compile
def given(param, grad, exp_avg, exp_avg_sq, step_size, root):
    exp_avg.lerp_(grad, 1 - BETA1)
    exp_avg_sq.mul_(BETA2).addcmul_(grad, grad, value=1 - BETA2)
    param.mul_(1 - LR * DECAY).sub_(step_size * (exp_avg / (exp_avg_sq.sqrt() / root + EPS)))


t, tensors = 0, [torch.full((N,), 0.5), torch.full((N,), 0.01), torch.zeros(N), torch.zeros(N)]


def outside():
    global t
    t += 1
    given(*tensors, torch.tensor(LR / (1 - BETA1**t)), torch.tensor((1 - BETA2**t) ** 0.5))


_, code = run_and_get_code(outside)
ours, our_ms = loops(code), median_ms(outside)
print(f"the same formula with the corrections given: {ours}; {our_ms:.2f} ms")
assert theirs == [2], "the powers are outside of the loop now"
assert ours == [0], ours
PYTHON
echo "as described"
