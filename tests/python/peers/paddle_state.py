"""State of adamw.paddle.AdamW goes to paddle.optimizer.AdamW and comes from it, by paddle.save.

usage: LIBADAMW=libadamw.so paddle_state.py
"""

import tempfile
import unittest
import warnings

import adamw
import adamw.paddle
import numpy as np
import paddle
from paddle_pairs import Gradients, distance, numbers, parameters

CLASSES = {"paddle": paddle.optimizer.AdamW, "ours": adamw.paddle.AdamW}


def saved(state_dict):
    """Returns a state_dict after it has been in a file."""
    with tempfile.NamedTemporaryFile(suffix=".pdopt") as file:
        paddle.save(state_dict, file.name)
        return paddle.load(file.name)


def begun(kind, steps, gradients, dtype="float32", values=None, absent=(), **keywords):
    """Returns parameters and their optimizer after some steps, as a process of its own has them."""
    params = parameters(dtype)
    for param, value in zip(params, values or (), strict=bool(values)):
        param.set_value(value)
    optimizer = CLASSES[kind](parameters=params, **keywords)
    gradients.steps(optimizer, params, steps, absent=absent)
    return params, optimizer


class State(unittest.TestCase):
    def continued(self, first, second, dtype="float32", steps=30, load_late=False, **keywords):
        """Returns how far parameters are apart if `second` goes on with the state of `first`."""
        with paddle.utils.unique_name.guard():
            params, optimizer = begun(first, steps, Gradients(), dtype, **keywords)
            state = saved(optimizer.state_dict())
            values = [param.clone() for param in params]
            rest = Gradients(seed=9)
            rest.steps(optimizer, params, steps)
        with paddle.utils.unique_name.guard():
            taken, resumed = begun(
                second, 3 if load_late else 0, Gradients(), dtype, values, **keywords
            )
            for param, value in zip(taken, values, strict=True):
                param.set_value(value)
            resumed.set_state_dict(state)
            Gradients(seed=9).steps(resumed, taken, steps)
        return distance(taken, params)

    def test_state_goes_on_in_the_other_class(self):
        cases = [
            {},
            {"amsgrad": True},
            {"name": "run"},
            {"beta1": 0.0},
            {"beta1": 0.8, "beta2": 0.95},
            {"dtype": "float64", "weight_decay": 0.25},  # which f32 can hold
            {"load_late": True},
            {"steps": 1000},  # f32 has no more of 0.9^1000
        ]
        for case in cases:
            for first, second in (("paddle", "ours"), ("ours", "paddle")):
                with self.subTest(first=first, **case):
                    tolerance = 1e-13 if case.get("dtype") == "float64" else 2e-5
                    self.assertLessEqual(self.continued(first, second, **case), tolerance)

    def test_own_state_goes_on_with_the_same_bits(self):
        for case in ({}, {"amsgrad": True}, {"load_late": True}, {"steps": 1000}):
            with self.subTest(**case):
                self.assertEqual(self.continued("ours", "ours", **case), 0.0)
        for dtype in ("float16", "bfloat16"):
            for masters in (False, True):
                with self.subTest(dtype=dtype, masters=masters):
                    case = {"dtype": dtype, "multi_precision": masters}
                    self.assertEqual(self.continued("ours", "ours", **case), 0.0)

    def test_masters_go_to_paddle_and_come_back(self):
        """Paddle does not step them on a processor, but takes their state over and hands it on."""
        with paddle.utils.unique_name.guard():
            params, optimizer = begun("ours", 20, Gradients(), "bfloat16", multi_precision=True)
            state = saved(optimizer.state_dict())
        with paddle.utils.unique_name.guard():
            taken = parameters("bfloat16")
            theirs = paddle.optimizer.AdamW(parameters=taken, multi_precision=True)
            theirs.set_state_dict(state)
            block = paddle.base.framework.default_main_program().global_block()
            theirs._create_accumulators(block, taken)
            again = saved(theirs.state_dict())
        self.assertEqual(again.keys(), state.keys())
        with paddle.utils.unique_name.guard():
            values = [param.clone() for param in params]
            back, resumed = begun("ours", 0, Gradients(), "bfloat16", values, multi_precision=True)
            resumed.set_state_dict(again)
        Gradients(seed=9).steps(optimizer, params, 10)
        Gradients(seed=9).steps(resumed, back, 10)
        self.assertEqual(distance(back, params), 0.0)

    def test_names_are_those_of_paddle(self):
        for keywords in ({}, {"amsgrad": True}, {"name": "run"}):
            keys = []
            for kind in CLASSES:
                with paddle.utils.unique_name.guard():
                    _, optimizer = begun(kind, 2, Gradients(), **keywords)
                    keys.append(list(optimizer.state_dict()))
            self.assertEqual(keys[0], keys[1])

    def test_a_second_optimizer_of_a_process_takes_the_state_of_the_first(self):
        """With Paddle's class, its names would end with another number."""
        with paddle.utils.unique_name.guard():
            params, first = begun("paddle", 5, Gradients())
            state = first.state_dict()
            second = paddle.optimizer.AdamW(parameters=params)
            Gradients().steps(second, params, 1)
            numbered = second.state_dict()  # ..._moment1_1
            self.assertNotEqual(state.keys(), numbered.keys())
            for given in (state, numbered):
                ours = adamw.paddle.AdamW(parameters=params)
                ours.set_state_dict(given)
                self.assertEqual(list(ours.state_dict()), list(state))

    def test_arrays_are_taken_as_tensors_are(self):
        """paddle.load gives them with return_numpy=True, and adamw.convert.to_paddle."""
        for dtype in ("float32", "bfloat16"):
            with paddle.utils.unique_name.guard():
                masters = {"multi_precision": dtype != "float32"}
                params, optimizer = begun("ours", 5, Gradients(), dtype, **masters)
                state = optimizer.state_dict()
                arrays = {k: v.numpy() for k, v in state.items() if k != "master_weights"}
                pairs = {k: (v.name, v.numpy()) for k, v in optimizer._master_weights.items()}
                if pairs:
                    arrays["master_weights"] = pairs
                resumed = adamw.paddle.AdamW(parameters=params, **masters)
                resumed.set_state_dict(arrays)
                for key, value in resumed.state_dict().items():
                    if key != "master_weights":
                        self.assertTrue(bool((value == state[key]).all()), key)
                for key, (_, values) in pairs.items():
                    kept = resumed.state_dict()["master_weights"][key].numpy()
                    np.testing.assert_array_equal(kept, values)

    def test_powers_of_betas_that_have_changed_are_taken_as_they_are(self):
        with paddle.utils.unique_name.guard():
            params, optimizer = begun("ours", 4, Gradients(), beta1=0.5)
            optimizer._beta1 = 0.9
            Gradients(seed=6).steps(optimizer, params, 4)
            state = saved(optimizer.state_dict())
            values = [param.clone() for param in params]
            taken, resumed = begun("ours", 0, Gradients(), values=values)
            resumed.set_state_dict(state)
        Gradients(seed=9).steps(optimizer, params, 5)
        Gradients(seed=9).steps(resumed, taken, 5)
        self.assertLessEqual(distance(taken, params), 1e-6)

    def test_the_scheduler_is_saved(self):
        make = lambda: paddle.optimizer.lr.StepDecay(0.1, 3)
        with paddle.utils.unique_name.guard():
            params = parameters()
            first = adamw.paddle.AdamW(make(), parameters=params)
            for _ in range(4):
                Gradients().steps(first, params, 1)
                first._learning_rate.step()
            state = saved(first.state_dict())
            second = adamw.paddle.AdamW(make(), parameters=params)
            second.set_state_dict(state)
            self.assertEqual(second.get_lr(), first.get_lr())
            del state["LR_Scheduler"]
            with self.assertRaisesRegex(adamw.MismatchError, "LR_Scheduler"):
                second.set_state_dict(state)

    def test_a_refused_state_changes_nothing(self):
        with paddle.utils.unique_name.guard():
            _, optimizer = begun("ours", 3, Gradients())
            state = saved(optimizer.state_dict())
            wrong = paddle.zeros([2, 2])
            renamed = {key.replace("w_1", "v_1"): value for key, value in state.items()}
            cases = [
                ({k: v for k, v in state.items() if "w_1" not in k}, "nothing of parameter w_1"),
                (renamed, "nothing of parameter w_1, but of v_1"),
                ({k: v for k, v in state.items() if k != "w_0_moment2_0"}, "no moment2 of"),
                ({**state, "w_0_moment1_0": wrong}, r"moment1 of parameter w_0 .*\[2, 2\]"),
                ({**state, "w_2_moment1_0": paddle.zeros([600], "float64")}, "w_2 is .*float64"),
                ({**state, "w_0_moment1_1": wrong}, "moment1 of parameter w_0 twice"),
                ({**state, "master_weights": {"w_0": wrong}}, "multi_precision=True"),
            ]
            before = [numbers(value) for value in optimizer.state_dict().values()]
            for given, text in cases:
                with self.subTest(text), self.assertRaisesRegex(adamw.MismatchError, text):
                    optimizer.set_state_dict(given)
            after = [numbers(value) for value in optimizer.state_dict().values()]
            self.assertTrue(all(map(np.array_equal, before, after)))

    def test_a_parameter_without_state_begins_anew_unless_it_was_renamed(self):
        with paddle.utils.unique_name.guard():
            params, optimizer = begun("ours", 3, Gradients(), absent={1})
            state = saved(optimizer.state_dict())
            self.assertNotIn("w_1_moment1_0", state)
            fresh = adamw.paddle.AdamW(parameters=params)
            fresh.set_state_dict(state)
            Gradients().steps(fresh, params, 1)
            self.assertIn("w_1_moment1_0", fresh.state_dict())
            state["v_1_moment1_0"] = state["w_0_moment1_0"]
            fresh = adamw.paddle.AdamW(parameters=params)
            with self.assertRaisesRegex(adamw.MismatchError, "nothing of .* w_1, but of v_1"):
                fresh.set_state_dict(state)

    def test_state_is_that_on_which_the_library_works(self):
        with paddle.utils.unique_name.guard():
            params, optimizer = begun("ours", 1, Gradients())
            moment = optimizer.state_dict()["w_0_moment1_0"]
            before = numbers(moment)
            Gradients(seed=8).steps(optimizer, params, 1)
            self.assertFalse(np.array_equal(before, numbers(moment)))
            moment.set_value(paddle.zeros(moment.shape))
            params[0].grad = paddle.ones(moment.shape)
            optimizer.step()
            self.assertTrue(np.allclose(numbers(moment), 0.1))

    def test_before_the_first_step_there_is_no_state(self):
        optimizer = adamw.paddle.AdamW(parameters=parameters(shapes=((2,),)))
        self.assertEqual(optimizer.state_dict(), {})


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    unittest.main()
