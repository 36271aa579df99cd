"""Prints the state of PyTorch's and Paddle's AdamW after 3 of 6 steps, and what the parameters are after all of them.

usage: make_states.py > states.json
"""

import json
import sys

import numpy as np
import paddle
import torch

NAMES, SHAPES, STEPS = ["first.weight", "second.bias"], [(3, 2), (5,)], 6
random = np.random.default_rng(3)
start = [random.standard_normal(shape).astype(np.float32) for shape in SHAPES]
grads = [[random.standard_normal(shape).astype(np.float32) for shape in SHAPES] for _ in range(STEPS)]


def plain(value):
    """Arrays as lists whose decimals read back as the same bits."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "numpy"):
        return np.asarray(value.detach().numpy() if hasattr(value, "detach") else value.numpy()).tolist()
    return value.tolist() if isinstance(value, np.ndarray) else value


def run(framework, version, names, params, optimizer, set_grad):
    for step in range(STEPS):
        if step == 3:
            middle, state = [plain(param) for param in params], plain(optimizer.state_dict())
        for param, grad in zip(params, grads[step]):
            param.grad = set_grad(grad)
        optimizer.step()
    end = [plain(param) for param in params]
    return {"framework": framework, "version": version, "names": names, "middle": middle, "state": state, "end": end}


params = [torch.nn.Parameter(torch.tensor(weight)) for weight in start]
optimizer = torch.optim.AdamW(params, lr=0.001, weight_decay=0.01)
runs = [run("torch", torch.__version__, NAMES, params, optimizer, torch.tensor)]

params = []
for name, weight in zip(NAMES, start):
    attribute = paddle.ParamAttr(name=name, initializer=paddle.nn.initializer.Assign(weight))
    params.append(paddle.create_parameter(list(weight.shape), "float32", attr=attribute))
optimizer = paddle.optimizer.AdamW(learning_rate=0.001, weight_decay=0.01, parameters=params)
runs.append(run("paddle", paddle.__version__, NAMES, params, optimizer, paddle.to_tensor))

json.dump({"grads": plain(grads[3:]), "runs": runs}, sys.stdout, indent=1)
print()
