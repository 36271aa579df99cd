"""Groups of parameters with hyper-parameters of their own."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any, Unpack

from . import _abi, settings
from ._handle import Handle
from ._library import library
from .errors import InvalidArgumentError

SIZE = ctypes.sizeof(_abi.GroupConfig)


def lr_of(handle: Handle) -> float:
    """Returns the learning rate of the optimizer."""
    lr = ctypes.c_double()
    handle.call(library.adamw_get_lr, lr)
    return lr.value


def scaled(values: Mapping[str, Any], lr: float) -> dict[str, Any]:
    """Returns settings with `lr` as the scale of the optimizer's learning rate that it is."""
    values = dict(values)
    if "lr" in values:
        own = values.pop("lr")
        if "lr_scale" in values:
            raise InvalidArgumentError("a group has lr and lr_scale, expected one of them")
        if lr == 0:
            raise InvalidArgumentError(
                f"the lr of a group is {own}, which is no multiple of the optimizer's lr 0: give "
                f"the optimizer another lr, or the group an lr_scale"
            )
        values["lr_scale"] = own / lr
    return values


class Group:
    """A group of an optimizer. Its values can be read and set, from the next step on."""

    def __init__(self, handle: Handle, number: int, master: bool) -> None:
        self._handle, self._master = handle, master
        #: Its number; that of the optimizer's own values is 0.
        self.number = number

    def __repr__(self) -> str:
        return (
            f"Group(number={self.number}, lr_scale={self.lr_scale}, betas={self.betas}, "
            f"eps={self.eps}, weight_decay={self.weight_decay})"
        )

    def _values(self) -> _abi.GroupConfig:
        values = _abi.GroupConfig()
        self._handle.call(library.adamw_get_group, self.number, values, SIZE)
        return values

    def update(self, **values: Unpack[settings.Settings]) -> None:
        """Sets several values at once. If one of them is refused, none is set.

        `precision`, `moments` and `amsgrad` are those of parameters that are added later.
        """
        config = self._values()
        settings.write(config, scaled(values, lr_of(self._handle)), self._master)
        self._handle.call(library.adamw_set_group, self.number, config)

    @property
    def lr(self) -> float:
        """The learning rate of the optimizer times `lr_scale`, which is what setting it sets."""
        return lr_of(self._handle) * self.lr_scale

    @lr.setter
    def lr(self, value: float) -> None:
        self.update(lr=value)

    @property
    def lr_scale(self) -> float:
        """The factor for the learning rate of the optimizer."""
        return self._values().lr_scale

    @lr_scale.setter
    def lr_scale(self, value: float) -> None:
        self.update(lr_scale=value)

    @property
    def weight_decay(self) -> float:
        """Decoupled weight decay."""
        return self._values().weight_decay

    @weight_decay.setter
    def weight_decay(self, value: float) -> None:
        self.update(weight_decay=value)

    @property
    def betas(self) -> tuple[float, float]:
        """The decay rates of the means of the gradient and of its square."""
        values = self._values()
        return values.beta1, values.beta2

    @betas.setter
    def betas(self, value: tuple[float, float]) -> None:
        self.update(betas=value)

    @property
    def eps(self) -> float:
        """Added to the root of the second moment."""
        return self._values().eps

    @eps.setter
    def eps(self, value: float) -> None:
        self.update(eps=value)
