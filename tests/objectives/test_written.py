"""Learning from one's own answers: the loss written out, answers that are a function of weights, seed and step, and
runs that go on."""

import json
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.data.examples import build as examples
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models.build import build_model
from juliagpt_jax.objectives import build, distil
from juliagpt_jax.objectives.objective import Memo
from juliagpt_jax.objectives.written import GRPO, ExpertIteration, Graded
from juliagpt_jax.store import init
from juliagpt_jax.training import run
from juliagpt_jax.training.examples import ExampleTrainer

RUN = [
    *["data.task=addition", "model.width=16", "model.layers=1", "model.heads=1", "model.context=24"],
    *["train.steps=6", "train.batch_size=16", "train.warmup=0", "train.checkpoint_every=3", "train.eval_every=3"],
    *["train.sample_every=0", "train.log_every=1", "train.eval_windows=64", "mesh.data=1", "data.examples.written=4"],
    *["train.keep=9", "train.accumulate=1"],
]


@pytest.fixture(scope="module")
def some(tiny, tmp_path_factory):
    """Sums of small numbers, and the objective GRPO on them."""
    folder = tmp_path_factory.mktemp("sums")
    lines = [{"prompt": f"{i}+{j}=", "answer": str(i + j)} for i in range(9) for j in range(9)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = tiny(*RUN, "data.task=jsonl", f"data.path={folder / 'sums.jsonl'}", "train.written.group=4")
    found = examples.load(own)
    return own, build_model(own, found.tokenizer.vocab_size), found


def test_rewards_and_advantages(some):
    """A verifier marks what was written; one without an end is wrong; a group that is all right teaches nothing."""
    config, model, found = some
    objective, form = GRPO(config, model, found), found.form
    said = iter(["right", "wrong", "right", "endless"] + ["right"] * 4)

    def write(prompts, most):
        texts = [found.tokenizer.decode(prompt)[1:-1] for prompt in prompts]
        end = np.array(form.end)
        ids = {text: form.tokenizer.encode(str(eval(text))) for text in texts}
        how = {"right": lambda own: np.concatenate([own, end]), "wrong": lambda own: np.concatenate([own[:1] ^ 1, end])}
        return [how.get(next(said), lambda own: own)(ids[text]) for text in texts]

    batch = objective.written(write, np.array([3, 5]))
    own: Graded = batch.extra
    assert own.rewards.tolist() == [1, 0, 1, 0, 1, 1, 1, 1]
    np.testing.assert_allclose(own.advantages, [1, -1, 1, -1, 0, 0, 0, 0], atol=1e-3)
    assert batch.inputs.shape == (8, objective.length) and (batch.targets[0] != IGNORED).sum() == len(
        form.tokenizer.encode(found.train[3].answer)
    ) + len(form.end)
    np.testing.assert_array_equal(ExpertIteration(config, model, found).advantages(own.rewards), own.rewards)


def test_the_loss(some):
    config, model, found = some
    objective = GRPO(config, model, found)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 8, 11)).astype(np.float32)
    targets = rng.integers(11, size=(4, 8), dtype=np.int32)
    targets[:, :2], targets[1, 4:] = IGNORED, IGNORED
    own = Graded(np.array([1, -1, 0.5, 0], np.float32), np.array([1, 0, 1, 0], np.float32))
    apply = lambda trained, inputs, key: (trained, None, {})
    loss = lambda logits: objective.loss(apply, logits, (), Memo(), Batch(targets, targets, extra=own), None)
    terms = jax.jit(loss)(logits)
    log = np.asarray(jax.nn.log_softmax(logits))
    means = [np.mean([log[r, t, targets[r, t]] for t in range(8) if targets[r, t] >= 0]) for r in range(4)]
    assert float(terms.total) == pytest.approx(-float(np.dot(own.advantages, means)), rel=1e-5)
    assert float(terms.sums["surprise"]) == pytest.approx(-sum(means), rel=1e-5)
    assert (float(terms.sums["reward"]), float(terms.sums["mixed"])) == (2, 3)


