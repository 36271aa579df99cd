"""The parameters of an optimizer, and its groups."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Unpack

from . import _abi, settings
from ._base import Base, Param, c_string, check_like
from ._library import check, library
from .errors import InvalidArgumentError
from .groups import Group, lr_of, scaled
from .settings import assign, choice, sized, unsigned
from .state import BUFFERS, STATE_TYPES
from .statistics import ParamInfo, param_info
from .tensors import DTYPES, View

Regularizer = Literal["l1", "l2"] | None
REGULARIZERS = {
    None: _abi.REGULARIZER_NONE,
    "l1": _abi.REGULARIZER_L1,
    "l2": _abi.REGULARIZER_L2,
}


def _group(group: int | Group) -> int:
    return unsigned("group", group.number if isinstance(group, Group) else group, 32)


@dataclass(frozen=True)
class Memory:
    """How many bytes the state of a parameter takes, in all and by part."""

    total: int
    master: int
    remainder: int
    exp_avg: int
    exp_avg_sq: int
    max_exp_avg_sq: int


class Parameters(Base):
    """Adds, describes, changes and removes parameters and groups."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters, in the order in which they were added."""
        return tuple(self._params)

    def add_param(
        self,
        name: str,
        array: Any,
        *,
        group: int | Group = 0,
        lr_scale: float = 1.0,
        frozen: bool = False,
        clip: bool = True,
        regularizer: Regularizer = None,
        regularizer_coeff: float = 0.0,
        state: Mapping[str, Any] | None = None,
        step: int = 0,
        first_element: int = 0,
        whole_elements: int = 0,
        offload: bool = False,
    ) -> None:
        """Adds an array as a parameter, which is stepped in place and kept alive.

        `state` has arrays for parts of its state ("exp_avg" and so on), which are used as they are
        after `step` steps; the library allocates the others. `first_element` and `whole_elements`
        say which part of a larger parameter a shard is. `offload` leaves a parameter that is on a
        CUDA device to the processor. The other options can be changed by `set_options`.
        """
        seen = self._view(array, f'param "{name}"', writable=True)
        config = sized(
            _abi.ParamConfig,
            name=c_string(name, "the name"),
            param=ctypes.pointer(seen.tensor()),
            group=_group(group),
            step=step,
            no_clip=int(not clip),
            regularizer=choice("regularizer", regularizer, REGULARIZERS),
            regularizer_coeff=regularizer_coeff,
            first_element=first_element,
            whole_elements=whole_elements,
            offload=int(offload),
        )
        owners = {"param": seen.owner}
        for part, values in (state or {}).items():
            what = f'param "{name}": {part}'
            choice("a part of the state", part, BUFFERS)
            given = self._view(values, what, writable=True, dtypes=STATE_TYPES)
            setattr(config, part, ctypes.pointer(given.tensor()))
            owners[part] = given.owner
        with self._handle.used() as core:
            number = ctypes.c_uint32()
            check(library.adamw_add_param(core.number, config, number))
            on_host = offload or seen.on_host
            place = first_element, whole_elements
            param = Param(number.value, seen.shape, seen.strides, on_host, *place)
            try:
                if lr_scale != 1.0 or frozen:
                    self._write_options(param, lr_scale=lr_scale, frozen=int(frozen))
            except BaseException:
                check(library.adamw_remove_param(core.number, number))
                raise
            for part, owner in owners.items():
                self._handle.keep((param.number, part), owner)
            self._params[name] = param

    def param(self, name: str) -> ParamInfo:
        """Returns a description of a parameter, with the number of steps that it has taken."""
        raw = _abi.ParamInfo()
        number = self._param(name).number
        self._handle.call(library.adamw_get_param_info, number, raw, ctypes.sizeof(raw))
        return param_info(raw)

    @property
    def steps(self) -> dict[str, int]:
        """The number of steps that each parameter has taken, by name."""
        count = len(self._params)
        numbers = (ctypes.c_uint32 * count)(*(param.number for param in self._params.values()))
        steps = (ctypes.c_uint64 * count)()
        self._handle.call(library.adamw_get_steps, numbers, steps, count)
        return dict(zip(self._params, steps))

    def remove_param(self, name: str) -> None:
        """Removes a parameter and the state that the library has allocated for it."""
        number = self._param(name).number
        with self._handle.used() as core:
            if core.has_views(number):
                raise InvalidArgumentError(
                    f"an array of the state of param {name!r} is still in use: delete it, or copy "
                    f"it, before the state is freed"
                )
            check(library.adamw_remove_param(core.number, number))
            del self._params[name]
            core.forget(number)

    def set_options(
        self,
        name: str,
        *,
        lr_scale: float | None = None,
        frozen: bool | None = None,
        clip: bool | None = None,
        group: int | Group | None = None,
        regularizer: Regularizer = None,
        regularizer_coeff: float | None = None,
    ) -> None:
        """Changes options of a parameter, from the next step on; what is None stays.

        `lr_scale` multiplies the learning rate of its group. No step changes a frozen parameter. A
        parameter without `clip` does not count in a norm. `regularizer` is "l1" or "l2"; a
        `regularizer_coeff` of 0 removes it. Another `group` takes the parameter over with its
        state.
        """
        changes: dict[str, Any] = {}
        if lr_scale is not None:
            changes["lr_scale"] = lr_scale
        if frozen is not None:
            changes["frozen"] = int(frozen)
        if clip is not None:
            changes["no_clip"] = int(not clip)
        if group is not None:
            changes["group"] = _group(group)
        if regularizer is not None:
            changes["regularizer"] = choice("regularizer", regularizer, REGULARIZERS)
        if regularizer_coeff is not None:
            changes["regularizer_coeff"] = regularizer_coeff
        self._write_options(self._param(name), **changes)

    def _write_options(self, param: Param, **changes: Any) -> None:
        options = _abi.ParamOptions()
        size = ctypes.sizeof(options)
        self._handle.call(library.adamw_get_param_options, param.number, options, size)
        assign(options, **changes)
        self._handle.call(library.adamw_set_param_options, param.number, options)

    def rebind(self, name: str, **buffers: Any) -> None:
        """Tells where arrays of a parameter are now: `rebind("w", param=array)`. Each has the same
        elements as before. Parts of the state can move if they were given to `add_param`.

        None takes the memory back: the old array is let go, and the parameter is parked until all
        its arrays are there again. It keeps its other state and its step count; its gradient is
        forgotten, and steps pass over it.
        """
        param = self._param(name)
        seen: dict[str, View | None] = {}
        for part, array in buffers.items():
            what = f'param "{name}": {part}'
            choice("a buffer", part, BUFFERS)
            if array is None:
                seen[part] = None
                continue
            one = self._view(array, what, writable=True, dtypes=STATE_TYPES)
            if part == "param":
                check_like(one, param, what)
            seen[part] = one
        count = len(seen)
        tensors: Any = [one and ctypes.pointer(one.tensor()) for one in seen.values()]
        with self._handle.used() as core:
            status = library.adamw_rebind(
                core.number,
                (ctypes.c_uint32 * count)(*[param.number] * count),
                (ctypes.c_uint32 * count)(*(BUFFERS[part] for part in seen)),
                (ctypes.POINTER(_abi.Tensor) * count)(*tensors),
                count,
            )
            check(status)
            for part, moved in seen.items():
                self._handle.keep((param.number, part), moved and moved.owner)
            if None in seen.values():
                self._handle.keep((param.number, "grad"), None)
                self._handle.keep((param.number, "rows"), None)

    def reset_param(self, name: str) -> None:
        """Restarts the training of a parameter: its step count and its moments become 0."""
        self._handle.call(library.adamw_reset_param, self._param(name).number)

    def sync_master(self, name: str) -> None:
        """Copies a parameter that you have written yourself into its master."""
        self._handle.call(library.adamw_sync_master, self._param(name).number)

    def memory_plan(
        self, n_elements: int, dtype: str, *, group: int | Group = 0, whole_elements: int = 0
    ) -> Memory:
        """Returns how much memory the state of a parameter of this length and type would take."""
        raw = _abi.Memory()
        self._handle.call(
            library.adamw_memory_plan,
            _group(group),
            choice("dtype", dtype, DTYPES),
            unsigned("n_elements", n_elements),
            unsigned("whole_elements", whole_elements),
            raw,
            ctypes.sizeof(raw),
        )
        return Memory(**{field: getattr(raw, field) for field in Memory.__dataclass_fields__})

    def add_group(self, **values: Unpack[settings.Settings]) -> Group:
        """Adds a group, whose values are those of the optimizer except for these, and returns it.

        A group's `lr` becomes its `lr_scale`: its multiple of the optimizer's learning rate now.
        """
        config = _abi.GroupConfig()
        size = ctypes.sizeof(config)
        own = scaled(values, lr_of(self._handle))
        self._handle.call(library.adamw_group_config_init, config, size)
        settings.write(config, own, self._master)
        number = ctypes.c_uint32()
        self._handle.call(library.adamw_add_group, config, number)
        return Group(self._handle, number.value, self._master)

    @property
    def groups(self) -> tuple[Group, ...]:
        """All groups. Number 0 has the values of the optimizer."""
        count = ctypes.c_uint32()
        self._handle.call(library.adamw_num_groups, count)
        return tuple(Group(self._handle, number, self._master) for number in range(count.value))

    def __len__(self) -> int:
        return len(self._params)

    def __iter__(self) -> Iterator[str]:
        return iter(self._params)

    def __contains__(self, name: object) -> bool:
        return name in self._params
