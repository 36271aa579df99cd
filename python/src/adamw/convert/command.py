"""`python -m adamw convert`: files of other frameworks into checkpoints, and back."""

from __future__ import annotations

import argparse
import json
import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .._optional import optional
from ..optimizer import AdamW
from . import files, written
from .arrays import array_of
from .folder import read_folder
from .found import Found
from .of_deepspeed import deepspeed_found
from .of_distributed import distributed_found
from .of_paddle import paddle_found
from .of_torch import bitsandbytes_found, parts_of, torch_found
from .read import NUMPY, read
from .take import Options, take

#: The settings that an optimizer can have for each of its groups.
OF_GROUPS = ("lr", "betas", "eps", "weight_decay", "maximize", "amsgrad")


class Tensor(NamedTuple):
    """The type, as safetensors names it, and the shape of a parameter."""

    dtype: str
    shape: tuple[int, ...]


def described(path: str | None) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file, of which only the header is read."""
    if path is None:
        return {}
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    return {name: Tensor(one["dtype"], tuple(one["shape"])) for name, one in header.items()}


def torch_file(args: argparse.Namespace) -> Found:
    """Reads `torch.save(optimizer.state_dict())`, or that of bitsandbytes' optimizers."""
    saved = files.load_torch(args.source)
    if args.key is not None:
        saved = saved[args.key]
    try:
        groups, _ = parts_of(saved)
    except ValueError as error:
        raise ValueError(f"{args.source}: {error} (--key names an entry)") from None
    names = None
    if args.names is not None:
        with open(args.names, encoding="utf-8") as file:
            names = [line.strip() for line in file if line.strip()]
    elif not all("param_names" in group for group in groups):
        raise ValueError(
            "PyTorch numbers its parameters: give their names by --names FILE, one a line, in the "
            "order of its groups (for one group: that of model.named_parameters())"
        )
    options: Options = {"ignore": args.ignore}
    find = bitsandbytes_found if args.kind == "bitsandbytes" else torch_found
    return find(names, saved, options)


def distributed_file(args: argparse.Namespace) -> Found:
    """Reads safetensors files, or a folder, with the names of distributed checkpoints."""
    is_folder = os.path.isdir(args.source)
    return distributed_found((), read_folder(args.source) if is_folder else read(args.source)[1])


def paddle_file(args: argparse.Namespace) -> Found:
    """Reads `paddle.save(optimizer.state_dict())`."""
    found = paddle_found(files.load_paddle(args.source), args.betas)
    for param in found.params.values():
        param.settings = {**param.settings, "betas": args.betas}
    return found


def deepspeed_files(args: argparse.Namespace) -> Found:
    """Reads the folder in which ZeRO's ranks (stages 1 and 2) have saved theirs."""
    return deepspeed_found(files.load_deepspeed(args.source))


READERS: dict[str, Callable[[argparse.Namespace], Found]] = {
    "torch": torch_file,
    "bitsandbytes": torch_file,
    "distributed": distributed_file,
    "paddle": paddle_file,
    "deepspeed": deepspeed_files,
}


def zeros(name: str, found: Found, tensors: Mapping[str, Tensor]) -> Any:
    """Returns memory in place of a parameter."""
    parts = found.params[name].parts
    if name in tensors:
        dtype, shape = tensors[name]
    elif "master" in parts:
        raise ValueError(
            f"{name} has an f32 master: give the types of the parameters by --params FILE"
        )
    elif "exp_avg" in parts:
        values = array_of(parts["exp_avg"], f"exp_avg of {name!r}")
        dtype, shape = "F64" if values.dtype == np.float64 else "F32", values.shape
    else:
        raise ValueError(f"{name} has no exp_avg, so its length is unknown: give --params FILE")
    if dtype == "BF16":
        bf16 = optional("ml_dtypes")
        if bf16 is None:
            raise ValueError(f"{name} is in bf16: install ml_dtypes")
        return np.zeros(shape, bf16.bfloat16)
    return np.zeros(shape, NUMPY[dtype])


def groups_of(found: Found, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the groups of an optimizer that has these parameters, with the settings found."""
    groups: dict[tuple[int, str], dict[str, Any]] = {}
    for name, param in found.params.items():
        own = {key: param.settings[key] for key in OF_GROUPS if key in param.settings}
        if "max_exp_avg_sq" in param.parts:
            own["amsgrad"] = True
        group = groups.setdefault((param.group, str(own)), {**own, "params": {}})
        group["params"][name] = params[name]
    return [groups[key] for key in sorted(groups)]


def checkpoint(args: argparse.Namespace) -> str:
    """Writes a checkpoint of what another framework has saved; returns what to print."""
    found, tensors = READERS[args.kind](args), described(args.params)
    values = {}
    if args.kind == "deepspeed":  # whose masters are the parameters
        values = {name: param.parts.pop("master") for name, param in found.params.items()}
    params = {name: zeros(name, found, tensors) for name in found.params}
    has_masters = any("master" in param.parts for param in found.params.values())
    groups = groups_of(found, params)
    lr = next((group["lr"] for group in groups if "lr" in group), 1e-3)
    with AdamW(groups, lr=lr, precision="master" if has_masters else None) as optimizer:
        take(optimizer, found, {"ignore": args.ignore})
        for name, value in values.items():
            params[name].reshape(-1)[:] = value
        saved = optimizer.save(args.target, params=bool(values))
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
    parser.add_argument(
        "--ignore",
        nargs="+",
        default=(),
        help="settings or parts of the state that are not taken over, such as bias_corrected",
    )


def run(args: argparse.Namespace) -> str:
    """Converts, and returns what to print."""
    args.betas = tuple(args.betas)
    if args.kind == "to-torch":
        return to_torch(args)
    return to_paddle(args) if args.kind == "to-paddle" else checkpoint(args)
