"""The seam between the step and an objective, with toy objectives that use all of it: a carry by row, a number that all
rows share, weights that are frozen, and a model of which a part is trained."""

import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.ground import config_file
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.models.build import at_step, build_model
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.objectives import build
from juliagpt_jax.objectives.next_token import NextToken
from juliagpt_jax.objectives.objective import Memo, Objective, Terms
from juliagpt_jax.store import checkpoint
from juliagpt_jax.training import run, step
from juliagpt_jax.training.loop import Trainer
from juliagpt_jax.training.mesh import batch_sharding, make_mesh, shardings
from juliagpt_jax.training.state import Frozen, from_items, initial_state, items, places

VOCAB, T = 13, 16
SLOW = ("model.layers=1", "train.lr=2e-5", "train.min_lr=0.0")


class Carry(NextToken):
    """Next tokens, and predictions that stay near a running mean of the row's own: what row i of one batch hands to
    row i of the next. `age` counts the steps."""

    def memo(self):
        rows, vocab = self.config.train.batch_size, self.model.vocab
        return Memo(rows={"mean": jnp.zeros((rows, vocab)), "age": jnp.zeros(rows, jnp.int32)})

    def loss(self, apply, trained, frozen, memo, batch, key):
        logits, *_ = apply(trained, batch.inputs, key=key)
        loss = jnp.sum(token_losses(logits, batch.targets))
        now = jnp.mean(jax.nn.softmax(logits), axis=1)
        apart = jnp.sum(jnp.square(now - memo.rows["mean"]))
        mean = 0.5 * memo.rows["mean"] + 0.5 * jax.lax.stop_gradient(now)
        return Terms(loss + 50 * apart, {"loss": loss, "apart": apart}, {"mean": mean, "age": memo.rows["age"] + 1})


class Teacher(Objective):
    """Cross entropy to a frozen model's predictions."""

    def frozen(self):
        return self.model.init(jax.random.key(99), jnp.zeros((1, 2), int))["params"]

    def loss(self, apply, trained, frozen, memo, batch, key):
        logits, *_ = apply(trained, batch.inputs, key=key)
        wanted = jax.nn.softmax(jax.lax.stop_gradient(apply(frozen, batch.inputs)[0]))
        loss = -jnp.sum(batch.scored * jnp.sum(wanted * jax.nn.log_softmax(logits), axis=-1))
        return Terms(loss, {"loss": loss})


class Whole(NextToken):
    """Next tokens, each row by how much worse it is than the mean loss of all steps so far."""

    def memo(self):
        return Memo(whole={"sum": jnp.zeros(()), "steps": jnp.zeros(())})

    def before(self, apply, trained, frozen, memo, batch):
        own = jnp.mean(token_losses(apply(trained, batch.inputs)[0], batch.targets), axis=1)
        total, steps = memo.whole["sum"] + jnp.mean(own), memo.whole["steps"] + 1
        weights = jax.nn.sigmoid(own - total / steps)[:, None]
        return batch._replace(weights=weights), memo._replace(whole={"sum": total, "steps": steps})

    def metrics(self, memo):
        return {"mean_so_far": memo.whole["sum"] / memo.whole["steps"]}


TOYS = {"carry": Carry, "teacher": Teacher, "whole": Whole}


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    for name, toy in TOYS.items():
        monkeypatch.setitem(build.OBJECTIVES, name, toy)


def batch(seed=0, rows=4):
    text = np.random.default_rng(seed).integers(VOCAB, size=(rows, T + 1), dtype=np.int32)
    return Batch(text[:, :-1], text[:, 1:])


def machine(config):
    """one(state, batch) -> (state, metrics) on the config's devices, its first state, and what is frozen."""
    model, mesh = build_model(config, VOCAB), make_mesh(config)
    own = build.build_objective(config, model)
    make = lambda: initial_state(config, model, memo=own.memo())
    state = jax.jit(make, out_shardings=places(jax.eval_shape(make), mesh))()
    frozen = Frozen(own=own.frozen())
    frozen = jax.device_put(frozen, shardings(frozen, mesh))
    function = step.make_train_step(config, model, mesh, own, state, frozen)
    return lambda state, given: function(state, jax.device_put(given, batch_sharding(mesh)), frozen), state, frozen


