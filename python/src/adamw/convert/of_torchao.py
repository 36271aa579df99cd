"""Moments that torchao keeps in 8 or 4 bits, out of a file of PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .made import Array, Global, Held, short

#: How PyTorch saves a tensor of a class of its own.
REBUILDS = ("torch._tensor._rebuild_from_type_v2", "torch._utils._rebuild_from_type_v2")


def is_of_class(tensor: Any) -> bool:
    """Returns whether a tensor is of a class of its own."""
    return isinstance(tensor, Held) and getattr(tensor.kind, "name", None) in REBUILDS


def dequantized(tensor: Held, what: str) -> Array:
    """Returns what the codes of torchao stand for: `qmap [256 or 16]`, times the scale of each
    block. Two codes of 4 bits are in a byte, the first in its upper half."""
    _, kind, made_of, parts = tensor.made_of
    name = kind.name if isinstance(kind, Global) else short(kind)
    own = name.rpartition(".")[2]
    if own not in ("OptimState8bit", "OptimState4bit"):
        raise ValueError(f"{what} is a {name}, expected a tensor, or one of torchao in 8 or 4 bits")
    codes, scale, qmap = (
        np.asarray(parts[part]).reshape(-1) for part in ("codes", "scale", "qmap")
    )
    if own == "OptimState4bit":
        codes = np.stack([codes >> 4, codes & 15], -1).reshape(-1)
    if codes.dtype != np.uint8 or qmap.size <= int(codes.max(initial=0)):
        raise ValueError(f"{what} has codes of {codes.dtype} for a map of {qmap.size}")
    if scale.size == 0 or codes.size % scale.size:
        raise ValueError(f"{what} has {scale.size} scales for {codes.size} codes")
    shape = made_of[2]
    if math.prod(shape) != codes.size:
        raise ValueError(f"{what} has {codes.size} codes, expected {shape}")
    values: Array = (qmap[codes].reshape(scale.size, -1) * scale[:, None]).reshape(shape)
    return values
