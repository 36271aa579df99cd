"""Every scheduler of torch.optim.lr_scheduler on our class and on torch.optim.AdamW.

usage: LIBADAMW=libadamw.so torch_schedulers.py
"""

import unittest
import warnings

import torch
from torch.optim import lr_scheduler as schedulers
from torch_pairs import STEPS, Pair, parameters

CASES = {
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda i: 0.97**i),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda i: 0.98),
    "StepLR": lambda o: schedulers.StepLR(o, 7, gamma=0.7),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [5, 20, 60], gamma=0.5),
    "ConstantLR": lambda o: schedulers.ConstantLR(o, factor=0.5, total_iters=9),
    "LinearLR": lambda o: schedulers.LinearLR(o, start_factor=0.1, total_iters=30),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, gamma=0.96),
    "SequentialLR": lambda o: schedulers.SequentialLR(
        o,
        [schedulers.LinearLR(o, total_iters=10), schedulers.CosineAnnealingLR(o, 40)],
        milestones=[10],
    ),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, 25, eta_min=1e-5),
    "ChainedScheduler": lambda o: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(o, total_iters=8), schedulers.ExponentialLR(o, 0.97)], optimizer=o
    ),
    "ReduceLROnPlateau": lambda o: schedulers.ReduceLROnPlateau(o, factor=0.5, patience=3),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 1e-4, 1e-2, step_size_up=13),
    "CyclicLR, with momentum": lambda o: schedulers.CyclicLR(
        o, 1e-4, 1e-2, step_size_up=13, mode="triangular2", base_momentum=0.7, max_momentum=0.95
    ),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 9, T_mult=2),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, 1e-2, total_steps=STEPS + 1),
    "OneCycleLR, one beta": lambda o: schedulers.OneCycleLR(
        o, 1e-2, total_steps=STEPS + 1, cycle_momentum=False
    ),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, total_iters=70, power=2.0),
}


def groups(params):
    return [{"params": params[:3]}, {"params": params[3:], "lr": 3e-3, "weight_decay": 0.0}]


class Schedulers(unittest.TestCase):
    def test_there_is_a_case_of_every_class(self):
        classes = {name for name in schedulers.__all__ if name != "LRScheduler"}  # the base class
        self.assertEqual(classes, {name.partition(",")[0] for name in CASES})

    def test_each_moves_parameters_as_with_torchs_class(self):
        warnings.simplefilter("ignore")  # deprecated arguments are PyTorch's matter
        for name, make in CASES.items():
            for lr in (0.01, torch.tensor(0.01, dtype=torch.float64)):
                with self.subTest(name, lr=lr):
                    keywords = {"lr": lr}
                    pair = Pair(parameters(), keywords, groups=groups)
                    theirs, ours = make(pair.torch), make(pair.adamw)
                    for step in range(STEPS):
                        pair.step()
                        if isinstance(ours, schedulers.ReduceLROnPlateau):
                            theirs.step(abs(step - 30))
                            ours.step(abs(step - 30))
                        else:
                            theirs.step()
                            ours.step()
                        self.assertEqual(rates(pair.torch), rates(pair.adamw))
                    pair.assert_near(name, 2e-5)


def rates(optimizer):
    return [(float(group["lr"]), group["betas"]) for group in optimizer.param_groups]


if __name__ == "__main__":
    unittest.main()
