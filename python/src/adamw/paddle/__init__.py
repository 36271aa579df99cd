"""The library's AdamW as a `paddle.optimizer.Optimizer`."""

from __future__ import annotations

from ._optimizer import AdamW

__all__ = ["AdamW"]
