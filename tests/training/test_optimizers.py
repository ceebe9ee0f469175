"""Each rule against a reference; which rule has which parameter; the step that is taken; the table of parameters."""

import math
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax import config
from juliagpt_jax.errors import UserError
from juliagpt_jax.training import step
from juliagpt_jax.training.optimizers import (
    OPTIMIZERS,
    check_names,
    count,
    descend,
    parameter_table,
    paths,
)

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))
DECAYED = ("kernel", "left", "right", "embedding", "head")
WITHOUT = ("weight_0", "weight_1", "weight_2", "weight_out", "taps")  # of a filter: matrices by shape alone
WITHOUT += ("channel_norm.scale", "mixer_norm.scale", "shift")  # of an ODE's time: vectors, one a mode


def random_tree(seed: int, scale: float):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape) * scale, jnp.float32)
    block = {"mixer": {"out": {"kernel": draw(4, 5)}}, "mixer_norm": {"scale": draw(4)}}
    return {"block_0": block, "embedding": draw(7, 4), "head": draw(4, 7), "norm": {"scale": draw(4)}}


@pytest.mark.parametrize("clip", [1e9, 0.5], ids=["free", "clipped"])
def test_adamw(clip, tiny):
    """Loshchilov & Hutter, algorithm 2, decoupled, on matrices only, five steps of different gradients."""
    train = tiny(f"train.clip={clip}", "train.weight_decay=0.3", "train.beta1=0.8", "train.beta2=0.95").train
    params = random_tree(0, 1.0)
    optimizer = OPTIMIZERS["adamw"](train, params)
    state = optimizer.init(params)
    theirs = {path: np.asarray(leaf, np.float64) for path, leaf in paths(params).items()}
    m, v = ({path: 0 * leaf for path, leaf in theirs.items()} for _ in range(2))
    update = jax.jit(optimizer.update)
    for t in range(1, 6):
        grads, lr = random_tree(t, 0.1 * t), 0.01 * t
        updates, state = update(grads, state, params)
        params = descend(train, params, updates, jnp.float32(lr), jnp.float32(lr * 0.3))
        raw = {path: np.asarray(g, np.float64) for path, g in paths(grads).items()}
        norm = math.sqrt(sum((g**2).sum() for g in raw.values()))
        assert (norm > clip) == (clip < 1)
        for path, g in raw.items():
            g = g * min(1, clip / norm)
            m[path] = 0.8 * m[path] + 0.2 * g
            v[path] = 0.95 * v[path] + 0.05 * g**2
            adam = m[path] / (1 - 0.8**t) / (np.sqrt(v[path] / (1 - 0.95**t)) + 1e-8)
            decay = 0.3 * theirs[path] if path.split("/")[-1] in DECAYED else 0
            theirs[path] = theirs[path] - lr * (adam + decay)
            np.testing.assert_allclose(paths(params)[path], theirs[path], atol=2e-6, err_msg=f"{path}, step {t}")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_points_uphill_and_keeps_dtypes(name, tiny):
    params = random_tree(0, 1.0)
    optimizer = OPTIMIZERS[name](tiny("train.weight_decay=0.0").train, params)
    grads = random_tree(1, 1.0)
    updates, state = jax.jit(optimizer.update)(grads, optimizer.init(params), params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_tree_all_finite((updates, state))
    assert sum(jnp.vdot(g, u) for g, u in zip(*map(jax.tree.leaves, (grads, updates)), strict=True)) > 0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_optimizer_decays_by_itself(name, tiny):
    """`descend` does it, for all rules: directions are the same with and without."""
    params, grads = random_tree(0, 1.0), random_tree(1, 1.0)
    with_decay, without = (
        OPTIMIZERS[name](tiny(f"train.optimizer={name}", f"train.weight_decay={w}").train, params) for w in (0.3, 0)
    )
    one, two = (o.update(grads, o.init(params), params) for o in (with_decay, without))
    chex.assert_trees_all_equal(one, two)


def test_descend(tiny):
    """p - rate (direction + decay p): the decay on matrices, at each one's own rate, which follows the schedule."""
    flags = ["train.lr=0.2", "train.min_lr=0", "train.optimizer=muon", "train.adam_lr=0.05"]
    params, directions = random_tree(0, 1.0), random_tree(1, 1.0)
    for cautious in ("false", "true"):
        train = tiny(*flags, f"train.cautious={cautious}").train
        after = paths(descend(train, params, directions, jnp.float32(0.1), jnp.float32(0.03)))
        for (path, p), d in zip(paths(params).items(), jax.tree.leaves(directions), strict=True):
            share = 1 if path.endswith("kernel") else 0.05 / 0.2
            decay = 0.03 * share * p if path.split("/")[-1] in DECAYED else 0 * p
            decay = np.where((cautious == "false") | (np.sign(p) == np.sign(d)), decay, 0)
            np.testing.assert_allclose(after[path], p - 0.1 * share * d - decay, atol=1e-6, err_msg=path)


def test_an_unknown_optimizer_is_refused(tiny):
    check_names(tiny().train)
    with pytest.raises(UserError, match=r"config\.train\.optimizer.*'adamv'.*did you mean adamw"):
        check_names(tiny("train.optimizer=adamv").train)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_parameter_table(file):
    """Every parameter of every config: once, with its shape, count, rule and decay; and the right total."""
    settings = config.load(str(file))
    model = step.build(settings, 65)
    params = jax.eval_shape(lambda: step.initial_state(settings, model).params)
    header, *lines, total = parameter_table(settings.train, params).splitlines()
    assert header.split() == ["parameter", "shape", "count", "rule", "lr", "decay"]
    rows = [line.split() for line in lines]
    assert [row[0] for row in rows] == list(paths(params))
    for row, leaf in zip(rows, paths(params).values(), strict=True):
        assert tuple(int(n) for n in row[1:-4] if n != "x") == leaf.shape
        assert int(row[-4].replace(",", "")) == math.prod(leaf.shape)
        assert row[-3] == settings.train.optimizer and float(row[-2]) == settings.train.lr
        decays = row[0].split("/")[-1] in DECAYED
        assert float(row[-1]) == (settings.train.weight_decay if decays else 0)
        matrix = len(leaf.shape) > 1 and row[0].split("/")[-1] not in WITHOUT
        assert decays == matrix, "matrices decay, vectors do not"
    wanted = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    assert total.split() == ["total", f"{wanted:,}"]
    assert count(params) == wanted


def test_paths_are_in_the_order_of_the_tree():
    tree = random_tree(0, 1.0)
    names = ["block_0/mixer/out/kernel", "block_0/mixer_norm/scale", "embedding", "head", "norm/scale"]
    assert list(paths(tree)) == names
    assert all(a is b for a, b in zip(paths(tree).values(), jax.tree.leaves(tree), strict=True))
