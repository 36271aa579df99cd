"""What adamw.torch.AdamW has and torch.optim.AdamW has not, and GradScaler.

usage: LIBADAMW=libadamw.so torch_keywords.py
"""

import unittest

import adamw.torch
import torch
from adamw.torch._tensors import has_gaps
from torch_pairs import STEPS, Pair, distance, parameters

#: Two groups that need two handles, whose gradients have one norm.
TWO_KINDS = lambda ps: [{"params": ps[:4]}, {"params": ps[4:], "precision": "master"}]


class Precision(unittest.TestCase):
    def test_small_updates_are_kept(self):
        start = torch.full((300,), 1.0)
        cases = [
            ("master", torch.bfloat16),
            ("master", torch.float16),
            ("split", torch.bfloat16),
            ("kahan", torch.bfloat16),
            ("kahan", torch.float16),
            ("stochastic", torch.bfloat16),
        ]
        for precision, dtype in cases:
            with self.subTest(precision, dtype=dtype):
                param = torch.nn.Parameter(start.to(dtype))
                optimizer = adamw.torch.AdamW([param], lr=1e-5, weight_decay=0, precision=precision)
                for _ in range(1000):
                    param.grad = torch.ones_like(param)
                    optimizer.step()
                self.assertAlmostEqual(param.float().mean().item(), 0.99, delta=4e-3)
        lost = torch.nn.Parameter(start.bfloat16())
        lost.grad = torch.ones_like(lost)
        adamw.torch.AdamW([lost], lr=1e-5, weight_decay=0).step()
        self.assertTrue(torch.equal(lost, start.bfloat16()))

    def test_masters_are_those_of_f32_training(self):
        start = torch.randn(40, 50).bfloat16()
        ends = []
        for precision in ("master", "split"):
            torch.manual_seed(1)
            param = torch.nn.Parameter(start.clone())
            optimizer = adamw.torch.AdamW([param], precision=precision)
            exact = torch.nn.Parameter(start.float())
            reference = torch.optim.AdamW([exact])
            for _ in range(STEPS):
                param.grad = torch.randn(40, 50).bfloat16()
                exact.grad = param.grad.float()
                optimizer.step()
                reference.step()
            state = optimizer.state[param]
            if precision == "master":
                ends.append(state["master"])
            else:
                bits = (param.detach().view(torch.int16).int() << 16) + state["remainder"].int()
                ends.append(bits.view(torch.float32))
            self.assertLess(distance(ends[-1], exact), 1e-5)
        self.assertTrue(torch.equal(*ends))

    def test_a_master_follows_what_the_host_writes(self):
        for write in ("copy_", "data"):
            param = torch.nn.Parameter(torch.randn(50).bfloat16())
            optimizer = adamw.torch.AdamW([param], lr=1e-6, precision="master")
            for _ in range(3):
                param.grad = torch.randn(50).bfloat16()
                optimizer.step()
            if write == "copy_":
                with torch.no_grad():
                    param.copy_(torch.full((50,), 3.0))
            else:
                param.data.fill_(3.0)
                optimizer.sync_masters()
            param.grad = torch.randn(50).bfloat16()
            optimizer.step()
            self.assertTrue(torch.equal(param, torch.full((50,), 3.0).bfloat16()))

    def test_a_choice_that_does_not_exist_is_named(self):
        for key in ("precision", "moments"):
            with self.assertRaisesRegex(ValueError, f"Invalid {key}: 'exact'.*one of None"):
                adamw.torch.AdamW(parameters(), **{key: "exact"})
        with self.assertRaisesRegex(ValueError, "Invalid clip_norm: 0"):
            adamw.torch.AdamW(parameters(), clip_norm=0)

    def test_f16_cannot_be_split(self):
        pair = Pair([torch.randn(5).half()], ours={"precision": "split"})
        pair.gradients()
        with self.assertRaisesRegex(adamw.errors.UnsupportedError, 'param "0"'):
            pair.adamw.step()


class Moments(unittest.TestCase):
    def test_they_are_small_and_near(self):
        sizes = {"bf16": 4, "8bit": 2.04, "4bit": 1.07}  # bytes of an element, both moments
        start = torch.randn(100, 256)
        for moments, size in sizes.items():
            with self.subTest(moments):
                pair = Pair([start], ours={"moments": moments})
                for _ in range(STEPS):
                    pair.step()
                state = pair.adamw.state[pair.ours[0]]
                taken = sum(v.nbytes for key, v in state.items() if key != "step")
                self.assertLessEqual(taken, size * start.numel())
                pair.assert_near(moments, {"bf16": 1e-3, "8bit": 5e-3, "4bit": 5e-2}[moments])

    def test_short_tensors_have_no_codes(self):
        pair = Pair([torch.randn(4095), torch.randn(4097)], ours={"moments": "8bit"})
        pair.step()
        types = [pair.adamw.state[p]["exp_avg"].dtype for p in pair.ours]
        self.assertEqual(types, [torch.float32, torch.uint8])

    def test_a_group_can_have_its_own(self):
        groups = lambda ps: [{"params": ps[:1], "moments": "8bit"}, {"params": ps[1:]}]
        params = [torch.randn(5000), torch.randn(5000)]
        optimizer = adamw.torch.AdamW(groups(params))
        for param in params:
            param.grad = torch.randn(5000)
        optimizer.step()
        types = [optimizer.state[p]["exp_avg"].dtype for p in params]
        self.assertEqual(types, [torch.uint8, torch.float32])


