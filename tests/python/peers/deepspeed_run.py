"""Trains two parameters with DeepSpeed's ZeRO on a processor, and saves after half of the steps and after all; or goes on from
what was saved after half of them.

usage: deepspeed_run.py RANK WORLD PORT STAGE TYPE FOLDER [TAG]    (TYPE: fp32 or bf16)
"""

import os
import sys

rank, world, port, stage, kind, folder, *tags = sys.argv[1:]
os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=world, MASTER_ADDR="127.0.0.1", MASTER_PORT=port, DS_ACCELERATOR="cpu")
# What DeepSpeed builds is built by the ninja beside this Python.
os.environ["PATH"] = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"

import deepspeed
import numpy as np
import torch

values = np.load(f"{folder}/values.npz")
names = sorted(name for name in values.files if not name.startswith("grad."))


class Holder(torch.nn.Module):
    """Parameters with names such as `first.weight`."""

    def __init__(self):
        super().__init__()
        for name in names:
            module, own = name.split(".")
            self.add_module(module, torch.nn.Module())
            getattr(self, module).register_parameter(own, torch.nn.Parameter(torch.tensor(values[name])))

    def forward(self, grads):
        """A loss with these gradients."""
        return sum((dict(self.named_parameters())[name] * grad).sum() for name, grad in grads.items())


deepspeed.init_distributed("gloo")
model = Holder()
config = {
    "train_micro_batch_size_per_gpu": 1,
    "zero_optimization": {"stage": int(stage)},
    "zero_allow_untested_optimizer": True,
    "gradient_clipping": 0.0,
    "bf16": {"enabled": kind == "bf16"},
}
optimizer = torch.optim.AdamW(model.parameters(), lr=0.001, weight_decay=0.01)
engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
steps = len(values[f"grad.{names[0]}"])
for tag in tags:
    engine.load_checkpoint(folder, tag)
for step in range(steps // 2 if tags else 0, steps):
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    engine.backward(engine({name: torch.tensor(values[f"grad.{name}"][step]).to(dtype) for name in names}))
    engine.step()
    if step + 1 in (steps // 2, steps):
        engine.save_checkpoint(folder, tag=str(step + 1))
