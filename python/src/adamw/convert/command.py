"""`python -m adamw convert`: files of other frameworks into checkpoints, and back."""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._optional import optional
from ..optimizer import AdamW
from . import pickled, taken, written
from .read import NUMPY, read

State = Mapping[str, Any]


class Tensor(NamedTuple):
    """The type, as safetensors names it, and the shape of a parameter."""

    dtype: str
    shape: tuple[int, ...]


class Run(NamedTuple):
    """What a file of another framework says of a run."""

    #: Hyper-parameters of each group, and the names of its parameters.
    groups: list[tuple[dict[str, Any], list[str]]]
    tensors: dict[str, Tensor]
    #: Options of the optimizer.
    options: dict[str, Any]
    #: Takes the state over; returns the parameters, if the file has them.
    take: Callable[[AdamW], dict[str, Any] | None]


def described(path: str | None) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file, of which only the header is read."""
    if path is None:
        return {}
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    return {name: Tensor(one["dtype"], tuple(one["shape"])) for name, one in header.items()}


def of_moments(found: dict[str, Tensor], name: str, moment: Any) -> None:
    """Adds what a moment says of its parameter, unless it is known already."""
    values = np.asarray(moment)
    dtype = "F64" if values.dtype == np.float64 else "F32"
    found.setdefault(name, Tensor(dtype, values.shape))


def names_of(path: str | None, groups: Sequence[State]) -> list[str]:
    """Returns the names in a file, one a line, or those that PyTorch's groups have."""
    if path is not None:
        with open(path, encoding="utf-8") as file:
            return [line.strip() for line in file if line.strip()]
    if all("param_names" in group for group in groups):
        return [name for group in groups for name in group["param_names"]]
    raise ValueError(
        "PyTorch numbers its parameters: give their names by --names FILE, one a line, in the "
        "order of its groups (for one group: that of model.named_parameters())"
    )


def settings(group: State) -> dict[str, Any]:
    """Returns the hyper-parameters of a group that PyTorch or DeepSpeed has saved."""
    own = {name: group[name] for name in ("lr", "eps", "weight_decay") if name in group}
    return {**own, "betas": tuple(group["betas"])} if "betas" in group else own


def of_torch(path: str, args: argparse.Namespace) -> Run:
    """Returns the run of `torch.save(optimizer.state_dict())`, or of bitsandbytes' optimizers."""
    saved = pickled.load_torch(path)
    if args.key is not None:
        saved = saved[args.key]
    if not isinstance(saved, dict) or not {"state", "param_groups"} <= set(saved):
        entries = ", ".join(map(str, saved)) if isinstance(saved, dict) else type(saved).__name__
        raise ValueError(
            f"{path} has no state_dict of an optimizer, but {entries}: name its entry by --key"
        )
    groups, states = saved["param_groups"], saved["state"]
    if args.kind == "bitsandbytes":
        states = {number: taken.plain(state) for number, state in states.items()}
    names, tensors = names_of(args.names, groups), described(args.params)
    order = [number for group in groups for number in group["params"]]
    if len(names) != len(order):
        raise ValueError(f"{path} has {len(order)} parameters, there are {len(names)} names")
    called = dict(zip(order, names))
    for number, state in states.items():
        of_moments(tensors, called[number], state["exp_avg"])
    options = {name: groups[0].get(name, False) for name in ("amsgrad", "maximize")}
    return Run(
        [(settings(group), [called[number] for number in group["params"]]) for group in groups],
        tensors,
        options,
        lambda optimizer: taken.from_torch(
            optimizer, names, {"state": states, "param_groups": groups}
        ),
    )


def of_distributed(path: str, args: argparse.Namespace) -> Run:
    """Returns the run of a safetensors file with the names of distributed checkpoints."""
    _, saved = read(path)
    tensors = described(args.params)
    names = [
        name[6:-8] for name in saved if name.startswith("state.") and name.endswith(".exp_avg")
    ]
    for name in names:
        of_moments(tensors, name, saved[f"state.{name}.exp_avg"])
    options = {"amsgrad": any(name.endswith(".max_exp_avg_sq") for name in saved)}
    return Run([({}, names)], tensors, options, lambda own: taken.from_distributed(own, saved))


def of_paddle(path: str, args: argparse.Namespace) -> Run:
    """Returns the run of `paddle.save(optimizer.state_dict())`."""
    saved = pickled.load_paddle(path)
    tensors, masters, names = described(args.params), saved.get("master_weights", {}), []
    for key, moment in saved.items():
        if key.endswith("_moment1_0"):
            name = key.removesuffix("_moment1_0").removesuffix("_fp32_master_0")
            if name in masters and name not in tensors:
                raise ValueError(
                    f"{name} has an f32 master: give the types of the parameters by --params FILE"
                )
            of_moments(tensors, name, moment)
            names.append(name)
    options = {
        "amsgrad": any(name.endswith("_moment2_max_0") for name in saved),
        "precision": "master" if masters else None,
    }
    own = {"betas": args.betas}
    return Run(
        [(own, names)],
        tensors,
        options,
        lambda optimizer: taken.from_paddle(optimizer, names, saved, args.betas),
    )


