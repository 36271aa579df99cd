"""The libraries whose files `python -m adamw convert` takes, and what tells their files apart."""

from __future__ import annotations

import glob
import os
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from .files import Path, load_deepspeed, load_paddle, load_torch, seems
from .folder import read_folder
from .found import Found
from .of_burn import MAGIC, burn_found, load_burn
from .of_debiased import heavyball_found, optimi_found
from .of_deepspeed import deepspeed_found
from .of_distributed import distributed_found
from .of_lists import keras_found, load_keras, tinygrad_found
from .of_llmc import STATE, llmc_found, load_llmc
from .of_mindspore import load_mindspore, mindspore_found
from .of_onnxruntime import load_onnxruntime, onnxruntime_found
from .of_paddle import paddle_found
from .of_pytorch_optimizer import SIGNS, class_of, pytorch_optimizer_found
from .of_tfjs import load_tfjs, tfjs_found
from .of_torch import bitsandbytes_found, parts_of, torch_found
from .of_trees import load_flax, mlx_found, optax_found
from .read import INDEX, read

State = Mapping[str, Any]


class Given(NamedTuple):
    """What was given beside a file, because it is not in there."""

    #: The names of parameters that the file only numbers.
    names: Sequence[str] | None
    betas: tuple[float, float] | None
    ignore: Collection[str]
    calls_per_update: int


class Source(NamedTuple):
    """A library whose files are taken."""

    #: What writes them, for those who read the help.
    written_by: str
    find: Callable[[Any, Given], Found]


def numbered(given: Given) -> Sequence[str]:
    """Returns the names of parameters that a file numbers."""
    if given.names is None:
        raise ValueError(
            "its parameters have numbers: give their names by --names FILE, one a line"
        )
    return given.names


def of_torch(find: Callable[..., Found]) -> Callable[[Any, Given], Found]:
    """Returns what finds state in a state_dict whose parameters may have names."""

    def found(saved: Any, given: Given) -> Found:
        if given.names is None and not all("param_names" in one for one in parts_of(saved)[0]):
            raise ValueError(
                "PyTorch numbers its parameters: give their names by --names FILE, one a line, in "
                "the order of its groups (for one group: that of model.named_parameters())"
            )
        return find(given.names, saved, {"ignore": given.ignore})

    return found


def pytorch_optimizer_of_class(*of: Any) -> Found:
    """Returns what is in a state_dict of pytorch_optimizer, whose class is known already."""
    return pytorch_optimizer_found(*of)[1]


def of_paddle(state: State, given: Given) -> Found:
    """Returns what is in a file of Paddle's."""
    if given.betas is None:
        raise ValueError("Paddle has powers of the betas, in which steps are found: give --betas")
    return paddle_found(state, given.betas)


ARCHIVE = "an archive of PyTorch's"
SOURCES = {
    "torch": Source(
        "torch.save of state_dict(), also of torchao's and pytorch_optimizer's AdamW",
        of_torch(torch_found),
    ),
    "distributed": Source(
        "state.<param>.exp_avg and so on: safetensors, or a folder of torch.distributed.checkpoint",
        lambda own, _: distributed_found((), own),
    ),
    "bitsandbytes": Source("torch.save of state_dict()", of_torch(bitsandbytes_found)),
    "deepspeed": Source(
        "the folder of a tag, with the files of ZeRO's ranks (stages 1 and 2)",
        lambda own, _: deepspeed_found(own),
    ),
    "paddle": Source("paddle.save of state_dict(); needs --betas", of_paddle),
    "optax": Source(
        "flax.serialization.to_bytes of the state",
        lambda own, _: optax_found(own),
    ),
    "keras": Source(
        "model.save or model.save_weights; needs --names",
        lambda own, given: keras_found(numbered(given), own, given.calls_per_update),
    ),
    "mlx": Source(
        "mx.save_safetensors of dict(tree_flatten(optimizer.state))",
        lambda own, _: mlx_found(own),
    ),
    "tinygrad": Source(
        "safe_save of get_state_dict(optimizer); needs --names",
        lambda own, given: tinygrad_found(numbered(given), own),
    ),
    "optimi": Source("torch.save of state_dict()", of_torch(optimi_found)),
    "heavyball": Source("torch.save of state_dict()", of_torch(heavyball_found)),
    **{
        name: Source("torch.save of state_dict()", of_torch(pytorch_optimizer_of_class))
        for name in SIGNS.values()
    },
    "mindspore": Source(
        "save_checkpoint of mindspore.experimental.optim.AdamW",
        lambda own, _: mindspore_found(own)[1],
    ),
    "mindspore.AdamWeightDecay": Source(
        "save_checkpoint of mindspore.nn.AdamWeightDecay",
        lambda own, _: mindspore_found(own)[1],
    ),
    "onnxruntime": Source(
        "CheckpointState.save_checkpoint with include_optimizer_state",
        lambda own, _: onnxruntime_found(own),
    ),
    "llm.c": Source(
        "state_<step>_00000.bin of train_gpt2cu, with model_<step>.bin beside it",
        lambda own, _: llmc_found(own),
    ),
    "burn": Source("optimizer.save", lambda own, _: burn_found(own)),
    "tensorflow.js": Source(
        "the model.json of model.save with includeOptimizer",
        lambda own, _: tfjs_found(own),
    ),
}


