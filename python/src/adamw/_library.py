"""Finds the library, loads it, and turns its statuses into exceptions."""

from __future__ import annotations

import ctypes
import os
import pathlib
import threading

from . import _abi, errors

#: The environment variable that names another library than the one in this package.
VARIABLE = "LIBADAMW"
NEEDED = (_abi.VERSION_MAJOR, _abi.VERSION_MINOR, _abi.VERSION_PATCH)


def load() -> ctypes.CDLL:
    """Returns the library that LIBADAMW names or this package has; ImportError if it is unfit."""
    bundled = pathlib.Path(__file__).with_name("libadamw.so")
    path = os.environ.get(VARIABLE) or str(bundled)
    if path == str(bundled) and not bundled.exists():
        raise ImportError(
            f"there is no {bundled}: install the package with pip, which puts it there, or set "
            f"{VARIABLE} to the path of a libadamw.so"
        )
    try:
        return _abi.declare(checked(ctypes.CDLL(path)))
    except (OSError, AttributeError) as error:
        needed = ".".join(map(str, NEEDED))
        raise ImportError(f"{path} is no libadamw {needed} or later: {error}") from error


def checked(library: ctypes.CDLL) -> ctypes.CDLL:
    """Returns the library, unless it is older than this package or of another major version."""
    library.adamw_version.restype = ctypes.c_char_p
    text: str = library.adamw_version().decode()
    major, minor, patch = (int(number) for number in text.split("."))
    if major != NEEDED[0] or (minor, patch) < NEEDED[1:]:
        raise OSError(f"its version is {text}")
    return library


#: The loaded library. Its functions return statuses; give them to `check`.
library = load()

_raised = threading.local()


def keep(error: BaseException) -> int:
    """Returns what a callback that has raised this returns. `check` raises it on this thread."""
    _raised.error = error
    return 1


def reraise() -> None:
    """Raises what a callback of the call that has just returned has raised on this thread."""
    error: BaseException | None = getattr(_raised, "error", None)
    _raised.error = None
    try:
        if error is not None:
            raise error
    finally:
        del error  # or it and this frame, which its traceback has, would keep each other alive


def check(status: int) -> None:
    """Raises the exception of a status that is not 0, or what a callback has raised."""
    if status:
        reraise()
        text: str = library.adamw_last_error().decode()
        raise errors.BY_STATUS.get(status, errors.AdamWError)(text)


def version() -> str:
    """Returns the version of the library that is loaded, such as `0.1.0`."""
    text: str = library.adamw_version().decode()
    return text
