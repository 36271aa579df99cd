"""Checkpoints into the state of other frameworks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .of_deepspeed import pieces
from .read import Array, in_shape, moments, read, settings_of, words

Path = str | os.PathLike[str]


def to_torch(path: Path, groups: Sequence[Sequence[str]], shapes: Mapping[str, Any]) -> Any:
    """Returns a `state_dict` for a `torch.optim.AdamW` whose groups have the parameters of these
    names, `shapes` by name, as numpy arrays. PyTorch keeps the step as a float32, which is exact up
    to 2^24. Masters are not the optimizer's there: `read` finds them."""
    texts, tensors = read(path)
    state: dict[int, Any] = {}
    param_groups: list[dict[str, Any]] = []
    for names in groups:
        first = len(state)
        for name in names:
            step = np.float32(tensors[f"state.{name}.step"])
            values = dict(moments(texts, tensors, name, shapes[name]))
            state[len(state)] = {"step": step, **values}
        settings = [torch_settings(texts, tensors, name) for name in names]
        for name, its in zip(names, settings):
            if its != settings[0]:
                raise ValueError(
                    f"the settings of {name!r} are {its}, those of {names[0]!r} in the same group "
                    f"{settings[0]}"
                )
        own = settings[0] if settings else {}
        param_groups.append({**own, "params": list(range(first, len(state)))})
    return {"state": state, "param_groups": param_groups}


def torch_settings(
    texts: dict[str, str], tensors: dict[str, Array], name: str
) -> dict[str, float | bool | tuple[float, float]]:
    """Returns what PyTorch has in the group of a parameter."""
    own, group = settings_of(texts, name)
    optimizer = words(texts["optimizer"])
    return {
        "lr": float(tensors[f"param_groups.{name}.lr"]),
        "betas": (float(group["beta1"]), float(group["beta2"])),
        "eps": float(group["eps"]),
        "weight_decay": float(group["weight_decay"]) if own["decays"] == "1" else 0.0,
        "amsgrad": optimizer["amsgrad"] == "1",
        "maximize": optimizer["maximize"] == "1",
    }


def to_paddle(path: Path, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a `state_dict` for `paddle.optimizer.AdamW` with parameters of these names, `shapes`
    by name, as numpy arrays. Paddle's powers of the betas are one step ahead. Masters are pairs of
    a name and an array, which `paddle.save` and `paddle.load` make tensors of that name: by it
    Paddle finds their moments."""
    texts, tensors = read(path)
    state: dict[str, Any] = {}
    masters = {}
    for name, shape in shapes.items():
        own = name
        if f"state.{name}.remainder" in tensors:
            raise ValueError(
                f"state.{name}.remainder is nothing that Paddle knows; expected a master, or a "
                f"parameter without one"
            )
        if f"state.{name}.master" in tensors:
            own = f"{name}_fp32_master_0"
            master = tensors[f"state.{name}.master"]
            masters[name] = own, in_shape(master, texts, name, shape)
        values = dict(moments(texts, tensors, name, shape))
        for beta in ("beta1", "beta2"):
            power = tensors[f"state.{name}.{beta}_power"] * float(settings_of(texts, name)[1][beta])
            state[f"{own}_{beta}_pow_acc_0"] = np.array([power], values["exp_avg"].dtype)
        for part, theirs in (
            ("exp_avg", "moment1_0"),
            ("exp_avg_sq", "moment2_0"),
            ("max_exp_avg_sq", "moment2_max_0"),
        ):
            if part in values:
                state[f"{own}_{theirs}"] = values[part]
    return {**state, "master_weights": masters} if masters else state


def to_deepspeed(path: Path, ranks: Sequence[Mapping[str, Any]], params: Mapping[str, Any]) -> None:
    """Puts the state of a checkpoint into what DeepSpeed's ZeRO (stages 1 and 2) has saved of the
    same parameters, on as many ranks as it is to go on: `ranks` are as for `from_deepspeed`, but as
    `torch.load` gives them, and are written in place. `params` are the parameters by name, in f32,
    where the checkpoint has no masters of them."""
    texts, tensors = read(path)
    steps: dict[int, int] = {}
    taken: dict[str, int] = {}
    for name, state, parts in pieces(ranks):
        step = int(tensors[f"state.{name}.step"])
        if steps.setdefault(id(state), step) != step:
            raise ValueError(
                f"{name!r} has taken {step} steps, others in its group {steps[id(state)]}: "
                f"DeepSpeed counts them together"
            )
        state["step"] = state["step"] * 0 + step  # a tensor or an int
        master = tensors.get(f"state.{name}.master")
        whole = dict(moments(texts, tensors, name, -1))
        whole["master"] = params[name].reshape(-1) if master is None else master
        first = taken.setdefault(name, 0)
        taken[name] += len(parts["master"])
        for part, values in parts.items():
            if part not in whole:
                raise ValueError(
                    f"{name!r} has no {part} in the checkpoint, but in DeepSpeed's: save the "
                    f"checkpoint with amsgrad, or start DeepSpeed without"
                )
            values[:] = whole[part][first : taken[name]]
