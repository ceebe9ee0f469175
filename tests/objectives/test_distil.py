"""Distillation beside its formula written out; a student that is its teacher; and which teachers are refused."""

import dataclasses
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data import tokenizer as tokenizers
from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models.build import build_model
from juliagpt_jax.objectives import build, distil
from juliagpt_jax.store.workdir import open_run
from juliagpt_jax.training import step
from juliagpt_jax.training.mesh import make_mesh
from juliagpt_jax.training.state import Frozen, initial_state

VOCAB, T = 7, 16


def batch():
    text = np.random.default_rng(0).integers(VOCAB, size=(4, T + 1), dtype=np.int32)
    targets = text[:, 1:].copy()
    targets[1, 9:] = IGNORED
    return Batch(text[:, :-1], targets, np.array([[1.0], [2.0], [0.5], [1.0]], np.float32))


@pytest.fixture
def machine(tiny, monkeypatch):
    """machine(seeds, *flags): a config, its model, the objective with teachers of these seeds, a state, what is
    frozen."""

    def make(seeds, *flags):
        config = tiny("model.layers=1", "model.width=16", "train.objective=distil", "train.warmup=0", *flags)
        model = build_model(config, VOCAB)
        weights = lambda seed: model.init(jax.random.key(seed), jnp.zeros((1, 2), int))["params"]
        made = iter([types.SimpleNamespace(model=model, params=weights(seed)) for seed in seeds])
        monkeypatch.setattr(distil, "_open_teacher", lambda *given: next(made))
        teachers = ",".join(map(str, seeds))
        named = dataclasses.replace(config.train, distil=dataclasses.replace(config.train.distil, teacher=teachers))
        own = distil.Distil(dataclasses.replace(config, train=named), model)
        return config, model, own, initial_state(config, model), Frozen(own=own.frozen())

    return make


def run(made):
    config, model, own, state, frozen = made
    before = jax.device_get(state.params)
    after, metrics = step.make_train_step(config, model, make_mesh(config), own)(state, batch(), frozen)
    return before, jax.device_get(after), jax.device_get(metrics)


def test_a_student_that_is_its_teacher_learns_nothing_from_it(machine, tiny):
    """The divergence is 0 and so is its gradient, to the rounding of probabilities; the logged loss is the text's."""
    seed = tiny().seed
    flags = ("train.distil.alpha=1", "train.distil.temperature=3", "train.weight_decay=0")
    _, _, metrics = run(machine([seed], *flags))
    assert metrics["distil"] == 0.0 and metrics["grad_norm"] < 1e-6 and metrics["loss"] > 1
    _, _, metrics = run(machine([seed + 1], *flags))
    assert metrics["distil"] > 0.01 and metrics["grad_norm"] > 1e-3


def test_the_loss_and_its_gradient(machine):
    """(1 - alpha) CE + alpha T^2 KL(mean of two teachers || student), by rows' weights, over the targets that count;
    of a batch that is cut and spread."""
    cut = ("train.accumulate=2", "mesh.data=2")
    made = machine([5, 6], "train.distil.alpha=0.3", "train.distil.temperature=2", *cut)
    _, model, _, _, frozen = made
    given, frozen = batch(), jax.device_get(frozen)
    weights = np.asarray(given.weights) * (given.targets != IGNORED)
    logits = lambda params: model.apply({"params": params}, given.inputs)[0]
    teachers = np.mean([jax.nn.softmax(logits(params) / 2) for params in frozen.own], axis=0)

    def parts(params):
        ours = logits(params)
        log = jax.nn.log_softmax(ours)
        cross = -jnp.take_along_axis(log, np.maximum(given.targets, 0)[..., None], axis=-1)[..., 0]
        apart = 4 * jnp.sum(teachers * (np.log(teachers) - jax.nn.log_softmax(ours / 2)), axis=-1)
        return jnp.sum(cross * weights) / weights.sum(), jnp.sum(apart * weights) / weights.sum()

    before, _, metrics = run(made)
    cross, apart = parts(before)
    assert metrics["loss"] == pytest.approx(float(cross), rel=1e-5)
    assert metrics["distil"] == pytest.approx(float(apart), rel=1e-4)
    slope = jax.grad(lambda params: 0.7 * parts(params)[0] + 0.3 * parts(params)[1])(before)
    norm = np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(slope)))
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-4)


def test_kfac_has_no_sampled_loss_of_it(tiny):
    with pytest.raises(UserError, match=r"train\.objective=distil has no loss"):
        build.check(tiny("train.objective=distil", "train.optimizer=kfac"))


# Teachers, as they lie on the disk.


def student(tiny, teacher, *flags):
    shape = ("model.width=16", "model.layers=1", "model.heads=1", "model.context=16")
    return tiny("train.objective=distil", f"train.distil.teacher={teacher}", *shape, *flags)


def made_of(config, tokenizer):
    return distil.Distil(config, build_model(config, tokenizer.vocab_size), types.SimpleNamespace(tokenizer=tokenizer))


def test_a_finished_run_teaches_and_is_known_by_its_hash(tiny, clean, tmp_path):
    run = open_run(clean)
    own = made_of(student(tiny, f"{clean}, {clean}"), run.tokenizer)
    assert len(own.frozen()) == 2
    for one in own.frozen():
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(run.params), strict=True):
            np.testing.assert_array_equal(a, b)
    shutil.copytree(clean, tmp_path / "moved", symlinks=True)
    once = made_of(student(tiny, tmp_path / "moved"), run.tokenizer).facts()
    assert own.facts() == {"teachers": once["teachers"] * 2}, "where it lies does not matter"
    shutil.rmtree(tmp_path / "moved" / "checkpoints" / "40")
    (tmp_path / "moved" / "checkpoints" / "best").unlink(missing_ok=True)
    assert made_of(student(tiny, tmp_path / "moved"), run.tokenizer).facts() != once


def test_teachers_that_are_refused(tiny, clean, tmp_path):
    tokenizer = open_run(clean).tokenizer
    other = tokenizers.CharTokenizer.train("".join(chr(ord("a") + i) for i in range(tokenizer.vocab_size)))
    key = r"config\.train\.distil\.teacher="
    for name in ("none", f"{clean},"):
        with pytest.raises(UserError, match=f"{key}.*distil learns from a run's predictions; give its workdir"):
            made_of(student(tiny, name), tokenizer)
    assert other.vocab_size == tokenizer.vocab_size
    with pytest.raises(UserError, match=f"{key}.*its tokenizer.* is not the student's.*--config.data.tokenizer="):
        made_of(student(tiny, clean), other)
    config = student(tiny, clean)
    with pytest.raises(UserError, match=f"{key}.*its tokenizer, of {tokenizer.vocab_size} tokens"):
        distil.Distil(config, build_model(config, tokenizer.vocab_size + 1))
    with pytest.raises(UserError, match=f"{key}.*it reads 16 tokens at most, and the student model.context=32"):
        made_of(student(tiny, clean, "model.context=32"), tokenizer)
    with pytest.raises(UserError, match="has no averaged weights"):
        made_of(student(tiny, clean, "train.distil.averaged=true"), tokenizer)
    shutil.copytree(clean, tmp_path / "going", symlinks=True)
    (tmp_path / "going" / "DONE").unlink()
    with pytest.raises(UserError, match=f"{key}.*has not ended"):
        made_of(student(tiny, tmp_path / "going"), tokenizer)
