"""Each rule against a reference; which rule has which parameter; the step that is taken; the table of parameters."""

import dataclasses
import itertools
import math
import re
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.ground import config_file, words
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.channels import CHANNELS
from juliagpt_jax.models.fields import TIMES
from juliagpt_jax.models.layers import LINEARS
from juliagpt_jax.models.mixers import MIXERS
from juliagpt_jax.store import checkpoint
from juliagpt_jax.training import schedules, step
from juliagpt_jax.training.mesh import batch_sharding, make_mesh, shardings
from juliagpt_jax.training.optimizers import (
    OPTIMIZERS,
    WORDS,
    count,
    decays,
    descend,
    parameter_table,
    paths,
    rates,
    rules,
)
from juliagpt_jax.training.state import Frozen, from_items, initial_state, items

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))
DECAYED = ("kernel", "left", "right", "embedding", "head", "beta", "decay", "router", "a", "b")  # of adapters: a, b
WITHOUT = ("weight_0", "weight_1", "weight_2", "weight_out", "taps", "gate")  # matrices by shape alone: filters, gates
WITHOUT += ("channel_norm.scale", "mixer_norm.scale", "shift")  # of an ODE's time: vectors, one a mode
WITHOUT += ("buckets",)  # of a T5: biases, one a distance and head
WITHOUT += ("ids",)  # of puzzles, whose rule has a decay of its own


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


def test_decay_in_epochs(tiny):
    """Whatever a parameter's rate: without a gradient a matrix falls to 1/e in tau epochs, embedding and head in
    theirs, and what does not decay stays."""
    flags = ["train.lr=0.2", "train.min_lr=0", "train.optimizer=muon", "train.adam_lr=0.05", "train.decay_tau=2"]
    for more, own in ([], 2), (["train.decay_tau_embed=0.5"], 0.5):
        train = schedules.settled(tiny(*flags, *more), 50.0).train
        params = random_tree(0, 1.0)
        still, after = jax.tree.map(jnp.zeros_like, params), params
        lr = jnp.float32(train.lr)
        decay = schedules.weight_decay(train, jnp.int32(0), lr)
        for _ in range(25):
            after = descend(train, after, still, lr, decay)
        for path, p in paths(params).items():
            tau = 50 * (2 if path.endswith("kernel") else own if path in ("embedding", "head") else math.inf)
            np.testing.assert_allclose(paths(after)[path], p * (1 - 1 / tau) ** 25, rtol=1e-5, err_msg=path)
            assert decays(train, params)[path] * rates(train, params)[path] == pytest.approx(1 / tau), path


def test_an_unknown_optimizer_is_refused(tiny):
    words.check(tiny(), WORDS)
    with pytest.raises(UserError, match=r"config\.train\.optimizer.*'adamv'.*did you mean adamw"):
        words.check(tiny("train.optimizer=adamv"), WORDS)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_parameter_table(file):
    """Every parameter of every config: once, with its shape, count, rule and decay; and the right total."""
    settings = config_file.load(str(file))
    model = build_model(settings, 65)
    params = jax.eval_shape(lambda: initial_state(settings, model).params)
    header, *lines, total = parameter_table(settings.train, params).splitlines()
    assert header.split() == ["parameter", "shape", "count", "rule", "lr", "decay"]
    rows = [line.split() for line in lines]
    assert [row[0] for row in rows] == list(paths(params))
    for row, leaf in zip(rows, paths(params).values(), strict=True):
        assert tuple(int(n) for n in row[1:-4] if n != "x") == leaf.shape
        assert int(row[-4].replace(",", "")) == math.prod(leaf.shape)
        assert row[-3] == rules(settings.train, params)[row[0]]
        assert float(row[-2]) == pytest.approx(rates(settings.train, params)[row[0]], rel=1e-5)
        decays = row[0].split("/")[-1] in DECAYED
        at_rate = settings.train.lr / float(row[-2]) if settings.train.decay_tau else 1  # one tau for all
        assert float(row[-1]) == pytest.approx(settings.train.weight_decay * at_rate if decays else 0, rel=1e-4)
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


# Which rule has which parameter.

