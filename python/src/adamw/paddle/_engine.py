"""The library's optimizer under one of Paddle's: its parameters, and the call that steps them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import paddle

from .. import _abi
from .._library import check, library
from ..errors import InvalidArgumentError, MismatchError, UnsupportedError
from ..groups import Group
from ..optimizer import AdamW
from ..settings import Settings
from ..tensors import HOST, View
from ._groups import Attributes, attributes, options
from ._state import POWERS, SHORT, Counts, Form

#: The element types that the library steps, and their names.
TYPES = {
    paddle.float32: "float32",
    paddle.float64: "float64",
    paddle.float16: "float16",
    paddle.bfloat16: "bfloat16",
}
#: Where the gradient of a parameter without elements is, which nobody reads.
NOWHERE = 64


class Member:
    """A parameter that the library has, and what it was told of it last."""

    def __init__(
        self, param: Any, number: int, group: int, parts: Mapping[str, Any], attributes: Attributes
    ) -> None:
        self.param, self.number, self.group, self.attributes = param, number, group, attributes
        #: Whether its `lr_scale` has all of its learning rate, which may change.
        self.has_own_lr = False
        self.name: str = param.name
        self.has_master = "master" in parts
        self.address: int = param.data_ptr()
        self.dtype, self.shape = param.dtype, param.shape
        self.version: int = param.inplace_version

    def is_like(self, tensor: Any) -> bool:
        """Returns whether a tensor has the type and the shape that the library knows."""
        return bool(tensor.dtype == self.dtype and tensor.shape == self.shape)


class Gradients(NamedTuple):
    """The gradients of a step, by the number of their parameter."""

    #: Addresses of those that have the parameter's type.
    plain: dict[int, int]
    #: Those in f32 of 16-bit parameters.
    wide: dict[int, View]
    #: Rows of parameters: their numbers and values.
    rows: dict[int, tuple[View, View]]
    #: What keeps the memory of them.
    owners: list[Any]


class Engine:
    """The library's optimizer, with those parameters that have had a gradient."""

    def __init__(self, form: Form) -> None:
        precision: Any = "master" if form.multi_precision else None
        self.form = form
        self.optimizer = AdamW(
            (), lr=1.0, amsgrad=form.amsgrad, precision=precision, clip_scope="group"
        )
        self.members: dict[int, Member] = {}
        self._by_name: dict[str, Any] = {}
        self._with_master: list[Member] = []
        self._groups: list[Group] = []
        self._told: list[Settings] = []
        self._callbacks: list[Any] = [None, None]

    def set_groups(self, wanted: Sequence[Settings]) -> None:
        """Sets the hyper-parameters of all groups, as far as they differ from those of before."""
        for number, settings in enumerate(wanted):
            if number == len(self._groups):
                self._groups.append(self.optimizer.add_group(**settings))
                self._told.append(settings)
            elif settings != self._told[number]:
                self._groups[number].update(**settings)
                self._told[number] = settings

    def set_callbacks(
        self, decays: Callable[[str], Any] | None, lr_ratio: Callable[[Any], Any] | None
    ) -> None:
        """Sets the functions that say which parameters decay, and with what factor they learn."""
        by_name, told = self._by_name, self._callbacks
        if decays is not told[0]:
            self.optimizer.set_decay_filter(decays and (lambda name: bool(decays(name))))
            told[0] = decays
        if lr_ratio is not told[1]:
            self.optimizer.set_lr_ratio(lr_ratio and (lambda p: float(lr_ratio(by_name[p.name]))))
            told[1] = lr_ratio

    def join(
        self,
        param: Any,
        group: int,
        parts: Mapping[str, Any],
        lr: float | None,
        counts: Counts | None,
    ) -> None:
        """Adds a parameter with its state."""
        given = attributes(param)
        told = options(param.name, given, lr)
        if self.form.moment_type(param) == paddle.float16:
            raise UnsupportedError(
                f"parameter {param.name} is float16 and use_lowprecision_moment is set: moments "
                f"are float32 or bfloat16"
            )
        short = self.form.moment_type(param) == paddle.bfloat16
        self._groups[group].update(moments="bf16" if short else None)
        self._by_name[param.name] = param
        self.optimizer.add_param(
            param.name,
            param.detach(),
            group=self._groups[group],
            **told._asdict(),
            state={key: part.detach() for key, part in parts.items()},
        )
        number = self.optimizer._params[param.name].number
        member = self.members[id(param)] = Member(param, number, group, parts, given)
        member.has_own_lr = lr is not None
        if member.has_master:
            self._with_master.append(member)
        if counts is not None:
            self.set_counts(member, counts)

    def set_counts(self, member: Member, counts: Counts) -> None:
        """Sets the number of steps that a parameter has taken, and the products of their betas."""
        self.optimizer.set_state(f"state.{member.name}.step", float(counts.step))
        if not counts.are_powers(self._told[member.group]["betas"]):
            for beta, power in zip(("beta1", "beta2"), counts.powers, strict=True):
                self.optimizer.set_state(f"state.{member.name}.{beta}_power", power)

    def sync_masters(self) -> None:
        """Takes the parameters as they are now as the start of the next step."""
        for member in self._with_master:
            self.optimizer.sync_master(member.name)

    def powers_ahead(self, param: Any) -> list[float]:
        """Returns the powers of the betas as Paddle has them, after the next step."""
        names = (f"{self.form.owner(param)}_{power}_0" for power in POWERS)
        return [float(self.optimizer.get_state(name)[0]) for name in names]

    def follow(self, member: Member, lr: float | None) -> None:
        """Tells the library what has changed of a parameter since the last step."""
        param = member.param
        if not member.is_like(param):
            raise MismatchError(
                f"parameter {member.name} is {param.dtype} {param.shape} now and was "
                f"{member.dtype} {member.shape} at its first step: make another optimizer"
            )
        given = attributes(param)
        if lr is not None or member.has_own_lr or given != member.attributes:
            self.optimizer.set_options(member.name, **options(member.name, given, lr)._asdict())
            member.attributes, member.has_own_lr = given, lr is not None
        address = param.data_ptr()
        if address != member.address:
            self.optimizer.rebind(member.name, param=param.detach())
            member.address = address
        if member.has_master and param.inplace_version != member.version:
            self.optimizer.sync_master(member.name)  # the host has written the parameter

    def step(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """Steps these parameters with these gradients, and no others."""
        gradients = Gradients({}, {}, {}, [])
        for param, grad in pairs:
            add_gradient(gradients, self.members[id(param)], grad)
        count = len(gradients.plain)
        numbers = (ctypes.c_uint32 * count)(*gradients.plain)
        addresses = (ctypes.c_void_p * count)(*gradients.plain.values())
        with self.optimizer._handle.used() as core:
            try:
                check(library.adamw_set_grad_data(core.number, numbers, addresses, count))
                for number, wide in gradients.wide.items():
                    check(library.adamw_set_grad(core.number, number, wide.tensor()))
                for number, (rows, values) in gradients.rows.items():
                    described = rows.tensor(), values.tensor()
                    check(library.adamw_set_sparse_grad(core.number, number, *described))
                check(library.adamw_step(core.number))
            finally:
                check(library.adamw_clear_grad(core.number, _abi.CLEAR_FORGET))
        for member in self._with_master:
            member.version = member.param.inplace_version


def add_gradient(gradients: Gradients, member: Member, grad: Any) -> None:
    """Notes a gradient, or a copy in a type and an order that the library reads."""
    if grad.is_selected_rows():
        selected = grad.get_selected_rows()
        numbers, values = np.array(selected.rows(), np.int64), selected.get_tensor()
        shape = tuple(values.shape())
        expected = (len(numbers), *member.shape[1:])
        if shape != expected:
            raise InvalidArgumentError(
                f"parameter {member.name}: its sparse gradient has values of shape {shape}, "
                f"expected {expected}"
            )
        rows = View(numbers, numbers.ctypes.data, numbers.shape, None, "int64", HOST, True)
        seen = View(values, values._ptr(), shape, None, type_name(member, grad), HOST, True)
        gradients.rows[member.number] = rows, seen
        gradients.owners.append(selected)
        return
    wide = False
    if not member.is_like(grad):
        if grad.shape != member.shape:
            raise InvalidArgumentError(
                f"parameter {member.name}: its gradient has the shape {grad.shape}, expected "
                f"{member.shape}"
            )
        wide = grad.dtype == paddle.float32 and member.dtype in SHORT
        grad = grad if wide else grad.cast(member.dtype)
    if not grad.is_contiguous():
        grad = grad.contiguous()
    gradients.owners.append(grad)
    address = grad.data_ptr() or NOWHERE
    if wide:
        shape = tuple(member.shape)
        gradients.wide[member.number] = View(grad, address, shape, None, "float32", HOST, True)
    else:
        gradients.plain[member.number] = address


def type_name(member: Member, tensor: Any) -> str:
    """Returns what the library calls the element type of a gradient."""
    name = TYPES.get(tensor.dtype)
    if name is None:
        raise InvalidArgumentError(f"parameter {member.name}: its gradient has {tensor.dtype}")
    return name


def check_steppable(param: Any) -> None:
    """Checks that the library can step a parameter where it is."""
    if not param.place.is_cpu_place():
        raise UnsupportedError(f"parameter {param.name} is on {param.place}, expected the CPU")
    if param.dtype not in TYPES:
        expected = ", ".join(TYPES.values())
        raise InvalidArgumentError(
            f"parameter {param.name} has {param.dtype}, expected one of {expected}"
        )
    if not param.is_contiguous():
        raise InvalidArgumentError(
            f"parameter {param.name} has another order of axes in memory than its moments (strides "
            f"{param.strides}): make it of a tensor's contiguous()"
        )
