#!/usr/bin/env bash
# What transformers.Trainer saves with schedule_free_adamw depends on whether it has just evaluated.
#
# Expected: checkpoints and save_model have the averaged weights, with which the run is evaluated:
# schedulefree asks for optimizer.eval() before weights are saved, and Trainer calls it for its users.
# Seen (transformers 5.23.0, schedulefree 1.4.1, PyTorch 2.15.0, CPU): it calls eval() when it evaluates
# and nowhere else. Without an evaluation before it, a file has the weights at which gradients are
# taken. Two runs with the same steps, of which one evaluates, save other weights; the optimizer's
# state is the same. A model that is used right behind train() has the wrong ones, too. No warning.
#
# State says which weights a file has: train_mode in its groups.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet transformers==5.23.0 schedulefree==1.4.1 accelerate==1.15.0 \
  torch==2.15.0 numpy==2.4.6
HF_HUB_OFFLINE=1 "$here/venv/bin/python" -W ignore - "$here" <<'PYTHON'
import sys

import torch
import transformers
from safetensors.torch import load_file

transformers.logging.set_verbosity_error()


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(4, 1, bias=False)
        torch.nn.init.ones_(self.line.weight)

    def forward(self, x, labels):
        y = self.line(x)
        return {"loss": (y - labels).square().mean(), "logits": y}


torch.manual_seed(1)
data = [{"x": torch.randn(4), "labels": torch.randn(1)} for _ in range(32)]


def trained(name, **evaluation):
    """The weights of the last checkpoint, the two kinds of the optimizer's, and its state's z."""
    folder = f"{sys.argv[1]}/{name}"
    args = transformers.TrainingArguments(
        folder, optim="schedule_free_adamw", lr_scheduler_type="constant", learning_rate=0.1,
        max_steps=16, save_steps=16, report_to=[], disable_tqdm=True, use_cpu=True, **evaluation,
    )
    model = Line()
    trainer = transformers.Trainer(model, args, train_dataset=data, eval_dataset=data)
    trainer.train()
    saved = load_file(f"{folder}/checkpoint-16/model.safetensors")["line.weight"]
    file = torch.load(f"{folder}/checkpoint-16/optimizer.pt", weights_only=True)
    kinds = {}
    for kind in ("train", "eval"):
        getattr(trainer.optimizer, kind)()
        kinds[kind] = model.line.weight.detach().clone()
    [which] = [kind for kind, weight in kinds.items() if torch.allclose(saved, weight, atol=1e-6)]
    print(f"{name}: the checkpoint has the weights of {which}: {saved.flatten().tolist()}")
    return which, kinds["eval"], file["state"][0]["z"], file["param_groups"][0]["train_mode"]


plain = trained("without evaluation")
evaluated = trained("with evaluation", eval_strategy="steps", eval_steps=16)
assert torch.equal(plain[2], evaluated[2]) and torch.allclose(plain[1], evaluated[1], atol=1e-6)
assert (evaluated[0], evaluated[3]) == ("eval", False), evaluated
assert (plain[0], plain[3]) == ("train", True), "it saves the average now"
PYTHON
echo "as described"
