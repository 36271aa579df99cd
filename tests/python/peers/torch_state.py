"""State and life of an optimizer: what torch.optim.AdamW allows, our class allows.

usage: LIBADAMW=libadamw.so torch_state.py
"""

import copy
import io
import pickle
import unittest
import warnings

import adamw.torch
import torch
from torch_pairs import Pair, distance, parameters

KEYS = ["step", "exp_avg", "exp_avg_sq"]


def steps(pair, count=10, **keywords):
    for _ in range(count):
        pair.step(**keywords)


class StateDict(unittest.TestCase):
    def test_layout_is_torchs(self):
        for keywords in ({}, {"amsgrad": True}):
            pair = Pair(parameters(), keywords)
            steps(pair)
            theirs, ours = pair.torch.state_dict(), pair.adamw.state_dict()
            self.assertEqual(list(theirs["state"]), list(ours["state"]))
            for index, state in theirs["state"].items():
                self.assertEqual(list(state), list(ours["state"][index]))
                for key, value in state.items():
                    other = ours["state"][index][key]
                    self.assertEqual((value.dtype, value.shape), (other.dtype, other.shape))
                    self.assertLess(distance(other, value), 5e-6)
            self.assertEqual(list(theirs["param_groups"][0]), list(ours["param_groups"][0]))

    def test_each_goes_on_from_the_others(self):
        for dtype in (torch.float32, torch.float64, torch.complex64):
            for keywords in ({}, {"amsgrad": True}, {"maximize": True, "weight_decay": 0.2}):
                with self.subTest(dtype=dtype, keywords=keywords):
                    pair = Pair(parameters(dtype), keywords)
                    steps(pair)
                    saved = [through_a_file(o.state_dict()) for o in (pair.torch, pair.adamw)]
                    pair.torch.load_state_dict(saved[1])
                    pair.adamw.load_state_dict(saved[0])
                    steps(pair)
                    pair.assert_near("loaded from each other")

    def test_loading_our_own_goes_on_with_the_same_bits(self):
        cases = [
            ({}, torch.float32),
            ({}, torch.bfloat16),
            ({"precision": "split"}, torch.bfloat16),
            ({"precision": "master"}, torch.float16),
            ({"precision": "kahan"}, torch.float16),
            ({"precision": "stochastic", "seed": 5}, torch.bfloat16),
            ({"moments": "bf16"}, torch.float32),
            ({"moments": "8bit"}, torch.float32),
            ({"moments": "4bit", "precision": "split"}, torch.bfloat16),
        ]
        for ours, dtype in cases:
            with self.subTest(ours, dtype=dtype):
                starts = [torch.randn(70, 80).to(dtype), torch.randn(5).to(dtype)]
                first = Pair(starts, ours=ours)
                steps(first)
                second = Pair(first.ours, ours=ours)
                second.adamw.load_state_dict(through_a_file(first.adamw.state_dict()))
                second.generator.set_state(first.generator.get_state())
                steps(first)
                steps(second)
                for a, b in zip(first.ours, second.ours, strict=True):
                    self.assertTrue(torch.equal(a, b))

    def test_codes_do_not_take_numbers_for_codes(self):
        start = [torch.randn(5000)]
        plain, coded = Pair(start), Pair(start, ours={"moments": "8bit"})
        steps(plain)
        steps(coded)
        saves = [through_a_file(pair.adamw.state_dict()) for pair in (plain, coded)]
        for saved, target in zip(saves, (coded, plain), strict=True):
            for group in saved["param_groups"]:
                group["moments"] = target.adamw.param_groups[0].get("moments")
            target.adamw.load_state_dict(saved)
            target.gradients()
            before = target.ours[0].detach().clone()
            with self.assertRaisesRegex(adamw.errors.MismatchError, "exp_avg of parameter 0"):
                target.adamw.step()
            self.assertTrue(torch.equal(before, target.ours[0]))

    def test_a_loaded_state_dict_is_not_written_later(self):
        pair = Pair(parameters())
        steps(pair)
        saved = copy.deepcopy(pair.adamw.state_dict())
        kept = copy.deepcopy(saved)
        pair.adamw.load_state_dict(copy.deepcopy(saved))
        steps(pair)
        for index, state in kept["state"].items():
            for key in KEYS:
                self.assertTrue(torch.equal(state[key], saved["state"][index][key]))

    def test_hooks_of_the_state_dict_run(self):
        pair, seen = Pair(parameters()), []
        for optimizer in (pair.torch, pair.adamw):
            note = lambda what: lambda *_: seen.append(what)
            optimizer.register_state_dict_pre_hook(note("before saving"))
            optimizer.register_state_dict_post_hook(note("after saving"))
            optimizer.register_load_state_dict_pre_hook(note("before loading"))
            optimizer.register_load_state_dict_post_hook(note("after loading"))
            optimizer.load_state_dict(optimizer.state_dict())
        self.assertEqual(seen[:4], seen[4:])
        self.assertEqual(len(seen), 8)


