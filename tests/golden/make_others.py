"""Writes what a library has saved of its AdamW after 3 of 6 steps, and to states-LIBRARY.json its version, the gradients,
and what the parameters are then and after all steps.

usage: make_others.py LIBRARY...    (in the folder of this file; each library needs its own packages, which its function imports)
"""

import importlib.metadata
import json
import os
import subprocess
import sys

import numpy as np

NAMES, SHAPES, STEPS = ["first.weight", "second.bias"], [(2, 5), (5,)], 6
# An epsilon that can be told before the correction from one behind it.
LR, BETAS, EPS, DECAY = 0.01, (0.8, 0.95), 1e-3, 0.1
random = np.random.default_rng(4)
BEFORE = 3  # of all steps, how many are taken before the state is saved
START = [random.standard_normal(shape).astype(np.float32) for shape in SHAPES]
GRADS = [[random.standard_normal(shape).astype(np.float32) for shape in SHAPES] for _ in range(STEPS)]


def plain(values):
    """Lists whose decimals read back as the same bits."""
    return [np.asarray(value).tolist() for value in values]


def run(library, package, step, weights, save, files, **settings):
    """Takes the steps, saves after the third, and writes the file that describes the run."""
    for number, grads in enumerate(GRADS):
        if number == BEFORE:
            middle = plain(weights())
            save(*files)
        step(grads)
    described = {
        "library": library,
        "version": importlib.metadata.version(package),
        "files": list(files),
        "names": NAMES,
        "settings": {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY, **settings},
        "grads": [plain(grads) for grads in GRADS[BEFORE:]],
        "middle": middle,
        "end": plain(weights()),
    }
    with open(f"states-{library}.json", "w") as file:
        json.dump(described, file, indent=1)
        print(file=file)


def optax(amsgrad=False):
    import flax.serialization
    import jax.numpy as jnp
    import optax

    params = {"first": {"weight": jnp.array(START[0])}, "second": {"bias": jnp.array(START[1])}}
    rule = optax.adamw(LR, *BETAS, eps=EPS, weight_decay=DECAY)
    held = {"params": params, "state": rule.init(params)}

    def step(grads):
        tree = {"first": {"weight": jnp.array(grads[0])}, "second": {"bias": jnp.array(grads[1])}}
        updates, held["state"] = rule.update(tree, held["state"], held["params"])
        held["params"] = optax.apply_updates(held["params"], updates)

    def save(path):
        with open(path, "wb") as file:
            file.write(flax.serialization.to_bytes(held["state"]))

    run("optax", "optax", step, lambda: [held["params"]["first"]["weight"], held["params"]["second"]["bias"]], save, ["states-optax.msgpack"])


def keras():
    run_keras("keras", lambda keras: LR)


def keras_accumulated():
    # The same rate, from a schedule: it has no variable then. An update takes two calls.
    run_keras("keras_accumulated", lambda keras: keras.optimizers.schedules.PiecewiseConstantDecay([100], [LR, LR]), calls=2)


def run_keras(name, rate, calls=1):
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(5)])
    accumulation = {"gradient_accumulation_steps": calls} if calls > 1 else {}
    optimizer = keras.optimizers.AdamW(rate(keras), DECAY, *BETAS, epsilon=EPS, **accumulation)
    model.compile(optimizer=optimizer, loss="mse")
    optimizer.build(model.trainable_variables)
    for variable, start in zip(model.trainable_variables, START):
        variable.assign(start)

    def step(grads):
        for _ in range(calls):
            optimizer.apply([keras.ops.convert_to_tensor(grad) for grad in grads], model.trainable_variables)

    run(name, "keras", step, lambda: list(model.trainable_variables), model.save, [f"states-{name}.keras"], eps_before_correction=True)


def mlx():
    import mlx.core as mx
    from mlx.optimizers import AdamW
    from mlx.utils import tree_flatten

    held = {"first": {"weight": mx.array(START[0])}, "second": {"bias": mx.array(START[1])}}
    optimizer = AdamW(LR, list(BETAS), EPS, DECAY)
    optimizer.init(held)

    def step(grads):
        tree = {"first": {"weight": mx.array(grads[0])}, "second": {"bias": mx.array(grads[1])}}
        held.update(optimizer.apply_gradients(tree, held))
        mx.eval(held)

    def save(path):
        mx.save_safetensors(path, dict(tree_flatten(optimizer.state)))

    run("mlx", "mlx", step, lambda: [held["first"]["weight"], held["second"]["bias"]], save, ["states-mlx.safetensors"], bias_correction=None)


def tinygrad():
    os.environ |= {"DEV": "PYTHON", "TRAINING": "1"}  # it needs no compiler
    from tinygrad import Tensor, nn

    params = [Tensor(start) for start in START]
    for param in params:
        param.requires_grad = True
    optimizer = nn.optim.AdamW(params, LR, *BETAS, EPS, DECAY)

    def step(grads):
        for param, grad in zip(params, grads):
            param.grad = Tensor(grad)
        optimizer.step()

    def save(path):
        nn.state.safe_save(nn.state.get_state_dict(optimizer), path)

    run("tinygrad", "tinygrad", step, lambda: [param.numpy() for param in params], save, ["states-tinygrad.safetensors"])


