"""The library's AdamW as a `torch.optim.Optimizer`."""

from __future__ import annotations

from ._optimizer import AdamW

__all__ = ["AdamW"]
