"""`torch.optim.AdamW` on the library."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, overload

import torch
from torch._compile import _disable_dynamo
from torch.optim.optimizer import ParamsT

from ..errors import UnsupportedError
from ..settings import MOMENTS, PRECISIONS
from ._handle import Settings
from ._plan import Plan
from ._state import STATE

Precision: TypeAlias = Literal["master", "split", "stochastic", "kahan"]
Moments: TypeAlias = Literal["bf16", "8bit", "4bit"]


class AdamW(torch.optim.AdamW):
    """AdamW, as `torch.optim.AdamW` has it, stepped by the library in one call.

    It takes the arguments of `torch.optim.AdamW`, and has its state in the same tensors, on which
    the library works. `foreach` changes nothing. With `fused`, as with PyTorch's, a GradScaler
    leaves it to the step to take out its scale. A group may have `precision`, `moments` and
    `lazy_rows` of its own.

    precision:
        How 16-bit parameters keep small updates. None: not. "master": an f32 copy. "split" (bf16):
        the same bits in 2 bytes an element less. "kahan": the last rounding error. "stochastic"
        (bf16): no more memory, rounded at random.
    moments:
        How moments are kept: None (f32, or f64 for f64), "bf16", "8bit" or "4bit".
    lazy_rows:
        Whether rows that a sparse gradient does not list stay as they are. If not, they are
        stepped with a gradient of 0.
    clip_norm:
        The largest norm of all gradients together. The step clips them; they are not rewritten.
    clear_grads:
        Whether the step writes zeros over the gradients.
    seed:
        Of the bits that "stochastic" and small moments are rounded by.
    """

    grad_scale: torch.Tensor | None
    found_inf: torch.Tensor | None

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        precision: Precision | None = None,
        moments: Moments | None = None,
        lazy_rows: bool = False,
        clip_norm: float | None = None,
        clear_grads: bool = False,
        seed: int = 0,
    ) -> None:
        if differentiable:
            raise ValueError("differentiable=True is not offered here: use torch.optim.AdamW")
        if clip_norm is not None and not 0.0 < clip_norm < float("inf"):
            raise ValueError(f"Invalid clip_norm: {clip_norm}: it is finite and > 0, or None")
        own = {"precision": precision, "moments": moments, "lazy_rows": lazy_rows}
        #: What groups have beside PyTorch's options: nothing by default, as PyTorch's checkpoints.
        self._group_defaults = {key: value for key, value in own.items() if value}
        self.clip_norm, self.clear_grads, self.seed = clip_norm, clear_grads, seed
        self._plan: Plan | None = None
        #: The norm of the gradients of the last step, before clipping; NaN without `clip_norm`.
        self.grad_norm = float("nan")
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )
        self.defaults.update(self._group_defaults)

    @property
    def state(self) -> defaultdict[torch.Tensor, Any]:
        """The state of each parameter, in tensors on which the library works.

        Whoever asks for it may replace or move these tensors, so that the next step looks at them.
        """
        self._state_was_seen = True
        return self._state

    @state.setter
    def state(self, state: defaultdict[torch.Tensor, Any]) -> None:
        self._state_was_seen = True
        self._state = state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters with the options that it has, and the defaults of others."""
        if isinstance(param_group, dict):
            for key, default in self._group_defaults.items():
                param_group.setdefault(key, default)
            for key, choices in (("precision", PRECISIONS), ("moments", MOMENTS)):
                if param_group.get(key) not in choices:
                    offered = ", ".join(map(repr, choices))
                    raise ValueError(f"Invalid {key}: {param_group[key]!r}: it is one of {offered}")
        super().add_param_group(param_group)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @_disable_dynamo
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Steps every parameter that has a gradient, and returns the loss of the closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            self._step(getattr(self, "grad_scale", None), getattr(self, "found_inf", None))
        return loss

    def _step(self, grad_scale: torch.Tensor | None, found_inf: torch.Tensor | None) -> None:
        """Steps gradients that are too large by `grad_scale`, unless `found_inf` is not 0."""
        if found_inf is not None and float(found_inf):
            if self.clear_grads:
                self.zero_grad(set_to_none=False)
            return
        groups, plan = self.param_groups, self._plan
        state_was_seen, self._state_was_seen = self._state_was_seen, False
        settings = Settings(
            torch.get_num_threads(), self.clear_grads, self.clip_norm or 0.0, self.seed
        )
        if (
            plan is None
            or not plan.look(groups, settings)
            or (state_was_seen and not plan.has_state(self._state))
            or not plan.follow(groups, state_was_seen=state_was_seen)
        ):
            plan = self._planned(settings)
        plan.read_numbers(groups)
        if not plan.gather(groups):
            plan = self._planned(settings)
            plan.read_numbers(groups)
            plan.gather(groups)
        self.grad_norm = plan.step(1.0 if grad_scale is None else float(grad_scale))
        plan.finish()

    def _planned(self, settings: Settings) -> Plan:
        """Returns a plan for the parameters, the state and the options that there are now."""
        if self._plan is not None:
            self._plan.close()
            self._plan = None
        for group in self.param_groups:
            if group["capturable"] and any(p.device.type == "cpu" for p in group["params"]):
                raise UnsupportedError(
                    "capturable=True needs parameters on a CUDA device, and some are on the CPU"
                )
        self._plan = Plan(self.param_groups, self._state, settings)
        return self._plan

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what `state_dict` of this class or of `torch.optim.AdamW` has returned.

        PyTorch gives all state the parameter's type. Here it keeps the type that it was saved in.
        """
        saved: dict[str, Any] = {}

        def keep(_: torch.optim.Optimizer, given: dict[str, Any]) -> None:
            saved.update(given)

        def restore(_: torch.optim.Optimizer) -> None:
            numbers = (number for group in saved["param_groups"] for number in group["params"])
            params = (param for group in self.param_groups for param in group["params"])
            for number, param in zip(numbers, params, strict=True):
                for key, value in saved["state"].get(number, {}).items():
                    if key in STATE and isinstance(value, torch.Tensor):
                        self.state[param][key] = value.to(param.device)

        hooks = (
            self.register_load_state_dict_pre_hook(keep),
            self.register_load_state_dict_post_hook(restore, prepend=True),
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def sync_masters(self) -> None:
        """Takes the parameters as they are now as the start of the next step.

        With `precision`, call it after writing through `param.data`. Other writes are noticed.
        """
        if self._plan is not None:
            self._plan.sync_masters()

    def __getstate__(self) -> dict[str, Any]:
        """Returns what is pickled and copied: no handle, which the next step makes anew."""
        own = ("clip_norm", "clear_grads", "seed", "_group_defaults")
        return super().__getstate__() | {key: getattr(self, key) for key in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes what was pickled, copied or loaded."""
        self.state = state["state"]
        super().__setstate__({key: value for key, value in state.items() if key != "state"})
        if getattr(self, "_plan", None) is not None:
            self._plan.close()  # type: ignore[union-attr]
        self._plan = None
        self.__dict__.setdefault("grad_norm", float("nan"))
        if self.defaults.get("fused"):
            self._step_supports_amp_scaling = True
        for group in self.param_groups:
            for key, default in self._group_defaults.items():
                group.setdefault(key, default)
