"""K-FAC: its solve and its steps beside naive ones; the Fisher matrix it measures; the train step around it."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models import capture
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.store import checkpoint
from juliagpt_jax.training import kfac, optimizers, step
from juliagpt_jax.training.mesh import batch_sharding, make_mesh, shardings
from juliagpt_jax.training.state import Frozen, from_items, initial_state, items

VOCAB, T = 13, 8
KFAC = ("train.optimizer=kfac", "train.lr=0.05", "train.adam_lr=0.003", "train.weight_decay=0.01", "train.warmup=0")
KFAC += ("train.kfac.damping=1e-3",)
ONE = (
    "model.width=16",
    "model.layers=1",
    "model.context=8",
    "train.kfac.factors_every=2",
    "train.kfac.inverse_every=2",
)


def positive(rng, *shape):
    root = rng.normal(size=(*shape, shape[-1] + 2))
    return root @ root.swapaxes(-1, -2)


# The rule, on one weight.


@pytest.mark.parametrize("blocks", [(), (3,)], ids=["Linear", "Monarch"])
def test_the_solve_is_that_of_the_dense_damped_matrix(blocks):
    """(A + pi sqrt(d) I) x (B + sqrt(d) / pi I), row-major; and pi makes it blind to how a scale is split."""
    rng, damping = np.random.default_rng(0), 0.3
    a, b = positive(rng, *blocks, 4), 7 * positive(rng, *blocks, 5)
    gradient = rng.normal(size=(*blocks, 5, 4) if blocks else (4, 5))
    with jax.enable_x64(True):
        inverses = lambda *pair: kfac.damped_inverses(kfac.Factors(*map(jnp.asarray, pair)), damping)
        found = np.asarray(kfac.solve(jnp.asarray(gradient), inverses(a, b)))
        split = np.asarray(kfac.solve(jnp.asarray(gradient), inverses(a * 50, b / 50)))
    np.testing.assert_allclose(split, found, rtol=1e-10)
    whole = lambda m: m.reshape(-1, *m.shape[-2:])
    for g, left, right, got in zip(*map(whole, (gradient, a, b, found)), strict=True):
        pi = np.sqrt((np.trace(left) / 4) / (np.trace(right) / 5))
        damped = left + pi * np.sqrt(damping) * np.eye(4), right + np.sqrt(damping) / pi * np.eye(5)
        dense = np.kron(*damped[::-1]) if blocks else np.kron(*damped)
        np.testing.assert_allclose(got.ravel(), np.linalg.solve(dense, g.ravel()), rtol=1e-9)


def test_a_layer_without_a_gradient_has_finite_inverses():
    """As behind a projection that starts at zero."""
    found = kfac.damped_inverses(kfac.Factors(jnp.eye(3), jnp.zeros((2, 2))), 1e-3)
    chex.assert_tree_all_finite(found)
    np.testing.assert_allclose(found.inputs[0, 0] * found.outputs[0, 0], 1e3, rtol=1e-2)


@pytest.mark.parametrize(("factors_every", "inverse_every", "kl"), [(1, 1, 0.0), (2, 3, 1e-3)])
def test_steps(factors_every, inverse_every, kl, tiny):
    """Seven of them beside a naive form in float64: means, damping, momentum, trust region, and what is done when."""
    flags = [f"train.kfac.factors_every={factors_every}", f"train.kfac.inverse_every={inverse_every}"]
    train = tiny(*KFAC, *flags, f"train.kfac.kl={kl}", "train.kfac.ema=0.6", "train.beta1=0.8").train
    rng, lr = np.random.default_rng(1), 0.07
    weights = {"one": {"kernel": rng.normal(size=(4, 5))}, "two": {"kernel": rng.normal(size=(3, 2))}}
    rule, mean, state = kfac.scale_by_kfac(train), {}, None
    factors, inverse, shortened = {}, {}, 0
    with jax.enable_x64(True):
        weights = jax.tree.map(jnp.asarray, weights)
        state = rule.init(weights)
        for t in range(7):
            grads = {path: rng.normal(size=w.shape) for path, w in paths(weights).items()}
            seen = {path: (positive(rng, g.shape[0]), positive(rng, g.shape[1])) for path, g in grads.items()}
            tree = {path.split("/")[0]: {"kernel": jnp.asarray(g)} for path, g in grads.items()}
            measure = lambda seen=seen: {path: kfac.Factors(*map(jnp.asarray, pair)) for path, pair in seen.items()}
            found, state = rule.update(tree, state, measure=measure, lr=lr)

            wanted, size = {}, 0
            for path, g in grads.items():
                if t % factors_every == 0:
                    n = t // factors_every
                    keep = min(n / (n + 1), 0.6)
                    old = factors.get(path, (0, 0))
                    factors[path] = [keep * o + (1 - keep) * new for o, new in zip(old, seen[path], strict=True)]
                if t % inverse_every == 0:
                    a, b = factors[path]
                    pi = np.sqrt(np.trace(a) / len(a) / (np.trace(b) / len(b)))
                    root = np.sqrt(train.kfac.damping)
                    inverse[path] = [np.linalg.inv(m + d * np.eye(len(m))) for m, d in ((a, pi * root), (b, root / pi))]
                mean[path] = 0.8 * mean.get(path, 0) + 0.2 * g
                m = mean[path] / (1 - 0.8 ** (t + 1))
                wanted[path] = inverse[path][0] @ m @ inverse[path][1]
                size += np.sum(wanted[path] * m)
            trust = min(1, np.sqrt(kl / size) / lr) if kl else 1
            shortened += trust < 1
            np.testing.assert_allclose(state.trust, trust, rtol=1e-6)
            for path, d in paths(found).items():
                np.testing.assert_allclose(d, trust * wanted[path], rtol=1e-5, atol=1e-7, err_msg=f"{path}, step {t}")
    assert bool(shortened) == bool(kl)


def test_what_cannot_be_inverted_is_not_applied(tiny):
    """A factor that rounding leaves without a root, or that is not finite: the step says so."""
    train = tiny(*KFAC, "train.kfac.damping=1e-30").train
    rule, weights = kfac.scale_by_kfac(train), {"kernel": jnp.ones((2, 2))}
    trusts = []
    for a in (jnp.eye(2), jnp.array([[1.0, 1.0], [1.0, 1.0]]), jnp.eye(2) * jnp.inf):
        seen = {"kernel": kfac.Factors(a, jnp.eye(2))}
        trusts.append(float(rule.update(weights, rule.init(weights), measure=lambda seen=seen: seen)[1].trust))
    assert np.isfinite(trusts).tolist() == [True, False, False]


# The train step.


@functools.lru_cache
def machine(settings, vocab=VOCAB):
    """A config's compiled train step and its first state, on the host."""
    model = build_model(settings, vocab)
    mesh = make_mesh(settings)
    run = step.make_train_step(settings, model, mesh)
    make = lambda: initial_state(settings, model)
    state = jax.device_get(jax.jit(make, out_shardings=shardings(jax.eval_shape(make), mesh))())
    places = shardings(state, mesh), batch_sharding(mesh)
    return (lambda state, batch: run(*jax.device_put((state, batch), places), Frozen())), state


