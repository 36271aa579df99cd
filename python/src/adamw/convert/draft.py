"""A checkpoint in memory, so that one load, which is whole or not at all, takes the state over and
brings it into the formats of the optimizer."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .arrays import Array

DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "uint64": "U64",
    "int16": "I16",
}
#: Stands in the place of the header's own checksum while that is computed.
ZEROS = "00000000"


class State(NamedTuple):
    """The state of a parameter, in the types in which the library reads it."""

    step: int
    #: The products of the betas over its steps.
    powers: tuple[float, float]
    #: How many elements the parameter has.
    n_elements: int
    #: Flat arrays by part.
    parts: Mapping[str, Array]
    #: The order of the parameter's axes in memory, if that is not row-major.
    order: str | None


def checkpoint(states: Mapping[str, State]) -> bytes:
    """Returns a checkpoint of the state of parameters, without settings."""
    tensors: dict[str, Array] = {}
    texts = {}
    for name, state in states.items():
        counters = {
            "step": np.uint64(state.step),
            "beta1_power": np.float64(state.powers[0]),
            "beta2_power": np.float64(state.powers[1]),
        }
        for part, values in {**counters, **state.parts}.items():
            tensors[f"state.{name}.{part}"] = np.atleast_1d(np.asarray(values))
        words = f"n_elements={state.n_elements}"
        if state.order is not None:
            words += f" order={state.order}"
        texts[f"param_groups.{name}"] = words
    # The largest elements first, so that all are aligned.
    order = sorted(tensors, key=lambda name: -tensors[name].itemsize)
    header: dict[str, Any] = {"__metadata__": {}}
    data, sums = [], ""
    start = 0
    for name in order:
        values = np.ascontiguousarray(tensors[name]).reshape(-1)
        end = start + values.nbytes
        header[name] = {
            "dtype": DTYPES[values.dtype.name],
            "shape": [values.size],
            "data_offsets": [start, end],
        }
        start = end
        data.append(values.view(np.uint8).data)
        sums += f"{zlib.crc32(data[-1]):08x}"
    first = {"adamw_checkpoint": "1", "header_crc32": ZEROS, "crc32": sums}
    header["__metadata__"] = {**first, **texts}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    length = len(text).to_bytes(8, "little")
    own = f"{zlib.crc32(length + text):08x}"
    text = text.replace(f'"header_crc32":"{ZEROS}"'.encode(), f'"header_crc32":"{own}"'.encode(), 1)
    return b"".join((length, text, *data))
