"""The train step: the same numbers however the batch is cut, scaled or spread; and no bad number ever gets in."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.ground import devices
from juliagpt_jax.models import adapters
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.training import optimizers, schedules, step
from juliagpt_jax.training.mesh import batch_sharding, make_mesh, shardings
from juliagpt_jax.training.state import INITIAL_SCALE, Frozen, initial_state
from juliagpt_jax.training.step import GROWTH_INTERVAL

VOCAB, T = 13, 16
SLOW = ("train.lr=2e-5", "train.min_lr=0.0")
FAST = ("train.lr=0.01", "train.clip=0.1")


@pytest.fixture(scope="module")
def tiny(tiny):
    """One block: every test compiles a train step."""
    return lambda *overrides: tiny("model.layers=1", *overrides)


@functools.lru_cache
def machine(config):
    """A config's train step (compiled once for all tests) and its first state, on the host."""
    model = build_model(config, VOCAB)
    mesh = devices.make_mesh(config.mesh, config.train.batch_size // config.train.accumulate)
    run = step.make_train_step(config, model, mesh)
    make = lambda: initial_state(config, model)
    state = jax.device_get(jax.jit(make, out_shardings=shardings(jax.eval_shape(make), mesh))())
    places = shardings(state, mesh), batch_sharding(mesh)

    def one(state, batch):
        """A step; the state given stays usable, because it is copied to the devices first."""
        return run(*jax.device_put((state, batch), places), Frozen())

    return one, state


def batch(seed: int = 0, rows: int = 4):
    rng = np.random.default_rng(seed)
    text = rng.integers(VOCAB, size=(rows, T + 1), dtype=np.int32)
    return Batch(text[:, :-1], text[:, 1:])


def ragged(seed: int = 0):
    """A batch in which rows have 16, 3, 1 and 9 scored targets, not all at the front."""
    inputs, targets, *_ = batch(seed)
    targets = targets.copy()
    targets[1, 3:], targets[2, :15], targets[3, 4:11] = IGNORED, IGNORED, IGNORED
    return Batch(inputs, targets)


def bad_batch():
    """Weights that are no numbers: the mean loss is none."""
    inputs, targets, *_ = batch()
    return Batch(inputs, targets, np.full((len(inputs), 1), np.nan, np.float32))


def train(config, batches, state=None):
    one, first = machine(config)
    state = first if state is None else state
    for given in batches:
        state, metrics = one(state, given)
    return jax.device_get((state, metrics))


def largest_change(ours, theirs):
    return max(np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True))


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


# One batch, however it is cut.


@pytest.mark.parametrize("make", [batch, ragged])
@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation(parts, make, tiny):
    """1 x N rows and N x 1 rows: the same parameters, moments (so the same gradient), loss and gradient norm.

    Adam divides a gradient of 1e-8 by its own size, rounding included; a small learning rate keeps that out of the law.
    """
    whole, cut = (train(tiny(f"train.accumulate={n}", *SLOW), [make()]) for n in (1, parts))
    chex.assert_trees_all_close(cut[0].params, whole[0].params, atol=1e-6, rtol=0)
    chex.assert_trees_all_close(cut[0].opt_state, whole[0].opt_state, atol=1e-6, rtol=0)
    assert largest_change(whole[0].params, machine(tiny(*SLOW))[1].params) > 5e-6, "it moves"
    for key in ("loss", "grad_norm"):
        np.testing.assert_allclose(cut[1][key], whole[1][key], rtol=1e-6)


def test_loss_is_the_mean_over_scored_targets(tiny):
    """Beside the model itself: the sum over all the batch divided by the count of all its targets."""
    config = tiny(*SLOW)
    model, (_, state) = build_model(config, VOCAB), machine(config)
    inputs, targets, *_ = ragged()
    log = jax.nn.log_softmax(jax.jit(model.apply)({"params": state.params}, inputs)[0])
    picked = [-float(log[b, t, targets[b, t]]) for b in range(4) for t in range(T) if targets[b, t] != IGNORED]
    assert len(picked) == 16 + 3 + 1 + 9
    _, metrics = train(config, [Batch(inputs, targets)])
    np.testing.assert_allclose(metrics["loss"], np.mean(picked), rtol=1e-6)


