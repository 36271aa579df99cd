"""Parameters of which several processes have parts: DTensors, as FSDP2 makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from ._tensors import is_distributed


def is_in_rows(param: Any) -> bool:
    """Returns whether each process has some rows of a DTensor, one after the other."""
    if not is_distributed(param) or param.device.type != "cpu":
        return False
    mesh, placements = param.device_mesh, param.placements
    return mesh.ndim == 1 and bool(placements[0].is_shard(0)) and param.to_local().is_contiguous()


def group_of(params: Sequence[Any]) -> Any:
    """Returns the group of the processes that have the rows of all parameters, or None if some
    parameter is cut in another way."""
    if not params or not all(map(is_in_rows, params)):
        return None
    mesh = params[0].device_mesh
    return mesh.get_group() if all(param.device_mesh == mesh for param in params) else None


def placed(param: Any) -> tuple[int, int]:
    """Returns the element of a parameter with which the part of this process begins, and how many
    there are in all; 0 and 0 of a parameter that is no DTensor."""
    if not is_in_rows(param):
        return 0, param.numel() if is_distributed(param) else 0
    mesh, rows, total = param.device_mesh, int(param.shape[0]), int(param.numel())
    first = -(-rows // mesh.size()) * mesh.get_local_rank()  # as torch.chunk cuts
    return min(first, rows) * (total // max(rows, 1)), total


def in_full(norm: Any) -> Any:
    """Returns a norm of all processes that a DTensor may hold in parts."""
    return norm.full_tensor() if is_distributed(norm) else norm


def adds_up(group: Any) -> Callable[[memoryview[float]], object]:
    """Returns a function that adds numbers up over the processes of a group."""
    return lambda buffer: dist.all_reduce(
        torch.frombuffer(buffer, dtype=torch.float64), group=group
    )
