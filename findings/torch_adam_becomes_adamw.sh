#!/usr/bin/env bash
# torch.optim.Adam decays as AdamW does once it has loaded a state of AdamW.
#
# Expected: an Adam adds weight decay to the gradient whatever state it has loaded, because the class
# says so, and because AdamW, which loads a state of Adam, stays AdamW.
# Seen (PyTorch 2.15.0, CPU): load_state_dict takes decoupled_weight_decay over with the group. With a
# gradient of zero and no moments, such an Adam shrinks its parameter by lr * weight_decay and keeps
# moments of zero; an Adam of its own moves it by lr, and has the decay in its moments. No warning.
#
# Who takes state of one rule over into another has to compare the rules, not the names of classes.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet torch==2.15.0 numpy==2.4.6
"$here/venv/bin/python" - <<'PYTHON'
import torch

assert torch.__version__.startswith("2.15.0"), torch.__version__


def begun(kind):
    param = torch.nn.Parameter(torch.ones(1))
    return param, kind([param], lr=0.1, weight_decay=0.1)


def stepped(param, optimizer):
    param.grad = torch.zeros(1)
    optimizer.step()
    return round(param.item(), 4), optimizer.state[param]["exp_avg"].item()


def loaded(kind, other):
    theirs = begun(other)
    stepped(*theirs)
    param, optimizer = begun(kind)
    optimizer.load_state_dict(theirs[1].state_dict())
    optimizer.state.clear()  # the rule alone, without their moments
    return stepped(param, optimizer)


Adam, AdamW = torch.optim.Adam, torch.optim.AdamW
seen = {
    "Adam": stepped(*begun(Adam)),
    "AdamW": stepped(*begun(AdamW)),
    "AdamW that has loaded Adam": loaded(AdamW, Adam),
    "Adam that has loaded AdamW": loaded(Adam, AdamW),
}
for what, (param, exp_avg) in seen.items():
    print(f"{what}: the parameter is {param}, exp_avg {exp_avg:.4f}")
assert seen["Adam"][0] == 0.9 and seen["AdamW"] == (0.99, 0.0), seen
assert seen["AdamW that has loaded Adam"] == seen["AdamW"], seen
assert seen["Adam that has loaded AdamW"] == seen["AdamW"], "it stays Adam now"
PYTHON
echo "as described"