def of_deepspeed(path: str, args: argparse.Namespace) -> Run:
    """Returns the run of the folder in which ZeRO's ranks (stages 1 and 2) have saved theirs."""
    ranks, sizes = pickled.load_deepspeed(path), dict[str, int]()
    groups: dict[int, list[str]] = {}
    saved = [group for rank in ranks[:1] for group in rank["base_optimizer_state"]["param_groups"]]
    for name, _, parts in taken.pieces(ranks):
        sizes[name] = sizes.get(name, 0) + len(parts["master"])
    for rank in ranks:
        for number, slices in enumerate(rank["param_slice_mappings"]):
            known = groups.setdefault(number, [])
            known += [name for name in slices if name not in known]
    return Run(
        [(settings(saved[number]), names) for number, names in groups.items()],
        {name: Tensor("F32", (size,)) for name, size in sizes.items()},
        {},
        lambda optimizer: taken.from_deepspeed(optimizer, ranks),
    )


READERS = {
    "torch": of_torch,
    "bitsandbytes": of_torch,
    "distributed": of_distributed,
    "paddle": of_paddle,
    "deepspeed": of_deepspeed,
}


def zeros(name: str, tensors: Mapping[str, Tensor]) -> Any:
    """Returns memory in place of a parameter."""
    if name not in tensors:
        raise ValueError(
            f"{name} has taken no step, so that its length is unknown: give --params FILE"
        )
    dtype, shape = tensors[name]
    if dtype == "BF16":
        bf16 = optional("ml_dtypes")
        if bf16 is None:
            raise ValueError(f"{name} is in bf16: install ml_dtypes")
        return np.zeros(shape, bf16.bfloat16)
    return np.zeros(shape, NUMPY[dtype])


def checkpoint(args: argparse.Namespace) -> str:
    """Writes a checkpoint of what another framework has saved; returns what to print."""
    run = READERS[args.kind](args.source, args)
    params = {name: zeros(name, run.tensors) for _, names in run.groups for name in names}
    lr = next((group["lr"] for group, _ in run.groups if "lr" in group), 1e-3)
    groups = [
        {**own, "params": {name: params[name] for name in names}} for own, names in run.groups
    ]
    with AdamW(groups, lr=lr, **run.options) as optimizer:
        values = run.take(optimizer)
        for name, value in (values or {}).items():
            params[name][:] = value
        saved = optimizer.save(args.target, params=values is not None)
    return f"{args.target}: {len(params)} params, {saved.num_bytes} bytes"


def shapes_of(args: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the parameters, which a checkpoint has not."""
    if args.params is None:
        raise ValueError("a checkpoint has no shapes: give the model's parameters by --params FILE")
    return {name: tensor.shape for name, tensor in described(args.params).items()}


def to_torch(args: argparse.Namespace) -> str:
    """Writes a checkpoint as `torch.save` would; returns what to print."""
    torch = optional("torch")
    if torch is None:
        raise ValueError("to-torch writes with torch, which is not installed")
    if args.names is None:
        raise ValueError(
            "PyTorch numbers its parameters: give their names by --names FILE, one a line, in its "
            "order, with an empty line between groups"
        )
    with open(args.names, encoding="utf-8") as file:
        groups = [part.split("\n") for part in file.read().strip().split("\n\n")]
    state = written.to_torch(args.source, groups, shapes_of(args))
    for number, parts in state["state"].items():
        tensors = {part: torch.tensor(np.array(values)) for part, values in parts.items()}
        state["state"][number] = tensors
    torch.save(state, args.target)
    return f"{args.target}: {len(state['state'])} params"


def to_paddle(args: argparse.Namespace) -> str:
    """Writes a checkpoint as `paddle.save` would; returns what to print."""
    shapes = shapes_of(args)
    with open(args.target, "wb") as file:
        pickle.dump(written.to_paddle(args.source, shapes), file, protocol=4)
    return f"{args.target}: {len(shapes)} params"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    kinds = (*READERS, "to-torch", "to-paddle")
    parser.add_argument("kind", choices=kinds, help="whose file the source (or the target) is")
    parser.add_argument("source", help="the file to read; for deepspeed a folder")
    parser.add_argument("target", help="the file to write")
    parser.add_argument("--key", help="the entry of a file of torch.save that has the state_dict")
    parser.add_argument("--names", help="a file with the names of PyTorch's parameters, one a line")
    parser.add_argument("--params", help="a safetensors file with the model's parameters")
    parser.add_argument(
        "--betas",
        type=float,
        nargs=2,
        default=(0.9, 0.999),
        help="Paddle's, which it does not save",
    )


def run(args: argparse.Namespace) -> str:
    """Converts, and returns what to print."""
    args.betas = tuple(args.betas)
    if args.kind == "to-torch":
        return to_torch(args)
    return to_paddle(args) if args.kind == "to-paddle" else checkpoint(args)
