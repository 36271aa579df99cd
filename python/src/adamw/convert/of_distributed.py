"""State under the names that PyTorch's distributed checkpoints give it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Unpack

from ..optimizer import AdamW
from .found import Found, Param, entries
from .of_torch import checked_groups, settings_of
from .take import Options, take

State = Mapping[str, Any]
#: What the library has beside the step, from which it follows.
DERIVED = ("beta1_power", "beta2_power")


def from_distributed(optimizer: AdamW, tensors: State, **options: Unpack[Options]) -> None:
    """Takes over the state that PyTorch's distributed checkpoints call `state.<param>.exp_avg` and
    so on, of parameters that have the same names here: what `get_optimizer_state_dict` returns,
    nested or flat, also behind a prefix such as `optim.`; the tensors that `read` finds in
    safetensors files, or `read_folder` in a checkpoint of `torch.distributed.checkpoint`. `Options`
    are those of `from_torch`."""
    take(optimizer, distributed_found(optimizer.names, tensors), options)


def distributed_found(names: Collection[str], tensors: State) -> Found:
    """Returns what has names of distributed checkpoints. `names` are those of the parameters here,
    which help where a parameter's own name has the word `state` in it."""
    found = Found("the state by PyTorch's distributed names")
    for key, value in flat(tensors):
        at = placed(key, "state", names)
        if at is not None:
            _, name, part = at
            param = found.params.setdefault(name, Param())
            if part == "step":
                param.step = value
            elif part not in DERIVED:
                param.parts[part] = value
    if not found.params:
        raise ValueError(
            f"nothing is called state.<param>.exp_avg in {entries(tensors)}; from_torch takes the "
            f"state_dict of an optimizer, in which parameters have numbers"
        )
    read_groups(found, tensors, names)
    return found


def flat(tensors: State) -> Iterator[tuple[str, Any]]:
    """Returns what is in nested dicts, under names with dots."""
    todo, seen = [("", tensors)], set[int]()
    while todo:
        before, inner = todo.pop()
        if id(inner) in seen:
            raise ValueError(f"the dict {before[:-1]!r} is there under another name, too")
        seen.add(id(inner))
        for key, value in inner.items():
            if isinstance(value, Mapping):
                todo.append((f"{before}{key}.", value))
            else:
                yield f"{before}{key}", value


def placed(key: str, word: str, names: Collection[str]) -> tuple[str, str, str] | None:
    """Returns the prefix, the parameter and its part that a key names, if it names any."""
    whole, _, part = key.rpartition(".")
    cuts = []
    start = 0 if whole.startswith(f"{word}.") else whole.find(f".{word}.") + 1
    while whole.startswith(f"{word}.", start):
        cuts.append((whole[:start], whole[start + len(word) + 1 :], part))
        following = whole.find(f".{word}.", start)
        if following < 0:
            break
        start = following + 1
    return next((cut for cut in cuts if cut[1] in names), cuts[0] if cuts else None)


def read_groups(found: Found, tensors: State, names: Collection[str]) -> None:
    """Adds the hyper-parameters, which are flat as `param_groups.<param>.lr`, or those of groups
    with the names of their parameters. Parameters that are only there have taken no step."""
    groups: list[State] = []
    own: dict[str, dict[str, Any]] = {}
    for key, value in flat(tensors):
        at = placed(key, "param_groups", names)
        if key == "param_groups" or key.endswith(".param_groups"):
            groups += checked_groups(value)
        elif at is not None:
            own.setdefault(at[1], {})[at[2]] = value
    # A folder has the groups themselves flat, under their numbers.
    numbers = [name for name, group in own.items() if "params" in group]
    groups += checked_groups([own.pop(number) for number in numbers])
    for name, settings in own.items():
        found.params.setdefault(name, Param()).settings = settings_of(settings)
    for number, group in enumerate(groups):
        for name in map(str, group["params"]):
            param = found.params.setdefault(name, Param())
            param.settings, param.group = settings_of(group), number
