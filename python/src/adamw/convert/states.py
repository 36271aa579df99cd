"""The state of a parameter, as the library reads it, from what was found of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection

import numpy as np

from .. import _abi
from .._base import Param as Own
from ..errors import AdamWError, NotFoundError
from ..groups import Group
from ..optimizer import AdamW
from ..state import BUFFERS
from ..tensors import as_in_memory, order_of
from .arrays import Array, array_of, number_of
from .draft import State
from .found import PARTS, Param, seems, some

MOMENTS = PARTS[:3]
NEEDED = PARTS[:2]


def state_of(
    optimizer: AdamW, name: str, param: Param, ignore: Collection[str], extend: bool
) -> State:
    """Returns the state of a parameter, complete; ValueError if something of it is missing, or does
    not fit."""
    beta1, beta2 = betas_of(optimizer, name)
    with_max = located(optimizer, name, "max_exp_avg_sq") is not None
    if param.is_fresh:
        n = optimizer._param(name).whole or optimizer.param(name).n_elements
        parts: dict[str, Array] = {part: np.zeros(n, np.float32) for part in MOMENTS}
        step = 0
    else:
        check_parts(name, param, ignore)
        taken = [part for part in param.parts if part in NEEDED or part not in ignore]
        parts = {part: array_of(param.parts[part], f"{part} of {name!r}") for part in taken}
        step = step_of(name, param)
    if not with_max and not param.is_fresh and "max_exp_avg_sq" in parts:
        raise ValueError(
            f"{name!r} has max_exp_avg_sq: make the optimizer with amsgrad=True (ignore leaves it)"
        )
    if not with_max:
        parts.pop("max_exp_avg_sq", None)
    elif "max_exp_avg_sq" not in parts:
        if not extend:
            raise ValueError(
                f"{name!r} has no max_exp_avg_sq, but the optimizer amsgrad: extend starts it as "
                f"exp_avg_sq"
            )
        parts["max_exp_avg_sq"] = parts["exp_avg_sq"]
    check_values(optimizer, name, parts, ignore)
    n = parts["exp_avg"].size
    order = in_memory(optimizer._param(name), parts)
    complete(optimizer, name, parts)
    return State(step, powers(step, beta1, beta2), n, parts, order)


def betas_of(optimizer: AdamW, name: str) -> tuple[float, float]:
    """Returns the betas of the group of a parameter."""
    return Group(optimizer._handle, optimizer.param(name).group, optimizer._master).betas


def check_parts(name: str, param: Param, ignore: Collection[str]) -> None:
    """Refuses a state that lacks something, or has what only another optimizer has."""
    there = [*(["step"] if param.step is not None else []), *param.parts]
    missing = [part for part in ("step", *NEEDED) if part not in there]
    if missing:
        raise ValueError(f"{name!r} has no {some(missing)}, but {some(there)}{seems(there)}")
    unknown = [part for part in param.parts if part not in PARTS and part not in ignore]
    if unknown:
        raise ValueError(
            f"nothing is known of {some(unknown)} of {name!r}{seems(unknown)} (ignore leaves it)"
        )


def step_of(name: str, param: Param) -> int:
    """Returns the number of steps that a parameter has taken."""
    step = number_of(param.step, f"step of {name!r}")
    if not (0 <= step < 1 << 53 and step == int(step)):
        raise ValueError(f"step of {name!r} is {step}, expected a whole number")
    return int(step)


@functools.lru_cache(256)
def powers(step: int, beta1: float, beta2: float) -> tuple[float, float]:
    """Returns the products of the betas over so many steps, as the library computes them."""
    try:
        with AdamW({"x": np.zeros(1, np.float32)}, betas=(beta1, beta2), num_threads=1) as scratch:
            scratch.set_state("state.x.step", float(step))
            first, second = (scratch.get_state(f"state.x.beta{i}_power").item() for i in (1, 2))
    except AdamWError as error:
        raise ValueError(f"a step of {step}: {error}") from error
    return first, second


def check_values(
    optimizer: AdamW, name: str, parts: dict[str, Array], ignore: Collection[str]
) -> None:
    """Refuses what is not of the parameter's size, or no moments at all."""
    own = optimizer._param(name)
    size = own.whole or optimizer.param(name).n_elements
    is_known = own.whole != 0 or own.first == 0
    for part, values in parts.items():
        what = f"{part} of {name!r}"
        floats = values.dtype.name in ("float64", "float32", "float16")
        if not floats and not (part == "remainder" and values.dtype == np.int16):
            codes = ": codes are taken by load" if values.dtype == np.uint8 else ""
            raise ValueError(f"{what} is of {values.dtype}, expected floating point{codes}")
        n = size if is_known else max(parts["exp_avg"].size, own.first + size)
        if values.size != n:
            raise ValueError(f"{what} has {values.size} elements, expected {n}")
        shapes = [tuple(n for n in shape if n != 1) for shape in (values.shape, own.shape)]
        if min(map(len, shapes)) > 1 and shapes[0] != shapes[1] and "shape" not in ignore:
            raise ValueError(
                f"{what} has the shape {values.shape}, the param {own.shape} (ignore 'shape' takes "
                f"its elements in their order)"
            )
        if part.endswith("_sq") and np.any(values < 0):
            raise ValueError(f"{what} is negative in {np.argmin(values)}, a mean of squares never")


def in_memory(param: Own, parts: dict[str, Array]) -> str | None:
    """Flattens the parts as the parameter lies in memory. Returns the order of its axes there, if
    that is not row-major."""
    strides, size = param.strides, math.prod(param.shape)
    if any(values.size != size for values in parts.values()):
        strides = None  # those of a shard are of the whole
    for part, values in parts.items():
        if strides is not None:
            values = as_in_memory(values.reshape(param.shape), strides)
        parts[part] = values.reshape(-1)
    return None if strides is None else order_of(param.shape, strides)


def complete(optimizer: AdamW, name: str, parts: dict[str, Array]) -> None:
    """Adds what the optimizer keeps of 16-bit parameters and no other framework has: what rounding
    has lost of them, which is nothing yet, or is in a master, which the load splits."""
    n = parts["exp_avg"].size
    info = located(optimizer, name, "remainder")
    is_split = info is not None and info.dtype == _abi.DTYPE_I16
    if "master" in parts and is_split:
        parts["master"] = parts["master"].astype(np.float32)
        return
    has_master = optimizer._master and optimizer.param(name).dtype in ("float16", "bfloat16")
    if "master" in parts and not has_master:
        raise ValueError(
            f"{name!r} has an f32 master, but here it has none: make the optimizer with "
            f"precision='master' or, in bf16, 'split' (ignore 'master' leaves it)"
        )
    if info is None and "remainder" in parts:
        raise ValueError(f"{name!r} has a remainder, but here it has none (ignore leaves it)")
    if info is not None and "remainder" not in parts:
        parts["remainder"] = np.zeros(n, np.int16 if is_split else np.float32)


def located(optimizer: AdamW, name: str, part: str) -> _abi.StateInfo | None:
    """Returns where a part of the state of a parameter is, if it has that part."""
    info = _abi.StateInfo()
    try:
        optimizer._locate(optimizer._param(name).number, BUFFERS[part], info)
    except NotFoundError:
        return None
    return info