def train(config, batches, state=None):
    one, first, _ = machine(config)
    state, seen = first if state is None else state, []
    for given in batches:
        state, metrics = one(state, given)
        seen.append(jax.device_get(metrics))
    return state, seen


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


# A memo by row.


@pytest.mark.parametrize("cut", [["train.accumulate=2"], ["train.accumulate=2", "mesh.data=2"], ["mesh.model=2"]])
def test_the_carry_goes_with_its_row_however_the_batch_is_cut(cut, tiny):
    batches = [batch(0), batch(1), batch(2)]
    (whole, metrics), (other, others) = (
        train(tiny("train.objective=carry", *SLOW, *more), batches) for more in ([], cut)
    )
    chex.assert_trees_all_close(other.memo, whole.memo, atol=1e-6)
    chex.assert_trees_all_close(other.params, whole.params, atol=2e-6)
    for ours, theirs in zip(others, metrics, strict=True):
        assert ours["apart"] == pytest.approx(theirs["apart"], rel=1e-4)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
    assert np.asarray(whole.memo.rows["age"]).tolist() == [3] * 4


def test_the_carry_is_what_each_row_had(tiny):
    """Beside the model itself, row by row: two steps."""
    config = tiny("train.objective=carry", *SLOW)
    model, given = build_model(config, VOCAB), [batch(0), batch(1)]
    one, state, _ = machine(config)
    mean = np.zeros((4, VOCAB))
    for now in given:
        logits, *_ = model.apply({"params": jax.device_get(state.params)}, now.inputs)
        predicted = np.asarray(jax.nn.softmax(logits)).mean(axis=1)
        apart = np.square(predicted - mean).sum() / now.targets.size
        mean = 0.5 * mean + 0.5 * predicted
        state, metrics = one(state, now)
        assert float(metrics["apart"]) == pytest.approx(apart, rel=1e-4)
    np.testing.assert_allclose(state.memo.rows["mean"], mean, atol=1e-6)
    assert np.ptp(mean, axis=0).max() > 1e-3, "each row has its own"


def test_the_carry_lies_where_its_rows_lie(tiny):
    state, _ = train(tiny("train.objective=carry", "mesh.data=2", "mesh.fsdp=2", *SLOW), [batch()])
    for leaf in jax.tree.leaves(state.memo.rows):
        assert leaf.sharding.is_equivalent_to(batch_sharding(leaf.sharding.mesh), leaf.ndim)
        assert leaf.addressable_shards[0].data.shape[0] == 1


@pytest.mark.long
def test_a_bad_step_leaves_the_memo(tiny):
    """To the bit, whatever was bad: the loss, or a gradient that overflows in float16."""
    for name in ("carry", "whole"):
        config = tiny(f"train.objective={name}", "train.precision=f16", *SLOW)
        one, state, _ = machine(config)
        state, _ = one(state, batch(0))
        for scale, given in [
            (state.scale, batch(1)._replace(targets=np.full((4, T), 10**6, np.int32))),  # which is no token
            (np.float32(2.0**60), batch(1)),
        ]:
            kept = jax.device_get(state.memo)
            state, metrics = one(state._replace(scale=scale), given)
            assert int(metrics["bad_in_row"]) >= 1
            assert bits(state.memo) == bits(kept)
        state, metrics = one(state._replace(scale=np.float32(1)), batch(1))
        assert int(metrics["bad_in_row"]) == 0 and bits(state.memo) != bits(kept)


def test_a_memo_that_would_not_be_finite_is_not_taken(tiny):
    """Of a row whose loss is sound: it would make the next one's bad, and stay."""
    config = tiny("train.objective=carry", *SLOW)
    state = jax.device_get(machine(config)[1])
    age = np.where(np.arange(4) == 2, np.float32(np.inf), np.float32(1))  # which the loss does not read
    bad = state._replace(memo=Memo(rows=state.memo.rows | {"age": age}))
    one = step.make_train_step(config, build_model(config, VOCAB), make_mesh(config), state=bad)
    after, metrics = one(bad, batch(), Frozen())
    assert np.isfinite(metrics["loss"]) and np.isfinite(metrics["grad_norm"])
    assert int(after.skipped) == 1 and bits((after.params, after.memo)) == bits((bad.params, bad.memo))


