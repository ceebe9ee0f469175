"""Muon against the authors' arrays and against optax's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from juliagpt_jax.training.muon import orthogonalize
from juliagpt_jax.training.optimizers import OPTIMIZERS, descend

SHAPES = ("tall", "wide", "square")


@pytest.fixture(scope="module")
def arrays(golden):
    return dict(np.load(golden / "optimizers" / "muon.npz"))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("polar, key", [("quintic", "ns5_quintic_3.4445"), ("exact", "ns12_cubicquintic")])
def test_orthogonalize(polar, key, shape, arrays):
    got = orthogonalize(jnp.asarray(arrays[f"{shape}/G"]), polar)
    np.testing.assert_allclose(got, arrays[f"{shape}/{key}"], atol=5e-6)
    singular = np.linalg.svd(got, compute_uv=False)
    low, high = (0.68, 1.21) if polar == "quintic" else (1 - 1e-5, 1 + 1e-5)
    assert low < singular.min() and singular.max() < high
    if polar == "exact":
        np.testing.assert_allclose(got, arrays[f"{shape}/UVt"], atol=1e-5)


def test_orthogonalize_as_optax_does(arrays):
    G = jnp.asarray(arrays["wide/G"])
    library = optax.contrib.scale_by_muon(
        beta=0.0, nesterov=False, weight_dimension_numbers={"G": optax.contrib.MuonDimensionNumbers()}
    )
    theirs, _ = library.update({"G": G}, library.init({"G": G}))
    np.testing.assert_allclose(orthogonalize(G, "quintic"), theirs["G"], atol=5e-6)


def test_a_batch_is_matrix_by_matrix():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5, 7)) * np.geomspace(1e-6, 1e6, 6).reshape(2, 3, 1, 1))
    x = x.astype(jnp.float32).at[1, 1].set(0)
    got = orthogonalize(x, "quintic")
    for i in range(2):
        for j in range(3):
            np.testing.assert_allclose(got[i, j], orthogonalize(x[i, j], "quintic"), atol=2e-6)
    assert np.all(got[1, 1] == 0), "zeros stay zeros"
    rough = orthogonalize(x, "quintic", jnp.bfloat16)
    assert rough.dtype == jnp.float32 and 1e-3 < np.abs(rough - got).max() < 0.1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", ["kernel", "monarch"])
def test_trajectory(layout, shape, arrays, tiny):
    """Six steps of the authors' optimizer: as a kernel (in, out), and as a Monarch factor of two blocks (out, in)."""
    flags = ["train.optimizer=muon", "train.muon.polar=exact", "train.weight_decay=0.05", "train.lr=0.025"]
    train = tiny(*flags, "train.min_lr=0", "train.clip=1e9").train

    def tree(W):
        W = jnp.asarray(W)
        leaf = {"kernel": W.T} if layout == "kernel" else {"right": jnp.stack([W, -W])}
        return {"block_0": {"mixer": {"query": leaf}}}

    params = tree(arrays[f"{shape}/traj_W"][0])
    optimizer = OPTIMIZERS["muon"](train, params)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for g, wanted in zip(arrays[f"{shape}/traj_G"], arrays[f"{shape}/traj_W"][1:], strict=True):
        directions, state = update(tree(g), state, params)
        params = descend(train, params, directions, jnp.float32(0.025), jnp.float32(0.025 * 0.05))
        for got, want in zip(jax.tree.leaves(params), jax.tree.leaves(tree(wanted)), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-6)
