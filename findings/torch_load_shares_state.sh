#!/usr/bin/env bash
# After b.load_state_dict(a.state_dict()), two optimizers of PyTorch share their state.
#
# Expected: load_state_dict copies, because its own description speaks of a deep copy, and because two
# optimizers that were never told of each other go their own ways.
# Seen (PyTorch 2.15.0): where type and device agree, b takes a's tensors as they are: a step of a
# counts a step of b and moves its moments, and the other way round.
#
# Who compares an optimizer with a copy of itself has to copy the state first.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6
"$here/venv/bin/python" - <<'PYTHON'
import torch

assert torch.__version__.startswith("2.15.0"), torch.__version__
one, other = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
a, b = torch.optim.AdamW([one]), torch.optim.AdamW([other])
one.grad = torch.ones(3)
a.step()
b.load_state_dict(a.state_dict())
before = {name: value.clone() for name, value in b.state[other].items()}
a.step()  # b has no part in it
after = b.state[other]
print("steps of b", before["step"].item(), "->", after["step"].item())
print("exp_avg of b", before["exp_avg"].tolist(), "->", after["exp_avg"].tolist())
assert (before["step"].item(), after["step"].item()) == (1.0, 2.0), "its count is its own now"
assert not torch.equal(before["exp_avg"], after["exp_avg"]), "its moments are its own now"
PYTHON
echo "as described"
