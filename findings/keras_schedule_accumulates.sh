#!/usr/bin/env bash
# A schedule of Keras's runs ahead of the updates when gradients are accumulated.
#
# Expected: with gradient_accumulation_steps=4 a schedule is asked for the rate of update 0, 1, 2,
# as `optimizer.iterations` counts, which says 1 after four calls.
# Seen (Keras 3.15.1, JAX 0.10.2): it is asked by the number of calls. A rate of 0.5 for the first
# three updates and of 0.25 from then on is 0.25 already in the first update, at call 4. The saved
# variable "iteration" counts calls too, so that a file does not say how many updates there were.
#
# Who replays a schedule of Keras's, or takes its state over, has to know the accumulation.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet keras==3.15.1 jax==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax "$here/venv/bin/python" - <<'PYTHON'
import keras

assert keras.__version__ == "3.15.1", keras.__version__


def moves(accumulation):
    """How far each update moves a parameter: by the rate, because the gradient is always the same."""
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.5, 0.25])
    optimizer = keras.optimizers.AdamW(rate, weight_decay=0.0, gradient_accumulation_steps=accumulation)
    param = keras.Variable([0.0])
    optimizer.build([param])
    seen, before = [], 0.0
    for _ in range(4 * (accumulation or 1)):
        optimizer.apply([keras.ops.ones(1)], [param])
        now = float(param.value[0])
        if now != before:
            seen.append(round(before - now, 3))
        before = now
    return seen, int(optimizer.iterations), int(optimizer.variables[0].value)


plain, accumulated = moves(None), moves(4)
for what, (seen, iterations, saved) in ("one call an update", plain), ("four calls an update", accumulated):
    print(f"{what}: updates by {seen}; iterations is {iterations}, the variable that is saved {saved}")
assert plain == ([0.5, 0.5, 0.5, 0.25], 4, 4), plain
assert accumulated == ([0.25, 0.25, 0.25, 0.25], 4, 16), "the schedule follows the updates now"
PYTHON
echo "as described"
