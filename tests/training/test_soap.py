"""SOAP against the authors' trajectory, and what its batches and its limit on sides do."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.training.optimizers import OPTIMIZERS, descend, paths
from juliagpt_jax.training.soap import scale_by_soap


@pytest.fixture(scope="module")
def arrays(golden):
    return dict(np.load(golden / "optimizers" / "soap_pf10.npz"))


def their_first_basis(arrays) -> np.ndarray:
    """The left eigenvectors that the authors' run began with.

    Those of the three smallest eigenvalues of the first G G' (about 1e-14, 1e-14 and 8e-5 of 500) are what rounding
    made them. But the next step was W - lr (Q_left S Q_right') with S the signs of the rotated gradient, so they can
    be read off the run: of all signs only the right ones, and their permutations, give an orthogonal matrix.
    """
    W, g, lr = arrays["W"].astype(float), arrays["gW"].astype(float), float(arrays["lr"])
    left, right = (np.linalg.eigh(c)[1][:, ::-1] for c in (g[0] @ g[0].T, g[0].T @ g[0]))
    moved = -(W[2] / (1 - lr * float(arrays["wd"])) - W[1]) / lr
    rest = left[:, 3:].T @ moved @ right
    signs = (np.reshape(s, (3, 4)) for s in itertools.product((-1.0, 1.0), repeat=12))
    turns = (rest @ np.linalg.pinv(s) for s in signs if np.linalg.matrix_rank(s) == 3)
    turn = min(turns, key=lambda o: np.abs(o @ o.T - np.eye(3)).max())
    assert np.abs(turn @ turn.T - np.eye(3)).max() < 1e-3
    return np.concatenate([left[:, :3], left[:, 3:] @ turn], axis=1)


def test_trajectory(arrays, tiny):
    """Thirty steps, two refreshed bases among them; the vector beside the matrix is Adam's."""
    lr, decay = float(arrays["lr"]), float(arrays["wd"])
    flags = ["train.optimizer=soap", f"train.beta1={arrays['b1']}", f"train.beta2={arrays['b2']}", f"train.lr={lr}"]
    flags += [f"train.soap.every={arrays['precondition_frequency']}", "train.min_lr=0", "train.clip=1e9"]
    train = tiny(*flags, f"train.weight_decay={decay}").train
    tree = lambda W: {"block_0": {"mixer": {"query": {"kernel": jnp.asarray(W)}}}}
    params = tree(arrays["W"][0])
    optimizer = OPTIMIZERS["soap"](train, params)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    directions, state = update(tree(arrays["gW"][0]), state, params)
    assert np.all(jax.tree.leaves(directions)[0] == 0) and np.all(arrays["W"][1] == arrays["W"][0])
    basis = jnp.asarray(their_first_basis(arrays), jnp.float32)
    place = lambda path, leaf: basis if "bases" in jax.tree_util.keystr(path) and leaf.shape == basis.shape else leaf
    state = jax.tree_util.tree_map_with_path(place, state)
    for at in range(1, 30):
        directions, state = update(tree(arrays["gW"][at]), state, params)
        params = descend(train, params, directions, jnp.float32(lr), jnp.float32(lr * decay))
        np.testing.assert_allclose(jax.tree.leaves(params)[0], arrays["W"][at + 1], atol=1e-5, err_msg=f"step {at}")


def run(gradients, **options):
    """The directions for a list of trees of gradients, one after the other."""
    rule = scale_by_soap(**{"beta1": 0.9, "beta2": 0.95, "every": 2, "max_side": 100} | options)
    state, update, out = rule.init(gradients[0]), jax.jit(rule.update), []
    for g in gradients:
        directions, state = update(g, state)
        out.append(jax.device_get(directions))
    return out, state


def test_a_batch_is_matrix_by_matrix():
    rng = np.random.default_rng(0)
    gradients = [jnp.asarray(rng.normal(size=(2, 5, 4)), jnp.float32) for _ in range(5)]
    together, _ = run([{"a": g} for g in gradients])
    for i in range(2):
        alone, _ = run([{"a": g[i]} for g in gradients])
        for got, wanted in zip(together, alone, strict=True):
            np.testing.assert_allclose(got["a"][i], wanted["a"], atol=1e-4)


def test_bases_are_eigenvectors_of_the_covariances():
    """With a constant covariance the power iterations converge to its eigenvectors, the largest eigenvalue first."""
    rng = np.random.default_rng(1)
    g = jnp.asarray(rng.normal(size=(4, 6)) * np.array([8, 4, 2, 1])[:, None], jnp.float32)
    _, state = run([{"a": g}] * 12, every=1)
    for covariance, basis in zip(state.covariances["a"], state.bases["a"], strict=True):
        np.testing.assert_allclose(basis.T @ basis, np.eye(len(basis)), atol=1e-5)
        inside = basis.T @ covariance @ basis
        assert np.abs(inside - np.diag(np.diag(inside))).max() < 1e-3 * inside.max()
        assert np.all(np.diff(np.diag(inside)) < 1e-3)


def test_sides_longer_than_the_limit():
    """No side: Adam, a step late. One side: what the other side's basis alone gives, and no square of the long one."""
    rng = np.random.default_rng(2)
    gradients = [{"a": jnp.asarray(rng.normal(size=(3, 5)), jnp.float32)} for _ in range(4)]
    directions, state = run(gradients, max_side=2)
    assert state.bases["a"] == (None, None) and np.all(directions[0]["a"] == 0)
    m = v = 0
    for t, (g, got) in enumerate(zip(gradients[1:], directions[1:], strict=True), 1):
        m, v = 0.9 * m + 0.1 * g["a"], 0.95 * v + 0.05 * g["a"] ** 2
        np.testing.assert_allclose(got["a"], m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8), atol=1e-4)
    directions, state = run(gradients, max_side=3)
    left, right = state.bases["a"]
    assert left.shape == (3, 3) and right is None and len(paths(state.bases)) == 1
    tall, _ = run([{"a": g["a"].T} for g in gradients], max_side=3)
    for got, turned in zip(directions, tall, strict=True):
        np.testing.assert_allclose(got["a"], turned["a"].T, atol=1e-5)
