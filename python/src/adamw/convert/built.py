"""The optimizer that takes over the state of a file when there is no other: it has the parameters
and the settings of the file, and those that were given beside it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from .._optional import optional
from ..settings import FORMULAS
from .arrays import array_of
from .found import Found, Param
from .presets import Preset
from .read import NUMPY

#: The settings that a checkpoint needs, and an optimizer can have for each of its groups.
NEEDED = ("lr", "betas", "eps", "weight_decay")
OF_GROUPS = (*NEEDED, "maximize", "amsgrad")
#: In what a rule may differ from the usual one.
RULES = (*FORMULAS, "independent_weight_decay")


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


def settings_of(
    param: Param, preset: Preset, given: Mapping[str, Any], ignore: Collection[str]
) -> dict[str, Any]:
    """Returns the settings of a parameter: those that its file has, and those that were given where
    it has none, or where the file's are to be ignored."""
    own = {key: param.settings[key] for key in OF_GROUPS if key in param.settings}
    own |= {key: value for key, value in given.items() if key not in own or key in ignore}
    rule = {**param.settings, **preset.rule}
    own |= {key: True for key in RULES if rule.get(key) and key not in ignore}
    if not rule.get("bias_corrected", True) and "bias_corrected" not in ignore:
        own["bias_correction"] = None
    if "max_exp_avg_sq" in param.parts and "max_exp_avg_sq" not in ignore:
        own["amsgrad"] = True
    return own


def groups_of(
    found: Found,
    params: Mapping[str, Any],
    preset: Preset,
    given: Mapping[str, Any],
    ignore: Collection[str],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Returns the groups of an optimizer that has these parameters, and the settings that all of
    them share, which are those of the optimizer."""
    groups: dict[tuple[int, str], dict[str, Any]] = {}
    unused = set(given)
    for name, param in found.params.items():
        settings = settings_of(param, preset, given, ignore)
        missing = [f"--{key.replace('_', '-')}" for key in NEEDED if key not in settings]
        if missing:
            raise ValueError(
                f"{found.what} does not say all settings of {name!r}, which a checkpoint has: give "
                f"{', '.join(missing)} of the run"
            )
        unused -= {key for key in given if key not in param.settings or key in ignore}
        group = groups.setdefault((param.group, str(settings)), {**settings, "params": {}})
        group["params"][name] = params[name]
    if unused:
        key = min(unused)
        raise ValueError(f"{found.what} says {key} itself: --ignore {key} takes the one given")
    own = [groups[key] for key in sorted(groups)]
    first: dict[str, Any] = own[0] if own else {}
    shared = {
        key: value
        for key, value in first.items()
        if key != "params" and all(group.get(key) == value for group in own)
    }
    for group in own:
        for key in shared:
            del group[key]
    shared.setdefault("lr", first.get("lr", 1e-3))
    return own, shared
