"""Random configurations of every argument of the constructor, beside paddle.optimizer.AdamW.

usage: LIBADAMW=libadamw.so paddle_configs.py [CONFIGURATIONS [FIRST SEED]]

What Paddle's optimizer does not do on a processor is compared with what says the same there:
- float16 and bfloat16: with a Paddle optimizer of f32 parameters and the same gradients. Masters
  have to be near its parameters; without masters it starts each step from our parameter.
- lr_ratio: with the same factors in `optimize_attr`.
- learning_rate as an int or a tensor: with the same float.
- use_multi_tensor: without it.
Betas that are tensors are 0.9 and 0.999: Paddle starts their powers there, whatever they are.
ClipGradByNorm is left out in float64, for which Paddle has no kernel on a processor.
"""

import random
import sys
import warnings

import adamw.paddle
import numpy as np
import paddle
from paddle.optimizer import lr as schedulers

STEPS = 50
#: Of the largest element: how far apart values may be at every step.
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}
SHORT = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
SHAPES = [(), (1,), (4, 3), (2, 3, 2), (17,), (0, 3), (600,)]

SCHEDULERS = {
    "StepDecay": lambda rate: schedulers.StepDecay(rate, 7, gamma=0.7),
    "NoamDecay": lambda rate: schedulers.NoamDecay(64, 10, learning_rate=rate * 10),
    "LinearWarmup": lambda rate: schedulers.LinearWarmup(rate, 12, 0.0, rate),
    "CosineAnnealingDecay": lambda rate: schedulers.CosineAnnealingDecay(rate, 20),
    "OneCycleLR": lambda rate: schedulers.OneCycleLR(rate, STEPS + 5),
    "LambdaDecay": lambda rate: schedulers.LambdaDecay(rate, lambda epoch: 0.97**epoch),
}


def single(value):
    """Returns the value that Paddle has of a weight decay, which it rounds to f32."""
    return float(np.float32(value))


def draw_clip(draw, dtype):
    kind = draw.choice(["none", "none", "value", "range", "norm", "global", "skip"])
    kind = "none" if kind == "norm" and dtype == "float64" else kind
    limit = draw.choice([0.05, 0.5, 5.0])
    return {
        "none": None,
        "value": paddle.nn.ClipGradByValue(limit),
        "range": paddle.nn.ClipGradByValue(limit, -2 * limit),
        "norm": paddle.nn.ClipGradByNorm(limit),
        "global": paddle.nn.ClipGradByGlobalNorm(limit),
        "skip": paddle.nn.ClipGradByGlobalNorm(limit, auto_skip_clip=True),
    }[kind]


def draw_hyper(draw, dtype):
    """Returns arguments that a group can have, too."""
    tensor = lambda value: paddle.to_tensor(value, "float64" if dtype == "float64" else "float32")
    return {
        "beta1": draw.choice([0.9, 0.8, 0.0, tensor(0.9), tensor([0.9])]),
        "beta2": draw.choice([0.999, 0.95, 0.5, tensor(0.999)]),
        "epsilon": draw.choice([1e-8, 1e-3, tensor(1e-6), 0.1]),
        "weight_decay": draw.choice([0.0, single(0.01), single(0.3), 1, single(-0.1)]),
        "lazy_mode": draw.random() < 0.3,
        "grad_clip": draw_clip(draw, dtype),
    }


