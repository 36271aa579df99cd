"""State that was found is given to an optimizer: all of it, or nothing."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypedDict

from .. import _abi
from ..checkpoints import Scope
from ..groups import Group
from ..optimizer import AdamW
from ..settings import FORMULAS
from .draft import State, checkpoint
from .found import Found, Param, some
from .states import state_of

#: What a framework does otherwise where nothing else is said of it.
USUAL = {
    "bias_corrected": True,
    "eps_before_correction": False,
    "decays_new_value": False,
    "independent_weight_decay": False,
}
#: What matters only where something decays.
OF_DECAY = ("decays_new_value", "independent_weight_decay")


class Options(TypedDict, total=False):
    """What a takeover allows. Without any of it both sides have the same parameters, each with its
    step and all its moments, and the same settings."""

    #: As for `load`: "subset" (the file may have more parameters) or "shared" (those that both
    #: have, and nothing else).
    scope: Scope
    #: Names of parameters that have no state in the file, and start as if never stepped.
    fresh: Collection[str]
    #: Settings (such as "weight_decay"), parts of the state, and "shape" or "param_names", that may
    #: differ from the optimizer's, which keeps its own.
    ignore: Collection[str]
    #: The optimizer may have amsgrad where the file has not: its largest second moments start as
    #: the second moments are.
    extend: bool
    #: The names here of parameters that the file calls otherwise, by the file's.
    rename: Mapping[str, str]


class Limits(NamedTuple):
    """Options, with their defaults."""

    scope: Scope = "all"
    fresh: Collection[str] = ()
    ignore: Collection[str] = ()
    extend: bool = False
    rename: Mapping[str, str] = {}


def renamed(found: Found, options: Options) -> Found:
    """Returns what was found, by the names that parameters have here."""
    names = options.get("rename") or {}
    params = {names.get(name, name): param for name, param in found.params.items()}
    unknown = [name for name in names if name not in found.params]
    if unknown or len(params) < len(found.params):
        what = f"rename has {some(unknown)}" if unknown else "rename gives two of them one name"
        raise ValueError(f"{found.what} has the params {some(list(found.params))}, but {what}")
    return replace(found, params=params)


def take(optimizer: AdamW, found: Found, options: Options) -> None:
    """Gives state that was found to an optimizer. ValueError, and nothing has changed, if anything
    does not fit; it lists all that does not."""
    limits, found = Limits(**options), renamed(found, options)
    wanted, problems = matched(optimizer, found, limits)
    states: dict[str, State] = {}
    differ: dict[tuple[str, str], list[str]] = {}
    for name, param in wanted.items():
        for setting, values in differences(optimizer, name, param, limits):
            differ.setdefault((setting, values), []).append(name)
        try:
            states[name] = state_of(optimizer, name, param, limits.ignore, limits.extend)
        except ValueError as error:
            problems.append(str(error))
    problems += [
        f"{setting} of {some(names)} is {values}: ignore=[{setting!r}] keeps the optimizer's"
        for (setting, values), names in differ.items()
    ]
    if problems:
        shown = problems[:8] + [f"and {len(problems) - 8} more"] * (len(problems) > 8)
        raise ValueError(f"{found.what} does not fit, and nothing was taken: {'; '.join(shown)}")
    optimizer.load(checkpoint(states), scope="shared", convert=True, extend=True)


def matched(optimizer: AdamW, found: Found, limits: Limits) -> tuple[dict[str, Param], list[str]]:
    """Returns the parameters that are to be taken over, and what only one of both sides has."""
    problems = []
    wanted = {name: found.params.get(name, Param()) for name in optimizer.names}
    missing = [name for name in wanted if name not in found.params and name not in limits.fresh]
    extra = [name for name in found.params if name not in wanted]
    unknown = [name for name in limits.fresh if name not in wanted]
    if unknown:
        problems.append(f"fresh has {some(unknown)}, which the optimizer has not")
    if missing and limits.scope != "shared":
        problems.append(
            f"there is no state of {some(missing)}: fresh starts params without one, and scope "
            f"'shared' leaves them as they are"
        )
    if extra and limits.scope == "all":
        problems.append(f"the optimizer has no {some(extra)}, which scope 'subset' leaves out")
    if found.rest:
        problems.append(f"nothing is known of {some(found.rest)}")
    wanted = {name: param for name, param in wanted.items() if name not in missing}
    stepped = [name for name, param in wanted.items() if not param.is_fresh]
    if not stepped and set(wanted) - set(limits.fresh) and not problems:
        problems.append("no param has any state: fresh starts all of them without one")
    both = [name for name in limits.fresh if name in stepped]
    if both:
        problems.append(f"fresh has {some(both)}, of which there is state")
    return wanted, problems


def differences(
    optimizer: AdamW, name: str, param: Param, limits: Limits
) -> Iterator[tuple[str, str]]:
    """Returns the settings that a parameter has otherwise than what was found, and both values."""
    info = optimizer.param(name)
    own = Group(optimizer._handle, info.group, optimizer._master)._values()
    ours = {
        "betas": (own.beta1, own.beta2),
        "eps": own.eps,
        "weight_decay": own.weight_decay if info.decays else 0.0,
        "independent_weight_decay": bool(own.independent_weight_decay),
        "maximize": bool(own.maximize),
        "bias_corrected": own.bias_correction != _abi.BIAS_CORRECTION_NONE,
        **{rule: bool(own.formula & flag) for rule, flag in FORMULAS.items()},
        # What the library always does.
        "decoupled_weight_decay": True,
        "decouple_lr": False,
        "eps_floor": False,
        "clipped_lr": False,
    }
    for setting, value in ours.items():
        theirs = param.settings.get(setting)
        if theirs is None or setting in limits.ignore or is_near(value, theirs):
            continue
        if setting in OF_DECAY and ours["weight_decay"] == 0:
            continue
        yield setting, f"{value} (in the file: {theirs})"


def is_near(a: Any, b: Any) -> bool:
    """Returns whether two settings are the same, as far as float32 can tell."""
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(is_near, a, b))
    return math.isclose(float(a), float(b), rel_tol=1e-6)
