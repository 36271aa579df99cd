"""Prints the traces of paddle_adamw.json from a real paddlepaddle (CPU).

    pip install paddlepaddle==3.3.1 numpy
    python make_paddle.py > paddle_adamw.json

Every number is what Paddle itself computed, written with the fewest digits that give it back.
"""
import json
import os
import sys

os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np
import paddle

CLIPS = {
    "value": paddle.nn.ClipGradByValue,
    "norm": paddle.nn.ClipGradByNorm,
    "global_norm": paddle.nn.ClipGradByGlobalNorm,
}
REGULARIZERS = {"l1": paddle.regularizer.L1Decay, "l2": paddle.regularizer.L2Decay}
SHAPES = [(7,), (3, 5), (2, 3, 4), (33,)]


def parameter(rng, name, shape, dtype):
    value = paddle.to_tensor(rng.standard_normal(shape).astype(dtype), dtype=dtype)
    parameter = paddle.base.framework.EagerParamBase.from_tensor(value)
    parameter.stop_gradient = False
    parameter.name = name
    return parameter


def numbers(array):
    """The elements in row-major order, float32 ones in float32's own fewest digits."""
    return [float(str(x)) for x in np.asarray(array).ravel()]


def trace(name, dtype, shapes=SHAPES, steps=6, groups=None, clip=None, no_clip=(), no_decay=(),
          regularizer=None, missing=(), lrs=None, schedule=None, grad_scale=1.0, **config):
    """One case. groups: [(indices, overrides)]; clip: [kind, its arguments]; no_clip, no_decay:
    indices; regularizer: [kind, coefficient, index]; missing: {(step, index)}; schedule: [class of
    paddle.optimizer.lr, its arguments]."""
    rng = np.random.default_rng([1, len(name), sum(map(ord, name))])
    params = [parameter(rng, f"{name}.p{i}", s, dtype) for i, s in enumerate(shapes)]
    for i in no_clip:
        params[i].need_clip = False
    if regularizer:
        kind, coefficient, index = regularizer
        params[index].regularizer = REGULARIZERS[kind](coefficient)
    case = {
        "name": name,
        "dtype": dtype,
        "config": config,
        "clip": clip,
        "no_clip": list(no_clip),
        "regularizer": regularizer,
        "no_decay": list(no_decay),
        **({"schedule": schedule} if schedule else {}),
        "groups": [{"params": indices, **over} for indices, over in groups] if groups else None,
        "params": [{"name": p.name, "shape": list(s), "init": numbers(p.numpy())}
                   for p, s in zip(params, shapes)],
        "steps": [],
    }
    arguments = dict(config)
    if clip:
        kind, *limits = clip
        arguments["grad_clip"] = CLIPS[kind](*limits)
    if no_decay:
        banned = {params[i].name for i in no_decay}
        arguments["apply_decay_param_fun"] = lambda name: name not in banned
    if groups:
        arguments["parameters"] = [{"params": [params[i] for i in indices], **over}
                                   for indices, over in groups]
    else:
        arguments["parameters"] = params
    if schedule:
        scheduler = getattr(paddle.optimizer.lr, schedule[0])(*schedule[1])
        arguments["learning_rate"] = scheduler
    optimizer = paddle.optimizer.AdamW(**arguments)
    for t in range(steps):
        if lrs:
            optimizer.set_lr(lrs[t])
        grads = []
        for i, p in enumerate(params):
            grad = (rng.standard_normal(p.shape) * grad_scale).astype(dtype)
            if (t, i) in missing:
                p.clear_gradient(False)
                grads.append(None)
            else:
                p.grad = paddle.to_tensor(grad, dtype=dtype)
                grads.append(numbers(grad))
        lr = float(optimizer.get_lr())
        optimizer.step()
        after = [numbers(p.numpy()) for p in params]
        case["steps"].append({"lr": lr, "grads": grads, "params": after})
        optimizer.clear_grad(set_to_zero=False)
        if schedule:
            scheduler.step()
    case["state"] = {name: numbers(tensor.numpy())
                     for name, tensor in optimizer.state_dict().items()
                     if hasattr(tensor, "numpy")}
    return case


def cases(dtype):
    bits = dtype[-2:]
    yield trace(f"default_{bits}", dtype)
    yield trace(f"options_{bits}", dtype, learning_rate=0.05, beta1=0.8, beta2=0.95, epsilon=1e-3,
                weight_decay=0.1)
    yield trace(f"amsgrad_{bits}", dtype, steps=12, learning_rate=0.01, amsgrad=True,
                weight_decay=0.02, beta2=0.9)
    yield trace(f"no_decay_filter_{bits}", dtype, learning_rate=0.1, weight_decay=0.3,
                no_decay=(1, 3))
    yield trace(f"negative_decay_{bits}", dtype, learning_rate=0.1, weight_decay=-0.1)
    yield trace(f"zero_decay_big_eps_{bits}", dtype, learning_rate=0.1, weight_decay=0.0,
                epsilon=0.5)
    yield trace(f"groups_{bits}", dtype, learning_rate=0.1, weight_decay=0.01, groups=[
        ([0], {}),
        ([1, 2], {"learning_rate": 0.1, "weight_decay": 0.5, "beta1": 0.8}),
        ([3], {"epsilon": 1e-2, "beta2": 0.9}),
    ])
    yield trace(f"missing_grads_{bits}", dtype, learning_rate=0.1,
                missing={(0, 1), (2, 0), (3, 0), (4, 3)})
    yield trace(f"set_lr_{bits}", dtype, lrs=[0.1, 0.05, 0.2, 0.0, 0.01, 0.3], learning_rate=0.1)
    yield trace(f"scalar_and_long_{bits}", dtype, shapes=[(), (1000,)], steps=40,
                learning_rate=0.02, grad_scale=0.1)
    yield trace(f"clip_global_norm_{bits}", dtype, learning_rate=0.01, clip=["global_norm", 1.0])
    yield trace(f"clip_global_norm_need_clip_{bits}", dtype, learning_rate=0.01,
                clip=["global_norm", 0.7], no_clip=(1,))
    yield trace(f"clip_global_norm_inactive_{bits}", dtype, learning_rate=0.01, grad_scale=1e-3,
                clip=["global_norm", 5.0])
    yield trace(f"clip_per_group_{bits}", dtype, learning_rate=0.01, clip=["global_norm", 1.0],
                groups=[([0, 1], {}), ([2, 3], {})])
    if dtype == "float32":  # Paddle has no float64 kernel for it
        yield trace("clip_norm_32", dtype, learning_rate=0.01, clip=["norm", 1.5], no_clip=(0,))
    yield trace(f"clip_value_{bits}", dtype, learning_rate=0.01, clip=["value", 0.3, -0.5])
    yield trace(f"regularizer_l2_{bits}", dtype, learning_rate=0.1, weight_decay=0.01,
                regularizer=["l2", 0.5, 2], clip=["global_norm", 1.0])
    yield trace(f"regularizer_l1_{bits}", dtype, learning_rate=0.1, weight_decay=0.01,
                regularizer=["l1", 0.2, 0])
    yield trace(f"schedule_{bits}", dtype, schedule=["CosineAnnealingDecay", [0.1, 4, 0.01]])


json.dump([case for dtype in ("float32", "float64") for case in cases(dtype)], sys.stdout,
          separators=(",", ":"))
