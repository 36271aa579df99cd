"""What Paddle's groups and parameters say about a step, as the library takes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import paddle

from ..errors import UnsupportedError
from ..parameters import Regularizer
from ..settings import Settings


def number(value: Any) -> float:
    """Returns the value that a number, or a tensor of one, has now."""
    item: Any = value.item() if isinstance(value, paddle.Tensor) else value
    return float(item)


def clipping(clip: Any) -> Settings | None:
    """Returns the settings of one of Paddle's classes of clipping, or None for any other class."""
    kind = type(clip)
    if clip is None:
        return {"clip_norm": None, "clip_value": None}
    if kind is paddle.nn.ClipGradByValue:
        return {"clip_norm": None, "clip_value": (clip.min, clip.max)}
    if kind is paddle.nn.ClipGradByNorm:
        return {"clip_norm": clip.clip_norm, "clip_value": None, "clip_each": True}
    if kind is paddle.nn.ClipGradByGlobalNorm:
        return {"clip_norm": clip.clip_norm, "clip_value": None, "clip_each": False}
    return None


def settings(group: dict[str, Any], lr: float) -> Settings:
    """Returns the settings of a group with this learning rate, as they are now."""
    return {
        "lr_scale": lr,
        "betas": (number(group["beta1"]), number(group["beta2"])),
        "eps": number(group["epsilon"]),
        "weight_decay": number(group["weight_decay"]),
        "lazy": "rows" if group["lazy_mode"] else None,
        **(clipping(group["grad_clip"]) or {"clip_norm": None, "clip_value": None}),
    }


class Attributes(NamedTuple):
    """What a parameter has been given by `paddle.ParamAttr`, a group, or by hand."""

    #: A factor, or a tensor that takes the place of the learning rate.
    learning_rate: Any
    need_clip: Any
    regularizer: Any


def rate_of(param: Any) -> Any:
    """Returns the factor that a parameter has, or the tensor in place of the learning rate."""
    own = getattr(param, "optimize_attr", None)
    return own.get("learning_rate", 1.0) if own else 1.0


def attributes(param: Any) -> Attributes:
    """Returns what a parameter has, or what is meant where it has nothing."""
    need_clip = getattr(param, "need_clip", True)
    return Attributes(rate_of(param), need_clip, getattr(param, "regularizer", None))


def has_tensor(pairs: Iterable[tuple[Any, Any]]) -> bool:
    """Returns whether a parameter has a tensor in place of the learning rate."""
    return any(isinstance(rate_of(param), paddle.Tensor) for param, _ in pairs)


class Options(NamedTuple):
    """What the library is told about one parameter."""

    lr_scale: float
    clip: bool
    regularizer: Regularizer
    regularizer_coeff: float


def options(name: str, attributes: Attributes, lr: float | None) -> Options:
    """Returns the options of a parameter. If its group has a learning rate of 1, `lr` is its own
    before factors; otherwise it is None."""
    own, need_clip, regularizer = attributes
    scale = number(own) if isinstance(own, paddle.Tensor) else own * (1.0 if lr is None else lr)
    kind: Regularizer = None
    coeff = 0.0
    if regularizer is not None:
        if type(regularizer) not in (paddle.regularizer.L1Decay, paddle.regularizer.L2Decay):
            raise UnsupportedError(
                f"parameter {name} has the regularizer {regularizer!r}: it can have "
                f"paddle.regularizer.L1Decay or L2Decay"
            )
        kind = "l1" if type(regularizer) is paddle.regularizer.L1Decay else "l2"
        coeff = regularizer._coeff
    return Options(scale, bool(need_clip), kind, coeff)