def batch(seed=0, ragged=False):
    text = np.random.default_rng(seed).integers(VOCAB, size=(4, T + 1), dtype=np.int32)
    inputs, targets = text[:, :-1], text[:, 1:].copy()
    if ragged:
        targets[1, 3:], targets[3, :6] = IGNORED, IGNORED
    return Batch(inputs, targets)


def train(settings, batches, state=None):
    one, first = machine(settings)
    state = first if state is None else state
    for given in batches:
        state, metrics = one(state, given)
    return jax.device_get((state, metrics))


def measured(state):
    """{path: Factors}"""
    factors = optax.tree.get(state.opt_state, "factors")
    is_factors = lambda x: isinstance(x, kfac.Factors)
    flat = jax.tree_util.tree_leaves_with_path(factors, is_leaf=is_factors)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): f for path, f in flat if is_factors(f)}


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def test_the_sampled_fisher_matrix_is_the_exact_one_in_expectation(tiny):
    """B over many draws beside the sum over all labels of each loss by itself, weighed by their probabilities.

    3.5 sigma for two numbers of each Linear; A exactly. With unscored targets and a loss scale.
    """
    settings = tiny(*KFAC, *ONE)
    one, first = machine(settings)
    model, (inputs, targets, *_) = build_model(settings, VOCAB), batch(ragged=True)
    names, scored = list(measured(first)), targets != IGNORED

    def single(place, label):
        """The losses at one position of each row: two positions that share a draw would have cross terms."""

        def loss(p):
            log = jax.nn.log_softmax(model.apply({"params": p}, inputs)[0])[:, place, label]
            return -jnp.sum(jnp.where(scored[:, place], log * jnp.sqrt(jnp.exp(jax.lax.stop_gradient(log))), 0))

        return capture.moments(loss, first.params, names, 4)

    places, labels = np.divmod(np.arange(T * VOCAB), VOCAB)
    scored = jnp.asarray(scored)
    exact = jax.device_get(jax.jit(lambda: jax.lax.map(lambda x: single(*x), (places, labels)))())
    draws = []
    for n in range(60):
        after, _ = one(first._replace(step=np.int32(n), scale=np.float32(1024)), Batch(inputs, targets))
        draws.append({name: np.asarray(f.outputs) for name, f in measured(after).items()})
    for name, f in measured(after).items():
        np.testing.assert_allclose(f.inputs, exact[name].inputs[0] / inputs.size, rtol=1e-4, atol=1e-6)
        wanted = exact[name].outputs.sum(axis=0, dtype=np.float64) / float(scored.sum())
        for number in (np.trace, np.sum):
            found = [number(d[name]) for d in draws]
            error = np.std(found, ddof=1) / np.sqrt(len(found))
            assert error < 0.1 * np.trace(wanted)
            assert abs(np.mean(found) - number(wanted)) < 3.5 * error, (name, number)


