"""Packages that are used if they are installed."""

from __future__ import annotations

import importlib
from typing import Any


def optional(name: str) -> Any:
    """Returns a module, or None if its package is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
