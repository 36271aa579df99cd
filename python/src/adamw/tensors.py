"""Arrays as the library sees them: an address, a shape and an element type.

Whatever numpy, DLPack, `__array_interface__` or the buffer protocol shows is taken as it is. What
the library could not step in place is refused here, with the name, the value and the way out.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
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
#: numpy's types, by which they are found faster than by their names.
NUMPY = {np.dtype(name): name for name in TYPES if name != "bfloat16"}
FLOATS = ("float32", "float64", "float16", "bfloat16")
ROWS = ("int32", "int64")

HOST = (_abi.DEVICE_CPU, 0)
#: The kinds of devices whose memory is the processor's.
HOSTS = (_abi.DEVICE_CPU, _abi.DEVICE_CUDA_HOST, _abi.DEVICE_ROCM_HOST)


class View(NamedTuple):
    """An array's memory. The owner keeps it where it is."""

    owner: Any
    address: int
    shape: tuple[int, ...]
    #: In elements, or NaN if it is no multiple of one; those of axes of one element are 1. None:
    #: the memory is row-major.
    strides: tuple[float, ...] | None
    dtype: str
    device: tuple[int, int]
    read_only: bool

    @property
    def on_host(self) -> bool:
        """Whether the memory is the processor's."""
        return self.device[0] in HOSTS

    def tensor(self) -> _abi.Tensor:
        """Returns the library's description, which keeps no memory alive."""
        sizes = ctypes.c_int64 * len(self.shape)
        code, bits = TYPES[self.dtype]
        return _abi.Tensor(
            self.address,
            _abi.Device(*self.device),
            len(self.shape),
            _abi.DataType(code, bits, 1),
            sizes(*self.shape),
            None if self.strides is None else sizes(*map(int, self.strides)),
        )


#: `adamw_tensor`, by which numpy writes many at once.
TENSOR = np.dtype(
    [
        ("data", np.uint64),
        ("device", np.int32, 2),
        ("ndim", np.int32),
        ("code", np.uint8),
        ("bits", np.uint8),
        ("lanes", np.uint16),
        ("shape", np.uint64),
        ("strides", np.uint64),
        ("byte_offset", np.uint64),
    ]
)


class Tensors:
    """The library's description of many views, each as the elements that are in memory."""

    def __init__(self, views: Sequence[View]) -> None:
        self.views, count = views, len(views)
        places = np.arange(count, dtype=np.uint64)
        self._lengths = np.array([math.prod(view.shape) for view in views], np.int64)
        self._tensors = np.zeros(count, TENSOR)
        self._tensors["data"] = [view.address for view in views]
        self._tensors["device"] = [view.device for view in views]
        self._tensors["code"] = [TYPES[view.dtype][0] for view in views]
        self._tensors["bits"] = [TYPES[view.dtype][1] for view in views]
        self._tensors["ndim"] = self._tensors["lanes"] = 1
        self._tensors["shape"] = address_of(self._lengths) + 8 * places
        self._pointers = address_of(self._tensors) + TENSOR.itemsize * places

    def arguments(self, numbers: Sequence[int]) -> tuple[Any, Any, int]:
        """Returns what functions of the library take of these parameters: their numbers, pointers
        to the tensors, which live as long as this object, and their number."""
        count = len(numbers)
        pointers = ctypes.cast(self._pointers.ctypes.data, TENSOR_POINTERS)
        return (ctypes.c_uint32 * count)(*numbers), pointers, count


TENSOR_POINTERS = ctypes.POINTER(ctypes.POINTER(_abi.Tensor))


def address_of(array: np.ndarray[Any, Any]) -> np.uint64:
    """Returns the address of an array's first element."""
    return np.uint64(array.ctypes.data)


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
    return seen._replace(strides=_without_gaps(seen, what))


def _without_gaps(seen: View, what: str) -> tuple[float, ...] | None:
    """Returns the strides of an array whose elements fill its memory."""
    shape, strides = seen.shape, seen.strides
    if strides is None or 0 in shape:
        return None
    # From the innermost axis out.
    inner = sorted((stride, axis) for axis, stride in enumerate(strides) if shape[axis] > 1)
    if any(stride == 0 for stride, _ in inner):
        raise InvalidArgumentError(
            f"{what} repeats its elements (shape {shape}, strides {strides}), expected a place in "
            f"memory for each: give a copy, not what a broadcast or expand returns"
        )
    expected = 1
    for stride, axis in inner:
        if stride != expected:
            raise InvalidArgumentError(
                f"{what} has gaps, or runs backwards (shape {shape}, strides {strides} elements): "
                f"give the whole array that it is a view of, or train a copy by "
                f"numpy.ascontiguousarray"
            )
        expected *= shape[axis]
    axes = [axis for _, axis in reversed(inner)]
    if axes == sorted(axes):
        return None
    return tuple(stride if size > 1 else 1 for stride, size in zip(strides, shape))


def as_in_memory(
    array: np.ndarray[Any, Any], strides: tuple[float, ...]
) -> np.ndarray[Any, Any]:
    """Returns an array with its axes in the order that these strides have in memory."""
    return array.transpose(sorted(range(len(strides)), key=lambda axis: -strides[axis]))


def order_of(shape: tuple[int, ...], strides: tuple[float, ...]) -> str:
    """Returns the order that axes have in memory, as checkpoints say it."""
    axes = [axis for axis, size in enumerate(shape) if size > 1]
    lying = sorted(axes, key=lambda axis: -strides[axis])
    return ",".join(str(axes.index(axis)) for axis in lying)


def _seen(array: Any, what: str, stream: int | None) -> View:
    if isinstance(array, np.ndarray):
        return _of_numpy(array, array)
    if not isinstance(array, np.generic):  # whose interfaces are those of copies
        if hasattr(array, "__dlpack__"):
            return _of_dlpack(array, what, stream)
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
    dtype, flags, strides = array.dtype, array.flags, None
    name = NUMPY.get(dtype)
    if name is None:
        name = dtype.name if dtype.isnative else f"{dtype.name} in another byte order"
    if not flags.c_contiguous:
        size = dtype.itemsize
        strides = tuple(s // size if s % size == 0 else float("nan") for s in array.strides)
    return View(
        (array, owner),
        array.__array_interface__["data"][0],
        array.shape,
        strides,
        name,
        HOST,
        not flags.writeable,
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
        tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None,
        name if lanes == 1 else f"{lanes} lanes of {name}",
        (tensor.device.device_type, tensor.device.device_id),
        bool(flags & (_dlpack.READ_ONLY | _dlpack.IS_COPIED)),
    )