class Clipping(unittest.TestCase):
    def test_the_step_clips_as_clip_grad_norm_does(self):
        for groups in (lambda ps: ps, TWO_KINDS):
            for scale in (1e-3, 1.0, 100.0):
                pair = Pair(parameters(), ours={"clip_norm": 0.7}, groups=groups)
                for _ in range(30):
                    pair.gradients(scale)
                    norm = torch.nn.utils.clip_grad_norm_(pair.theirs, 0.7)
                    pair.torch.step()
                    pair.adamw.step()
                    self.assertAlmostEqual(pair.adamw.grad_norm / norm.item(), 1, delta=1e-5)
                pair.assert_near(f"clipped, scale {scale}", 3e-5)

    def test_the_norm_can_change(self):
        pair = Pair(parameters())
        for norm in (None, 0.5, 0.1, None):
            pair.adamw.clip_norm = norm
            for _ in range(5):
                pair.gradients()
                if norm is not None:
                    torch.nn.utils.clip_grad_norm_(pair.theirs, norm)
                pair.torch.step()
                pair.adamw.step()
        pair.assert_near("changed norms", 3e-5)

    def test_gradients_stay_or_become_zeros(self):
        for clear in (False, True):
            pair = Pair(parameters(), ours={"clip_norm": 0.1, "clear_grads": clear})
            for absent in ({}, {0, 5}, {}):
                pair.gradients(absent=absent)
                pair.torch.step()
                pair.adamw.step()
                for ours, theirs in zip(pair.ours, pair.theirs, strict=True):
                    if ours.grad is not None:
                        expected = torch.zeros_like(theirs) if clear else theirs.grad
                        self.assertTrue(torch.equal(ours.grad, expected))


class Sparse(unittest.TestCase):
    def table(self, **keywords):
        torch.manual_seed(4)
        table = torch.nn.Embedding(30, 6, sparse=True)
        return table, adamw.torch.AdamW(table.parameters(), lr=0.01, **keywords)

    def test_rows_are_stepped_as_by_the_dense_gradient(self):
        table, optimizer = self.table()
        dense = torch.nn.Parameter(table.weight.detach().clone())
        reference = torch.optim.AdamW([dense], lr=0.01)
        for _ in range(20):
            rows = torch.randint(30, (8,))
            for embed, o in ((table, optimizer), (lambda r: dense[r], reference)):
                o.zero_grad()
                embed(rows).square().sum().backward()
                o.step()
        self.assertTrue(table.weight.grad.is_sparse)
        self.assertLess(distance(table.weight, dense), 1e-5)

    def test_lazy_rows_stay(self):
        table, optimizer = self.table(lazy_rows=True, weight_decay=0.1)
        before = table.weight.detach().clone()
        table(torch.tensor([3, 3, 7])).sum().backward()
        optimizer.step()
        moved = (table.weight != before).any(1).nonzero().flatten().tolist()
        self.assertEqual(moved, [3, 7])

    def test_dense_and_sparse_gradients_take_turns(self):
        table, optimizer = self.table()
        dense = torch.nn.Parameter(table.weight.detach().clone())
        reference = torch.optim.AdamW([dense], lr=0.01)
        for step in range(12):
            grad = torch.zeros(30, 6)
            grad[step] = 1.0
            table.weight.grad = grad.to_sparse() if step % 3 else grad
            dense.grad = grad
            optimizer.step()
            reference.step()
        self.assertLess(distance(table.weight, dense), 1e-5)

    def test_cleared_gradients_are_zeros(self):
        table, optimizer = self.table(clear_grads=True)
        table(torch.tensor([3, 3, 7])).sum().backward()
        optimizer.step()
        self.assertEqual(table.weight.grad.to_dense().abs().sum().item(), 0)


class Scaler(unittest.TestCase):
    def test_steps_and_skips_as_with_torchs_class(self):
        for groups in (lambda ps: ps, TWO_KINDS):
            # PyTorch's fused step on the CPU writes into the gaps of a parameter that has gaps.
            params = [param for param in parameters() if not has_gaps(param)]
            pair = Pair(params, {"fused": True}, groups=groups)
            scalers = [
                torch.amp.GradScaler("cpu", init_scale=1024, growth_interval=4) for _ in "ab"
            ]
            for step in range(40):
                pair.gradients(scale=scalers[0].scale(torch.ones(())).item())
                scalers[1].scale(torch.ones(()))
                if step in (3, 11, 12):
                    pair.theirs[0].grad[0, 0] = pair.ours[0].grad[0, 0] = float("inf")
                for scaler, optimizer in zip(scalers, (pair.torch, pair.adamw), strict=True):
                    if step % 5 == 4:
                        scaler.unscale_(optimizer)
                    scaler.step(optimizer)
                    scaler.update()
                self.assertEqual(*(scaler.get_scale() for scaler in scalers))
            pair.assert_near("scaled")
            counts = [
                {float(s["step"]) for s in o.state.values()} for o in (pair.torch, pair.adamw)
            ]
            self.assertEqual(*counts)
            self.assertEqual(counts[1], {37.0})

    def test_a_clipped_norm_is_that_of_unscaled_gradients(self):
        for fused in (False, True):
            self.clip_scaled(Pair(parameters(), ours={"clip_norm": 0.5, "fused": fused}))

    def clip_scaled(self, pair):
        scaler = torch.amp.GradScaler("cpu", init_scale=256)
        for _ in range(10):
            scaler.scale(torch.ones(()))
            pair.gradients()
            norm = torch.nn.utils.clip_grad_norm_(pair.theirs, 0.5)
            pair.torch.step()
            for param in pair.ours:
                param.grad *= 256
            scaler.step(pair.adamw)
            scaler.update()
            self.assertAlmostEqual(pair.adamw.grad_norm / norm.item(), 1, delta=1e-5)
        pair.assert_near("scaled and clipped", 3e-5)


if __name__ == "__main__":
    unittest.main()
