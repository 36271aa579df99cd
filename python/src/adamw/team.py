"""Threads that several optimizers share."""

from __future__ import annotations

import ctypes
import weakref

from ._closing import Closing
from ._library import check, library
from .errors import BadHandleError


class Team(Closing):
    """Threads for the large steps of all optimizers that are made with `team=` this.

    Each optimizer has threads of its own otherwise. The first large step starts them; they are
    ended when the team is closed, or nobody refers to it any more, and the last of its optimizers
    is closed, too. Of optimizers that step at the same time the first has the threads, and the
    others step on their own; the bits are the same. A forked child needs a new team.

    num_threads:
        How many threads work in a step, the one that calls it included. 0: as many as this process
        has processors.
    """

    def __init__(self, num_threads: int = 0) -> None:
        number = ctypes.c_void_p()
        check(library.adamw_team_create(num_threads, number))
        self._number = number
        self._destroy = weakref.finalize(self, library.adamw_team_destroy, number)
        # When the interpreter exits, daemon threads may still step.
        self._destroy.atexit = False

    @property
    def number(self) -> int | None:
        """Returns the handle; BadHandleError once the team is closed."""
        if self._destroy.alive:
            return self._number.value
        raise BadHandleError("the team is closed: make another one")

    def close(self) -> None:
        """Gives the team up. Its optimizers keep the threads. Closing twice does nothing."""
        self._destroy()

    def __reduce__(self) -> str:
        raise TypeError("a Team cannot be pickled or copied: make another one")
