"""A run that PyTorch, Paddle or DeepSpeed has begun goes on here, and one that was begun here goes on there, to the same values.
What bitsandbytes has in 8 bits is here what it is there.

environment: LIBADAMW
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile

import bitsandbytes
import numpy as np
import paddle
import safetensors.torch
import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
from adamw import convert
from adamw.convert.of_deepspeed import pieces
from ours import Ours, from_bf16, to_bf16

SHAPES = [(7, 5), (11,)]
NAMES = ["first.weight", "second.bias"]
STEPS = 6
TOLERANCE = 1e-6
random = np.random.default_rng(3)
START = [random.standard_normal(shape).astype(np.float32) for shape in SHAPES]
GRADS = [[random.standard_normal(shape).astype(np.float32) for shape in SHAPES] for _ in range(STEPS)]


def assert_near(seen, expected, what):
    for a, b in zip(seen, expected):
        error = np.max(np.abs(a - b)) / np.max(np.abs(b))
        assert error <= TOLERANCE, f"{what}: {error}"
    print(what)


class Torch(torch.nn.Module):
    """torch.optim.AdamW with the defaults of the library; the second parameter does not decay."""

    def __init__(self, weights):
        super().__init__()
        self.params = [torch.nn.Parameter(torch.tensor(weight)) for weight in weights]
        for name, param in zip(NAMES, self.params):
            module, own = name.split(".")
            self.add_module(module, torch.nn.Module())
            getattr(self, module).register_parameter(own, param)
        groups = [{"params": [self.params[0]]}, {"params": [self.params[1]], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.001, weight_decay=0.01)

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
    options = StateDictOptions(flatten_optimizer_state_dict=True)
    state = get_optimizer_state_dict(begun, begun.optimizer, options=options)
    with tempfile.TemporaryDirectory() as folder:
        safetensors.torch.save_file({name: value for name, value in state.items() if torch.is_tensor(value)}, f"{folder}/state")
        _, flat = convert.read(f"{folder}/state")
    for what, take_over in [
        ("PyTorch", lambda optimizer: convert.from_torch(optimizer, NAMES, begun.optimizer.state_dict())),
        ("PyTorch's distributed names", lambda optimizer: convert.from_distributed(optimizer, state)),
        ("PyTorch's distributed names in safetensors", lambda optimizer: convert.from_distributed(optimizer, flat)),
    ]:
        ours = Ours(NAMES, begun.weights(), no_decay=NAMES[1:])
        take_over(ours.optimizer)
        for grads in GRADS[3:]:
            ours.step(grads)
        assert_near(ours.weights, whole.weights(), f"{what}, then here")

    ours = Ours(NAMES, START, no_decay=NAMES[1:])
    for grads in GRADS[:3]:
        ours.step(grads)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "state.safetensors")
        ours.save(path)
        state_dict = convert.to_torch(path, [NAMES[:1], NAMES[1:]], dict(zip(NAMES, SHAPES)))
        # PyTorch's own reader sees the same.
        for name, tensor in safetensors.torch.load_file(path).items():
            assert np.array_equal(tensor.numpy(), convert.read(path)[1][name]), name
    state_dict["state"] = {
        number: {part: torch.tensor(np.array(value)) for part, value in state.items()}
        for number, state in state_dict["state"].items()
    }
    resumed = Torch(ours.weights)
    for group in resumed.optimizer.param_groups:
        group.update(lr=1.0, weight_decay=1.0)  # the settings come with the state
    resumed.optimizer.load_state_dict(state_dict)
    for grads in GRADS[3:]:
        resumed.step(grads)
    assert_near(resumed.weights(), whole.weights(), "here, then PyTorch")


def with_commands_for_torch():
    """`python -m adamw convert` makes a checkpoint of PyTorch's file, and the same file of the checkpoint."""
    begun = Torch(START)
    for grads in GRADS[:3]:
        begun.step(grads)
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"optimizer": begun.optimizer.state_dict()}, f"{folder}/run.pt")
        safetensors.torch.save_file(dict(begun.named_parameters()), f"{folder}/params")
        with open(f"{folder}/names", "w") as names:
            names.write("\n\n".join(NAMES))
        for source, target, *options in [
            ("run.pt", "run.safetensors", "--key", "optimizer"),
            ("run.safetensors", "again.pt", "--to", "torch", "--params", f"{folder}/params"),
        ]:
            paths = f"{folder}/{source}", f"{folder}/{target}", "--names", f"{folder}/names"
            subprocess.run([sys.executable, "-m", "adamw", "convert", *paths, *options], check=True)
        again, whole = torch.load(f"{folder}/again.pt"), begun.optimizer.state_dict()
    for number, state in whole["state"].items():
        for part, values in state.items():
            assert torch.equal(again["state"][number][part], values), (number, part)
    for group, expected in zip(again["param_groups"], whole["param_groups"]):
        assert group == {name: expected[name] for name in group}, group


