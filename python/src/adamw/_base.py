"""What all parts of an optimizer share: the handle, and its parameters by name."""

from __future__ import annotations

import ctypes
import math
from typing import Any, NamedTuple

from ._handle import Handle
from .errors import InvalidArgumentError, NotFoundError
from .tensors import View, view

FLOAT = ctypes.POINTER(ctypes.c_float)


class Param(NamedTuple):
    """A parameter that was added."""

    number: int
    shape: tuple[int, ...]
    #: As those of a view.
    strides: tuple[float, ...] | None
    #: Whether its state is in the host's memory.
    on_host: bool
    #: Of a shard: where it begins in the whole, and the length of that, or 0 if nobody has said it.
    first: int = 0
    whole: int = 0


class Base:
    """An optimizer's handle and parameters."""

    _handle: Handle
    _params: dict[str, Param]
    #: Whether parameters have f32 masters.
    _master: bool
    #: Whether a step writes zeros over gradients.
    _clears: bool
    #: The CUDA stream that the handle uses.
    _stream: int | None

    def _param(self, name: str) -> Param:
        param = self._params.get(name)
        if param is None:
            some = ", ".join(map(repr, list(self._params)[:5])) or "none"
            more = ", ..." if len(self._params) > 5 else ""
            raise NotFoundError(f"there is no param {name!r}; there are {some}{more}")
        return param

    def _scalar(self, array: Any, what: str, writable: bool) -> View:
        """Returns the view of an array of one float32."""
        seen = self._view(array, what, writable, dtypes=("float32",))
        if math.prod(seen.shape) != 1:
            raise InvalidArgumentError(f"{what} has the shape {seen.shape}, expected one element")
        return seen

    def _view(self, array: Any, what: str, writable: bool, **expected: Any) -> View:
        return view(array, what, writable=writable, stream=self._stream, **expected)


def c_string(text: str, what: str) -> bytes:
    """Returns a text as C has it; InvalidArgumentError if C would see only its beginning."""
    if not isinstance(text, str):
        raise TypeError(f"{what} is {text!r}, expected a str")
    if "\0" in text:
        raise InvalidArgumentError(f"{what} {text!r} has a NUL in it, expected none")
    return text.encode()


def check_like(seen: View, param: Param, what: str) -> None:
    """Checks that an array has the shape of its parameter, and its order in memory."""
    if seen.shape != param.shape:
        raise InvalidArgumentError(
            f"{what} has the shape {seen.shape}, expected {param.shape}, that of the param: "
            f"reshape it"
        )
    if seen.strides != param.strides:
        is_, expected = (one.strides or "row-major ones" for one in (seen, param))
        raise InvalidArgumentError(
            f"{what} has another order of axes in memory than the param (strides {is_}, expected "
            f"{expected}): copy it into an array like the param, as numpy.empty_like makes it"
        )
