"""What is looked at before each step: the parameters, where they lie, and their gradients."""

from __future__ import annotations

import ctypes
import operator
from collections.abc import Sequence
from itertools import chain

import torch

from ._tensors import strides

#: Slots of parameters whose gradients are looked at elsewhere, and of those that have none.
UNSEEN, ABSENT = -2, -1

#: Bits of what is not as it was. With one of the last two, the others may be missing.
GRADS_MOVED = 1  #: Gradients of the same kinds lie elsewhere.
PARAMS_MOVED = 2  #: Parameters, or what else is watched, lie elsewhere.
OTHER_GRADS = 4  #: Others have gradients, or gradients or parameters are of other kinds.
OTHER_PARAMS = 8  #: The lists have other parameters.

PLAIN = (torch.Tensor, torch.nn.Parameter)
data_ptr = torch.Tensor.data_ptr


class Walk:
    """A look at all parameters, and at the gradients that the library reads where they are.

    params:
        The parameters of all groups, in their order.
    watched:
        The tensor of each whose memory the library steps, or None if it has not joined yet.
    slots:
        Where in `grads` the address of its gradient goes, or UNSEEN or ABSENT. With a slot, the
        parameter itself is watched, and its gradient is `is_readable`.
    """

    def __init__(
        self,
        params: Sequence[torch.Tensor],
        watched: Sequence[torch.Tensor | None],
        slots: Sequence[int],
    ) -> None:
        self._params, self._watched, self._slots = list(params), list(watched), list(slots)
        self._kept = [None if tensor is None else facts(tensor) for tensor in watched]
        self._at = [0 if tensor is None else tensor.data_ptr() for tensor in watched]
        #: The addresses of the gradients that have slots.
        self.grads = addresses(slots)
        self._grads_at = [0] * len(self.grads)

    def look(self, lists: Sequence[Sequence[torch.Tensor]]) -> int:
        """Returns the bits of what has changed, and updates `grads`. `lists` are the groups'."""
        if not same(list(chain.from_iterable(lists)), self._params):
            return OTHER_PARAMS
        seen, at = 0, list(self._grads_at)
        for param, watched, kept, address, slot in zip(
            self._params, self._watched, self._kept, self._at, self._slots, strict=True
        ):
            if watched is not None:
                if facts(watched) != kept:
                    return OTHER_GRADS
                if watched.data_ptr() != address:
                    seen |= PARAMS_MOVED
            if slot == UNSEEN:
                continue
            grad = param.grad
            if (grad is None) != (slot == ABSENT):
                return OTHER_GRADS
            if grad is not None:
                if not is_readable(grad, param):
                    return OTHER_GRADS
                at[slot] = grad.data_ptr()
        if at != self._grads_at:
            self._grads_at = at
            self.grads[:] = at  # type: ignore[assignment]
            seen |= GRADS_MOVED
        return seen

    def count(self) -> None:
        """Counts a write to each parameter with a gradient for autograd."""
        pairs = zip(self._params, self._slots, strict=True)
        torch.autograd.graph.increment_version([p for p, slot in pairs if slot != ABSENT])


def addresses(slots: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    """Returns room for the addresses of gradients."""
    return (ctypes.c_void_p * (1 + max([ABSENT, *slots])))()


def same(a: Sequence[object], b: Sequence[object]) -> bool:
    """Returns whether two lists have the same objects."""
    return len(a) == len(b) and all(map(operator.is_, a, b))


def facts(tensor: torch.Tensor) -> object:
    """Returns what has to stay for a tensor's memory to have the same meaning."""
    if tensor.layout != torch.strided or tensor.is_neg():
        return None
    return tensor.dtype, tensor.device, tuple(tensor.shape), strides(tensor)


def is_readable(grad: torch.Tensor, param: torch.Tensor) -> bool:
    """Returns whether a gradient's memory is, element for element, that of its parameter."""
    return (
        type(grad) in PLAIN
        and facts(grad) is not None
        and facts(grad) == facts(param)
        and (grad.data_ptr() != 0 or grad.numel() == 0)
    )
