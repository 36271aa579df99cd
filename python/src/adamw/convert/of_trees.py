"""State that has the form of a tree of parameters: that of optax, and that of MLX."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Unpack

import numpy as np

from .._optional import optional
from ..optimizer import AdamW
from .arrays import rate_in
from .found import Found, Param, entries, some
from .presets import take_preset
from .take import Options

Path = str | os.PathLike[str]
#: How optax calls the parts of its state.
OPTAX = {"mu": "exp_avg", "nu": "exp_avg_sq", "nu_max": "max_exp_avg_sq"}
#: How MLX calls them.
MLX = {"m": "exp_avg", "v": "exp_avg_sq"}


def from_optax(optimizer: AdamW, state: Any, **options: Unpack[Options]) -> None:
    """Takes over the state of `optax.adamw`, also inside of `optax.chain` and other wrappers: as
    optax has it, or as `load_flax` reads it. Parameters are called by the keys of their tree, with
    dots between them (`params.Dense_0.kernel`). `Options` are those of `from_torch`."""
    take_preset(optimizer, optax_found(state), "optax", options)


def optax_found(state: Any) -> Found:
    """Returns what is in a state of optax."""
    of_adam = list(adam_states(state))
    if len(of_adam) != 1:
        raise ValueError(
            f"there are {len(of_adam)} states of Adam (count, mu, nu), expected one: give that of "
            f"one optimizer"
        )
    found = Found("optax's state")
    own = of_adam[0]
    for key, part in OPTAX.items():
        for name, value in leaves("", own.get(key) or {}):
            param = found.params.setdefault(name, Param(own["count"]))
            param.parts[part] = value
    return found


def adam_states(state: Any) -> Iterator[dict[str, Any]]:
    """Returns the states of Adam in one of optax: tuples of tuples, some of which have names."""
    fields = inner(state)
    if fields is None:
        return
    if {"count", "mu", "nu"} <= set(fields):
        yield fields
        return
    for value in fields.values():
        yield from adam_states(value)


def inner(state: Any) -> dict[str, Any] | None:
    """Returns what a container has by key, None if it is none."""
    if isinstance(state, Mapping):
        return {str(key): value for key, value in state.items()}
    if hasattr(state, "_asdict"):
        return dict(state._asdict())
    if isinstance(state, (tuple, list)):
        return {str(number): value for number, value in enumerate(state)}
    return None


def leaves(before: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """Returns the leaves of a tree, by the keys that lead to them."""
    fields = inner(tree)
    if fields is None:
        if tree is not None:
            yield before, tree
        return
    for key, value in fields.items():
        yield from leaves(f"{before}.{key}" if before else key, value)


def load_flax(path: Path) -> Any:
    """Returns what `flax.serialization.to_bytes` has written, without flax; needs msgpack."""
    msgpack = optional("msgpack")
    if msgpack is None:
        raise ValueError("files of flax are read with msgpack, which is not installed")
    with open(path, "rb") as file:
        contents = file.read()

    def array(code: int, data: bytes) -> Any:
        if code not in (1, 3):
            raise ValueError(f"an extension {code}, expected an array")
        shape, name, elements = msgpack.unpackb(data)
        return np.frombuffer(elements, *dtype_of(name)).reshape(shape)

    try:
        return msgpack.unpackb(contents, ext_hook=array, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"{os.fspath(path)} is no file of flax's: {error}") from error


def dtype_of(name: Any) -> tuple[Any, ...]:
    """Returns the type of numpy's that flax calls by a name; bf16 as uint16."""
    text = name.decode() if isinstance(name, bytes) else str(name)
    if text == "bfloat16":
        return (np.uint16,)
    dtype = np.dtype(text)
    if dtype.kind not in "fiub":
        raise ValueError(f"the type {text!r}, expected one of numbers")
    return (dtype,)


def from_mlx(
    optimizer: AdamW,
    state: Mapping[str, Any],
    *,
    bias_correction: bool = False,
    **options: Unpack[Options],
) -> None:
    """Takes over `mlx.optimizers.AdamW.state`: the tree, or its leaves by name, as `read` finds
    them in the file of `mx.save_safetensors(path, dict(tree_flatten(optimizer.state)))`.
    `bias_correction` is that of MLX's optimizer, which does not save it. `Options` are those of
    `from_torch`."""
    preset = "mlx.bias_correction" if bias_correction else "mlx"
    take_preset(optimizer, mlx_found(state), preset, options)


def mlx_found(state: Mapping[str, Any]) -> Found:
    """Returns what is in a state of MLX."""
    found = Found("MLX's state")
    if "step" not in state:
        raise ValueError(f"MLX's state has a step, but this is {entries(state)}")
    settings = rate_in(state, "learning_rate")
    for key, value in leaves("", state):
        name, _, part = key.rpartition(".")
        if part in MLX and name:
            param = found.params.setdefault(name, Param(state["step"], settings=settings))
            param.parts[MLX[part]] = value
        elif key not in ("step", "learning_rate"):
            found.rest.append(key)
    if not found.params:
        raise ValueError(f"nothing is called <param>.m in MLX's state, but {some(list(state))}")
    return found
