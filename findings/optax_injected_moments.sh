#!/usr/bin/env bash
# optax.inject_hyperparams changes the type of moments, and orbax changes it back.
#
# Expected: inject_hyperparams(adamw) makes the learning rate an entry of the state, and is adamw in all
# else. What orbax saves and restores goes on with the bits of a run that was never stopped.
# Seen (optax 0.2.8, orbax-checkpoint 0.12.8, jax 0.10.2, CPU): beside an f32 parameter, the first moment
# of a bf16 one is bf16 in `init` and f32 from the first step on, because betas are f32 arrays there.
# orbax restores into what `init` gives, so that it rounds those moments to bf16, and the run goes on
# otherwise. Adamw alone keeps bf16 and the bits. No error, no warning; jit is in both.
#
# A converter takes a moment's type from the file, not from the parameter.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet optax==0.2.8 orbax-checkpoint==0.12.8 jax==0.10.2 numpy==2.4.6
"$here/venv/bin/python" -W ignore - "$here" <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint

params = {"matrix": jnp.linspace(-1, 1, 1024).astype(jnp.bfloat16), "norm": jnp.ones(64)}


def run(rule, state, params, steps):
    update = jax.jit(rule.update)
    for step in steps:
        draw = np.random.RandomState(step)
        grads = {name: jnp.asarray(draw.randn(p.size), p.dtype) for name, p in params.items()}
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return state, params


def resumed(name, rule):
    """The types of a moment before and behind a step, and how many elements end otherwise."""
    types = [str(optax.tree.get(rule.init(params), "mu")["matrix"].dtype)]
    state, now = run(rule, rule.init(params), params, range(5))
    types.append(str(optax.tree.get(state, "mu")["matrix"].dtype))
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(f"{sys.argv[1]}/{name}", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(f"{sys.argv[1]}/{name}", rule.init(params))
    types.append(str(optax.tree.get(restored, "mu")["matrix"].dtype))
    goes_on, other = (run(rule, one, now, range(5, 10))[1] for one in (state, restored))
    differ = {key: int((goes_on[key] != other[key]).sum()) for key in params}
    print(f"{name}: exp_avg of bf16 in init, after a step, restored: {types}; differ: {differ}")
    return types, differ


plain = resumed("adamw", optax.adamw(0.1))
injected = resumed("injected", optax.inject_hyperparams(optax.adamw)(learning_rate=0.1))
assert plain == (["bfloat16"] * 3, {"matrix": 0, "norm": 0}), plain
assert injected[0] == ["bfloat16", "float32", "bfloat16"], "one type for the whole run now"
assert injected[1]["matrix"] > 0 and injected[1]["norm"] == 0, injected
PYTHON
echo "as described"
