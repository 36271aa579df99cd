"""The state of parameters: in place, as numpy arrays, and by name."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from . import _abi
from ._base import Base, Param, c_string
from ._library import library
from ._optional import optional
from .errors import NotFoundError, TensorTypeError, UnsupportedError
from .settings import choice
from .statistics import DTYPES as TYPES
from .tensors import DTYPES, as_in_memory

#: The buffers of a parameter, and the library's numbers for them.
BUFFERS = {
    "param": _abi.BUFFER_PARAM,
    "master": _abi.BUFFER_MASTER,
    "remainder": _abi.BUFFER_REMAINDER,
    "exp_avg": _abi.BUFFER_EXP_AVG,
    "exp_avg_sq": _abi.BUFFER_EXP_AVG_SQ,
    "max_exp_avg_sq": _abi.BUFFER_MAX_EXP_AVG_SQ,
    "exp_avg_scale": _abi.BUFFER_EXP_AVG_SCALE,
    "exp_avg_sq_scale": _abi.BUFFER_EXP_AVG_SQ_SCALE,
    "max_exp_avg_sq_scale": _abi.BUFFER_MAX_EXP_AVG_SQ_SCALE,
}
STATE_TYPES = tuple(DTYPES)
#: One float64 each.
COUNTERS = {
    "step": _abi.BUFFER_STEP,
    "beta1_power": _abi.BUFFER_BETA1_POWER,
    "beta2_power": _abi.BUFFER_BETA2_POWER,
}

#: How numpy calls the types; bf16 is not one of its own.
NUMPY = {
    _abi.DTYPE_F32: "<f4",
    _abi.DTYPE_F64: "<f8",
    _abi.DTYPE_F16: "<f2",
    _abi.DTYPE_BF16: "<u2",
    _abi.DTYPE_I16: "<i2",
    _abi.DTYPE_U8: "|u1",
}
Array = np.ndarray[Any, Any]


class Memory:
    """Memory of a part of a parameter's state, for numpy, and what keeps it where it is."""

    def __init__(self, owner: Any, info: _abi.StateInfo, param: Param) -> None:
        self._owner = owner
        whole = math.prod(param.shape) == info.n_elements
        typestr, strides = NUMPY[info.dtype], param.strides if whole else None
        self.__array_interface__ = {
            "version": 3,
            "data": (info.data or 0, False),
            "shape": param.shape if whole else (info.n_elements,),
            "strides": strides and tuple(int(typestr[2:]) * int(stride) for stride in strides),
            "typestr": typestr,
        }


def _bf16() -> Any:
    ml_dtypes = optional("ml_dtypes")
    return np.uint16 if ml_dtypes is None else ml_dtypes.bfloat16


class State(Base):
    """Gives the state of parameters out, and takes it in."""

    def state(self, name: str) -> dict[str, Array]:
        """Returns the parts of a parameter's state ("exp_avg" and so on) as arrays, without a copy.

        The state is up to date now; a step changes these arrays. They stay valid after `close`,
        which waits for the last of them. In place of bf16, which numpy has not, they have
        ml_dtypes.bfloat16, or its bits as uint16 if ml_dtypes is not installed.
        """
        found = {part: self._part(name, part) for part in BUFFERS if part != "param"}
        return {part: array for part, array in found.items() if array is not None}

    def _part(self, name: str, part: str) -> Array | None:
        param, info = self._param(name), _abi.StateInfo()
        if not param.on_host:
            raise UnsupportedError(
                f'the state of param "{name}" is on a device, where numpy sees nothing: copy it by '
                f"get_state, or give add_param arrays of your own for it"
            )
        with self._handle.used() as core:
            try:
                self._locate(param.number, BUFFERS[part], info)
            except NotFoundError:
                return None
            if info.is_hosts:
                memory = Memory(core.kept[param.number, part], info, param)
            else:
                memory = Memory(core, info, param)
                core.add_view(param.number, memory)
            array = np.asarray(memory)
        return array.view(_bf16()) if info.dtype == _abi.DTYPE_BF16 else array

    def _locate(self, number: int, buffer: int, info: _abi.StateInfo) -> None:
        function = library.adamw_get_state_info
        self._handle.call(function, number, buffer, info, ctypes.sizeof(info))

    def _named(self, name: str) -> tuple[bytes, _abi.StateInfo]:
        own, info = c_string(name, "the name"), _abi.StateInfo()
        number, buffer = ctypes.c_uint32(), ctypes.c_uint32()
        self._handle.call(library.adamw_find_state, own, number, buffer)
        self._locate(number.value, buffer.value, info)
        return own, info

    def get_state(self, name: str) -> Array:
        """Returns a copy of the part of the state of this name, such as `state.w.exp_avg`, or of a
        counter, such as `state.w.step`, which is one float64. Paddle's names are known, too. The
        elements come in the order that they have in memory."""
        own, info = self._named(name)
        values = np.empty(info.n_elements, NUMPY[info.dtype])
        arguments = values.ctypes.data, values.size, info.dtype
        self._handle.call(library.adamw_get_state, own, *arguments)
        return values.view(_bf16()) if info.dtype == _abi.DTYPE_BF16 else values

    def set_state(self, name: str, values: Any) -> None:
        """Copies values into the part of the state of this name. They have its length and element
        type; bits of bf16 may be uint16. Setting a step also sets the powers of the betas. Values
        in the shape of the parameter may lie in any order, others lie as the state does."""
        own, info = self._named(name)
        given = np.asarray(values)
        for param in self._params.values():
            if param.number == info.param and param.strides and param.shape == given.shape:
                given = as_in_memory(given, param.strides)
        given = np.ascontiguousarray(given)
        dtype = DTYPES.get(given.dtype.name, 0)
        if given.dtype == np.uint16 and info.dtype == _abi.DTYPE_BF16:
            dtype = _abi.DTYPE_BF16
        if dtype == 0:
            raise TensorTypeError(
                f"{name} is given as {given.dtype.name}, expected {TYPES[info.dtype]}"
            )
        arguments = given.ctypes.data, given.size, dtype
        self._handle.call(library.adamw_set_state, own, *arguments)

    def state_name(self, name: str, part: str, *, paddle: bool = False) -> str:
        """Returns how a part of a parameter's state is called in checkpoints, or by Paddle."""
        parts = {**BUFFERS, **COUNTERS}
        number, buffer = self._param(name).number, choice("a part of the state", part, parts)
        names = _abi.NAMES_PADDLE if paddle else _abi.NAMES_NEUTRAL
        length, function = ctypes.c_size_t(), library.adamw_get_state_name
        self._handle.call(function, number, buffer, names, None, 0, length)
        text = ctypes.create_string_buffer(length.value + 1)
        self._handle.call(function, number, buffer, names, text, len(text), length)
        return text.value.decode()