def test_loss_scale(tiny):
    """1 == 1024, in float32."""
    config = tiny(*SLOW)
    _, state = machine(config)
    one, scaled = (train(config, [ragged()], state._replace(scale=np.float32(s))) for s in (1, 1024))
    chex.assert_trees_all_close(scaled[0][:2], one[0][:2], atol=1e-6, rtol=0)
    np.testing.assert_allclose(scaled[1]["loss"], one[1]["loss"], rtol=1e-6)
    np.testing.assert_allclose(scaled[1]["grad_norm"], one[1]["grad_norm"], rtol=1e-5)


@pytest.mark.parametrize("data, model", [(4, 1), (2, 2), (1, 4)])
def test_four_devices(data, model, tiny):
    """As on one device, and with mesh.model > 1 each device holds a part of every matrix and of its moments."""
    batches = [batch(0), ragged(1)]
    config = tiny(f"mesh.data={data}", f"mesh.model={model}", *SLOW)
    state, metrics = train(config, batches)
    wanted, wanted_metrics = train(tiny(*SLOW), batches)
    chex.assert_trees_all_close(state.params, wanted.params, atol=1e-5, rtol=0)
    chex.assert_trees_all_close(state.opt_state, wanted.opt_state, atol=1e-6, rtol=0)
    assert largest_change(wanted.params, machine(config)[1].params) > 2e-5, "it moves"
    for key in ("loss", "grad_norm"):
        np.testing.assert_allclose(metrics[key], wanted_metrics[key], rtol=1e-5)
    one, first = machine(config)
    spread, _ = one(first, batches[0])
    big = 0
    for leaf in jax.tree.leaves((spread.params, spread.opt_state)):
        assert len(leaf.sharding.device_set) == 4
        shard = leaf.addressable_shards[0].data
        if leaf.ndim == 2:
            big += 1
            assert shard.size * model == leaf.size
    assert big == 3 * (1 + 7), "the embedding and seven kernels, and two moments of each"


@pytest.mark.parametrize("data, model", [(2, 1), (1, 2)])
def test_accumulation_on_several_devices(data, model, tiny):
    several = train(tiny(f"mesh.data={data}", f"mesh.model={model}", "train.accumulate=2", *SLOW), [ragged()])
    one = train(tiny(*SLOW), [ragged()])
    chex.assert_trees_all_close(several[0][:2], one[0][:2], atol=1e-6, rtol=0)
    for key in ("loss", "grad_norm"):  # clipping and Adam hide a factor from the parameters
        np.testing.assert_allclose(several[1][key], one[1][key], rtol=1e-5)


DROPOUTS = "model.dropout=0.2", "model.word_dropout=0.5"


def test_two_runs_are_the_same_bits(tiny):
    config = tiny("model.dropout=0.2")
    one, two = (train(config, [batch(0), batch(1), batch(2)]) for _ in range(2))
    assert bits(one) == bits(two)


@pytest.mark.parametrize("knob", DROPOUTS)
def test_dropout_depends_on_the_step(knob, tiny):
    config = tiny(knob)
    _, state = machine(config)
    losses = [float(train(config, [batch()], state._replace(step=np.int32(n)))[1]["loss"]) for n in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]
    # ... and on the seed, with the same parameters
    other = tiny(knob, "seed=43")
    assert float(train(other, [batch()], state)[1]["loss"]) != losses[0]


@pytest.mark.parametrize("knob", DROPOUTS)
def test_dropout_differs_from_micro_batch_to_micro_batch(knob, tiny):
    """Four equal rows, one a micro-batch: with one mask for all, the loss would be that of each."""
    inputs, targets = (np.repeat(a[:1], 4, axis=0) for a in batch()[:2])
    config = tiny(knob, "train.accumulate=4")
    only = [np.where(np.arange(4)[:, None] == row, targets, IGNORED) for row in range(4)]
    losses = [float(train(config, [Batch(inputs, t)])[1]["loss"]) for t in only]
    assert len(set(losses)) == 4


# What a step does.


