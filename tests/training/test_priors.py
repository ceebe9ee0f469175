"""The priors: counts by hand, penalties held to a plain loop, and a train step that knows them one row at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax import devices
from juliagpt_jax.data.sampler import IGNORED
from juliagpt_jax.errors import UserError
from juliagpt_jax.training import priors, step

VOCAB, T = 7, 12


def text(seed: int = 0, n: int = 500) -> np.ndarray:
    return np.random.default_rng(seed).choice(VOCAB - 1, size=n, p=np.arange(1, VOCAB) / 21).astype(np.uint8)


def test_counts_of_a_short_text_by_hand():
    counts = priors.count(np.array([0, 1, 0, 1, 2], np.uint8), 4)
    np.testing.assert_allclose(counts.unigram, [3 / 9, 3 / 9, 2 / 9, 1 / 9])
    np.testing.assert_allclose(counts.bigram[0], (np.array([0, 2, 0, 0]) + counts.unigram) / 3)
    np.testing.assert_allclose(counts.bigram[3], counts.unigram)  # never seen: nothing but the frequencies
    rows = -np.sum(counts.bigram * np.log(counts.bigram), 1)
    assert counts.bound == pytest.approx((2 * rows[0] + 2 * rows[1]) / 4)


def test_a_long_text_is_counted_whole(monkeypatch):
    long = np.resize(text(), 2**24 + 100)
    pairs = np.zeros((VOCAB, VOCAB))
    np.add.at(pairs, (long[:-1], long[1:]), 1)
    counts = priors.count(long, VOCAB)
    np.testing.assert_allclose(counts.bigram, (pairs + counts.unigram) / (pairs.sum(1, keepdims=True) + 1))


def naive(name: str, counts: priors.Counts, logits: np.ndarray, inputs: np.ndarray, targets: np.ndarray) -> float:
    """The same sums in float64, one token at a time."""
    total = 0.0
    for row in range(len(logits)):
        scored = [t for t in range(T) if targets[row, t] != IGNORED]
        p = np.exp(logits[row].astype(float))
        p /= p.sum(-1, keepdims=True)
        kl = lambda q, p: float(np.sum(q * np.log(q / p)))
        if name == "unigram":
            total += sum(kl(counts.unigram, p[t]) for t in scored)
        if name == "bigram":
            total += sum(kl(counts.bigram[inputs[row, t]], p[t]) for t in scored)
        if name == "zipf" and scored:
            total += len(scored) * kl(p[scored].mean(0), counts.unigram)
        if name == "entropy":
            total += max(0.0, sum(-np.sum(p[t] * np.log(p[t])) - counts.bound for t in scored))
    return total


@pytest.mark.parametrize("name", priors.PRIORS)
def test_a_prior_is_the_plain_sum_over_scored_tokens(name, tiny):
    rng = np.random.default_rng(3)
    counts = priors.count(text(), VOCAB)
    logits = rng.normal(0, 0.5, (4, T, VOCAB)).astype(np.float32)
    inputs, targets = rng.integers(VOCAB, size=(2, 4, T))
    targets[1, 5:], targets[2] = IGNORED, IGNORED
    train = tiny(f"train.prior={name}", "train.prior_weight=0.5").train
    got = priors.penalty(train, counts, *map(jnp.asarray, (logits, inputs, targets)))
    want = naive(name, counts, logits, inputs, targets)
    assert want > 0 and float(got) == pytest.approx(want, rel=2e-5)


def test_the_text_itself_is_no_fault():
    """Predictions that are the counts cost nothing; wrong ones do."""
    counts = priors.count(text(), VOCAB)
    inputs = jnp.asarray(text(1, T)[None])
    right = jnp.log(jnp.asarray(counts.bigram, jnp.float32))[inputs]
    scored = jnp.ones((1, T), bool)
    assert abs(float(priors.bigram(counts, right, inputs, scored))) < 1e-5
    assert (
        float(priors.entropy(counts, right * 3 - jax.nn.logsumexp(right * 3, -1, keepdims=True), inputs, scored)) == 0
    )
    level = jnp.broadcast_to(jnp.log(jnp.asarray(counts.unigram, jnp.float32)), right.shape)
    assert abs(float(priors.unigram(counts, level, inputs, scored))) < 1e-5
    assert abs(float(priors.zipf(counts, level, inputs, scored))) < 1e-5
    assert float(priors.bigram(counts, level, inputs, scored)) > 0.01


def test_the_weight_falls_to_zero(tiny):
    train = tiny("train.prior=zipf", "train.prior_weight=0.4", "train.prior_steps=10").train
    assert [round(float(priors.weight(train, jnp.int32(n))), 6) for n in (0, 5, 10, 50)] == [0.4, 0.2, 0, 0]
    stays = tiny("train.prior=zipf", "train.prior_weight=0.4").train
    assert float(priors.weight(stays, jnp.int32(999))) == pytest.approx(0.4)


def one_step(config, prior: bool):
    model = step.build(config, VOCAB)
    mesh = devices.make_mesh(config.mesh, config.train.batch_size // config.train.accumulate)
    make = lambda: step.initial_state(config, model)
    state = jax.jit(make, out_shardings=step.shardings(jax.eval_shape(make), mesh))()
    rng = np.random.default_rng(0)
    window = rng.integers(VOCAB, size=(4, T + 1), dtype=np.int32)
    batch = jax.device_put((window[:, :-1], window[:, 1:]), step.batch_sharding(mesh))
    counts = priors.count(text(), VOCAB) if prior else None
    return step.make_train_step(config, model, mesh, counts)(state, batch)


def test_a_prior_is_in_the_gradient_and_not_in_the_loss_and_micro_batches_do_not_change_it(tiny):
    base = ("model.layers=1", f"model.context={T}", "train.batch_size=4", "train.clip=1e9", "mesh.data=1")
    prior = ("train.prior=zipf", "train.prior_weight=2.0")
    _, plain = one_step(tiny(*base, "train.accumulate=1"), False)
    _, with_prior = one_step(tiny(*base, *prior, "train.accumulate=1"), True)
    _, in_parts = one_step(tiny(*base, *prior, "train.accumulate=4"), True)
    assert float(plain["loss"]) == float(with_prior["loss"])
    assert abs(float(plain["grad_norm"]) - float(with_prior["grad_norm"])) > 0.01
    assert float(in_parts["grad_norm"]) == pytest.approx(float(with_prior["grad_norm"]), rel=1e-5)
    with pytest.raises(ValueError, match="needs the counts"):
        one_step(tiny(*base, *prior, "train.accumulate=1"), False)


@pytest.mark.parametrize(
    "overrides, says",
    [
        (["train.prior=zip", "train.prior_weight=1.0"], "no prior is called 'zip'; did you mean zipf"),
        (["train.prior=zipf"], "a prior needs a weight"),
        (["train.prior_weight=0.1"], "none a weight of 0"),
    ],
)
def test_words_that_do_not_go_together(tiny, overrides, says):
    with pytest.raises(UserError, match=says):
        priors.check_name(tiny(*overrides).train)


def test_a_table_of_pairs_has_a_limit():
    with pytest.raises(UserError, match="too large"):
        priors.count(np.array([0, 1]), priors.LARGEST_VOCABULARY + 1)
