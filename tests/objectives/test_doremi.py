"""DoReMi: the update against the golden arrays; the objective in the train step, beside a naive form."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.data.sampler import Windows
from juliagpt_jax.data.selection import Selection
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.models.build import build_model
from juliagpt_jax.objectives import doremi
from juliagpt_jax.training import step
from juliagpt_jax.training.mesh import make_mesh
from juliagpt_jax.training.state import Frozen, initial_state

VOCAB, T = 7, 16


def test_update_is_that_of_the_authors(golden):
    """Six updates: a domain that is absent keeps its score; the answer is the mean of the weights."""
    with np.load(golden / "doremi" / "doremi_update.npz") as wanted:
        arrays = dict(wanted)
    mixture = doremi.first_mixture(arrays["w0"], float(arrays["scores_init"][0]))
    assert any(len(set(ids)) < 5 for ids in arrays["domain_ids"].tolist()), "some domain is absent"
    assert (arrays["scores"] < 0).any(), "some tokens are clipped"
    for i, (excess, mask, domains) in enumerate(
        zip(arrays["scores"], arrays["mask"], arrays["domain_ids"], strict=True), 1
    ):
        mixture = doremi.update(mixture, excess, mask, domains, float(arrays["eta"]), float(arrays["eps"]))
        np.testing.assert_allclose(mixture["weights"], arrays["weights"][i - 1], rtol=2e-5)
        np.testing.assert_allclose(mixture["excess"], arrays["perdomain_scores"][i - 1], rtol=2e-5)
        np.testing.assert_allclose(mixture["sum"] / i, arrays["avg_weights"][i - 1], rtol=2e-5)


def test_an_excess_moves_the_weight():
    mixture = doremi.first_mixture(np.array([0.5, 0.5]), 0.0)
    excess = jnp.array([[1.0, -3.0], [0.0, 0.5]])
    moved = doremi.update(mixture, excess, jnp.ones((2, 2), bool), jnp.array([0, 1]), 1.0, 1e-4)
    np.testing.assert_allclose(moved["excess"], [0.5, 0.25])
    assert moved["weights"][0] > 0.55


CHOSEN = object.__new__(Selection)
vars(CHOSEN).update(tokens=np.zeros(90), rings=("a", "b", "c"), sizes=(20, 40, 30), weights=(0.2, 0.5, 0.3))


@pytest.fixture
def machine(tiny, monkeypatch):
    """machine(*flags): a run's config, model, objective, first state and what is frozen, with a reference of another
    seed."""

    def make(*flags):
        config = tiny("model.layers=1", "model.width=16", "train.lr=0.01", "train.warmup=0", *flags)
        model = build_model(config, VOCAB)
        params = model.init(jax.random.key(7), jnp.zeros((1, 2), int))["params"]
        monkeypatch.setattr(doremi, "_open_reference", lambda settings: types.SimpleNamespace(params=params))
        own = doremi.DoReMi(config, model, CHOSEN)
        return config, model, own, initial_state(config, model, memo=own.memo()), Frozen(own=own.frozen())

    return make


def batch(own):
    """Four rows of two of the three domains; one is short."""
    rng = np.random.default_rng(0)
    text = rng.integers(VOCAB, size=(4, T + 1), dtype=np.int32)
    inputs, targets = text[:, :-1], text[:, 1:].copy()
    targets[1, 9:] = IGNORED
    begins = np.array([0, 60, 0, 60])
    return Batch(inputs, targets, extra=own.extra(Windows(begins, begins, begins, begins)))


@pytest.mark.long
def test_a_step_is_the_update_and_a_weighted_loss(machine):
    """The weights move by all rows, before the loss is taken by them; however the batch is cut and spread."""
    whole, cut = machine(), machine("train.accumulate=2", "mesh.data=2")
    _, model, own, first, frozen = whole
    given = batch(own)
    assert given.extra.tolist() == [0, 2, 0, 2]
    losses = lambda params: token_losses(model.apply({"params": params}, given.inputs)[0], given.targets)
    begun = losses(first.params)
    excess = begun - losses(frozen.own)
    wanted = doremi.update(first.memo.whole, excess, given.scored, given.extra, 1.0, 1e-4)
    rows = (np.asarray(wanted["weights"]) / CHOSEN.weights)[given.extra][:, None]
    mean = float(np.sum(begun * rows) / np.sum(given.scored * rows))
    seen = []
    for config, _, mine, state, held in (whole, cut):
        after, metrics = step.make_train_step(config, model, make_mesh(config), mine)(state, given, held)
        for name, values in wanted.items():
            np.testing.assert_allclose(after.memo.whole[name], values, rtol=1e-5, err_msg=name)
        assert float(metrics["weight_c"]) == pytest.approx(float(wanted["weights"][2]), rel=1e-5) != 0.3
        assert float(metrics["loss"]) == pytest.approx(mean, rel=1e-5)
        seen.append(jax.device_get(after))
    for a, b in zip(*map(jax.tree.leaves, seen), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    report = own.report(seen[0].memo, 1)
    assert report["weights"] == pytest.approx(report["last_weights"]) and set(report["drawn"]) == {"a", "b", "c"}


def test_a_bad_step_moves_no_weight(machine):
    config, model, own, state, frozen = machine()
    good = batch(own)
    run = step.make_train_step(config, model, make_mesh(config), own)
    before, _ = run(state, good, frozen)
    kept = jax.device_get(before)
    bad = kept._replace(params=jax.tree.map(lambda leaf: leaf * np.float32(np.nan), kept.params))
    after, metrics = run(bad, good, frozen)
    assert int(metrics["skipped"]) == 1
    for a, b in zip(*map(jax.tree.leaves, (kept.memo, after.memo)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_what_it_cannot_do_without(tiny):
    config = tiny("train.objective=doremi", "train.doremi.reference=none")
    model = build_model(config, VOCAB)
    with pytest.raises(UserError, match="phase_weights gives shares to, and here are not two"):
        doremi.DoReMi(config, model, types.SimpleNamespace(rings=(), tokens=np.zeros(9)))
    with pytest.raises(UserError, match=r"doremi.reference=none: doremi compares with a run's losses"):
        doremi.DoReMi(config, model, CHOSEN)
    config = tiny("train.objective=doremi", "model.linear=ternary", "train.ternary_from=0.5")
    with pytest.raises(UserError, match="proxy is of one kind from the first step to the last"):
        doremi.DoReMi(config, model, CHOSEN)