def of_state_dict(saved: Any) -> str:
    """Returns whose a state_dict with the keys of PyTorch's is."""
    groups, states = parts_of(saved)
    keys = {key for state in states.values() for key in state}
    if {"state1", "__bnb_optimizer_quant_state__"} & keys:
        return "bitsandbytes"
    if keys == {0}:
        return "heavyball"
    own = class_of(groups)
    if own is not None:
        return own
    if "exp_avg" in keys and "step" not in keys and any("step" in group for group in groups):
        return "optimi"
    return "torch"


def of_names(tensors: State) -> str:
    """Returns whose the tensors of a safetensors file are."""
    if "b2_t" in tensors:
        return "tinygrad"
    return "mlx" if "step" in tensors and "learning_rate" in tensors else "distributed"


class Kind(NamedTuple):
    """A kind of files: what reads one, and whose it is by what it holds."""

    load: Callable[[Path], Any]
    whose: Callable[[Any], str]


KINDS = {
    ARCHIVE: Kind(load_torch, of_state_dict),
    "a safetensors file": Kind(lambda path: read(path)[1], of_names),
    "a folder of torch.distributed.checkpoint": Kind(read_folder, lambda _: "distributed"),
    "a folder of DeepSpeed's": Kind(load_deepspeed, lambda _: "deepspeed"),
    "a pickle": Kind(load_paddle, lambda _: "paddle"),
    "a file of flax's": Kind(load_flax, lambda _: "optax"),
    "a file of Keras's": Kind(load_keras, lambda _: "keras"),
    "a checkpoint of MindSpore's": Kind(load_mindspore, lambda own: mindspore_found(own)[0]),
    "a checkpoint of ONNX Runtime's": Kind(load_onnxruntime, lambda _: "onnxruntime"),
    "a state of llm.c's": Kind(load_llmc, lambda _: "llm.c"),
    "a record of burn's": Kind(load_burn, lambda _: "burn"),
    "a model of TensorFlow.js's": Kind(load_tfjs, lambda _: "tensorflow.js"),
}


def kind_of(path: str) -> str:
    """Returns the kind of a file or folder, a key of `KINDS`; ValueError if it is of none."""
    if os.path.isdir(path):
        if os.path.exists(os.path.join(path, ".metadata")):
            return "a folder of torch.distributed.checkpoint"
        if glob.glob(os.path.join(glob.escape(path), "*_optim_states.pt")):
            return "a folder of DeepSpeed's"
        raise ValueError(
            f"{path} is a folder without .metadata, as torch.distributed.checkpoint has, and "
            f"without *_optim_states.pt, as DeepSpeed has"
        )
    with open(path, "rb") as file:
        start = file.read(16)
    if path.endswith(INDEX) or start[8:9] == b"{":
        return "a safetensors file"
    if start.startswith(STATE.to_bytes(4, "little")):
        return "a state of llm.c's"
    if start.startswith(MAGIC):
        return "a record of burn's"
    if start.startswith(b"{"):
        return "a model of TensorFlow.js's"
    if start.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                is_keras = "model.weights.h5" in archive.namelist()
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path} is no whole archive: {error}") from error
        return "a file of Keras's" if is_keras else "an archive of PyTorch's"
    if start.startswith(b"\x89HDF"):
        return "a file of Keras's"
    if start[4:8] == b"ODTC":
        return "a checkpoint of ONNX Runtime's"
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle"
    if start[:1] == b"\n":
        return "a checkpoint of MindSpore's"
    if start and (0x80 <= start[0] <= 0x9F or start[0] in (0xDC, 0xDD, 0xDE, 0xDF)):
        return "a file of flax's"
    raise ValueError(f"{path} is of no kind that is known here: it is {seems(start)}")


def found_in(path: str, key: str | None, name: str | None, given: Given) -> tuple[str, Found]:
    """Returns whose a file is, and what is in it; ValueError if it is not that of `name`, which may
    be None. `key` is that of the entry that has the state."""
    kind = kind_of(path)
    saved = KINDS[kind].load(path)
    if key is not None:
        saved = saved[key]
    if kind == ARCHIVE:
        try:
            parts_of(saved)
        except ValueError as error:
            raise ValueError(f"{path}: {error} (--key names an entry)") from None
    try:
        whose = KINDS[kind].whose(saved)
        if name not in (None, whose):
            raise ValueError(f"it is {kind}, by what it holds of {whose}, not of {name}")
        return whose, SOURCES[whose].find(saved, given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
