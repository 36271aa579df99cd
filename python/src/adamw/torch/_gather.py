"""The gradients of a step: which parameters have one, and where it is."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch

from ._handle import Gradients, Handle
from ._member import Member
from ._tensors import plain
from ._walk import is_readable


def is_fast(member: Member, grad: torch.Tensor) -> bool:
    """Returns whether the library can read a gradient where it is, if its neighbours stay alike."""
    return member.local is member.param and is_readable(grad, member.param)


def has_rows(member: Member, grad: torch.Tensor) -> bool:
    """Returns whether a gradient lists whole rows of a parameter that lies row by row."""
    return (
        grad.layout == torch.sparse_coo
        and grad.sparse_dim() == 1
        and member.local is member.param
        and member.local.is_contiguous()
        and grad.dtype in (member.param.dtype, torch.float32)
    )


class Lane:
    """The parameters of one handle that have gradients, until others have one."""

    def __init__(
        self, handle: Handle, pairs: Sequence[tuple[Member, torch.Tensor]], *, zero: bool
    ) -> None:
        self.handle, self._zero = handle, zero
        self._kept: list[torch.Tensor] = []
        fast: list[tuple[Member, torch.Tensor]] = []
        other: list[tuple[Member, torch.Tensor]] = []
        for member, grad in pairs:
            (fast if is_fast(member, grad) else other).append((member, grad))
        #: The members whose gradients the library reads where they are.
        self.fast = [member for member, _ in fast]
        self._slow = [member for member, grad in other if not has_rows(member, grad)]
        self._sparse = [member for member, grad in other if has_rows(member, grad)]
        self.members = [member for member, _ in pairs]
        self._copied = [member for member in self.members if member.is_copied]
        handle.forget_gradients()
        self._gradients = Gradients(handle, [member.number for member in self.fast])

    def find(self, addresses: ctypes.Array[ctypes.c_void_p], first: int) -> None:
        """Says where the addresses of the gradients of the fast members are, from `first` on."""
        self._gradients.find(addresses, first)

    def gather(self, *, moved: bool) -> bool:
        """Notes the gradients of this step, or returns False if they are of other kinds."""
        self._gradients.place(moved=moved)
        if self._slow or self._sparse:
            return self._gather_slowly()
        return True

    def _gather_slowly(self) -> bool:
        """Notes the gradients that have to be looked at one by one, or copied."""
        self._kept.clear()
        if any(member.is_turned() for member in (*self._slow, *self._sparse)):
            return False
        for member in self._slow:
            grad = member.param.grad
            if grad is None or has_rows(member, grad):
                return False
            readable = member.readable(grad)
            self._kept.append(readable)
            self.handle.set_grad(member.number, readable)
        for member in self._sparse:
            grad = member.param.grad
            if grad is None or not has_rows(member, grad):
                return False
            rows, values = grad._indices()[0].contiguous(), grad._values().contiguous()
            self._kept += rows, values
            self.handle.set_sparse_grad(member.number, rows, values)
        for member in self._copied:
            member.local.copy_(plain(member.param))
        return True

    def finish(self) -> None:
        """Puts back what was copied for the step, and drops the copies."""
        for member in self._copied:
            plain(member.param).copy_(member.local)
        for member in self._sparse:
            self.handle.forget_gradient(member.number)
        if self._zero:
            for member in (*self._slow, *self._sparse):
                if member.param.grad is not None:
                    member.param.grad.zero_()
        self._kept.clear()

    def gradients(self) -> list[torch.Tensor]:
        """Returns the gradients of this step, for a norm over several handles."""
        grads = (member.param.grad for member in self.members)
        return [grad for grad in grads if grad is not None]
