"""Retraining on parts: the runs are those of the trainer, and the datamodeling score is a rank correlation."""

import jax
import numpy as np
import pytest
from scipy import stats

from juliagpt_jax.evaluation.chunk_scores import lines
from juliagpt_jax.inference.generate import compiled_programs
from juliagpt_jax.store.workdir import open_run
from juliagpt_jax.study.retraining import Retrainer, interval, lds, parts


def test_parts_are_random_halves():
    chosen = parts(11, 40, 0.5, 0)
    assert chosen.shape == (40, 11) and (chosen.sum(axis=1) == 6).all()
    assert len({row.tobytes() for row in chosen}) > 35
    assert abs(chosen.mean(axis=0) - 6 / 11).max() < 0.3
    np.testing.assert_array_equal(chosen, parts(11, 40, 0.5, 0))
    assert (chosen != parts(11, 40, 0.5, 1)).any()


def test_a_run_is_that_of_main(micro, clean):
    """The same text, recipe and seed end in the parameters of the workdir; the other seeds share its program."""
    run = open_run(clean)
    text = micro.text.read_text()
    chunks = lines(run.tokenizer.encode(text[: len(text) - int(len(text) * 0.1)]), run.tokenizer.lead)
    retrainer = Retrainer(run.config, run.tokenizer.vocab_size, run.tokenizer.lead)
    kept = retrainer.train(chunks, run.config.seed, keep_every=15)
    assert [step for step, _ in kept] == [15, 30, 40]
    for mine, theirs in zip(jax.tree.leaves(kept[-1][1]), jax.tree.leaves(run.params), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-4)
    some = chunks.take(np.arange(0, 200))
    ((_, other),) = retrainer.train(some, 5)
    assert compiled_programs(retrainer._step) == 1
    assert np.abs(other["embedding"] - kept[-1][1]["embedding"]).max() > 0.01
    queries = chunks.take(np.arange(3))
    assert retrainer.losses(other, queries).shape == (3,)
    assert retrainer.losses(other, queries).mean() < np.log(run.tokenizer.vocab_size)


@pytest.fixture(scope="module")
def linear():
    """Losses that are a sum over the chunks of a part: scores (30, 4), parts (20, 30), losses (20, 4)."""
    rng = np.random.default_rng(0)
    scores, chosen = rng.normal(size=(30, 4)), parts(30, 20, 0.5, 1)
    return scores, chosen, 2 - chosen @ scores


def test_lds_is_a_rank_correlation(linear):
    scores, chosen, losses = linear
    np.testing.assert_allclose(lds(scores, chosen, losses), 1)
    np.testing.assert_allclose(lds(scores, chosen, np.exp(losses)), 1)  # any rising function
    np.testing.assert_allclose(lds(-scores, chosen, losses), -1)
    noisy = losses + np.random.default_rng(1).normal(size=losses.shape).round(1)
    wanted = [stats.spearmanr(chosen @ scores[:, q], -noisy[:, q]).statistic for q in range(4)]
    np.testing.assert_allclose(lds(scores, chosen, noisy), wanted, rtol=1e-10)
    np.testing.assert_array_equal(lds(0 * scores, chosen, losses), 0)  # a score that says nothing


def test_the_interval_holds_the_truth_and_tells_chance_from_knowledge(linear):
    scores, chosen, losses = linear
    noisy = losses + np.random.default_rng(2).normal(0, 3, size=losses.shape)
    low, high = interval(scores, chosen, noisy, 200, 0)
    assert 0 < low < lds(scores, chosen, noisy).mean() < high < 1
    low, high = interval(np.random.default_rng(3).normal(size=scores.shape), chosen, noisy, 200, 0)
    assert low < 0 < high