class Surgery(unittest.TestCase):
    """What programs do to an optimizer between steps."""

    def check(self, change, after=5, **keywords):
        pair = Pair(parameters(), keywords)
        steps(pair, 5)
        for optimizer, params in ((pair.torch, pair.theirs), (pair.adamw, pair.ours)):
            change(optimizer, params)
        steps(pair, after)
        pair.assert_near(change.__name__)
        for theirs, ours in zip(pair.theirs, pair.ours, strict=True):
            self.assertEqual(
                *(float(o.state[p]["step"]) for o, p in ((pair.torch, theirs), (pair.adamw, ours)))
            )

    def test_moments_written_in_place(self):
        def scale(optimizer, params):
            optimizer.state[params[0]]["exp_avg"].mul_(0.5)
            optimizer.state[params[7]]["exp_avg_sq"].zero_()

        self.check(scale)

    def test_moments_replaced(self):
        def replace(optimizer, params):
            for param in params:
                state = optimizer.state[param]
                state["exp_avg"] = state["exp_avg"] * 0.5
                state["exp_avg_sq"] = torch.zeros_like(param)

        self.check(replace)

    def test_moments_moved_by_data(self):
        def move(optimizer, params):
            for state in optimizer.state.values():
                for value in state.values():
                    value.data = value.data.clone()

        self.check(move)

    def test_step_counts_written(self):
        def count(optimizer, params):
            optimizer.state[params[0]]["step"] += 7
            optimizer.state[params[1]]["step"].zero_()

        self.check(count)

    def test_step_counts_replaced(self):
        def replace(optimizer, params):
            optimizer.state[params[7]]["step"] = torch.tensor(2.0)

        self.check(replace)

    def test_states_deleted_and_taken_over(self):
        def delete(optimizer, params):
            del optimizer.state[params[0]]
            state = optimizer.state.pop(params[7])
            optimizer.state[params[7]] = {key: value.clone() for key, value in state.items()}

        self.check(delete)

    def test_a_parameter_exchanged_for_a_longer_one(self):
        """As Gaussian splatting does when it adds points."""
        pair = Pair([torch.randn(6, 3)])
        steps(pair, 5)
        for optimizer, params in ((pair.torch, pair.theirs), (pair.adamw, pair.ours)):
            old = params[0]
            new = torch.nn.Parameter(torch.cat([old.detach(), torch.ones(2, 3)]))
            state = optimizer.state.pop(old)
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = torch.cat([state[key], torch.zeros(2, 3)])
            optimizer.param_groups[0]["params"][0] = params[0] = new
            optimizer.state[new] = state
        steps(pair)
        pair.assert_near("a longer parameter")

    def test_parameters_moved_by_data(self):
        def move(optimizer, params):
            for param in params:
                param.data = param.data.clone(memory_format=torch.preserve_format)

        self.check(move)

    def test_parameters_moved_before_each_step(self):
        pair = Pair(parameters())
        for _ in range(20):
            for params in (pair.theirs, pair.ours):
                params[0].data = params[0].data.clone()
                params[7].data = params[7].data.clone()
            pair.step()
        pair.assert_near("moved before each step")

    def test_a_parameter_laid_out_in_another_order(self):
        def turn(optimizer, params):
            params[0].data = params[0].data.t().contiguous().t()

        self.check(turn)

    def test_a_square_parameter_turned_where_it_lies(self):
        pair = Pair([torch.randn(6, 6)])
        for turned in (False, True, True):
            if turned:
                for params in (pair.theirs, pair.ours):
                    params[0].data = params[0].data.t()
            for contiguous in (False, True):
                pair.gradients()
                if contiguous:
                    for params in (pair.theirs, pair.ours):
                        params[0].grad = params[0].grad.contiguous()
                pair.torch.step()
                pair.adamw.step()
        pair.assert_near("turned where it lies")

    def test_options_changed(self):
        def change(optimizer, params):
            group = optimizer.param_groups[0]
            group["lr"], group["betas"], group["eps"] = 0.003, (0.8, 0.95), 1e-6
            group["weight_decay"], group["maximize"] = 0.0, True

        self.check(change, after=20)

    def test_amsgrad_turned_off(self):
        def turn(optimizer, params):
            optimizer.param_groups[0]["amsgrad"] = False

        self.check(turn, amsgrad=True)