def of_mindspore(library, make, **settings):
    """Runs an optimizer of MindSpore's."""
    import mindspore

    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    mindspore.set_device("CPU")
    params = [mindspore.Parameter(mindspore.Tensor(start), name=name) for name, start in zip(NAMES, START)]
    optimizer = make(mindspore, params)

    def step(grads):
        optimizer(tuple(mindspore.Tensor(grad) for grad in grads))

    def save(path):
        mindspore.save_checkpoint(optimizer, path)

    weights = lambda: [param.asnumpy().copy() for param in params]  # noqa: E731
    run(library, "mindspore", step, weights, save, [f"states-{library}.ckpt"], **settings)


def mindspore():
    from mindspore.experimental.optim import AdamW

    of_mindspore("mindspore", lambda _, params: AdamW(params, LR, BETAS, EPS, DECAY))


def mindspore_adam_weight_decay():
    # Ungrouped, it does not decay what has "beta" or "gamma" in its name.
    make = lambda its, params: its.nn.AdamWeightDecay(params, LR, *BETAS, EPS, DECAY)  # noqa: E731
    of_mindspore("mindspore_adam_weight_decay", make, bias_correction=None)


def onnxruntime():
    """The loss is the sum of products of parameters and inputs: the inputs are the gradients."""
    import tempfile

    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.training import artifacts, onnxblock
    from onnxruntime.training.api import CheckpointState, Module, Optimizer

    nodes, sums = [], [f"sum {name}" for name in NAMES]
    for name in NAMES:
        nodes.append(helper.make_node("Mul", [name, f"grad {name}"], [f"product {name}"]))
        nodes.append(helper.make_node("ReduceSum", [f"product {name}"], [f"sum {name}"], keepdims=0))
    nodes.append(helper.make_node("Add", sums, ["loss"]))
    given = [helper.make_tensor_value_info(f"grad {name}", TensorProto.FLOAT, shape) for name, shape in zip(NAMES, SHAPES)]
    loss = helper.make_tensor_value_info("loss", TensorProto.FLOAT, [])
    weights = [numpy_helper.from_array(start, name) for name, start in zip(NAMES, START)]
    graph = helper.make_graph(nodes, "graph", given, [loss], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    rule = onnxblock.optim.AdamW(betas=BETAS, eps=EPS, weight_decay=DECAY)
    with tempfile.TemporaryDirectory() as folder:
        artifacts.generate_artifacts(model, requires_grad=NAMES, optimizer=rule, artifact_directory=folder)
        state = CheckpointState.load_checkpoint(f"{folder}/checkpoint")
        module = Module(f"{folder}/training_model.onnx", state)
        optimizer = Optimizer(f"{folder}/optimizer_model.onnx", module)
        optimizer.set_learning_rate(LR)

        def step(grads):
            module.train()
            module(*grads)
            optimizer.step()
            module.lazy_reset_grad()

        def save(path):
            CheckpointState.save_checkpoint(state, path, include_optimizer_state=True)

        now = lambda: [state.parameters[name].data.copy() for name in NAMES]  # noqa: E731
        run("onnxruntime", "onnxruntime-training", step, now, save, ["states-onnxruntime.ckpt"], eps_before_correction=True, decays_new_value=True)


def of_torch(library, package, make, **settings):
    """Runs a library whose optimizers are PyTorch's."""
    import torch

    params = [torch.nn.Parameter(torch.tensor(start)) for start in START]
    optimizer = make(params)

    def step(grads):
        for param, grad in zip(params, grads):
            param.grad = torch.tensor(grad)
        optimizer.step()

    def save(path):
        torch.save(optimizer.state_dict(), path)

    weights = lambda: [param.detach().numpy() for param in params]  # noqa: E731
    run(library, package, step, weights, save, [f"states-{library}.pt"], **settings)


def optimi():
    from optimi import AdamW

    of_torch("optimi", "torch-optimi", lambda params: AdamW(params, LR, BETAS, DECAY, EPS, foreach=False))


def heavyball():
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    import heavyball

    heavyball.utils.compile_mode = None
    # Its epsilon is a floor: too small an one to tell.
    make = lambda params: heavyball.AdamW(params, LR, BETAS, 1e-12, DECAY)  # noqa: E731
    of_torch("heavyball", "heavyball", make, eps=1e-12)


def of_program(library, program, files, **settings):
    """Runs a program in the library's own language: it is told of the run, saves, and prints what the parameters are."""
    grads = [plain(grads) for grads in GRADS]
    settings = {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY, **settings}
    given = {"start": plain(START), "grads": grads, "before": BEFORE, "file": files[0], **settings}
    done = subprocess.run(program, input=json.dumps(given), capture_output=True, text=True, check=True)
    described = {"library": library, "names": NAMES, "files": files, "settings": settings, "grads": grads[BEFORE:]}
    with open(f"states-{library}.json", "w") as file:
        json.dump({**described, **json.loads(done.stdout.splitlines()[-1])}, file, indent=1)
        print(file=file)


def tfjs():
    """TensorFlow.js, which has no decay, is run by node, with its packages in NODE_PATH."""
    os.makedirs("states-tfjs", exist_ok=True)
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "make_tfjs.js")
    of_program("tfjs", ["node", program], ["states-tfjs/model.json"], weight_decay=0.0)


