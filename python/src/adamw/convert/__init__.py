"""Optimizer state of PyTorch, Paddle, DeepSpeed and bitsandbytes into an optimizer, and checkpoints
into the first three.

The library finds state by name, by PyTorch's distributed names and by Paddle's; what is left to do
is to give each framework's state those names. Nothing here imports a framework: tensors come in as
whatever numpy can see, such as what `pickled` reads from a framework's files.
"""

from .pickled import load_deepspeed, load_paddle, load_torch
from .read import read
from .taken import from_bitsandbytes, from_deepspeed, from_distributed, from_paddle, from_torch
from .written import to_deepspeed, to_paddle, to_torch

__all__ = [
    "from_bitsandbytes",
    "from_deepspeed",
    "from_distributed",
    "from_paddle",
    "from_torch",
    "load_deepspeed",
    "load_paddle",
    "load_torch",
    "read",
    "to_deepspeed",
    "to_paddle",
    "to_torch",
]
