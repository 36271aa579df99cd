"""A run that another library has begun goes on here to the values that it has there: after each of a few counts of steps, with the
library itself.

usage: others.py LIBRARY...    (those of make_others.py)
environment: LIBADAMW
"""

import json
import os
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "..", "golden"), os.path.join(HERE, "..", "package")]
import adamw
import make_others
from test_others import TAKE

TOLERANCE = 1e-6


def goes_on(library, before, after):
    random = np.random.default_rng(before)
    make_others.BEFORE = before
    make_others.GRADS = [[random.standard_normal(s).astype(np.float32) for s in make_others.SHAPES] for _ in range(before + after)]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        getattr(make_others, library)()
        with open(f"states-{library}.json") as file:
            run = json.load(file)
        weights = {name: np.array(value, np.float32) for name, value in zip(run["names"], run["middle"])}
        optimizer = adamw.AdamW(weights, **{**run["settings"], "betas": tuple(run["settings"]["betas"])})
        TAKE[library](optimizer, run["names"], *run["files"])
        assert set(optimizer.steps.values()) == {before}, optimizer.steps
        os.chdir(HERE)
    for grads in run["grads"]:
        optimizer.step(grads={name: np.array(grad, np.float32) for name, grad in zip(run["names"], grads)})
    for weight, end in zip(weights.values(), run["end"]):
        error = np.max(np.abs(weight - np.array(end))) / np.max(np.abs(end))
        assert error <= TOLERANCE, (library, before, after, error)
    print(f"{library} {run['version']}: {before} steps there, {after} here")


for name in sys.argv[1:]:
    for before, after in ((1, 9), (7, 5), (40, 20)):
        goes_on(name, before, after)
