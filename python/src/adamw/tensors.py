"""Arrays as the library sees them: an address, a shape and an element type.

Whatever numpy, DLPack, `__array_interface__` or the buffer protocol shows is taken as it is. What
the library could not step in place is refused here, with the name, the value and the way out.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np

from . import _abi, _dlpack
from .errors import InvalidArgumentError, TensorTypeError

#: Element types by DLPack's code and bits: their names, and the library's numbers for them.
NAMES = {
    (_abi.CODE_FLOAT, 32): "float32",
    (_abi.CODE_FLOAT, 64): "float64",
    (_abi.CODE_FLOAT, 16): "float16",
    (_abi.CODE_BFLOAT, 16): "bfloat16",
    (_abi.CODE_INT, 16): "int16",
    (_abi.CODE_INT, 32): "int32",
    (_abi.CODE_INT, 64): "int64",
    (_abi.CODE_UINT, 8): "uint8",
}
TYPES = {name: numbers for numbers, name in NAMES.items()}
DTYPES = {
    "float32": _abi.DTYPE_F32,
    "float64": _abi.DTYPE_F64,
    "float16": _abi.DTYPE_F16,
    "bfloat16": _abi.DTYPE_BF16,
    "int16": _abi.DTYPE_I16,
    "uint8": _abi.DTYPE_U8,
}
FLOATS = ("float32", "float64", "float16", "bfloat16")
ROWS = ("int32", "int64")

#: The kinds of devices whose memory is the processor's.
HOSTS = (_abi.DEVICE_CPU, _abi.DEVICE_CUDA_HOST, _abi.DEVICE_ROCM_HOST)


class View(NamedTuple):
    """An array's memory. The owner keeps it where it is."""

    owner: Any
    address: int
    shape: tuple[int, ...]
    #: In elements; a stride that is no multiple of an element is NaN.
    strides: tuple[float, ...]
    dtype: str
    device: tuple[int, int]
    read_only: bool

    @property
    def on_host(self) -> bool:
        """Whether the memory is the processor's."""
        return self.device[0] in HOSTS

    def tensor(self) -> _abi.Tensor:
        """Returns the library's description, which keeps no memory alive."""
        dimensions = len(self.shape)
        code, bits = TYPES[self.dtype]
        return _abi.Tensor(
            self.address,
            _abi.Device(*self.device),
            dimensions,
            _abi.DataType(code, bits, 1),
            (ctypes.c_int64 * dimensions)(*self.shape),
        )


def view(
    array: Any,
    what: str,
    *,
    writable: bool,
    dtypes: tuple[str, ...] = FLOATS,
    stream: int | None = None,
) -> View:
    """Returns the view of an array that may be used as `what`, such as `param "w": grad`."""
    seen = _seen(array, what, stream)
    if seen.dtype not in dtypes:
        expected = ", ".join(dtypes)
        raise TensorTypeError(
            f"{what} has elements of {seen.dtype}, expected one of {expected}: convert it by "
            f"astype{' (or view its bits as ml_dtypes.bfloat16)' * (seen.dtype == 'uint16')}"
        )
    if writable and seen.read_only:
        raise InvalidArgumentError(
            f"{what} is read-only, but the optimizer writes it: give a writable array, such as a "
            f"copy of this one"
        )
    _check_contiguous(seen, what)
    return seen


def _check_contiguous(seen: View, what: str) -> None:
    strides = _row_major(seen.shape)
    axes = [axis for axis, size in enumerate(seen.shape) if size > 1]
    if 0 in seen.shape or all(seen.strides[axis] == strides[axis] for axis in axes):
        return
    if any(seen.strides[axis] == 0 for axis in axes):
        raise InvalidArgumentError(
            f"{what} repeats its elements (shape {seen.shape}, strides {seen.strides}), expected "
            f"a place in memory for each: give a copy, not what a broadcast or expand returns"
        )
    raise InvalidArgumentError(
        f"{what} has gaps or another order of axes (shape {seen.shape}, strides {seen.strides} "
        f"elements, expected {strides}): give the whole array that it is a view of, or train a "
        f"copy by numpy.ascontiguousarray"
    )


def _seen(array: Any, what: str, stream: int | None) -> View:
    if isinstance(array, np.ndarray):
        return _of_numpy(array, array)
    if hasattr(array, "__dlpack__"):
        return _of_dlpack(array, what, stream)
    if not isinstance(array, np.generic):  # whose interfaces are those of copies
        if hasattr(array, "__array_interface__"):
            return _of_numpy(np.asarray(array), array)
        try:
            return _of_numpy(np.asarray(memoryview(array)), array)
        except TypeError:
            pass
    raise TensorTypeError(
        f"{what} is a {type(array).__name__}, expected an array whose memory can be shared, such "
        f"as one of numpy, torch or cupy"
    )


def _of_numpy(array: np.ndarray[Any, Any], owner: Any) -> View:
    dtype = array.dtype
    size = dtype.itemsize or 1
    return View(
        (array, owner),
        array.__array_interface__["data"][0],
        array.shape,
        tuple(s // size if s % size == 0 else float("nan") for s in array.strides),
        dtype.name if dtype.isnative else f"{dtype.name} in another byte order",
        (_abi.DEVICE_CPU, 0),
        not array.flags.writeable,
    )


def _of_dlpack(array: Any, what: str, stream: int | None) -> View:
    if getattr(array, "requires_grad", False):
        array = array.detach()  # the same memory, which torch exports only without its history
    try:
        capsule = _dlpack.export(array, stream)
        tensor, flags = _dlpack.opened(capsule, array)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{what} cannot be shared by DLPack: {error}") from error
    shape = tuple(tensor.shape[: tensor.ndim])
    code, bits, lanes = tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes
    name = NAMES.get((code, bits), f"code {code} with {bits} bits")
    return View(
        (array, capsule),
        (tensor.data or 0) + tensor.byte_offset,
        shape,
        tuple(tensor.strides[: tensor.ndim]) if tensor.strides else _row_major(shape),
        name if lanes == 1 else f"{lanes} lanes of {name}",
        (tensor.device.device_type, tensor.device.device_id),
        bool(flags & (_dlpack.READ_ONLY | _dlpack.IS_COPIED)),
    )


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * size)
    return tuple(reversed(strides))[: len(shape)]
