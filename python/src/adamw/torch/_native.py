"""The look at parameters and gradients in C, where it can be had and answers as Python does."""

from __future__ import annotations

import ctypes
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ._walk import ABSENT, UNSEEN, Walk, addresses

#: Built from walker.c where the package is.
PATH = pathlib.Path(__file__).with_name("walker.so")

#: PyTorch's functions in the order of `struct functions`, which begins with two of Python.
NAMES = (
    "_ZNK3c1010TensorImpl4gradEv",  # c10::TensorImpl::grad() const
    "_ZN2at6native6is_negERKNS_6TensorE",  # at::native::is_neg(at::Tensor const &)
    "_ZN2at6native12is_inferenceERKNS_6TensorE",
    "_ZN5torch8autograd4impl12bump_versionERKN2at6TensorE",
    "aoti_torch_is_defined",
    "aoti_torch_get_layout",
    "aoti_torch_get_dtype",
    "aoti_torch_get_device_type",
    "aoti_torch_get_device_index",
    "aoti_torch_get_dim",
    "aoti_torch_get_sizes",
    "aoti_torch_get_strides",
    "aoti_torch_get_data_ptr",
)


class _Functions(ctypes.Structure):
    _fields_ = (
        ("pointers", ctypes.c_void_p * (2 + len(NAMES))),
        ("offset", ctypes.c_ssize_t),
        ("strided", ctypes.c_int32),
    )


