"""Checkpoints of ONNX Runtime's training: FlatBuffers, read without it."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np

from ..optimizer import AdamW
from .found import Found, Param, entries
from .made import Array
from .presets import take_preset
from .take import Options

Path = str | os.PathLike[str]
#: ONNX's numbers of the types that moments may have.
TYPES = {1: np.float32, 10: np.float16, 11: np.float64}
#: What a file has behind its first four bytes.
IDENTIFIER = b"ODTC"


class Table:
    """A table of a FlatBuffer, whose fields have numbers."""

    def __init__(self, data: memoryview, at: int, seen: set[int]) -> None:
        self.data, self.at, self.seen = data, at, seen
        if at in seen:
            raise ValueError("a table is there in several places")
        seen.add(at)

    def _field(self, number: int) -> int:
        """Returns the place of a field; 0 if it has its default."""
        fields = self.at - struct.unpack_from("<i", self.data, self.at)[0]
        if fields < 0:
            raise ValueError("a table lies in front of the file")
        (size,) = struct.unpack_from("<H", self.data, fields)
        if 4 + 2 * number >= size:
            return 0
        (offset,) = struct.unpack_from("<H", self.data, fields + 4 + 2 * number)
        return self.at + offset if offset else 0

    def number(self, number: int, kind: str) -> int:
        """Returns a number, of a kind of `struct`."""
        at = self._field(number)
        value: int = struct.unpack_from(kind, self.data, at)[0] if at else 0
        return value

    def _vector(self, number: int) -> tuple[int, int]:
        """Returns the place and the length of a vector."""
        at = self._field(number)
        if not at:
            return 0, 0
        start = at + struct.unpack_from("<I", self.data, at)[0]
        return start + 4, struct.unpack_from("<I", self.data, start)[0]

    def bytes(self, number: int, size: int = 1) -> memoryview:
        """Returns the bytes of a text or a vector, whose elements have `size` bytes."""
        start, length = self._vector(number)
        if start + length * size > len(self.data):
            raise ValueError("a vector is longer than the file")
        return self.data[start : start + length * size]

    def tables(self, number: int) -> list[Table]:
        """Returns a vector of tables."""
        start, length = self._vector(number)
        places = struct.unpack_from(f"<{length}I", self.data, start) if length else ()
        return [Table(self.data, start + 4 * i + at, self.seen) for i, at in enumerate(places)]


def load_onnxruntime(path: Path) -> dict[str, dict[str, Any]]:
    """Returns the state of the optimizer in a checkpoint that was saved with
    `include_optimizer_state=True`: by parameter its `step` and its `momentums`."""
    with open(path, "rb") as file:
        data = memoryview(file.read())
    if data[4:8] != IDENTIFIER:
        raise ValueError(f"{os.fspath(path)} is no checkpoint of ONNX Runtime's training")
    state: dict[str, dict[str, Any]] = {}
    try:
        root = Table(data, struct.unpack_from("<I", data, 0)[0], set())
        for group in root.tables(2):
            for own in group.tables(3):
                momentums = {bytes(one.bytes(0)).decode(): tensor(one) for one in own.tables(1)}
                name = bytes(own.bytes(0)).decode()
                state[name] = {"step": group.number(1, "<q"), "momentums": momentums}
    except (struct.error, ValueError, KeyError) as error:
        raise ValueError(f"{os.fspath(path)} is damaged: {error}") from error
    return state


def tensor(table: Table) -> Array:
    """Returns a tensor, which shares the memory of the file."""
    shape = np.frombuffer(table.bytes(2, 8), np.int64)
    return np.frombuffer(table.bytes(4), TYPES[table.number(3, "<i")]).reshape(shape)


def from_onnxruntime(
    optimizer: AdamW, state: Mapping[str, Any], **options: Unpack[Options]
) -> None:
    """Takes over the state that `load_onnxruntime` reads. The learning rate is not in it. `Options`
    are those of `from_torch`."""
    take_preset(optimizer, onnxruntime_found(state), "onnxruntime", options)


def onnxruntime_found(state: Mapping[str, Any]) -> Found:
    """Returns what is in a checkpoint."""
    if not state:
        raise ValueError(
            f"expected ONNX Runtime's state by parameter, but this is {entries(state)}"
        )
    found = Found("ONNX Runtime's checkpoint")
    for name, own in state.items():
        called = {"momentum0": "exp_avg", "momentum1": "exp_avg_sq"}
        parts = {called.get(key, key): value for key, value in own["momentums"].items()}
        found.params[name] = Param(own["step"], parts)
    return found
