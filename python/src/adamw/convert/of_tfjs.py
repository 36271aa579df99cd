"""Models of TensorFlow.js that were saved with their optimizer: a `model.json`, and the files of
weights that it names."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, Unpack

import numpy as np

from ..optimizer import AdamW
from .found import Found, Param, entries
from .made import Array
from .presets import take_preset
from .take import USUAL, Options

Path = str | os.PathLike[str]
TYPES = {"float32": np.float32, "int32": np.int32, "bool": np.bool_}
NUMBERS = {"learningRate", "beta1", "beta2", "epsilon"}
#: How it calls what a parameter has.
PARTS = {"m": "exp_avg", "v": "exp_avg_sq"}


def load_tfjs(path: Path) -> dict[str, Any]:
    """Returns the optimizer of a model that was saved with `includeOptimizer`: its `config`, and
    its `weights` by name. `path` is that of the `model.json`."""
    own = os.fspath(path)
    with open(own, "rb") as file:
        contents = file.read()
    try:
        model = json.loads(contents)
        if "trainingConfig" not in model:
            raise ValueError("it has no trainingConfig: save the model with includeOptimizer")
        manifest = model["weightsManifest"]
        names = [name.removeprefix("./") for group in manifest for name in group["paths"]]
        if len(set(names)) < len(names):
            raise ValueError("it names a file twice")
        weights: dict[str, Array] = {}
        for group in manifest:
            weights.update(weights_in(group, os.path.dirname(own)))
        return {"config": model["trainingConfig"]["optimizer_config"], "weights": weights}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{own} is no model of TensorFlow.js's: {error}") from error


def weights_in(group: Mapping[str, Any], folder: str) -> Iterator[tuple[str, Array]]:
    """Returns the optimizer's weights in a group of files, which are one behind another."""
    files = []
    for name in group["paths"]:
        own = name.removeprefix("./")
        if os.path.basename(own) != own:
            raise ValueError(f"it names {name!r}, expected a file beside it")
        with open(os.path.join(folder, own), "rb") as file:
            files.append(file.read())
    data, start = b"".join(files), 0
    for spec in group["weights"]:
        if spec["dtype"] not in TYPES or "quantization" in spec:
            raise ValueError(f"{spec['name']} is of {spec['dtype']}, or quantized")
        dtype, shape = np.dtype(TYPES[spec["dtype"]]), spec["shape"]
        end = start + math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or end > len(data):
            raise ValueError(f"its files end before {spec['name']} does")
        if spec.get("group") == "optimizer":
            yield spec["name"], np.frombuffer(data[start:end], dtype).reshape(shape)
        start = end


def from_tfjs(optimizer: AdamW, state: Mapping[str, Any], **options: Unpack[Options]) -> None:
    """Takes over the state of `tf.train.adam` that `load_tfjs` reads. It has no decay. Parameters
    have the names that TensorFlow.js gives them (`dense/kernel`), which `rename` makes yours.
    `Options` are those of `from_torch`."""
    take_preset(optimizer, tfjs_found(state), "tensorflow.js", options)


def tfjs_found(state: Mapping[str, Any]) -> Found:
    """Returns what is in the state of TensorFlow.js."""
    config, weights = state["config"], state["weights"]
    own = config.get("config") or {}
    if config.get("class_name") != "Adam" or not NUMBERS <= set(own) or "iter" not in weights:
        raise ValueError(
            f"expected Adam with its numbers and the weight iter, but this is "
            f"{config.get('class_name')} with {entries(own)} and {entries(weights)}"
        )
    settings = {
        **USUAL,
        "lr": own["learningRate"],
        "betas": (own["beta1"], own["beta2"]),
        "eps": own["epsilon"],
        "weight_decay": 0.0,
    }
    found = Found("TensorFlow.js's model")
    for key, value in weights.items():
        name, _, part = key.rpartition("/")
        if part in PARTS and name:
            param = found.params.setdefault(name, Param(weights["iter"], settings=settings))
            param.parts[PARTS[part]] = value
        elif key != "iter":
            found.rest.append(key)
    return found