# Every parameter there is, with * for the number of a layer or of a filter's weight. A new one must be put somewhere.
TO_MATRIX_RULES = """
    block_*/mixer/query/kernel block_*/mixer/key/kernel block_*/mixer/value/kernel block_*/mixer/out/kernel
    block_*/mixer/in/kernel block_*/channel/gate/kernel block_*/channel/up/kernel block_*/channel/down/kernel
    block_*/mixer/query/left block_*/mixer/key/left block_*/mixer/value/left block_*/mixer/out/left
    block_*/mixer/query/right block_*/mixer/key/right block_*/mixer/value/right block_*/mixer/out/right
    block_*/mixer/in/left block_*/channel/gate/left block_*/channel/up/left block_*/channel/down/left
    block_*/mixer/decay_down/kernel block_*/mixer/decay_up/kernel block_*/mixer/gate_down/kernel
    block_*/mixer/gate_up/kernel block_*/mixer/decay_down/left block_*/mixer/decay_up/left
    block_*/mixer/gate_down/left block_*/mixer/gate_up/left block_*/mixer/decay_down/right
    block_*/mixer/decay_up/right block_*/mixer/gate_down/right block_*/mixer/gate_up/right
    block_*/mixer/in/right block_*/channel/gate/right block_*/channel/up/right block_*/channel/down/right
    block_*/mixer/start/kernel block_*/mixer/start/left block_*/mixer/start/right
""".split()
TO_MATRIX_RULES += [f"{path.removesuffix('kernel')}core_*" for path in TO_MATRIX_RULES if path.endswith("kernel")]
# Those of each expert, which K-FAC does not take, and of the channel beside them.
CHANNELS_OWN = [path for path in TO_MATRIX_RULES if "/channel/" in path]
TO_MATRIX_RULES += [p.replace("/channel/", f"/channel/{part}/") for p in CHANNELS_OWN for part in ("experts", "shared")]
TO_ADAMW = """
    embedding head norm/scale block_*/mixer_norm/scale block_*/channel_norm/scale
    block_*/mixer/left block_*/mixer/right block_*/mixer/gate block_*/mixer/start_norm/scale unet_*
    block_*/mixer/query_norm/scale block_*/mixer/key_norm/scale skip_*
    block_*/mixer/skip block_*/mixer/short/taps block_*/mixer/short/bias
    block_*/mixer/filter/weight_* block_*/mixer/filter/bias_* block_*/mixer/filter/weight_out
    block_*/mixer/filter/frequency
    block_*/mixer/beta block_*/mixer/decay block_*/mixer/A_log block_*/mixer/dt_bias block_*/mixer/norm/scale
    block_*/time/mixer.norm.scale
    block_*/time/shift block_*/time/mixer_norm.scale block_*/time/channel_norm.scale
    block_*/time/mixer.start_norm.scale block_*/channel/router halt halt_bias bias/buckets
""".split()
OWN_RULES = {"ids": "signs", "start_high": "fixed", "start_low": "fixed"}  # of recursive models, whatever the optimizer
# The norm of a Linear with one of its own.
LINEARS_THERE = {path.rsplit("/", 1)[0] for path in TO_MATRIX_RULES if path.endswith("kernel")}
TO_ADAMW += [f"{linear}/norm/scale" for linear in LINEARS_THERE]
TO_ADAMW += [f"block_*/time/{linear.removeprefix('block_*/').replace('/', '.')}.norm.scale" for linear in LINEARS_THERE]
# What acts on a parameter over time goes where the parameter goes, if it is as large; not the network that makes h(t).
OF_TIME = ("left", "right", "modes")
OF_GENERATORS = ("in", "in_bias", "out", "out_bias")

ALL_PARTS = [f"model.mixer={' '.join(MIXERS)}", f"model.channel={' '.join(CHANNELS)}", "model.tie=false"]
ALL_PARTS += [f"model.layers={max(len(MIXERS), len(CHANNELS))}", "model.width=32", "model.heads=2"]
STARTS = " ".join("x0" if getattr(mixer, "takes_start", False) else "none" for mixer in MIXERS.values())
ALL_PARTS += ["model.moe.shared=1", "model.head_gate=true", "model.unet=true", f"model.value_embedding={STARTS}"]


def named(path: str) -> str:
    """The path as the lists above have it: an adapter as the kernel that it lies beside, a T5 as any decoder."""
    path = re.sub(r"/lora/[ab]$", "/kernel", path.removeprefix("encoder/")).replace("/cross", "/mixer")
    path = re.sub(r"^(block_\d+)/mlp_t/mixer/", r"\1/channel/", path)  # cores of recursive models
    path = re.sub(r"^(block_\d+)/(attention|kda)/((ahead|back)/)?", r"\1/", path)
    return re.sub(r"(block|bias|weight|unet|skip|core)_\d+", r"\1_*", path)


