"""Preferences beside TRL's numbers; ln 2 at the first step; what the reference says is computed once."""

import dataclasses
import json
import math
import shutil

import jax
import numpy as np
import pytest

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.data.examples import build as examples
from juliagpt_jax.data.tasks.build import TASKS
from juliagpt_jax.data.tasks.task import Example
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models.build import build_model
from juliagpt_jax.objectives import build, preference
from juliagpt_jax.objectives.objective import Memo
from juliagpt_jax.objectives.preference import DPO, IPO, ORPO, Pair
from juliagpt_jax.training import run

KINDS = {"dpo": DPO, "ipo": IPO, "orpo": ORPO}


@pytest.mark.parametrize("name", KINDS)
def test_loss_gradient_and_logs_are_those_of_trl(name, golden, tiny):
    held = np.load(golden / "dpo" / "golden.npz")
    ids, mask, pairs = held["ids"], held["mask"], len(held["reference"])
    targets = np.where(mask[:, 1:], ids[:, 1:], IGNORED).astype(np.int32)
    own = object.__new__(KINDS[name])
    own.config, own.penalties = tiny(f"train.preference.beta={held['beta']}"), []
    extra = Pair(ids[pairs:, :-1], targets[pairs:], held["reference"])
    batch = Batch(ids[:pairs, :-1], targets[:pairs], extra=extra)

    def loss(logits):
        terms = own.loss(lambda trained, inputs, key: (trained, None, {}), logits, (), Memo(), batch, jax.random.key(0))
        return terms.total / own.count(batch), terms.sums

    (value, sums), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(held["logits"])
    assert float(value) == pytest.approx(float(held[f"{name}/loss"]), rel=1e-5)
    np.testing.assert_allclose(grads, held[f"{name}/grads"], atol=2e-7, rtol=1e-4)
    logged = {key.partition("/")[2] for key in held if key.startswith(f"{name}/r") or key.startswith(f"{name}/logps")}
    assert logged >= {"rewards/chosen", "rewards/rejected"}
    for key in logged:
        assert float(sums[key]) / pairs == pytest.approx(float(held[f"{name}/{key}"]), rel=1e-5), key


RUN = [
    *["data.task=addition", "model.width=16", "model.layers=1", "model.heads=1", "model.context=16"],
    *["train.steps=6", "train.batch_size=8", "train.warmup=0", "train.checkpoint_every=3", "train.eval_every=3"],
    *["train.sample_every=0", "train.log_every=1", "train.eval_windows=64", "mesh.data=1", "data.examples.written=4"],
    *["train.accumulate=2", "train.keep=9"],
]


@pytest.fixture(scope="module")
def base(tmp_path_factory, tiny):
    workdir = tmp_path_factory.mktemp("runs") / "base"
    run.run(tiny(*RUN), workdir, 0.0)
    return workdir


def settled(tiny, base, *flags):
    own = tiny(*RUN, f"train.init={base}", f"data.tokenizer={base / 'tokenizer.json'}", *flags)
    return own, build_model(own, 13), examples.load(own, paired=True)


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.long
@pytest.mark.parametrize("name, first", [("dpo", math.log(2))])
def test_a_run(base, tiny, tmp_path, name, first):
    """ln 2 at the first step to the rounding, since model and reference are one; the report has dev rewards; and a run
    that was cut ends the same."""
    flags = [f"train.init={base}", f"train.objective={name}", "train.lr=0.003", "train.min_lr=0.001"]
    report = run.run(tiny(*RUN, *flags), tmp_path / "whole", 0.0)
    logged = rows(tmp_path / "whole")
    assert logged[0]["loss"] == pytest.approx(first, abs=1e-6 * max(1, first))
    assert abs(logged[0]["rewards/margins"]) < 1e-5 and logged[0]["rewards/chosen"] == pytest.approx(0, abs=1e-5)
    assert logged[-1]["val_rewards/margins"] > 0.01
    assert logged[-1]["val_loss"] < first and logged[-1]["val_answer_loss"] > 0
    assert 0 < report[name]["rewards/accuracies"] <= 1 and report[name]["loss"] < first
    shutil.copytree(tmp_path / "whole", tmp_path / "cut", symlinks=True)
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "6")
    (tmp_path / "cut" / "DONE").unlink()
    again = run.run(tiny(*RUN, *flags), tmp_path / "cut", 0.0)
    assert again[name] == report[name] and again["loss"] == report["loss"]