class Life(unittest.TestCase):
    def test_gradients_that_come_and_go(self):
        pair = Pair(parameters())
        for step in range(30):
            pair.step(absent={step % 8, step // 2 % 8} if step % 3 else ())
        pair.assert_near("gradients that come and go")
        for theirs, ours in zip(pair.theirs, pair.ours, strict=True):
            self.assertEqual(
                float(pair.torch.state[theirs]["step"]), float(pair.adamw.state[ours]["step"])
            )

    def test_a_parameter_without_gradients_has_no_state(self):
        pair = Pair(parameters())
        steps(pair, absent={2})
        self.assertNotIn(pair.ours[2], pair.adamw.state)
        steps(pair)
        pair.assert_near("a late gradient")

    def test_no_gradient_at_all_steps_nothing(self):
        pair = Pair(parameters())
        before = [param.detach().clone() for param in pair.ours]
        steps(pair, absent=set(range(8)))
        for a, b in zip(before, pair.ours, strict=True):
            self.assertTrue(torch.equal(a, b))

    def test_gradients_of_other_orders_and_types(self):
        pair = Pair(parameters())
        for _ in range(10):
            pair.gradients()
            for params in (pair.theirs, pair.ours):
                params[0].grad = params[0].grad.t().contiguous().t()
                params[5].grad = params[5].grad.contiguous()
                params[7].grad = torch.ones(1).expand(3000)
            pair.torch.step()
            pair.adamw.step()
        pair.assert_near("other orders")

    def test_gradients_through_backward(self):
        for set_to_none in (True, False):
            pair = Pair([torch.randn(8, 4), torch.randn(8)], {"lr": 0.01})
            for _ in range(20):
                x = torch.randn(16, 4)
                for optimizer, (w, b) in ((pair.torch, pair.theirs), (pair.adamw, pair.ours)):
                    optimizer.zero_grad(set_to_none=set_to_none)
                    (torch.tanh(x @ w.t() + b) - 1).square().mean().backward()
                    optimizer.step()
            pair.assert_near("through backward")

    def test_a_closure_is_called_with_gradients_enabled(self):
        pair = Pair([torch.randn(5)])
        losses = []
        for optimizer, params in ((pair.torch, pair.theirs), (pair.adamw, pair.ours)):

            def closure():
                optimizer.zero_grad()
                loss = params[0].square().sum()
                loss.backward()
                return loss.detach()

            losses.append([float(optimizer.step(closure)) for _ in range(10)])
        pair.assert_near("closures")
        self.assertLess(abs(losses[0][-1] - losses[1][-1]), 1e-5)

    def test_hooks_run_around_the_step(self):
        pair, seen = Pair([torch.randn(5)]), []
        pair.adamw.register_step_pre_hook(lambda o, args, kwargs: seen.append("before"))
        pair.adamw.register_step_post_hook(lambda o, args, kwargs: seen.append("after"))
        steps(pair, 2)
        self.assertEqual(seen, ["before", "after"] * 2)

    def test_groups_are_added_while_it_runs(self):
        pair = Pair(parameters())
        steps(pair)
        for optimizer, params in ((pair.torch, pair.theirs), (pair.adamw, pair.ours)):
            params.append(torch.nn.Parameter(torch.linspace(-1, 1, 50)))
            group = {"params": [params[-1]], "lr": 0.02, "amsgrad": True, "maximize": True}
            optimizer.add_param_group(group)
        steps(pair, 20)
        pair.assert_near("an added group")

    def test_groups_with_options_of_their_own(self):
        def groups(params):
            return [
                {"params": params[:2], "amsgrad": True},
                {"params": params[2:5], "maximize": True, "betas": (0.5, 0.9)},
                {"params": params[5:], "eps": 1e-5, "lr": 0.0},
            ]

        pair = Pair(parameters(), groups=groups)
        steps(pair, 50)
        pair.assert_near("groups")

    def test_named_parameters(self):
        pair = Pair(parameters(), groups=lambda ps: [(f"p{i}", p) for i, p in enumerate(ps)])
        steps(pair)
        pair.assert_near("named parameters")
        names = [o.state_dict()["param_groups"][0]["param_names"] for o in (pair.torch, pair.adamw)]
        self.assertEqual(*names)

    def test_a_step_counts_as_a_write_for_autograd(self):
        pair = Pair([torch.randn(5)])
        for optimizer, params in ((pair.torch, pair.theirs), (pair.adamw, pair.ours)):
            loss = params[0].square().sum()
            params[0].grad = torch.ones(5)
            optimizer.step()
            with self.assertRaisesRegex(RuntimeError, "modified by an inplace operation"):
                loss.backward()

    def test_copies_and_pickles_go_on_alone(self):
        for copied in (copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))):
            pair = Pair(parameters(), {"amsgrad": True}, ours={"clear_grads": True})
            steps(pair)
            content = (pair.adamw, pair.ours, pair.torch, pair.theirs)
            adamw_, ours, torch_, theirs = copied(content)
            before = [param.detach().clone() for param in pair.ours]
            pair.adamw, pair.ours, originals = adamw_, ours, pair.ours
            pair.torch, pair.theirs = torch_, theirs
            self.assertTrue(pair.adamw.clear_grads)
            steps(pair)
            pair.assert_near("a copy")
            for a, b in zip(before, originals, strict=True):
                self.assertTrue(torch.equal(a, b))

    def test_state_is_the_memory_that_is_stepped(self):
        pair = Pair([torch.randn(500)])
        steps(pair, 1)
        state = pair.adamw.state[pair.ours[0]]
        kept, address = state["exp_avg"], state["exp_avg"].data_ptr()
        steps(pair, 3)
        self.assertIs(pair.adamw.state[pair.ours[0]]["exp_avg"], kept)
        self.assertEqual(kept.data_ptr(), address)
        self.assertLess(distance(kept, pair.torch.state[pair.theirs[0]]["exp_avg"]), 1e-6)

    def test_a_compiled_training_step_runs_it_uncompiled(self):
        pair = Pair([torch.randn(5)])
        step = torch.compile(pair.adamw.step, backend="eager")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(3):
                pair.gradients()
                pair.torch.step()
                step()
        pair.assert_near("a compiled step")


def through_a_file(state_dict):
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


if __name__ == "__main__":
    unittest.main()
