"""The state_dicts of optimi and heavyball, which look like PyTorch's: their moments are corrected
already, and the step is that of the group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from ..optimizer import AdamW
from .found import Found, some
from .of_torch import parts_of, torch_found
from .presets import take_preset
from .take import Options

State = Mapping[str, Any]


def from_optimi(
    optimizer: AdamW, names: Sequence[str] | None, state_dict: State, **options: Unpack[Options]
) -> None:
    """Takes over `optimi.AdamW.state_dict()`, as `from_torch` does that of PyTorch."""
    take_preset(optimizer, optimi_found(names, state_dict, options), "optimi", options)


def optimi_found(names: Sequence[str] | None, state_dict: State, options: Options) -> Found:
    """Returns what is in a state_dict of optimi's."""
    groups, states = parts_of(state_dict)
    own = [{**group, "betas": (group.get("beta1"), group.get("beta2"))} for group in groups]
    parts = {
        number: {part: value for part, value in state.items() if value is not None}
        for number, state in states.items()
    }
    return stepped(names, own, parts, "step", options)


def from_heavyball(
    optimizer: AdamW, names: Sequence[str] | None, state_dict: State, **options: Unpack[Options]
) -> None:
    """Takes over `heavyball.AdamW.state_dict()`, as `from_torch` does that of PyTorch. Its epsilon
    is the least that a root may be, which nothing here does: `ignore=["eps_floor"]` adds it."""
    take_preset(optimizer, heavyball_found(names, state_dict, options), "heavyball", options)


def heavyball_found(names: Sequence[str] | None, state_dict: State, options: Options) -> Found:
    """Returns what is in a state_dict of heavyball's."""
    groups, states = parts_of(state_dict)
    parts = {number: of_view(number, state) for number, state in states.items()}
    return stepped(names, groups, parts, "step_count", options)


def of_view(number: Any, state: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns the state of a parameter of heavyball's, which has one for each view of it."""
    if list(state) != [0] or not isinstance(state[0], Mapping):
        raise ValueError(f"state[{number!r}] has {some(list(state))}, expected one view, 0")
    own = {}
    for key, value in state[0].items():
        if key not in ("is_initialized", "step"):
            own[str(key).removeprefix("update_by_adam_").removesuffix("_0")] = value
    return own


def stepped(
    names: Sequence[str] | None,
    groups: list[dict[str, Any]],
    parts: Mapping[Any, State],
    step: str,
    options: Options,
) -> Found:
    """Returns what is in a state_dict whose groups count the steps under the key `step`."""
    states = {}
    for group in groups:
        for number in group["params"]:
            if number in parts:
                states[number] = {"step": group.get(step), **parts[number]}
    return torch_found(names, {"state": states, "param_groups": groups}, options)
