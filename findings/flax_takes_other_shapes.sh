#!/usr/bin/env bash
# flax.serialization restores moments of optax that have another shape than their parameters.
#
# Expected: from_bytes compares the shapes of the target with those of the file, and refuses what is
# too much in the file, because it refuses what is missing there.
# Seen (flax 0.12.8, optax 0.2.8, jax 0.10.2, CPU): moments of shape [1] are put in the place of those
# of a parameter of shape [4]; the next step broadcasts them, so that all four elements move by the
# moments of one. State of a parameter that the target has not is dropped. No error, no warning.
#
# A converter has to compare shapes itself, and what only one of both sides has.
set -euo pipefail
here=$(mktemp -d); trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet flax==0.12.8 optax==0.2.8 jax==0.10.2 numpy==2.4.6
"$here/venv/bin/python" - <<'PYTHON'
import flax.serialization
import jax.numpy as jnp
import optax

rule = optax.adamw(0.1, weight_decay=0.0)


def saved(**params):
    """Returns the file of a run that has taken three steps."""
    state = rule.init(params)
    for _ in range(3):
        _, state = rule.update({name: jnp.ones_like(p) for name, p in params.items()}, state, params)
    return flax.serialization.to_bytes(state)


param = {"w": jnp.zeros(4)}
restored = flax.serialization.from_bytes(rule.init(param), saved(w=jnp.zeros(1)))
print("moments restored for [4]:", restored[0].mu["w"].shape)
assert restored[0].mu["w"].shape == (1,), "it looks at shapes now"
updates, after = rule.update({"w": jnp.zeros(4)}, restored, param)
print("a step with gradients of zero moves by", updates["w"].tolist())
assert len(set(updates["w"].tolist())) == 1 and float(updates["w"][0]) != 0.0

restored = flax.serialization.from_bytes(rule.init(param), saved(w=jnp.zeros(4), v=jnp.zeros(2)))
print("restored of w and v:", list(restored[0].mu))
assert list(restored[0].mu) == ["w"], "it names what is too much now"
try:
    flax.serialization.from_bytes(rule.init({**param, "v": jnp.zeros(2)}), saved(w=jnp.zeros(4)))
except ValueError as error:
    print("what is missing is an error:", str(error)[:60])
else:
    raise AssertionError("what is missing is no error any more")
PYTHON
echo "as described"
