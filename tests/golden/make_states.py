"""Writes the state files of PyTorch, Paddle, DeepSpeed and bitsandbytes after 3 of 6 steps, and to states.json what the
parameters are then and after all of them.

usage: make_states.py    (in the folder of this file)
"""

import glob
import json
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
import bitsandbytes
import paddle
import safetensors.torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

NAMES, SHAPES, STEPS = ["first.weight", "second.bias"], [(5, 2), (5,)], 6
random = np.random.default_rng(3)
start = [random.standard_normal(shape).astype(np.float32) for shape in SHAPES]
grads = [[random.standard_normal(shape).astype(np.float32) for shape in SHAPES] for _ in range(STEPS)]


def plain(value):
    """Arrays as lists whose decimals read back as the same bits."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return np.asarray(value.detach().numpy() if hasattr(value, "detach") else value).tolist()


def run(framework, version, params, optimizer, to_tensor, save, file):
    for step in range(STEPS):
        if step == 3:
            middle = plain(params)
            save(optimizer.state_dict(), file)
        for param, grad in zip(params, grads[step]):
            param.grad = to_tensor(grad)
        optimizer.step()
    return {"framework": framework, "version": version, "files": [file], "middle": middle, "end": plain(params)}


params = [torch.nn.Parameter(torch.tensor(weight)) for weight in start]
optimizer = torch.optim.AdamW(params, lr=0.001, weight_decay=0.01)
runs = [run("torch", torch.__version__, params, optimizer, torch.tensor, torch.save, "states-torch.pt")]

# The same by PyTorch's distributed names. (A safetensors file has tensors only.)
model = torch.nn.Module()
for name, weight in zip(NAMES, start):
    module, own = name.split(".")
    model.add_module(module, torch.nn.Module())
    getattr(model, module).register_parameter(own, torch.nn.Parameter(torch.tensor(weight)))


def save_distributed(_, file):
    state = get_optimizer_state_dict(model, optimizer, options=StateDictOptions(flatten_optimizer_state_dict=True))
    safetensors.torch.save_file({name: value for name, value in state.items() if torch.is_tensor(value)}, file)


params = list(model.parameters())
optimizer = torch.optim.AdamW(params, lr=0.001, weight_decay=0.01)
file = "states-torch-distributed.safetensors"
runs.append(run("torch's distributed names", torch.__version__, params, optimizer, torch.tensor, save_distributed, file))

params = []
for name, weight in zip(NAMES, start):
    attribute = paddle.ParamAttr(name=name, initializer=paddle.nn.initializer.Assign(weight))
    params.append(paddle.create_parameter(list(weight.shape), "float32", attr=attribute))
optimizer = paddle.optimizer.AdamW(learning_rate=0.001, weight_decay=0.01, parameters=params)
runs.append(run("paddle", paddle.__version__, params, optimizer, paddle.to_tensor, paddle.save, "states-paddle.pdopt"))

# Two ranks, whose parts meet inside the first parameter.
with tempfile.TemporaryDirectory() as folder:
    values = dict(zip(NAMES, start)) | {f"grad.{name}": [step[i] for step in grads] for i, name in enumerate(NAMES)}
    np.savez(f"{folder}/values.npz", **values)
    program = "../python/peers/deepspeed_run.py"
    ranks = [[sys.executable, program, rank, "2", "29611", "1", "fp32", folder] for rank in "01"]
    ranks = [subprocess.Popen(rank, stdout=subprocess.DEVNULL) for rank in ranks]
    assert [rank.wait() for rank in ranks] == [0, 0]
    files = ["states-deepspeed-0.pt", "states-deepspeed-1.pt"]
    for file, saved in zip(files, sorted(glob.glob(f"{folder}/3/*_optim_states.pt"))):
        shutil.copyfile(saved, file)
    # Its steps are those of PyTorch's AdamW.
    runs.append({**runs[0], "framework": "deepspeed", "version": torch.load(files[0], weights_only=False)["ds_version"], "files": files})

# Paddle after so many steps that f32 holds no power of beta1 any more.
attribute = paddle.ParamAttr(name="long", initializer=paddle.nn.initializer.Assign(start[1]))
param = paddle.create_parameter([5], "float32", attr=attribute)
optimizer = paddle.optimizer.AdamW(parameters=[param])
for _ in range(1000):
    param.grad = paddle.to_tensor(grads[0][1])
    optimizer.step()
paddle.save(optimizer.state_dict(), "states-paddle-1000.pdopt")

# Paddle's state of a bf16 parameter with a master, as its first step would make it (which it does not take on a processor).
attribute = paddle.ParamAttr(name="w", initializer=paddle.nn.initializer.Assign(start[1]))
param = paddle.create_parameter([5], "bfloat16", attr=attribute)
optimizer = paddle.optimizer.AdamW(parameters=[param], multi_precision=True)
optimizer._create_accumulators(paddle.base.framework.default_main_program().global_block(), [param])
paddle.save(optimizer.state_dict(), "states-paddle-master.pdopt")
master = plain(param.astype("float32"))

param = torch.nn.Parameter(torch.tensor(random.standard_normal(4100).astype(np.float32)))
optimizer = bitsandbytes.optim.AdamW8bit([param])
for _ in range(3):
    param.grad = torch.tensor(random.standard_normal(4100).astype(np.float32))
    optimizer.step()
state, values = optimizer.state[param], {"state_dict": optimizer.state_dict()}
for part, i in (("exp_avg", 1), ("exp_avg_sq", 2)):
    absmax, qmap = state[f"absmax{i}"], state[f"qmap{i}"]
    values[part] = bitsandbytes.functional.dequantize_blockwise(state[f"state{i}"], absmax=absmax, code=qmap, blocksize=256)
torch.save(values, "states-bitsandbytes.pt")

versions = {"bitsandbytes": bitsandbytes.__version__}
with open("states.json", "w") as file:
    json.dump({"names": NAMES, "versions": versions, "grads": plain(grads[3:]), "runs": runs, "master": master}, file, indent=1)
    print(file=file)