def test_one_step_is_the_optimizer_on_the_gradient(tiny):
    config = tiny(*FAST)
    model, (_, state) = build_model(config, VOCAB), machine(config)
    inputs, targets, *_ = ragged()
    scored = targets != IGNORED

    def loss(params):
        log = jax.nn.log_softmax(model.apply({"params": params}, inputs)[0])
        return -jnp.mean(jnp.take_along_axis(log, np.where(scored, targets, 0)[..., None], axis=-1)[scored])

    value, grads = jax.jit(jax.value_and_grad(loss))(state.params)
    optimizer = optimizers.OPTIMIZERS["adamw"](config.train, state.params)
    updates, opt_state = jax.jit(optimizer.update)(grads, optimizer.init(state.params), state.params)
    lr = float(schedules.learning_rate(config)(0))
    after, metrics = train(config, [Batch(inputs, targets)])
    # Adam's first step is nearly the gradient's sign, so an element near zero carries its rounding into the parameter.
    wanted = optimizers.descend(config.train, state.params, updates, lr, lr * config.train.weight_decay)
    chex.assert_trees_all_close(after.params, wanted, atol=5e-5)
    chex.assert_trees_all_close(after.opt_state, jax.device_get(opt_state), atol=1e-6)
    norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in jax.tree.leaves(jax.device_get(grads))))
    assert norm > 0.1, "it is clipped"
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["lr"], lr, rtol=1e-6)
    assert after.step == 1 and metrics["skipped"] == 0 == metrics["bad_in_row"] and metrics["bad_leaf"] == -1
    for name, metric in metrics.items():
        chex.assert_shape(metric, (), custom_message=name)


def test_the_learning_rate_follows_the_schedule(tiny):
    config = tiny(*SLOW)
    _, state = machine(config)
    for at in (0, 1, 2, 11, 19):
        _, metrics = train(config, [batch()], state._replace(step=np.int32(at)))
        np.testing.assert_allclose(metrics["lr"], float(schedules.learning_rate(config)(at)), rtol=1e-6)


def test_remat_trains_the_same(tiny):
    again, plain = (train(tiny(f"train.remat={r}", *SLOW), [batch()])[0] for r in ("true", "false"))
    chex.assert_trees_all_close((again.params, again.opt_state), (plain.params, plain.opt_state), atol=1e-6, rtol=0)


def test_averaged_weights(tiny):
    """averaged <- decay * averaged + (1 - decay) * params, from the first weights on, without touching the raw ones."""
    config = tiny("train.ema=0.75", *FAST)
    _, state = machine(config)
    wanted = jax.tree.map(lambda p: p.astype(np.float64), state.params)
    assert bits(state.averaged) == bits(state.params)
    for n in range(3):
        state, _ = train(config, [batch(n)], state)
        wanted = jax.tree.map(lambda e, p: 0.75 * e + 0.25 * p.astype(np.float64), wanted, state.params)
    chex.assert_trees_all_close(state.averaged, jax.tree.map(np.float32, wanted), atol=1e-6)
    assert np.abs(state.averaged["embedding"] - state.params["embedding"]).max() > 1e-3
    raw, _ = train(tiny(*FAST), [batch(n) for n in range(3)])
    assert raw.averaged == ()
    chex.assert_trees_all_close(raw.params, state.params, atol=1e-6, rtol=0)


# Bad numbers.


def poisoned(params, path, value):
    """The same parameters with one number of one of them replaced."""
    return jax.tree_util.tree_map_with_path(
        lambda p, leaf: (
            np.where(np.arange(leaf.size).reshape(leaf.shape) == 5, np.float32(value), leaf)
            if jax.tree_util.keystr(p, simple=True, separator="/") == path
            else leaf
        ),
        params,
    )