def test_a_checkpoint_keeps_the_memo(tiny, tmp_path):
    config = tiny("train.objective=carry", *SLOW)
    half, _ = train(config, [batch(0), batch(1)])
    store = checkpoint.Checkpoints(tmp_path, 1)
    store.save(2, items(half), {"val_loss": None})
    assert store.wait()
    target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), half)
    trees, _ = store.restore(items(target))
    store.close()
    assert "memo" in trees and "memo" not in items(half._replace(memo=Memo()))
    restored = from_items(target, trees)
    assert bits(restored) == bits(half)


# Whole runs.


@pytest.fixture(scope="module")
def settings(micro):
    def make(*overrides):
        flags = [flag.removeprefix("--config.") for flag in micro.flags]
        some = ["train.steps=9", "train.checkpoint_every=3", "train.eval_every=9", "train.sample_every=0"]
        some += ["train.final_windows=2", "train.keep=9", "train.accumulate=2", "mesh.data=1"]
        return config_file.load("configs/tiny.py", [*flags, *some, *overrides])

    return make


def final_memo(workdir, settings):
    """The memo of the last checkpoint, as the trainer of the run restores it."""
    from juliagpt_jax.data import corpus

    return Trainer(settings, corpus.load(settings.data, settings.model.context), workdir, {}).state.memo


def test_a_run_resumes_and_seeds_train_together(settings, tmp_path):
    """A run with a carry, cut after step 6: the same bits. Two seeds as one: each is what it is alone."""
    one = settings("train.objective=carry", "seed=4")
    run.run(one, tmp_path / "whole", 0.0)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut", symlinks=True)
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "9")
    (tmp_path / "cut" / "DONE").unlink()
    run.run(one, tmp_path / "cut", 0.0)
    whole, cut = (final_memo(tmp_path / name, one) for name in ("whole", "cut"))
    assert np.asarray(whole.rows["age"]).tolist() == [9] * 4 and bits(whole) == bits(cut)
    together = {tmp_path / str(seed): settings("train.objective=carry", f"seed={seed}") for seed in (3, 4)}
    run.run_together(together, 0.0)
    three, four = (final_memo(workdir, own) for workdir, own in together.items())
    chex.assert_trees_all_close(four, whole, atol=1e-5)
    assert np.abs(np.asarray(three.rows["mean"]) - np.asarray(four.rows["mean"])).max() > 1e-3


# What all rows share, and what is frozen.


@pytest.mark.long
def test_what_the_whole_batch_decides_is_the_same_however_it_is_cut(tiny):
    batches = [batch(0), batch(1)]
    (whole, metrics), (other, others) = (
        train(tiny("train.objective=whole", *SLOW, *more), batches)
        for more in ([], ["train.accumulate=2", "mesh.data=2"])
    )
    chex.assert_trees_all_close((other.memo, other.params), (whole.memo, whole.params), atol=2e-6)
    assert float(whole.memo.whole["steps"]) == 2
    for ours, theirs in zip(others, metrics, strict=True):
        for name in ("loss", "grad_norm", "mean_so_far"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5), name
    plain, _ = train(tiny(*SLOW), batches)
    assert bits(plain.params) != bits(whole.params)


@pytest.mark.long
def test_before_the_turn_to_ternary_it_sees_the_dense_model(tiny):
    config = tiny("train.objective=whole", "model.linear=ternary", "train.ternary_from=0.5", *SLOW)
    one, first, _ = machine(config)
    first, model = jax.device_get(first), build_model(config, VOCAB)
    for at in (0, 10):
        now = at_step(config, model, at + 1)
        wanted = token_losses(now.apply({"params": first.params}, batch().inputs)[0], batch().targets).mean()
        _, metrics = one(jax.device_put(first._replace(step=np.int32(at))), batch())
        assert float(metrics["mean_so_far"]) == pytest.approx(float(wanted), rel=1e-5), at


