"""Checkpoints as texts and numpy arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: safetensors' names of element types; bf16 comes as uint16.
NUMPY: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I16": np.int16,
    "U8": np.uint8,
    "U64": np.uint64,
    "BF16": np.uint16,
}


def read(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Array]]:
    """Returns the texts and the tensors of a safetensors file; bf16 as uint16. The library checks
    files; this only reads them."""
    with open(path, "rb") as file:
        contents = file.read()
    start = 8 + int.from_bytes(contents[:8], "little")
    header = json.loads(contents[8:start])
    texts = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        values = np.frombuffer(contents[first:last], NUMPY[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return texts, tensors


def words(text: str) -> dict[str, str]:
    """Returns the settings in a text of a checkpoint."""
    pairs = (word.split("=", 1) for word in text.split(" "))
    return {name: value for name, value in pairs}


def settings_of(texts: dict[str, str], name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the settings of a parameter, and those of its group."""
    own = words(texts[f"param_groups.{name}"])
    return own, words(texts[f"groups.{own['group']}"])


def widened(values: Array) -> Array:
    """Returns bf16, which comes as uint16, in float32, which holds it exactly."""
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


def moments(tensors: dict[str, Array], name: str, shape: Any) -> Iterator[tuple[str, Array]]:
    """Returns the moments of a parameter in the types that other frameworks have them in."""
    for part in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"):
        values = tensors.get(f"state.{name}.{part}")
        if values is None:
            continue
        if values.dtype == np.uint8:
            raise ValueError(
                f"state.{name}.{part} is in codes, which no other framework knows; expected "
                f"floating point"
            )
        yield part, widened(values).reshape(shape)
