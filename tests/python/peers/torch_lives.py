"""Random lives of an optimizer in f64, whose parameters end as with torch.optim.AdamW.

usage: LIBADAMW=libadamw.so torch_lives.py [LIVES [FIRST SEED]]
"""

import copy
import io
import random
import sys

import torch
from torch_pairs import Pair, distance

STEPS = 25
TOLERANCE = 1e-10
CHANGES = []


def change(function):
    """Marks what may happen between two steps: it is done to each optimizer and its parameters."""
    CHANGES.append(function)
    return function


@change
def hyper_parameters(draw, optimizer, params):
    group = draw.choice(optimizer.param_groups)
    group["lr"] = draw.choice([1e-3, 0.02, torch.tensor(0.01, dtype=torch.float64)])
    group["betas"] = draw.choice([(0.9, 0.999), (0.6, 0.9), (0.0, 0.5)])
    group["weight_decay"] = draw.choice([0.0, 0.1])
    group["eps"] = draw.choice([1e-8, 1e-3])


@change
def maximize(draw, optimizer, params):
    group = draw.choice(optimizer.param_groups)
    group["maximize"] = not group["maximize"]


@change
def parameter_moved(draw, optimizer, params):
    param = draw.choice(params)
    param.data = param.data.clone(memory_format=torch.preserve_format)


@change
def parameter_written(draw, optimizer, params):
    with torch.no_grad():
        draw.choice(params).mul_(0.5)


@change
def parameter_turned(draw, optimizer, params):
    param = draw.choice(params)
    if param.ndim == 2:
        param.data = param.data.t().contiguous().t()


@change
def moments_written(draw, optimizer, params):
    for key in ("exp_avg", "exp_avg_sq"):
        value = optimizer.state[draw.choice(params)].get(key)
        if value is not None:
            value.mul_(0.25)


@change
def moments_replaced(draw, optimizer, params):
    state = optimizer.state[draw.choice(params)]
    for key in list(state):
        state[key] = state[key].clone()


@change
def moments_moved(draw, optimizer, params):
    for value in optimizer.state[draw.choice(params)].values():
        value.data = value.data.clone()


@change
def count_written(draw, optimizer, params):
    state = optimizer.state[draw.choice(params)]
    if state:
        state["step"] += draw.randrange(5)


@change
def state_deleted(draw, optimizer, params):
    optimizer.state.pop(draw.choice(params), None)


@change
def state_reloaded(draw, optimizer, params):
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    optimizer.load_state_dict(torch.load(file, weights_only=True))


@change
def group_added(draw, optimizer, params):
    param = torch.nn.Parameter(torch.linspace(-1, 1, draw.randrange(1, 9), dtype=torch.float64))
    params.append(param)
    amsgrad = draw.random() < 0.5
    optimizer.add_param_group({"params": [param], "lr": 0.01, "amsgrad": amsgrad})


@change
def parameter_exchanged(draw, optimizer, params):
    group = draw.choice(optimizer.param_groups)
    old = group["params"][0]
    place = next(i for i, param in enumerate(params) if param is old)
    new = torch.nn.Parameter(torch.cat([old.detach().flatten(), torch.ones(2, dtype=old.dtype)]))
    state = optimizer.state.pop(old, None)
    group["params"][0] = params[place] = new
    if state:
        more = lambda value: torch.cat([value.flatten(), torch.zeros(2, dtype=value.dtype)])
        kept = {key: value if key == "step" else more(value) for key, value in state.items()}
        optimizer.state[new] = kept


@change
def moved_groups(draw, optimizer, params):
    optimizer.param_groups.reverse()


@change
def copied(draw, optimizer, params):
    """Replaced by its copy, as a pickle would be."""
    return copy.deepcopy((optimizer, params))


def live(seed):
    """Returns what has happened in one life, or raises AssertionError with it."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    shapes = [(), (1,), (4, 3), (2, 3, 2), (17,), (0,)]
    starts = [
        torch.randn(draw.choice(shapes), dtype=torch.float64) for _ in range(draw.randrange(1, 6))
    ]
    keywords = {"amsgrad": draw.random() < 0.3, "maximize": draw.random() < 0.3}
    cut = draw.randrange(len(starts)) if len(starts) > 1 else 0
    groups = lambda ps: [{"params": ps[:cut]}, {"params": ps[cut:], "lr": 0.005}] if cut else ps
    pair = Pair(starts, keywords, groups=groups)
    story = [f"seed {seed}: {[tuple(s.shape) for s in starts]}, {keywords}, cut {cut}"]
    for _ in range(STEPS):
        for function in draw.sample(CHANGES, draw.choice([0, 0, 1, 2])):
            story.append(function.__name__)
            again = draw.getrandbits(32)
            done = [
                function(random.Random(again), *both)
                for both in ((pair.torch, pair.theirs), (pair.adamw, pair.ours))
            ]
            if done[0] is not None:
                (pair.torch, pair.theirs), (pair.adamw, pair.ours) = done
        absent = {i for i in range(len(pair.ours)) if draw.random() < 0.15}
        story.append(f"step without {sorted(absent)}")
        try:
            pair.step(absent=absent)
        except Exception as error:
            raise AssertionError("; ".join(story)) from error
        for index, (ours, theirs) in enumerate(zip(pair.ours, pair.theirs, strict=True)):
            apart = distance(ours, theirs)
            counts = [
                float(o.state[p].get("step", 0.0))
                for o, p in ((pair.adamw, ours), (pair.torch, theirs))
            ]
            assert apart <= TOLERANCE and counts[0] == counts[1], (
                f"parameter {index}: {apart}, {counts}: {'; '.join(story)}"
            )
    return story


if __name__ == "__main__":
    lives, first = (int(number) for number in (sys.argv[1:] + ["40", "0"][len(sys.argv) - 1 :]))
    for seed in range(first, first + lives):
        live(seed)
    print(f"{lives} lives of {STEPS} steps, seeds from {first}")