class Config:
    """The arguments of a constructor, and the parameters that they are about."""

    def __init__(self, seed):
        draw = self.draw = random.Random(seed)
        self.dtype = draw.choice(["float32", "float32", "float64", "float16", "bfloat16"])
        self.reference = "float32" if self.dtype in SHORT else self.dtype
        self.shapes = [draw.choice(SHAPES) for _ in range(draw.randrange(1, 7))]
        numbers = np.random.default_rng(seed)
        self.starts = [numbers.standard_normal(shape) for shape in self.shapes]
        self.hyper = draw_hyper(draw, self.dtype)
        if isinstance(self.hyper["weight_decay"], float) and draw.random() < 0.2:
            self.hyper["weight_decay"] = paddle.to_tensor(self.hyper["weight_decay"])
        self.rate = draw.choice([1e-3, 0.01, 0.1])
        self.scheduler = draw.choice([None, None, *SCHEDULERS])
        self.ratios = draw.choice([None, None, [draw.choice([0.5, 1.0, 2.0]) for _ in self.shapes]])
        self.no_decay = draw.choice([None, {draw.randrange(len(self.shapes))}])
        self.masters = draw.random() < 0.5
        self.amsgrad = draw.random() < 0.3
        self.low = self.dtype == self.reference and draw.random() < 0.2
        self.name = draw.choice([None, None, "run"])
        self.attributes = [self.draw_attributes() for _ in self.shapes]
        self.groups = None
        if len(self.shapes) > 1 and draw.random() < 0.5:
            cut = draw.randrange(1, len(self.shapes))
            self.groups = [(range(cut), {}), (range(cut, len(self.shapes)), self.draw_group())]

    def draw_attributes(self):
        draw = self.draw
        rate = draw.choice([1.0, 1.0, 0.5, 0.0])
        regularizer = draw.choice(
            [None, None, None, paddle.regularizer.L1Decay(0.01), paddle.regularizer.L2Decay(0.1)]
        )
        return {"rate": rate, "clip": draw.random() < 0.8, "regularizer": regularizer}

    def draw_group(self):
        own = draw_hyper(self.draw, self.dtype)
        kept = {key: value for key, value in own.items() if self.draw.random() < 0.5}
        return {**kept, **self.draw.choice([{}, {"learning_rate": 0.3}])}

    def __str__(self):
        return ", ".join(f"{k}={v}" for k, v in vars(self).items() if k not in ("draw", "starts"))


class Side:
    """An optimizer with its parameters."""

    def __init__(self, config, kind, dtype):
        self.ours = kind is adamw.paddle.AdamW
        self.dtype = dtype
        rounded = [paddle.to_tensor(start).cast(config.dtype) for start in config.starts]
        self.params = [
            paddle.base.framework.EagerParamBase.from_tensor(start.cast(dtype), name=f"w_{i}")
            for i, start in enumerate(rounded)
        ]
        for i, (param, own) in enumerate(zip(self.params, config.attributes)):
            param.stop_gradient = False
            param.optimize_attr = {"learning_rate": own["rate"]}
            param.need_clip, param.regularizer = own["clip"], own["regularizer"]
        rate, extra = config.rate, {}
        self.scheduler = config.scheduler and SCHEDULERS[config.scheduler](rate)
        if self.ours:
            rate = config.draw.choice([rate, paddle.to_tensor(rate, dtype="float64")])
            extra["use_multi_tensor"] = config.draw.random() < 0.5
            if config.ratios:
                factors = {param.name: r for param, r in zip(self.params, config.ratios)}
                extra["lr_ratio"] = lambda param: factors[param.name]
        listed = self.params
        if config.groups:
            listed = [{"params": [self.params[i] for i in g], **own} for g, own in config.groups]
        self.optimizer = kind(
            learning_rate=self.scheduler or rate,
            parameters=listed,
            use_lowprecision_moment=config.low,
            apply_decay_param_fun=self.decays(config),
            multi_precision=config.masters,
            amsgrad=config.amsgrad,
            name=config.name,
            **config.hyper,
            **extra,
        )
        if config.ratios and not self.ours:
            for param, ratio in zip(self.params, config.ratios):
                param.optimize_attr["learning_rate"] *= ratio

    def decays(self, config):
        if config.no_decay is None:
            return None
        excluded = {self.params[i].name for i in config.no_decay}
        return lambda name: name not in excluded

    def step(self, gradients, way):
        for param, grad in zip(self.params, gradients):
            param.grad = None if grad is None else grad.cast(self.dtype)
        if way == "step":
            self.optimizer.step()
        elif way == "minimize":
            self.optimizer.minimize(paddle.zeros([]))
        self.optimizer.clear_grad(way == "step")
        if self.scheduler:
            self.scheduler.step()

    def values(self):
        """Returns parameters, or their masters, in the order of the parameters."""
        masters = self.optimizer._master_weights
        return [masters.get(p.name, p).cast("float64").numpy() for p in self.params]

    def state(self):
        """Returns moments and powers by kind and parameter."""
        found = {}
        for key, value in self.optimizer.state_dict().items():
            if key not in ("LR_Scheduler", "master_weights"):
                found[key.replace("_fp32_master_0", "")] = value.cast("float64").numpy()
        return found


