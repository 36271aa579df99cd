"""Parameters of which several processes have parts: DTensors, as FSDP2 makes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from ..errors import UnsupportedError
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
        return 0, math.prod(shape_of_rows(param)) if is_distributed(param) else 0
    rows, width = shape_of_rows(param)
    first = rows_of_one(param) * param.device_mesh.get_local_rank()
    return (first * width if first < rows else 0), rows * width


def shape_of_rows(param: Any) -> tuple[int, int]:
    """Returns the number of rows of a parameter, and of the numbers in each."""
    rows, reals = int(param.shape[0]) if param.ndim else 1, 2 if param.is_complex() else 1
    return rows, reals * int(param.numel()) // max(rows, 1)


def rows_of_one(param: Any) -> int:
    """Returns the most rows that a process has, as torch.chunk cuts them."""
    return int(-(-param.shape[0] // param.device_mesh.size()))


def groups_of_rows(param: Any, block: int, name: str) -> tuple[int, int]:
    """Returns how many groups of rows a DTensor has, each as short as whole blocks can be, and the
    numbers in a group. Cut by groups, state is cut where the parameter is."""
    rows, width = shape_of_rows(param)
    if not is_in_rows(param):
        raise UnsupportedError(
            f"parameter {name}: moments in codes are cut by rows on the CPU, and its DTensor is "
            f'{param.placements} on {param.device_mesh}: use moments=None or "bf16"'
        )
    of_one, of_group = rows_of_one(param), block // math.gcd(block, width)
    if of_one < rows and of_one % of_group:
        raise UnsupportedError(
            f"parameter {name}: its {rows} rows of {width} are cut at element {of_one * width}, "
            f"which is no multiple of {block}: its moments are codes in blocks of {block}, so have "
            f'each process take a multiple of {of_group} rows, or use moments=None or "bf16"'
        )
    return -(-rows // of_group), of_group * width


def in_full(norm: Any) -> Any:
    """Returns a norm of all processes that a DTensor may hold in parts."""
    return norm.full_tensor() if is_distributed(norm) else norm


def adds_up(group: Any) -> Callable[[memoryview[float]], object]:
    """Returns a function that adds numbers up over the processes of a group."""
    return lambda buffer: dist.all_reduce(
        torch.frombuffer(buffer, dtype=torch.float64), group=group
    )
