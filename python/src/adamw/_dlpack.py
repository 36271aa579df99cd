"""Memory that other array libraries export by DLPack: torch, cupy, jax and all with `__dlpack__`.

A capsule that nobody consumes frees its export when it is collected, so that whoever keeps the
capsule keeps the memory.
"""

from __future__ import annotations

import ctypes
from typing import Any

from . import _abi

#: The newest version of DLPack that is asked for, and its flags.
VERSION = (1, 3)
READ_ONLY, IS_COPIED = 1, 2

#: Libraries whose arrays never change, although their capsules cannot say so.
IMMUTABLE = frozenset({"jax", "jaxlib"})

CUDA_LEGACY_STREAM = 1


class Version(ctypes.Structure):
    """`DLPackVersion`"""

    __slots__ = ()
    major: int
    minor: int
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32)]


class Versioned(ctypes.Structure):
    """`DLManagedTensorVersioned`. The older `DLManagedTensor` begins with the tensor."""

    __slots__ = ()
    version: Version
    flags: int
    tensor: _abi.Tensor
    _fields_ = [
        ("version", Version),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _abi.Tensor),
    ]


_is_capsule = ctypes.pythonapi.PyCapsule_IsValid
_is_capsule.restype, _is_capsule.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def export(array: Any, stream: int | None) -> Any:
    """Returns a capsule of an array, ready for the work of a CUDA stream if it is on a device."""
    options: dict[str, Any] = {}
    if array.__dlpack_device__()[0] in (_abi.DEVICE_CUDA, _abi.DEVICE_CUDA_MANAGED):
        options["stream"] = stream or CUDA_LEGACY_STREAM
    try:
        return array.__dlpack__(max_version=VERSION, **options)
    except TypeError:  # from before versions: such an exporter does not know the keyword
        return array.__dlpack__(**options)


def opened(capsule: Any, array: Any) -> tuple[_abi.Tensor, int]:
    """Returns the tensor of an array's capsule, and its flags. ValueError if it is none."""
    if _is_capsule(capsule, b"dltensor_versioned"):
        managed = Versioned.from_address(_pointer(capsule, b"dltensor_versioned"))
        if managed.version.major != VERSION[0]:
            raise ValueError(f"DLPack {managed.version.major} is not known, expected {VERSION[0]}")
        return managed.tensor, managed.flags
    if not _is_capsule(capsule, b"dltensor"):
        raise ValueError(f"a capsule of DLPack was expected, which {capsule!r} is not")
    library = type(array).__module__.partition(".")[0]
    tensor = _abi.Tensor.from_address(_pointer(capsule, b"dltensor"))
    return tensor, READ_ONLY if library in IMMUTABLE else 0
