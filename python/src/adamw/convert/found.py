"""What was found in the state of another framework, in one form for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: The parts of a parameter's state that can be taken over.
PARTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "master", "remainder")

#: Parts that only another optimizer has, and which one that then seems to be.
SIGNS = {
    "momentum_buffer": "SGD",
    "acc_delta": "Adadelta",
    "square_avg": "RMSprop",
    "sum": "Adagrad",
    "exp_inf": "Adamax",
    "mu_product": "NAdam",
    "prev": "Rprop",
    "ax": "ASGD",
    "row_var": "Adafactor",
    "variance": "Adafactor",
    "state1": "one of bitsandbytes, which from_bitsandbytes takes",
    "__bnb_optimizer_quant_state__": "one of bitsandbytes, which from_bitsandbytes takes",
}


@dataclass
class Param:
    """What was found of a parameter."""

    #: None: it has no state, as before its first step.
    step: Any = None
    #: Tensors of `PARTS`, and whatever else there is.
    parts: dict[str, Any] = field(default_factory=dict)
    #: Hyper-parameters of its group, under the names of `adamw.Settings`.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: The number of its group.
    group: int = 0

    @property
    def is_fresh(self) -> bool:
        return self.step is None and not self.parts


@dataclass
class Found:
    """What was found of all parameters, by the names that they have here."""

    #: What was read, for errors.
    what: str
    params: dict[str, Param] = field(default_factory=dict)
    #: What of it belongs to no parameter.
    rest: list[str] = field(default_factory=list)


def seems(parts: Sequence[str]) -> str:
    """Returns what optimizer the parts of a state seem to be of, as the end of a sentence."""
    own = next((SIGNS[sign] for sign in SIGNS if sign in parts), None)
    if own is None and "exp_avg" in parts and "exp_avg_sq" not in parts:
        own = "Lion"
    return "" if own is None else f": it seems to be that of {own}"


def some(names: Sequence[Any], most: int = 5) -> str:
    """Returns the first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def entries(state: Any) -> str:
    """Returns what a value is, or what it has, where it is not what was expected."""
    if not isinstance(state, Mapping):
        return f"a {type(state).__name__}"
    return f"a dict of {some(list(state))}" if state else "an empty dict"