def goes_to_matrices(path: str) -> bool:
    """By the lists above; fails on a parameter that is in none."""
    shape = named(path)
    if "/time/" in path and path.split("/")[-1] in (*OF_TIME, *OF_GENERATORS):
        block, _, base, name = path.split("/")
        return name in OF_TIME and goes_to_matrices(f"{block}/{base.replace('.', '/')}")
    assert (shape in TO_MATRIX_RULES) != (shape in TO_ADAMW), f"{path}: which rule updates it?"
    return shape in TO_MATRIX_RULES


def check_rules(settings, seen):
    model = build_model(settings, 65)
    params = jax.eval_shape(lambda: initial_state(settings, model).params)
    for name in OPTIMIZERS:
        train = dataclasses.replace(settings.train, optimizer=name, lr=0.02, min_lr=0.0, adam_lr=0.005)
        given = rules(train, params)
        assert list(given) == list(paths(params))
        for path, rule in given.items():
            seen.add(named(path))
            if path in OWN_RULES:
                assert rule == OWN_RULES[path]
                continue
            if name in ("muon", "soap"):
                assert rule == (name if goes_to_matrices(path) else "adamw"), path
            if name == "kfac":  # Linears, an untied head among them; what the time of an ODE adds to them is none
                linear = path == "head" or ("/time/" not in path and goes_to_matrices(path))
                linear = linear and "/experts/" not in path and "/lora/" not in path
                assert rule == ("kfac" if linear else "adamw"), path
            assert rule in (name, "adamw"), path
            if name in ("muon", "soap") and (path in ("embedding", "head") or len(paths(params)[path].shape) < 2):
                assert rule == "adamw", path
        rate = rates(train, params)
        for path, rule in given.items():
            if path in OWN_RULES:
                continue
            own = goes_to_matrices(path) if name == "adamw" else rule == name
            assert rate[path] == (0.02 if own else 0.005), path
        rows = [line.split()[-3:-1] for line in parameter_table(train, params).splitlines()[1:-1]]
        assert [tuple(row) for row in rows] == [(given[path], f"{rate[path]:g}") for path in given]


@pytest.mark.long
def test_rules():
    """Every parameter of every config and of every part: by name, and each name of the lists is met."""
    seen: set[str] = set()
    for file in CONFIGS:
        check_rules(config_file.load(str(file)), seen)
    base = str(CONFIGS[0].parent / "base.py")
    for linear in sorted({*LINEARS} - {"subln"}):  # whose parameters are those of ternary
        for depth in [["model.depth=stack"], *(["model.depth=ode", f"model.ode.time={word}"] for word in TIMES)]:
            check_rules(config_file.load(base, [*ALL_PARTS, f"model.linear={linear}", *depth]), seen)
    assert {*TO_MATRIX_RULES, *TO_ADAMW} <= seen, "the lists name what there is"


@pytest.mark.parametrize("name", ["muon", "soap"])
def test_each_expert_is_a_matrix_of_its_own(name, tiny):
    """Three steps of experts side by side are those of each alone, one of them with a gradient 100 times as large."""
    train = tiny(f"train.optimizer={name}", "train.clip=1e9").train
    at = lambda leaf: {"block_0": {"channel": {"experts": {"up": {"kernel": leaf}}}}}
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=(3, 4, 6)).astype(np.float32) * np.array([1, 100, 0.1])[:, None, None] for _ in "abc"]

    def directions(cut):
        tree = at(jnp.zeros((3, 4, 6), jnp.float32)[cut])
        optimizer = OPTIMIZERS[name](train, tree)
        state, direction = optimizer.init(tree), tree
        for gradient in gradients:
            direction, state = optimizer.update(at(jnp.asarray(gradient, jnp.float32)[cut]), state, tree)
        return np.asarray(jax.tree.leaves(direction)[0])

    together = directions(slice(None))
    for expert in range(3):
        alone = directions(slice(expert, expert + 1))
        np.testing.assert_allclose(together[expert], alone[0], atol=1e-5)
        if name == "muon":
            assert np.linalg.svd(alone[0], compute_uv=False).min() > 0.3, "of size 1, whatever the gradient's"


def test_without_adam_lr_all_have_the_same(tiny):
    params = random_tree(0, 1.0)
    assert set(rates(tiny("train.optimizer=muon").train, params).values()) == {6e-4}


# Every optimizer on every architecture.

# Matrices, and batches of them; more parts would compile for longer than this test is worth.
ARCHITECTURES = {
    "baseline": ["model.layers=1"],
    "monarch": ["model.layers=1", "model.mixer=monarch_heads", "model.channel=monarch"],
}


