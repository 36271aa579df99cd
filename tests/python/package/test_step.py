"""Steps from Python have the bits of the formula, in all the ways that gradients come in.

environment: LIBADAMW
"""

import threading
import unittest

from case import Model, arrays, bits, np

import adamw
from adamw import AdamW, schedules

SHAPES = (5, 3), (7,), (), (0,), (300_000,)


def trained(steps, **options):
    """Returns parameters after some steps with these options of the optimizer."""
    params = arrays(1, *SHAPES)
    with AdamW(params, **options) as optimizer:
        for step in range(steps):
            grads = arrays(2 + step, *SHAPES)
            optimizer.step(grads={str(number): grad for number, grad in enumerate(grads)})
    return params


class Formula(unittest.TestCase):
    def test_has_the_bits_of_numpy_for_every_type_and_hyper_parameter(self):
        for dtype in (np.float32, np.float64):
            for values in (
                {},
                {"lr": 0.1, "betas": (0.5, 0.75), "eps": 1e-3, "weight_decay": 0.25},
                {"lr": 0.0},
            ):
                params = arrays(3, *SHAPES, dtype=dtype)
                models = [Model(param, **values) for param in params]
                with AdamW(params, **values) as optimizer:
                    for step in range(5):
                        for number, grad in enumerate(arrays(4 + step, *SHAPES, dtype=dtype)):
                            optimizer.set_grad(str(number), grad)
                            models[number].step(grad)
                        optimizer.step()
                    for number, (param, model) in enumerate(zip(params, models)):
                        state = optimizer.state(str(number))
                        self.assertEqual(bits(param), bits(model.param), (dtype, values))
                        self.assertEqual(bits(state["exp_avg"]), bits(model.exp_avg))
                        self.assertEqual(bits(state["exp_avg_sq"]), bits(model.exp_avg_sq))

    def test_ranks_have_the_bits_of_one_optimizer_and_fail_together(self):
        clipped = {"clip_norm": 0.5}
        whole, grad = arrays(1, 5000)[0], arrays(2, 5000)[0]
        parts = [whole[:3000].copy(), whole[3000:].copy()]
        meeting, told = threading.Barrier(2), [None, None]
        pieces = [[], []]

        def rank(number, errors, adds_up):
            first = 3000 * number
            with AdamW(**clipped) as optimizer:
                optimizer.add_param("w", parts[number], first_element=first, whole_elements=5000)

                def all_reduce(numbers):
                    told[number] = list(numbers)
                    meeting.wait(60)
                    for i in range(len(numbers)):
                        numbers[i] = told[0][i] + told[1][i]
                    meeting.wait(60)
                    if not adds_up:
                        raise KeyError(number)

                optimizer.set_all_reduce(all_reduce)
                optimizer.set_next_piece(
                    lambda done, until: pieces[number].append((done, until)), n_elements=256
                )
                try:
                    optimizer.step(grads={"w": grad[first : first + len(parts[number])]})
                except KeyError as error:
                    errors.append(error)

        def step(adds_up):
            errors = []
            ranks = [threading.Thread(target=rank, args=(n, errors, adds_up)) for n in (0, 1)]
            for thread in ranks:
                thread.start()
            for thread in ranks:
                thread.join()
            return errors

        self.assertEqual(len(step(adds_up=False)), 2)
        self.assertEqual(pieces, [[], []])
        self.assertEqual(bits(np.concatenate(parts)), bits(whole))
        self.assertEqual(step(adds_up=True), [])
        self.assertEqual([calls[-1][1] for calls in pieces], list(map(len, parts)))
        self.assertTrue(all(calls[-1][0] > 0 for calls in pieces), pieces)
        with AdamW({"w": whole}, **clipped) as optimizer:
            optimizer.step(grads={"w": grad})
        self.assertEqual(bits(np.concatenate(parts)), bits(whole))

    def test_has_the_same_bits_with_any_number_of_threads(self):
        once = list(map(bits, trained(3, num_threads=1)))
        for threads in (0, 2, 3):
            self.assertEqual(once, list(map(bits, trained(3, num_threads=threads))))
        results = []
        workers = [
            threading.Thread(target=lambda: results.append(list(map(bits, trained(3)))))
            for _ in range(3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual(results, [once] * 3)

    def test_clips_by_the_norm_of_all_gradients_as_it_reports(self):
        (param,) = arrays(5, (9,))
        (grad,) = arrays(6, (9,))
        model = Model(param)
        with AdamW({"w": param}, clip_norm=0.5) as optimizer:
            optimizer.step(grads={"w": grad})
            info = optimizer.step_info()
        self.assertAlmostEqual(info.grad_norm, float(np.linalg.norm(grad.astype(np.float64))))
        self.assertAlmostEqual(info.clip_factor, 0.5 / info.grad_norm)
        model.step(grad, info.clip_factor)
        self.assertEqual(bits(param), bits(model.param))

    def test_options_change_what_they_say(self):
        plain = list(map(bits, trained(2)))
        for options in (
            {"amsgrad": True, "betas": (0.9, 0.1)},
            {"maximize": True},
            {"moments": "bf16"},
            {"moments": "8bit"},
            {"moments": "4bit"},
            {"clip_value": 0.25},
            {"clip_value": (-0.25, 0.5)},
            {"clip_norm": 0.25, "clip_each": True},
            {"clip_norm": 0.25, "clip_scope": "group"},
            {"independent_weight_decay": True},
            {"bias_correction": None},
            {"eps_before_correction": True},
            {"decays_new_value": True},
        ):
            self.assertNotEqual(plain, list(map(bits, trained(2, **options))), options)


class Gradients(unittest.TestCase):
    def setUp(self):
        self.param, self.grad = arrays(7, (6, 4), (6, 4))
        self.model = Model(self.param)
        self.optimizer = AdamW({"w": self.param})

    def tearDown(self):
        self.optimizer.close()

    def assert_like_the_model(self, grad, scale=1.0):
        self.model.step(grad, scale)
        self.assertEqual(bits(self.param), bits(self.model.param))

    def test_stay_set_until_they_are_replaced_or_forgotten(self):
        self.optimizer.set_grad("w", self.grad)
        self.optimizer.step()
        self.assert_like_the_model(self.grad)
        self.grad *= 3
        self.optimizer.step()
        self.assert_like_the_model(self.grad)
        for forget in (
            lambda: self.optimizer.set_grad("w", None),
            lambda: self.optimizer.zero_grad(),
        ):
            self.optimizer.set_grad("w", self.grad)
            forget()
            self.optimizer.step()
            self.assertEqual(bits(self.param), bits(self.model.param))

    def test_of_zeros_still_move_by_momentum(self):
        self.optimizer.set_grad("w", self.grad)
        self.optimizer.step()
        self.model.step(self.grad)
        self.optimizer.zero_grad(set_to_none=False)
        self.assertEqual(bits(self.grad), bits(np.zeros_like(self.grad)))
        self.optimizer.step()
        self.assert_like_the_model(self.grad)

    def test_may_be_in_float32_for_any_parameter(self):
        param = np.ones(5, np.float16)
        with AdamW([param], precision="master") as optimizer:
            optimizer.step(grads={"0": np.ones(5, np.float32)})
            master = optimizer.state("0")["master"]
        self.assertEqual(bits(param), bits(master.astype(np.float16)))
        self.assertTrue(np.all(master < 1))

    def test_of_a_call_are_not_kept(self):
        other = self.grad * 2
        self.optimizer.set_grad("w", self.grad)
        self.optimizer.step(grads={"w": other})
        self.assert_like_the_model(other)
        self.optimizer.step()
        self.assert_like_the_model(self.grad)

    def test_come_from_a_closure_that_returns_the_loss(self):
        def closure():
            self.optimizer.set_grad("w", self.grad)
            return np.float32(0.5)

        self.assertEqual(self.optimizer.step(closure), 0.5)
        self.assert_like_the_model(self.grad)
        self.optimizer.add_param("frozen", np.ones(2, np.float32))
        self.assertEqual(self.optimizer.minimize(closure, no_grad=["w"]), 0.5)
        self.assertEqual(self.optimizer.minimize(closure, names=["frozen"]), 0.5)
        self.assertEqual(bits(self.param), bits(self.model.param))

    def test_add_up_over_micro_batches(self):
        for _ in range(4):
            self.optimizer.accumulate_grad("w", self.grad)
        self.optimizer.step()
        self.assert_like_the_model(self.grad * 4)
        with AdamW({"w": self.param}, average_grads=True) as optimizer:
            model = Model(self.param)
            optimizer.set_accumulation_window(8)
            for _ in range(4):
                optimizer.accumulate_grad("w", self.grad)
            optimizer.step()
            model.step(self.grad / 2)
            self.assertEqual(bits(self.param), bits(model.param))

    def test_are_cleared_by_the_step_if_it_is_asked_to(self):
        with AdamW({"w": self.param}, clear_grads=True) as optimizer:
            optimizer.set_grad("w", self.grad)
            optimizer.step()
        self.assertEqual(bits(self.grad), bits(np.zeros_like(self.grad)))

    def test_of_some_rows_have_the_bits_of_dense_ones(self):
        rows, values = np.array([4, 1, 4], np.int64), self.grad[:3].copy()
        dense = np.zeros_like(self.grad)
        for row, value in zip(rows, values):
            dense[row] += value
        self.optimizer.set_sparse_grad("w", rows, values)
        self.optimizer.step()
        self.assert_like_the_model(dense)

    def test_of_some_rows_can_be_deferred(self):
        param, models = self.param.copy(), Model(self.param)
        with AdamW({"w": param}, lazy="exact") as optimizer:
            for step in range(3):
                rows = np.array([step], np.int32)
                optimizer.set_sparse_grad("w", rows, self.grad[step : step + 1])
                optimizer.step()
                dense = np.zeros_like(self.grad)
                dense[step] = self.grad[step]
                models.step(dense)
            optimizer.sparse_prepare("w", np.array([0, 1]))
            self.assertEqual(bits(param[:2]), bits(models.param[:2]))
            optimizer.sparse_flush()
            self.assertEqual(bits(param), bits(models.param))

    def test_step_one_parameter_alone(self):
        other = np.ones(3, np.float32)
        self.optimizer.add_param("other", other)
        self.optimizer.set_grads({"w": self.grad, "other": np.ones(3, np.float32)})
        self.optimizer.grad_ready("w")
        self.optimizer.step_param("w")
        self.assert_like_the_model(self.grad)
        self.assertTrue(np.all(other == 1))
        self.optimizer.step()
        self.assertEqual(bits(self.param), bits(self.model.param))
        self.assertTrue(np.all(other < 1))


    def test_sums_over_gradients_from_outside_clip_and_skip(self):
        with AdamW({"w": self.param}, clip_norm=0.5) as optimizer:
            optimizer.set_grad("w", self.grad)
            sums = np.empty((1, 2))
            optimizer.measure_grads(sums)
            norm, n_nonfinite = optimizer.grad_norm()
            self.assertEqual((norm, n_nonfinite), (float(np.sqrt(sums[0, 0])), 0))
            sums[0, 0] *= 4  # of four processes
            optimizer.set_grad_sums(sums)
            optimizer.step()
            self.assertEqual(optimizer.step_info().clip_factor, 0.5 / (2 * norm))
            optimizer.set_grad_sums(None)
            optimizer.step()
            self.assertEqual(optimizer.step_info().clip_factor, 0.5 / norm)
            with self.assertRaisesRegex(adamw.AdamWError, "sums has 1 elements, expected 2"):
                optimizer.measure_grads(np.empty(1))


class Hyper(unittest.TestCase):
    def test_the_learning_rate_is_that_of_the_next_step(self):
        param, grad = arrays(8, (4,), (4,))
        model = Model(param)
        with AdamW([param]) as optimizer:
            optimizer.set_grad("0", grad)
            for lr in (1e-3, 0.5, 0.0):
                optimizer.lr = model.lr = lr
                self.assertEqual(optimizer.lr, lr)
                optimizer.step()
                model.step(grad)
                self.assertEqual(bits(param), bits(model.param))

    def test_groups_have_values_of_their_own(self):
        first, second, third, grad = arrays(9, (4,), (4,), (4,), (4,))
        own = {"betas": (0.8, 0.9), "weight_decay": 0.5, "eps": 1e-4}
        models = [Model(first), Model(second, lr=5e-4, **own), Model(third, lr=2e-3)]
        groups = [{"params": [first]}, {"params": {"b": second}, "lr": 5e-4, **own}]
        with AdamW(groups) as optimizer:
            group = optimizer.add_group(lr_scale=2.0)
            optimizer.add_param("c", third, group=group)
            self.assertEqual([group.number for group in optimizer.groups], [0, 1, 2])
            self.assertEqual(optimizer.names, ("0", "b", "c"))
            self.assertEqual(optimizer.groups[1].betas, (0.8, 0.9))
            self.assertEqual(optimizer.groups[1].eps, 1e-4)
            for step in range(2):
                optimizer.step(grads={name: grad for name in optimizer})
                for param, model in zip((first, second, third), models):
                    model.step(grad)
                    self.assertEqual(bits(param), bits(model.param))
                group.weight_decay = models[2].weight_decay = 0.0
                group.lr_scale, models[2].lr = 0.5, 5e-4
                self.assertEqual((group.weight_decay, group.lr_scale), (0.0, 0.5))
            self.assertEqual(group.lr, 5e-4)
            self.assertEqual(optimizer.param("c").group, 2)
            group.lr = 2e-3
            group.update(eps=1e-6, betas=(0.5, 0.5))
            self.assertEqual((group.lr_scale, group.eps, group.betas), (2.0, 1e-6, (0.5, 0.5)))

    def test_a_group_may_have_one_array_pairs_or_an_iterator(self):
        first, second, third, fourth = arrays(10, (4, 3), (4,), (4,), (4,))
        groups = [
            {"params": first},
            {"params": [("b", second), third]},
            {"params": iter([fourth])},
        ]
        with AdamW(iter(groups)) as optimizer:
            self.assertEqual(optimizer.names, ("0", "b", "2", "3"))
            self.assertEqual([optimizer.param(name).group for name in optimizer], [0, 1, 1, 2])
            self.assertEqual(optimizer.param("0").n_elements, 12)

    def test_a_group_clips_as_it_says_and_keeps_what_it_is_not_told(self):
        with AdamW([np.ones(4, np.float32) for _ in range(4)], clip_norm=0.5) as optimizer:
            (group,) = optimizer.groups
            grads = {name: np.full(4, 2.0, np.float32) for name in optimizer}
            for change, factor in [
                ({"lr_scale": 0.5}, 0.0625),
                ({"clip_each": True}, 0.125),
                ({"clip_norm": 1.0}, 0.25),
                ({"clip_norm": None}, 1.0),
                ({"clip_value": 0.5}, 1.0),
            ]:
                group.update(**change)
                optimizer.step(grads=grads)
                self.assertEqual(optimizer.step_info().clip_factor, factor, change)

    def test_filters_and_ratios_see_each_parameter(self):
        weight, bias, grad = arrays(10, (4,), (4,), (4,))
        models = [Model(weight, lr=2e-3), Model(bias, weight_decay=0.0)]
        with AdamW({"weight": weight, "bias": bias}) as optimizer:
            optimizer.set_decay_filter(lambda name: name == "weight")
            optimizer.set_lr_ratio(lambda param: 2.0 if param.name == "weight" else 1.0)
            self.assertEqual(optimizer.param_lr("weight"), 2e-3)
            self.assertFalse(optimizer.param("bias").decays)
            optimizer.step(grads={"weight": grad, "bias": grad})
            for param, model in zip((weight, bias), models):
                model.step(grad)
                self.assertEqual(bits(param), bits(model.param))
            optimizer.set_decay_filter(None)
            optimizer.set_lr_ratio(None)
            self.assertTrue(optimizer.param("bias").decays)
            self.assertEqual(optimizer.param_lr("weight"), 1e-3)

    def test_schedules_give_the_learning_rates_of_their_traces(self):
        made = {
            schedules.noam(d_model=64, warmup_steps=3),
            schedules.piecewise([2, 4], [0.3, 0.2, 0.1]),
            schedules.natural_exp(gamma=0.5, lr=0.1),
            schedules.inverse_time(gamma=0.5, lr=0.1),
            schedules.polynomial(total_steps=5, lr=0.1, cycle=True),
            schedules.linear_warmup(warmup_steps=2, start_lr=0, end_lr=0.1, lr=0.1),
            schedules.exponential(gamma=0.5, lr=0.1),
            schedules.multi_step([2, 3], lr=0.1),
            schedules.step(period=2, lr=0.1),
            schedules.scaled_by(lambda index: 0.9**index, lr=0.1),
            schedules.multiplicative(lambda index: 0.9, lr=0.1),
            schedules.by_function(lambda index: index / 7),
            schedules.cosine_annealing(period=4, lr=0.1),
            schedules.one_cycle(max_lr=0.1, total_steps=8, end_lr=0.001),
            schedules.cyclic(lr=0.1, max_lr=0.2, steps_up=2, mode="triangular2"),
            schedules.linear(total_steps=4, lr=0.1),
            schedules.cosine_warm_restarts(period=3, period_factor=2, lr=0.1),
            schedules.constant_with_warmup(warmup_steps=3, lr=0.1),
            schedules.linear_with_warmup(warmup_steps=2, total_steps=5, lr=0.1),
            schedules.cosine_with_warmup(warmup_steps=2, total_steps=5, lr=0.1),
            schedules.inverse_sqrt(warmup_steps=2, lr=0.1),
            schedules.warmup_stable_decay(warmup_steps=2, total_steps=6, decay_steps=2, lr=0.1),
            schedules.chain(
                [2], [schedules.step(period=1, lr=0.1), schedules.exponential(gamma=0.5, lr=0.3)]
            ),
        }
        kinds = {schedule.raw.kind for schedule in made} | {adamw._abi.SCHEDULE_REDUCE_ON_PLATEAU}
        self.assertEqual(kinds, set(range(1, 25)))
        grads = {"0": np.ones(2, np.float32)}
        for schedule in made:
            with AdamW([np.ones(2, np.float32)]) as optimizer:
                optimizer.set_schedule(schedule)
                seen = []
                for _ in range(6):
                    seen.append(optimizer.lr)
                    optimizer.step(grads=grads)
                self.assertEqual(seen, schedule.trace(6).tolist(), schedule.raw.kind)

    def test_a_schedule_advances_by_hand_and_its_state_can_be_moved(self):
        schedule = schedules.exponential(gamma=0.5)
        first, second = (AdamW([np.ones(2, np.float32)], lr=1.0) for _ in range(2))
        with first, second:
            first.set_schedule(schedule, advance="by_hand")
            first.step(grads={"0": np.ones(2, np.float32)})
            self.assertEqual(first.lr, 1.0)
            first.schedule_advance()
            self.assertEqual((first.lr, first.schedule_state.index), (0.5, 1))
            second.set_schedule(schedule)
            second.schedule_state = first.schedule_state
            self.assertEqual(second.lr, 0.5)
            second.set_schedule_index(3)
            self.assertEqual(second.lr, 0.125)
            second.set_schedule(None)
            second.lr = 2.0
            second.set_schedule(schedules.reduce_on_plateau(patience=0, factor=0.5))
            second.schedule_advance(1.0)
            second.schedule_advance(1.0)
            self.assertEqual(second.lr, 1.0)

    def test_the_scale_of_the_loss_is_taken_out_and_adapts(self):
        param, grad = arrays(11, (4,), (4,))
        model = Model(param)
        with AdamW([param]) as optimizer:
            optimizer.grad_scale = 4.0
            optimizer.step(grads={"0": grad * 4})
            model.step(grad)
            self.assertEqual(bits(param), bits(model.param))
            optimizer.set_loss_scaler(scale=8.0, growth_interval=2)
            optimizer.step(grads={"0": np.full(4, np.inf, np.float32)})
            self.assertTrue(optimizer.step_info().skipped)
            self.assertEqual(optimizer.step_info().n_nonfinite, 4)
            self.assertEqual(bits(param), bits(model.param))
            self.assertEqual(optimizer.grad_scale, 4.0)
            for _ in range(2):
                optimizer.step(grads={"0": grad})
            self.assertEqual(optimizer.grad_scale, 8.0)
            optimizer.loss_scaler_state = adamw.LossScalerState(2.0, 1, 0)
            self.assertEqual(optimizer.loss_scaler_state, adamw.LossScalerState(2.0, 1, 0))
            optimizer.set_loss_scaler(False)
            optimizer.grad_scale = 1.0

    def test_flags_of_others_skip_the_step(self):
        param, flag, out = np.ones(2, np.float32), np.ones(1, np.float32), np.zeros((), np.float32)
        with AdamW([param]) as optimizer:
            optimizer.set_found_inf(flag, out)
            optimizer.step(grads={"0": np.ones(2, np.float32)})
            self.assertEqual((param[0], out), (1.0, 1.0))
            optimizer.set_found_inf(None)
            optimizer.step(grads={"0": np.ones(2, np.float32)})
            self.assertLess(param[0], 1.0)

    def test_statistics_are_measured_if_they_are_asked_for(self):
        param = np.ones(4, np.float32)
        with AdamW([param]) as optimizer:
            grads = {"0": np.ones(4, np.float32)}
            optimizer.step(grads=grads)
            info = optimizer.step_info()
            self.assertEqual((info.n_elements, info.skipped), (4, False))
            self.assertIsNone(info.update_norm)
            self.assertIsNone(info.grad_norm)
            before = param.copy()
            optimizer.set_statistics()
            optimizer.step(grads=grads)
            info = optimizer.step_info()
            self.assertAlmostEqual(info.update_norm, float(np.linalg.norm(param - before)), 6)
            self.assertAlmostEqual(info.param_norm, float(np.linalg.norm(param)), 6)
            self.assertEqual(info.n_unchanged, 0)
            self.assertGreater(info.seconds, 0)
            self.assertIn(info.isa, adamw.capabilities().isas)
            with self.assertRaises(AttributeError):
                info.seconds = 0


if __name__ == "__main__":
    unittest.main()
