"""The hyper-parameters that a group can have of its own, under the names that Python gives them."""

from __future__ import annotations

import ctypes
import operator
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, TypeVar

from . import _abi
from .errors import InvalidArgumentError

Precision = Literal["master", "split", "stochastic", "kahan"] | None
Moments = Literal["bf16", "8bit", "4bit"] | None
Lazy = Literal["rows", "exact"] | None
ClipScope = Literal["all", "group"]
Nonfinite = Literal["propagate", "skip", "fail"]
BiasCorrection = Literal["products", "current"] | None
Isa = Literal["portable", "avx2", "avx512"] | None

#: How the precision of 16-bit parameters is kept. "master": an f32 master; None: it is not.
PRECISIONS = {
    None: _abi.PRECISION_DEFAULT,
    "master": _abi.PRECISION_DEFAULT,
    "split": _abi.PRECISION_SPLIT,
    "stochastic": _abi.PRECISION_STOCHASTIC,
    "kahan": _abi.PRECISION_KAHAN,
}
#: How moments are stored. None: in f32, and in f64 for f64 parameters.
MOMENTS = {
    None: _abi.MOMENTS_F32,
    "bf16": _abi.MOMENTS_BF16,
    "8bit": _abi.MOMENTS_8BIT,
    "4bit": _abi.MOMENTS_4BIT,
}
#: Which powers of the betas correct the bias of the moments. None: it is not corrected.
BIAS_CORRECTIONS = {
    None: _abi.BIAS_CORRECTION_NONE,
    "products": _abi.BIAS_CORRECTION_PRODUCTS,
    "current": _abi.BIAS_CORRECTION_CURRENT,
}
#: In what the update differs from the usual one.
FORMULAS = {
    "eps_before_correction": _abi.FORMULA_EPS_BEFORE_CORRECTION,
    "decays_new_value": _abi.FORMULA_DECAYS_NEW_VALUE,
}
#: What a global norm is computed over.
CLIP_SCOPES = {"all": _abi.CLIP_SCOPE_HANDLE, "group": _abi.CLIP_SCOPE_GROUP}
#: What happens to rows that a sparse gradient does not list.
LAZY = {None: _abi.LAZY_OFF, "rows": _abi.LAZY_ROWS, "exact": _abi.LAZY_EXACT}
NONFINITE = {
    "propagate": _abi.NONFINITE_PROPAGATE,
    "skip": _abi.NONFINITE_SKIP,
    "fail": _abi.NONFINITE_FAIL,
}
ISAS = {
    None: _abi.ISA_BEST,
    "portable": _abi.ISA_PORTABLE,
    "avx2": _abi.ISA_AVX2,
    "avx512": _abi.ISA_AVX512,
}


class Settings(TypedDict, total=False):
    """What a group can have of its own; what it leaves out is that of the optimizer."""

    lr: float
    lr_scale: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    independent_weight_decay: bool
    amsgrad: bool
    maximize: bool
    bias_correction: BiasCorrection
    eps_before_correction: bool
    decays_new_value: bool
    clip_norm: float | None
    clip_value: float | tuple[float, float] | None
    clip_each: bool
    lazy: Lazy
    precision: Precision
    moments: Moments


def choice(name: str, value: Any, choices: Mapping[Any, int]) -> int:
    """Returns the library's number for a choice; InvalidArgumentError for any other value."""
    if value not in choices:
        expected = ", ".join(map(repr, choices))
        raise InvalidArgumentError(f"{name} is {value!r}, expected one of {expected}")
    return choices[value]


CLIPS = ("clip_norm", "clip_value", "clip_each")

Sized = TypeVar("Sized", bound=ctypes.Structure)


UNSIGNED = (ctypes.c_uint32, ctypes.c_uint64, ctypes.c_size_t)


def unsigned(name: str, value: Any, bits: int = 64) -> int:
    """Returns a number that an unsigned type of C can hold, in which ctypes would wrap others."""
    number = operator.index(value)
    if not 0 <= number < 1 << bits:
        raise InvalidArgumentError(f"{name} is {number}, expected 0 to {(1 << bits) - 1}")
    return number


def assign(struct: ctypes.Structure, **fields: Any) -> None:
    """Sets fields of a struct. InvalidArgumentError for a number that its field cannot hold."""
    kinds: dict[str, Any] = {name: kind for name, kind, *_ in struct._fields_}
    for name, value in fields.items():
        if kinds[name] in UNSIGNED:
            value = unsigned(name, value, 8 * ctypes.sizeof(kinds[name]))
        setattr(struct, name, value)


def sized(struct: type[Sized], **fields: Any) -> Sized:
    """Returns a struct of zeros, but for its size and these fields."""
    made = struct()
    assign(made, struct_size=ctypes.sizeof(struct), **fields)
    return made


def write(
    config: _abi.Config | _abi.GroupConfig, settings: Mapping[str, Any], master: bool
) -> None:
    """Writes settings, whose keys are those of Settings, to a config of an optimizer that has
    masters or has none."""
    for name, value in settings.items():
        if name == "betas":
            config.beta1, config.beta2 = value
        elif name in ("eps", "weight_decay", "lr_scale"):
            setattr(config, name, value)
        elif name in ("independent_weight_decay", "amsgrad", "maximize"):
            setattr(config, name, bool(value))
        elif name == "bias_correction":
            config.bias_correction = choice(name, value, BIAS_CORRECTIONS)
        elif name in FORMULAS:
            others = config.formula & ~FORMULAS[name]
            config.formula = others | (FORMULAS[name] if value else 0)
        elif name == "lazy":
            config.lazy_mode = choice(name, value, LAZY)
        elif name == "precision":
            config.precision = choice(name, value, PRECISIONS)
            if config.precision == _abi.PRECISION_DEFAULT and (value == "master") != master:
                raise InvalidArgumentError(
                    f"the precision of a group is {value!r}, but masters are a choice for all "
                    f"groups: make the optimizer with precision={value!r}"
                )
        elif name == "moments":
            config.moments = choice(name, value, MOMENTS)
        elif name not in CLIPS:
            known = ", ".join(Settings.__annotations__)
            raise InvalidArgumentError(f"a group has no {name!r} of its own, expected {known}")
    _write_clip(config, {name: settings[name] for name in CLIPS if name in settings})


def _write_clip(config: _abi.Config | _abi.GroupConfig, settings: Mapping[str, Any]) -> None:
    each = settings.get("clip_each", config.clip == _abi.CLIP_NORM)
    by_norm = _abi.CLIP_NORM if each else _abi.CLIP_GLOBAL_NORM
    norm, value = settings.get("clip_norm"), settings.get("clip_value")
    if norm is not None and value is not None:
        raise InvalidArgumentError(
            f"clip_norm is {norm} and clip_value {value}, expected at most one of them"
        )
    if norm is not None:
        config.clip, config.clip_norm, config.clip_min, config.clip_max = by_norm, norm, 0, 0
    elif value is not None:
        low, high = value if isinstance(value, tuple) else (-value, value)
        config.clip, config.clip_norm = _abi.CLIP_VALUE, 0
        config.clip_min, config.clip_max = low, high
    elif "clip_norm" in settings or "clip_value" in settings:
        config.clip, config.clip_norm, config.clip_min, config.clip_max = _abi.CLIP_NONE, 0, 0, 0
    elif config.clip in (_abi.CLIP_NORM, _abi.CLIP_GLOBAL_NORM):
        config.clip = by_norm
