"""Schedules of the learning rate, as functions of the index: the number of times they advanced.

Each function returns a `Schedule` for `AdamW.set_schedule`. A learning rate of 0 means that of the
optimizer, and other fields that are left out have the defaults that `adamw.h` says.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from . import _abi, _callbacks
from ._library import check, library
from .settings import choice, sized, unsigned

CyclicMode = Literal["triangular", "triangular2", "exp_range"]
CYCLIC_MODES = {
    "triangular": _abi.CYCLIC_TRIANGULAR,
    "triangular2": _abi.CYCLIC_TRIANGULAR2,
    "exp_range": _abi.CYCLIC_EXP_RANGE,
}


class Schedule:
    """A schedule, made by one of the functions of this module."""

    def __init__(self, kind: int, **fields: Any) -> None:
        #: The struct, with which ctypes keeps alive what it was made to point to.
        self.raw = sized(_abi.Schedule, kind=kind, **fields)

    def trace(self, n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Returns the first n learning rates. There is no optimizer: an lr of 0 is 0 here."""
        lrs = np.empty(unsigned("n", n), np.float64)
        out = lrs.ctypes.data_as(ctypes.POINTER(ctypes.c_double))
        check(library.adamw_schedule_trace(self.raw, out, n))
        return lrs


def _of_function(kind: int, function: Callable[[int], float], **fields: Any) -> Schedule:
    return Schedule(kind, function=_callbacks.schedule_function(function), **fields)


def _boundaries(values: Sequence[int]) -> dict[str, Any]:
    numbers = [unsigned("a boundary", value) for value in values]
    array = (ctypes.c_uint64 * len(numbers))(*numbers)
    return {"boundaries": array, "n_boundaries": len(numbers)}


def noam(*, d_model: int, warmup_steps: int, lr: float = 0) -> Schedule:
    """lr / sqrt(d_model) * min(1 / sqrt(i), i / warmup_steps^1.5). An lr of 0 means 1."""
    return Schedule(_abi.SCHEDULE_NOAM, d_model=d_model, warmup_steps=warmup_steps, lr=lr)


def piecewise(boundaries: Sequence[int], values: Sequence[float]) -> Schedule:
    """values[k], where k is the number of boundaries at or before i."""
    lrs = (ctypes.c_double * len(values))(*values)
    own = _boundaries(boundaries)
    return Schedule(_abi.SCHEDULE_PIECEWISE, values=lrs, n_values=len(values), **own)


def natural_exp(*, gamma: float, lr: float = 0) -> Schedule:
    """lr * exp(-gamma * i)."""
    return Schedule(_abi.SCHEDULE_NATURAL_EXP, gamma=gamma, lr=lr)


def inverse_time(*, gamma: float, lr: float = 0) -> Schedule:
    """lr / (1 + gamma * i)."""
    return Schedule(_abi.SCHEDULE_INVERSE_TIME, gamma=gamma, lr=lr)


def polynomial(
    *, total_steps: int, end_lr: float = 0, power: float = 1, cycle: bool = False, lr: float = 0
) -> Schedule:
    """From lr to end_lr in total_steps, as (1 - i / total_steps)^power."""
    return Schedule(
        _abi.SCHEDULE_POLYNOMIAL,
        total_steps=total_steps,
        end_lr=end_lr,
        power=power,
        cycle=int(cycle),
        lr=lr,
    )


def linear_warmup(
    *,
    warmup_steps: int,
    start_lr: float,
    end_lr: float,
    then: Schedule | None = None,
    lr: float = 0,
) -> Schedule:
    """Linear from start_lr to end_lr in warmup_steps, then another schedule from its start, or
    lr."""
    fields = {"warmup_steps": warmup_steps, "start_lr": start_lr, "end_lr": end_lr, "lr": lr}
    return _with_inner(_abi.SCHEDULE_LINEAR_WARMUP, [then] if then else [], **fields)


