"""A recursive layer: what it is without a low state, and that token by token it computes as at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.evaluation import cost
from juliagpt_jax.models.build import build_model

VOCAB, T = 11, 9
TOKENS = jnp.asarray(np.random.default_rng(0).integers(VOCAB, size=(2, T)))


def made(tiny, *words):
    model = build_model(tiny("model.layers=2", "model.width=16", "model.heads=2", *words), VOCAB)
    return model, model.init(jax.random.key(0), TOKENS)["params"]


def recursive(n, t):
    return "model.depth=recursive", f"model.recursive.inner={n}", f"model.recursive.outer={t}"


def test_without_a_low_state_it_is_a_stack_and_euler_steps(tiny):
    """n = 0, T = 1 is the plain block; T times it is an ODE of speed T in T Euler steps."""
    forward = lambda model, params: jax.jit(model.apply)({"params": params}, TOKENS)[0]
    plain, params = made(tiny, "model.depth=stack")
    np.testing.assert_allclose(forward(made(tiny, *recursive(0, 1))[0], params), forward(plain, params), atol=1e-5)
    euler = ("model.depth=ode", "model.ode.time=none", "model.ode.solver=euler", "model.ode.steps=3")
    ode, params = made(tiny, *euler, "model.ode.speed=3.0")
    many = forward(made(tiny, *recursive(0, 3))[0], params)
    np.testing.assert_allclose(many, forward(ode, params), atol=1e-5)
    assert np.abs(many - forward(made(tiny, *recursive(1, 3))[0], params)).max() > 1e-2


@pytest.mark.parametrize("mixer", ["attention", pytest.param("kda attention", marks=pytest.mark.long)])
def test_token_by_token_it_computes_as_at_once(tiny, mixer):
    model, params = made(tiny, f"model.mixer={mixer}", *recursive(1, 2))
    run = jax.jit(model.apply)
    whole = run({"params": params}, TOKENS)[0]
    cache = model.init_cache(2, T)
    assert len(cache) == 2 * 2 * (1 + 1)
    logits, cache, _ = run({"params": params}, TOKENS[:, :5], jnp.broadcast_to(jnp.arange(5), (2, 5)), cache)
    found = [logits]
    for i in range(5, T):
        logits, cache, _ = run({"params": params}, TOKENS[:, i : i + 1], jnp.full((2, 1), i), cache)
        found.append(logits)
    np.testing.assert_allclose(jnp.concatenate(found, axis=1), whole, atol=1e-5)
    later = TOKENS.at[:, 6].set((TOKENS[:, 6] + 1) % VOCAB)
    np.testing.assert_array_equal(run({"params": params}, later)[0][:, :6], whole[:, :6])


def test_its_cost_is_that_of_its_evaluations(tiny):
    (plain, params), (model, _) = made(tiny, "model.depth=stack"), made(tiny, *recursive(1, 2))
    blocks = lambda model: cost.multiplied(model.config, params) - params["embedding"].size - 16
    assert blocks(model) == 4 * blocks(plain)
