"""AdamW over arrays that stay yours: libadamw for Python.

optimizer = adamw.AdamW({"w": w}, lr=1e-3)
optimizer.set_grad("w", grad)
optimizer.step()
"""

from __future__ import annotations

from . import schedules
from ._library import version
from .checkpoints import Entry, Saved, SaveProgress, inspect
from .errors import (
    AdamWError,
    BadHandleError,
    BusyError,
    CallbackError,
    ClipConflictError,
    CorruptError,
    DeviceError,
    InternalError,
    InvalidArgumentError,
    IoError,
    LrConflictError,
    MismatchError,
    NonfiniteError,
    NotFoundError,
    OutOfMemoryError,
    PoisonedError,
    TensorTypeError,
    UnsupportedError,
)
from .groups import Group
from .hyper import LossScalerState, ScheduleState
from .optimizer import AdamW
from .parameters import Memory
from .ranks import shard_ranges
from .schedules import Schedule
from .settings import Settings
from .statistics import Capabilities, OffloadInfo, ParamInfo, StepInfo, capabilities
from .team import Team

__version__ = version()

__all__ = [
    "AdamW",
    "AdamWError",
    "BadHandleError",
    "BusyError",
    "CallbackError",
    "Capabilities",
    "ClipConflictError",
    "CorruptError",
    "DeviceError",
    "Entry",
    "Group",
    "InternalError",
    "InvalidArgumentError",
    "IoError",
    "LossScalerState",
    "LrConflictError",
    "Memory",
    "MismatchError",
    "NonfiniteError",
    "NotFoundError",
    "OffloadInfo",
    "OutOfMemoryError",
    "ParamInfo",
    "PoisonedError",
    "SaveProgress",
    "Saved",
    "Schedule",
    "ScheduleState",
    "Settings",
    "StepInfo",
    "Team",
    "TensorTypeError",
    "UnsupportedError",
    "capabilities",
    "inspect",
    "schedules",
    "shard_ranges",
    "version",
]
