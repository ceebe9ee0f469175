"""Speculative decoding writes what the large model writes: the same greedy text, the same distribution."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.inference.sampling import Rule, distribution
from juliagpt_jax.inference.speculative import SpeculativeGenerator, accept
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.mixers import MIXERS, rewindable

SLOTS = 16
GREEDY, SAMPLED = Rule(greedy=True), Rule(temperature=1.5, top_p=0.95)


def random_model(tiny, vocab: int, seed: int, *overrides: str, scale: float = 2.5):
    """A model of one layer whose next token depends, the more the larger the scale, on what came before."""
    config = tiny(
        "model.width=8", "model.heads=1", "model.layers=1", f"model.context={SLOTS}", "model.tie=false", *overrides
    )
    model, rng = build_model(config, vocab), np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 2), int))["params"])
    draw = lambda s: rng.normal(size=s.shape) * scale * s.shape[0] ** -0.5 if len(s.shape) > 1 else np.ones(s.shape)
    return model, jax.tree.map(lambda s: jnp.asarray(draw(s), jnp.float32), shapes)


@pytest.fixture(scope="module")
def large(tiny):
    return random_model(tiny, 7, 1)


@pytest.fixture(scope="module")
def small(large, tiny):
    """Near to the large model, so that it guesses well enough."""
    model, params = large
    return model, jax.tree.map(lambda p, other: p + 0.3 * other, params, random_model(tiny, 7, 2)[1])


@pytest.fixture(scope="module")
def pair(large, small):
    return Generator(*large, sinks=2), SpeculativeGenerator(*large, *small, draft_tokens=3, sinks=2)


def prompt(length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(7, size=length)


PROMPTS = [prompt(n) for n in (1, 2, SLOTS - 1, SLOTS, 3 * SLOTS)]


def test_greedy_text_is_the_same(pair):
    """Rows that accept different counts and roll their windows at different times, for four contexts."""
    plain, speculative = pair
    text = plain.generate(PROMPTS, 4 * SLOTS + 3, GREEDY)
    np.testing.assert_array_equal(speculative.generate(PROMPTS, 4 * SLOTS + 3, GREEDY), text)
    assert speculative.decode_program(len(PROMPTS), GREEDY).memory_analysis().argument_size_in_bytes > 0
    assert 0.02 < speculative.accepted / speculative.proposed < 0.9, "guesses were kept, and rejected"


@pytest.mark.long
def test_each_row_is_what_it_would_be_alone(pair):
    _, speculative = pair
    together = speculative.generate(PROMPTS[:2], SLOTS - 2, SAMPLED, seed=4)
    for row, given in zip(together, PROMPTS[:2], strict=True):
        np.testing.assert_array_equal(row, speculative.generate([given], SLOTS - 2, SAMPLED, seed=4)[0])
    assert (together != speculative.generate(PROMPTS[:2], SLOTS - 2, SAMPLED, seed=5)).any()


def test_a_model_agrees_with_itself(large):
    """Its own guesses are all kept, so a round brings one token more than guesses."""
    speculative = SpeculativeGenerator(*large, *large, draft_tokens=3)
    speculative.generate(PROMPTS[:2], 2 * SLOTS, Rule())
    assert speculative.accepted == speculative.proposed
    assert speculative.proposed == 2 * 3 * 2 * SLOTS / 4, "two rows, three guesses, four tokens a round"


@pytest.mark.parametrize("rule", [Rule(), Rule(0.7, top_k=4, top_p=0.9)], ids=["plain", "restricted"])
def test_text_has_the_distribution_of_the_large_model(rule, tiny):
    """The first three tokens of 8,000 rows against the exact probabilities of all 125 texts: a chi-square test."""
    vocab, rows, length = 5, 8_000, 3
    (model, params), draft = (random_model(tiny, vocab, seed, "model.context=8", scale=1.2) for seed in (3, 4))
    speculative = SpeculativeGenerator(model, params, *draft, draft_tokens=2)
    start = np.array([1, 4])
    tokens = speculative.generate([start] * rows, length, rule)
    counts = np.bincount(tokens @ vocab ** np.arange(length)[::-1], minlength=vocab**length)

    texts = np.array(list(itertools.product(range(vocab), repeat=length)))
    behind = np.concatenate([np.tile(start, (len(texts), 1)), texts[:, :-1]], axis=1)
    logits = model.apply({"params": params}, behind)[0][:, 1:]
    chances = np.asarray(distribution(rule, logits), np.float64)
    expected = rows * np.prod(np.take_along_axis(chances, texts[:, :, None], axis=2)[:, :, 0], axis=1)
    assert counts[expected == 0].sum() == 0, "a text that the rule forbids"
    often = expected >= 5
    rest = (counts[~often].sum(), expected[~often].sum())
    observed, wanted = np.append(counts[often], rest[0]), np.append(expected[often], rest[1])
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    assert len(wanted) > 15, "a distribution, not one text"
    assert stats.chisquare(observed, wanted * rows / wanted.sum()).pvalue > 0.01
    assert 0.1 < speculative.accepted / speculative.proposed < 0.9


def test_acceptance_by_hand():
    """Two guesses: kept while the number is below p / q; then from what p has more than q, or from p."""
    p = jnp.array([[[0.5, 0.5, 0.0], [0.2, 0.2, 0.6], [0.0, 0.0, 1.0]]])
    q = jnp.array([[[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]])
    run = lambda *number: [int(x[0]) for x in accept(p, q, jnp.array([[0, 1]]), jnp.array([number]))]
    assert run(0.62, 0.24, 0.9) == [2, 2], "0.5 / 0.8 = 0.625 and 0.2 / 0.8 = 0.25: both kept, then p of the third"
    assert run(0.63, 0.24, 0.9) == [0, 1], "the first is not kept: only token 1 has more in p"
    assert run(0.62, 0.26, 0.16) == [1, 0] and run(0.62, 0.26, 0.17) == [1, 2], "0.1 and 0.5 more: 1 to 5"
    same = jnp.broadcast_to(jnp.array([0.25, 0.25, 0.5]), (1, 3, 3))
    kept, token = accept(same, same[:, :2], jnp.array([[0, 1]]), jnp.array([[1 - 2**-24, 1 - 2**-24, 0.9]]))
    assert int(token[0]) == 2 and 0 <= int(kept[0]) <= 2, "where rounding rejects of two equal distributions, p is left"


@pytest.mark.parametrize("word", MIXERS)
def test_which_caches_go_back(word, tiny):
    """Tokens fed and taken back change nothing of what follows, to the bit, if and only if the mixer says so."""
    model, params = random_model(tiny, 7, 5, f"model.mixer={word}", "model.layers=1", "model.context=8")
    feed = jax.jit(lambda tokens, positions, cache: model.apply({"params": params}, tokens, positions, cache)[:2])
    text, wrong = jnp.array([[1, 2, 3]]), jnp.array([[6, 5, 4]])
    _, cache = feed(text, jnp.arange(3)[None], model.init_cache(1, 8))
    _, spoiled = feed(wrong, 3 + jnp.arange(3)[None], cache)
    changed = False
    for position, token in [(3, 0), (4, 6), (5, 2), (6, 1)]:
        clean, cache = feed(jnp.array([[token]]), jnp.array([[position]]), cache)
        logits, spoiled = feed(jnp.array([[token]]), jnp.array([[position]]), spoiled)
        changed |= bool((clean != logits).any())
    assert changed != MIXERS[word].rewindable == rewindable(model.config)


def test_what_is_refused(tiny, large, small):
    monarch = random_model(tiny, 7, 0, "model.mixer=attention monarch", "model.layers=2")
    for models, says in [
        ((*large, *monarch), "draft's mixer=attention monarch"),
        ((*monarch, *small), "model's mixer=attention monarch"),
        ((*large, *random_model(tiny, 8, 0)), "the draft has 8 tokens, the model 7"),
        ((*large, *random_model(tiny, 7, 0, "model.positions=learned", "model.context=8")), "learned 8 positions"),
    ]:
        with pytest.raises(UserError, match=says):
            SpeculativeGenerator(*models, draft_tokens=3)
    for count in (0, 17):
        with pytest.raises(UserError, match=f"draft_tokens={count} is outside 1 .. 16"):
            SpeculativeGenerator(*large, *small, draft_tokens=count)


def test_compilations(pair):
    """Fault 24: one program for a batch size and rule, however long and often, and a prefill for each of the two."""
    _, speculative = pair
    before = speculative.compilations
    for length, new in [(1, 3), (2, 4), (3, 9)]:
        speculative.generate([prompt(length)] * 3, new, GREEDY)
    assert speculative.compilations == {"prefill": before["prefill"] + 2, "decode": before["decode"] + 1}
