"""Parameters of Paddle's, and gradients for them, for tests of adamw.paddle.AdamW."""

import numpy as np
import paddle


def parameter(values, dtype="float32", name=None):
    """Returns a parameter with these values, under a name of Paddle's or a given one."""
    values = paddle.to_tensor(np.asarray(values, "float64")).cast(dtype)
    names = {} if name is None else {"name": name}
    param = paddle.base.framework.EagerParamBase.from_tensor(values, **names)
    param.stop_gradient = False
    return param


def parameters(dtype="float32", seed=3, shapes=((4, 3), (17,), (600,))):
    """Returns parameters "w_0", "w_1", ... with random values."""
    draw = np.random.default_rng(seed)
    return [
        parameter(draw.standard_normal(shape), dtype, f"w_{i}") for i, shape in enumerate(shapes)
    ]


class Gradients:
    """Random gradients, which are the same from the same seed."""

    def __init__(self, seed=5):
        self.draw = np.random.default_rng(seed)

    def give(self, params, dtype=None, absent=()):
        """Gives each parameter a new gradient, but none to those of these numbers."""
        for index, param in enumerate(params):
            values = paddle.to_tensor(self.draw.standard_normal(tuple(param.shape)))
            grad = values.cast(dtype or param.dtype)
            param.grad = None if index in absent else grad

    def steps(self, optimizer, params, count, **keywords):
        """Takes steps with new gradients."""
        for _ in range(count):
            self.give(params, **keywords)
            optimizer.step()
            optimizer.clear_grad()


def numbers(tensor):
    """Returns the values of a tensor in f64."""
    return tensor.detach().cast("float64").numpy()


def distance(ours, theirs):
    """Returns the largest difference, over the largest element, of any pair of tensors."""
    apart = 0.0
    for a, b in zip(ours, theirs, strict=True):
        a, b = numbers(a), numbers(b)
        assert np.isfinite(a).all() and np.isfinite(b).all()
        apart = max(apart, float(np.abs(a - b).max() / np.abs(b).max()))
    return apart
