"""DoReMi: the update against the golden arrays, and the weighted step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data.sampler import IGNORED
from juliagpt_jax.ground import devices
from juliagpt_jax.models.build import build_model
from juliagpt_jax.training import doremi, step
from juliagpt_jax.training.state import initial_state

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


def test_rows_weigh_in_the_loss_and_its_gradient(tiny):
    """Equal weights of any size are no weights; a row of weight 0 is as if it were not scored; and cut in two."""
    rng = np.random.default_rng(0)
    text = rng.integers(VOCAB, size=(4, T + 1), dtype=np.int32)
    inputs, targets = text[:, :-1], text[:, 1:].copy()
    targets[1, 9:] = IGNORED

    @functools.cache
    def machine(weighted, *flags):
        config = tiny("model.layers=1", "train.lr=0.01", "train.warmup=0", *flags)
        model = build_model(config, VOCAB)
        mesh = devices.make_mesh(config.mesh, config.train.batch_size // config.train.accumulate)
        return config, model, step.make_train_step(config, model, mesh, weighted=weighted)

    def run(weights, targets, *flags):
        config, model, function = machine(weights is not None, *flags)
        batch = targets if weights is None else (targets, np.array(weights, np.float32)[:, None])
        state, metrics = function(initial_state(config, model), (inputs, batch))
        return float(metrics["loss"]), float(metrics["grad_norm"]), jax.tree.leaves(state.params)

    def same(one, other):
        assert one[:2] == pytest.approx(other[:2], rel=1e-5)
        for a, b in zip(one[2], other[2], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)

    plain = run(None, targets)
    same(run([3.0] * 4, targets), plain)
    without = targets.copy()
    without[2:] = IGNORED
    same(run([2.0, 2.0, 0.0, 0.0], targets), run(None, without))
    uneven = run([1.0, 5.0, 0.5, 2.0], targets)
    assert uneven[0] != pytest.approx(plain[0], rel=1e-3)
    same(run([1.0, 5.0, 0.5, 2.0], targets, "train.accumulate=2", "mesh.data=2"), uneven)


def test_an_excess_moves_the_weight():
    mixture = doremi.first_mixture(np.array([0.5, 0.5]), 0.0)
    excess = jnp.array([[1.0, -3.0], [0.0, 0.5]])
    moved = doremi.update(mixture, excess, jnp.ones((2, 2), bool), jnp.array([0, 1]), 1.0, 1e-4)
    np.testing.assert_allclose(moved["excess"], [0.5, 0.25])
    assert moved["weights"][0] > 0.55
