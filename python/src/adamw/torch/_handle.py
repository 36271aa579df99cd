"""A handle of the library, and what its calls need, made once and used at every step."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .. import _abi, _callbacks
from .._library import check, library
from ..settings import MOMENTS, PRECISIONS
from ..team import Team
from ._ranks import adds_up
from ._state import STATE
from ._tensors import described

TensorPointer = ctypes.POINTER(_abi.Tensor)


class Kind(NamedTuple):
    """What is a handle's and not a group's: parameters that differ in it need several handles."""

    device: torch.device
    multi_precision: bool


class Numbers(NamedTuple):
    """The hyper-parameters of a group at a step."""

    lr: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float


class Settings(NamedTuple):
    """What stays as long as a handle."""

    num_threads: int
    clear_grads: bool
    clip_norm: float
    seed: int


_TEAMS: weakref.WeakValueDictionary[tuple[int, int], Team] = weakref.WeakValueDictionary()


def _team(num_threads: int) -> Team:
    """Returns the threads that all handles of this process with so many threads share."""
    key = os.getpid(), num_threads  # a forked child has none of its parent's threads
    team = _TEAMS.get(key)
    if team is None:
        team = _TEAMS[key] = Team(num_threads)
    return team


class Handle:
    """A handle with its groups, and the gradients of its parameters in the order of one call."""

    def __init__(self, kind: Kind, settings: Settings) -> None:
        config = _abi.Config()
        check(library.adamw_config_init(config, ctypes.sizeof(config)))
        config.multi_precision = kind.multi_precision
        self._team = _team(settings.num_threads)
        config.team, config.clear_grads = self._team.number, settings.clear_grads
        config.seed = settings.seed
        handle = ctypes.c_void_p()
        check(library.adamw_create(config, handle))
        self.pointer = handle
        self._destroy = weakref.finalize(self, library.adamw_destroy, handle)
        #: The optimizer's groups that have members here, by their numbers there.
        self.groups: dict[int, _Group] = {}
        self._all_reduce: Any = None
        self._scale = 1.0
        self._stream: int | None = None
        self._device = kind.device

    def add(
        self,
        name: str,
        group: int,
        tensors: dict[str, torch.Tensor],
        step: int,
        first: int,
        whole: int,
    ) -> int:
        """Adds a parameter, `tensors["param"]`, with all of its state, and returns its number. It
        is that part of one of `whole` elements which begins with the element `first`, unless
        `whole` is 0."""
        descriptions = {key: described(tensor) for key, tensor in tensors.items()}
        config = _abi.ParamConfig(
            struct_size=ctypes.sizeof(_abi.ParamConfig),
            name=name.encode(),
            step=step,
            group=self.groups[group].number,
            first_element=first,
            whole_elements=whole,
            **{key: ctypes.pointer(tensor) for key, tensor in descriptions.items()},
        )
        number = ctypes.c_uint32()
        check(library.adamw_add_param(self.pointer, config, number))
        return number.value

    def move(self, moved: Sequence[tuple[int, str, torch.Tensor]]) -> None:
        """Tells the library where parameters (`"param"`) and parts of their state are now."""
        count = len(moved)
        numbers = (ctypes.c_uint32 * count)(*(number for number, _, _ in moved))
        buffers = (ctypes.c_uint32 * count)(
            *(STATE.get(key, _abi.BUFFER_PARAM) for _, key, _ in moved)
        )
        tensors = [described(tensor) for _, _, tensor in moved]
        pointers = (TensorPointer * count)(*map(ctypes.pointer, tensors))
        check(library.adamw_rebind(self.pointer, numbers, buffers, pointers, count))

    def agree(self, group: Any) -> None:
        """Has all processes of a group clip by one norm, and step or fail together."""
        self._all_reduce = _callbacks.all_reduce(adds_up(group))
        check(library.adamw_set_all_reduce(self.pointer, self._all_reduce, None))

    def set_group(
        self, group: int, numbers: Numbers, clip_norm: float, like: dict[str, Any]
    ) -> None:
        """Sets a group's hyper-parameters, if they differ from those of the last step."""
        kept = self.groups.get(group)
        if kept is not None and kept.numbers == numbers and kept.clip_norm == clip_norm:
            return
        config = _abi.GroupConfig()
        check(library.adamw_group_config_init(self.pointer, config, ctypes.sizeof(config)))
        config.lr_scale = numbers.lr  # of the handle's learning rate, which is 1
        config.beta1, config.beta2 = numbers.beta1, numbers.beta2
        config.eps, config.weight_decay = numbers.eps, numbers.weight_decay
        config.clip = _abi.CLIP_GLOBAL_NORM if clip_norm else _abi.CLIP_NONE
        config.clip_norm = clip_norm
        config.lazy_mode = _abi.LAZY_ROWS if like.get("lazy_rows") else _abi.LAZY_OFF
        config.amsgrad, config.maximize = like["amsgrad"], like["maximize"]
        config.bias_correction = _abi.BIAS_CORRECTION_CURRENT
        config.precision = PRECISIONS[like.get("precision")]
        config.moments = MOMENTS[like.get("moments")]
        if kept is None:
            check(library.adamw_set_lr(self.pointer, 1.0))
            number = ctypes.c_uint32()
            check(library.adamw_add_group(self.pointer, config, number))
            self.groups[group] = _Group(number.value, numbers, clip_norm)
            return
        check(library.adamw_set_group(self.pointer, kept.number, config))
        kept.numbers, kept.clip_norm = numbers, clip_norm

    def set_steps(self, counts: dict[int, int]) -> None:
        """Sets the step counts of parameters, by their numbers."""
        numbers = (ctypes.c_uint32 * len(counts))(*counts)
        steps = (ctypes.c_uint64 * len(counts))(*counts.values())
        check(library.adamw_set_steps(self.pointer, numbers, steps, len(counts)))

    def sync_master(self, number: int) -> None:
        """Takes a parameter that the host has written as the start of the next step."""
        check(library.adamw_sync_master(self.pointer, number))

    def set_grad_scale(self, scale: float) -> None:
        """Divides the gradients of the next steps by this."""
        if scale != self._scale:
            check(library.adamw_set_grad_scale(self.pointer, scale))
            self._scale = scale

    def forget_gradients(self) -> None:
        """Forgets all gradients, before others are set."""
        check(library.adamw_clear_grad(self.pointer, _abi.CLEAR_FORGET))

    def set_grad(self, number: int, grad: torch.Tensor) -> None:
        """Sets a gradient of any type that the library reads."""
        check(library.adamw_set_grad(self.pointer, number, described(grad)))

    def set_sparse_grad(self, number: int, rows: torch.Tensor, values: torch.Tensor) -> None:
        """Sets the gradient of some rows of a parameter."""
        described_rows, described_values = described(rows), described(values)
        check(library.adamw_set_sparse_grad(self.pointer, number, described_rows, described_values))

    def forget_gradient(self, number: int) -> None:
        """Forgets one gradient, whose memory may be freed."""
        check(library.adamw_set_grad(self.pointer, number, None))

    def step(self) -> None:
        """Steps the parameters whose gradients are set."""
        if self._device.type == "cuda":
            stream = torch.cuda.current_stream(self._device).cuda_stream
            if stream != self._stream:
                check(library.adamw_set_stream(self.pointer, stream))
                self._stream = stream
        check(library.adamw_step(self.pointer))

    def grad_norm(self) -> float:
        """Returns the norm of the last step's gradients, before clipping."""
        info = _abi.StepInfo()
        check(library.adamw_get_step_info(self.pointer, info, ctypes.sizeof(info)))
        return info.grad_norm if info.measured else float("nan")

    def close(self) -> None:
        """Ends the handle. The memory of parameters and state stays as it is."""
        self._destroy()


class _Group:
    """A group of the library, and what it has been told last."""

    def __init__(self, number: int, numbers: Numbers, clip_norm: float) -> None:
        self.number, self.numbers, self.clip_norm = number, numbers, clip_norm


class Gradients:
    """Gradients of their parameters' types: only their addresses change from step to step."""

    def __init__(self, handle: Handle, numbers: Sequence[int]) -> None:
        self._handle, self._count = handle, len(numbers)
        self._numbers = (ctypes.c_uint32 * self._count)(*numbers)

    def find(self, addresses: ctypes.Array[ctypes.c_void_p], first: int) -> None:
        """Says where their addresses are, from `first` on."""
        self._addresses, self._is_placed = addresses, False
        place = ctypes.addressof(addresses) + first * ctypes.sizeof(ctypes.c_void_p)
        self._first = ctypes.cast(place, ctypes.POINTER(ctypes.c_void_p))

    def place(self, *, moved: bool) -> None:
        """Tells the library where they are at this step, unless it knows."""
        if self._count and (moved or not self._is_placed):
            check(
                library.adamw_set_grad_data(
                    self._handle.pointer, self._numbers, self._first, self._count
                )
            )
            self._is_placed = True