def test_however_the_batch_is_cut(tiny):
    """Micro-batches, devices, sharded weights: the same factors, labels drawn alike, and the same parameters."""
    batches, cut = [batch(0), batch(1, ragged=True), batch(2)], ("train.accumulate=2", "mesh.model=2")
    plain, other = (train(tiny(*KFAC, *ONE, *more), batches)[0] for more in ((), cut))
    for name, f in measured(plain).items():
        for ours, theirs in zip(measured(other)[name], f, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max(), err_msg=name)
    chex.assert_trees_all_close(other.params, plain.params, atol=2e-4)
    first = machine(tiny(*KFAC, *ONE))[1].params
    moved = lambda p, q: float(np.abs(p - q).max())
    assert min(map(moved, jax.tree.leaves(plain.params), jax.tree.leaves(first))) > 2e-3


def test_a_bad_number_changes_nothing(tiny):
    """No gradient shows it where it is in a factor; each bit stays, and a good step ends the row."""
    settings = tiny(*KFAC, *ONE)
    state, metrics = train(settings, [batch(0)])
    assert 0 < metrics["trust"] <= 1
    poison = lambda path, leaf: leaf * np.float32(np.nan) if "gate" in path and "/factors/" in path else leaf
    names = paths(state.opt_state)
    bad = jax.tree.unflatten(jax.tree.structure(state.opt_state), [poison(p, x) for p, x in names.items()])
    assert bits(bad) != bits(state.opt_state)
    for given, opt_state in [  # the loss, not a gradient alone; and the factor
        (batch(1)._replace(weights=np.full((4, 1), np.nan, np.float32)), state.opt_state),
        (batch(1), bad),
    ]:
        before = state._replace(opt_state=opt_state)
        after, metrics = train(settings, [given], before)
        assert (after.skipped, after.bad_in_row) == (1, 1)
        assert bits((after.params, after.opt_state)) == bits((before.params, before.opt_state))
    assert np.isnan(metrics["trust"]) and metrics["bad_leaf"] == -1
    after, _ = train(settings, [batch(1)], after._replace(opt_state=state.opt_state))
    assert (after.skipped, after.bad_in_row) == (1, 0)


