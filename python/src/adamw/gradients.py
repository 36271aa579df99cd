"""The gradients of an optimizer's parameters: set, accumulated, sparse, cleared."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from . import _abi
from ._base import Base, check_like
from ._library import check, library
from .errors import InvalidArgumentError
from .settings import unsigned
from .tensors import ROWS, Tensors, View


class Gradients(Base):
    """Sets and clears gradients. An array stays set, and is kept alive, until it is replaced or
    forgotten: fill the same memory before each step, or give new arrays to `step(grads=...)`."""

    def _grad(self, name: str, grad: Any, writable: bool) -> View:
        what = f'param "{name}": grad'
        seen = self._view(grad, what, writable=writable)
        check_like(seen, self._param(name), what)
        return seen

    def _grads(self, grads: Mapping[str, Any]) -> tuple[list[int], Tensors]:
        """Returns the numbers of the parameters of gradients by name, and the gradients."""
        seen = [self._grad(name, grad, self._clears) for name, grad in grads.items()]
        return [self._params[name].number for name in grads], Tensors(seen)

    def set_grad(self, name: str, grad: Any) -> None:
        """Sets the gradient of a parameter: an array of its shape and its order of axes in memory,
        in its type or float32. Every step reads it until it is replaced. None forgets it, and a
        step skips the parameter."""
        number = self._param(name).number
        if grad is None:
            with self._handle.used() as core:
                check(library.adamw_set_grad(core.number, number, None))
                self._handle.keep((number, "grad"), None)
        else:
            self.set_grads({name: grad})

    def set_grads(self, grads: Mapping[str, Any]) -> None:
        """Sets several gradients by name, as `set_grad` does. On an error, none is set."""
        numbers, tensors = self._grads(grads)
        with self._handle.used() as core:
            check(library.adamw_set_grads(core.number, *tensors.arguments(numbers)))
            for number, one in zip(numbers, tensors.views):
                core.kept[number, "grad"] = one

    def accumulate_grad(self, name: str, grad: Any) -> None:
        """Adds the gradient of a micro-batch to the sum that the next step uses as the gradient
        (or its mean, with `average_grads`). The array is read now only."""
        seen = self._grad(name, grad, writable=False)
        number = self._param(name).number
        self._handle.call(library.adamw_accumulate_grad, number, seen.tensor())

    def set_accumulation_window(self, n_micro_batches: int) -> None:
        """Sets the divisor of `average_grads`. 0: the largest number of gradients that any
        parameter has accumulated."""
        n = unsigned("n_micro_batches", n_micro_batches)
        self._handle.call(library.adamw_set_accumulation_window, n)

    def set_sparse_grad(self, name: str, rows: Any, values: Any) -> None:
        """Sets a sparse gradient: row numbers, int32 or int64, and one row of values for each.
        Values of a row that is listed twice are added up. Both arrays stay set like a gradient."""
        param = self._param(name)
        seen_rows = self._rows(name, rows)
        what = f'param "{name}": values'
        seen = self._view(values, what, writable=self._clears)
        expected = (*seen_rows.shape, *param.shape[1:])
        if seen.shape != expected:
            raise InvalidArgumentError(
                f"{what} has the shape {seen.shape}, expected {expected}: one row of the param "
                f"for each row number"
            )
        tensors = seen_rows.tensor(), seen.tensor()
        with self._handle.used() as core:
            check(library.adamw_set_sparse_grad(core.number, param.number, *tensors))
            self._handle.keep((param.number, "grad"), seen)
            self._handle.keep((param.number, "rows"), seen_rows)

    def _rows(self, name: str, rows: Any) -> View:
        return self._view(rows, f'param "{name}": rows', writable=False, dtypes=ROWS)

    def sparse_prepare(self, name: str, rows: Any) -> None:
        """Brings rows up to date before they are read, with lazy="exact"."""
        seen = self._rows(name, rows)
        number = self._param(name).number
        self._handle.call(library.adamw_sparse_prepare, number, seen.tensor())

    def sparse_flush(self) -> None:
        """Brings every row up to date. Call it before parameters or state are read or written."""
        self._handle.call(library.adamw_sparse_flush)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets every gradient, or writes zeros over those that are set. A step skips a parameter
        without a gradient; with one of zeros, it moves by its momentum and decays."""
        with self._handle.used() as core:
            grads = {use: kept for use, kept in core.kept.items() if use[1] == "grad"}
            if set_to_none:
                check(library.adamw_clear_grad(core.number, _abi.CLEAR_FORGET))
                for number, _ in grads:
                    self._handle.keep((number, "grad"), None)
                    self._handle.keep((number, "rows"), None)
                return
            for name, param in self._params.items():
                grad = grads.get((param.number, "grad"))
                if grad is not None and grad.read_only:
                    raise InvalidArgumentError(
                        f'param "{name}": grad is read-only, but zero_grad(set_to_none=False) '
                        f"would write it: forget gradients by zero_grad()"
                    )
            check(library.adamw_clear_grad(core.number, _abi.CLEAR_ZERO))

    def grad_ready(self, name: str) -> None:
        """Tells that a gradient is complete, so that it is measured now, while it is in cache. It
        must not change until the next step."""
        self._handle.call(library.adamw_grad_ready, self._param(name).number)

    def measure_grads(self, sums: Any) -> None:
        """Measures the gradients of the next step into an array `[num_params, 2]` of float64: of
        each parameter, in the order in which they were added, the sum of the squares, and the count
        of what is not finite. The array may be in the memory of the device."""
        seen = self._view(sums, "sums", writable=True, dtypes=("float64",))
        self._handle.call(library.adamw_measure_grads, seen.tensor())

    def set_grad_sums(self, sums: Any) -> None:
        """Makes the next steps clip and skip by these sums, which are those of `measure_grads`,
        perhaps added up over processes. The array is kept and read in each step. None: steps
        measure again."""
        seen = None
        if sums is not None:
            seen = self._view(sums, "sums", writable=False, dtypes=("float64",))
        with self._handle.used() as core:
            check(library.adamw_set_grad_sums(core.number, seen and seen.tensor()))
            self._handle.keep(("grads", "sums"), seen)

    def grad_norm(self) -> tuple[float, int]:
        """Returns the norm of the gradients of the next step, unscaled and before clipping, and the
        count of what is not finite in them."""
        norm, n_nonfinite = ctypes.c_double(), ctypes.c_uint64()
        pointers = ctypes.byref(norm), ctypes.byref(n_nonfinite)
        self._handle.call(library.adamw_get_grad_norm, *pointers)
        return norm.value, n_nonfinite.value

    def step_param(self, name: str) -> None:
        """Steps one parameter now, if it has a gradient, and forgets the gradient."""
        number = self._param(name).number
        with self._handle.used() as core:
            check(library.adamw_step_param(core.number, number))
            self._handle.keep((number, "grad"), None)
            self._handle.keep((number, "rows"), None)
