"""Penalties on routers reach the loss and its gradient, by row, so that a batch may be cut; what is logged is so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.ground import devices
from juliagpt_jax.models.build import build_model
from juliagpt_jax.objectives import experts, penalties
from juliagpt_jax.training import step
from juliagpt_jax.training.state import Frozen, initial_state

VOCAB, ROWS, T = 13, 4, 16
MODEL = ("model.channel=moe swiglu", "model.moe.experts=3", "train.lr=2e-5", "train.min_lr=0")


def batch() -> Batch:
    """Rows with 16, 3, 1 and 9 scored targets."""
    text = np.random.default_rng(0).integers(VOCAB, size=(ROWS, T + 1), dtype=np.int32)
    targets = text[:, 1:].copy()
    targets[1, 3:], targets[2, :15], targets[3, 4:11] = IGNORED, IGNORED, IGNORED
    return Batch(text[:, :-1], targets)


def test_by_hand(tiny):
    """Each row weighs as many targets as it has; layers are added up, and what is logged is their mean."""
    config = tiny(*MODEL, "model.channel=moe", "train.moe.balance=0.5", "train.moe.router_z=0.25")
    rng = np.random.default_rng(1)
    values = {key: tuple(rng.uniform(1, 2, ROWS) for _ in range(2)) for key in ("balance", "router_z", "dropped")}
    aux = values | {"share": tuple(rng.dirichlet(np.ones(3), ROWS) for _ in range(2))}
    targets, logits = np.array([16, 3, 1, 9]), jnp.zeros((ROWS, T, VOCAB))
    made = penalties.make(config, build_model(config, VOCAB), None)
    total = sum(float(penalty(logits, aux, batch())) for penalty in made)
    assert total == pytest.approx(targets @ (0.5 * sum(values["balance"]) + 0.25 * sum(values["router_z"])), rel=1e-5)
    told = experts.told(config.model, aux, batch())
    for key in values:
        assert float(told[key]) == pytest.approx(targets @ sum(values[key]) / 2, rel=1e-5)
    assert {key for key in told if key.startswith("share")} == {f"share_{i}_{e}" for i in range(2) for e in range(3)}
    assert float(told["share_1_2"]) == pytest.approx(targets @ aux["share"][1][:, 2], rel=1e-5)
    summed = aux | {
        "share": tuple(3 * share for share in aux["share"]),
        "dropped": tuple(3 * d for d in aux["dropped"]),
    }
    of_ode = experts.told(config.model, summed, batch())
    assert float(of_ode["share_1_2"]) == pytest.approx(float(told["share_1_2"]), rel=1e-5)
    assert float(of_ode["dropped"]) == pytest.approx(float(told["dropped"]), rel=1e-5)


def test_without_experts_there_is_nothing(tiny):
    config = tiny()
    assert penalties.make(config, build_model(config, VOCAB), None) == []
    assert experts.told(config.model, {}, batch()) == {}


@pytest.fixture(scope="module")
def stepped(tiny):
    """`stepped(parts, *flags)`: parameters and metrics after a step."""

    def run(parts: int, *flags: str):
        config = tiny(*MODEL, f"train.accumulate={parts}", *flags)
        model, mesh = build_model(config, VOCAB), devices.make_mesh(config.mesh, ROWS // parts)
        state = jax.jit(lambda: initial_state(config, model))()
        state, metrics = step.make_train_step(config, model, mesh)(state, batch(), Frozen())
        return jax.device_get((state.params, metrics))

    return run


@pytest.mark.long
def test_a_batch_may_be_cut(stepped):
    """Into two parts of two rows: the same step, loss and shares."""
    (whole, metrics), (cut, other) = stepped(1), stepped(2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, cut)
    keys = ["loss", "balance", "router_z", "dropped", *(f"share_0_{e}" for e in range(3))]
    for key in keys:
        np.testing.assert_allclose(other[key], metrics[key], rtol=1e-5)
    assert sum(metrics[f"share_0_{e}"] for e in range(3)) == pytest.approx(1, rel=1e-5) and metrics["dropped"] == 0
    assert "share_1_0" not in metrics, "the second layer has none"


@pytest.mark.long
def test_penalties_move_the_router_and_are_not_the_loss(stepped):
    (plain, metrics), (asked, other) = (stepped(1, *f) for f in (("train.moe.balance=0",), ("train.moe.balance=9",)))
    assert metrics["loss"] == pytest.approx(float(other["loss"]), rel=1e-6)
    router = lambda params: params["block_0"]["channel"]["router"]
    assert np.abs(router(plain) - router(asked)).max() > 1e-6


@pytest.mark.long
def test_training_drops_what_has_no_place(stepped):
    assert 0.1 < stepped(1, "model.moe.capacity=0.5")[1]["dropped"] < 0.9