def test_a_student_that_is_its_teacher(some, monkeypatch):
    """Loss and gradient are 0 where the two are one, and the reverse divergence where they are not."""
    config, model, found = some
    weights = [model.init(jax.random.key(seed), jnp.zeros((1, 2), int))["params"] for seed in (1, 2)]
    teacher = types.SimpleNamespace(model=model, params=weights[0], run=types.SimpleNamespace(config=config))
    monkeypatch.setattr(distil, "_open_teacher", lambda *given: teacher)
    objective = distil.OnPolicy(config, model, found)
    batch = found.rows.take(range(4))

    def loss(params, frozen):
        apply = lambda trained, inputs, key=None: model.apply({"params": trained}, inputs)
        terms = objective.loss(apply, params, (frozen,), Memo(), batch, jax.random.key(0))
        return terms.total / objective.count(batch)

    both = jax.jit(jax.value_and_grad(loss))
    value, grads = both(weights[0], weights[0])
    assert float(value) == 0.0 and max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(grads)) < 1e-6
    value, grads = both(weights[1], weights[0])
    student, teaches = (jax.nn.log_softmax(model.apply({"params": own}, batch.inputs)[0]) for own in weights[::-1])
    wanted = jnp.sum(jnp.exp(student) * (student - teaches), axis=-1)[batch.targets != IGNORED].mean()
    assert float(value) == pytest.approx(float(wanted), rel=1e-4) and float(value) > 1e-3


def test_what_is_refused(some, tiny):
    _, model, found = some
    with pytest.raises(UserError, match="grpo: it learns from examples"):
        build.build_objective(tiny("train.objective=grpo"), model)
    with pytest.raises(UserError, match=r"written\.group=8 does not divide train\.batch_size=12"):
        GRPO(tiny(*RUN, "train.objective=grpo", "train.batch_size=12"), model, found)
    with pytest.raises(UserError, match="no room for an answer"):
        GRPO(tiny(*RUN, "model.context=5", "train.objective=grpo"), model, found)
    with pytest.raises(UserError, match="kfac measures the curvature"):
        build.check(tiny("train.objective=grpo", "train.optimizer=kfac", "train.kfac.fisher=empirical"))


@pytest.mark.long
def test_a_run_that_was_cut_ends_with_the_same_bits(tiny, tmp_path):
    """What is written depends on weights, seed and step alone."""
    base = tmp_path / "base"
    run.run(tiny(*RUN), base, 0.0)
    config = tiny(*RUN, f"train.init={base}", "train.objective=grpo", "train.lr=0.002", "train.min_lr=0.002")
    report = run.run(config, tmp_path / "whole", 0.0)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut", symlinks=True)
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "6")
    (tmp_path / "cut" / "DONE").unlink()
    again = run.run(config, tmp_path / "cut", 0.0)
    rows = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "cut")]
    timed = lambda key: key.endswith("_s") or key == "mfu"
    plain = [[{k: v for k, v in json.loads(row).items() if not timed(k)} for row in some] for some in rows]
    assert plain[0] == plain[1] and {"reward", "surprise", "mixed"} <= set(plain[0][0])
    assert again["loss"] == report["loss"]
    settled = init.settle(config, tmp_path / "whole")
    trainer = ExampleTrainer(settled, examples.load(settled), tmp_path / "whole", {})
    one, same, other = (jax.device_get(trainer.batch(step)) for step in (2, 2, 3))
    np.testing.assert_array_equal(one.inputs, same.inputs)
    assert (one.inputs != other.inputs).any()
    prompts = {tuple(row[:9]) for row in one.inputs.tolist()}
    assert len(prompts) == 2, "two groups of eight"
    assert len({tuple(row) for row in one.inputs.tolist()}) > 4, "whose answers are not all alike"
