"""Sparse gradients (SelectedRows) with adamw.paddle.AdamW, which crash paddle.optimizer.AdamW.

usage: LIBADAMW=libadamw.so paddle_sparse.py

The reference is Paddle's class with the same gradients as dense ones, and for `lazy_mode` the
formula of Paddle's kernels: paddle.optimizer.Adam has a `lazy_mode` that runs on a processor, but
corrects the bias of its first step as if it were the second.
"""

import subprocess
import sys
import unittest
import warnings

import adamw.paddle
import numpy as np
import paddle
from paddle_pairs import distance, numbers, parameter

ROWS, WIDTH = 40, 8
CRASH = """
import paddle
embedding = paddle.nn.Embedding(40, 8, sparse=True)
optimizer = paddle.optimizer.AdamW(parameters=embedding.parameters())
embedding(paddle.to_tensor([3, 1, 3])).sum().backward()
optimizer.step()
"""


def embedding(sparse):
    """Returns a table with the same values each time."""
    layer = paddle.nn.Embedding(ROWS, WIDTH, sparse=sparse)
    values = np.random.default_rng(2).standard_normal((ROWS, WIDTH))
    layer.weight.set_value(paddle.to_tensor(values).cast("float32"))
    return layer


def batches(count=30, seed=4):
    """Returns rows, of which one is listed twice, and the gradients of their values."""
    draw = np.random.default_rng(seed)
    for _ in range(count):
        rows = draw.integers(0, ROWS, 6)
        rows[-1] = rows[0]
        yield rows, draw.standard_normal((6, WIDTH)).astype("float32")


def train(layer, optimizer):
    """Takes a step with each batch."""
    for rows, scale in batches():
        (layer(paddle.to_tensor(rows)) * paddle.to_tensor(scale)).sum().backward()
        optimizer.step()
        optimizer.clear_grad(set_to_zero=False)


class Sparse(unittest.TestCase):
    def test_paddles_class_does_not_survive_them(self):
        """Were this to fail, the comparison below could be with Paddle's class itself."""
        ran = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, check=False)
        self.assertNotEqual(ran.returncode, 0)

    def test_all_rows_are_stepped_with_the_bits_of_dense_gradients(self):
        for keywords in (
            {},
            {"amsgrad": True},
            {"weight_decay": 0.3},
            {"grad_clip": paddle.nn.ClipGradByValue(0.5)},
            {"multi_precision": True},
        ):
            with self.subTest(**keywords):
                weights = []
                for sparse in (True, False):
                    layer = embedding(sparse)
                    optimizer = adamw.paddle.AdamW(parameters=layer.parameters(), **keywords)
                    train(layer, optimizer)
                    weights.append(numbers(layer.weight))
                np.testing.assert_array_equal(*weights)

    def test_norms_are_those_of_the_sums_of_rows(self):
        for clip in (paddle.nn.ClipGradByNorm, paddle.nn.ClipGradByGlobalNorm):
            layers = embedding(True), embedding(False)
            kinds = adamw.paddle.AdamW, paddle.optimizer.AdamW
            for layer, kind in zip(layers, kinds, strict=True):
                train(layer, kind(0.01, parameters=layer.parameters(), grad_clip=clip(0.5)))
            self.assertLessEqual(distance([layers[0].weight], [layers[1].weight]), 1e-5)

    def test_lazy_rows_are_stepped_as_paddles_kernels_have_it(self):
        layer = embedding(True)
        weight = numbers(layer.weight).copy()
        optimizer = adamw.paddle.AdamW(
            0.01, parameters=layer.parameters(), lazy_mode=True, weight_decay=0.3
        )
        train(layer, optimizer)
        mean, square = np.zeros_like(weight), np.zeros_like(weight)
        for step, (rows, scale) in enumerate(batches(), 1):
            grad = np.zeros_like(weight)
            np.add.at(grad, rows, scale)
            listed = np.unique(rows)
            mean[listed] = 0.9 * mean[listed] + 0.1 * grad[listed]
            square[listed] = 0.999 * square[listed] + 0.001 * grad[listed] ** 2
            weight[listed] -= 0.01 * 0.3 * weight[listed]
            root = np.sqrt(square[listed] / (1 - 0.999**step)) + 1e-8
            weight[listed] -= 0.01 * mean[listed] / (1 - 0.9**step) / root
        self.assertLessEqual(np.abs(numbers(layer.weight) - weight).max(), 1e-6)

    def test_rows_that_no_gradient_lists_do_not_decay_in_lazy_mode(self):
        layer = embedding(True)
        before = numbers(layer.weight)
        optimizer = adamw.paddle.AdamW(0.1, parameters=layer.parameters(), lazy_mode=True)
        layer(paddle.to_tensor([3, 1, 3])).sum().backward()
        optimizer.step()
        changed = (numbers(layer.weight) != before).any(axis=1)
        self.assertEqual(list(np.flatnonzero(changed)), [1, 3])

    def test_rows_of_another_table_are_refused(self):
        layer = embedding(True)
        layer(paddle.to_tensor([3, 39])).sum().backward()
        grad = layer.weight._grad_ivar()
        cases = ((ROWS, WIDTH + 1), "values"), ((ROWS, WIDTH, 2), "values"), ((39, WIDTH), "39")
        for shape, text in cases:
            param = parameter(np.ones(shape), name="table")
            optimizer = adamw.paddle.AdamW(parameters=[param])
            with self.subTest(text), self.assertRaisesRegex(ValueError, f"table.*{text}"):
                optimizer.apply_gradients([(param, grad)])
            np.testing.assert_array_equal(numbers(param), 1.0)

    def test_sparse_and_dense_gradients_take_turns(self):
        layer, other = embedding(True), paddle.nn.Linear(WIDTH, 2)
        reference = embedding(False)
        params = [*layer.parameters(), *other.parameters()]
        optimizer = adamw.paddle.AdamW(0.01, parameters=params)
        theirs = paddle.optimizer.AdamW(0.01, parameters=reference.parameters())
        for step in range(6):
            rows = paddle.to_tensor([step, 7, step])
            (reference(rows) * (step + 1.0)).sum().backward()
            if step % 2:
                optimizer.apply_gradients([(layer.weight, reference.weight.grad)])
            else:
                (layer(rows) * (step + 1.0)).sum().backward()
                optimizer.step()
            theirs.step()
            for one in (optimizer, theirs):
                one.clear_grad(set_to_zero=False)
        self.assertLessEqual(distance([layer.weight], [reference.weight]), 1e-5)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    unittest.main()
