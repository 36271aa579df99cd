"""The state_dicts of pytorch_optimizer's own AdamW: AdamWSN, FlashAdamW and StableAdamW. What it
calls AdamW is PyTorch's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from ..optimizer import AdamW
from .arrays import array_of
from .found import Found, entries
from .made import Array
from .of_debiased import stepped
from .of_torch import parts_of
from .presets import take_preset
from .take import Options

State = Mapping[str, Any]
#: What only the groups of one class have, and the preset of that class.
SIGNS = {
    "subset_size": "pytorch_optimizer.AdamWSN",
    "master_byte_width": "pytorch_optimizer.FlashAdamW",
    "kahan_sum": "pytorch_optimizer.StableAdamW",
}
#: So many codes of FlashAdamW share a scale.
GROUP = 32


def from_pytorch_optimizer(
    optimizer: AdamW, names: Sequence[str] | None, state_dict: State, **options: Unpack[Options]
) -> None:
    """Takes over the `state_dict()` of pytorch_optimizer's AdamWSN, FlashAdamW or StableAdamW, as
    `from_torch` does that of PyTorch. StableAdamW divides the learning rate of each tensor, which
    nothing here does: `ignore=["clipped_lr"]` goes on without."""
    preset, found = pytorch_optimizer_found(names, state_dict, options)
    take_preset(optimizer, found, preset, options)


def class_of(groups: Sequence[State]) -> str | None:
    """Returns the preset of the class whose groups these are, if it is one of pytorch_optimizer."""
    keys = {key for group in groups for key in group if "step" in group and "betas" in group}
    return next((preset for sign, preset in SIGNS.items() if sign in keys), None)


def pytorch_optimizer_found(
    names: Sequence[str] | None, state_dict: State, options: Options
) -> tuple[str, Found]:
    """Returns the preset of a state_dict, and what is in it."""
    groups, states = parts_of(state_dict)
    preset = class_of(groups)
    if preset is None:
        raise ValueError(
            f"the groups are not those of AdamWSN, FlashAdamW or StableAdamW: the first is "
            f"{entries(groups[0] if groups else {})}"
        )
    own = []
    for group in groups:
        renamed = {**group, "decoupled_weight_decay": group.get("weight_decouple", True)}
        own.append({**renamed, "amsgrad": False})
    parts = {number: plain(state, f"state[{number!r}]") for number, state in states.items()}
    found = stepped(names, own, parts, "step", options)
    independent = [bool(group.get("fixed_decay")) for group in groups]
    for param in found.params.values():
        if independent[param.group]:
            param.settings = {**param.settings, "independent_weight_decay": True}
    return preset, found


def plain(state: State, what: str) -> dict[str, Any]:
    """Returns the state of a parameter with floats in the place of FlashAdamW's codes."""
    own = {key: value for key, value in state.items() if value is not None}
    for part, of_part in ("exp_avg", signed), ("exp_avg_sq", squares):
        if f"{part}::quantized" in own and f"{part}::scales" in own:
            codes = array_of(own.pop(f"{part}::quantized"), f"{part}::quantized of {what}")
            scales = array_of(own.pop(f"{part}::scales"), f"{part}::scales of {what}")
            if scales.size != -(-codes.size // GROUP):
                raise ValueError(
                    f"{part}::scales of {what} has {scales.size} elements for {codes.size} codes, "
                    f"expected one for each {GROUP}"
                )
            each = np.repeat(scales.reshape(-1).astype(np.float32), GROUP)[: codes.size]
            own[part] = of_part(codes.astype(np.float32), each.reshape(codes.shape))
    return own


def signed(codes: Array, scales: Array) -> Array:
    """Returns first moments: codes of -127 to 127 of a value that a softsign has bent."""
    bent = codes / np.float32(127)
    values: Array = bent / (2 - np.abs(bent)) * scales
    return values


def squares(codes: Array, scales: Array) -> Array:
    """Returns second moments: codes of 0 to 255 of their roots."""
    values: Array = np.square(codes / np.float32(255) * scales)
    return values
