"""What no file of a framework says of the moments in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Unpack

import numpy as np

from ..optimizer import AdamW
from .arrays import Array, array_of, number_of
from .found import Found, Param
from .states import betas_of
from .take import USUAL, Options, take

State = Mapping[str, Any]


@dataclass(frozen=True)
class Preset:
    """What has to be known of a framework's moments to take them over."""

    #: Moments are stored divided by 1 - beta^t.
    corrected: bool = False
    #: Largest squares are those of corrected squares.
    max_corrected: bool = False
    #: The count is that of updates, of calls (of which several accumulate gradients for one
    #: update), or it is the power of beta2 that has been reached.
    counts: Literal["updates", "calls", "beta2"] = "updates"
    #: Settings of the optimizer without which the run would go on by another rule.
    rule: Mapping[str, bool] = field(default_factory=dict)


EPS_BEFORE = {"eps_before_correction": True}
NEW_VALUE = {"decays_new_value": True}
INDEPENDENT = {"independent_weight_decay": True}
UNCORRECTED = {"bias_corrected": False}
PRESETS = {
    "burn": Preset(),
    "chainer": Preset(rule=EPS_BEFORE | INDEPENDENT),
    "heavyball": Preset(corrected=True, rule={"eps_floor": True}),
    "keras": Preset(counts="calls", rule=EPS_BEFORE),
    "llm.c": Preset(),
    "megengine": Preset(),
    "mindspore": Preset(),
    "mindspore.AdamWeightDecay": Preset(rule=UNCORRECTED),
    "mlx": Preset(rule=UNCORRECTED),
    "mlx.bias_correction": Preset(),
    "mxnet": Preset(rule=UNCORRECTED | INDEPENDENT),
    "nnabla": Preset(rule=EPS_BEFORE),
    "onnxruntime": Preset(rule=EPS_BEFORE | NEW_VALUE),
    "optax": Preset(max_corrected=True),
    "optimi": Preset(corrected=True),
    "paddle": Preset(),
    "pytorch_optimizer.AdamWSN": Preset(rule=EPS_BEFORE | NEW_VALUE),
    "pytorch_optimizer.FlashAdamW": Preset(),
    "pytorch_optimizer.StableAdamW": Preset(corrected=True, rule={"clipped_lr": True}),
    "tensorflow.js": Preset(),
    "thinc": Preset(rule=EPS_BEFORE | NEW_VALUE),
    "tinygrad": Preset(counts="beta2"),
    "torch": Preset(),
}


def from_moments(
    optimizer: AdamW,
    moments: Mapping[str, State],
    preset: str | Preset,
    *,
    step: Any = None,
    calls_per_update: int = 1,
    **options: Unpack[Options],
) -> None:
    """Takes over the moments of any framework: by the name of each parameter here a dict with
    `exp_avg`, `exp_avg_sq`, perhaps `max_exp_avg_sq`, and its `step`, unless one `step` is that of
    all. `preset` says what they are: the name of a framework, or a `Preset`. `calls_per_update` is
    needed where calls are counted. `Options` are those of `from_torch`."""
    found = Found(f"the state of {preset if isinstance(preset, str) else 'another framework'}")
    for name, state in moments.items():
        parts = {part: value for part, value in state.items() if part != "step"}
        found.params[name] = Param(state.get("step", step), parts)
    take_preset(optimizer, found, preset, options, calls_per_update)


def take_preset(
    optimizer: AdamW,
    found: Found,
    preset: str | Preset,
    options: Options,
    calls_per_update: int = 1,
) -> None:
    """Brings what was found into the form that the library has, and gives it to the optimizer."""
    rule = PRESETS.get(preset) if isinstance(preset, str) else preset
    if rule is None:
        raise ValueError(f"preset is {preset!r}, expected a Preset, or one of {', '.join(PRESETS)}")
    here = options.get("rename") or {}
    for theirs, param in found.params.items():
        name = here.get(theirs, theirs)
        if name in optimizer and not param.is_fresh:
            betas = betas_of(optimizer, name)
            found.params[theirs] = plain(name, param, rule, betas, calls_per_update)
    take(optimizer, found, options)


def plain(
    name: str, param: Param, rule: Preset, betas: tuple[float, float], calls_per_update: int
) -> Param:
    """Returns the state of a parameter with a step of updates, and moments without correction."""
    if param.step is None:
        return param
    step = number_of(param.step, f"step of {name!r}")
    if rule.counts == "beta2":
        step = steps_in(name, step, betas[1])
    elif rule.counts == "calls":
        if step % calls_per_update:
            raise ValueError(
                f"step of {name!r} is {step:.0f} calls, in the middle of an update of "
                f"{calls_per_update}: save when the gradients have been used up"
            )
        step /= calls_per_update
    parts = dict(param.parts)
    for part, beta, is_corrected in (
        ("exp_avg", betas[0], rule.corrected),
        ("exp_avg_sq", betas[1], rule.corrected),
        ("max_exp_avg_sq", betas[1], rule.max_corrected),
    ):
        if is_corrected and part in parts:
            values: Array = array_of(parts[part], f"{part} of {name!r}")
            factor = 1 - beta**step
            parts[part] = (values.astype(np.float64) * factor).astype(values.dtype)
    settings = {**USUAL, **param.settings, **rule.rule}
    return replace(param, step=step, parts=parts, settings=settings)


def steps_in(name: str, power: float, beta2: float) -> int:
    """Returns how many steps a power of beta2 has been reached in."""
    if not 0 < power <= 1 or not 0 < beta2 < 1:
        raise ValueError(
            f"the power of beta2 of {name!r} is {power}, in which no steps can be found: give them "
            f"as step to from_moments, with the preset of another framework"
        )
    exponent = float(np.log(power) / np.log(np.float64(np.float32(beta2))))
    if abs(exponent - round(exponent)) > 0.2:  # f32 rounds the products
        raise ValueError(f"{name!r}: {power} is no power of a beta2 of {beta2}")
    return round(exponent)
