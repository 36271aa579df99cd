"""An optimizer with some parameters, for what tests `adamw.convert`."""

import ml_dtypes
import numpy as np
from adamw import AdamW


class Ours:
    """Parameters in f64, f32, or bf16 (as uint16) with masters."""

    def __init__(self, names, weights, no_decay=()):
        self.names, self.weights = names, [weight.copy() for weight in weights]
        params = {
            name: weight.view(ml_dtypes.bfloat16) if weight.dtype == np.uint16 else weight
            for name, weight in zip(names, self.weights)
        }
        self.optimizer = AdamW(params, precision="master")
        self.optimizer.set_decay_filter(lambda name: name not in no_decay)

    def step(self, grads):
        given = (grad.reshape(weight.shape) for grad, weight in zip(grads, self.weights))
        self.optimizer.step(grads=dict(zip(self.names, given)))

    def state(self, name):
        return self.optimizer.get_state(name)

    def save(self, path):
        self.optimizer.save(path)


def to_bf16(values):
    """To nearest even, as bits."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)
