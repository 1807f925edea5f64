"""Baseline: P replicas in JAX, vmapped over replicas, scanned over steps, with optax's clip and noise.

JAX and optax are asked for when a function here runs: ``pip install jax optax``.
"""

import importlib.util
import time
from itertools import pairwise
from typing import Any

import numpy as np

from .deep_mlp import CLIP, ETA, GAMMA, LR, SIZES, synthetic_digits


def unavailable() -> str | None:
    """Say why this baseline cannot run here, or None where it can."""
    missing = [name for name in ("jax", "optax") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed (pip install jax optax)" if missing else None


def init(key: Any) -> list[tuple[Any, Any]]:
    """Return one replica's (W [in, out], b [out]) of each layer at He's initialisation."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(key, len(SIZES) - 1)
    return [
        (jax.random.normal(k, (fan_in, fan_out)) * (2 / fan_in) ** 0.5, jnp.zeros(fan_out))
        for k, (fan_in, fan_out) in zip(keys, pairwise(SIZES), strict=True)
    ]


def loss(params: list[tuple[Any, Any]], x: Any, y: Any) -> Any:
    """Return the mean cross-entropy of one replica on one minibatch: x [B, 784] uint8, y [B] int32."""
    import jax
    import optax

    h = x.astype("float32") / 255
    for w, b in params[:-1]:
        h = jax.nn.relu(h @ w + b)
    w, b = params[-1]
    return optax.softmax_cross_entropy_with_integer_labels(h @ w + b, y).mean()


def optimizer(key: Any, noise: bool) -> Any:
    """Return clip, then noise whose stream starts at `key`, then SGD.

    optax counts its steps from 1 and leaves out the "1 +", so the variance is ours: eta / (1 + t)^gamma.
    """
    import optax

    noises = [optax.add_noise(ETA, GAMMA, key)] if noise else []
    return optax.chain(optax.clip_by_global_norm(CLIP), *noises, optax.sgd(LR))


def minibatches(keys: Any, n: int, batch: int, steps: int) -> Any:
    """Return rows of each step's minibatch [steps, P, B] int32: every replica reshuffles for itself each epoch."""
    import jax

    epochs = -(-steps * batch // n)

    def one(key: Any) -> Any:
        order = jax.vmap(lambda k: jax.random.permutation(k, n))(jax.random.split(key, epochs))
        return order.reshape(-1)[: steps * batch].reshape(steps, batch)

    return jax.vmap(one, out_axes=1)(keys)


def trainer(noise: bool) -> Any:
    """Return the compiled (params, state, rows [T, P, B], images, labels) -> (params, state, losses [T, P])."""
    import jax
    import optax

    def step(params: Any, state: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
        value, grads = jax.value_and_grad(loss)(params, x, y)
        # The key only matters to optimizer.init: the stream lives in the state.
        updates, state = optimizer(jax.random.key(0), noise).update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    def run(params: Any, state: Any, rows: Any, images: Any, labels: Any) -> tuple[Any, Any, Any]:
        def body(carry: tuple[Any, Any], r: Any) -> tuple[tuple[Any, Any], Any]:
            p, s, value = jax.vmap(step)(*carry, images[r], labels[r])
            return (p, s), value

        (params, state), values = jax.lax.scan(body, (params, state), rows)
        return params, state, values

    return jax.jit(run, donate_argnums=(0, 1))


def replica_steps_per_second(
    P: int,
    *,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    batch: int = 100,
    noise: bool = True,
    steps: int = 100,
    seed: int = 0,
) -> float:
    """Return replica-steps per second of P replicas together, compilation and shuffling not counted.

    Args:
        P: Replicas.
        images: [n, 784] uint8; synthetic ones where images and labels are left out.
        labels: [n] integers in 0..9.
        batch: B.
        noise: With or without gradient noise.
        steps: Steps that are timed, all in one call; an untimed call of the same length compiles.
        seed: Seed of the replicas' keys.

    Returns:
        P * steps per second. JAX takes every core it is allowed: start the process under ``taskset -c 0`` for one.

    Raises:
        RuntimeError: `unavailable` names a reason.
    """
    if reason := unavailable():
        raise RuntimeError(reason)
    import jax
    import jax.numpy as jnp

    if images is None or labels is None:
        images, labels = synthetic_digits()
    x, y = jnp.asarray(images), jnp.asarray(labels, dtype=jnp.int32)
    init_keys, noise_keys, order_keys = (jax.random.split(k, P) for k in jax.random.split(jax.random.key(seed), 3))
    params = jax.vmap(init)(init_keys)
    state = jax.vmap(lambda key, p: optimizer(key, noise).init(p))(noise_keys, params)
    rows = jax.jit(minibatches, static_argnums=(1, 2, 3))(order_keys, len(x), batch, steps)

    run = trainer(noise)
    params, state, _ = jax.block_until_ready(run(params, state, rows, x, y))
    start = time.perf_counter()
    jax.block_until_ready(run(params, state, rows, x, y))
    return P * steps / (time.perf_counter() - start)
