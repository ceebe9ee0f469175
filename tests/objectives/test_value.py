"""A verifier: its loss and its reliability written out, and a run that learns to judge and is asked."""

import itertools

import jax
import numpy as np
import pytest

from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.data.examples.rows import Encoded
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference import judging
from juliagpt_jax.objectives.objective import Memo
from juliagpt_jax.objectives.value import Marked, Value, _begun
from juliagpt_jax.training import run


def marked(last):
    answers = [
        Encoded(np.array([3, 4, 5, 6]), np.array([0, 0, 1, 1], bool)),
        Encoded(np.array([3, 7]), np.array([0, 1], bool)),
    ]
    return Marked(answers, [[0], [1]], 8, False, np.array([True, False]), last)


def test_every_token_of_an_answer_is_judged_or_the_last():
    each, last = marked(False).take([0, 1]), marked(True).take([0, 1])
    assert each.inputs[0].tolist() == [3, 4, 5, 6, 0, 0, 0, 0]
    assert each.targets.tolist() == [[IGNORED, IGNORED, 1, 1] + [IGNORED] * 4, [IGNORED, 0] + [IGNORED] * 6]
    assert last.targets.tolist() == [[IGNORED] * 3 + [1] + [IGNORED] * 4, [IGNORED, 0] + [IGNORED] * 6]


def test_what_is_there_up_to_each_token_is_judged():
    """Until the first mistake all is right, behind it nothing; behind the end, the answer as a whole."""
    answer = lambda *ids: Encoded(np.array([3, 4, *ids]), np.arange(2 + len(ids)) > 1)
    wanted = [answer(5, 6, 1), answer(7, 1)]
    written = [answer(5, 8, 1), answer(5, 6, 1), answer(7, 6, 6, 1), answer(7)]  # two to each question
    begun = _begun(written, wanted, 2)
    assert begun.tolist() == [3, 5, 3, 3]
    right = np.array([False, True, False, False])
    batch = Marked(written, [[i] for i in range(4)], 8, False, right, False, begun).take(range(4))
    labels = [[1, 0, 0], [1, 1, 1], [1, 0, 0, 0], [0]]
    assert batch.targets.tolist() == [[IGNORED] * 2 + own + [IGNORED] * (6 - len(own)) for own in labels]


def test_the_loss(tiny):
    own = object.__new__(Value)
    own.config, own.penalties = tiny(), []
    batch = marked(False).take([0, 1])
    logits = np.random.default_rng(0).normal(size=(2, 8, 9)).astype(np.float32)
    terms = own.loss(lambda trained, inputs, key: (trained, None, {}), logits, (), Memo(), batch, jax.random.key(0))
    odds = logits[..., judging.RIGHT] - logits[..., judging.WRONG]
    log = lambda x: np.log1p(np.exp(x))
    wanted = (log(-odds[0, 2]) + log(-odds[0, 3])) / 2 + log(odds[1, 1])
    assert float(terms.total) == pytest.approx(float(wanted), rel=1e-5) and float(own.count(batch)) == 2
    true = np.mean([odds[0, 2] > 0, odds[0, 3] > 0]) + float(odds[1, 1] < 0)
    assert float(terms.sums["accuracy"]) == pytest.approx(float(true))


def test_right_tokens_are_learned_beside_the_verdict(tiny):
    """Those of the first answer, which is right: half of the mean of their losses is added."""
    own = object.__new__(Value)
    batch = marked(False).take([0, 1])
    logits = np.random.default_rng(0).normal(size=(2, 8, 9)).astype(np.float32)
    totals = []
    for text in (0, 0.5):
        own.config, own.penalties = tiny(f"train.value.text={text}"), []
        terms = own.loss(lambda trained, inputs, key: (trained, None, {}), logits, (), Memo(), batch, jax.random.key(0))
        totals.append(float(terms.total))
    written = -jax.nn.log_softmax(logits)[0, [1, 2], [5, 6]]
    assert totals[1] - totals[0] == pytest.approx(0.5 * float(written.mean()), rel=1e-5)


def test_reliability():
    rng = np.random.default_rng(0)
    p = rng.random(200).round(2)
    right = rng.random(200) < p
    found = judging.reliability(p, right)
    assert found["false_accepts"] == np.mean([x > 0.5 for x, good in zip(p, right, strict=True) if not good])
    assert found["false_rejects"] == np.mean([x <= 0.5 for x, good in zip(p, right, strict=True) if good])
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(p[right], p[~right])]
    assert found["ranked"] == pytest.approx(np.mean(pairs)) and found["accuracy"] == np.mean((p > 0.5) == right)
    assert sum(count for *_, count in found["calibration"]) == 200 and found["calibration_error"] < 0.15
    assert found["brier"] == pytest.approx(np.mean((p - right) ** 2))
    alone = judging.reliability(np.array([0.9]), np.array([True]))
    assert alone["ranked"] is None and alone["false_accepts"] is None and alone["false_rejects"] == 0


@pytest.mark.long
def test_a_run_learns_to_judge_and_is_asked(tiny, tmp_path):
    common = [
        *["data.task=addition", "model.width=16", "model.layers=1", "model.heads=1", "model.context=24"],
        *["train.batch_size=32", "train.warmup=0", "train.eval_every=30", "train.sample_every=0", "mesh.data=1"],
        *[
            "train.log_every=1",
            "train.eval_windows=64",
            "data.examples.written=4",
            "train.lr=0.01",
            "train.min_lr=0.01",
        ],
    ]
    run.run(tiny(*common, "train.steps=30"), tmp_path / "base", 0.0)
    more = f"train.init={tmp_path / 'base'}", "train.objective=value", "train.value.samples=1", "train.steps=40"
    report = run.run(tiny(*common, *more), tmp_path / "judge", 0.0)
    own = report["value"]
    assert own["judged"] == 500 and own["loss"] < np.log(2) and own["false_accepts"] is not None
    judge = judging.open_judge(tmp_path / "judge")
    given = ["123+456=", "123+456=", "1+1="], ["0579", "0000", "0002"]
    each = judge.score(*given)
    assert each.shape == (3,) and ((each > 0) & (each < 1)).all()
    for i in range(3):
        np.testing.assert_allclose(judge.score([given[0][i]], [given[1][i]]), each[i : i + 1], atol=1e-6)
    with pytest.raises(UserError, match="it learned next_token, not to judge answers"):
        judging.open_judge(tmp_path / "base")
    with pytest.raises(UserError, match="the judge reads 24 at most"):
        judge.score(["1+" * 20], ["1"])
