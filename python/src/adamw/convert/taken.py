"""State of other frameworks into an optimizer, which has the parameters by the names given."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..optimizer import AdamW
from .read import Array, widened

State = Mapping[str, Any]
#: bitsandbytes has a scale for each block of so many elements.
BLOCK = 256


def from_distributed(optimizer: AdamW, tensors: State) -> None:
    """Takes over the state that PyTorch's distributed checkpoints call `state.<param>.exp_avg` and
    so on, of parameters that have the same names here: from `get_optimizer_state_dict` with
    `flatten_optimizer_state_dict`, or from the tensors that `read` finds in a safetensors file."""
    for name, tensor in tensors.items():
        if name.startswith("state."):
            values = widened(np.asarray(tensor))
            is_step = name.endswith(".step")
            optimizer.set_state(name, values.astype(np.float64) if is_step else values)


def from_torch(optimizer: AdamW, names: Sequence[str], state_dict: State) -> None:
    """Takes over `torch.optim.AdamW.state_dict()`. PyTorch numbers parameters in the order in which
    its groups list them: `names` has what each of them is called here. Parameters that have taken
    no step have no state."""
    order = [number for group in state_dict["param_groups"] for number in group["params"]]
    if len(order) != len(names):
        raise ValueError(
            f"the state_dict has {len(order)} parameters, there are {len(names)} names"
        )
    for number, name in zip(order, names):
        state = state_dict["state"].get(number)
        if state is None:
            continue
        # The step sets the powers of the betas, too.
        optimizer.set_state(f"state.{name}.step", float(state["step"]))
        for part in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
            if part in state:
                optimizer.set_state(f"state.{name}.{part}", np.asarray(state[part]))


def from_bitsandbytes(optimizer: AdamW, names: Sequence[str], state_dict: State) -> None:
    """Takes over `bitsandbytes.optim.AdamW8bit.state_dict()`, or that of its 32-bit AdamW, as
    `from_torch` does. Its codes, which are not the library's, become the values that they stand
    for."""
    groups = state_dict["param_groups"]
    states = {number: plain(state) for number, state in state_dict["state"].items()}
    from_torch(optimizer, names, {"state": states, "param_groups": groups})


def plain(state: State) -> dict[str, Any]:
    """Returns the state of a parameter of bitsandbytes as PyTorch would have it."""
    state = {**state, **state.get("__bnb_optimizer_quant_state__", {})}
    return {
        "step": state["step"],
        "exp_avg": dequantized(state["state1"], state.get("qmap1"), state.get("absmax1")),
        "exp_avg_sq": dequantized(state["state2"], state.get("qmap2"), state.get("absmax2")),
    }


def dequantized(moments: Any, qmap: Any, absmax: Any) -> Array:
    """Returns what the codes of bitsandbytes stand for: `qmap [256]`, times the largest magnitude
    of each block. Moments of small parameters are no codes."""
    codes = np.asarray(moments).reshape(-1)
    if codes.dtype != np.uint8:
        return codes
    scales = np.asarray(absmax)
    if scales.size != -(-codes.size // BLOCK):
        raise ValueError(
            f"absmax has {scales.size} elements for {codes.size} codes, expected one for each "
            f"{BLOCK}"
        )
    values: Array = np.asarray(qmap)[codes] * np.repeat(scales, BLOCK)[: codes.size]
    return values


def pieces(ranks: Sequence[State]) -> Iterator[tuple[str, Any, dict[str, Array]]]:
    """Returns the parts of parameters and moments that DeepSpeed's ranks have: the name of the
    parameter, the state of its group, and views."""
    for number, rank in enumerate(ranks):
        is_flat = isinstance(rank.get("base_optimizer_state"), dict)
        if "param_slice_mappings" not in rank or not is_flat:
            raise ValueError(
                f"the state of rank {number} is that of ZeRO's stage 3 or elastic, expected stage "
                f"1 or 2"
            )
        if max(rank["partition_count"]) != len(ranks):
            raise ValueError(
                f"the state of rank {number} is one of {max(rank['partition_count'])}, there are "
                f"{len(ranks)}"
            )
        for group, slices in enumerate(rank["param_slice_mappings"]):
            state = rank["base_optimizer_state"]["state"][group]
            flat = {**state, "master": rank["single_partition_of_fp32_groups"][group]}
            for name, place in slices.items():
                own = slice(place.start, place.start + place.numel)
                parts = ("master", "exp_avg", "exp_avg_sq")
                yield name, state, {part: view(flat[part])[own] for part in parts}


def view(tensor: Any) -> Array:
    """Returns a tensor as numpy sees it, even one that PyTorch would compute a gradient of."""
    return np.asarray(tensor.detach() if hasattr(tensor, "detach") else tensor)


def from_deepspeed(
    optimizer: AdamW, ranks: Sequence[State], *, masters: bool = False
) -> dict[str, Array]:
    """Takes over what DeepSpeed's ZeRO (stages 1 and 2) has saved: `ranks` are the
    `optimizer_state_dict`s of the files `*_optim_states.pt` in the order of their ranks
    (`load_deepspeed` reads them), each with a part of the flat f32 parameters and moments. Returns
    those parameters by name, flat; with `masters`, they go to the masters of the optimizer, too."""
    steps: dict[str, float] = {}
    whole: dict[tuple[str, str], list[Array]] = {}
    for name, state, parts in pieces(ranks):
        steps[name] = float(state["step"])
        for part, values in parts.items():
            whole.setdefault((name, part), []).append(values)
    params = {}
    for (name, part), of_ranks in whole.items():
        values = np.concatenate(of_ranks)
        if part == "master":
            optimizer.set_state(f"state.{name}.step", steps[name])
            params[name] = values
        if part != "master" or masters:
            optimizer.set_state(f"state.{name}.{part}", values)
    return params


def paddle_step(state_dict: State, name: str, betas: tuple[float, float]) -> int:
    """Returns how many steps have been taken. Paddle keeps powers of the betas, which are one step
    ahead, and which f32 cannot hold any more after 830 steps with 0.9, 87,000 with 0.999. If
    neither is left, this is how many it took at least: both corrections are 1."""
    least = 1.0
    for part, beta in zip(("beta1_pow_acc_0", "beta2_pow_acc_0"), betas):
        power = np.asarray(state_dict[f"{name}_{part}"])
        least = float(np.finfo(power.dtype).tiny)
        if power.item() >= least:
            exponent = math.log(power.item()) / math.log(power.dtype.type(beta))
            if abs(exponent - round(exponent)) > 0.2:  # f32 rounds the powers
                raise ValueError(f"{name}_{part} is {power.item()}, which is no power of {beta}")
            return round(exponent) - 1
    return math.ceil(math.log(least) / math.log(betas[1])) - 1


def own_name(state_dict: State, name: str) -> str:
    """Returns what Paddle calls a parameter where it names its state: that of its master."""
    return name if f"{name}_moment1_0" in state_dict else f"{name}_fp32_master_0"


def from_paddle(
    optimizer: AdamW,
    names: Sequence[str],
    state_dict: State,
    betas: tuple[float, float] = (0.9, 0.999),
) -> None:
    """Takes over `paddle.optimizer.AdamW.state_dict()`, of parameters whose names here are those
    that they have in Paddle."""
    for name in names:
        own = own_name(state_dict, name)
        if f"{own}_moment1_0" not in state_dict:
            continue
        step = paddle_step(state_dict, own, betas)
        optimizer.set_state(f"state.{name}.step", float(step))
        for part in ("moment1_0", "moment2_0", "moment2_max_0"):
            if f"{own}_{part}" in state_dict:
                optimizer.set_state(f"{own}_{part}", np.asarray(state_dict[f"{own}_{part}"]))
        master = state_dict.get("master_weights", {}).get(name)
        if master is not None:
            optimizer.set_state(f"{name}_fp32_master_0", np.asarray(master))