@pytest.mark.long
def test_what_the_reference_says_is_computed_once(base, tiny, monkeypatch, capsys):
    own, model, found = settled(tiny, base, "train.objective=dpo")
    first = DPO(own, model, found)
    assert "scoring 21,000 answers with the reference" in capsys.readouterr().out
    monkeypatch.setattr(preference, "open_model", None)
    again = DPO(own, model, found)
    for a, b in zip(first.reference, again.reference, strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.facts() == first.facts() and len(first.facts()["reference"]) == 64
    other = dataclasses.replace(found, fingerprint="other")
    with pytest.raises(TypeError):  # another text is scored anew
        DPO(own, model, other)
    batch = found.rejected_rows.take([5])
    extra = first.extra(np.array([5]))
    np.testing.assert_array_equal(extra.inputs, batch.inputs)
    assert extra.reference.shape == (1, 2) and (extra.reference < 0).all()


def test_what_is_refused(tiny, tmp_path):
    with pytest.raises(UserError, match=r"train\.objective=dpo: it learns from examples"):
        build.build_objective(tiny("train.objective=dpo"), build_model(tiny(), 13))
    with pytest.raises(UserError, match="kfac measures the curvature of a sum over targets"):
        build.check(tiny("train.objective=ipo", "train.optimizer=kfac", "train.kfac.fisher=empirical"))
    lines = [{"prompt": f"{i}+1=", "chosen": str(i + 1), "rejected": "0"} for i in range(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = tiny("train.objective=dpo", "data.task=jsonl", f"data.path={tmp_path / 'pairs.jsonl'}")
    found = examples.load(own, paired=True)
    with pytest.raises(UserError, match=r"reference=none: rewards are measured from a model"):
        DPO(own, build_model(own, 13), found)
    with pytest.raises(UserError, match=r"config\.train\.init=.*is not the workdir of a run"):
        named = dataclasses.replace(own, train=dataclasses.replace(own.train, init=str(tmp_path)))
        DPO(named, build_model(own, 13), found)
    with pytest.raises(UserError, match="a row of dpo holds one answer"):
        DPO(own, build_model(own, 13), dataclasses.replace(found, pack=True))
    ORPO(own, build_model(own, 13), found)  # has no reference


@pytest.mark.long
def test_own_mistakes(base, tiny, tmp_path):
    """The rejected answer is one that the reference wrote and the verifier finds wrong; a question without one is left
    out; the run measures the dev questions that have one."""
    flags = "train.objective=dpo", "train.preference.samples=1", "train.preference.sft=1", f"train.init={base}"
    own = tiny(*RUN, *flags, f"data.tokenizer={base / 'tokenizer.json'}")
    found = examples.load(own)
    objective, task = DPO(own, build_model(own, 13), found), TASKS["addition"]
    chosen, rejected, *_ = objective.pairs
    assert len(chosen) == len(rejected) == len(objective.reference[0]) and not build.paired(own)
    for i in range(0, len(chosen), 500):
        right, wrong = (own.examples[i] for own in (chosen, rejected))
        prompt, answer = (found.tokenizer.decode(right.ids[right.learned == side]) for side in (False, True))
        question = Example(prompt.strip(), answer, facts={"number": int(answer), "operands": (0, 0)})
        assert found.tokenizer.decode(wrong.ids[~wrong.learned]) == prompt
        assert not task.verify(question, found.form.answered(wrong.ids[wrong.learned]))
    report = run.run(tiny(*RUN, *flags), tmp_path / "run", 0.0)
    assert report["dpo"]["loss"] > math.log(2), "with the chosen answer's own loss beside"
