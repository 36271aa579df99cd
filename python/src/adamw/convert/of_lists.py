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
    order. With gradient accumulation, Keras counts every call, and has one variable more for each
    name: `calls_per_update` is its `gradient_accumulation_steps`. `Options` are those of
    `from_torch`."""
    found = keras_found(names, variables, calls_per_update)
    take_preset(optimizer, found, "keras", options, calls_per_update)


def keras_found(names: Sequence[str], variables: Sequence[Any], calls_per_update: int) -> Found:
    """Returns what is in a list of Keras's variables: the count; the learning rate, if it comes
    from no schedule; the sums of gradients, where several calls make an update; the moments of each
    parameter; the largest squares of all, if there are any."""
    found, n = Found("Keras's variables"), len(names)
    has_rate = len(variables) > 1 and np.ndim(variables[1]) == 0
    first = 1 + has_rate + (n if calls_per_update > 1 else 0)
    moments, largest = variables[first : first + 2 * n], variables[first + 2 * n :]
    if len(moments) < 2 * n or len(largest) not in (0, n):
        raise ValueError(
            f"there are {len(variables)} variables, expected {first} and 2 (with amsgrad 3) for "
            f"each of the {n} names: calls_per_update is {calls_per_update}, Keras's "
            f"gradient_accumulation_steps"
        )
    rate = {"lr": number_of(variables[1], "the learning rate")} if has_rate else {}
    for number, name in enumerate(names):
        parts = {"exp_avg": moments[2 * number], "exp_avg_sq": moments[2 * number + 1]}
        if largest:
            parts["max_exp_avg_sq"] = largest[number]
            require_largest(name, parts["exp_avg_sq"], largest[number])
        found.params[name] = Param(variables[0], parts, rate)
    return found


def require_largest(name: str, squares: Any, largest: Any) -> None:
    """Raises ValueError if a variable that comes where Keras has the largest squares is none."""
    squares, largest = np.asarray(squares), np.asarray(largest)
    if squares.shape != largest.shape or np.any(squares < 0) or np.any(largest < squares):
        raise ValueError(
            f"the squares of {name!r} are negative, or above what should be the largest of them: "
            f"there is a variable before the moments. With gradient accumulation, say "
            f"calls_per_update; with use_ema, leave out the averages of the parameters"
        )


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
