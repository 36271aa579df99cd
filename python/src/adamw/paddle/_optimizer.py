"""`paddle.optimizer.AdamW` on the library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import paddle
from paddle import Tensor
from paddle.optimizer.lr import LambdaDecay, LRScheduler

from ..errors import InvalidArgumentError, MismatchError, UnsupportedError
from ._engine import Engine, check_steppable
from ._groups import clipping, has_tensor, number, settings
from ._state import POWERS, Counts, Form, Saved, begin, counted

Pairs: TypeAlias = list[tuple[Any, Any]]


class AdamW(paddle.optimizer.AdamW):
    """AdamW, as `paddle.optimizer.AdamW` has it, stepped by the library in one call.

    It takes the arguments of `paddle.optimizer.AdamW`, and has its state in the same tensors, on
    which the library works. On the CPU it also steps float16 and bfloat16, takes an `lr_ratio`, and
    steps parameters with sparse gradients (SelectedRows).

    learning_rate:
        A number, an LRScheduler, or a Tensor of one number, which each step reads.
    beta1, beta2, epsilon:
        Numbers or Tensors of one number, which each step reads.
    weight_decay:
        A number, or a Tensor, which is read once.
    use_lowprecision_moment:
        Moments of bfloat16 parameters without masters are bfloat16. float16 is refused.
    lr_ratio:
        A factor for the whole learning rate of a parameter, asked at each step.
    apply_decay_param_fun:
        Whether the parameter of a name decays, asked before its first step.
    grad_clip:
        Paddle's classes are part of the step, which does not rewrite gradients. Others are called.
    lazy_mode:
        Rows that a sparse gradient does not list stay as they are. If not, they are stepped with a
        gradient of 0.
    multi_precision:
        float16 and bfloat16 parameters have f32 masters.
    use_multi_tensor:
        Changes nothing: all parameters are always stepped by one call.
    """

    _parameter_list: Any
    _param_groups: Any
    _accumulators: Any
    _master_weights: Any
    _learning_rate: Any
    _auxiliary_vars: Any

    def __init__(
        self,
        learning_rate: float | LRScheduler | Tensor = 0.001,
        beta1: float | Tensor = 0.9,
        beta2: float | Tensor = 0.999,
        epsilon: float | Tensor = 1e-8,
        parameters: Sequence[Any] | None = None,
        weight_decay: float | Tensor = 0.01,
        use_lowprecision_moment: bool = False,
        lr_ratio: Callable[[Tensor], float] | None = None,
        apply_decay_param_fun: Callable[[str], bool] | None = None,
        grad_clip: Any = None,
        lazy_mode: bool = False,
        multi_precision: bool = False,
        amsgrad: bool = False,
        name: str | None = None,
        *,
        use_multi_tensor: bool = False,
    ) -> None:
        if lr_ratio is not None and not callable(lr_ratio):
            raise TypeError(f"lr_ratio is {lr_ratio!r}, expected a function of a parameter")
        is_tensor = isinstance(learning_rate, Tensor)
        if isinstance(learning_rate, int):
            learning_rate = float(learning_rate)
        given: Any = number(learning_rate) if is_tensor else learning_rate
        super().__init__(
            given,
            beta1,
            beta2,
            epsilon,
            parameters,
            number(weight_decay) if isinstance(weight_decay, Tensor) else weight_decay,
            use_lowprecision_moment,
            None,  # which Paddle's constructor refuses on the CPU
            apply_decay_param_fun,
            grad_clip,
            lazy_mode,
            multi_precision,
            amsgrad,
            name,
        )
        self._lr_ratio = lr_ratio
        if is_tensor:
            self._learning_rate = learning_rate
        counts = Counter(p.name for group in self._present_groups() for p in group["params"])
        for repeated, count in counts.items():
            if count > 1:
                raise InvalidArgumentError(
                    f"{count} parameters are called {repeated}, expected each once, with a name "
                    f"of its own"
                )
        self._counts: dict[str, Counts] = {}
        self._engine = Engine(self._form())
        lr = self.get_lr()
        self._engine.set_groups([settings(group, lr) for group in self._present_groups()])

    def _form(self) -> Form:
        prefix = f"{self._name}_" if self._name is not None else ""
        low = bool(self._use_lowprecision_moment)
        return Form(bool(self._multi_precision), bool(self._amsgrad), low, prefix)

    def _present_groups(self) -> list[dict[str, Any]]:
        """Returns the groups, or one of all parameters with the optimizer's own values."""
        groups: list[Any] = list(self._param_groups or ())
        if groups and isinstance(groups[0], dict):
            return groups
        own = {
            "params": groups,
            "beta1": self._beta1,
            "beta2": self._beta2,
            "epsilon": self._epsilon,
            "weight_decay": self._weight_decay,
            "lazy_mode": self._lazy_mode,
            "grad_clip": self._grad_clip,
        }
        return [own]

    def get_lr(self) -> float:
        """Returns the learning rate of the next step, before the factors of groups and others."""
        rate = self._learning_rate
        return number(rate if isinstance(rate, (float, Tensor)) else rate())

    @paddle.no_grad()
    def step(self) -> None:
        """Steps every parameter that has a gradient."""
        self._check_dynamic()
        self._update([own_pairs(group["params"]) for group in self._present_groups()])

    @paddle.no_grad()
    def minimize(
        self,
        loss: Tensor,
        startup_program: Any = None,
        parameters: Sequence[Any] | None = None,
        no_grad_set: Iterable[Any] | None = None,
    ) -> tuple[list[Any], Pairs]:
        """Steps parameters that have a gradient, and returns an empty list and these pairs.

        As in Paddle, gradients are those of an earlier `loss.backward()`. `parameters` and
        `no_grad_set` have tensors or names: those to step, in place of all, and those to leave out.
        """
        self._check_dynamic()
        chosen = None if not parameters else set(map(name_of, parameters))
        left_out = set(map(name_of, no_grad_set or ()))
        pairs = [
            [
                (param, grad)
                for param, grad in own_pairs(group["params"])
                if (chosen is None or param.name in chosen) and param.name not in left_out
            ]
            for group in self._present_groups()
        ]
        self._update(pairs)
        return [], [pair for of_group in pairs for pair in of_group]

    @paddle.no_grad()
    def apply_gradients(self, params_grads: Pairs) -> list[Any]:
        """Steps these parameters with these gradients, and returns an empty list."""
        self._check_dynamic()
        self._apply_optimize(None, None, params_grads)
        return []

    def _apply_optimize(
        self, loss: Any, startup_program: Any, params_grads: Any, param_group_idx: int = 0
    ) -> None:
        """Steps pairs, or a group's `params`, which are pairs: what Paddle's wrappers call."""
        pairs = params_grads["params"] if isinstance(params_grads, dict) else params_grads
        groups = self._present_groups()
        place = {id(p): i for i, group in enumerate(groups) for p in group["params"]}
        placed: list[Pairs] = [[] for _ in groups]
        for param, grad in pairs:
            if len(groups) > 1 and id(param) not in place:
                raise MismatchError(f"parameter {param.name} is in no group of the optimizer")
            if grad is not None:
                placed[place.get(id(param), 0)].append((param, grad))
        self._update(placed)

    def _check_dynamic(self) -> None:
        if not paddle.in_dynamic_mode() or paddle.base.dygraph.base.in_to_static_mode():
            raise UnsupportedError(
                "adamw.paddle.AdamW steps tensors, not static graphs: use paddle.optimizer.AdamW "
                "there, or step outside of paddle.jit.to_static"
            )

    def _update(self, pairs: list[Pairs]) -> None:
        """Steps the pairs of each group in one call, unless a GradScaler has found an infinity."""
        found_inf = self._auxiliary_vars.get("found_inf")
        if isinstance(found_inf, Tensor):
            found_inf = self._auxiliary_vars["found_inf"] = bool(found_inf)
        if found_inf or not any(pairs):
            return
        engine, groups, lr = self._present_engine(), self._present_groups(), self.get_lr()
        own = [lr if has_tensor(of_group) else None for of_group in pairs]
        engine.set_groups(
            [
                settings(group, lr if rate is None else 1.0)
                for group, rate in zip(groups, own, strict=True)
            ]
        )
        engine.set_callbacks(self._apply_decay_param_fun, self._lr_ratio)
        for place, of_group in enumerate(pairs):
            for param, _ in of_group:
                member = engine.members.get(id(param))
                if member is None:
                    self._join(engine, param, place, own[place])
                else:
                    engine.follow(member, own[place])
        clips = [group["grad_clip"] for group in groups]
        engine.step(
            pair
            for clip, of_group in zip(clips, pairs, strict=True)
            for pair in (of_group if clipping(clip) else clip(of_group))
        )

    def _join(self, engine: Engine, param: Any, group: int, lr: float | None) -> None:
        """Gives a parameter its state, and hands both to the library."""
        check_steppable(param)
        parts = begin(engine.form, param, self._accumulators, self._master_weights)
        engine.join(param, group, parts, lr, self._counts.get(param.name))

    def _present_engine(self) -> Engine:
        """Returns the engine. `paddle.amp.decorate` may set `multi_precision` before a step."""
        form = self._form()
        if form != self._engine.form:
            if self._engine.members or self._counts:
                raise MismatchError(
                    f"the optimizer is {form} now and was {self._engine.form} when it got its "
                    f"state: make another one"
                )
            self._engine = Engine(form)
        return self._engine

    def sync_masters(self) -> None:
        """Takes the parameters as they are now as the start of the next step.

        With `multi_precision`, call it after `set_value` on a parameter. Writes in place, such as
        by `add_`, are noticed.
        """
        self._engine.sync_masters()

    def state_dict(self) -> dict[str, Any]:
        """Returns the state under Paddle's names: the moments and masters themselves, on which the
        library works (write them in place, as `set_value` does), the powers of the betas as of now,
        and the state of the LRScheduler."""
        engine = self._engine
        for member in engine.members.values():
            owner = engine.form.owner(member.param)
            for power, value in zip(POWERS, engine.powers_ahead(member.param), strict=True):
                tensor = self._accumulators[engine.form.prefix + power][owner]
                tensor.set_value(paddle.full([1], value, tensor.dtype))
        state: dict[str, Any] = super().state_dict()
        return state

    @paddle.no_grad()
    def set_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` of this class or of `paddle.optimizer.AdamW` has returned.

        State goes by the names of parameters. The numbers that Paddle ends its names with may be
        any. Nothing is changed if something is missing, or has another shape or type.
        """
        engine = self._present_engine()
        form, saved = engine.form, Saved(state_dict, engine.form.prefix)
        groups = self._present_groups()
        known = {p.name: (p, group) for group in groups for p in group["params"]}
        strange = [name for name in saved.parts if name not in known] + saved.unknown
        members = {member.name for member in engine.members.values()}
        for name in known:
            if name not in saved.parts and (strange or name in members):
                some = ", ".join(strange[:5]) or "nothing else"
                raise MismatchError(f"the state has nothing of parameter {name}, but of {some}")
        taken = {name: saved.checked(form, known[name][0]) for name in saved.parts if name in known}
        self._load_schedule(state_dict.get("LR_Scheduler"))
        for name, parts in taken.items():
            param, group = known[name]
            begin(form, param, self._accumulators, self._master_weights)
            owner = form.owner(param)
            for key, value in parts.items():
                is_master = key == "master"
                kept = self._master_weights if is_master else self._accumulators[form.prefix + key]
                kept[name if is_master else owner].set_value(value)
            betas = number(group["beta1"]), number(group["beta2"])
            self._counts[name] = counted(parts, betas)
            if id(param) in engine.members:
                engine.set_counts(engine.members[id(param)], self._counts[name])

    load_state_dict = set_state_dict

    def _load_schedule(self, state: Any) -> None:
        if not isinstance(self._learning_rate, LRScheduler):
            return
        if state:
            self._learning_rate.set_state_dict(state)
        elif not isinstance(self._learning_rate, LambdaDecay):
            raise MismatchError("the state has no LR_Scheduler, which the optimizer's needs")


def own_pairs(params: Iterable[Any]) -> Pairs:
    """Returns the parameters that are trained and have a gradient, with their gradients."""
    grads = ((param, param._grad_ivar()) for param in params if not param.stop_gradient)
    return [(param, grad) for param, grad in grads if grad is not None]


def name_of(param: Any) -> str:
    """Returns the name of a parameter that is given as a tensor or by its name."""
    return param if isinstance(param, str) else str(param.name)
