"""State that lists parameters by position: that of Keras, and that of tinygrad."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from .._optional import optional
from ..optimizer import AdamW
from .arrays import number_of, rate_in
from .found import Found, Param, entries
from .presets import take_preset
from .take import Options

Path = str | os.PathLike[str]


def load_keras(path: Path) -> list[Any]:
    """Returns the variables of the optimizer in a `.keras` or `.weights.h5` file of Keras 3, in
    their order; needs h5py."""
    h5py = optional("h5py")
    if h5py is None:
        raise ValueError("files of Keras are read with h5py, which is not installed")
    source: Any = os.fspath(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            source = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(source, "r") as file:
        if "optimizer/vars" not in file:
            raise ValueError(
                f"{os.fspath(path)} has no optimizer/vars, but {', '.join(file)}: save the model "
                f"after it was compiled and trained"
            )
        own = file["optimizer/vars"]
        return [np.asarray(own[str(number)]) for number in range(len(own))]


def from_keras(
    optimizer: AdamW,
    names: Sequence[str],
    variables: Sequence[Any],
    *,
    calls_per_update: int = 1,
    **options: Unpack[Options],
) -> None:
    """Takes over the variables of `keras.optimizers.AdamW`, which are a list: `optimizer.variables`
    or what `load_keras` reads. `names` are the names here of `model.trainable_variables`, in their
    order. With gradient accumulation, Keras counts every call: `calls_per_update` is its
    `gradient_accumulation_steps`. `Options` are those of `from_torch`."""
    take_preset(optimizer, keras_found(names, variables), "keras", options, calls_per_update)


def keras_found(names: Sequence[str], variables: Sequence[Any]) -> Found:
    """Returns what is in a list of Keras's variables: the count and the learning rate, then the
    moments of each parameter, then the largest squares of all, if there are any."""
    found, n = Found("Keras's variables"), len(names)
    kinds = {2 + 2 * n: False, 2 + 3 * n: True}
    if len(variables) not in kinds:
        raise ValueError(
            f"there are {len(variables)} variables, expected 2 and 2 (with amsgrad 3) for each of "
            f"the {n} names"
        )
    settings = {"lr": number_of(variables[1], "the learning rate")}
    for number, name in enumerate(names):
        first, second = variables[2 + 2 * number : 4 + 2 * number]
        param = Param(variables[0], {"exp_avg": first, "exp_avg_sq": second}, settings)
        if kinds[len(variables)]:
            param.parts["max_exp_avg_sq"] = variables[2 + 2 * n + number]
        found.params[name] = param
    return found


def from_tinygrad(
    optimizer: AdamW, names: Sequence[str], state: Mapping[str, Any], **options: Unpack[Options]
) -> None:
    """Takes over `tinygrad.nn.state.get_state_dict(optimizer)`, or what `read` finds in the file
    that `safe_save` has written of it. `names` are the names here of the parameters in the order in
    which tinygrad's optimizer has them. Its step is found in the product of the betas. `Options`
    are those of `from_torch`."""
    take_preset(optimizer, tinygrad_found(names, state), "tinygrad", options)


def tinygrad_found(names: Sequence[str], state: Mapping[str, Any]) -> Found:
    """Returns what is in a state of tinygrad."""
    found = Found("tinygrad's state")
    n = sum(key.startswith("m.") for key in state)
    if "b2_t" not in state or n != len(names):
        raise ValueError(
            f"expected b2_t, and m.0 to m.{len(names) - 1} for the {len(names)} names, but this is "
            f"{entries(state)}"
        )
    settings = rate_in(state, "lr")
    for number, name in enumerate(names):
        keys = {"exp_avg": f"m.{number}", "exp_avg_sq": f"v.{number}"}
        parts = {part: state[key] for part, key in keys.items() if key in state}
        found.params[name] = Param(state["b2_t"], parts, settings)
    return found
