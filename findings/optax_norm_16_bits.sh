#!/usr/bin/env bash
# optax.clip_by_global_norm adds up squares in the type of the gradients.
#
# Expected: gradients whose norm is above the limit have the limit as their norm behind it, as exactly
# as their type can say it. Nothing in its documentation tells 16 bits from 32.
# Seen (optax 0.2.8, jax 0.10.2, CPU, with jit and without): in bf16 a sum of squares that has reached
# 256 times the next one stays as it is. 1,000 tensors of norm 1 keep twice the norm that is allowed;
# behind one tensor of norm 16, no number of tensors of norm 1 counts. In f16 squares from 65,520 on are
# infinite: gradients of 256 become 0, and the step moves by momentum and decay alone. No error, no
# warning.
#
# A norm needs a wider type than what it measures: ours are f64 for all types.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet optax==0.2.8 jax==0.10.2 numpy==2.4.6
"$here/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import optax

rule = optax.clip_by_global_norm(1.0)


def norm(grads):
    return float(np.sqrt(sum((np.asarray(grad, np.float64) ** 2).sum() for grad in grads)))


def clipped(*parts, jit=False):
    """The norm behind a limit of 1 of so many tensors of one type, elements and value."""
    grads = [jnp.full(n, value, dtype) for count, dtype, n, value in parts for _ in range(count)]
    update = jax.jit(rule.update) if jit else rule.update
    after = norm(update(grads, rule.init(grads))[0])
    print(f"{grads[0].dtype}, {len(grads)} tensors, jit {jit}: norm {norm(grads):.5g} -> {after:.3g}")
    return after


assert abs(clipped((20, jnp.bfloat16, 4, 0.5)) - 1) < 0.02
assert clipped((1000, jnp.float32, 4, 0.5)) < 1.001
assert 1.9 < clipped((1000, jnp.bfloat16, 4, 0.5)) < 2.1, "it has the sum now"
for jit in (False, True):
    behind = (1, jnp.bfloat16, 256, 1.0), (200, jnp.bfloat16, 4, 0.5)
    assert 1.3 < clipped(*behind, jit=jit) < 1.4, "it has the sum now"
    assert abs(clipped((3, jnp.float16, 1000, 2.0), jit=jit) - 1) < 0.01
    assert clipped((3, jnp.float16, 1000, 256.0), jit=jit) == 0.0, "it has the range now"
PYTHON
echo "as described"
