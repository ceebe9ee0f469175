"""The loss of next tokens, with weights of rows and of targets."""

import functools

import jax
import numpy as np
import pytest

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.models.build import build_model
from juliagpt_jax.training import step
from juliagpt_jax.training.mesh import make_mesh
from juliagpt_jax.training.state import Frozen, initial_state

VOCAB, T = 7, 16


def test_rows_weigh_in_the_loss_and_its_gradient(tiny):
    """Equal weights of any size are no weights; a row of weight 0 is as if it were not scored; and cut in two."""
    rng = np.random.default_rng(0)
    text = rng.integers(VOCAB, size=(4, T + 1), dtype=np.int32)
    inputs, targets = text[:, :-1], text[:, 1:].copy()
    targets[1, 9:] = IGNORED

    @functools.cache
    def machine(*flags):
        config = tiny("model.layers=1", "train.lr=0.01", "train.warmup=0", *flags)
        model = build_model(config, VOCAB)
        return config, model, step.make_train_step(config, model, make_mesh(config))

    def run(weights, targets, *flags):
        config, model, function = machine(*flags)
        weights = () if weights is None else np.array(weights, np.float32).reshape(4, -1)
        state, metrics = function(initial_state(config, model), Batch(inputs, targets, weights), Frozen())
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
    each = np.ones((4, T), np.float32)
    each[3, 4:] = 0
    without = targets.copy()
    without[3, 4:] = IGNORED
    same(run(each, targets), run(None, without))
