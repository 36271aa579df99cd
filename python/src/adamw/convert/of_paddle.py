"""The state_dict of paddle.optimizer.AdamW, by the names of Paddle's variables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from ..optimizer import AdamW
from .arrays import array_of, rate_in
from .found import Found, Param, entries
from .take import USUAL, Options, take

State = Mapping[str, Any]
#: How Paddle calls the parts of its state. A number follows: that of the optimizer, if there were
#: several over a parameter.
PARTS = {
    "moment1": "exp_avg",
    "moment2": "exp_avg_sq",
    "moment2_max": "max_exp_avg_sq",
    "beta1_pow_acc": "beta1",
    "beta2_pow_acc": "beta2",
}
KEY = re.compile(rf"(.+)_({'|'.join(PARTS)})_(\d+)")
#: Powers are recomputed as Paddle did, up to so many steps.
MOST_PRODUCTS = 1 << 24
#: What is no state of a parameter.
OTHER = ("LR_Scheduler", "master_weights", "StructuredToParameterName@@")


def from_paddle(
    optimizer: AdamW,
    state_dict: State,
    betas: tuple[float, float] | None = None,
    *,
    own_name: str = "",
    **options: Unpack[Options],
) -> None:
    """Takes over `paddle.optimizer.AdamW.state_dict()`, by Paddle's names of parameters. It has
    neither steps nor betas, but their powers, in which the steps are found: `betas` are those of
    the optimizer unless they are given. `own_name` is the name of Paddle's optimizer, if it was
    given one. `Options` are those of `from_torch`."""
    found = paddle_found(state_dict, betas or optimizer.groups[0].betas, own_name)
    take(optimizer, found, options)


def paddle_found(state_dict: State, betas: tuple[float, float], own_name: str = "") -> Found:
    """Returns what is in a state_dict."""
    if not isinstance(state_dict, Mapping):
        raise ValueError(f"expected Paddle's state_dict, but this is {entries(state_dict)}")
    found = Found("Paddle's state_dict")
    masters = state_dict.get("master_weights") or {}
    settings = {**USUAL, **rate_in(state_dict.get("LR_Scheduler") or {}, "last_lr")}
    for key, value in state_dict.items():
        match = KEY.fullmatch(key) if isinstance(key, str) else None
        if match is None:
            if key not in OTHER:
                found.rest.append(key)
            continue
        name = owner(match[1], own_name)
        parts = found.params.setdefault(name, Param(settings=settings)).parts
        part = PARTS[match[2]]
        if part in parts:
            raise ValueError(
                f"{key} is the second {match[2]} of {name!r}: the state_dict is that of two "
                f"optimizers"
            )
        parts[part] = value
    if not found.params:
        inner = [key for key, value in state_dict.items() if isinstance(value, Mapping)]
        hint = f": give the entry {inner[0]!r}" if inner else ""
        raise ValueError(f"nothing is called <param>_moment1_0 in {entries(state_dict)}{hint}")
    for name, param in found.params.items():
        powers = [param.parts.pop(beta, None) for beta in ("beta1", "beta2")]
        if None not in powers:
            param.step = step_of(name, powers, betas)
        if name in masters:
            param.parts["master"] = masters[name]
    found.rest += [f"master_weights[{name!r}]" for name in masters if name not in found.params]
    return found


def owner(stem: str, own_name: str) -> str:
    """Returns the parameter whose state is called `stem`: it starts with the name of the parameter
    or of its master, and ends with that of the optimizer, if that has one."""
    if own_name:
        stem = stem.removesuffix(f"_{own_name}")
    return re.sub(r"_fp32_master_\d+$", "", stem)


def step_of(name: str, saved: Sequence[Any], betas: tuple[float, float]) -> int:
    """Returns how many steps have been taken. Paddle keeps powers of the betas, which are one step
    ahead, and which f32 cannot hold any more after 830 steps with 0.9, 87,000 with 0.999. If
    neither is left, this is how many it took at least: both corrections are 1."""
    steps, least = [], 1.0
    for number, beta in enumerate(betas, 1):
        what = f"beta{number}_pow_acc of {name!r}"
        power = array_of(saved[number - 1], what).reshape(-1)
        least = float(np.finfo(power.dtype).tiny)
        if power.size != 1 or not 0 <= power[0] < 1:
            raise ValueError(f"{what} is {power.tolist()}, expected a number from 0 to 1")
        if power[0] >= least and beta > 0:
            steps.append(exponent(what, power[0], beta) - 1)
    if len(set(steps)) > 1:
        raise ValueError(
            f"the powers of the betas of {name!r} are those of {steps[0]} and of {steps[1]} steps "
            f"with betas of {betas}: give the betas of the run"
        )
    return steps[0] if steps else int(np.ceil(np.log(least) / np.log(betas[1]))) - 1


def exponent(what: str, power: Any, beta: float) -> int:
    """Returns how often Paddle has multiplied by beta, in the type of the power."""
    real = power.dtype.type
    guess = float(np.log(power) / np.log(real(beta)))
    if guess < MOST_PRODUCTS:
        products = np.multiply.accumulate(np.full(int(guess) + 2, beta, power.dtype))
        n = int(np.argmin(np.abs(products - power))) + 1
        product = float(products[n - 1])
    else:
        n = round(guess)
        product = float(real(beta)) ** n
    off = abs(float(power) / product - 1)
    if off > max(1e-3 * (1 - beta), 4 * float(np.finfo(power.dtype).eps)):
        raise ValueError(
            f"{what} is {power}, which is no power of {beta}: give the betas of the run"
        )
    return n