class _Facts(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("dims", ctypes.c_int64),
        ("sizes", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("types", ctypes.c_int32 * 4),
    )


class _Walk(ctypes.Structure):
    _fields_ = (
        ("call", ctypes.POINTER(_Functions)),
        ("count", ctypes.c_ssize_t),
        ("params", ctypes.c_void_p),
        ("watched", ctypes.c_void_p),
        ("slots", ctypes.c_void_p),
        ("kept", ctypes.c_void_p),
        ("shapes", ctypes.c_void_p),
        ("grads", ctypes.c_void_p),
    )


class Native:
    """walker.c and the functions that it calls; an exception names what is missing."""

    def __init__(self, path: pathlib.Path = PATH) -> None:
        if sys.implementation.name != "cpython":
            raise ImportError(f"tensors of {sys.implementation.name} are laid out in another way")
        self._library: Any = ctypes.PyDLL(str(path))  # whose calls keep Python's lock
        library = ctypes.CDLL(torch._C.__file__)
        theirs: list[Any] = [getattr(library, name) for name in NAMES]
        strided = library.aoti_torch_layout_strided()
        pythons: list[Any] = [ctypes.pythonapi.PyList_Size, ctypes.pythonapi.PyList_GetItem]
        pointers = [ctypes.cast(function, ctypes.c_void_p).value for function in pythons + theirs]
        self.functions = _Functions(
            (ctypes.c_void_p * len(pointers))(*pointers), offset_in_object(), strided
        )
        self.note = self._library.walk_note
        self.look = self._library.walk_look
        self.count = self._library.walk_count

    def walk(
        self,
        params: Sequence[torch.Tensor],
        watched: Sequence[torch.Tensor | None],
        slots: Sequence[int],
    ) -> NativeWalk:
        """Returns a `Walk` in C; ValueError if something cannot be watched by it."""
        return NativeWalk(self, params, watched, slots)


def offset_in_object() -> int:
    """Returns where in a tensor of Python the pointer to PyTorch's tensor is."""
    found = set()
    for tensor in (torch.zeros(2), torch.nn.Parameter(torch.zeros(())), torch.ones(3).double()):
        words = torch._C.TensorBase.__basicsize__ // ctypes.sizeof(ctypes.c_void_p)
        memory = (ctypes.c_size_t * words).from_address(id(tensor))
        found.add(tuple(i for i, word in enumerate(memory) if word == tensor._cdata))
    (places, *others) = found
    if others or len(places) != 1:
        raise ImportError(f"a tensor points to PyTorch's tensor at {sorted(found)}")
    return places[0] * ctypes.sizeof(ctypes.c_void_p)


class NativeWalk:
    """A `Walk` in C."""

    def __init__(
        self,
        native: Native,
        params: Sequence[torch.Tensor],
        watched: Sequence[torch.Tensor | None],
        slots: Sequence[int],
    ) -> None:
        count = len(params)
        self._native, self._tensors = native, (list(params), list(watched))
        self.grads = addresses(slots)
        dims = sum(tensor.dim() for tensor in watched if tensor is not None)
        self._arrays = (
            (ctypes.c_void_p * count)(*map(id, params)),
            (ctypes.c_void_p * count)(*(None if t is None else id(t) for t in watched)),
            (ctypes.c_int32 * count)(*slots),
            (_Facts * count)(),
            (ctypes.c_int64 * (2 * dims))(),
            self.grads,
        )
        places = [ctypes.addressof(array) for array in self._arrays]
        self._walk = _Walk(ctypes.pointer(native.functions), count, *places)
        self._pointer = ctypes.byref(self._walk)
        if not native.note(self._pointer):
            raise ValueError("a parameter cannot be watched")

    def look(self, lists: Sequence[Sequence[torch.Tensor]]) -> int:
        """Returns the bits of what has changed, and updates `grads`. `lists` are the groups'."""
        exact: list[Any] = [params if type(params) is list else list(params) for params in lists]
        array = (ctypes.py_object * len(exact))(*exact)
        seen: int = self._native.look(self._pointer, array, ctypes.c_ssize_t(len(exact)))
        return seen

    def count(self) -> None:
        """Counts a write to each parameter with a gradient for autograd."""
        self._native.count(self._pointer)


def check(native: Native) -> None:
    """Raises ImportError if a look in C does not find what one in Python does."""
    row = torch.arange(24.0)
    starts = [row, row[3], row[:0], row[5:], row[::3], row.view(2, 3, 4), row.view(4, 6).t()]
    starts += [row.double(), row.half(), row.bfloat16(), row.view(2, 3, 2, 2).transpose(1, 3)]
    for start in starts:
        param = torch.nn.Parameter(start)
        param.grad_dtype = None  # gradients of any type
        like, other = torch.empty_like(param), torch.empty_like(param, dtype=torch.int16)
        negative = torch.complex(like.float(), like.float()).conj().imag.to(like.dtype)
        grads = [like, like, torch.empty_like(param), param.detach(), negative, None, other]
        grads += [start.expand(start.shape), start.contiguous(), start.to_sparse()]
        grads += [torch._efficientzerotensor(start.shape, dtype=start.dtype), like]
        for slot, watched in ((0, param), (ABSENT, param), (ABSENT, None), (UNSEEN, param)):
            param.grad = None if slot == ABSENT else like
            both = [kind([param], [watched], [slot]) for kind in (native.walk, Walk)]
            compare(both, param)
            for grad in grads:
                param.grad = grad
                compare(both, param)
            param.grad = None if slot == ABSENT else like
            for data in (start.clone(), start.unsqueeze(0), start.double(), start):
                param.data = data
                compare(both, param)


def compare(walks: Sequence[Walk | NativeWalk], param: torch.Tensor) -> None:
    """Raises ImportError if two walks of a parameter do not find the same, and count the same."""
    found = []
    for walk in walks:
        version = param._version
        walk.count()
        found.append((walk.look([[param]]), list(walk.grads), param._version - version))
    if found[0] != found[1]:
        raise ImportError(f"C finds {found[0]} where Python finds {found[1]}")


def found() -> Native | str:
    """Returns the look in C, or why there is none."""
    try:
        native = Native()
        check(native)
    except Exception as error:  # whatever it is: Python looks too
        return f"{type(error).__name__}: {error}"
    return native


#: The look in C, or why there is none.
NATIVE = found()


def walks(
    params: Sequence[torch.Tensor],
    watched: Sequence[torch.Tensor | None],
    slots: Sequence[int],
) -> Iterator[Walk | NativeWalk]:
    """Makes a walk in C, and then one in Python, for what C does not do."""
    if isinstance(NATIVE, Native):
        try:
            yield NATIVE.walk(params, watched, slots)
        except ValueError:
            pass
    yield Walk(params, watched, slots)
