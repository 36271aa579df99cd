"""A run that PyTorch or Paddle has begun goes on here, and one that was begun here goes on there, to the same values.

usage: continue.py LIBADAMW_SO
"""

import ctypes
import os
import sys
import tempfile

import numpy as np

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
sys.path.insert(0, os.path.join(ROOT, "python"))
import convert

library = ctypes.CDLL(sys.argv[1])
library.adamw_last_error.restype = ctypes.c_char_p

SHAPES = [(7, 5), (11,)]
NAMES = ["first.weight", "second.bias"]
STEPS = 6
TOLERANCE = 1e-6
random = np.random.default_rng(3)
START = [random.standard_normal(shape).astype(np.float32) for shape in SHAPES]
GRADS = [[random.standard_normal(shape).astype(np.float32) for shape in SHAPES] for _ in range(STEPS)]


def ok(status):
    if status:
        raise RuntimeError(library.adamw_last_error().decode())


class Ours:
    """The library with two parameters."""

    def __init__(self, names, weights):
        self.weights = [weight.copy() for weight in weights]
        self.optimizer, self.numbers = ctypes.c_void_p(), []
        ok(library.adamw_create(None, ctypes.byref(self.optimizer)))
        for name, weight in zip(names, self.weights):
            number, data = ctypes.c_uint32(), ctypes.c_void_p(weight.ctypes.data)
            ok(library.adamw_add_array(self.optimizer, name.encode(), data, ctypes.c_uint64(weight.size), 1, ctypes.byref(number)))
            self.numbers.append(number)
        self.handle = convert.Handle(library, self.optimizer)

    def step(self, grads):
        for number, grad in zip(self.numbers, grads):
            data = ctypes.c_void_p(grad.ctypes.data)
            ok(library.adamw_set_grad_array(self.optimizer, number, data, ctypes.c_uint64(grad.size), 1))
        ok(library.adamw_step(self.optimizer))


def assert_near(seen, expected, what):
    for a, b in zip(seen, expected):
        error = np.max(np.abs(a - b)) / np.max(np.abs(b))
        assert error <= TOLERANCE, f"{what}: {error}"
    print(what)


class Torch:
    """torch.optim.AdamW with the defaults of the library."""

    def __init__(self, weights):
        self.params = [torch.nn.Parameter(torch.tensor(weight)) for weight in weights]
        self.optimizer = torch.optim.AdamW(self.params, lr=0.001, weight_decay=0.01)

    def step(self, grads):
        for param, grad in zip(self.params, grads):
            param.grad = torch.tensor(grad)
        self.optimizer.step()

    def weights(self):
        return [param.detach().numpy() for param in self.params]


def with_torch():
    whole = Torch(START)
    for grads in GRADS:
        whole.step(grads)

    begun = Torch(START)
    for grads in GRADS[:3]:
        begun.step(grads)
    ours = Ours(NAMES, begun.weights())
    convert.from_torch(ours.handle, NAMES, begun.optimizer.state_dict())
    for grads in GRADS[3:]:
        ours.step(grads)
    assert_near(ours.weights, whole.weights(), "PyTorch, then here")

    ours = Ours(NAMES, START)
    for grads in GRADS[:3]:
        ours.step(grads)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "state.safetensors")
        ok(library.adamw_save(ours.optimizer, path.encode()))
        state_dict = convert.to_torch(path, NAMES, SHAPES)
        from safetensors.torch import load_file  # PyTorch's own reader sees the same

        for name, tensor in load_file(path).items():
            assert np.array_equal(tensor.numpy(), convert.read(path)[1][name]), name
    state_dict["state"] = {
        number: {part: torch.tensor(np.array(value)) for part, value in state.items()}
        for number, state in state_dict["state"].items()
    }
    resumed = Torch(ours.weights)
    resumed.optimizer.load_state_dict(state_dict)
    for grads in GRADS[3:]:
        resumed.step(grads)
    assert_near(resumed.weights(), whole.weights(), "here, then PyTorch")


class Paddle:
    """paddle.optimizer.AdamW with the defaults of the library."""

    def __init__(self, weights):
        self.params = []
        for i, weight in enumerate(weights):
            initial = paddle.nn.initializer.Assign(weight)
            attribute = paddle.ParamAttr(name=f"weight_{i}", initializer=initial)
            self.params.append(paddle.create_parameter(list(weight.shape), "float32", attr=attribute))
        self.optimizer = paddle.optimizer.AdamW(learning_rate=0.001, weight_decay=0.01, parameters=self.params)

    def step(self, grads):
        for param, grad in zip(self.params, grads):
            param.grad = paddle.to_tensor(grad)
        self.optimizer.step()

    def weights(self):
        return [param.numpy() for param in self.params]


def with_paddle():
    with paddle.utils.unique_name.guard():
        begun = Paddle(START)
        for grads in GRADS[:3]:
            begun.step(grads)
        names = [param.name for param in begun.params]
        ours = Ours(names, begun.weights())
        convert.from_paddle(ours.handle, names, begun.optimizer.state_dict())
        for grads in GRADS[3:]:
            ours.step(grads)
            begun.step(grads)
        assert_near(ours.weights, begun.weights(), "Paddle, then here")


import torch

with_torch()
import paddle

with_paddle()
