#!/usr/bin/env bash
# FlashAdamW of pytorch_optimizer keeps the scales of its 8-bit moments in f16, whatever they are.
#
# Expected: what AdamW does in f32, to the 8 bits of a moment. Its update does not depend on how large
# gradients are, as long as f32 holds their squares; parameters here are f32.
# Seen (pytorch_optimizer 4.1.0, torch 2.15.0, CPU): a first moment of 65,520 and more has the scale
# infinity, so that parameters are NaN after the next step; moments below 3e-8 have the scale 0 and are
# forgotten after each step, so that the thousandth step is 2.5 times as large as the learning rate.
# No error, no warning. With quantize=False both runs are those of AdamW.
#
# A scale needs the range of what it scales: ours are f32.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet pytorch_optimizer==4.1.0 torch==2.15.0 numpy==2.4.6
"$here/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import torch
from pytorch_optimizer import FlashAdamW

assert importlib.metadata.version("pytorch_optimizer") == "4.1.0"


def moved(grad, eps, steps, **how):
    """How far the last of some steps with a learning rate of 1e-3 moves a parameter."""
    param = torch.nn.Parameter(torch.zeros(32))
    optimizer = FlashAdamW([param], lr=1e-3, weight_decay=0.0, eps=eps, **how)
    for _ in range(steps):
        before = param.detach().clone()
        param.grad = torch.full_like(param, grad)
        optimizer.step()
    last = (before - param.detach())[0].item()
    print(f"gradients of {grad:g}, {how or 'by default'}: step {steps} moves by {last:g}")
    return last


for grad, eps, steps in ((1e6, 1e-8, 2), (1e-9, 1e-16, 1000)):
    assert abs(moved(grad, eps, steps, quantize=False) - 1e-3) < 1e-5
large, small = moved(1e6, 1e-8, 2), moved(1e-9, 1e-16, 1000)
assert large != large, "it has the range now"
assert small > 2.4e-3, "it keeps small moments now"
assert abs(moved(1.0, 1e-8, 1000) - 1e-3) < 5e-5
PYTHON
echo "as described"
