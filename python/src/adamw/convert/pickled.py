"""Files of PyTorch (`torch.save`), Paddle (`paddle.save`) and DeepSpeed, read without any of them.

Such files are pickles, which may name any function of Python's to be called. Here nothing is
imported or called but what makes tensors and containers; what a file asks for beyond that is an
error, and no file takes more memory than some times its own size. bf16 comes as float32, which
holds it exactly (from Paddle's files as uint16, which they do not tell from it). Arrays are
read-only where several may share their elements.
"""

from __future__ import annotations

import collections
import functools
import glob
import io
import math
import os
import pickle
import re
import types
import zipfile
from collections.abc import Callable
from typing import IO, Any

import numpy as np

Path = str | os.PathLike[str]

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


class Held(types.SimpleNamespace):
    """An object of a class that is not imported: its attributes, and what it was made of."""

    def __init__(self, *made_of: Any) -> None:
        super().__init__(made_of=made_of)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError(
                f"the state of an object is a {type(state).__name__}, expected a dict"
            )
        self.__dict__.update(state)


def tensor(storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> np.ndarray[Any, Any]:
    """Returns a tensor as PyTorch describes it: a view of a storage."""
    if not (isinstance(storage, np.ndarray) and storage.ndim == 1 and storage.flags.c_contiguous):
        raise pickle.UnpicklingError("a tensor is a view of what is no storage")
    numbers = offset, *shape, *strides
    # Those of numpy's own would wrap around in what follows.
    if any(type(number) is not int or number < 0 for number in numbers) or len(shape) != len(
        strides
    ):
        raise pickle.UnpicklingError(
            f"a tensor has the shape {shape}, the strides {strides} and the offset {offset}"
        )
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    last = sum((n - 1) * stride for n, stride in zip(shape, strides))
    if offset + last >= storage.size or math.prod(shape) > storage.size:
        raise pickle.UnpicklingError(
            f"a tensor of the shape {shape} is larger than its storage of {storage.size} elements"
        )
    strides = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides, writeable=False)


class Array:
    """What numpy's arrays are pickled as."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, data = state
        self.values = (
            np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if is_fortran else "C").copy()
        )


class Dtype:
    """What numpy's types are pickled as."""

    def __init__(self, name: Any, *_: Any) -> None:
        if not re.fullmatch(r"[fiu][1248]|b1", str(name)):
            raise pickle.UnpicklingError(f"the type {name!r}, expected one of numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


def array(kind: Any, *_: Any) -> Array:
    if kind is not Array:
        raise pickle.UnpicklingError("an array of a class of its own")
    return Array()


KNOWN: dict[tuple[str, str], Any] = {
    ("builtins", "tuple"): tuple,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): tensor,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Dtype,
    ("numpy._core.multiarray", "_reconstruct"): array,
    ("numpy.core.multiarray", "_reconstruct"): array,
}


class Reader(pickle._Unpickler):
    """A pickle that can make nothing but what is known; `storage` reads those of PyTorch. The
    faster unpickler, in C, would take 16 bytes times whatever number a file gives to an object."""

    def __init__(self, file: IO[bytes], storage: Callable[..., Any] | None = None) -> None:
        super().__init__(file)
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        if module == "torch" and name in STORAGES:
            return name
        if module.startswith("deepspeed."):
            return Held
        raise pickle.UnpicklingError(
            f"the file asks for {module}.{name}, which is no part of a tensor"
        )

    def persistent_load(self, saved: Any) -> Any:
        if self.storage is None or saved[0] != "storage":
            raise pickle.UnpicklingError(f"the file refers to {saved[0]!r}, expected a storage")
        return self.storage(*saved[1:3])

    def load(self) -> Any:
        try:
            return super().load()
        except pickle.UnpicklingError:
            raise
        except Exception as error:  # whatever Python raises where a file makes no sense
            raise pickle.UnpicklingError(
                f"the file is damaged: {type(error).__name__}: {error}"
            ) from error


def unwrapped(value: Any) -> Any:
    """Returns arrays in the place of what they were read as. Paddle's tensors inside of containers
    are pairs of a name and an array."""
    if isinstance(value, Array):
        return value.values
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Array):
        return value[1].values
    return value


def load_torch(path: Path) -> Any:
    """Returns what `torch.save` has written, with arrays in the place of tensors."""
    with zipfile.ZipFile(path) as file:
        entries = {entry.filename.partition("/")[2]: entry for entry in file.infolist()}
        for entry in entries.values():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(
                    f"{path}: {entry.filename} is compressed, which PyTorch's files are not"
                )
        if "data.pkl" not in entries:
            raise ValueError(f"{path}: there is no data.pkl, which PyTorch's files have")
        if "byteorder" in entries and file.read(entries["byteorder"]) != b"little":
            raise ValueError(f"{path}: the tensors are big-endian")

        @functools.cache
        def storage(kind: str, key: str) -> np.ndarray[Any, Any]:
            data = file.read(entries[f"data/{key}"])
            if STORAGES[kind] is None:
                return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
            return np.frombuffer(data, STORAGES[kind])

        return Reader(io.BytesIO(file.read(entries["data.pkl"])), storage).load()


def load_paddle(path: Path) -> dict[str, Any]:
    """Returns what `paddle.save` has written of an optimizer: a dict of tensors, and of dicts of
    tensors such as `master_weights`."""
    with open(path, "rb") as file:
        saved = Reader(file).load()
    if not isinstance(saved, dict):
        raise ValueError(f"{path}: holds a {type(saved).__name__}, expected a dict")
    return {
        name: {part: unwrapped(item) for part, item in value.items()}
        if isinstance(value, dict)
        else unwrapped(value)
        for name, value in saved.items()
    }


def load_deepspeed(folder: Path) -> list[dict[str, Any]]:
    """Returns what the ranks of DeepSpeed's ZeRO have saved in a folder (`<tag>` below that of
    `save_checkpoint`), in their order, which is not that of the files' names from ten ranks on."""
    ranks = {}
    for path in glob.glob(os.path.join(glob.escape(os.fspath(folder)), "*_optim_states.pt")):
        found = re.fullmatch(
            r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_00_optim_states\.pt", os.path.basename(path)
        )
        if not found:
            raise ValueError(
                f"{path}: expected zero_pp_rank_<rank>_mp_rank_00_optim_states.pt, without model "
                f"parallelism"
            )
        ranks[int(found[1])] = load_torch(path)["optimizer_state_dict"]
    if sorted(ranks) != list(range(len(ranks))) or not ranks:
        raise ValueError(f"{folder}: has the states of the ranks {sorted(ranks)}")
    return [ranks[rank] for rank in sorted(ranks)]
