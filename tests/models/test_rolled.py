"""Layers in a loop compute what they compute one after the other, from the same parameters, in a program that does not
grow with depth."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.evaluation import attention
from juliagpt_jax.models import capture, rolled
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.models.precision import prepare

VOCAB, B, T, SLOTS = 11, 2, 6, 8
HYBRID = ("model.mixer=kda attention", "model.channel=swiglu relu2", "model.layers=5", "model.x0_skip=true")


def pair(tiny, *flags, **kinds):
    """The model one layer after the other and in a loop, parameters, and tokens."""
    models = [
        build_model(tiny("model.width=16", *flags, f"model.scan_layers={word}"), VOCAB).clone(**kinds, parent=None)
        for word in ("false", "true")
    ]
    tokens = jax.random.randint(jax.random.key(0), (B, T), 0, VOCAB)
    made = [jax.jit(model.init)(jax.random.key(1), tokens)["params"] for model in models]
    chex.assert_trees_all_equal(*made)
    params = made[0] | {name: jnp.array([0.6, 0.7]) for name in made[0] if name.startswith("skip")}
    return models, params, tokens


def loops(function, *arguments):
    return [e for e in jax.make_jaxpr(function)(*arguments).eqns if e.primitive.name == "scan"]


@pytest.mark.long
@pytest.mark.parametrize("remat", [False, True])
def test_same_numbers(remat, tiny):
    """Logits and gradients of two units of two layers and a fifth layer; with dropout under the same key, too."""
    models, params, tokens = pair(tiny, *HYBRID, "model.dropout=0.2", remat=remat)
    for keys in ({}, {"dropout": jax.random.key(5)}):
        run = lambda model, keys=keys: lambda p: jnp.sum(jnp.sin(model.apply({"params": p}, tokens, rngs=keys)[0]))
        (plain, wanted), (looped, got) = (jax.jit(jax.value_and_grad(run(model)))(params) for model in models)
        np.testing.assert_allclose(looped, plain, rtol=1e-5)
        chex.assert_trees_all_close(
            got, wanted, rtol=1e-4, atol=1e-4
        )  # sums of some hundred products, in another order


@pytest.mark.long
def test_same_text(tiny):
    """Token by token, the caches continue in the same tuple."""
    models, params, tokens = pair(tiny, *HYBRID)
    wanted = models[0].apply({"params": params}, tokens)[0]
    shapes = [jax.tree.map(jnp.shape, model.init_cache(B, SLOTS)) for model in models]
    assert shapes[0] == shapes[1]
    feed = jax.jit(lambda t, at, cache: models[1].apply({"params": params}, t, at, cache)[:2])
    cache = models[1].init_cache(B, SLOTS)
    for at in range(T):
        logits, cache = feed(tokens[:, at : at + 1], jnp.full((B, 1), at), cache)
        np.testing.assert_allclose(logits[:, 0], wanted[:, at], atol=1e-5)


def test_the_program_does_not_grow(tiny):
    """Twice the units, as many products; and a run of equal layers within a unit has those of one of them."""

    def products(mixer, layers):
        flags = [f"model.mixer={mixer}", f"model.layers={layers}", "model.scan_layers=true"]
        model = build_model(tiny("model.width=16", *flags), VOCAB)
        tokens = jnp.zeros((B, T), int)
        params = jax.eval_shape(model.init, jax.random.key(0), tokens)
        run = jax.jit(jax.grad(lambda p: jnp.sum(model.apply(p, tokens)[0])))
        return run.lower(params).as_text().count("dot_general")

    pairs = "kda attention"
    assert products(pairs, 8) == products(pairs, 4) == products("kda kda kda attention", 4)


def test_units(tiny):
    """Runs of equal layers, until all words repeat; none where the layers of a depth do not."""
    hybrid, channels = "model.mixer=kda kda attention", "model.channel=swiglu relu2"
    unit = lambda kinds, *flags: rolled.unit(tiny("model.layers=6", *flags).model, kinds)
    assert unit("aaaaaa") == (1,)
    assert unit("aaaaaa", hybrid) == unit("aabaab", hybrid) == (2, 1)
    assert unit("abcabc", hybrid) == (1, 1, 1)
    assert unit("aaaaaa", hybrid, channels) == (1,) * 6
    assert unit("aaaaab") == ()


@pytest.mark.parametrize("cut", [None, 1, 4])
def test_runs_within_units(cut):
    """Three equal layers and another, twice, and a layer more; where one has another shape, it stands alone."""
    add, times = lambda x, w: (x + jnp.sum(w), x), lambda x, w: (x * jnp.sum(w), x)
    layers = [add, add, add, times, add, add, add, times, add]
    given = [jnp.full(2 if i == cut else 1, i + 1.0) for i in range(9)]
    wanted, gives = rolled.run(layers, given, jnp.float32(1))
    got, gave = rolled.run(layers, given, jnp.float32(1), (3, 1))
    assert got == wanted and gave == gives
    assert len(loops(lambda x: rolled.run(layers, given, x, (3, 1))[0], 1.0)) == 1


@pytest.mark.long
def test_an_ode_repeats_while_its_schedules_do(tiny):
    words = ("model.depth=stack ode", "model.layers=4", "model.ode.speed=2")
    models, params, tokens = pair(tiny, *words)
    same = ((), (0.0, 0.5, 1.0))
    for schedule, looped in [((), 1), (same * 2, 1), ((*same, (), (0.0, 1.0)), 0)]:
        plain, rolled = (model.clone(schedule=schedule, parent=None) for model in models)
        wanted, _, said = jax.jit(plain.apply)({"params": params}, tokens)
        got, _, told = jax.jit(rolled.apply)({"params": params}, tokens)
        np.testing.assert_allclose(got, wanted, atol=1e-5)
        chex.assert_trees_all_close(told, said, atol=1e-5)
        count = [len(loops(lambda p, m=m: m.apply({"params": p}, tokens)[0], params)) for m in (plain, rolled)]
        assert (count[1] < count[0]) == looped


@pytest.mark.long
def test_what_looks_into_a_model_sees_each_layer(tiny):
    """Attention weights of each layer; second moments of its Linears; kernels kept as int8."""
    models, params, tokens = pair(tiny, "model.layers=2", "model.tie=false")
    wanted, got = (attention.maps(model, params, tokens) for model in models)
    np.testing.assert_allclose(got, wanted, atol=1e-6)
    assert np.abs(wanted[0] - wanted[1]).max() > 1e-3
    names = [path for path in paths(params) if path.endswith("kernel")]
    found = [
        capture.moments(lambda p, m=model: jnp.sum(jnp.sin(m.apply({"params": p}, tokens)[0])), params, names, B)
        for model in models
    ]
    chex.assert_trees_all_close(found[1], found[0], atol=1e-4, rtol=1e-4)
    rounded = [prepare(model, params, "int8") for model in models]
    run = [model.apply({"params": held}, tokens)[0] for model, held in rounded]
    np.testing.assert_allclose(run[1], run[0], atol=1e-5)
