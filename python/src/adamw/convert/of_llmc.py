"""The files in which llm.c's `train_gpt2cu` keeps a run: `state_00001000_00000.bin` with the state
of AdamW, and `model_00001000.bin` beside it, whose first numbers say of what shapes it is. As its
source writes them; no file of the program itself was at hand."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np

from ..optimizer import AdamW
from .found import Found, Param
from .made import Array
from .presets import take_preset
from .take import USUAL, Options

Path = str | os.PathLike[str]
#: The first number of both files, which begin with so many of 32 bits.
STATE, MODEL, N_NUMBERS = 20240527, 20240326, 256
#: What the program gives to its step, whatever it is asked for.
SETTINGS = {**USUAL, "betas": (0.9, 0.95), "eps": 1e-8}


def shapes_of(layers: int, context: int, channels: int, padded: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors of GPT-2 in their order. Those of all layers are one."""
    vector = (layers, channels)
    return {
        "wte": (padded, channels),
        "wpe": (context, channels),
        "ln1w": vector,
        "ln1b": vector,
        "qkvw": (layers, 3 * channels, channels),
        "qkvb": (layers, 3 * channels),
        "attprojw": (layers, channels, channels),
        "attprojb": vector,
        "ln2w": vector,
        "ln2b": vector,
        "fcw": (layers, 4 * channels, channels),
        "fcb": (layers, 4 * channels),
        "fcprojw": (layers, channels, 4 * channels),
        "fcprojb": vector,
        "lnfw": (channels,),
        "lnfb": (channels,),
    }


def load_llmc(path: Path) -> dict[str, Any]:
    """Returns the state of a run of one process: its `step`, and by tensor the moments, and the
    master of a model in bf16. `path` is that of the state; the model is beside it."""
    own = os.fspath(path)
    with open(own, "rb") as file:
        contents = memoryview(file.read())
    header = numbers(own, contents, STATE)
    if header[1] != 1 or header[2] != 1:
        raise ValueError(
            f"{own} is of format {header[1]} and of {header[2]} processes, expected 1 and 1"
        )
    step, with_master, is_shuffled = (int(header[i]) for i in (10, 4, 5))
    model = re.sub(r"state_(\d+)_\d+\.bin$", r"model_\1.bin", own)
    with open(model, "rb") as file:
        config = numbers(model, memoryview(file.read(4 * N_NUMBERS)), MODEL)
    context, layers, channels, padded = (int(config[i]) for i in (2, 4, 6, 7))
    if min(context, layers, channels, padded) <= 0:
        raise ValueError(f"{model} has {layers} layers of {channels} channels")
    shapes = shapes_of(layers, context, channels, padded)
    n = sum(int(np.prod(shape, dtype=object)) for shape in shapes.values())
    kinds = ("exp_avg", "exp_avg_sq", *(["master"] if with_master else []))
    length = 4 * (N_NUMBERS + n * len(kinds))
    if len(contents) < length or (len(contents) > length and not is_shuffled):
        raise ValueError(f"{own} has {len(contents)} bytes, expected {length} for {model}")
    if config[1] == 3:  # in f32, of which the master is a copy
        kinds = kinds[:2]
    params: dict[str, dict[str, Array]] = {name: {} for name in shapes}
    at = 4 * N_NUMBERS
    for kind in kinds:
        for name, shape in shapes.items():
            count = int(np.prod(shape))
            params[name][kind] = np.frombuffer(contents, "<f4", count, at).reshape(shape)
            at += 4 * count
    return {"step": step, "params": params}


def numbers(path: str, contents: memoryview, magic: int) -> Array:
    """Returns the numbers with which a file begins."""
    if len(contents) < 4 * N_NUMBERS or int.from_bytes(contents[:4], "little") != magic:
        raise ValueError(f"{path} is no file of llm.c's, which begins with {magic}")
    return np.frombuffer(contents, "<i4", N_NUMBERS)


def from_llmc(optimizer: AdamW, state: Mapping[str, Any], **options: Unpack[Options]) -> None:
    """Takes over the state that `load_llmc` reads, under llm.c's names (`wte`, `qkvw`), in which
    one tensor has those of all layers. The learning rate and the decay, which only matrices have,
    are not in it. `Options` are those of `from_torch`."""
    take_preset(optimizer, llmc_found(state), "llm.c", options)


def llmc_found(state: Mapping[str, Any]) -> Found:
    """Returns what is in a state."""
    found = Found("llm.c's state")
    for name, parts in state["params"].items():
        is_matrix = name in ("wte", "wpe") or parts["exp_avg"].ndim == 3
        settings = SETTINGS if is_matrix else {**SETTINGS, "weight_decay": 0.0}
        found.params[name] = Param(state["step"], dict(parts), settings)
    return found
