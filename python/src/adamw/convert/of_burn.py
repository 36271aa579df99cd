"""Records of burn's optimizers (`optimizer.save`): burnpack files, read without it."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np

from ..optimizer import AdamW
from .found import Found, Param, entries
from .presets import take_preset
from .take import Options

Path = str | os.PathLike[str]
#: What a file starts with, and the number of its format.
MAGIC, FORMAT = b"NRUB", 1
#: Tensors begin at multiples of this behind the header.
ALIGNMENT = 256
#: How burn calls the types that moments may have; bf16 comes as uint16.
TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
PARTS = {"moment_1": "exp_avg", "moment_2": "exp_avg_sq", "max_moment_2": "max_exp_avg_sq"}
MOST_LEVELS = 16


class Cbor:
    """Values in the Concise Binary Object Representation, of lengths that are said."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def take(self, length: int) -> memoryview:
        start, self.at = self.at, self.at + length
        if self.at > len(self.data):
            raise ValueError("a value ends behind the file")
        return self.data[start : self.at]

    def value(self, level: int = 0) -> Any:
        """Returns the next value."""
        if level > MOST_LEVELS:
            raise ValueError("values are too deep inside of others")
        kind, more = divmod(self.take(1)[0], 32)
        if kind == 7:
            simple = {20: False, 21: True, 22: None}
            floats = {25: "e", 26: "f", 27: "d"}
            if more in floats:
                form = f">{floats[more]}"
                return struct.unpack(form, self.take(struct.calcsize(form)))[0]
            return simple[more]
        number = more if more < 24 else int.from_bytes(self.take(1 << (more - 24)), "big")
        if more > 27:
            raise ValueError("a value of a length that is not said")
        if kind < 2:
            return -1 - number if kind else number
        if kind == 3:
            return str(self.take(number), "utf-8")
        if kind == 4:
            return [self.value(level + 1) for _ in range(number)]
        if kind == 5:
            pairs = ((self.value(level + 1), self.value(level + 1)) for _ in range(number))
            return dict(pairs)
        raise ValueError(f"a value of the kind {kind}")


def load_burn(path: Path) -> dict[str, dict[str, Any]]:
    """Returns what a record of burn's has of each parameter, by its path in the module."""
    with open(path, "rb") as file:
        whole = memoryview(file.read())
    if whole[:4] != MAGIC:
        raise ValueError(f"{os.fspath(path)} is no record of burn's: it starts otherwise")
    try:
        version, length = struct.unpack_from("<HI", whole, 4)
        if version != FORMAT:
            raise ValueError(f"it is of format {version}, expected {FORMAT}")
        header = Cbor(whole[10 : 10 + length]).value()
        start = -(-(10 + length) // ALIGNMENT) * ALIGNMENT
        names = header["metadata"]
        state: dict[str, dict[str, Any]] = {name: {} for name in names.values()}
        if len(state) < len(names):
            raise ValueError("two parameters have one path")
        for key, tensor in header["tensors"].items():
            number, _, part = key.partition(".")
            first, last = (start + offset for offset in tensor["data_offsets"])
            values = np.frombuffer(whole[first:last], TYPES[tensor["dtype"]])
            state[names[number]][part] = values.reshape(tensor["shape"])
        for key, value in header.get("scalars", {}).items():
            number, _, part = key.partition(".")
            state[names[number]][part] = next(iter(value.values()))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, struct.error) as error:
        raise ValueError(f"{os.fspath(path)} is no whole record of burn's: {error}") from error
    return state


def from_burn(optimizer: AdamW, state: Mapping[str, Any], **options: Unpack[Options]) -> None:
    """Takes over the record of burn's AdamW that `load_burn` reads. It has no settings. `Options`
    are those of `from_torch`."""
    take_preset(optimizer, burn_found(state), "burn", options)


def burn_found(state: Mapping[str, Any]) -> Found:
    """Returns what is in a record."""
    if not state:
        raise ValueError(f"expected burn's state by parameter, but this is {entries(state)}")
    found = Found("burn's record")
    for name, own in state.items():
        param = found.params[name] = Param()
        for key, value in own.items():
            part = key.removeprefix("momentum.")
            if part == "time":
                param.step = value
            elif part != "__rank":
                param.parts[PARTS.get(part, key)] = value
    return found

