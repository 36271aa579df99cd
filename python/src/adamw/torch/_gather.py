"""The gradients of a step: which parameters have one, and where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ._handle import Gradients, Handle
from ._tensors import STEPPED, is_distributed, plain, strides

if TYPE_CHECKING:
    from ._plan import Member

data_ptr = torch.Tensor.data_ptr
PLAIN = (torch.Tensor, torch.nn.Parameter)


def alike(tensors: Sequence[torch.Tensor]) -> Callable[..., bool]:
    """Returns a check that other tensors have the types, devices, shapes and strides of these.

    PyTorch's compiler has such a check in C++. Where it has moved, Python does it more slowly.
    """
    if not tensors:
        return lambda: True
    shapes: Any = [list(tensor.shape) for tensor in tensors]
    steps: Any = [
        [None if size == 1 else stride for stride, size in zip(t.stride(), t.shape, strict=True)]
        for t in tensors
    ]
    try:
        from torch._C._dynamo.guards import TensorGuards

        guards = TensorGuards(*tensors, dynamic_dims_sizes=shapes, dynamic_dims_strides=steps)
        if guards.check(*tensors):
            return guards.check
    except (ImportError, TypeError, RuntimeError, SystemError):
        pass
    return _Alike(tensors)


class _Alike:
    """The check in Python."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self.expected = list(map(_facts, tensors))

    def __call__(self, *tensors: torch.Tensor | None) -> bool:
        return list(map(_facts, tensors)) == self.expected


def _facts(tensor: torch.Tensor | None) -> object:
    """Returns what has to stay for a gradient's description to stay."""
    if type(tensor) not in PLAIN or tensor is None or tensor.layout != torch.strided:
        return None
    marks = tensor.is_conj(), tensor.is_neg()
    return tensor.dtype, tensor.device, tuple(tensor.shape), strides(tensor), marks


def is_fast(member: Member, grad: torch.Tensor) -> bool:
    """Returns whether the library can read a gradient where it is, if its neighbours stay alike."""
    return (
        type(grad) in PLAIN
        and member.local is member.param
        and grad.layout == torch.strided
        and grad.dtype == member.param.dtype
        and grad.device == member.param.device
        and strides(grad) == strides(member.param)
        and not grad.is_neg()
    )


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
        fast = [(member, grad) for member, grad in pairs if is_fast(member, grad)]
        other = [(member, grad) for member, grad in pairs if not is_fast(member, grad)]
        self._fast = [member.param for member, _ in fast]
        self._slow = [member for member, grad in other if not has_rows(member, grad)]
        self._sparse = [member for member, grad in other if has_rows(member, grad)]
        self._alike = alike([*(grad for _, grad in fast), *self._fast])
        self.members = [member for member, _ in pairs]
        self._copied = [member for member in self.members if member.is_copied]
        handle.forget_gradients()
        self._gradients = Gradients(handle, [member.number for member, _ in fast])

    def gather(self) -> bool:
        """Notes the gradients of this step, or returns False if others have one, or other kinds."""
        grads = [param.grad for param in self._fast]
        if not self._alike(*grads, *self._fast):
            return False
        self._gradients.place(list(map(data_ptr, grads)))  # type: ignore[arg-type]
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


def redistributed(grad: Any, param: Any) -> torch.Tensor:
    """Returns a DTensor with the placements of another."""
    same: bool = grad.placements == param.placements
    result: torch.Tensor = grad if same else grad.redistribute(placements=param.placements)
    return result


def readable(param: torch.Tensor, local: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """Returns a gradient in the order and a type that the library reads, copied if need be."""
    if is_distributed(grad):
        grad = redistributed(grad, param)
    if grad.layout != torch.strided:
        grad = grad.to_dense()
    grad = plain(grad.detach().resolve_conj()).resolve_neg()
    wrong_type = grad.dtype not in STEPPED or (
        grad.dtype != local.dtype and (grad.dtype != torch.float32 or local.dtype == torch.float64)
    )
    if wrong_type or strides(grad) != strides(local):
        return torch.empty_like(local).copy_(grad)
    return grad
