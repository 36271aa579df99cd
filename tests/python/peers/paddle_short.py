"""float16 and bfloat16 with adamw.paddle.AdamW, which Paddle steps on no processor.

usage: LIBADAMW=libadamw.so paddle_short.py
"""

import unittest
import warnings

import adamw
import adamw.paddle
import numpy as np
import paddle
from paddle_pairs import Gradients, distance, numbers, parameter, parameters

SHORT = "float16", "bfloat16"


class Short(unittest.TestCase):
    def test_paddle_has_no_kernel_for_them(self):
        """Were this to fail, the tests below could compare with Paddle."""
        for dtype in SHORT:
            params = parameters(dtype)
            with self.assertRaisesRegex(RuntimeError, "not registered"):
                Gradients().steps(paddle.optimizer.AdamW(parameters=params), params, 1)

    def test_masters_are_what_paddle_makes_of_f32(self):
        for dtype in SHORT:
            for wide in (None, "float32"):
                with self.subTest(dtype=dtype, grads=wide):
                    ours, theirs = parameters(dtype), parameters()
                    for a, b in zip(ours, theirs, strict=True):
                        b.set_value(a.cast("float32"))
                    optimizer = adamw.paddle.AdamW(0.01, parameters=ours, multi_precision=True)
                    reference = paddle.optimizer.AdamW(0.01, parameters=theirs)
                    gradients = Gradients()
                    for _ in range(50):
                        gradients.give(ours, wide)
                        for a, b in zip(ours, theirs, strict=True):
                            b.grad = a.grad.cast("float32")
                        optimizer.step()
                        reference.step()
                    masters = [optimizer._master_weights[p.name] for p in ours]
                    self.assertLessEqual(distance(masters, theirs), 1e-5)
                    for param, master in zip(ours, masters, strict=True):
                        self.assertTrue(bool((master.cast(dtype) == param).all()))

    def test_a_small_update_needs_a_master(self):
        for masters, moved in ((False, False), (True, True)):
            params = [parameter(np.ones(8), "bfloat16")]
            optimizer = adamw.paddle.AdamW(1e-5, parameters=params, multi_precision=masters)
            for _ in range(400):
                params[0].grad = paddle.ones([8], dtype="bfloat16")
                optimizer.step()
            self.assertEqual(bool((params[0] != 1).any()), moved)

    def test_a_layer_trains_in_bfloat16(self):
        paddle.seed(1)
        layer = paddle.nn.Linear(4, 1)
        layer.to(dtype="bfloat16")
        optimizer = adamw.paddle.AdamW(
            0.02, parameters=layer.parameters(), multi_precision=True, weight_decay=0.0
        )
        x = np.random.default_rng(0).standard_normal((64, 4)).astype("float32")
        y = x @ np.array([[1.0], [-2.0], [0.5], [3.0]], "float32")
        for _ in range(400):
            weight, bias = (p.detach().cast("float32") for p in layer.parameters())
            error = paddle.to_tensor(x) @ weight + bias - paddle.to_tensor(y)
            layer.weight.grad = (paddle.to_tensor(x).t() @ error / 32).cast("bfloat16")
            layer.bias.grad = error.mean(axis=0).cast("bfloat16") * 2
            optimizer.step()
        self.assertLess(float((error**2).mean()), 0.02)

    def test_writes_to_a_parameter_with_a_master_are_taken(self):
        param = parameter(np.ones(4), "bfloat16")
        optimizer = adamw.paddle.AdamW(
            1e-3, parameters=[param], multi_precision=True, weight_decay=0.0
        )
        step = lambda: Gradients().steps(optimizer, [param], 1)
        step()
        with paddle.no_grad():
            param.fill_(2.0)  # in place: noticed
        step()
        np.testing.assert_allclose(numbers(param), 2.0, atol=0.02)
        for _ in range(40):  # of which each is too small for bfloat16, so that masters have to stay
            step()
        self.assertGreater(abs(numbers(param) - 2.0).min(), 0.005)
        param.set_value(paddle.full([4], 5.0, "bfloat16"))  # not noticed
        optimizer.sync_masters()
        step()
        np.testing.assert_allclose(numbers(param), 5.0, atol=0.05)

    def test_moments_of_bfloat16_are_offered_and_of_float16_refused(self):
        for dtype in SHORT:
            params = parameters(dtype)
            optimizer = adamw.paddle.AdamW(parameters=params, use_lowprecision_moment=True)
            if dtype == "float16":
                with self.assertRaisesRegex(adamw.UnsupportedError, "use_lowprecision_moment"):
                    Gradients().steps(optimizer, params, 1)
                continue
            Gradients().steps(optimizer, params, 20)
            self.assertEqual(optimizer.state_dict()["w_0_moment1_0"].dtype, paddle.bfloat16)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    unittest.main()
