"""The state of parameters as Paddle's tensors, and their names in a `state_dict`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import paddle

from ..errors import MismatchError

#: Paddle's names of the moments, and the library's.
MOMENTS = {"moment1": "exp_avg", "moment2": "exp_avg_sq", "moment2_max": "max_exp_avg_sq"}
#: The powers of the betas, which are one step ahead in Paddle.
POWERS = ("beta1_pow_acc", "beta2_pow_acc")
SHORT = (paddle.float16, paddle.bfloat16)


class Form(NamedTuple):
    """What an optimizer's constructor says about the state of its parameters."""

    multi_precision: bool
    amsgrad: bool
    lowprecision_moment: bool
    prefix: str

    def has_master(self, param: Any) -> bool:
        """Returns whether a parameter is stepped in f32 and then rounded."""
        return self.multi_precision and param.dtype in SHORT

    def owner(self, param: Any) -> str:
        """Returns the name that the names of a parameter's moments begin with."""
        return f"{param.name}_fp32_master_0" if self.has_master(param) else str(param.name)

    def moments(self) -> dict[str, str]:
        """Returns Paddle's and the library's names of the moments that parameters have."""
        return {k: v for k, v in MOMENTS.items() if self.amsgrad or k != "moment2_max"}

    def moment_type(self, param: Any) -> Any:
        """Returns the element type of a parameter's moments."""
        is_f32 = param.dtype in SHORT and (not self.lowprecision_moment or self.multi_precision)
        return paddle.float32 if is_f32 else param.dtype


def named(tensor: Any, name: str) -> Any:
    """Returns a tensor after giving it the name of a variable that is to be saved."""
    tensor.name, tensor.persistable, tensor.stop_gradient = name, True, True
    return tensor


def begin(
    form: Form, param: Any, accumulators: dict[str, dict[str, Any]], masters: dict[str, Any]
) -> dict[str, Any]:
    """Puts what is missing of a parameter's state where Paddle has it, and returns the tensors that
    the library works on, under its names."""
    owner, dtype = form.owner(param), form.moment_type(param)
    parts = {}
    for theirs, ours in form.moments().items():
        kept = accumulators[form.prefix + theirs]
        if owner not in kept:
            name = f"{owner}_{form.prefix}{theirs}_0"
            kept[owner] = named(paddle.zeros_like(param, dtype=dtype), name)
        parts[ours] = kept[owner]
    for power in POWERS:
        kept = accumulators[form.prefix + power]
        if owner not in kept:
            kept[owner] = named(paddle.ones([1], dtype), f"{owner}_{form.prefix}{power}_0")
    if form.has_master(param):
        if param.name not in masters:
            masters[param.name] = named(param.detach().cast(paddle.float32), owner)
        parts["master"] = masters[param.name]
    return parts


class Saved:
    """What a `state_dict` of this class or of Paddle's has for each parameter.

    Paddle numbers the names of each process, which makes those of a second optimizer differ. The
    numbers are ignored here.
    """

    def __init__(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        kinds = "|".join((*MOMENTS, *POWERS))
        pattern = re.compile(rf"(.+?)(?:_fp32_master_\d+)?_{re.escape(prefix)}({kinds})_\d+")
        self.masters: dict[str, Any] = dict(state_dict.get("master_weights") or {})
        self.parts: dict[str, dict[str, Any]] = {}
        self.unknown: list[str] = []
        for key, value in state_dict.items():
            match = pattern.fullmatch(key)
            if match is None:
                if key not in ("LR_Scheduler", "master_weights"):
                    self.unknown.append(key)
            elif match[2] in self.parts.setdefault(match[1], {}):
                raise MismatchError(f"the state has {match[2]} of parameter {match[1]} twice")
            else:
                self.parts[match[1]][match[2]] = value

    def checked(self, form: Form, param: Any) -> dict[str, Any]:
        """Returns the parts of a parameter's state as tensors, or raises MismatchError."""
        given, dtype = self.parts[param.name], form.moment_type(param)
        expected = {key: (dtype, list(param.shape)) for key in form.moments()}
        expected.update((power, (dtype, [1])) for power in POWERS)
        master = self.masters.get(param.name)
        if master is not None:
            if not form.has_master(param):
                raise MismatchError(
                    f"the state has an f32 master of parameter {param.name}, which is "
                    f"{param.dtype}: make the optimizer with multi_precision=True"
                )
            given = {**given, "master": master[1] if isinstance(master, tuple) else master}
            expected["master"] = paddle.float32, list(param.shape)
        parts = {}
        for key, (kind, shape) in expected.items():
            if key not in given:
                raise MismatchError(
                    f"the state has no {key} of parameter {param.name}, only {', '.join(given)}"
                )
            value = given[key]
            tensor = value if isinstance(value, paddle.Tensor) else paddle.to_tensor(value)
            if tensor.dtype != kind or list(tensor.shape) != shape:
                raise MismatchError(
                    f"{key} of parameter {param.name} is {tensor.dtype} {list(tensor.shape)} in "
                    f"the state, where {kind} {shape} is needed"
                )
            parts[key] = tensor
        return parts


class Counts(NamedTuple):
    """How many steps a parameter has taken, and the products of the betas that these had."""

    step: int
    powers: tuple[float, float]

    def are_powers(self, betas: tuple[float, float]) -> bool:
        """Returns whether the products are powers of these betas, but for rounding to f32."""
        return all(
            math.isclose(power, beta**self.step, rel_tol=1e-4, abs_tol=1e-37)
            for power, beta in zip(self.powers, betas, strict=True)
        )


def counted(parts: Mapping[str, Any], betas: tuple[float, float]) -> Counts:
    """Returns what the powers of the betas, which are one step ahead, tell of the steps taken.

    f32 has no more of a power after 830 steps with 0.9, and 87,000 with 0.999. If neither is left,
    the number is how many it took at least: the corrections are 1 by then.
    """
    ahead = [float(parts[power].item()) for power in POWERS]
    powers = [p / b if b else 0.0 for p, b in zip(ahead, betas, strict=True)]
    tiny = float(np.finfo(np.float32).tiny)
    step = None
    for power, beta in zip(ahead, betas, strict=True):
        if step is None and 0.0 < beta and tiny <= power < 1.0:
            step = max(round(math.log(power) / math.log(beta)) - 1, 0)
    if step is None:
        beta = max(betas)
        step = math.ceil(math.log(tiny) / math.log(beta)) - 1 if beta else 1
    return Counts(step, (powers[0], powers[1]))
