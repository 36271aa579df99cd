"""Steps that threads take together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ._base import Base
from ._library import check, library, reraise


class Together(Base):
    """The part of an optimizer that is stepped by several threads of the caller's."""

    @contextmanager
    def step_together(self) -> Iterator[Callable[[], None]]:
        """Begins a step that threads of a pool take together, and ends it with the block.

        with optimizer.step_together() as work:
            list(pool.map(lambda _: work(), range(4)))

        Each call of `work` takes part in the step, and returns when the step is over; the first one
        to come leads, and waits for no other. The end of the block takes the step if nobody has,
        also if the block raises. What a callback raises comes out of the `work` that led, and the
        block raises CallbackError.
        """
        with self._handle.used() as core:

            def work() -> None:
                status = library.adamw_step_work(core.number)
                reraise()
                check(status)

            check(library.adamw_step_begin(core.number))
            try:
                yield work
            finally:
                check(library.adamw_step_end(core.number))
