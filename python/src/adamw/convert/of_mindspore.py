"""Checkpoints of MindSpore (`mindspore.save_checkpoint`): protobuf messages, read without it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Unpack

import numpy as np

from ..optimizer import AdamW
from .arrays import rate_in
from .found import Found, Param, entries
from .made import Array
from .presets import take_preset
from .take import Options

Path = str | os.PathLike[str]
#: How MindSpore calls its types; bf16 comes as uint16.
TYPES = {
    "Float64": np.float64,
    "Float32": np.float32,
    "Float16": np.float16,
    "BFloat16": np.uint16,
    "Int64": np.int64,
    "Int32": np.int32,
}
#: How `experimental.optim.AdamW` and `nn.AdamWeightDecay` call the parts of their state, and the
#: count of each.
EXPERIMENTAL = {
    "exp_avg.": "exp_avg",
    "exp_avg_sq.": "exp_avg_sq",
    "max_exp_avg_sq.": "max_exp_avg_sq",
}
WEIGHT_DECAY = {"adam_m.": "exp_avg", "adam_v.": "exp_avg_sq"}
STEPS = {
    "state_step": ("mindspore", EXPERIMENTAL),
    "global_step": ("mindspore.AdamWeightDecay", WEIGHT_DECAY),
}


def load_mindspore(path: Path) -> dict[str, Array]:
    """Returns the tensors of a checkpoint, by name; bf16 as uint16. Tensors of types that numpy has
    not are left out."""
    with open(path, "rb") as file:
        contents = memoryview(file.read())
    slices: dict[str, list[Any]] = {}
    of: dict[str, tuple[list[int], str]] = {}
    try:
        for value in fields(contents, 1):
            name = bytes(next(fields(value, 1))).decode()
            tensor = next(fields(value, 2))
            of[name] = list(numbers(tensor, 1)), bytes(next(fields(tensor, 2))).decode()
            # A large tensor is in several messages of one name.
            slices.setdefault(name, []).append(next(fields(tensor, 3), b""))
        return {
            name: np.frombuffer(b"".join(slices[name]), TYPES[kind]).reshape(shape)
            for name, (shape, kind) in of.items()
            if kind in TYPES
        }
    except (ValueError, IndexError, StopIteration, RuntimeError) as error:
        raise ValueError(f"{os.fspath(path)} is no checkpoint of MindSpore's: {error}") from error


def parts(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Returns the fields of a message, and their numbers: bytes, or a number."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        if tag & 7 == 0:
            value, at = varint(message, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            length, at = varint(message, at)
            if at + length > len(message):
                raise ValueError("it ends in the middle of a field")
            yield tag >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError(f"a field of the kind {tag & 7}")


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """Returns a number, and the place behind it."""
    value = shift = 0
    while shift < 64:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("a number of more than 64 bits")


def fields(message: memoryview, number: int) -> Iterator[memoryview]:
    """Returns the fields of a number that are bytes."""
    return (value for own, value in parts(message) if own == number and not isinstance(value, int))


def numbers(message: memoryview, number: int) -> Iterator[int]:
    """Returns the fields of a number that are numbers."""
    return (value for own, value in parts(message) if own == number and isinstance(value, int))


def from_mindspore(optimizer: AdamW, state: Mapping[str, Any], **options: Unpack[Options]) -> None:
    """Takes over the state of `experimental.optim.AdamW`, or of `nn.AdamWeightDecay`, which does
    not correct its moments: what `load_mindspore` reads in the file that `save_checkpoint` has
    written of the optimizer. `Options` are those of `from_torch`."""
    preset, found = mindspore_found(state)
    take_preset(optimizer, found, preset, options)


def mindspore_found(state: Mapping[str, Any]) -> tuple[str, Found]:
    """Returns what is in a checkpoint, and whose it is."""
    for step, (preset, names) in STEPS.items():
        if step in state and any(key.startswith(tuple(names)) for key in state):
            break
    else:
        raise ValueError(
            f"expected state_step and exp_avg.<param>, or global_step and adam_m.<param>, but this "
            f"is {entries(state)}"
        )
    found = Found("MindSpore's checkpoint")
    # That of a schedule is a list of all.
    settings = rate_in(state, "learning_rate")
    for key, value in state.items():
        for before, part in names.items():
            # Largest squares are there without amsgrad, too, and 0.
            if key.startswith(before) and (part != "max_exp_avg_sq" or np.any(value)):
                name = key.removeprefix(before)
                param = found.params.setdefault(name, Param(state[step], settings=settings))
                param.parts[part] = value
    return preset, found
