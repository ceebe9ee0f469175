"""The penalties from n-grams: against counts by hand, the same however a batch is cut, and nothing at weight 0."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.data.selection import Selection
from juliagpt_jax.ground import devices
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models.build import build_model
from juliagpt_jax.objectives import build, ngrams
from juliagpt_jax.objectives.next_token import NextToken
from juliagpt_jax.objectives.objective import Memo
from juliagpt_jax.training import step
from juliagpt_jax.training.state import Frozen, initial_state

VOCAB, T = 7, 16


@pytest.fixture(scope="module")
def tokens():
    """A second-order chain, so that single tokens, pairs and triples all say something; token 6 never occurs."""
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.full(6, 0.3), size=(6, 6))
    text = [0, 1]
    for _ in range(5000):
        text.append(rng.choice(6, p=table[text[-2], text[-1]]))
    return np.array(text, np.uint8)


def batch(tokens, rows=4):
    """Windows of which the second is short."""
    windows = np.stack([tokens[i * 50 : i * 50 + T + 1] for i in range(rows)]).astype(np.int32)
    inputs, targets = windows[:, :-1], windows[:, 1:].copy()
    targets[1, 5:] = IGNORED
    return jnp.asarray(inputs), jnp.asarray(targets)


def logits(rows=4):
    return jnp.asarray(np.random.default_rng(1).normal(size=(rows, T, VOCAB)) * 2, jnp.float32)


def test_tables_against_counts_by_hand(tokens):
    text = tokens.tolist()
    shares, after = ngrams.unigrams(tokens, VOCAB), ngrams.bigrams(tokens, VOCAB)
    assert shares[3] == pytest.approx(text.count(3) / len(text)) and shares[6] == 0
    pairs = [b for a, b in itertools.pairwise(text) if a == 2]
    np.testing.assert_allclose(after[2], [pairs.count(b) / len(pairs) for b in range(VOCAB)])
    np.testing.assert_allclose(after[6], shares, err_msg="nothing follows token 6")
    np.testing.assert_allclose(after.sum(axis=1), 1)
    surprise = [np.log(sum(1 for t in triples if t[:2] == s[:2]) / triples.count(s)) for triples in
                [list(zip(text[:400], text[1:400], text[2:400], strict=False))] for s in triples]  # fmt: skip
    assert ngrams.trigram_entropy(tokens[:400], VOCAB) == pytest.approx(np.mean(surprise))


def test_the_zipf_fit_finds_the_law_it_is_given():
    ranks = np.arange(1, 60)
    law = (ranks + 2.7) ** -1.3
    law /= law.sum()
    shuffle = np.random.default_rng(0).permutation(59)
    np.testing.assert_allclose(ngrams.zipf_mandelbrot(law[shuffle]), law[shuffle], rtol=2e-3)


def test_bigram_is_a_kl_divergence(tokens):
    inputs, targets = batch(tokens)
    table, p = ngrams.bigrams(tokens, VOCAB), np.asarray(jax.nn.softmax(logits()), np.float64)
    wanted = 0.0
    for row in range(4):
        for t in range(T):
            if targets[row, t] != IGNORED:
                q = table[inputs[row, t]]
                wanted += sum(q[v] * np.log(q[v] / p[row, t, v]) for v in range(VOCAB) if q[v])
    penalty = ngrams.PENALTIES["bigram"](tokens, VOCAB)
    assert float(penalty(logits(), inputs, targets)) == pytest.approx(wanted, rel=1e-5)
    assert float(penalty(jnp.log(jnp.asarray(table)[inputs] + 1e-30), inputs, targets)) == pytest.approx(0, abs=1e-4)


def test_zipf_is_a_kl_divergence_of_each_window(tokens):
    inputs, targets = batch(tokens)
    law = ngrams.zipf_mandelbrot(ngrams.unigrams(tokens, VOCAB))
    p, wanted = np.asarray(jax.nn.softmax(logits()), np.float64), 0.0
    for row in range(4):
        count = int((targets[row] != IGNORED).sum())
        wanted += count * np.sum(law * np.log(law / p[row, :count].mean(axis=0)))
    penalty = ngrams.PENALTIES["zipf"](tokens, VOCAB)
    assert float(penalty(logits(), inputs, targets)) == pytest.approx(wanted, rel=1e-4)
    flat = jnp.broadcast_to(jnp.log(jnp.asarray(law)), (4, T, VOCAB))
    assert float(penalty(flat, inputs, targets)) == pytest.approx(0, abs=1e-3)


def test_entropy_asks_nothing_of_who_doubts_less_than_the_bound(tokens):
    inputs, targets = batch(tokens)
    bound, penalty = ngrams.trigram_entropy(tokens, VOCAB), ngrams.PENALTIES["entropy"](tokens, VOCAB)
    assert float(penalty(50 * logits(), inputs, targets)) == 0
    scored = int((targets != IGNORED).sum())
    uniform = float(penalty(jnp.zeros((4, T, VOCAB)), inputs, targets))
    assert uniform == pytest.approx(scored * (np.log(VOCAB) - bound), rel=1e-5)


@pytest.mark.parametrize("name", ngrams.PENALTIES)
def test_a_sum_over_windows(tokens, name):
    """What is not scored counts for nothing, and parts of a batch add up."""
    inputs, targets = batch(tokens)
    penalty = ngrams.PENALTIES[name](tokens, VOCAB)
    whole = float(penalty(logits(), inputs, targets))
    parts = sum(float(penalty(logits()[i : i + 1], inputs[i : i + 1], targets[i : i + 1])) for i in range(4))
    assert whole == pytest.approx(parts, rel=1e-5) and whole > 0
    other = logits().at[1, 5:].add(jnp.arange(VOCAB, dtype=jnp.float32)[None])
    assert float(penalty(other, inputs, targets)) == pytest.approx(whole, rel=1e-6)
    gradient = jax.grad(penalty)(logits(), inputs, targets)
    assert np.isfinite(gradient).all() and not np.asarray(gradient)[1, 5:].any() and np.asarray(gradient).any()


def objective(config, tokens, vocab=VOCAB):
    chosen = object.__new__(Selection)
    vars(chosen).update(tokens=tokens)
    return NextToken(config, build_model(config, vocab), chosen)


def run(config, tokens, penalties, accumulate=1):
    """The state after one step from the same weights."""
    model = build_model(config, VOCAB)
    mesh = devices.make_mesh(config.mesh, config.train.batch_size // accumulate)
    own = objective(config, tokens)
    assert len(own.penalties) == penalties
    state = initial_state(config, model)
    return step.make_train_step(config, model, mesh, own)(state, Batch(*batch(tokens)), Frozen())


def test_in_the_train_step(tiny, tokens):
    """The same however the batch is cut and spread; the loss that is reported is the cross entropy alone; weight 0 is
    the step without, whatever the name."""
    flags = ["model.layers=1", "train.ngram.weight=0.5", "train.lr=0.01", "train.warmup=0"]
    one, metrics = run(tiny(*flags), tokens, 1)
    cut, cut_metrics = run(tiny(*flags, "train.accumulate=2", "mesh.data=2"), tokens, 1, 2)
    plain, plain_metrics = run(tiny(*flags, "train.ngram.weight=0"), tokens, 0)
    assert metrics["loss"] == plain_metrics["loss"] and metrics["grad_norm"] != plain_metrics["grad_norm"]
    assert float(cut_metrics["grad_norm"]) == pytest.approx(float(metrics["grad_norm"]), rel=1e-5)
    leaves = lambda state: [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]
    for a, b in zip(leaves(one), leaves(cut), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
    assert any((a != b).any() for a, b in zip(leaves(one), leaves(plain), strict=True))


def test_too_many_to_count(tiny, tokens):
    for name, vocab in [("bigram", 5000), ("entropy", 300)]:
        with pytest.raises(UserError, match=r"too many to count; zipf counts single tokens"):
            objective(tiny(f"train.ngram.kind={name}", "train.ngram.weight=1"), tokens, vocab)
    with pytest.raises(UserError, match=r"config.train.ngram.kind: no kind is called 'bigrams'; did you mean bigram"):
        build.check(tiny("train.ngram.kind=bigrams"))


def test_without_a_corpus_there_is_no_silent_penalty(tiny):
    config = tiny("train.ngram.weight=0.5")
    with pytest.raises(UserError, match=r"train.ngram.weight=0.5: n-grams are counted in a corpus, and here is none"):
        NextToken(config, build_model(config, VOCAB))


def test_penalties_add_up(tiny, tokens):
    """That of n-grams and that of an ODE's energy, beside the loss: the total is the sum of all three, each weighed."""
    words = ["model.depth=ode", "model.layers=1", "train.ngram.kind=zipf"]
    config = tiny(*words, "train.ngram.weight=0.5", "train.ode_energy=2")
    model, given = build_model(config, VOCAB), Batch(*batch(tokens))
    params = model.init(jax.random.key(0), given.inputs)["params"]
    apply = lambda params, inputs, key: model.apply({"params": params}, inputs)
    terms = objective(config, tokens).loss(apply, params, (), Memo(), given, None)
    out, _, aux = apply(params, given.inputs, None)
    zipf = ngrams.PENALTIES["zipf"](tokens, VOCAB)(out, given.inputs, given.targets)
    energy = aux["ode"][0].energy * int(given.scored.sum())
    wanted = float(terms.sums["loss"]) + 0.5 * float(zipf) + 2 * float(energy)
    assert float(terms.total) == pytest.approx(wanted, rel=1e-6) and min(float(zipf), float(energy)) > 1