def exponential(*, gamma: float, lr: float = 0) -> Schedule:
    """lr * gamma^i."""
    return Schedule(_abi.SCHEDULE_EXPONENTIAL, gamma=gamma, lr=lr)


def multi_step(boundaries: Sequence[int], *, gamma: float = 0.1, lr: float = 0) -> Schedule:
    """lr * gamma^(number of boundaries at or before i)."""
    return Schedule(_abi.SCHEDULE_MULTI_STEP, gamma=gamma, lr=lr, **_boundaries(boundaries))


def step(*, period: int, gamma: float = 0.1, lr: float = 0) -> Schedule:
    """lr * gamma^floor(i / period)."""
    return Schedule(_abi.SCHEDULE_STEP, period=period, gamma=gamma, lr=lr)


def scaled_by(function: Callable[[int], float], *, lr: float = 0) -> Schedule:
    """lr * function(i), as torch's LambdaLR."""
    return _of_function(_abi.SCHEDULE_LAMBDA, function, lr=lr)


def multiplicative(function: Callable[[int], float], *, lr: float = 0) -> Schedule:
    """lr * function(1) * ... * function(i)."""
    return _of_function(_abi.SCHEDULE_MULTIPLICATIVE, function, lr=lr)


def by_function(function: Callable[[int], float]) -> Schedule:
    """function(i)."""
    return _of_function(_abi.SCHEDULE_FUNCTION, function)


def reduce_on_plateau(
    *,
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_is_absolute: bool = False,
    cooldown: int = 0,
    min_lr: float = 0,
    epsilon: float = 1e-8,
    maximize_metric: bool = False,
    warmup_steps: int = 0,
    start_lr: float = 0,
    lr: float = 0,
) -> Schedule:
    """Multiplies lr by factor when a metric has not improved for more than patience calls of
    `AdamW.schedule_advance(metric)`."""
    return Schedule(
        _abi.SCHEDULE_REDUCE_ON_PLATEAU,
        factor=factor,
        patience=patience,
        threshold=threshold,
        threshold_is_absolute=int(threshold_is_absolute),
        cooldown=cooldown,
        min_lr=min_lr,
        epsilon=epsilon,
        maximize_metric=int(maximize_metric),
        warmup_steps=warmup_steps,
        start_lr=start_lr,
        lr=lr,
    )


def cosine_annealing(*, period: int, min_lr: float = 0, lr: float = 0) -> Schedule:
    """From lr to min_lr along half a cosine in period, then back, and so on."""
    return Schedule(_abi.SCHEDULE_COSINE_ANNEALING, period=period, min_lr=min_lr, lr=lr)


def one_cycle(
    *,
    max_lr: float,
    total_steps: int,
    end_lr: float,
    divide_factor: float = 25,
    phase_fraction: float = 0.3,
    linear: bool = False,
    three_phase: bool = False,
) -> Schedule:
    """Up from max_lr / divide_factor to max_lr in phase_fraction of total_steps, then down to
    end_lr."""
    return Schedule(
        _abi.SCHEDULE_ONE_CYCLE,
        max_lr=max_lr,
        total_steps=total_steps,
        end_lr=end_lr,
        divide_factor=divide_factor,
        phase_fraction=phase_fraction,
        linear_anneal=int(linear),
        three_phase=int(three_phase),
    )


def cyclic(
    *,
    lr: float,
    max_lr: float,
    steps_up: int,
    steps_down: int = 0,
    mode: CyclicMode = "triangular",
    gamma: float = 1,
) -> Schedule:
    """Up from lr to max_lr in steps_up and down in steps_down (0: as many), again and again. The
    mode, "triangular", "triangular2" or "exp_range", scales the amplitude of later cycles."""
    return Schedule(
        _abi.SCHEDULE_CYCLIC,
        lr=lr,
        max_lr=max_lr,
        steps_up=steps_up,
        steps_down=steps_down,
        cyclic_mode=choice("mode", mode, CYCLIC_MODES),
        gamma=gamma,
    )


