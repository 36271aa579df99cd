"""What the ranks of DeepSpeed's ZeRO have saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from ..optimizer import AdamW
from .arrays import Array, array_of
from .found import Found, Param, entries
from .of_torch import settings_of
from .take import Options, take

State = Mapping[str, Any]
PARTS = ("master", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")


def pieces(ranks: Sequence[State]) -> Iterator[tuple[str, Any, dict[str, Array]]]:
    """Returns the parts of parameters and moments that DeepSpeed's ranks have: the name of the
    parameter, the state of its group, and views."""
    for number, rank in enumerate(ranks):
        check_rank(number, rank, len(ranks))
        for group, slices in enumerate(rank["param_slice_mappings"]):
            state = rank["base_optimizer_state"]["state"][group]
            flat = {**state, "master": rank["single_partition_of_fp32_groups"][group]}
            views = {
                part: array_of(flat[part], f"{part} of group {group} of rank {number}")
                for part in PARTS
                if part in flat
            }
            for name, place in slices.items():
                own = slice(place.start, place.start + place.numel)
                yield name, state, {part: values[own] for part, values in views.items()}


def check_rank(number: int, rank: State, n_ranks: int) -> None:
    """Refuses what a rank has saved in another stage, or as one of other ranks."""
    if not isinstance(rank, Mapping):
        raise ValueError(f"the state of rank {number} is {entries(rank)}, expected a dict")
    is_flat = isinstance(rank.get("base_optimizer_state"), Mapping)
    if "param_slice_mappings" not in rank or not is_flat:
        raise ValueError(
            f"the state of rank {number} is that of ZeRO's stage 3 or elastic, expected stage 1 or "
            f"2: zero_to_fp32.py and ds_to_universal.py of DeepSpeed make others of it"
        )
    if max(rank["partition_count"]) != n_ranks:
        raise ValueError(
            f"the state of rank {number} is one of {max(rank['partition_count'])}, there are "
            f"{n_ranks}"
        )


def deepspeed_found(ranks: Sequence[State]) -> Found:
    """Returns what is in the states of all ranks, the masters included."""
    found = Found("DeepSpeed's state")
    whole: dict[str, dict[str, list[Array]]] = {}
    for name, state, parts in pieces(ranks):
        found.params.setdefault(name, Param(state.get("step")))
        for part, values in parts.items():
            whole.setdefault(name, {}).setdefault(part, []).append(values)
    for name, of_ranks in whole.items():
        found.params[name].parts = {part: np.concatenate(one) for part, one in of_ranks.items()}
    groups = ranks[0]["base_optimizer_state"].get("param_groups", ()) if ranks else ()
    for rank in ranks:
        for number, (group, slices) in enumerate(zip(groups, rank["param_slice_mappings"])):
            for name in slices:
                found.params[name].settings = settings_of(group)
                found.params[name].group = number
    return found


def from_deepspeed(
    optimizer: AdamW,
    ranks: Sequence[State],
    *,
    masters: bool = False,
    **options: Unpack[Options],
) -> dict[str, Array]:
    """Takes over what DeepSpeed's ZeRO (stages 1 and 2) has saved: `ranks` are the
    `optimizer_state_dict`s of the files `*_optim_states.pt` in the order of their ranks
    (`load_deepspeed` reads them), each with a part of the flat f32 parameters and moments. Returns
    those parameters by name, flat; with `masters`, they go to the masters of the optimizer, too.
    `Options` are those of `from_torch`."""
    found = deepspeed_found(ranks)
    params = {name: param.parts["master"] for name, param in found.params.items()}
    if not masters:
        for param in found.params.values():
            del param.parts["master"]
    take(optimizer, found, options)
    return params