@pytest.mark.parametrize("path", ["embedding", "block_0/channel/down/kernel", "block_0/mixer_norm/scale"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_a_bad_parameter_changes_nothing(path, value, tiny):
    """Parameters, moments and averages keep every bit; the step is counted."""
    config = tiny("train.ema=0.75", *FAST)
    _, state = machine(config)
    state, _ = train(config, [batch()], state)  # moments that are not zero
    state = state._replace(params=poisoned(state.params, path, value))
    after, metrics = train(config, [batch(1)], state)
    kept = ("params", "opt_state", "averaged", "scale")
    assert {k: bits(getattr(after, k)) for k in kept} == {k: bits(getattr(state, k)) for k in kept}
    assert (after.step, after.skipped, after.bad_in_row) == (2, 1, 1)
    assert (metrics["skipped"], metrics["bad_in_row"]) == (1, 1)
    assert metrics["bad_leaf"] >= 0


def test_bad_steps_are_counted_and_a_good_one_ends_the_row(tiny):
    config = tiny(*SLOW)
    _, state = machine(config)
    rows = []
    for given in (bad_batch(), bad_batch(), batch(), bad_batch(), batch(1), batch(2)):
        state, metrics = train(config, [given], state)
        assert (metrics["skipped"], metrics["bad_in_row"]) == (state.skipped, state.bad_in_row)
        rows.append((int(state.step), int(state.skipped), int(state.bad_in_row)))
    assert rows == [(1, 1, 1), (2, 2, 2), (3, 2, 0), (4, 3, 1), (5, 3, 0), (6, 3, 0)]
    # Skipping a step is as if its batch had not been: only the step's number goes on.
    _, first = machine(config)
    for n, at in enumerate((2, 4, 5)):
        first, _ = train(config, [batch(n)], first._replace(step=np.int32(at)))
    assert bits((first.params, first.opt_state)) == bits((state.params, state.opt_state))


def test_the_first_bad_gradient_is_named(tiny):
    """With a head of zeros no gradient passes it; a loss scale near the end of float32 overflows in the head alone."""
    config = tiny("model.tie=false")
    _, state = machine(config)
    params = state.params | {"head": 0 * state.params["head"], "norm": {"scale": state.params["norm"]["scale"] * 1e4}}
    state = state._replace(params=params, scale=np.float32(1e38))
    after, metrics = train(config, [batch()], state)
    assert list(paths(params))[metrics["bad_leaf"]] == "head"
    assert np.isfinite(metrics["loss"]) and after.skipped == 1
    assert bits((after.params, after.opt_state)) == bits((state.params, state.opt_state))


# float16 and its loss scale.


@pytest.fixture
def f16(tiny):
    return tiny("train.precision=f16")


def test_f16_trains_near_f32(f16, tiny):
    half, full = (train(config, [batch(0)]) for config in (f16, tiny(*SLOW)))
    assert half[1]["skipped"] == 0 and half[1]["scale"] == INITIAL_SCALE
    assert full[1]["scale"] == 1
    np.testing.assert_allclose(half[1]["loss"], full[1]["loss"], rtol=2e-3)
    np.testing.assert_allclose(half[1]["grad_norm"], full[1]["grad_norm"], rtol=2e-2)
    chex.assert_type(jax.tree.leaves(half[0].params), jnp.float32)


def test_f16_overflow_halves_the_scale_and_skips(f16):
    _, state = machine(f16)
    state = state._replace(scale=np.float32(2.0**30), good=np.int32(7))
    after, metrics = train(f16, [batch()], state)
    assert (after.scale, after.good, after.skipped, after.bad_in_row) == (2.0**29, 0, 1, 1)
    assert np.isfinite(metrics["loss"]), "it is the gradient that overflows"
    assert bits((after.params, after.opt_state)) == bits((state.params, state.opt_state))
    steps = 0
    while after.bad_in_row:
        after, _ = train(f16, [batch()], after)
        steps += 1
    assert 0 < steps < 25 and after.scale == 2.0 ** (30 - steps), "it comes down until the gradient fits"


def test_f16_scale_grows_after_good_steps(f16):
    _, state = machine(f16)
    rows = []
    state = state._replace(scale=np.float32(8), good=np.int32(GROWTH_INTERVAL - 2))
    for n in range(3):
        state, _ = train(f16, [batch(n)], state)
        rows.append((float(state.scale), int(state.good)))
    assert rows == [(8, GROWTH_INTERVAL - 1), (16, 0), (16, 1)]


def test_f16_scale_is_never_below_one(f16):
    _, state = machine(f16)
    after, _ = train(f16, [bad_batch()] * 2, state._replace(scale=np.float32(1.5)))
    assert after.scale == 1


def test_bf16_needs_no_scale(tiny):
    state, metrics = train(tiny("train.precision=bf16"), [batch(0), bad_batch()])
    assert metrics["scale"] == 1 and state.skipped == 1
    chex.assert_type(jax.tree.leaves(state.params), jnp.float32)


@pytest.mark.long
def test_a_program_does_not_grow_with_the_square_of_its_leaves(tiny):
    """What is known of all leaves, such as that they are finite, is computed once, not in the update of each."""
    settings = tiny("model.layers=2", "adapter.rank=2", "train.init=base")
    model = build_model(settings, VOCAB)
    state = jax.eval_shape(lambda: initial_state(settings, model))
    whole = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"])
    frozen = Frozen(adapters.split(whole, adapters.adapters)[1])
    tokens = jnp.zeros((4, T), jnp.int32)
    made = step.make_train_step(settings, model, make_mesh(settings), None, state, frozen)
    program = made.lower(state, Batch(tokens, tokens), frozen).compile().as_text()
    leaves = len(jax.tree.leaves(state.params))
    assert leaves == 28 and program.count("pred[] and(") < 10 * leaves
