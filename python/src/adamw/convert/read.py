"""Checkpoints as texts and numpy arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from .arrays import widened
from .files import seems

Array = np.ndarray[Any, Any]

#: safetensors' names of element types; bf16 comes as uint16.
NUMPY: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "C64": np.complex64,
}
INDEX = ".index.json"
#: The format of checkpoints in which the state of many parameters is packed.
PACKED = "2"


def read(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, Array]]:
    """Returns the texts and the tensors of a safetensors file, or of all those that an index
    (`.index.json`) names; bf16 as uint16. Tensors of types that numpy has not, such as those of 8
    bits, are left out. The library checks files; this only reads them."""
    own = os.fspath(path)
    if not own.endswith(INDEX):
        return _read(own)
    with open(own, encoding="utf-8") as file:
        index = json.load(file)
    if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
        raise ValueError(f"{own} has no weight_map, as an index of safetensors files has")
    texts: dict[str, str] = {}
    tensors: dict[str, Array] = {}
    for name in sorted(set(index["weight_map"].values())):
        if not isinstance(name, str) or os.path.basename(name) != name:
            raise ValueError(f"{own} names {name!r}, expected a file beside it")
        for known, new in zip((texts, tensors), _read(os.path.join(os.path.dirname(own), name))):
            known |= new  # type: ignore[operator]
    return texts, tensors


def _read(path: str) -> tuple[dict[str, str], dict[str, Array]]:
    """Returns the texts and the tensors of one file."""
    with open(path, "rb") as file:
        contents = file.read()
    start = 8 + int.from_bytes(contents[:8], "little")
    if contents[8:9] != b"{" or start > len(contents):
        what = f"is {seems(contents[:16])}" if contents[8:9] != b"{" else "ends in its header"
        raise ValueError(f"{path} is no whole safetensors file: it {what}")
    whole = memoryview(contents)
    try:
        header = json.loads(contents[8:start])
        texts = header.pop("__metadata__", None) or {}
        tensors = {}
        for name, entry in header.items():
            dtype, (first, last) = NUMPY.get(entry["dtype"]), entry["data_offsets"]
            if start + last > len(contents):
                raise ValueError(f"it ends before {name} does")
            if dtype is not None:
                values = np.frombuffer(whole[start + first : start + last], dtype)
                tensors[name] = values.reshape(entry["shape"])
        if texts.get("adamw_checkpoint") == PACKED:
            return _unpacked(texts, tensors)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no whole safetensors file: {error}") from error
    return texts, tensors


def _unpacked(
    texts: dict[str, str], packed: dict[str, Array]
) -> tuple[dict[str, str], dict[str, Array]]:
    """Returns what a checkpoint of few parameters would have of those whose state is packed."""
    texts, tensors = dict(texts), {}
    names = packed["params.name"].tobytes().decode().split("\0")[:-1]
    kinds = packed["params.kinds"].tobytes().decode().split("\0")[:-1]
    column = {name: packed[f"params.{name}"] for name in ("kind", "n_elements")}
    places = {name: packed.get(f"params.{name}") for name in ("first_element", "whole")}
    ends = dict.fromkeys(packed, 0)
    for number, name in enumerate(names):
        own = words(kinds[column["kind"][number]])
        n_elements = int(column["n_elements"][number])
        for listed in filter(None, own.pop("tensors", "").split(",")):
            part, dtype, *unit = listed.split(":")
            elements, stored = map(int, unit or (1, 1))
            whole = f"param.{dtype}" if part == "param" else f"state.{part}.{dtype}"
            first = ends[whole]
            ends[whole] = last = first + -(-n_elements // elements) * stored
            own_name = f"param.{name}" if part == "param" else f"state.{name}.{part}"
            tensors[own_name] = packed[whole][first:last]
        for counter in ("step", "beta1_power", "beta2_power"):
            tensors[f"state.{name}.{counter}"] = packed[f"params.{counter}"][number].reshape(())
        tensors[f"param_groups.{name}.lr"] = packed["params.lr"][number].reshape(())
        own["n_elements"] = str(n_elements)
        own |= {key: str(values[number]) for key, values in places.items() if values is not None}
        texts[f"param_groups.{name}"] = " ".join(f"{key}={value}" for key, value in own.items())
    return texts, tensors


def words(text: str) -> dict[str, str]:
    """Returns the settings in a text of a checkpoint."""
    pairs = (word.split("=", 1) for word in text.split(" "))
    return {name: value for name, value in pairs}


def settings_of(texts: dict[str, str], name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the settings of a parameter, and those of its group."""
    own = words(texts[f"param_groups.{name}"])
    return own, words(texts[f"groups.{own['group']}"])


def in_shape(values: Array, texts: dict[str, str], name: str, shape: Any) -> Array:
    """Returns a tensor of a parameter in the parameter's shape; -1: flat. A checkpoint has the
    elements in the order that they have in memory."""
    order = words(texts[f"param_groups.{name}"]).get("order")
    if order is None:
        return values.reshape(shape)
    if shape == -1:
        raise ValueError(
            f"{name!r} has its axes in the order {order} in memory, expected row-major, as flat "
            f"parts of it are"
        )
    sizes, axes = [size for size in shape if size > 1], [int(axis) for axis in order.split(",")]
    lying = values.reshape([sizes[axis] for axis in axes])
    return lying.transpose(np.argsort(axes)).reshape(shape)


def moments(
    texts: dict[str, str], tensors: dict[str, Array], name: str, shape: Any
) -> Iterator[tuple[str, Array]]:
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
        yield part, in_shape(widened(values), texts, name, shape)
