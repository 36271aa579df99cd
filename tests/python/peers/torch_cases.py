"""PyTorch's own cases of AdamW, in torch.testing._internal.common_optimizers, with our class.

usage: LIBADAMW=libadamw.so torch_cases.py
"""

import unittest

import adamw.torch
import torch
from torch.testing._internal.common_optimizers import optim_db
from torch_pairs import STEPS, Pair, parameters

INFO = next(info for info in optim_db if info.optim_cls is torch.optim.AdamW)

#: What torch.optim.AdamW has and this class refuses, with the reason.
NOT_RUN = {
    "differentiable": "the library's step has no derivative",
}


class Cases(unittest.TestCase):
    def test_every_input_steps_as_torch_does(self):
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
            for case in INFO.optim_inputs_func(device="cpu", dtype=dtype):
                with self.subTest(case.desc, dtype=dtype):
                    pair = Pair(parameters(dtype), case.kwargs)
                    for _ in range(STEPS):
                        pair.step()
                    pair.assert_near(case.desc)

    def test_complex_parameters_step_as_pairs_of_reals(self):
        for dtype in (torch.complex64, torch.complex128):
            for case in INFO.optim_inputs_func(device="cpu", dtype=dtype):
                with self.subTest(case.desc, dtype=dtype):
                    pair = Pair(parameters(dtype), case.kwargs)
                    for _ in range(STEPS):
                        pair.step()
                    pair.assert_near(case.desc)

    def test_16_bit_parameters_are_nearer_to_f64_than_torchs(self):
        for dtype in (torch.bfloat16, torch.float16):
            with self.subTest(dtype=dtype):
                # In f16, an eps of 1e-8 is 0 to PyTorch, which then divides by it.
                pair = Pair(parameters(dtype), {"lr": 0.01, "eps": 1e-4})
                exact = Pair([p.double() for p in parameters(dtype)], {"lr": 0.01, "eps": 1e-4})
                for _ in range(STEPS):
                    pair.step()
                    for param, other in zip(exact.theirs, pair.theirs, strict=True):
                        param.grad = other.grad.double()
                    exact.torch.step()
                error = lambda params: sum(
                    (p.double() - q).square().sum() for p, q in zip(params, exact.theirs)
                )
                self.assertLess(error(pair.ours), error(pair.theirs))

    def test_every_wrong_input_raises_what_torch_raises(self):
        for dtype in (torch.float32, torch.float64):
            cases = INFO.optim_error_inputs_func(device="cpu", dtype=dtype)
            self.assertGreater(len(cases), 5)
            for case in cases:
                given = case.optimizer_error_input
                with self.subTest(given.desc):
                    params = given.params
                    params = [torch.nn.Parameter(torch.randn(1, 1))] if params is None else params
                    if case.error_type in (UserWarning, FutureWarning):
                        with self.assertWarnsRegex(case.error_type, case.error_regex):
                            adamw.torch.AdamW(params, **given.kwargs)
                    else:
                        with self.assertRaisesRegex(case.error_type, case.error_regex):
                            adamw.torch.AdamW(params, **given.kwargs)

    def test_implementations_of_torch_are_accepted_and_change_nothing(self):
        for flag in INFO.supported_impls:
            with self.subTest(flag):
                if flag in NOT_RUN:
                    with self.assertRaisesRegex(ValueError, flag):
                        adamw.torch.AdamW(parameters(), **{flag: True})
                    continue
                pair, plain = Pair(parameters(), {flag: True}), Pair(parameters())
                for _ in range(5):
                    pair.step()
                    plain.step()
                for a, b in zip(pair.ours, plain.ours, strict=True):
                    self.assertTrue(torch.equal(a, b))

    def test_capturable_on_the_cpu_is_refused_at_the_step(self):
        pair = Pair(parameters(), {"capturable": True})
        pair.gradients()
        with self.assertRaises(AssertionError):
            pair.torch.step()
        with self.assertRaisesRegex(adamw.errors.UnsupportedError, "capturable"):
            pair.adamw.step()

    def test_bits_do_not_depend_on_threads(self):
        ends = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            generator = torch.Generator().manual_seed(3)
            param = torch.nn.Parameter(torch.randn(600_000, generator=generator))
            optimizer = adamw.torch.AdamW([param], clip_norm=1.0)
            for _ in range(3):
                param.grad = torch.randn(600_000, generator=generator)
                optimizer.step()
            ends.append(param.detach())
        self.assertTrue(torch.equal(*ends))


if __name__ == "__main__":
    for what, why in NOT_RUN.items():
        print(f"not run: {what}: {why}")
    unittest.main()
