"""Values in the formats in which an optimizer keeps them."""

from __future__ import annotations

import numpy as np

from ..optimizer import AdamW
from ..settings import Moments
from .made import Array


def codes(name: str, part: str, values: Array, kind: Moments) -> tuple[Array, Array]:
    """Returns the codes of a moment, and their scales, as the library makes them: with betas of 0,
    one step leaves a gradient as exp_avg, and its square as exp_avg_sq."""
    exact = values.astype(np.float32)
    scratch = AdamW(
        {name: np.zeros(values.size, np.float32)},
        lr=0.0,
        betas=(0.0, 0.0),
        weight_decay=0.0,
        moments=kind,
        amsgrad=part == "max_exp_avg_sq",
        num_threads=1,
    )
    with scratch:
        scratch.step(grads={name: exact if part == "exp_avg" else np.sqrt(exact)})
        made, scales = (scratch.get_state(f"state.{name}.{part}{end}") for end in ("", "_scale"))
    return made, scales


def halves(master: Array) -> tuple[Array, Array]:
    """Returns the bits of the bf16 to which each element rounds, half away from zero, and the
    signed rest, of which ADAMW_PRECISION_SPLIT keeps a master. All NaN share one pair."""
    bits = np.where(np.isnan(master), np.uint32(0x7FC00000), master.view(np.uint32))
    upper = (bits + np.uint32(0x8000)) >> np.uint32(16)
    rest = (bits - (upper << np.uint32(16))).astype(np.uint16).view(np.int16)
    return upper.astype(np.uint16), rest