def machine(settings):
    """The jitted train step of a config, its first state, and where states and batches live."""
    model = build_model(settings, 13)
    mesh = make_mesh(settings)
    shapes = jax.eval_shape(lambda: initial_state(settings, model))
    places = shardings(shapes, mesh)
    state = jax.jit(lambda: initial_state(settings, model), out_shardings=places)()
    run = step.make_train_step(settings, model, mesh)
    rows = batch_sharding(mesh)
    return lambda state, batch: run(state, jax.device_put(batch, rows), Frozen()), state


def batch():
    text = np.random.default_rng(0).integers(13, size=(4, 17), dtype=np.int32)
    return Batch(text[:, :-1], text[:, 1:])


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.mark.long
# K-FAC's Monarch blocks: test_kfac.py
@pytest.mark.parametrize(
    "architecture, name", sorted({*itertools.product(ARCHITECTURES, OPTIMIZERS)} - {("monarch", "kfac")})
)
def test_learns_and_resumes(architecture, name, tiny, tmp_path):
    """The loss falls; from a checkpoint it goes on with the same bits, and a bad step changes none of them."""
    flags = ["model.width=16", "model.heads=1", f"train.optimizer={name}", "train.lr=0.01", "train.soap.every=3"]
    one, state = machine(tiny(*ARCHITECTURES[architecture], *flags, "train.warmup=0", "train.tail=0.5"))
    losses = []
    for _ in range(8):
        state, metrics = one(state, batch())
        losses.append(float(metrics["loss"]))
    assert np.all(np.isfinite(losses)) and losses[-1] < losses[0] - 0.1, losses
    saved = checkpoint.Checkpoints(tmp_path / "c", 1)
    saved.save(8, items(state), {"val_loss": None})
    assert saved.wait()
    saved.close()
    places = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state)
    trees, _ = checkpoint.Checkpoints(tmp_path / "c", 1).restore(items(places))
    restored = from_items(places, trees)
    assert bits(restored) == bits(state)
    before = jax.device_get(restored)
    inputs, targets, *_ = batch()
    skipped, metrics = one(restored, Batch(inputs, targets, np.full((len(inputs), 1), np.nan, np.float32)))
    assert int(metrics["skipped"]) == 1
    parts = ("params", "opt_state", "averaged")
    assert [bits(getattr(skipped, part)) for part in parts] == [bits(getattr(before, part)) for part in parts]
    after, _ = one(jax.device_put(before, jax.tree.map(lambda a: a.sharding, places)), batch())
    wanted, _ = one(state, batch())
    assert bits(after) == bits(wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["muon", "soap"])  # for K-FAC see test_kfac.py
def test_however_the_work_is_spread(name, tiny):
    """float16 with its scale, two micro-batches, recomputed blocks, two rows of two devices that share each matrix:
    the loss falls as on one device, and the state is spread as the parameters are."""
    flags = ["model.layers=1", f"train.optimizer={name}", "train.lr=0.01", "train.warmup=0", "train.soap.every=3"]
    spread = ["train.precision=f16", "train.accumulate=1", "train.remat=true", "mesh.data=1", "mesh.model=2"]
    runs = []
    for extra in ([], [*spread, "train.accumulate=2"]):
        one, state = machine(tiny(*flags, *extra))
        losses = []
        for _ in range(8):
            state, metrics = one(state, batch())
            losses.append(float(metrics["loss"]))
        assert int(metrics["skipped"]) == 0
        runs.append((losses, state))
    (plain, _), (losses, state) = runs
    np.testing.assert_allclose(losses, plain, rtol=0.02)
    assert losses[-1] < losses[0] - 0.1
    for path, leaf in paths((state.params, state.opt_state)).items():
        if leaf.ndim >= 2:
            assert leaf.addressable_shards[0].data.size * 2 == leaf.size, path


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "kfac"])  # which leaves these to AdamW
def test_no_gradient_no_direction(name, tiny):
    """As for one factor of a low-rank matrix, whose other factor is 0 at the start: neither NaN nor noise."""
    params = {"block_0": {"time": {"mixer.out.kernel": {"left": jnp.ones((2, 4, 3)), "right": jnp.zeros((2, 3, 5))}}}}
    train = tiny(f"train.optimizer={name}", "train.soap.every=1").train
    assert set(rules(train, params).values()) <= {name}
    optimizer = OPTIMIZERS[name](train, params)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for _ in range(3):
        directions, state = update(jax.tree.map(jnp.zeros_like, params), state, params)
        assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(directions))
    chex.assert_tree_all_finite(state)