def linear(
    *, total_steps: int, start_factor: float = 1 / 3, end_factor: float = 1, lr: float = 0
) -> Schedule:
    """lr times a factor that goes from start_factor to end_factor in total_steps."""
    return Schedule(
        _abi.SCHEDULE_LINEAR,
        total_steps=total_steps,
        start_factor=start_factor,
        end_factor=end_factor,
        lr=lr,
    )


def cosine_warm_restarts(
    *, period: int, period_factor: int = 1, min_lr: float = 0, lr: float = 0
) -> Schedule:
    """From lr to min_lr along half a cosine in period, then again from lr in a period that is
    period_factor times as long, and so on."""
    return Schedule(
        _abi.SCHEDULE_COSINE_WARM_RESTARTS,
        period=period,
        period_factor=period_factor,
        min_lr=min_lr,
        lr=lr,
    )


def constant_with_warmup(*, warmup_steps: int, start_lr: float = 0, lr: float = 0) -> Schedule:
    """Linear from start_lr to lr in warmup_steps, then lr."""
    fields = {"warmup_steps": warmup_steps, "start_lr": start_lr, "lr": lr}
    return Schedule(_abi.SCHEDULE_CONSTANT_WITH_WARMUP, **fields)


def linear_with_warmup(
    *,
    warmup_steps: int,
    total_steps: int,
    start_lr: float = 0,
    min_lr: float = 0,
    lr: float = 0,
) -> Schedule:
    """Linear from start_lr to lr in warmup_steps, then linear to min_lr at total_steps."""
    return Schedule(
        _abi.SCHEDULE_LINEAR_WITH_WARMUP,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        start_lr=start_lr,
        min_lr=min_lr,
        lr=lr,
    )


def cosine_with_warmup(
    *,
    warmup_steps: int,
    total_steps: int,
    start_lr: float = 0,
    min_lr: float = 0,
    lr: float = 0,
) -> Schedule:
    """Linear from start_lr to lr in warmup_steps, then half a cosine to min_lr at total_steps."""
    return Schedule(
        _abi.SCHEDULE_COSINE_WITH_WARMUP,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        start_lr=start_lr,
        min_lr=min_lr,
        lr=lr,
    )


def inverse_sqrt(*, warmup_steps: int, start_lr: float = 0, lr: float = 0) -> Schedule:
    """Linear from start_lr to lr in warmup_steps, then lr * sqrt(warmup_steps / i)."""
    fields = {"warmup_steps": warmup_steps, "start_lr": start_lr, "lr": lr}
    return Schedule(_abi.SCHEDULE_INVERSE_SQRT, **fields)


def warmup_stable_decay(
    *,
    warmup_steps: int,
    total_steps: int,
    decay_steps: int,
    start_lr: float = 0,
    min_lr: float = 0,
    lr: float = 0,
) -> Schedule:
    """Linear from start_lr to lr in warmup_steps, then lr; in the last decay_steps of total_steps
    down to min_lr by 1 - sqrt(part of the decay that is done)."""
    return Schedule(
        _abi.SCHEDULE_WARMUP_STABLE_DECAY,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        decay_steps=decay_steps,
        start_lr=start_lr,
        min_lr=min_lr,
        lr=lr,
    )


def chain(boundaries: Sequence[int], schedules: Sequence[Schedule]) -> Schedule:
    """The schedules one after another, each from its own start. The next one begins at each of
    boundaries, so there is one schedule more than there are boundaries."""
    return _with_inner(_abi.SCHEDULE_CHAIN, schedules, **_boundaries(boundaries))


def _with_inner(kind: int, inner: Sequence[Schedule], **fields: Any) -> Schedule:
    pointers = (ctypes.POINTER(_abi.Schedule) * len(inner))(
        *(ctypes.pointer(schedule.raw) for schedule in inner)
    )
    return Schedule(kind, schedules=pointers, n_schedules=len(inner), **fields)
