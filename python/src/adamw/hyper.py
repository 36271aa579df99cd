"""The learning rate, its schedule, and the scale of the loss."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from . import _abi, _callbacks
from ._base import FLOAT, Base
from ._library import check, library
from .groups import lr_of
from .schedules import Schedule
from .settings import choice, sized, unsigned
from .statistics import ParamInfo

Advance = Literal["step", "by_hand"]
ADVANCES = {"step": _abi.ADVANCE_ON_STEP, "by_hand": _abi.ADVANCE_MANUALLY}


@dataclass(frozen=True)
class ScheduleState:
    """How far a schedule has come."""

    #: The number of times that it has advanced.
    index: int
    #: The current learning rate.
    lr: float
    #: reduce_on_plateau: the best metric, NaN before the first; metrics since then; metrics that
    #: are still to be ignored.
    best: float
    num_bad: int
    cooldown: int


@dataclass(frozen=True)
class LossScalerState:
    """How far a loss scaler has come."""

    #: The scale of the next step.
    scale: float
    #: The number of steps taken, and of steps skipped, in a row since the scale last changed.
    good_steps: int
    bad_steps: int


class Hyper(Base):
    """Sets what the steps compute with."""

    @property
    def lr(self) -> float:
        """The learning rate of the next step, before the factors of groups and parameters."""
        return lr_of(self._handle)

    @lr.setter
    def lr(self, value: float) -> None:
        self._handle.call(library.adamw_set_lr, value)

    def param_lr(self, name: str) -> float:
        """Returns the learning rate with which a step would step this parameter now."""
        lr = ctypes.c_double()
        self._handle.call(library.adamw_get_param_lr, self._param(name).number, lr)
        return lr.value

    def _set_callback(self, function: Any, kind: Any, called: Any) -> None:
        with self._handle.used() as core:
            check(function(core.number, called or kind(), None))
            self._handle.keep(("callback", kind), called)

    def set_decay_filter(self, function: Callable[[str], bool] | None) -> None:
        """Sets the function that says, by name, to which parameters weight decay applies. It is
        asked now for each, and for each that is added. None: to all."""
        called = None if function is None else _callbacks.decay_filter(function)
        self._set_callback(library.adamw_set_decay_filter, _abi.DecayFilter, called)

    def set_lr_ratio(self, function: Callable[[ParamInfo], float] | None) -> None:
        """Sets the function that gives a factor for the learning rate of each parameter. Each step
        asks it for all that have a gradient, before it writes anything. None: no factor."""
        called = None if function is None else _callbacks.lr_ratio(function)
        self._set_callback(library.adamw_set_lr_ratio, _abi.LrRatio, called)

    def set_all_reduce(self, function: Callable[[memoryview[float]], object] | None) -> None:
        """Sets the function by which ranks that have ranges of the same parameters agree before
        every step: it replaces each double of the buffer that it gets by its sum over all ranks.

        `torch.distributed.all_reduce(torch.frombuffer(buffer, dtype=torch.float64))` does. The
        steps of all ranks then have the bits of one optimizer that has all elements, clip by the
        same norms and skip together; if ranks differ, all raise an error. None: the optimizer steps
        by itself.
        """
        called = None if function is None else _callbacks.all_reduce(function)
        self._set_callback(library.adamw_set_all_reduce, _abi.AllReduce, called)

    def set_next_piece(
        self, function: Callable[[int, int], object] | None, *, n_elements: int = 0
    ) -> None:
        """Sets the function that steps of ranks call before each piece, of about so many elements:
        it returns when the gradients of the first `until` elements are there, and learns that the
        first `done` have been stepped. It goes with an all_reduce, which comes first. None: all
        gradients are there when a step begins."""
        called = None if function is None else _callbacks.next_piece(function)
        with self._handle.used() as core:
            next_piece = called or _abi.NextPiece()
            check(library.adamw_set_next_piece(core.number, n_elements, next_piece, None))
            self._handle.keep(("callback", _abi.NextPiece), called)

    def set_schedule(self, schedule: Schedule | None, *, advance: Advance = "step") -> None:
        """Sets the schedule of the learning rate, which then advances after every step taken, or
        only by `schedule_advance` with advance="by_hand". None: the learning rate stays."""
        raw = None
        if schedule is not None:
            raw = _abi.Schedule.from_buffer_copy(schedule.raw)
            raw.advance = choice("advance", advance, ADVANCES)
        with self._handle.used() as core:
            check(library.adamw_set_lr_schedule(core.number, raw))
            self._handle.keep(("callback", _abi.Schedule), schedule)

    def schedule_advance(self, metric: float | None = None) -> None:
        """Advances a schedule that advances by hand, or reduce_on_plateau by its metric."""
        if metric is None:
            self._handle.call(library.adamw_schedule_advance)
        else:
            self._handle.call(library.adamw_schedule_advance_with_metric, metric)

    @property
    def schedule_state(self) -> ScheduleState:
        """How far the schedule has come. Set it to that of a schedule with the same values."""
        raw = _abi.ScheduleState()
        self._handle.call(library.adamw_get_schedule_state, raw, ctypes.sizeof(raw))
        return ScheduleState(raw.index, raw.lr, raw.best, raw.num_bad, raw.cooldown)

    @schedule_state.setter
    def schedule_state(self, state: ScheduleState) -> None:
        raw = sized(_abi.ScheduleState, **asdict(state))
        self._handle.call(library.adamw_set_schedule_state, raw)

    def set_schedule_index(self, index: int) -> None:
        """Sets the schedule to its state after this many advances from its start."""
        self._handle.call(library.adamw_set_schedule_index, unsigned("index", index))

    @property
    def grad_scale(self) -> float:
        """The factor by which the loss, and so each gradient, is scaled. Steps take it out."""
        scale = ctypes.c_double()
        self._handle.call(library.adamw_get_grad_scale, scale)
        return scale.value

    @grad_scale.setter
    def grad_scale(self, value: float) -> None:
        self._handle.call(library.adamw_set_grad_scale, value)

    def set_loss_scaler(
        self,
        enabled: bool = True,
        *,
        scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        backoff_interval: int = 1,
    ) -> None:
        """Makes the scale of the loss adapt: read `grad_scale` before each backward pass. A step
        whose gradients are not finite is skipped. False: the scale stays at its last value."""
        raw = sized(
            _abi.LossScaler,
            scale=scale,
            growth_factor=growth_factor,
            backoff_factor=backoff_factor,
            growth_interval=growth_interval,
            backoff_interval=backoff_interval,
        )
        self._handle.call(library.adamw_set_loss_scaler, raw if enabled else None)

    @property
    def loss_scaler_state(self) -> LossScalerState:
        """How far the loss scaler has come."""
        raw = _abi.LossScalerState()
        self._handle.call(library.adamw_get_loss_scaler_state, raw, ctypes.sizeof(raw))
        return LossScalerState(raw.scale, raw.good_steps, raw.bad_steps)

    @loss_scaler_state.setter
    def loss_scaler_state(self, state: LossScalerState) -> None:
        raw = sized(_abi.LossScalerState, **asdict(state))
        self._handle.call(library.adamw_set_loss_scaler_state, raw)

    def set_found_inf(self, found_inf: Any, out_found_inf: Any = None) -> None:
        """Sets flags that are shared with others, arrays of one float32. A step is skipped if
        `found_inf` is not 0, and writes 1 or 0 to `out_found_inf`. None: no flag."""
        arrays = {"found_inf": found_inf, "out_found_inf": out_found_inf}
        seen = {
            name: self._scalar(array, name, writable=name == "out_found_inf")
            for name, array in arrays.items()
            if array is not None
        }
        pointers = [
            ctypes.cast(seen[name].address, FLOAT) if name in seen else None for name in arrays
        ]
        with self._handle.used() as core:
            check(library.adamw_set_found_inf(core.number, *pointers))
            self._handle.keep(("callback", "found_inf"), seen)
