"""What a pickle of tensors may make: arrays that share its memory, and what stands for all else."""

from __future__ import annotations

import math
import pickle
import re
import reprlib
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

STORAGES: dict[str, np.dtype[Any] | None] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": None,  # no type of numpy's
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("<i1"),
    "ByteStorage": np.dtype("<u1"),
    "BoolStorage": np.dtype("?"),
}
#: numpy has no more.
MOST_DIMENSIONS = 64

_short = reprlib.Repr()
_short.maxlevel = 2


def short(value: Any) -> str:
    """Returns a value as a text that stays short whatever a file has made of it."""
    return _short.repr(value)


class Global:
    """A class or function that a file names."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


class Held:
    """An object of a class that is not imported: what it was made of, and its attributes."""

    __slots__ = "kind", "made_of", "state"

    def __init__(self, kind: Any, made_of: Any) -> None:
        self.kind, self.made_of, self.state = kind, made_of, None

    def __getattr__(self, name: str) -> Any:
        # Names with an underscore would tell numpy where an array is.
        if isinstance(self.state, dict) and name in self.state and not name.startswith("_"):
            return self.state[name]
        raise AttributeError(f"a {self.kind} has no {name}")

    def __repr__(self) -> str:
        return f"<a {self.kind}>"


class Packed:
    """What numpy's arrays are pickled as."""

    __slots__ = ("values",)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, data = state
        values = np.frombuffer(data, dtype.dtype)
        self.values = values.reshape(shape, order="F" if is_fortran else "C")


class Dtype:
    """What numpy's types are pickled as."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any, *_: Any) -> None:
        if not (isinstance(name, str) and re.fullmatch(r"[fiu][1248]|b1", name)):
            raise pickle.UnpicklingError(f"the type {short(name)}, expected one of numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


def packed(kind: Any, *_: Any) -> Packed:
    if kind is not Packed:
        raise pickle.UnpicklingError("an array of a class of its own")
    return Packed()


def from_buffer(data: Any, kind: Dtype, shape: Any, order: str) -> Array:
    values = np.frombuffer(bytes(data) if isinstance(data, bytearray) else data, kind.dtype)
    return values.reshape(shape, order="F" if order == "F" else "C")


def scalar(kind: Dtype, data: bytes) -> Any:
    return np.frombuffer(data, kind.dtype)[0]


def tensor(
    storage: Any, offset: int, shape: Any, strides: Any, _: Any = None, __: Any = None, *rest: Any
) -> Array | Held:
    """Returns a tensor as PyTorch describes it: a view of a storage."""
    if isinstance(storage, Held):  # of a type that is not known
        return storage
    if not (isinstance(storage, np.ndarray) and storage.ndim == 1 and storage.flags.c_contiguous):
        raise pickle.UnpicklingError("a tensor is a view of what is no storage")
    if rest and rest[0]:
        raise pickle.UnpicklingError(
            f"a tensor is saved with {short(rest[0])}, to be negated or conjugated when it is "
            f"read: save its resolve_neg() or resolve_conj()"
        )
    numbers = (offset, *shape, *strides) if len(shape) <= MOST_DIMENSIONS else (None,)
    # Those of numpy's own would wrap around in what follows.
    known = all(type(number) is int and 0 <= number < 1 << 63 for number in numbers)
    if not known or len(shape) != len(strides):
        raise pickle.UnpicklingError(
            f"a tensor has the shape {short(shape)}, the strides {short(strides)} and the offset "
            f"{short(offset)}"
        )
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    last = sum((n - 1) * stride for n, stride in zip(shape, strides))
    if offset + last >= storage.size or math.prod(shape) > storage.size:
        raise pickle.UnpicklingError(
            f"a tensor of the shape {shape} is larger than its storage of {storage.size} elements"
        )
    start, strides = offset * storage.itemsize, [n * storage.itemsize for n in strides]
    view: Array = np.ndarray(shape, storage.dtype, storage, start, strides)
    view.flags.writeable = False
    return view


def same(value: Any) -> tuple[Any, ...]:
    if type(value) is not tuple:
        raise pickle.UnpicklingError(f"a tuple of a {type(value).__name__}, expected a tuple")
    return value


def ordered(*made_of: Any) -> dict[Any, Any]:
    if made_of:
        raise pickle.UnpicklingError("an OrderedDict of entries, expected them behind it")
    return {}


def with_default(*_: Any) -> dict[Any, Any]:
    return {}


def parameter(data: Any, *_: Any) -> Any:
    return data


#: What is called. Nothing of it copies what it is given.
KNOWN: dict[str, Any] = {
    "builtins.tuple": same,
    "collections.OrderedDict": ordered,
    "collections.defaultdict": with_default,
    "torch.Size": same,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_parameter": parameter,
    "numpy.ndarray": Packed,
    "numpy.dtype": Dtype,
    "numpy._core.numeric._frombuffer": from_buffer,
    **{
        f"numpy.{core}.multiarray.{name}": function
        for core in ("_core", "core")
        for name, function in (("_reconstruct", packed), ("scalar", scalar))
    },
}