def test_it_resumes_from_a_checkpoint_to_the_bit(tiny, tmp_path):
    """In the middle of an interval, so that factors, inverses and their ages are all read."""
    settings = tiny(*KFAC, *ONE)
    batches = [batch(n) for n in range(6)]
    whole, _ = train(settings, batches)
    half, _ = train(settings, batches[:3])
    store = checkpoint.Checkpoints(tmp_path, 1)
    store.save(3, items(half), {"val_loss": None})
    assert store.wait()
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype, sharding=place), half)
    trees, _ = store.restore(items(shapes))
    restored = from_items(shapes, trees)
    store.close()
    assert bits(train(settings, batches[3:], jax.device_get(restored))[0]) == bits(whole)


ARCHITECTURES = {
    "attention, untied, recomputed, f16, empirical": [
        *["model.tie=false", "train.remat=true", "train.precision=f16", "train.kfac.fisher=empirical"],
    ],
    "monarch, reduce": [
        *["model.channel=monarch", "model.monarch.blocks=2", "train.kfac.sharing=reduce"],
    ],
    "ode": ["model.depth=ode"],
}


@pytest.mark.parametrize("words", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_it_lowers_the_loss_of_every_architecture(words, tiny):
    settings = tiny(*KFAC, *ONE, *words)
    text = np.tile(np.arange(T + 1, dtype=np.int32) * 3 % VOCAB, (4, 1))
    one, state = machine(settings)
    losses = []
    for _ in range(8):
        state, metrics = one(state, Batch(text[:, :-1], text[:, 1:]))
        losses.append(float(metrics["loss"]))
    assert state.skipped == 0 and losses[-1] < 0.8 * losses[0]
    rules = optimizers.rules(settings.train, state.params)
    assert {path for path, rule in rules.items() if rule == "kfac"} == set(measured(state))
    for path, f in measured(state).items():
        assert all(np.isfinite(m).all() and np.abs(m).max() > 0 for m in f), path


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("train.kfac.fisher=true", "train.kfac.fisher: must be one of sampled, empirical"),
        ("train.kfac.sharing=sum", "train.kfac.sharing: must be one of expand, reduce"),
        ("train.kfac.damping=0", "train.kfac.damping: must be above 0"),
        ("train.kfac.kl=-1", "train.kfac.kl: must be at least 0"),
        ("train.kfac.ema=1", r"train.kfac.ema: must be in \[0, 1\)"),
        ("train.kfac.factors_every=0", "train.kfac.factors_every: must be at least 1"),
        ("train.kfac.inverse_every=0", "train.kfac.inverse_every: must be at least 1"),
        ("model.ode.adjoint=backsolve", "ode.adjoint=backsolve"),
    ],
)
def test_bad_values_are_refused(flag, says, tiny):
    with pytest.raises(UserError, match=says):
        tiny("train.optimizer=kfac", "model.depth=ode", flag)


def test_the_table_says_what_is_left_to_adamw(tiny):
    """Every Linear, and an untied head, has K-FAC; a tied head is the embedding, and has AdamW."""
    for tie in ("true", "false"):
        settings = tiny("train.optimizer=kfac", f"model.tie={tie}", "model.linear=monarch", "model.monarch.blocks=2")
        params = jax.eval_shape(lambda s=settings: initial_state(s, build_model(s, VOCAB)).params)
        lines = [line.split() for line in optimizers.parameter_table(settings.train, params).splitlines()[1:-1]]
        rule = {line[0]: line[-3] for line in lines}
        of_linears = {path for path in rule if path.endswith(("/left", "/right", "/kernel"))}
        assert {path for path, name in rule.items() if name == "kfac"} == of_linears | ({"head"} & set(rule))