class Paddle:
    """paddle.optimizer.AdamW with the defaults of the library."""

    def __init__(self, weights):
        self.params = []
        for i, weight in enumerate(weights):
            initial = paddle.nn.initializer.Assign(weight)
            attribute = paddle.ParamAttr(name=f"weight_{i}", initializer=initial)
            self.params.append(paddle.create_parameter(list(weight.shape), weight.dtype.name, attr=attribute))
        self.optimizer = paddle.optimizer.AdamW(learning_rate=0.001, weight_decay=0.01, parameters=self.params)

    def step(self, grads):
        for param, grad in zip(self.params, grads):
            param.grad = paddle.to_tensor(grad)
        self.optimizer.step()

    def weights(self):
        return [param.numpy() for param in self.params]


def with_paddle(dtype, steps):
    start, grads = ([values.astype(dtype) for values in each] for each in (START, GRADS[0]))
    with paddle.utils.unique_name.guard(), tempfile.TemporaryDirectory() as folder:
        begun = Paddle(start)
        for _ in range(steps):
            begun.step(grads)
        names, middle = [param.name for param in begun.params], [weight.copy() for weight in begun.weights()]
        paddle.save(begun.optimizer.state_dict(), f"{folder}/state.pdopt")
        for state_dict in (begun.optimizer.state_dict(), convert.load_paddle(f"{folder}/state.pdopt")):
            ours = Ours(names, middle)
            convert.from_paddle(ours.optimizer, state_dict)
            for name in names:
                assert ours.state(f"state.{name}.step") == steps
        for _ in range(3):
            ours.step(grads)
            begun.step(grads)
        assert_near(ours.weights, begun.weights(), f"Paddle in {dtype}, {steps} steps, then here")

    with paddle.utils.unique_name.guard(), tempfile.TemporaryDirectory() as folder:
        resumed = Paddle(start)
        ours = Ours(names, start)
        for _ in range(steps):
            ours.step(grads)
        ours.save(f"{folder}/state.safetensors")
        for param, weight in zip(resumed.params, ours.weights):
            param.set_value(weight)
        paddle.save(convert.to_paddle(f"{folder}/state.safetensors", dict(zip(names, SHAPES))), f"{folder}/state.pdopt")
        resumed.optimizer.set_state_dict(paddle.load(f"{folder}/state.pdopt"))
        for _ in range(3):
            resumed.step(grads)
            ours.step(grads)
        assert_near(resumed.weights(), ours.weights, f"{steps} steps here, then Paddle in {dtype}")


def with_masters_of_paddle():
    """Paddle does not step 16-bit parameters on a processor, but takes their state over and hands it on."""
    with paddle.utils.unique_name.guard(), tempfile.TemporaryDirectory() as folder:
        ours = Ours(["w"], [to_bf16(START[0])])
        ours.step(GRADS[0][:1])
        ours.save(f"{folder}/state.safetensors")
        paddle.save(convert.to_paddle(f"{folder}/state.safetensors", {"w": SHAPES[0]}), f"{folder}/state.pdopt")

        attribute = paddle.ParamAttr(name="w", initializer=paddle.nn.initializer.Constant(0.0))
        param = paddle.create_parameter(list(SHAPES[0]), "bfloat16", attr=attribute)
        optimizer = paddle.optimizer.AdamW(parameters=[param], multi_precision=True)
        optimizer.set_state_dict(paddle.load(f"{folder}/state.pdopt"))
        # What its first step would do.
        optimizer._create_accumulators(paddle.base.framework.default_main_program().global_block(), [param])
        paddle.save(optimizer.state_dict(), f"{folder}/again.pdopt")

        resumed = Ours(["w"], ours.weights)
        convert.from_paddle(resumed.optimizer, convert.load_paddle(f"{folder}/again.pdopt"))
        for part in ("master", "exp_avg", "exp_avg_sq"):
            assert np.array_equal(*(each.state(f"state.w.{part}") for each in (ours, resumed))), part
        assert resumed.state("state.w.step") == 1
    print("masters here, in Paddle, and here")


