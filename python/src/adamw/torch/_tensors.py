"""PyTorch's tensors as the library takes them."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from .. import _abi
from ..errors import UnsupportedError

#: The element types of parameters, gradients and state, as DLPack names them.
DTYPES: dict[torch.dtype, tuple[int, int]] = {
    torch.float32: (_abi.CODE_FLOAT, 32),
    torch.float64: (_abi.CODE_FLOAT, 64),
    torch.float16: (_abi.CODE_FLOAT, 16),
    torch.bfloat16: (_abi.CODE_BFLOAT, 16),
    torch.int16: (_abi.CODE_INT, 16),
    torch.int32: (_abi.CODE_INT, 32),
    torch.int64: (_abi.CODE_INT, 64),
    torch.uint8: (_abi.CODE_UINT, 8),
}
#: The element types that a parameter can have; a complex one is pairs of them.
STEPPED = {torch.float32, torch.float64, torch.float16, torch.bfloat16}
DEVICES = {"cpu": _abi.DEVICE_CPU, "cuda": _abi.DEVICE_CUDA}


def is_distributed(tensor: torch.Tensor) -> bool:
    """Returns whether this is a DTensor, of which this process has a part."""
    return type(tensor) not in (torch.Tensor, torch.nn.Parameter) and hasattr(tensor, "to_local")


def to_local(tensor: Any) -> torch.Tensor:
    """Returns this process's part of a DTensor."""
    local: torch.Tensor = tensor.to_local()
    return local


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the memory that the library works on: the local part of a DTensor, pairs of reals."""
    if is_distributed(tensor):
        tensor = to_local(tensor)
    return torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor


def zeros_like_cut(
    param: Any, shape: tuple[int, ...], dtype: torch.dtype
) -> torch.Tensor:
    """Returns zeros, cut over processes as a DTensor is."""
    from torch.distributed.tensor import zeros

    made: torch.Tensor = zeros(
        shape, dtype=dtype, device_mesh=param.device_mesh, placements=param.placements
    )
    return made


def strides(tensor: torch.Tensor) -> tuple[int, ...]:
    """Returns the strides that matter: those of dimensions with more than one element."""
    return tuple(s for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n != 1)


def has_gaps(tensor: torch.Tensor) -> bool:
    """Returns whether the elements are no permutation of a run of memory without gaps."""
    end = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != end:
                return tensor.numel() > 0
            end *= size
    return False


def device_of(tensor: torch.Tensor) -> tuple[int, int]:
    """Returns the device as DLPack numbers it."""
    kind = DEVICES.get(tensor.device.type)
    if kind is None:
        raise UnsupportedError(
            f"a parameter is on device {tensor.device}: parameters can be on the CPU or on CUDA"
        )
    return kind, tensor.device.index or 0


def described(tensor: torch.Tensor, into: _abi.Tensor | None = None) -> _abi.Tensor:
    """Returns a tensor's description. It borrows the memory and does not keep it alive.

    Elements that lie in another order than row-major are described as a run of memory.
    """
    out = _abi.Tensor() if into is None else into
    shape = tuple(tensor.shape) if tensor.is_contiguous() else (tensor.numel(),)
    out.data = tensor.data_ptr() or None
    out.device.device_type, out.device.device_id = device_of(tensor)
    out.dtype.code, out.dtype.bits = DTYPES[tensor.dtype]
    out.dtype.lanes = 1
    out.ndim = len(shape)
    out.shape = (ctypes.c_int64 * len(shape))(*shape)
    return out
