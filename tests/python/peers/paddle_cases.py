"""What adamw.paddle.AdamW does beside stepping: arguments, refusals, calls, wrappers.

usage: LIBADAMW=libadamw.so paddle_cases.py
"""

import unittest
import warnings

import adamw
import adamw.paddle
import numpy as np
import paddle
from paddle_pairs import Gradients, distance, numbers, parameter, parameters


def both(**keywords):
    """Returns equal parameters, and Paddle's optimizer and ours of them."""
    theirs, ours = parameters(), parameters()
    return (
        (theirs, paddle.optimizer.AdamW(parameters=theirs, **keywords)),
        (ours, adamw.paddle.AdamW(parameters=ours, **keywords)),
    )


class Arguments(unittest.TestCase):
    def test_what_paddle_refuses_is_refused(self):
        params = parameters()
        cases = [
            {"learning_rate": None},
            {"learning_rate": "0.1"},
            {"beta1": None},
            {"beta1": 1.0},
            {"beta2": -0.1},
            {"epsilon": -1.0},
            {"epsilon": float("nan")},
            {"weight_decay": "0.1"},
            {"grad_clip": 1.0},
            {"lr_ratio": 0.5},
            {"parameters": None},
            {"parameters": params[0]},
            {"parameters": {"params": params}},
            {"parameters": [{"lr": 1.0}]},
            {"parameters": [{"params": set(params)}]},
            {"parameters": [{"params": params}, {"params": params[:1]}]},
        ]
        expected = (AssertionError, AttributeError, TypeError, ValueError)
        for case in cases:
            for kind in (paddle.optimizer.AdamW, adamw.paddle.AdamW):
                with self.subTest(kind=kind, **case), self.assertRaises(expected):
                    kind(**{"parameters": params, **case})

    def test_what_paddle_would_compute_nonsense_with_is_refused(self):
        params = parameters()
        clip = paddle.nn.ClipGradByNorm
        cases = [
            ({"learning_rate": -0.1}, "lr_scale"),
            ({"learning_rate": float("nan")}, "lr_scale"),
            ({"parameters": [params[0], params[0]]}, "2 parameters are called w_0"),
            ({"parameters": [params[0], *parameters()]}, "2 parameters are called w_0"),
            ({"parameters": [{"params": params, "beta1": 7.0}]}, "beta1"),
            ({"parameters": [{"params": params, "weight_decay": float("inf")}]}, "weight_decay"),
            ({"grad_clip": clip(-1.0)}, "clip_norm"),
        ]
        for case, text in cases:
            with self.subTest(text), self.assertRaisesRegex(adamw.InvalidArgumentError, text):
                adamw.paddle.AdamW(**{"parameters": params, **case})

    def test_what_cannot_be_stepped_is_named(self):
        rows = paddle.arange(12, dtype="float32").reshape([3, 4])
        turned = paddle.base.framework.EagerParamBase.from_tensor(rows.t(), name="turned")
        turned.stop_gradient = False
        odd = parameter(np.ones(4), name="odd")

        class Other(paddle.regularizer.L2Decay):
            pass

        odd.regularizer = Other(0.1)
        cases = [
            (turned, paddle.ones([4, 3]), ValueError, "turned.* another order of axes"),
            (odd, paddle.ones([4]), adamw.UnsupportedError, "odd has the regularizer"),
            (parameter([1.0], name="w"), paddle.ones([2]), ValueError, "w: its gradient has"),
        ]
        for param, grad, error, text in cases:
            optimizer = adamw.paddle.AdamW(parameters=[param])
            before = numbers(param)
            with self.subTest(text), self.assertRaisesRegex(error, text):
                optimizer.apply_gradients([(param, grad)])
            np.testing.assert_array_equal(numbers(param), before)

    def test_a_tensor_learning_rate_is_read_at_each_step(self):
        rate = paddle.to_tensor(0.1)
        params = [parameter(np.zeros(3))]
        optimizer = adamw.paddle.AdamW(rate, parameters=params)
        for value in (0.1, 0.2):
            rate.set_value(paddle.to_tensor(value))
            self.assertAlmostEqual(optimizer.get_lr(), value, 6)
            before = numbers(params[0])
            params[0].grad = paddle.ones([3])
            optimizer.step()
            np.testing.assert_allclose(before - numbers(params[0]), value, rtol=0.02)

    def test_a_tensor_takes_the_place_of_the_learning_rate(self):
        own = paddle.to_tensor(0.03)
        results = []
        for params, optimizer in both(learning_rate=0.5):
            params[1].optimize_attr["learning_rate"] = own
            params[2].optimize_attr["learning_rate"] = 0.5
            Gradients().steps(optimizer, params, 10)
            optimizer.set_lr(0.25)
            Gradients().steps(optimizer, params, 10)
            results.append(params)
        self.assertLessEqual(distance(*results), 1e-5)

    def test_a_beta_tensor_starts_its_power_at_its_value(self):
        """Paddle starts it at 0.9 whatever the tensor says, and its corrections stay wrong."""
        given = [parameter(np.ones(5), name=name) for name in ("tensor", "number", "paddle")]
        beta = paddle.to_tensor(0.5)
        optimizers = [
            adamw.paddle.AdamW(0.1, beta1=beta, parameters=given[:1]),
            adamw.paddle.AdamW(0.1, beta1=0.5, parameters=given[1:2]),
            paddle.optimizer.AdamW(0.1, beta1=beta, parameters=given[2:]),
        ]
        for param, optimizer in zip(given, optimizers, strict=True):
            Gradients().steps(optimizer, [param], 3)
        self.assertLessEqual(distance(given[:1], given[1:2]), 1e-7)
        self.assertGreater(distance(given[:1], given[2:]), 1e-2)

    def test_functions_are_asked_and_what_they_raise_comes_out(self):
        params = parameters()
        asked = []
        optimizer = adamw.paddle.AdamW(
            parameters=params,
            apply_decay_param_fun=lambda name: asked.append(name) or name != "w_1",
            lr_ratio=lambda param: {"w_0": 0.0}.get(param.name, 1.0),
        )
        before = [numbers(param) for param in params]
        for param in params:
            param.grad = paddle.zeros(param.shape)
        optimizer.step()
        moved = [bool((numbers(p) != b).any()) for p, b in zip(params, before, strict=True)]
        self.assertEqual((asked, moved), (["w_0", "w_1", "w_2"], [False, False, True]))

        def fail(param):
            raise KeyError(param.name)

        optimizer = adamw.paddle.AdamW(parameters=params, lr_ratio=fail)
        before = [numbers(param) for param in params]
        with self.assertRaisesRegex(KeyError, "w_0"):
            optimizer.step()
        for param, values in zip(params, before, strict=True):
            np.testing.assert_array_equal(numbers(param), values)