def run_deepspeed(world, stage, kind, folder, *tags):
    program = os.path.join(HERE, "deepspeed_run.py")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [[sys.executable, program, str(rank), str(world), port, str(stage), kind, folder, *tags] for rank in range(world)]
    running = [subprocess.Popen(rank, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for rank in ranks]
    for rank in running:
        _, said = rank.communicate()
        assert rank.returncode == 0, said.decode()


def with_deepspeed(world, stage, kind):
    """The parts of two ranks meet inside the first parameter, and there is padding at their end."""
    masters = kind == "bf16"
    start = [to_bf16(weight) if masters else weight for weight in START]
    rounded = [[from_bf16(to_bf16(grad)) if masters else grad for grad in grads] for grads in GRADS]

    def f32(ours):
        return [ours.state(f"state.{name}.master") if masters else w.reshape(-1) for name, w in zip(NAMES, ours.weights)]

    with tempfile.TemporaryDirectory() as folder:
        values = dict(zip(NAMES, START)) | {f"grad.{name}": [grads[i] for grads in GRADS] for i, name in enumerate(NAMES)}
        np.savez(f"{folder}/values.npz", **values)
        run_deepspeed(world, stage, kind, folder)
        middle, end = (convert.load_deepspeed(f"{folder}/{step}") for step in (STEPS // 2, STEPS))
        assert len(middle) == world
        weights = convert.from_deepspeed(Ours(NAMES, start).optimizer, middle, masters=masters)
        weights = [weights[name].reshape(shape) for name, shape in zip(NAMES, SHAPES)]
        ours = Ours(NAMES, [to_bf16(weight) if masters else weight for weight in weights])
        convert.from_deepspeed(ours.optimizer, middle, masters=masters)
        for grads in rounded[STEPS // 2 :]:
            ours.step(grads)
        end = convert.from_deepspeed(Ours(NAMES, start).optimizer, end, masters=masters)
        end = [end[name] for name in NAMES]
        assert_near(f32(ours), end, f"DeepSpeed, stage {stage} on {world} ranks in {kind}, then here")

        # Into its files of the middle, whose own values are overwritten first.
        ours = Ours(NAMES, start)
        for grads in rounded[: STEPS // 2]:
            ours.step(grads)
        ours.save(f"{folder}/state.safetensors")
        name = "bf16_zero_pp_rank" if masters else "zero_pp_rank"
        files = [f"{folder}/{STEPS // 2}/{name}_{rank}_mp_rank_00_optim_states.pt" for rank in range(world)]
        saved = [torch.load(file, weights_only=False) for file in files]
        ranks = [rank["optimizer_state_dict"] for rank in saved]
        for _, state, parts in pieces(ranks):
            state["step"] *= 0
            for part in parts.values():
                part[:] = np.nan
        convert.to_deepspeed(f"{folder}/state.safetensors", ranks, dict(zip(NAMES, ours.weights)))
        for file, rank in zip(files, saved):
            torch.save(rank, file)
        shutil.rmtree(f"{folder}/{STEPS}")
        run_deepspeed(world, stage, kind, folder, str(STEPS // 2))
        seen = convert.from_deepspeed(Ours(NAMES, start).optimizer, convert.load_deepspeed(f"{folder}/{STEPS}"), masters=masters)
        assert_near([seen[name] for name in NAMES], end, f"here, then DeepSpeed, stage {stage} on {world} ranks in {kind}")


def with_bitsandbytes():
    params = [torch.nn.Parameter(torch.tensor(random.standard_normal(n).astype(np.float32))) for n in (5000, 10)]
    optimizer = bitsandbytes.optim.AdamW8bit(params, lr=0.001)
    for _ in range(3):
        for param in params:
            param.grad = torch.tensor(random.standard_normal(len(param)).astype(np.float32))
        optimizer.step()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(optimizer.state_dict(), f"{folder}/state.pt")
        state_dict = convert.load_torch(f"{folder}/state.pt")
    ours = Ours(NAMES, [param.detach().numpy() for param in params])
    convert.from_bitsandbytes(ours.optimizer, NAMES, state_dict)
    for name, param in zip(NAMES, params):
        state = optimizer.state[param]
        for part, number in (("exp_avg", 1), ("exp_avg_sq", 2)):
            expected = state[f"state{number}"]
            if expected.dtype == torch.uint8:
                absmax, qmap = state[f"absmax{number}"], state[f"qmap{number}"]
                expected = bitsandbytes.functional.dequantize_blockwise(expected, absmax=absmax, code=qmap, blocksize=256)
            seen = ours.state(f"state.{name}.{part}")
            assert np.array_equal(seen.view(np.uint32), expected.numpy().view(np.uint32)), (name, part)
        assert ours.state(f"state.{name}.step") == 3
    print("bitsandbytes, then here")


with_torch()
with_commands_for_torch()
with_bitsandbytes()
for world, stage, kind in ((1, 1, "fp32"), (2, 1, "fp32"), (2, 2, "fp32"), (2, 2, "bf16")):
    with_deepspeed(world, stage, kind)
for dtype, steps in (("float32", 3), ("float64", 3), ("float32", 1200)):
    with_paddle(dtype, steps)
with_masters_of_paddle()
