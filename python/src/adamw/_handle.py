"""The library's handle, and what has to live as long as the library may use it."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import _abi
from ._library import check, library
from .errors import BadHandleError, BusyError

CLOSED = "the optimizer is closed: make another one"


class Core:
    """A handle of the library's. It is destroyed when nobody refers to this object any more: when
    the optimizer is closed and no view of its state is left. Not when the interpreter exits, where
    daemon threads may still step."""

    def __init__(self, config: _abi.Config) -> None:
        number = ctypes.c_void_p()
        check(library.adamw_create(config, number))
        self.number = number
        #: What the library borrows, by what it is used for.
        self.kept: dict[Any, Any] = {}
        self._views: dict[int, weakref.WeakSet[Any]] = {}
        # Runs before anything that this object refers to is let go.
        weakref.finalize(self, library.adamw_destroy, number).atexit = False

    def add_view(self, param: int, memory: Any) -> None:
        """Remembers an object that shows memory which the library has allocated for a parameter."""
        self._views.setdefault(param, weakref.WeakSet()).add(memory)

    def has_views(self, param: int) -> bool:
        """Returns whether anybody still has such an object."""
        return len(self._views.get(param, ())) > 0

    def forget(self, param: int) -> None:
        """Lets go of everything that was kept for a parameter."""
        self._views.pop(param, None)
        for use in [use for use in self.kept if use[0] == param]:
            del self.kept[use]


class Handle:
    """A core that one thread uses at a time, and what it keeps alive."""

    def __init__(self, config: _abi.Config) -> None:
        self._core: Core | None = Core(config)
        self._lock = threading.RLock()

    @property
    def core(self) -> Core:
        """Returns the core; BadHandleError once the optimizer is closed."""
        if self._core is None:
            raise BadHandleError(CLOSED)
        return self._core

    @contextmanager
    def used(self) -> Iterator[Core]:
        """Holds off other threads, whose calls are refused meanwhile, for a call of the library
        together with what is remembered of it."""
        if not self._lock.acquire(blocking=False):
            raise BusyError("the optimizer is in use by another thread")
        try:
            yield self.core
        finally:
            self._lock.release()

    def call(self, function: Any, *arguments: Any) -> None:
        """Calls a function of the library on the handle."""
        with self.used() as core:
            check(function(core.number, *arguments))

    def keep(self, use: Any, what: Any) -> None:
        """Keeps an object alive in place of the one that had this use before; None for none."""
        kept = self.core.kept
        if what is None:
            kept.pop(use, None)
        else:
            kept[use] = what

    @property
    def closed(self) -> bool:
        """Whether the core was given up."""
        return self._core is None

    def close(self) -> None:
        """Gives the core up. Closing twice does nothing."""
        if self._core is not None:
            with self.used():
                self._core = None
