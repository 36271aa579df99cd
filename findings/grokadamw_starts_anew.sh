#!/usr/bin/env bash
# GrokAdamW, which transformers.Trainer offers, starts anew when it loads its own state.
#
# Expected: after load_state_dict a run goes on with the bits of one that was never stopped, as with the
# optimizers of PyTorch, timm and pytorch_optimizer that were tried beside it.
# Seen (grokadamw 0.1.2, PyTorch 2.15.0, CPU): moments and step counts lie in the group, by the Parameter
# itself. What is loaded has copies of Parameters as keys, which those of the new run do not equal: the
# next step has the bits of a fresh optimizer's. What nobody finds any more stays in the group, and goes
# into the next file, too. `state` of the file is empty. No error, no warning.
#
# A converter must not take an empty `state` for a run that has just begun: ours refuses it.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet grokadamw==0.1.2 torch==2.15.0 numpy==2.4.6
"$here/venv/bin/python" -W ignore - "$here/file" <<'PYTHON'
import importlib.metadata
import sys

import torch
from grokadamw import GrokAdamW

assert importlib.metadata.version("grokadamw") == "0.1.2"


def begun(values):
    param = torch.nn.Parameter(torch.tensor(values))
    return param, GrokAdamW([param], lr=0.1, weight_decay=0.0)


def stepped(param, optimizer, grad):
    param.grad = torch.tensor(grad)
    optimizer.step()
    counts = [state["step"] for state in optimizer.param_groups[0]["state"].values()]
    return param.tolist(), counts


run = begun([0.0, 0.0])
for _ in range(5):
    values, _ = stepped(*run, [1.0, 1.0])
torch.save(run[1].state_dict(), sys.argv[1])
file = torch.load(sys.argv[1], weights_only=False)
resumed = begun(values)
resumed[1].load_state_dict(file)
seen = {
    "goes on": stepped(*run, [1.0, -1.0]),
    "resumed": stepped(*resumed, [1.0, -1.0]),
    "fresh": stepped(*begun(values), [1.0, -1.0]),
}
print("entries in the file's state:", len(file["state"]))
for what, (values, counts) in seen.items():
    print(f"{what}: {values}, step counts in the group {counts}")
assert seen["resumed"][0] != seen["goes on"][0], "it finds its state now"
assert seen["resumed"][0] == seen["fresh"][0], seen
assert seen["resumed"][1] == [5, 1] and not file["state"], seen
PYTHON
echo "as described"