@pytest.mark.parametrize("cut", [[], ["train.accumulate=2", "mesh.data=2"], ["train.accumulate=2", "mesh.model=2"]])
def test_frozen_weights_are_read_and_stay(cut, tiny):
    """The gradient is that of the cross entropy to the teacher; the teacher is not given away with the state."""
    config = tiny("train.objective=teacher", *SLOW, *cut)
    model, given = build_model(config, VOCAB), batch()
    one, state, frozen = machine(config)
    kept, first = jax.device_get(frozen), jax.device_get(state)

    def loss(params):
        log = jax.nn.log_softmax(model.apply({"params": params}, given.inputs)[0])
        wanted = jax.nn.softmax(model.apply({"params": kept.own}, given.inputs)[0])
        return -jnp.mean(jnp.sum(wanted * log, axis=-1))

    value, slope = jax.jit(jax.value_and_grad(loss))(first.params)
    norm = np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(slope)))
    state, metrics = one(state, given)
    assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-5)
    assert float(metrics["grad_norm"]) == pytest.approx(float(norm), rel=1e-4)
    one(state, batch(1))
    assert bits(frozen) == bits(kept)


def test_kfac_is_refused_where_no_loss_is_sampled(tiny, micro, says):
    words = ("train.objective=teacher", "train.optimizer=kfac")
    build.check(tiny(*words, "train.kfac.fisher=empirical"))
    with pytest.raises(UserError, match=r"config.train.optimizer: kfac .* train.objective=teacher has no loss"):
        build.check(tiny(*words))
    toy = "from juliagpt_jax.objectives import build, objective\nbuild.OBJECTIVES['toy'] = objective.Objective"
    flags = ["train.objective=toy", "train.optimizer=kfac"]
    says(micro.train(micro.folder / "refused", *flags, code=2, before=toy), "config.train.optimizer: kfac", "toy")


def test_a_word_that_is_no_objective(tiny):
    with pytest.raises(UserError, match=r"config.train.objective: no objective is called 'next_tokens'; did you mean"):
        build.check(tiny("train.objective=next_tokens"))


# A model of which a part is trained.


def split(params, is_trained):
    flat = flatten_dict(params, sep="/")
    part = lambda wanted: unflatten_dict({p: x for p, x in flat.items() if is_trained(p) == wanted}, sep="/")
    return part(True), part(False)


def merge(trained, base):
    return unflatten_dict(flatten_dict(base, sep="/") | flatten_dict(trained, sep="/"), sep="/")


@pytest.mark.long
@pytest.mark.parametrize("flags", [[], ["train.accumulate=2", "mesh.data=2"], ["train.optimizer=kfac"]])
def test_only_what_is_trained_moves(flags, tiny):
    """The optimizer, the norm of the gradient and the state see nothing else; the rest stays as it is, to the bit."""
    config = tiny("model.layers=1", "train.lr=0.01", *flags)
    model, mesh, given = build_model(config, VOCAB), make_mesh(config), batch()
    params = model.init(jax.random.key(0), jnp.zeros((1, 2), int))["params"]
    trained, base = split(params, lambda path: "channel" in path or path.endswith("scale"))
    state = jax.device_get(initial_state(config, model, trained))
    frozen = Frozen(base=base)
    names = set(paths(trained))
    assert 0 < len(names) < len(paths(params)) and set(paths(merge(trained, base))) == set(paths(params))
    one = step.make_train_step(config, model, mesh, state=state, frozen=frozen, merge=merge)

    def norm(params):
        loss = lambda p: jnp.mean(token_losses(model.apply({"params": p}, given.inputs)[0], given.targets))
        own = paths(jax.grad(loss)(params))
        return np.sqrt(sum(float(jnp.sum(jnp.square(own[name]))) for name in names))

    kept = jax.device_get(frozen)
    after, metrics = one(state, given, frozen)
    assert float(metrics["grad_norm"]) == pytest.approx(norm(params), rel=1e-4)
    assert set(paths(after.params)) == names and bits(frozen) == bits(kept)
    for name, leaf in paths(after.params).items():
        assert np.abs(np.asarray(leaf) - np.asarray(paths(trained)[name])).max() > 1e-5, name
    before = float(metrics["loss"])
    for _ in range(10):
        after, metrics = one(after, given, frozen)
    assert float(metrics["loss"]) < before
