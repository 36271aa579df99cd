"""What the library reports: of a step, of a parameter, and of this machine."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from . import _abi
from ._library import check, library, version

DTYPES = {
    _abi.DTYPE_F32: "float32",
    _abi.DTYPE_F64: "float64",
    _abi.DTYPE_F16: "float16",
    _abi.DTYPE_BF16: "bfloat16",
    _abi.DTYPE_I16: "int16",
    _abi.DTYPE_U8: "uint8",
}
ISAS = {_abi.ISA_PORTABLE: "portable", _abi.ISA_AVX2: "avx2", _abi.ISA_AVX512: "avx512"}
DEVICES = {_abi.DEVICE_CPU: "cpu", _abi.DEVICE_CUDA: "cuda"}


@dataclass(frozen=True)
class StepInfo:
    """The report of the last successful step. None: it was not measured."""

    #: The number of elements of the parameters that had a gradient.
    n_elements: int
    #: Whether the step was skipped.
    skipped: bool
    #: The number of elements of gradients that are not finite.
    n_nonfinite: int | None
    #: The norm of all gradients together, unscaled and before clipping.
    grad_norm: float | None
    #: The smallest factor by which a gradient was multiplied to clip it by norm; 1 if none was.
    clip_factor: float
    #: With statistics: the norm of the change of the parameters, including decay.
    update_norm: float | None
    #: With statistics: the norm of the parameters after the step.
    param_norm: float | None
    #: With statistics: the number of elements whose updates rounding has lost.
    n_unchanged: int | None
    #: With statistics: the duration of the step.
    seconds: float | None
    #: The instruction set that the optimizer uses.
    isa: str
    #: The number of threads that work in a step that is large enough.
    num_threads: int
    #: Whether the step was skipped for a number in a device's memory that no step can use.
    invalid_inputs: bool


def step_info(raw: _abi.StepInfo) -> StepInfo:
    """Returns the library's report as Python has it."""
    measured, full = bool(raw.measured), bool(raw.has_statistics)
    return StepInfo(
        n_elements=raw.n_elements,
        skipped=bool(raw.skipped),
        n_nonfinite=raw.n_nonfinite if measured else None,
        grad_norm=raw.grad_norm if measured else None,
        clip_factor=raw.clip_factor,
        update_norm=raw.update_norm if full else None,
        param_norm=raw.param_norm if full else None,
        n_unchanged=raw.n_unchanged if full else None,
        seconds=raw.seconds if full else None,
        isa=ISAS.get(raw.isa, str(raw.isa)),
        num_threads=raw.num_threads,
        invalid_inputs=bool(raw.invalid_inputs),
    )


@dataclass(frozen=True)
class OffloadInfo:
    """What a step has copied for offloaded parameters; all is 0 if no times were taken."""

    #: The bytes of gradients that have come down, and of parameters that have gone up.
    n_bytes_down: int
    n_bytes_up: int
    #: The time that these copies took.
    seconds_down: float
    seconds_up: float
    #: The time that the processor worked.
    seconds_worked: float
    #: The time that nothing was stepped because of copies.
    seconds_waited: float
    #: The share of the copies that is hidden, from 0 to 1.
    hidden: float


def offload_info(raw: _abi.OffloadInfo) -> OffloadInfo:
    """Returns the library's report as Python has it."""
    return OffloadInfo(
        n_bytes_down=raw.n_bytes_down,
        n_bytes_up=raw.n_bytes_up,
        seconds_down=raw.seconds_down,
        seconds_up=raw.seconds_up,
        seconds_worked=raw.seconds_worked,
        seconds_waited=raw.seconds_waited,
        hidden=raw.hidden,
    )


@dataclass(frozen=True)
class ParamInfo:
    """A description of a parameter."""

    name: str
    #: Its number in the library: the lowest that was free when it was added.
    number: int
    n_elements: int
    dtype: str
    #: The number of steps that it has taken.
    step: int
    #: The number of its group.
    group: int
    #: Whether weight decay applies to it.
    decays: bool


def param_info(raw: _abi.ParamInfo) -> ParamInfo:
    """Returns the library's description as Python has it."""
    return ParamInfo(
        name=(raw.name or b"").decode(),
        number=raw.param,
        n_elements=raw.n_elements,
        dtype=DTYPES[raw.dtype],
        step=raw.step,
        group=raw.group,
        decays=bool(raw.decays),
    )


@dataclass(frozen=True)
class Capabilities:
    """What the loaded library can do on this machine."""

    version: str
    #: The instruction sets that are built in and run here, and the one that is used by default.
    isas: tuple[str, ...]
    best_isa: str
    #: The kinds of memory in which parameters can be stepped.
    devices: tuple[str, ...]
    #: The element types that a parameter can have.
    dtypes: tuple[str, ...]
    #: The number of processors that this process may use.
    num_cpus: int


def capabilities() -> Capabilities:
    """Returns what the loaded library can do on this machine."""
    raw = _abi.Capabilities()
    check(library.adamw_get_capabilities(raw, ctypes.sizeof(raw)))
    return Capabilities(
        version=version(),
        isas=tuple(name for number, name in ISAS.items() if raw.isas >> number & 1),
        best_isa=ISAS[raw.best_isa],
        devices=tuple(name for number, name in DEVICES.items() if raw.devices >> number & 1),
        dtypes=tuple(name for number, name in DTYPES.items() if raw.dtypes >> number & 1),
        num_cpus=raw.num_cpus,
    )
