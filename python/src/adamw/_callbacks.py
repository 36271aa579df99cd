"""Python functions as callbacks of the library. What they raise comes out of the call that ran
them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, BinaryIO

from . import _abi
from ._library import keep
from .statistics import ParamInfo, param_info


def decay_filter(function: Callable[[str], bool]) -> Any:
    """Returns an `adamw_decay_filter` that asks a function of the parameter's name."""

    def called(name: bytes, _: int | None) -> int:
        try:
            return bool(function(name.decode()))
        except BaseException as error:
            return -keep(error)

    return _abi.DecayFilter(called)


def lr_ratio(function: Callable[[ParamInfo], float]) -> Any:
    """Returns an `adamw_lr_ratio` that asks a function of the parameter's description."""

    def called(param: Any, out_ratio: Any, _: int | None) -> int:
        try:
            out_ratio[0] = function(param_info(param.contents))
            return 0
        except BaseException as error:
            return keep(error)

    return _abi.LrRatio(called)


def all_reduce(function: Callable[[memoryview[float]], object]) -> Any:
    """Returns an `adamw_all_reduce` that gives a function the numbers as a buffer of doubles."""

    def called(buffer: Any, count: int, _: int | None) -> int:
        try:
            numbers = (ctypes.c_double * count).from_address(ctypes.addressof(buffer.contents))
            function(memoryview(numbers).cast("B").cast("d"))
            return 0
        except BaseException as error:
            return keep(error)

    return _abi.AllReduce(called)


def next_piece(function: Callable[[int, int], object]) -> Any:
    """Returns an `adamw_next_piece` that tells a function what is done and what comes next."""

    def called(done: int, until: int, _: int | None) -> int:
        try:
            function(done, until)
            return 0
        except BaseException as error:
            return keep(error)

    return _abi.NextPiece(called)


def schedule_function(function: Callable[[int], float]) -> Any:
    """Returns an `adamw_schedule_function` that asks a function of the index."""

    def called(index: int, out_value: Any, _: int | None) -> int:
        try:
            out_value[0] = function(index)
            return 0
        except BaseException as error:
            return keep(error)

    return _abi.ScheduleFunction(called)


def closure(function: Callable[[], Any]) -> Any:
    """Returns an `adamw_closure` of a function that returns the loss."""

    def called(out_loss: Any, _: int | None) -> int:
        try:
            out_loss[0] = float(function())
            return 0
        except BaseException as error:
            return keep(error)

    return _abi.Closure(called)


def progress(function: Callable[[int, int], object]) -> Any:
    """Returns an `adamw_progress` that tells a function the bytes done and their total."""

    def called(done: int, total: int, _: int | None) -> int:
        try:
            function(done, total)
            return 0
        except BaseException as error:
            return keep(error)

    return _abi.Progress(called)


def write(file: BinaryIO) -> Any:
    """Returns an `adamw_write` to a file of Python's."""

    def called(data: int, num_bytes: int, _: int | None) -> int:
        try:
            piece = memoryview((ctypes.c_char * num_bytes).from_address(data)).cast("B")
            while piece:
                piece = piece[int(file.write(piece)) :]
            return 0
        except BaseException as error:
            return keep(error)

    return _abi.Write(called)


def rename(function: Callable[[str], str]) -> Any:
    """Returns an `adamw_rename` that asks a function for the name in the checkpoint."""
    names: list[bytes] = []  # each must live until the next call

    def called(name: bytes, out_name: Any, _: int | None) -> int:
        try:
            names[:] = [function(name.decode()).encode()]
            out_name[0] = names[0]
            return 0
        except BaseException as error:
            return keep(error)

    return _abi.Rename(called)


def visit(function: Callable[[Any], object]) -> Any:
    """Returns an `adamw_visit` that gives each entry to a function."""

    def called(entry: Any, _: int | None) -> int:
        try:
            function(entry.contents)
            return 0
        except BaseException as error:
            return keep(error)

    return _abi.Visit(called)
