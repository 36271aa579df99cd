"""A parameter with its state, as the library steps it."""

from __future__ import annotations

from typing import Any

import torch

from ._handle import Handle
from ._state import borrowed
from ._tensors import STEPPED, has_gaps, is_distributed, plain, strides


def _layout(tensor: torch.Tensor) -> tuple[object, ...]:
    """Returns what has to stay for memory to have the same meaning."""
    return tensor.dtype, tuple(tensor.shape), strides(tensor)


class Member:
    """A parameter with its state, in a handle."""

    def __init__(self, index: int, group: int, param: torch.Tensor, name: str) -> None:
        self.index, self.group, self.param, self.name = index, group, param, name
        seen = plain(param)
        self.is_copied = has_gaps(seen)
        #: What the library steps: the parameter, its local part, or a copy without gaps.
        self.local = seen.detach().contiguous() if self.is_copied else seen
        self.layout = _layout(self.local)
        self.parts: dict[str, torch.Tensor] = {}
        self.block = 0  #: the numbers that share a scale, where moments are codes
        self.handle: Handle
        self.number = -1

    def readable(self, grad: torch.Tensor) -> torch.Tensor:
        """Returns its gradient as the library reads it: a copy, if need be."""
        if is_distributed(grad):
            grad = _redistributed(grad, self.param)
        if grad.layout != torch.strided:
            grad = grad.to_dense()
        grad = plain(grad.detach().resolve_conj()).resolve_neg()
        wrong_type = grad.dtype not in STEPPED or (
            grad.dtype != self.local.dtype
            and (grad.dtype != torch.float32 or self.local.dtype == torch.float64)
        )
        if wrong_type or strides(grad) != strides(self.local) or grad._is_zerotensor():
            return torch.empty_like(self.local).copy_(grad)
        return grad

    def is_turned(self) -> bool:
        """Returns whether the parameter has another type, shape or order than when it joined."""
        return not self.is_copied and _layout(plain(self.param)) != self.layout

    def keeps_remainder(self) -> bool:
        """Returns whether there is more of the parameter than its 16 bits."""
        return "master" in self.parts or "remainder" in self.parts

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns the memory that the library borrows."""
        return {"param": self.local, **borrowed(self.parts, self.local, self.block)}


def _redistributed(grad: Any, param: Any) -> torch.Tensor:
    """Returns a DTensor with the placements of another."""
    same: bool = grad.placements == param.placements
    result: torch.Tensor = grad if same else grad.redistribute(placements=param.placements)
    return result
