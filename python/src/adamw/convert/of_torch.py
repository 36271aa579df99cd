"""The state_dict of torch.optim.AdamW, which numbers its parameters, and that of bitsandbytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from ..optimizer import AdamW
from .arrays import Array, array_of, number_of
from .found import Found, Param, entries, some
from .take import USUAL, Options, take

State = Mapping[str, Any]
#: bitsandbytes has a scale for each block of so many elements.
BLOCK = 256


def from_torch(
    optimizer: AdamW, names: Sequence[str] | None, state_dict: State, **options: Unpack[Options]
) -> None:
    """Takes over `torch.optim.AdamW.state_dict()`. PyTorch numbers parameters in the order in which
    its groups list them: `names` has what each of them is called here (None: as the state_dict's
    own param_names say). Parameters that have taken no step have no state, and start without.
    ValueError, and nothing has changed, if anything does not fit; `Options` says what may differ.
    """
    take(optimizer, torch_found(names, state_dict, options), options)


def torch_found(names: Sequence[str] | None, state_dict: State, options: Options) -> Found:
    """Returns what is in a state_dict."""
    groups, states = parts_of(state_dict)
    order = [number for group in groups for number in group["params"]]
    names = named(names, groups, order, options)
    found = Found("PyTorch's state_dict")
    called = dict(zip(order, names))
    found.rest = [f"state[{key!r}]" for key in states if key not in called]
    for place, group in enumerate(groups):
        settings = settings_of(group)
        for number in group["params"]:
            state = states.get(number) or {}
            parts = {part: value for part, value in state.items() if part != "step"}
            found.params[called[number]] = Param(state.get("step"), parts, settings, place)
    return found


def parts_of(state_dict: State) -> tuple[list[dict[str, Any]], dict[Any, Any]]:
    """Returns the groups and the state of a state_dict."""
    parts = ("param_groups", "state")
    if not isinstance(state_dict, Mapping) or any(part not in state_dict for part in parts):
        hint = ""
        if isinstance(state_dict, Mapping):
            inner = [k for k, v in state_dict.items() if isinstance(v, Mapping) and "state" in v]
            hint = f": give the entry {inner[0]!r}" if inner else ""
        raise ValueError(
            f"expected the state_dict of an optimizer, with state and param_groups, but this is "
            f"{entries(state_dict)}{hint}"
        )
    groups, state = (state_dict[part] for part in parts)
    is_nested = isinstance(state, Mapping) and all(
        isinstance(one, Mapping) for one in state.values()
    )
    if not is_nested:
        raise ValueError("state of the state_dict is no dict of dicts, as PyTorch has it")
    return checked_groups(groups), dict(state)


def checked_groups(groups: Any) -> list[dict[str, Any]]:
    """Returns groups, which are dicts that list their parameters."""
    is_known = isinstance(groups, Sequence) and all(
        isinstance(group, Mapping)
        and isinstance(group.get("params"), Sequence)
        and all(isinstance(one, (int, str)) for one in group["params"])
        for group in groups
    )
    if not is_known:
        raise ValueError("param_groups is no list of groups with params, as PyTorch has it")
    return list(groups)


def named(
    names: Sequence[str] | None, groups: Sequence[State], order: list[Any], options: Options
) -> list[str]:
    """Returns the names of parameters in the order of the state_dict."""
    own = [name for group in groups for name in group.get("param_names", ())]
    if names is None:
        if len(own) != len(order):
            raise ValueError(
                "the state_dict has no param_names: give the names of its params, in the order of "
                "its groups (for one group that of model.named_parameters())"
            )
        return own
    if len(order) != len(names):
        raise ValueError(
            f"the state_dict has {len(order)} parameters, there are {len(names)} names"
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"names has {some(twice)} twice")
    if own and own != list(names) and "param_names" not in options.get("ignore", ()):
        number = next(i for i, (a, b) in enumerate(zip(own, names)) if a != b)
        raise ValueError(
            f"parameter {number} of the state_dict is called {own[number]!r} there and "
            f"{names[number]!r} in names: None takes its own names, and ignore 'param_names' yours"
        )
    return list(names)


def settings_of(group: State) -> dict[str, Any]:
    """Returns the hyper-parameters of a group of PyTorch's, as they are called here."""
    numbers = {key: group[key] for key in ("lr", "eps", "weight_decay") if key in group}
    settings: dict[str, Any] = dict(USUAL)
    settings |= {key: number_of(value, key) for key, value in numbers.items()}
    if "betas" in group:
        settings["betas"] = tuple(number_of(beta, "betas") for beta in group["betas"])
    if settings.get("weight_decay"):
        settings["decoupled_weight_decay"] = bool(group.get("decoupled_weight_decay", True))
    settings["bias_corrected"] = bool(group.get("bias_correction", True))
    if "decoupled_weight_decay" in group and "amsgrad" not in group:
        raise ValueError("the groups are not those of AdamW: RAdam and NAdam have no amsgrad")
    if group.get("decouple_lr"):
        settings["decouple_lr"] = True
    flags = {name: bool(group.get(name, False)) for name in ("maximize", "amsgrad")}
    return {**settings, **flags}


def from_bitsandbytes(
    optimizer: AdamW, names: Sequence[str] | None, state_dict: State, **options: Unpack[Options]
) -> None:
    """Takes over `bitsandbytes.optim.AdamW8bit.state_dict()`, or that of its 32-bit AdamW, as
    `from_torch` does. Its codes, which are not the library's, become the values that they stand
    for."""
    take(optimizer, bitsandbytes_found(names, state_dict, options), options)


def bitsandbytes_found(names: Sequence[str] | None, state_dict: State, options: Options) -> Found:
    """Returns what is in a state_dict of bitsandbytes."""
    groups, states = parts_of(state_dict)
    plains = {key: plain(state, f"state[{key!r}]") for key, state in states.items()}
    found = torch_found(names, {"state": plains, "param_groups": groups}, options)
    found.what = "bitsandbytes' state_dict"
    return found


def plain(state: State, what: str) -> dict[str, Any]:
    """Returns the state of a parameter of bitsandbytes as PyTorch would have it."""
    state = {**state, **state.get("__bnb_optimizer_quant_state__", {})}
    missing = [part for part in ("step", "state1", "state2") if part not in state]
    if missing:
        raise ValueError(
            f"{what} has no {some(missing)}, as bitsandbytes' AdamW has, but {some(list(state))}"
        )
    return {
        "step": state["step"],
        "exp_avg": dequantized(state, 1, what),
        "exp_avg_sq": dequantized(state, 2, what),
    }


def dequantized(state: State, number: int, what: str) -> Array:
    """Returns what the codes of bitsandbytes stand for: `qmap [256]`, times the largest magnitude
    of each block. Moments of small parameters are no codes."""
    codes = array_of(state[f"state{number}"], f"state{number} of {what}")
    if codes.dtype != np.uint8:
        return codes
    qmap, scales = (
        array_of(state.get(f"{part}{number}"), f"{part}{number} of {what}")
        for part in ("qmap", "absmax")
    )
    if qmap.size != 256 or scales.size != -(-codes.size // BLOCK):
        raise ValueError(
            f"absmax{number} of {what} has {scales.size} elements for {codes.size} codes, expected "
            f"one for each {BLOCK}"
        )
    flat = qmap.reshape(-1)[codes.reshape(-1)] * np.repeat(scales, BLOCK)[: codes.size]
    values: Array = flat.reshape(codes.shape)
    return values
