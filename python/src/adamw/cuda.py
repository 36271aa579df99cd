"""What only parameters on a CUDA device need: the stream, scalars on the device, captures."""

from __future__ import annotations

import ctypes
from typing import Any

from . import _abi
from ._base import FLOAT, Base
from ._library import check, library
from .settings import sized
from .statistics import OffloadInfo, offload_info


class Cuda(Base):
    """Sets the stream of an optimizer's parameters on a CUDA device."""

    def set_stream(self, stream: int | None) -> None:
        """Sets the stream on which the work is queued: its address as a number, such as
        `torch.cuda.current_stream().cuda_stream`. None: the legacy default stream."""
        self._handle.call(library.adamw_set_stream, stream)
        self._stream = stream

    def pinned_bytes(self) -> int:
        """Returns the bytes of page-locked memory that the optimizer has taken."""
        num_bytes = ctypes.c_uint64()
        self._handle.call(library.adamw_get_pinned_bytes, num_bytes)
        return num_bytes.value

    def set_offload_timing(self, enabled: bool = True) -> None:
        """Has steps take the times of the copies of offloaded parameters, or not."""
        self._handle.call(library.adamw_set_offload_timing, int(enabled))

    def offload_info(self) -> OffloadInfo:
        """Returns what the last step has copied for offloaded parameters. Waits for the device."""
        raw = _abi.OffloadInfo()
        self._handle.call(library.adamw_get_offload_info, raw, ctypes.sizeof(raw))
        return offload_info(raw)

    def set_device_inputs(
        self, *, lr: Any = None, grad_scale: Any = None, found_inf: Any = None
    ) -> None:
        """Makes steps read these scalars, arrays of one float32, from the device's memory."""
        arrays = {"lr": lr, "grad_scale": grad_scale, "found_inf": found_inf}
        given = {name: array for name, array in arrays.items() if array is not None}
        seen = {name: self._scalar(array, name, False) for name, array in given.items()}
        pointers = {name: ctypes.cast(one.address, FLOAT) for name, one in seen.items()}
        raw = sized(_abi.DeviceInputs, **pointers)
        with self._handle.used() as core:
            check(library.adamw_set_device_inputs(core.number, raw if given else None))
            self._handle.keep(("device", "inputs"), seen)

    def set_device_scale(self, out_scale: Any) -> None:
        """Has the device write the loss scale to an array of one float32 in its memory, whenever it
        changes. None: to none."""
        seen = None if out_scale is None else self._scalar(out_scale, "out_scale", True)
        pointer = None if seen is None else ctypes.cast(seen.address, FLOAT)
        with self._handle.used() as core:
            check(library.adamw_set_device_scale(core.number, pointer))
            self._handle.keep(("device", "scale"), seen)

    def prepare(self) -> None:
        """Prepares the next step for its capture into a graph."""
        self._handle.call(library.adamw_prepare)
