"""Laws of recursive models: what is seen by whom, what a carry is, where gradients go. The arrays of the authors' code
are in tests/objectives/test_recursive.py."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import build
from juliagpt_jax.models.layers import linears
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.models.recursive import CORES, Carry, Recursive, SwiGLU

OWN = ["model.kind=recursive", "train.objective=recursive", "data.puzzle.kind=sudoku", "model.tie=False"]
SMALL = ["model.recursive.inner=2", "model.recursive.outer=2", "model.recursive.slots=2", "model.recursive.multiple=8"]
TOKENS = jnp.asarray(np.random.default_rng(0).integers(5, size=(3, 16)))


def made(tiny, *overrides):
    model = build.build_model(tiny(*OWN, *SMALL, *overrides), 5)
    assert isinstance(model, Recursive)
    params = model.init(jax.random.key(0), TOKENS[:, :2])["params"]
    rng = np.random.default_rng(1)  # as the halting head and the embeddings of puzzles begin at 0
    for name in ("halt", "ids"):
        params[name] = jnp.asarray(rng.normal(size=params[name].shape), jnp.float32)
    return model, {"params": params}


DEAR = pytest.param("kda kda kda attention", marks=pytest.mark.long)
ALL = [pytest.param(core, marks=pytest.mark.long) if core == "kda" else core for core in CORES]


@pytest.mark.parametrize("core", [*ALL, DEAR])
def test_two_calls_are_a_call_from_a_carry_and_rows_are_alone(core, tiny):
    model, weights = made(tiny, f"model.recursive.core={core}", f"model.layers={len(core.split())}")
    run = jax.jit(model.apply)
    logits, carry, aux = run(weights, TOKENS)
    assert logits.shape == (3, 16, 5) and aux["halt"].shape == (3,) and np.isfinite(logits).all()
    again, _, _ = run(weights, TOKENS, None, carry)
    assert np.abs(np.asarray(again) - np.asarray(logits)).max() > 1e-3
    fresh = jnp.array([False, True, False])
    mixed, _, _ = run(weights, TOKENS, None, carry, fresh)
    np.testing.assert_allclose(mixed, jnp.where(fresh[:, None, None], logits, again), atol=1e-6)
    other = TOKENS.at[1].set(4 - TOKENS[1])
    np.testing.assert_allclose(run(weights, other)[0][0], logits[0], atol=1e-6)


@pytest.mark.parametrize(
    "core, more, ahead, behind",
    [
        ("attention", "model.recursive.both_ways=True", True, True),
        ("mlp_t", "model.recursive.both_ways=True", True, True),
        pytest.param("kda", "model.recursive.both_ways=True", True, True, marks=pytest.mark.long),
        pytest.param("kda", "model.recursive.both_ways=False", False, True, marks=pytest.mark.long),
    ],
)
def test_which_places_see_which(core, more, ahead, behind, tiny):
    model, weights = made(tiny, f"model.recursive.core={core}", more, "model.layers=1")
    run = jax.jit(model.apply)
    logits, changed = run(weights, TOKENS)[0], run(weights, TOKENS.at[:, 8].set((TOKENS[:, 8] + 1) % 5))[0]
    moved = np.abs(np.asarray(changed) - np.asarray(logits)).max((0, 2)) > 1e-6
    assert moved[:8].any() == ahead and moved[9:].any() == behind and moved[8]


def test_the_gradient_is_of_the_last_cycle_alone(tiny):
    """As one cycle from where the others ended, these held fixed."""
    model, weights = made(tiny, "model.recursive.outer=3", "model.recursive.inner=1", "model.layers=1")
    first = model.clone(config=_outer(model, 2), parent=None)
    last = model.clone(config=_outer(model, 1), parent=None)
    begun = jax.jit(first.apply)(weights, TOKENS)[1]
    loss = lambda model, carry: lambda weights: jnp.sum(jnp.sin(model.apply(weights, TOKENS, None, carry)[0]))
    whole, tail = (jax.jit(jax.grad(loss(*given)))(weights) for given in ((model, None), (last, begun)))
    for path, grad in paths(whole).items():
        np.testing.assert_allclose(grad, paths(tail)[path], atol=1e-5 * max(1, np.abs(grad).max()), err_msg=path)
    assert not any(np.any(whole["params"][name]) for name in ("start_high", "start_low"))


def _outer(model, cycles):
    own = dataclasses.replace(model.config.recursive, outer=cycles)
    return dataclasses.replace(model.config, recursive=own)


def test_remat_changes_no_number(tiny):
    model, weights = made(tiny, "model.recursive.inner=1", "model.layers=1")
    loss = lambda model: jax.jit(jax.grad(lambda w: jnp.sum(jnp.sin(model.apply(w, TOKENS)[0]))))(weights)
    for one, other in zip(
        *map(jax.tree.leaves, (loss(model), loss(model.clone(remat=True, parent=None)))), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_puzzle_is_known_by_its_embedding(tiny):
    model, weights = made(tiny, "model.recursive.ids=3")
    apply = jax.jit(model.apply)
    run = lambda *ids: np.asarray(apply(weights, TOKENS, jnp.array(ids))[0])
    one, other = run(0, 1, 2), run(0, 2, 2)
    np.testing.assert_array_equal(one[[0, 2]], other[[0, 2]])
    assert np.abs(one[1] - other[1]).max() > 1e-4
    blank = {"params": weights["params"] | {"ids": jnp.zeros((3, 32))}}
    unknown = run(-1, 3, 0)
    np.testing.assert_array_equal(unknown[:2], apply(blank, TOKENS, jnp.zeros(3, int))[0][:2])


@pytest.mark.parametrize(
    "override, says",
    [
        ("model.dropout=0.1", "model.dropout"),
        ("model.word_dropout=0.1", "model.word_dropout"),
        ("model.positions=learned", "model.positions: learned is of decoders; a recursive model has rotary or none"),
        ("model.norm=layer", "model.norm"),
        ("model.mixer=monarch", "model.mixer"),
        ("model.mask=window", "model.mask"),
        ("model.channel=moe", "model.channel"),
        ("model.unet=True", "model.unet"),
        ("model.x0_skip=True", "model.x0_skip"),
        ("model.value_embedding=x0", "model.value_embedding"),
        ("model.scan_layers=True", "model.scan_layers"),
        ("model.recursive.core=atention", "did you mean attention"),
    ],
)
def test_what_it_does_not_have_is_refused(override, says, tiny):
    with pytest.raises(UserError, match=says):
        build.check(tiny(*OWN, override))


def test_kinds_that_do_not_go_together_are_refused(tiny):
    for some in (OWN[:1], OWN[1:2], OWN[2:3], OWN[:2]):
        with pytest.raises(UserError, match="go together"):
            tiny(*some)
    with pytest.raises(UserError, match="kfac"):
        tiny(*OWN, "train.optimizer=kfac")


@pytest.mark.parametrize("core", ALL)
def test_with_zero_init_a_layer_is_its_norms(core, tiny):
    """Without it a plain stack of twelve layers does not start to learn (experiments/recursion)."""
    for zero in (True, False):
        model, _ = made(tiny, f"model.recursive.core={core}", f"model.zero_init={zero}", "model.layers=1")
        x = jax.random.normal(jax.random.key(0), (2, 18, 32))
        (layer,) = model.layers()
        y, _ = layer.init_with_output(jax.random.key(1), x)
        same = np.abs(np.asarray(y - x / jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True)))).max()
        assert same < 1e-4 if zero else same > 0.01, same


def test_without_a_low_state_it_is_a_plain_stack(tiny):
    model, weights = made(tiny, "model.recursive.inner=0", "model.recursive.outer=1", "model.layers=1")
    drawn = np.random.default_rng(2).normal
    carry = Carry(*(jnp.asarray(drawn(size=part.shape), jnp.float32) for part in model.begin(3)))
    run = jax.jit(lambda carry: model.apply(weights, TOKENS, None, carry)[0])
    np.testing.assert_array_equal(run(carry), run(carry._replace(low=-carry.low)))
    assert np.abs(run(carry) - run(carry._replace(high=-carry.high))).max() > 1e-3
    question = jax.jit(lambda tokens: model.apply(weights, tokens, None, carry)[0])
    assert np.abs(question(TOKENS) - question(4 - TOKENS)).max() > 1e-3


def test_latents_are_models_that_begin_otherwise(tiny):
    """Each gives the logits of a model with its beginning alone, over two calls; the most trusted one is returned."""
    model, weights = made(tiny, "model.recursive.latents=2", "model.layers=1", "model.recursive.inner=1")
    single, _ = made(tiny, "model.layers=1", "model.recursive.inner=1")
    run, alone = jax.jit(model.apply), jax.jit(single.apply)
    logits, carry, aux = run(weights, TOKENS)
    fresh = jnp.array([True, False, False])
    more = run(weights, TOKENS, None, carry, fresh)[2]
    for k in range(2):
        own = {"params": weights["params"] | {"start_low": weights["params"]["start_low"][k]}}
        mine, held, halt = alone(own, TOKENS)
        np.testing.assert_allclose(aux["each"][:, k], mine, atol=1e-5)
        np.testing.assert_allclose(aux["halts"][:, k], halt["halt"], atol=1e-5)
        np.testing.assert_allclose(more["each"][:, k], alone(own, TOKENS, None, held, fresh)[0], atol=1e-5)
    assert np.abs(aux["each"][:, 0] - aux["each"][:, 1]).max() > 1e-3
    best = np.argmax(aux["halts"], axis=1)
    np.testing.assert_array_equal(
        logits, np.take_along_axis(np.asarray(aux["each"]), best[:, None, None, None], 1)[:, 0]
    )
    np.testing.assert_array_equal(aux["halt"], np.max(aux["halts"], axis=1))


def test_a_normalised_gate(tiny):
    model, _ = made(tiny, "model.recursive.gate=normalised")
    x = jnp.asarray(np.random.default_rng(3).normal(size=(2, 5, 32)), jnp.float32)
    layer = SwiGLU(model.config, linears(model.config))
    params = layer.init(jax.random.key(1), x)["params"]
    gate, up, down = (np.asarray(params[name]["kernel"], np.float64) for name in ("gate", "up", "down"))
    product = (x @ gate) * (x @ up)
    product = product / np.sqrt((product**2).mean(-1, keepdims=True) + model.config.norm_eps)
    wanted = product / (1 + np.exp(-(x @ gate))) @ down
    np.testing.assert_allclose(layer.apply({"params": params}, x), wanted, atol=1e-5)


def test_phases_grow_and_end_with_the_model(tiny):
    settings = tiny(*OWN, *SMALL, "train.recursive.growth=0x1 2x1", "train.steps=10")
    model = build.build_model(settings, 5)
    phases = build.phases(settings, model)
    assert [begin for begin, _ in phases] == [0, 3, 6] and phases[-1][1] is model
    assert [(own.config.recursive.inner, own.config.recursive.outer) for _, own in phases] == [(0, 1), (2, 1), (2, 2)]
    with pytest.raises(UserError, match="growth"):
        tiny(*OWN, "train.recursive.growth=2x0")
