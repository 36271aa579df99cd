"""What an optimizer's parameters are to the library, found out once and used until it changes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch

from ..errors import AdamWError
from ._gather import Lane
from ._handle import Handle, Kind, Numbers, Settings
from ._member import Member
from ._native import NativeWalk, walks
from ._ranks import group_of, in_full, placed
from ._state import BLOCKS, StepCounts, completed
from ._tensors import STEPPED, is_distributed, plain
from ._walk import (
    ABSENT,
    GRADS_MOVED,
    OTHER_GRADS,
    OTHER_PARAMS,
    PARAMS_MOVED,
    UNSEEN,
    Walk,
    data_ptr,
    same,
)


def options(group: dict[str, Any]) -> tuple[object, ...]:
    """Returns what of a group cannot change without a new plan."""
    return (
        len(group["params"]),
        bool(group["amsgrad"]),
        bool(group["maximize"]),
        group.get("precision"),
        group.get("moments"),
        bool(group.get("lazy_rows")),
    )


def numbers(group: dict[str, Any]) -> Numbers:
    """Returns the hyper-parameters of a group, which may be tensors, as they are now."""
    beta1, beta2 = group["betas"]
    return Numbers(
        float(group["lr"]),
        float(beta1),
        float(beta2),
        float(group["eps"]),
        float(group["weight_decay"]),
    )


class Plan:
    """The handles of an optimizer, and the members of each."""

    def __init__(self, groups: list[dict[str, Any]], state: dict[Any, Any], settings: Settings):
        self.settings = settings
        self._state = state
        self._options = [options(group) for group in groups]
        self._params: list[torch.Tensor] = [p for group in groups for p in group["params"]]
        self._group_of = [number for number, group in enumerate(groups) for _ in group["params"]]
        self._names = names(groups)
        self.steps = StepCounts(len(self._params))
        self.handles: dict[Kind, Handle] = {}
        self._kinds = [kind(param, groups[number]) for param, number in self._placed()]
        joint = len(set(self._kinds)) > 1  # one norm over several handles
        #: The processes that clip by one norm inside the step.
        self._ranks = None
        if settings.clip_norm and not joint and any(map(is_distributed, self._params)):
            self._ranks = group_of(self._params)
            joint = self._ranks is None
        self._clip_norm = 0.0 if joint else settings.clip_norm
        self._joint_clip_norm = settings.clip_norm if joint else 0.0
        self._members: dict[int, Member] = {}
        self._precise: list[tuple[Member, int]] = []
        self.lanes: list[Lane] = []
        self._walk: Walk | NativeWalk | None = None  #: none before the first step
        self._seen = OTHER_GRADS
        self._active: set[int] = set()  #: which have gradients
        self._indices: torch.Tensor | None = None
        for index, param in enumerate(self._params):
            if state.get(param):
                self._join(index, groups)
        self._watch()

    def look(self, groups: list[dict[str, Any]], settings: Settings) -> bool:
        """Looks at what has changed, or returns False if it needs another plan."""
        if self._walk is None or settings != self.settings:
            return False
        if [options(group) for group in groups] != self._options:
            return False
        self._seen = self._walk.look([group["params"] for group in groups])
        return not self._seen & OTHER_PARAMS

    def has_state(self, state: dict[Any, Any]) -> bool:
        """Returns whether the optimizer still has the tensors that its state had."""
        if state is not self._state:
            return False
        states = [value for value in state.values() if type(value) is dict]
        return same(list(chain.from_iterable(map(dict.values, states))), self._kept_values)

    def follow(self, groups: list[dict[str, Any]], *, state_was_seen: bool) -> bool:
        """Tells the library what memory has moved, or returns False if it is no longer alike."""
        params, stayed = len(self._members), not self._seen & PARAMS_MOVED
        if self._seen & OTHER_GRADS:  # the look has ended there
            stayed = list(map(data_ptr, self._watched[:params])) == self._addresses[:params]
        if state_was_seen:
            if list(map(data_ptr, self._counts)) != self._counts_at:
                return False
            state = list(map(data_ptr, self._watched[params:]))
            stayed = stayed and state == self._addresses[params:]
        if stayed and all(plain(m.param) is m.local for m in self._distributed):
            return True
        moves: dict[Handle, list[tuple[int, str, torch.Tensor]]] = {}
        for member in self._members.values():
            fresh = Member(member.index, member.group, member.param, member.name)
            if fresh.layout != member.layout or fresh.is_copied:
                return False
            member.local = fresh.local
        for (member, key), tensor, address in zip(
            self._roles, self._watched, self._addresses, strict=True
        ):
            if tensor.data_ptr() != address or member.local is not tensor and key == "param":
                now = member.tensors()[key]
                moves.setdefault(member.handle, []).append((member.number, key, now))
        try:
            for handle, moved in moves.items():
                handle.move(moved)
        except AdamWError:
            return False  # a plan made anew knows what it is about
        self._watch()
        self._look_anew(groups)
        return True

    def _placed(self) -> Iterable[tuple[torch.Tensor, int]]:
        """Returns each parameter with the number of its group."""
        return zip(self._params, self._group_of, strict=True)

    def read_numbers(self, groups: list[dict[str, Any]]) -> None:
        """Gives the library the hyper-parameters and the step counts that the host has now."""
        now = [numbers(group) for group in groups]
        for handle in self.handles.values():
            for group in handle.groups:
                handle.set_group(group, now[group], self._clip_norm, groups[group])
        for index in self.steps.changed():
            if (member := self._members.get(index)) is not None:
                count = round(float(self.steps.values[index]))
                member.handle.set_steps({member.number: count})
        for member, version in self._precise:
            if member.param._version != version:
                member.handle.sync_master(member.number)

    def gather(self, groups: list[dict[str, Any]]) -> bool:
        """Notes the gradients of this step, or returns False if parameters lie in another order."""
        if not self._seen & OTHER_GRADS and self._gather_alike():
            return True
        if any(member.is_turned() for member in self._members.values()):
            return False
        self._regroup(groups)
        self._look_anew(groups)
        if self._seen & OTHER_GRADS or not self._gather_alike():
            raise RuntimeError("gradients changed while they were gathered")
        return True

    def _gather_alike(self) -> bool:
        """Notes gradients of the kinds that they had, or returns False if they have others."""
        moved = bool(self._seen & GRADS_MOVED)
        return all(lane.gather(moved=moved) for lane in self.lanes)

    def _look_anew(self, groups: list[dict[str, Any]]) -> None:
        """Keeps what there is to look at now, and looks at it: in C, unless Python has to."""
        slots = [UNSEEN if index in self._active else ABSENT for index in range(len(self._params))]
        fast = [member for lane in self.lanes for member in lane.fast]
        for slot, member in enumerate(fast):
            slots[member.index] = slot
        watched: list[torch.Tensor | None] = [None] * len(self._params)
        for member, tensor in zip(self._members.values(), self._watched, strict=False):
            watched[member.index] = tensor
        for walk in walks(self._params, watched, slots):
            self._walk = walk
            self._seen = walk.look([group["params"] for group in groups])
            if not self._seen & (OTHER_GRADS | OTHER_PARAMS):
                break
        first = 0
        for lane in self.lanes:
            lane.find(walk.grads, first)
            first += len(lane.fast)

    def step(self, scale: float) -> float:
        """Steps the gradients over `scale`, and returns their norm, or NaN if nothing clips."""
        norm = float("nan")
        if self._joint_clip_norm:
            grads = [grad for lane in self.lanes for grad in lane.gradients()]
            norm = float(in_full(torch.nn.utils.get_total_norm(grads))) / scale
            scale *= max(norm / self._joint_clip_norm, 1.0)
        for lane in self.lanes:
            lane.handle.set_grad_scale(scale)
            lane.handle.step()
        return norm if self._joint_clip_norm else self._norm()

    def _norm(self) -> float:
        """Returns the norm of the step that the one handle has taken."""
        return self.lanes[0].handle.grad_norm() if self._clip_norm and self.lanes else float("nan")

    def finish(self) -> None:
        """Counts the step that was taken."""
        for lane in self.lanes:
            lane.finish()
        self.steps.advance(self._indices)
        if self._walk is not None:
            self._walk.count()
        self._precise = [(member, member.param._version) for member, _ in self._precise]

    def sync_masters(self) -> None:
        """Takes the parameters as they are now as the start of the next step."""
        for member, _ in self._precise:
            member.handle.sync_master(member.number)

    def close(self) -> None:
        """Ends the handles."""
        for handle in self.handles.values():
            handle.close()

    def _regroup(self, groups: list[dict[str, Any]]) -> None:
        """Finds out which parameters have gradients now; they join if they have not yet."""
        grads = [param.grad for param in self._params]
        active = [index for index, grad in enumerate(grads) if grad is not None]
        joining = [index for index in active if index not in self._members]
        for index in joining:
            self._join(index, groups)
        if joining:
            self._watch()
        pairs: dict[Handle, list[tuple[Member, torch.Tensor]]] = {
            handle: [] for handle in self.handles.values()
        }
        for index in active:
            member, grad = self._members[index], grads[index]
            assert grad is not None
            pairs[member.handle].append((member, grad))
        self.lanes = [
            Lane(handle, of_handle, zero=self.settings.clear_grads)
            for handle, of_handle in pairs.items()
        ]
        self._active = set(active)
        self._indices = (
            None if len(active) == len(grads) else torch.tensor(active, dtype=torch.int64)
        )

    def _join(self, index: int, groups: list[dict[str, Any]]) -> None:
        """Gives a parameter its state, and its place in a handle."""
        param, number, name = self._params[index], self._group_of[index], self._names[index]
        if plain(param).dtype not in STEPPED:
            raise TypeError(
                f"parameter {name} has {param.dtype}: AdamW steps float32, float64, float16, "
                "bfloat16, and complex numbers of these"
            )
        member, group = Member(index, number, param, name), groups[number]
        state = {"step": 0.0, **self._state.get(param, {})}
        member.parts = completed(state, param, group, name)
        member.block = BLOCKS.get(group.get("moments"), 0)
        handle = self.handles.get(self._kinds[index])
        if handle is None:
            handle = self.handles[self._kinds[index]] = Handle(self._kinds[index], self.settings)
            if self._ranks is not None:
                handle.agree(self._ranks)
        handle.set_group(number, numbers(group), self._clip_norm, group)
        first, whole = placed(param)
        step = self.steps.adopt(index, state)
        member.handle = handle
        member.number = handle.add(name, number, member.tensors(), step, first, whole)
        self._state[param].update(state)
        self._members[index] = member

    def _watch(self) -> None:
        """Notes what the host may put elsewhere, or replace, before the next step."""
        members = list(self._members.values())
        self._roles = [(member, "param") for member in members]
        self._roles += [(member, key) for member in members for key in member.parts]
        self._watched = [
            member.parts[key] if key in member.parts else member.param
            for member, key in self._roles
        ]
        self._watched = [t if t.is_complex() else plain(t) for t in self._watched]
        self._addresses = list(map(data_ptr, self._watched))
        self._counts = [self._state[member.param]["step"] for member in members]
        self._counts_at = list(map(data_ptr, self._counts))
        # The library's until it is told otherwise, even if a tensor is given other memory.
        self._memory = [tensor.untyped_storage() for tensor in self._watched]
        self._distributed = [member for member in members if is_distributed(member.param)]
        self._precise = [(m, m.param._version) for m in members if m.keeps_remainder()]
        states = [value for value in self._state.values() if type(value) is dict]
        self._kept_values = list(chain.from_iterable(map(dict.values, states)))


def kind(param: torch.Tensor, group: dict[str, Any]) -> Kind:
    """Returns which handle a parameter belongs in."""
    master = group.get("precision") == "master"
    return Kind(param.device, master)


def names(groups: list[dict[str, Any]]) -> list[str]:
    """Returns the names of all parameters, or their numbers in a state_dict if they have none."""
    given = [name for group in groups for name in group.get("param_names", ())]
    count = sum(len(group["params"]) for group in groups)
    if len(given) == count and len(set(given)) == count and all(given):
        return given
    return list(map(str, range(count)))