def burn():
    """burn is run by the program that cargo has built in make_burn: MAKE_BURN is its path."""
    of_program("burn", [os.environ["MAKE_BURN"]], ["states-burn.bpk"], amsgrad=True)


def pytorch_optimizer_sn():
    import pytorch_optimizer

    make = lambda params: pytorch_optimizer.AdamWSN(params, LR, BETAS, DECAY, eps=EPS)  # noqa: E731
    rule = {"eps_before_correction": True, "decays_new_value": True}
    of_torch("pytorch_optimizer_sn", "pytorch_optimizer", make, **rule)


def pytorch_optimizer_flash():
    """Without its codes, of which it makes others in each step."""
    import pytorch_optimizer

    make = lambda params: pytorch_optimizer.FlashAdamW(params, LR, BETAS, DECAY, quantize=False, eps=EPS)  # noqa: E731
    of_torch("pytorch_optimizer_flash", "pytorch_optimizer", make)


def pytorch_optimizer_codes():
    """What codes stand for, and what corrected moments were before, is saved beside them."""
    import pytorch_optimizer
    import torch
    from pytorch_optimizer.optimizer.flash_adamw import materialize_state

    values = {}
    for kind in ("FlashAdamW", "StableAdamW"):
        param = torch.nn.Parameter(torch.tensor(random.standard_normal((2, 50)).astype(np.float32)))
        optimizer = getattr(pytorch_optimizer, kind)([param], LR, BETAS, weight_decay=DECAY, eps=EPS)
        raw = {part: np.zeros((2, 50)) for part in ("exp_avg", "exp_avg_sq")}
        for _ in range(3):
            grad = random.standard_normal((2, 50)).astype(np.float32)
            for beta, part, power in (BETAS[0], "exp_avg", 1), (BETAS[1], "exp_avg_sq", 2):
                raw[part] = beta * raw[part] + (1 - beta) * grad.astype(np.float64) ** power
            param.grad = torch.tensor(grad)
            optimizer.step()
        values[kind] = {"state_dict": optimizer.state_dict()}
        for part in raw:
            is_coded = kind == "FlashAdamW"
            values[kind][part] = materialize_state(optimizer.state[param], part) if is_coded else torch.tensor(raw[part])
    values["version"] = importlib.metadata.version("pytorch_optimizer")
    torch.save(values, "states-pytorch_optimizer.pt")


def torchao():
    """What codes stand for is saved beside them, because torchao codes again in each step."""
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    import torch
    import torchao.optim

    values = {}
    for kind in ("AdamW8bit", "AdamW4bit"):
        param = torch.nn.Parameter(torch.tensor(random.standard_normal((2, 2048)).astype(np.float32)))
        optimizer = getattr(torchao.optim, kind)([param], lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
        for _ in range(3):
            param.grad = torch.tensor(random.standard_normal((2, 2048)).astype(np.float32))
            optimizer.step()
        state = optimizer.state[param]
        values[kind] = {"state_dict": optimizer.state_dict()} | {part: state[part].dequantize() for part in ("exp_avg", "exp_avg_sq")}
    values["version"] = importlib.metadata.version("torchao")
    torch.save(values, "states-torchao.pt")


def rank(number, folder):
    """One of two ranks, each of which has a half of the columns of the weight, and saves into the folder."""
    import torch
    import torch.distributed.checkpoint
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
    from torch.distributed.tensor import DTensor, Replicate, Shard, init_device_mesh

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29617"}
    torch.distributed.init_process_group("gloo", rank=number, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    laid = lambda value, i: torch.distributed.tensor.distribute_tensor(torch.tensor(value), mesh, [Shard(1) if i == 0 else Replicate()])  # noqa: E731
    model = torch.nn.Module()
    for i, (name, start) in enumerate(zip(NAMES, START)):
        module, own = name.split(".")
        model.add_module(module, torch.nn.Module())
        getattr(model, module).register_parameter(own, torch.nn.Parameter(laid(start, i)))
    params = list(model.parameters())
    optimizer = torch.optim.AdamW(params, lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)

    def step(grads):
        for i, (param, grad) in enumerate(zip(params, grads)):
            param.grad = laid(grad, i)
        optimizer.step()

    def save(path):
        torch.distributed.checkpoint.save({"optim": get_optimizer_state_dict(model, optimizer)}, checkpoint_id=path)

    def weights():
        return [param.full_tensor().detach().numpy() for param in params if isinstance(param, DTensor)]

    run("torch-folder", "torch", step, weights, save, [folder])


def torch_folder():
    import torch

    torch.multiprocessing.spawn(rank, ("states-torch-folder",), 2)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        globals()[name]()
