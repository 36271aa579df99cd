"""What the tests of the package share: arrays, and the step as numpy computes it."""

import sys

if sys.version_info < (3, 11):
    print("the package needs Python 3.11")
    sys.exit(77)
try:
    import numpy as np
except ImportError:
    print("numpy is missing")
    sys.exit(77)


def arrays(seed, *shapes, dtype=np.float32):
    """Returns arrays of random numbers, the same for a seed."""
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


def bits(array):
    """Returns the bytes of an array, which differ where NaNs or the signs of zeros do."""
    return np.asarray(array).tobytes()


class Model:
    """One parameter, stepped by numpy in the order of operations of src/math.rs."""

    def __init__(self, param, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        self.param = param.copy()
        self.exp_avg, self.exp_avg_sq = np.zeros_like(param), np.zeros_like(param)
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.powers = [1.0, 1.0]

    def step(self, grad, scale=1.0):
        """Steps by a gradient that is multiplied by a scale: of the clip, or of the loss."""
        real = self.param.dtype.type
        self.powers = [power * beta for power, beta in zip(self.powers, self.betas)]
        one_minus = [real(1 - beta) for beta in self.betas]
        inv_sqrt = real(1 / np.sqrt(1 - self.powers[1]))
        decay, size = real(self.lr * self.weight_decay), real(self.lr / (1 - self.powers[0]))
        grad = grad.astype(real) * real(scale)
        self.exp_avg += one_minus[0] * (grad - self.exp_avg)
        self.exp_avg_sq += one_minus[1] * (grad * grad - self.exp_avg_sq)
        denom = np.sqrt(self.exp_avg_sq) * inv_sqrt + real(self.eps)
        self.param -= decay * self.param + size * (self.exp_avg / denom)