def distance(a, b, least=1e-12):
    """Returns the largest difference, over the largest element or `least`."""
    if not a.size:
        return 0.0
    assert np.isfinite(a).all() and np.isfinite(b).all(), f"{a} beside {b}"
    return float(np.abs(a - b).max() / max(np.abs(b).max(), least))


def compare(seed):
    """Runs one configuration, and returns the largest distance of a parameter."""
    config = Config(seed)
    theirs = Side(config, paddle.optimizer.AdamW, config.reference)
    ours = Side(config, adamw.paddle.AdamW, config.dtype)
    rounds = config.dtype in SHORT and not config.masters
    worst = 0.0
    numbers = np.random.default_rng(seed + 1)
    for step in range(STEPS):
        scale = config.draw.choice([1.0, 0.01])
        gradients = [
            None
            if config.draw.random() < 0.1
            else paddle.to_tensor(numbers.standard_normal(shape) * scale).cast(config.dtype)
            for shape in config.shapes
        ]
        way = "step" if config.groups else config.draw.choice(["step", "minimize"])
        if not config.scheduler and step == 20:
            for side in (theirs, ours):
                side.optimizer.set_lr(config.rate / 2)
        if rounds:
            for a, b in zip(theirs.params, ours.params):
                a.set_value(b.cast(config.reference))
        for side in (theirs, ours):
            side.step(gradients, way)
        assert ours.optimizer.get_lr() == theirs.optimizer.get_lr(), f"seed {seed}: {config}"
        limit = SHORT[config.dtype] if rounds else TOLERANCE[config.reference]
        for i, (a, b) in enumerate(zip(ours.values(), theirs.values())):
            apart = distance(a, b, least=1.0)  # parameters begin at about 1, and may cross 0
            worst = max(worst, 0.0 if rounds else apart)
            assert apart <= limit, f"seed {seed}, step {step}, parameter {i}: {apart}: {config}"
    if config.dtype in SHORT and config.masters:
        for param in ours.params:
            master = ours.optimizer._master_weights.get(param.name)
            assert master is None or bool((master.cast(config.dtype) == param).all()), seed
    states = ours.state(), theirs.state()
    assert states[0].keys() == states[1].keys(), f"seed {seed}: {config}"
    empty = {p.name for p in ours.params if 0 in p.shape}  # Paddle does not count their steps
    for key, value in states[0].items():
        if key[:3] in empty:
            continue
        apart = distance(value, states[1][key], 0.1 if "moment1" in key else 1e-12)
        limit = 1e-3 if rounds else TOLERANCE[config.reference]
        if "moment2" in key and config.reference == "float32":
            limit = max(limit, 2e-5)  # Paddle's 1 - beta2 is off by 1.3e-5
        assert apart <= limit, f"seed {seed}: {key}: {apart}: {config}"
    return worst, config.reference


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    count, first = (int(number) for number in (sys.argv[1:] + ["200", "0"][len(sys.argv) - 1 :]))
    worst = {"float32": 0.0, "float64": 0.0}
    for seed in range(first, first + count):
        with paddle.utils.unique_name.guard():
            apart, reference = compare(seed)
        worst[reference] = max(worst[reference], apart)
    print(f"{count} configurations of {STEPS} steps, seeds from {first}; at most apart: {worst}")
