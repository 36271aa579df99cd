"""The state of a parameter as PyTorch's tensors: what it needs, and how it begins."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from ..errors import MismatchError
from ..state import BUFFERS
from ._ranks import groups_of_rows, placed
from ._tensors import has_gaps, is_distributed, plain, strides, zeros_like_cut

#: The number of elements that share a scale.
BLOCKS: dict[str | None, int] = {"8bit": 256, "4bit": 128}
#: Shorter parameters have moments without codes.
SHORTEST_CODED = 4096

#: The buffers of state by name; the names are fields of adamw_param_config.
STATE = {name: number for name, number in BUFFERS.items() if name != "param"}


def is_short(param: torch.Tensor) -> bool:
    """Returns whether the elements have 16 bits, of which updates may be lost."""
    return param.dtype in (torch.float16, torch.bfloat16)


class Part(NamedTuple):
    """A part of a parameter's state: its type, and its shape if it is not the parameter's."""

    dtype: torch.dtype
    shape: tuple[int, ...] | None = None

    def zeros(self, param: torch.Tensor) -> torch.Tensor:
        """Returns zeros in the order of the parameter's elements, or row-major if it has gaps."""
        if self.shape is not None and is_distributed(param):
            return zeros_like_cut(param, self.shape, self.dtype)
        if self.shape is not None:
            return torch.zeros(self.shape, dtype=self.dtype, device=plain(param).device)
        layout = torch.contiguous_format if has_gaps(plain(param)) else torch.preserve_format
        dtype = self.dtype.to_complex() if param.is_complex() else self.dtype
        return torch.zeros_like(param, dtype=dtype, memory_format=layout, requires_grad=False)

    def fits(self, kept: torch.Tensor, param: torch.Tensor) -> bool:
        """Returns whether the library can work on this tensor."""
        if is_distributed(kept) != is_distributed(param):
            return False
        kept, param = plain(kept), plain(param)
        if kept.dtype != self.dtype or kept.device != param.device or kept.requires_grad:
            return False
        if self.shape is not None or has_gaps(param):
            return kept.is_contiguous()
        return strides(kept) == strides(param)


def needed(param: torch.Tensor, group: dict[str, Any], name: str) -> dict[str, Part]:
    """Returns the parts of a parameter's state that the library needs, by their names."""
    local = plain(param)
    moments, precision = group.get("moments"), group.get("precision")
    keys = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * bool(group["amsgrad"])
    parts: dict[str, Part] = {}
    block = BLOCKS.get(moments)
    whole = placed(param)[1] or local.numel()
    if block and local.dtype != torch.float64 and whole >= SHORTEST_CODED:
        scales: tuple[int, ...]
        if is_distributed(param):
            groups, size = groups_of_rows(param, block, name)
            codes = tuple(param.shape) + (2,) * param.is_complex()
            codes = codes if moments == "8bit" else (groups, size // 2)
            scales = groups, size // block
        else:
            blocks = -(-local.numel() // block)
            codes = tuple(local.shape) if moments == "8bit" else (blocks * block // 2,)
            scales = (blocks,)
        for key in keys:
            parts[key] = Part(torch.uint8, codes)
            parts[f"{key}_scale"] = Part(torch.float32, scales)
    else:
        dtype = torch.bfloat16 if moments == "bf16" else torch.float32
        dtype = torch.float64 if local.dtype == torch.float64 else dtype
        parts.update((key, Part(dtype)) for key in keys)
    if is_short(local) and precision == "master":
        parts["master"] = Part(torch.float32)
    elif is_short(local) and precision in ("split", "kahan"):
        parts["remainder"] = Part(torch.int16 if precision == "split" else local.dtype)
    return parts


def borrowed(
    parts: dict[str, torch.Tensor], local: torch.Tensor, block: int
) -> dict[str, torch.Tensor]:
    """Returns the memory of state that the library works on: of codes in groups of rows, and of
    their scales, as much as the blocks of this process have."""
    memory = {key: plain(part) for key, part in parts.items()}
    for key, part in parts.items():
        if is_distributed(part) and f"{key}_scale" in parts:
            blocks = -(-local.numel() // block)
            scale = f"{key}_scale"
            memory[scale] = memory[scale].flatten()[:blocks]
            if block == BLOCKS["4bit"]:
                memory[key] = memory[key].flatten()[: blocks * block // 2]
    return memory


def completed(
    state: dict[str, Any], param: torch.Tensor, group: dict[str, Any], name: str
) -> dict[str, torch.Tensor]:
    """Puts into a parameter's state what is missing there, and returns the library's part of it.

    Tensors that are fit stay as they are. Others, such as 16-bit moments that PyTorch has begun,
    are replaced by copies in the right type and order.
    """
    parts = needed(param, group, name)
    for key, part in parts.items():
        kept = state.get(key)
        if kept is None:
            starts_as_sq = key.startswith("max_") and key.removeprefix("max_") in state
            source = state[key.removeprefix("max_")] if starts_as_sq else None
            source = param.detach() if key == "master" else source
            state[key] = part.zeros(param)
            if source is not None:
                state[key].copy_(source)
        else:
            check_convertible(key, kept, part, param, name)
            if not part.fits(kept, param):
                state[key] = part.zeros(param).copy_(kept)
    if "master" in parts:
        master = plain(state["master"])
        if not torch.equal(master.to(plain(param).dtype), plain(param)):
            master.copy_(plain(param).detach())  # the host has other weights now
    return {key: state[key] for key in parts}


def check_convertible(key: str, kept: object, part: Part, param: torch.Tensor, name: str) -> None:
    """Raises MismatchError if state in codes is wanted and there are numbers, or the reverse."""
    shape = tuple(param.shape) if part.shape is None else part.shape
    if isinstance(kept, torch.Tensor) and tuple(kept.shape) == shape:
        numbers = kept.is_floating_point() or kept.is_complex()
        if numbers == part.dtype.is_floating_point and (numbers or kept.dtype == part.dtype):
            return
    seen = f"{kept.dtype} {list(kept.shape)}" if isinstance(kept, torch.Tensor) else repr(kept)
    raise MismatchError(
        f"{key} of parameter {name} is {seen}, where {part.dtype} {list(shape)} is needed: make "
        f"the optimizer with the `moments` and `precision` that the state was saved with"
    )


class StepCounts:
    """The steps that parameters have taken: one run of memory, of which each state has one element.

    All of them are advanced, and compared with what the library has, by one operation.
    """

    def __init__(self, count: int) -> None:
        wide = torch.get_default_dtype() == torch.float64
        self.values = torch.zeros(count, dtype=torch.float64 if wide else torch.float32)
        self.expected = self.values.clone()

    def adopt(self, index: int, state: dict[str, Any]) -> int:
        """Puts a state's count, or 0, into the run of memory, and returns it."""
        count = float(state.get("step", 0.0))
        self.values[index] = count
        self.expected[index] = count
        storage = self.values.untyped_storage()
        state["step"] = torch.empty(0, dtype=self.values.dtype).set_(storage, index, (), ())
        return round(count)

    def advance(self, indices: torch.Tensor | None) -> None:
        """Counts a step of these parameters, or of all."""
        for counts in (self.values, self.expected):
            if indices is None:
                counts += 1
            else:
                counts[indices] += 1

    def changed(self) -> list[int]:
        """Returns which counts the host has written since the last step."""
        if torch.equal(self.values, self.expected):
            return []
        changed: list[int] = (self.values != self.expected).nonzero().flatten().tolist()
        self.expected.copy_(self.values)
        return changed
