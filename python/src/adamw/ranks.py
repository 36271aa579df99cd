"""Ranks that each step a part of the same parameters."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from ._library import check, library
from .settings import unsigned


def shard_ranges(
    n_elements: Sequence[int], *, rank: int, num_ranks: int, align: int = 0
) -> list[tuple[int, int]]:
    """Returns the first element and the length of what a rank has of each parameter.

    The parameters of these lengths, end to end, are cut into parts of about one length, only at
    multiples of `align` elements of a parameter (0: 4096). A range may be empty: `(0, 0)`.
    """
    lengths = [unsigned("n_elements", n) for n in n_elements]
    numbers = ctypes.c_uint64 * len(lengths)
    firsts, counts = numbers(), numbers()
    check(
        library.adamw_shard_ranges(
            numbers(*lengths),
            len(lengths),
            unsigned("align", align),
            unsigned("rank", rank),
            unsigned("num_ranks", num_ranks),
            firsts,
            counts,
        )
    )
    return list(zip(firsts, counts, strict=True))
