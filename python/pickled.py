"""Files of PyTorch (`torch.save`), Paddle (`paddle.save`) and DeepSpeed, read without any of them.

Such files are pickles, which may name any function of Python's to be called. Here nothing is imported or called but what makes
tensors and containers; what a file asks for beyond that is an error. bf16 comes as float32, which holds it exactly.
"""

import collections
import io
import math
import pickle
import re
import types
import zipfile

import numpy as np

STORAGES = {
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

    def __init__(self, *made_of):
        super().__init__(made_of=made_of)

    def __setstate__(self, state):
        if not isinstance(state, dict):
            raise pickle.UnpicklingError(f"the state of an object is a {type(state).__name__}, expected a dict")
        self.__dict__.update(state)


def tensor(storage, offset, shape, strides, *_):
    """As PyTorch describes it: a view of a storage."""
    last = sum((n - 1) * stride for n, stride in zip(shape, strides))
    if min((offset, *shape, *strides), default=0) < 0 or len(shape) != len(strides):
        raise pickle.UnpicklingError(f"a tensor has the shape {shape}, the strides {strides} and the offset {offset}")
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    if offset + last >= storage.size or math.prod(shape) > storage.size:
        raise pickle.UnpicklingError(f"a tensor of the shape {shape} is larger than its storage of {storage.size} elements")
    strides = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides, writeable=False).copy()


class Array:
    """What numpy's arrays are pickled as."""

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, data = state
        self.values = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if is_fortran else "C").copy()


class Dtype:
    """What numpy's types are pickled as."""

    def __init__(self, name, *_):
        if not re.fullmatch(r"[fiu][1248]|b1", str(name)):
            raise pickle.UnpicklingError(f"the type {name!r}, expected one of numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state):
        self.dtype = self.dtype.newbyteorder(state[1])


def array(kind, *_):
    if kind is not Array:
        raise pickle.UnpicklingError("an array of a class of its own")
    return Array()


KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): tensor,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Dtype,
    ("numpy._core.multiarray", "_reconstruct"): array,
    ("numpy.core.multiarray", "_reconstruct"): array,
}


class Reader(pickle.Unpickler):
    """A pickle that can make nothing but what is known; `storage` reads those of PyTorch."""

    def __init__(self, file, storage=None):
        super().__init__(file)
        self.storage = storage

    def find_class(self, module, name):
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        if module == "torch" and name in STORAGES:
            return name
        if module.startswith("deepspeed."):
            return Held
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}, which is no part of a tensor")

    def persistent_load(self, saved):
        if self.storage is None or saved[0] != "storage":
            raise pickle.UnpicklingError(f"the file refers to {saved[0]!r}, expected a storage")
        return self.storage(*saved[1:3])


def unwrapped(value):
    """With numpy's arrays in the place of what they were read as."""
    if isinstance(value, Array):
        return value.values
    if isinstance(value, dict):
        return {key: unwrapped(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(unwrapped(item) for item in value)
    return value


def load_torch(path):
    """What `torch.save` has written, with arrays in the place of tensors."""
    with zipfile.ZipFile(path) as file:
        entries = {entry.filename.partition("/")[2]: entry for entry in file.infolist()}
        for entry in entries.values():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{path}: {entry.filename} is compressed, which PyTorch's files are not")
        if "data.pkl" not in entries:
            raise ValueError(f"{path}: there is no data.pkl, which PyTorch's files have")
        if "byteorder" in entries and file.read(entries["byteorder"]) != b"little":
            raise ValueError(f"{path}: the tensors are big-endian")

        def storage(kind, key):
            data = file.read(entries[f"data/{key}"])
            if STORAGES[kind] is None:
                return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
            return np.frombuffer(data, STORAGES[kind])

        return Reader(io.BytesIO(file.read(entries["data.pkl"])), storage).load()


def load_paddle(path):
    """What `paddle.save` has written."""
    with open(path, "rb") as file:
        return unwrapped(Reader(file).load())