class Calls(unittest.TestCase):
    def test_minimize_honours_its_subset_and_works_with_groups(self):
        params = parameters()
        groups = [{"params": params[:1]}, {"params": params[1:]}]
        cases = [
            ({}, {0, 1, 2}),
            ({"parameters": params[:2]}, {0, 1}),
            ({"parameters": ["w_2"]}, {2}),
            ({"no_grad_set": {params[0]}}, {1, 2}),
            ({"parameters": params[:2], "no_grad_set": {"w_1"}}, {0}),
        ]
        for listed in (params, groups):
            for case, expected in cases:
                optimizer = adamw.paddle.AdamW(parameters=listed)
                Gradients().give(params)
                before = [numbers(param) for param in params]
                ops, pairs = optimizer.minimize(paddle.zeros([]), **case)
                moved = {i for i in range(3) if (numbers(params[i]) != before[i]).any()}
                self.assertEqual((ops, moved), ([], expected))
                self.assertEqual({param.name for param, _ in pairs}, {f"w_{i}" for i in expected})

    def test_gradients_are_not_rewritten_and_are_cleared_as_in_paddle(self):
        params = parameters()
        clip = paddle.nn.ClipGradByGlobalNorm(0.01)
        optimizer = adamw.paddle.AdamW(parameters=params, grad_clip=clip)
        Gradients().give(params)
        before = [numbers(param.grad) for param in params]
        optimizer.step()
        for param, grad in zip(params, before, strict=True):
            np.testing.assert_array_equal(numbers(param.grad), grad)
        optimizer.clear_grad()
        self.assertEqual([float(param.grad.abs().sum()) for param in params], [0.0] * 3)
        optimizer.clear_grad(set_to_zero=False)
        self.assertEqual([param.grad for param in params], [None] * 3)
        optimizer.step()

    def test_gradients_in_another_type_or_order_are_read(self):
        results = []
        for change in (
            lambda grad: grad,
            lambda grad: grad.cast("float64"),
            lambda grad: grad.t().contiguous().t(),
        ):
            params = parameters(shapes=((4, 3),))
            optimizer = adamw.paddle.AdamW(0.01, parameters=params)
            gradients = Gradients()
            for _ in range(3):
                gradients.give(params)
                optimizer.apply_gradients([(params[0], change(params[0].grad))])
            results.append(params)
        self.assertEqual(distance(results[1], results[0]), 0.0)
        self.assertEqual(distance(results[2], results[0]), 0.0)

    def test_wrappers_give_pairs_and_groups_of_them(self):
        """Paddle's distributed wrappers call `_apply_optimize` in place of `step`."""
        results = []
        for params, _ in both():
            listed = [{"params": params[:1]}, {"params": params[1:], "beta1": 0.5}]
            kind = adamw.paddle.AdamW if results else paddle.optimizer.AdamW
            optimizer = kind(0.1, parameters=listed)
            gradients = Gradients()
            for _ in range(3):
                gradients.give(params)
                for group in optimizer._param_groups:
                    pairs = [(param, param.grad) for param in group["params"]]
                    optimizer._apply_optimize(None, None, {**group, "params": pairs})
            results.append(params)
        self.assertLessEqual(distance(*results), 1e-5)
        stranger = parameter([1.0], name="stranger")
        with self.assertRaisesRegex(adamw.MismatchError, "stranger is in no group"):
            optimizer.apply_gradients([(stranger, paddle.ones([1]))])

    def test_frozen_parameters_and_other_classes_of_clipping(self):
        class Squared(paddle.nn.clip.ClipGradBase):
            def _dygraph_clip(self, params_grads):
                return [(param, grad * grad) for param, grad in params_grads]

        results = []
        for params, optimizer in both(grad_clip=Squared(), weight_decay=0.1):
            params[1].stop_gradient = True
            Gradients().steps(optimizer, params, 10)
            results.append(params)
        self.assertLessEqual(distance(*results), 1e-5)

    def test_a_found_infinity_skips_the_step(self):
        for params, optimizer in both():
            for flag, skipped in ((True, True), (False, False)):
                Gradients().give(params)
                before = numbers(params[0])
                optimizer._set_auxiliary_var("found_inf", paddle.to_tensor(flag))
                optimizer.step()
                self.assertEqual((numbers(params[0]) == before).all(), skipped)
                self.assertIs(optimizer._get_auxiliary_var("found_inf"), flag)

    def test_amp_decorate_chooses_masters_before_the_first_step(self):
        params = parameters("bfloat16")
        optimizer = adamw.paddle.AdamW(parameters=params)
        optimizer._multi_precision = True  # as paddle.amp.decorate does
        Gradients().steps(optimizer, params, 1)
        self.assertEqual(set(optimizer._master_weights), {"w_0", "w_1", "w_2"})
        optimizer._multi_precision = False
        Gradients().give(params)
        with self.assertRaisesRegex(adamw.MismatchError, "multi_precision=False"):
            optimizer.step()

    def test_the_learning_rate_is_set_as_in_paddle(self):
        for _, optimizer in both(learning_rate=0.1):
            optimizer.set_lr(0.3)
            self.assertEqual(optimizer.get_lr(), 0.3)
            optimizer.set_lr_scheduler(paddle.optimizer.lr.StepDecay(0.2, 1))
            self.assertEqual(optimizer.get_lr(), 0.2)
            with self.assertRaises(RuntimeError):
                optimizer.set_lr(0.1)

    def test_static_graphs_are_refused(self):
        optimizer = adamw.paddle.AdamW(parameters=parameters())
        paddle.enable_static()
        try:
            with self.assertRaisesRegex(adamw.UnsupportedError, "static graphs"):
                optimizer.minimize(None)
        finally:
            paddle.disable_static()

    def test_nothing_to_step_is_fine(self):
        for listed in ([], parameters(), [{"params": parameters()}]):
            adamw.paddle.AdamW(parameters=listed).step()

    def test_memory_that_moves_is_followed(self):
        results = []
        for params, optimizer in both():
            gradients = Gradients()
            for _ in range(5):
                gradients.steps(optimizer, params, 2)
                moved = params[0].detach().clone()
                params[0].get_tensor()._share_data_with(moved.get_tensor())
            results.append(params)
        self.assertLessEqual(distance(*results), 1e-5)

    def test_a_parameter_of_another_type_than_at_its_first_step_is_refused(self):
        layer = paddle.nn.Linear(3, 2)
        optimizer = adamw.paddle.AdamW(parameters=layer.parameters())
        Gradients().steps(optimizer, layer.parameters(), 1)
        for dtype in ("float64", "bfloat16"):
            layer.to(dtype=dtype)
            Gradients().give(layer.parameters())
            before = numbers(layer.weight)
            with self.assertRaisesRegex(adamw.MismatchError, f"is paddle.{dtype} .* and was"):
                optimizer.step()
            np.testing.assert_array_equal(numbers(layer.weight), before)

    def test_a_model_is_fitted(self):
        paddle.seed(3)
        x = np.random.default_rng(0).standard_normal((128, 4)).astype("float32")
        y = (x @ np.ones((4, 1)) > 0).astype("int64")
        data = paddle.io.TensorDataset([paddle.to_tensor(x), paddle.to_tensor(y)])
        model = paddle.Model(paddle.nn.Linear(4, 2))
        optimizer = adamw.paddle.AdamW(0.05, parameters=model.parameters())
        model.prepare(optimizer, paddle.nn.CrossEntropyLoss(), paddle.metric.Accuracy())
        model.fit(data, epochs=8, batch_size=16, verbose=0)
        self.assertGreater(model.evaluate(data, verbose=0)["acc"], 0.95)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    unittest.main()
