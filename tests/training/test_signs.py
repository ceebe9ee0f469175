"""The rules for recursive models: against arrays of their authors' code, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.training import optimizers
from juliagpt_jax.training.signs import scale_by_adam_atan2, signs_of_rows


def test_adam_atan2(golden):
    io = np.load(golden / "trm" / "adam_atan2.npz")
    lr, decay = float(io["lr"]), float(io["wd"])
    with jax.enable_x64():
        rule = scale_by_adam_atan2(float(io["b1"]), float(io["b2"]))
        params = jnp.asarray(io["params"][0])
        state = rule.init(params)
        for t, grads in enumerate(io["grads"]):
            direction, state = rule.update(jnp.asarray(grads), state)
            params = params - lr * direction - lr * decay * params
            np.testing.assert_allclose(params, io["params"][t + 1], atol=1e-7, rtol=0)
        np.testing.assert_allclose(state.mean, io["exp_avg"], atol=1e-12)
        np.testing.assert_allclose(state.square, io["exp_avg_sq"], atol=1e-12)


def test_signs_move_and_decay_the_rows_that_were_seen_alone():
    table = jnp.array([[1.0, -2.0], [3.0, 4.0], [5.0, 0.0]])
    grads = jnp.array([[0.5, -9.0], [0.0, 0.0], [0.0, 1e-9]])
    rule = signs_of_rows(0.1)
    direction, _ = rule.update(grads, rule.init(table), table)
    np.testing.assert_allclose(direction, [[1.1, -1.2], [0, 0], [0.5, 1.0]], rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "adam_atan2", "muon"])
def test_embeddings_of_puzzles_and_first_states_have_rules_of_their_own(tiny, name):
    train = tiny(f"train.optimizer={name}", "train.recursive.ids_lr=0.5", "train.lr=0.25").train
    params = {
        "block_0": {"channel": {"up": {"kernel": jnp.ones((2, 2))}}},
        "ids": jnp.ones((3, 2)),
        "start_high": jnp.ones(2),
    }
    assert optimizers.rules(train, params) == {
        "block_0/channel/up/kernel": name,
        "ids": "signs",
        "start_high": "fixed",
    }
    assert optimizers.rates(train, params)["ids"] == 0.5
    rule = optimizers.OPTIMIZERS[name](train, params)
    grads = jax.tree.map(jnp.ones_like, params) | {"ids": jnp.array([[2.0, -2.0], [0, 0], [0, 0]])}
    directions, _ = rule.update(grads, rule.init(params), params)
    after = optimizers.descend(train, params, directions, jnp.float32(0.25), jnp.float32(0.25 * train.weight_decay))
    np.testing.assert_array_equal(after["start_high"], params["start_high"])
    np.testing.assert_allclose(after["ids"], [[1 - 0.5 * 2, 1 + 0.5 * 0], [1, 1], [1, 1]])
    assert not np.any(after["block_0"]["channel"]["up"]["kernel"] == 1)
