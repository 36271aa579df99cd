"""optax.adamw, compiled by XLA with its arrays given away, so that it steps them in place.

XLA has as many threads as processors that the process may use. Gradients of JAX are new at each step: "clear" is
nothing to do."""

import functools

import jax
import jax.numpy as jnp
import optax


def optax_jit(case, threads):
    optimizer = optax.adamw(1e-3, weight_decay=0.01)
    if case.name == "clip-clear":
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optimizer)
    masters = [jnp.full((n,), 0.5) for n in case.lengths]
    params = [master.astype(case.dtype) for master in masters] if case.master else []
    grads = [jnp.full((n,), 0.01, case.dtype) for n in case.lengths]
    kept = [masters, optimizer.init(masters), params]

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2), keep_unused=True)
    def step(masters, state, params, grads):
        wide = [grad.astype(jnp.float32) for grad in grads]
        updates, state = optimizer.update(wide, state, masters)
        masters = optax.apply_updates(masters, updates)
        return [masters, state, [master.astype(case.dtype) for master, _ in zip(masters, params)]]

    def run():
        kept[:] = jax.block_until_ready(step(*kept, grads))

    before = places(kept)
    run()
    assert places(kept) == before, "XLA has not stepped in place"
    return run, kept


def places(arrays):
    return sorted(array.unsafe_buffer_pointer() for array in jax.tree.leaves(arrays) if array.size > 1)
