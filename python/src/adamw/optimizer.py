"""The optimizer: AdamW over arrays that stay yours."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from . import _abi, _callbacks, settings
from ._closing import Closing
from ._handle import Handle
from ._library import check, library
from .checkpoints import Checkpoints
from .cuda import Cuda
from .errors import InvalidArgumentError
from .gradients import Gradients
from .hyper import Hyper
from .parameters import Parameters
from .settings import assign, choice, sized
from .state import State
from .statistics import StepInfo, step_info
from .team import Team
from .together import Together

#: Arrays by name, arrays, or groups: dicts of arrays ("params") and of hyper-parameters.
Params = Mapping[str, Any] | Iterable[Any]


class AdamW(Closing, Parameters, Gradients, Together, Hyper, State, Checkpoints, Cuda):
    """AdamW over arrays that stay yours and are stepped in place.

    `params` has arrays of float32, float64, float16 or bfloat16: numpy's, or of any library that
    shares memory by DLPack. It is a dict by name, a list (whose names are "0", "1", ...), or a list
    of groups: dicts with such "params" and with hyper-parameters of their own. More can be added
    later, by `add_param` and `add_group`.

    Arrays are kept alive as long as the optimizer uses them, and must be writable and without gaps.
    An optimizer is used by one thread at a time; it is closed by `close`, by the end of a `with`
    block, or when nobody refers to it any more.

    lr, betas, eps, weight_decay, amsgrad, maximize:
        As in torch.optim.AdamW.
    precision:
        How 16-bit parameters keep small updates: None (they are lost, as in torch), "master" (an
        f32 copy), "split" (bf16 with a remainder: the same bits in two thirds of the memory),
        "stochastic" (bf16, rounded at random) or "kahan".
    moments:
        How moments are stored: None (float32), "bf16", "8bit" or "4bit".
    clip_norm:
        The largest norm of all gradients together, as in torch.nn.utils.clip_grad_norm_; of each
        group with clip_scope="group", of each tensor with `clip_each`.
    clip_value:
        The largest magnitude of an element of a gradient, or a pair of the smallest and the
        largest value.
    nonfinite:
        What a step does if a gradient is not finite: "propagate", "skip" or "fail".
    lazy:
        What happens to rows that a sparse gradient does not list: None (they are stepped), "rows"
        (they are skipped) or "exact" (they are stepped when they are needed).
    clear_grads:
        A step writes zeros over the gradients that it has used.
    average_grads:
        A step uses the mean of accumulated gradients, not their sum.
    bias_correction:
        How the bias of the moments is corrected where betas change: by the "products" of the betas
        of all steps, as in Paddle, or by those of the "current" step, as in torch. None: it is not
        corrected.
    eps_before_correction, decays_new_value:
        In what the update differs from that of torch and Paddle, to continue the training of other
        libraries: eps is added before the correction; a parameter decays after it has moved.
    independent_weight_decay:
        A step subtracts weight_decay times the parameter, whatever the learning rate is.
    num_threads:
        How many threads work in a large step. 0: as many as this process has processors.
    team:
        Threads that other optimizers use, too, in place of `num_threads` of its own.
    seed:
        That of the random bits for rounding at random.
    isa:
        The highest instruction set to use: "portable", "avx2" or "avx512".
    """

    def __init__(
        self,
        params: Params = (),
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        amsgrad: bool = False,
        maximize: bool = False,
        precision: settings.Precision = None,
        moments: settings.Moments = None,
        clip_norm: float | None = None,
        clip_value: float | tuple[float, float] | None = None,
        clip_each: bool = False,
        clip_scope: settings.ClipScope = "all",
        nonfinite: settings.Nonfinite = "propagate",
        lazy: settings.Lazy = None,
        clear_grads: bool = False,
        average_grads: bool = False,
        bias_correction: settings.BiasCorrection = "products",
        eps_before_correction: bool = False,
        decays_new_value: bool = False,
        independent_weight_decay: bool = False,
        num_threads: int = 0,
        team: Team | None = None,
        seed: int = 0,
        isa: settings.Isa = None,
    ) -> None:
        config = _abi.Config()
        check(library.adamw_config_init(config, ctypes.sizeof(config)))
        self._master = precision == "master"
        shared = {
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "independent_weight_decay": independent_weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "bias_correction": bias_correction,
            "eps_before_correction": eps_before_correction,
            "decays_new_value": decays_new_value,
            "clip_norm": clip_norm,
            "clip_value": clip_value,
            "clip_each": clip_each,
            "lazy": lazy,
            "precision": precision,
            "moments": moments,
        }
        settings.write(config, shared, self._master)
        assign(
            config,
            lr=lr,
            multi_precision=self._master,
            num_threads=num_threads,
            team=None if team is None else team.number,
            isa=choice("isa", isa, settings.ISAS),
            nonfinite=choice("nonfinite", nonfinite, settings.NONFINITE),
            clip_scope=choice("clip_scope", clip_scope, settings.CLIP_SCOPES),
            average_grads=bool(average_grads),
            clear_grads=bool(clear_grads),
            seed=seed,
        )
        self._clears, self._params, self._stream = clear_grads, {}, None
        self._handle = Handle(config)
        self._add(params)

    def _add(self, params: Params) -> None:
        if isinstance(params, Mapping):
            params = [{"params": params}]
        elif _is_array(params):
            raise InvalidArgumentError("params is an array, expected a dict or a list of arrays")
        items = list(params)
        groups = items if any(isinstance(item, Mapping) for item in items) else [{"params": items}]
        for number, group in enumerate(groups):
            if not isinstance(group, Mapping) or "params" not in group:
                raise InvalidArgumentError(f"group {number} of params is no dict with 'params'")
            own = {name: value for name, value in group.items() if name != "params"}
            if number == 0:
                self.groups[0].update(**own)
            to = 0 if number == 0 else self.add_group(**own)
            for name, array in _named(group["params"], len(self)):
                self.add_param(name, array, group=to)

    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        grads: Mapping[str, Any] | None = None,
    ) -> float | None:
        """Steps every parameter that has a gradient, in place.

        With a closure, which computes and sets the gradients and returns the loss, returns that
        loss. With `grads`, gradients by name, steps these parameters and no others; the arrays are
        read during this call only, and gradients that were set before are set again.
        """
        if closure is not None:
            if grads is not None:
                raise InvalidArgumentError("step has a closure and grads, expected one of them")
            return self.minimize(closure)
        if grads is None:
            self._handle.call(library.adamw_step)
        else:
            numbers, tensors = self._grads(grads)
            self._handle.call(library.adamw_apply_gradients, *tensors.arguments(numbers))
        return None

    def minimize(
        self,
        closure: Callable[[], Any],
        *,
        names: Sequence[str] | None = None,
        no_grad: Sequence[str] = (),
    ) -> float:
        """Calls the closure, which returns the loss, steps the parameters of these names (None: all
        that have a gradient) without those of `no_grad`, and returns the loss."""
        args = sized(_abi.MinimizeArgs, closure=_callbacks.closure(closure))
        if names is not None:
            args.params, args.num_params = self._numbers(names), len(names)
        args.no_grad, args.num_no_grad = self._numbers(no_grad), len(no_grad)
        loss = ctypes.c_double()
        self._handle.call(library.adamw_minimize, args, loss, None)
        return loss.value

    def _numbers(self, names: Sequence[str]) -> Any:
        numbers = [self._param(name).number for name in names]
        return (ctypes.c_uint32 * len(numbers))(*numbers)

    def set_statistics(self, enabled: bool = True) -> None:
        """Turns the measurements of `step_info` on or off that cost a little time."""
        self._handle.call(library.adamw_set_statistics, int(enabled))

    def step_info(self) -> StepInfo:
        """Returns the report of the last successful step."""
        raw = _abi.StepInfo()
        self._handle.call(library.adamw_get_step_info, raw, ctypes.sizeof(raw))
        return step_info(raw)

    def close(self) -> None:
        """Ends the optimizer: its threads are joined and its memory is freed, except for state that
        an array of `state` still shows. The parameters stay as they are."""
        self._handle.close()

    def __repr__(self) -> str:
        if self._handle.closed:
            return "AdamW(closed)"
        return f"AdamW({len(self)} params)"

    def __reduce__(self) -> str:
        raise TypeError("an AdamW cannot be pickled or copied: save it, and load it into another")


def _is_array(params: Any) -> bool:
    return hasattr(params, "__dlpack__") or hasattr(params, "__array_interface__")


def _named(params: Any, first: int) -> list[tuple[str, Any]]:
    """Returns arrays with their names; those without one are called by their number."""
    if isinstance(params, Mapping):
        return list(params.items())
    if _is_array(params):
        params = [params]
    pairs = enumerate(params, first)
    return [item if isinstance(item, tuple) else (str(number), item) for number, item in pairs]
