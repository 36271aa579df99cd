"""Tensors of other frameworks as numpy sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .files import array_in
from .made import Global, Held, short
from .of_torchao import dequantized, is_of_class

Array = np.ndarray[Any, Any]


def widened(values: Array) -> Array:
    """Returns bf16, which comes as uint16 or as a type of ml_dtypes, in float32, which holds it
    exactly."""
    if values.dtype.name == "bfloat16":
        return values.astype(np.float32)
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


def array_of(tensor: Any, what: str) -> Array:
    """Returns a tensor or a number as an array, bf16 in float32."""
    tensor = array_in(tensor)
    if is_of_class(tensor):
        return dequantized(tensor, what)
    if isinstance(tensor, (Held, Global, str, dict, type(None))):
        raise ValueError(f"{what} is {short(tensor)}, expected a tensor")
    if hasattr(tensor, "full_tensor"):
        raise ValueError(
            f"{what} is a DTensor, of which each rank has a part: give its full_tensor()"
        )
    try:
        return widened(np.asarray(_dense(tensor)))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} is no array for numpy: {error}") from error


def _dense(tensor: Any) -> Any:
    """Returns a tensor in the host's memory, without a gradient, of a type that numpy knows."""
    if not hasattr(tensor, "detach") or not hasattr(tensor, "cpu"):
        return tensor
    tensor = tensor.detach()
    if type(tensor).__module__.startswith("torchao."):
        tensor = tensor.dequantize()
    if hasattr(tensor, "resolve_neg"):
        tensor = tensor.resolve_conj().resolve_neg()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).cpu()


def number_of(value: Any, what: str) -> float:
    """Returns a number, or the only element of a tensor."""
    values = array_of(value, what)
    if values.size != 1 or values.dtype.kind not in "fiub":
        raise ValueError(f"{what} has {values.size} elements of {values.dtype}, expected a number")
    return float(values.reshape(())[()])


def rate_in(state: Mapping[str, Any], key: str) -> dict[str, float]:
    """Returns the learning rate as a setting, if a state has one number under this key."""
    value = state.get(key)
    if value is None or np.size(value) != 1:
        return {}
    return {"lr": number_of(value, key)}
