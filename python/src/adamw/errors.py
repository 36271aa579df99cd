"""One exception for each status of the library, with the library's text."""

from __future__ import annotations

from typing import ClassVar

from . import _abi


class AdamWError(Exception):
    """A failed call. Its text has the names and values in question; nothing has changed."""

    #: The library's number for the failure, an `ADAMW_STATUS` of the header.
    status: ClassVar[int] = _abi.STATUS_INTERNAL


class InvalidArgumentError(AdamWError, ValueError):
    """A value is outside its range."""

    status = _abi.STATUS_INVALID_ARGUMENT


class TensorTypeError(InvalidArgumentError, TypeError):
    """An array has the wrong element type, or is no array."""


class UnsupportedError(AdamWError, RuntimeError):
    """The request is well formed, but this build, version or machine cannot do it."""

    status = _abi.STATUS_UNSUPPORTED


class OutOfMemoryError(AdamWError, MemoryError):
    """Memory or threads could not be allocated."""

    status = _abi.STATUS_OUT_OF_MEMORY


class NotFoundError(AdamWError, LookupError):
    """The optimizer does not have what was asked for."""

    status = _abi.STATUS_NOT_FOUND


class BadHandleError(AdamWError, ValueError):
    """The optimizer is closed."""

    status = _abi.STATUS_BAD_HANDLE


class BusyError(AdamWError, RuntimeError):
    """The optimizer is in use by another thread, or by the call that is running this callback."""

    status = _abi.STATUS_BUSY


class PoisonedError(AdamWError, RuntimeError):
    """An earlier call failed in the middle of its writes: load again, or close."""

    status = _abi.STATUS_POISONED


class CallbackError(AdamWError, RuntimeError):
    """A callback returned something that the library cannot use."""

    status = _abi.STATUS_CALLBACK


class LrConflictError(AdamWError, RuntimeError):
    """The learning rate already comes from a schedule or from an array."""

    status = _abi.STATUS_LR_CONFLICT


class NonfiniteError(AdamWError, FloatingPointError):
    """A gradient is not finite, and the optimizer was made with `nonfinite="fail"`."""

    status = _abi.STATUS_NONFINITE


class ClipConflictError(AdamWError, RuntimeError):
    """A parameter cannot be stepped alone, because its step depends on other gradients."""

    status = _abi.STATUS_CLIP_CONFLICT


class DeviceError(AdamWError, RuntimeError):
    """A CUDA device or its driver failed."""

    status = _abi.STATUS_DEVICE


class IoError(AdamWError, OSError):
    """A file could not be read or written."""

    status = _abi.STATUS_IO


class CorruptError(AdamWError, ValueError):
    """The data is damaged, truncated, or not a checkpoint."""

    status = _abi.STATUS_CORRUPT


class MismatchError(AdamWError, ValueError):
    """The checkpoint does not match this optimizer. The text lists the differences."""

    status = _abi.STATUS_MISMATCH


class InternalError(AdamWError, RuntimeError):
    """A bug in the library."""

    status = _abi.STATUS_INTERNAL


def _every_error(base: type[AdamWError]) -> list[type[AdamWError]]:
    derived = base.__subclasses__()
    return derived + [below for error in derived for below in _every_error(error)]


#: The exception of each status: that which gives the status its number.
BY_STATUS: dict[int, type[AdamWError]] = {
    error.status: error for error in _every_error(AdamWError) if "status" in vars(error)
}
