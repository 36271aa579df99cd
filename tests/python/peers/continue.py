"""A run that PyTorch or Paddle has begun goes on here, and one that was begun here goes on there, to the same values. One
that DeepSpeed has begun goes on here, and what bitsandbytes has in 8 bits is here what it is there.

usage: continue.py LIBADAMW_SO
"""

import ctypes
import glob
import os
import subprocess
import sys
import tempfile

import numpy as np

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
sys.path.insert(0, os.path.join(ROOT, "python"))
import convert
import pickled

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


class Config(ctypes.Structure):
    """adamw_config, as its first version has it."""

    _fields_ = [("struct_size", ctypes.c_size_t)] + [(name, ctypes.c_double) for name in ("lr", "beta1", "beta2", "eps", "weight_decay")]
    _fields_ += [(name, ctypes.c_uint32) for name in ("amsgrad", "maximize", "multi_precision", "num_threads", "isa", "nonfinite")]
    _fields_ += [(name, ctypes.c_void_p) for name in ("parallel_for", "parallel_for_data")]


class Ours:
    """The library with some parameters: f32, or bf16 (as uint16) with masters."""

    def __init__(self, names, weights):
        self.weights = [weight.copy() for weight in weights]
        self.optimizer, self.numbers, config = ctypes.c_void_p(), [], Config()
        ok(library.adamw_config_init(ctypes.byref(config), ctypes.c_size_t(ctypes.sizeof(config))))
        config.multi_precision = 1
        ok(library.adamw_create(ctypes.byref(config), ctypes.byref(self.optimizer)))
        for name, weight in zip(names, self.weights):
            number, data = ctypes.c_uint32(), ctypes.c_void_p(weight.ctypes.data)
            dtype = convert.BF16 if weight.dtype == np.uint16 else convert.DTYPES[weight.dtype]
            ok(library.adamw_add_array(self.optimizer, name.encode(), data, ctypes.c_uint64(weight.size), dtype, ctypes.byref(number)))
            self.numbers.append(number)
        self.handle = convert.Handle(library, self.optimizer)

    def state(self, name, n, dtype=np.float32):
        values = np.empty(n, dtype)
        data = ctypes.c_void_p(values.ctypes.data)
        ok(library.adamw_get_state(self.optimizer, name.encode(), data, ctypes.c_uint64(n), convert.DTYPES[values.dtype]))
        return values

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

    with paddle.utils.unique_name.guard(), tempfile.TemporaryDirectory() as folder:
        resumed = Paddle(START)
        ours = Ours(names, START)
        for grads in GRADS[:3]:
            ours.step(grads)
        path = os.path.join(folder, "state.safetensors")
        ok(library.adamw_save(ours.optimizer, path.encode()))
        for param, weight in zip(resumed.params, ours.weights):
            param.set_value(weight)
        paddle.save(convert.to_paddle(path, names, SHAPES), f"{folder}/state.pdopt")
        resumed.optimizer.set_state_dict(paddle.load(f"{folder}/state.pdopt"))
        for grads in GRADS[3:]:
            resumed.step(grads)
        assert_near(resumed.weights(), begun.weights(), "here, then Paddle")


def to_bf16(values):
    """To nearest even, as bits."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def with_deepspeed(world, kind):
    with tempfile.TemporaryDirectory() as folder:
        values = dict(zip(NAMES, START)) | {f"grad.{name}": [grads[i] for grads in GRADS] for i, name in enumerate(NAMES)}
        np.savez(f"{folder}/values.npz", **values)
        program = os.path.join(os.path.dirname(__file__), "deepspeed_run.py")
        port = str(29500 + os.getpid() % 1000 + world)
        ranks = [[sys.executable, program, str(rank), str(world), port, kind, folder] for rank in range(world)]
        running = [subprocess.Popen(rank, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for rank in ranks]
        for rank in running:
            _, said = rank.communicate()
            assert rank.returncode == 0, said.decode()

        def saved(step):
            files = sorted(glob.glob(f"{folder}/{step}/*_optim_states.pt"))
            assert len(files) == world
            return [pickled.load_torch(file)["optimizer_state_dict"] for file in files]

        masters = kind == "bf16"
        start = [to_bf16(weight) if masters else weight for weight in START]
        middle = convert.from_deepspeed(Ours(NAMES, start).handle, saved(STEPS // 2), masters)
        middle = [middle[name].reshape(shape) for name, shape in zip(NAMES, SHAPES)]
        ours = Ours(NAMES, [to_bf16(weight) if masters else weight for weight in middle])
        convert.from_deepspeed(ours.handle, saved(STEPS // 2), masters)
        for grads in GRADS[STEPS // 2 :]:
            ours.step([from_bf16(to_bf16(grad)) if masters else grad for grad in grads])
        seen = [ours.state(f"state.{name}.master", len(w.flat)) if masters else w.reshape(-1) for name, w in zip(NAMES, ours.weights)]
        end = convert.from_deepspeed(Ours(NAMES, start).handle, saved(STEPS), masters)
        assert_near(seen, [end[name] for name in NAMES], f"DeepSpeed on {world} ranks in {kind}, then here")


def with_bitsandbytes():
    params = [torch.nn.Parameter(torch.tensor(random.standard_normal(n).astype(np.float32))) for n in (5000, 10)]
    optimizer = bitsandbytes.optim.AdamW8bit(params, lr=0.001)
    for _ in range(3):
        for param in params:
            param.grad = torch.tensor(random.standard_normal(len(param)).astype(np.float32))
        optimizer.step()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(optimizer.state_dict(), f"{folder}/state.pt")
        state_dict = pickled.load_torch(f"{folder}/state.pt")
    ours = Ours(NAMES, [param.detach().numpy() for param in params])
    convert.from_bitsandbytes(ours.handle, NAMES, state_dict)
    for name, param in zip(NAMES, params):
        state = optimizer.state[param]
        for part, number in (("exp_avg", 1), ("exp_avg_sq", 2)):
            expected = state[f"state{number}"]
            if expected.dtype == torch.uint8:
                absmax, qmap = state[f"absmax{number}"], state[f"qmap{number}"]
                expected = bitsandbytes.functional.dequantize_blockwise(expected, absmax=absmax, code=qmap, blocksize=256)
            seen = ours.state(f"state.{name}.{part}", len(param))
            assert np.array_equal(seen.view(np.uint32), expected.numpy().view(np.uint32)), (name, part)
        assert ours.state(f"state.{name}.step", 1, np.float64) == 3
    print("bitsandbytes, then here")


import torch

with_torch()
import bitsandbytes

with_bitsandbytes()
for world, kind in ((1, "fp32"), (2, "fp32"), (2, "bf16")):
    with_deepspeed(world, kind)
import paddle

with_paddle()
