"""State of other frameworks into an optimizer, and checkpoints into some of them.

The state of each framework is found by a reader of its own, and brought into one form. From there
it goes into the optimizer by one load of a checkpoint in memory, which takes all of it or nothing.
Nothing here imports a framework: tensors come in as whatever numpy can see, such as what the
functions that begin with `load` and `read` find in files.
"""

from .files import load_deepspeed, load_paddle, load_torch
from .folder import read_folder
from .of_burn import from_burn, load_burn
from .of_debiased import from_heavyball, from_optimi
from .of_deepspeed import from_deepspeed
from .of_distributed import from_distributed
from .of_lists import from_keras, from_tinygrad, load_keras
from .of_llmc import from_llmc, load_llmc
from .of_mindspore import from_mindspore, load_mindspore
from .of_onnxruntime import from_onnxruntime, load_onnxruntime
from .of_paddle import from_paddle
from .of_pytorch_optimizer import from_pytorch_optimizer
from .of_tfjs import from_tfjs, load_tfjs
from .of_torch import from_bitsandbytes, from_torch
from .of_trees import from_mlx, from_optax, load_flax
from .presets import PRESETS, Preset, from_moments
from .read import read
from .take import Options
from .written import to_deepspeed, to_paddle, to_torch

__all__ = [
    "PRESETS",
    "Options",
    "Preset",
    "from_bitsandbytes",
    "from_burn",
    "from_deepspeed",
    "from_distributed",
    "from_heavyball",
    "from_keras",
    "from_llmc",
    "from_mindspore",
    "from_mlx",
    "from_moments",
    "from_onnxruntime",
    "from_optax",
    "from_optimi",
    "from_paddle",
    "from_pytorch_optimizer",
    "from_tfjs",
    "from_tinygrad",
    "from_torch",
    "load_burn",
    "load_deepspeed",
    "load_flax",
    "load_keras",
    "load_llmc",
    "load_mindspore",
    "load_onnxruntime",
    "load_paddle",
    "load_tfjs",
    "load_torch",
    "read",
    "read_folder",
    "to_deepspeed",
    "to_paddle",
    "to_torch",
]
