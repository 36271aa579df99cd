#!/usr/bin/env bash
# torch.optim.AdamW(fused=True) on the CPU reads parameter and gradient as if both lay end to end.
#
# Expected: the parameters that foreach and the plain loop leave, as for every other layout, or an
# error, which the CUDA kernel raises where strides differ.
# Seen (PyTorch 2.15.0, CPU): a gradient whose strides are not the parameter's steps other elements
# than the plain loop does, and a parameter that is half of the columns of a matrix is stepped in one
# half of its elements, while columns that belong to no parameter are changed. No error, no warning.
#
# A state of ours that is stepped through flat memory has to compare strides first.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6
"$here/venv/bin/python" - <<'PYTHON'
import torch

assert torch.__version__.startswith("2.15.0"), torch.__version__


def stepped(fused, param, grad):
    param.grad = grad
    torch.optim.AdamW([param], lr=0.1, weight_decay=0.0, fused=fused).step()
    return param.detach()


# One element has a gradient; the parameter lies column by column, the gradient row by row.
def transposed(fused):
    start = torch.zeros(2, 3).t().contiguous().t()
    grad = torch.zeros(2, 3)
    grad[0, 2] = 1.0
    moved = stepped(fused, torch.nn.Parameter(start), grad).nonzero().tolist()
    print("fused" if fused else "plain", "moved", moved)
    return moved


assert transposed(False) == [[0, 2]]
assert transposed(True) == [[0, 1]], "it steps what has the gradient now"


# The parameter is the left half of a matrix, whose right half is nobody's.
def half(fused):
    memory = torch.zeros(4, 6)
    param = torch.nn.Parameter(memory[:, :3])
    param.sum().backward()
    stepped(fused, param, param.grad)
    left, right = memory[:, :3].count_nonzero().item(), memory[:, 3:].count_nonzero().item()
    print("fused" if fused else "plain", "moved", left, "of 12 elements and", right, "of others")
    return left, right


assert half(False) == (12, 0)
assert half(True) == (6, 6), "it steps the parameter alone now"
PYTHON
echo "as described"
