"""The next token: rules against a naive reference, draws against their distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.sampling import Rule, distribution, draw

V = 6
distribution_jit = jax.jit(distribution, static_argnums=0)
draw_jit = jax.jit(draw, static_argnums=0)


@pytest.mark.parametrize(
    "name, values",
    [
        ("temperature", [0, -1, float("nan"), float("inf"), -0.0]),
        ("top_k", [-1, -100]),
        ("top_p", [0, -0.1, 1.0001, float("nan"), float("inf")]),
    ],
)
def test_impossible_rules_are_refused(name, values):
    for value in values:
        with pytest.raises(UserError, match=name):
            Rule(**{name: value})


def naive(rule: Rule, logits: np.ndarray) -> tuple[np.ndarray, float]:
    """The distribution over one row of logits in float64, token by token, and how near a decision the nucleus came."""
    if rule.greedy:
        best = next(i for i in range(len(logits)) if logits[i] == max(logits))
        return np.array([float(i == best) for i in range(len(logits))]), 1.0
    scaled = [float(np.float32(x)) / rule.temperature for x in logits]
    ranked = sorted(scaled, reverse=True)
    least = ranked[min(rule.top_k, len(ranked)) - 1] if rule.top_k else ranked[-1]
    weights = [np.exp(x - ranked[0]) if x >= least else 0.0 for x in scaled]
    probabilities = np.array(weights) / sum(weights)
    if rule.top_p == 1:
        return probabilities, 1.0
    total, margin, smallest = 0.0, 1.0, 1.0
    for p in sorted(probabilities, reverse=True):
        margin = min(margin, abs(total - rule.top_p))
        if total >= rule.top_p:
            break
        total, smallest = total + p, p
    kept = np.where(probabilities >= smallest, probabilities, 0)
    return kept / kept.sum(), margin


# A coarse grid of values makes ties frequent, and they survive every division by a temperature.
GRID = hnp.arrays(np.float32, V, elements=st.integers(-12, 12).map(lambda n: n / 4), fill=st.nothing())


@pytest.mark.parametrize("top_k", [0, 1, 3, V, 50])
@pytest.mark.parametrize("temperature, top_p", [(1.0, 1.0), (2.0, 1.0), (0.5, 0.9), (1.0, 0.31), (2.0, 1e-3)])
@given(logits=GRID)
def test_distribution(temperature, top_k, top_p, logits):
    rule = Rule(temperature, top_k, top_p)
    wanted, margin = naive(rule, logits)
    assume(margin > 1e-5)  # nearer than that rounding decides
    np.testing.assert_allclose(distribution_jit(rule, logits[None])[0], wanted, atol=2e-6)


@given(logits=GRID)
def test_greedy_takes_the_first_of_the_likeliest(logits):
    rule = Rule(greedy=True, temperature=3.0, top_k=2, top_p=0.1)
    np.testing.assert_array_equal(distribution_jit(rule, logits[None])[0], naive(rule, logits)[0])
    assert draw_jit(rule, logits[None], jnp.full(1, 0.999))[0] == np.argmax(logits)


def test_ties_at_the_border_are_kept():
    logits = np.log(np.array([[0.4, 0.2, 0.2, 0.2]], np.float32))
    np.testing.assert_allclose(distribution(Rule(top_k=2), logits), [[0.4, 0.2, 0.2, 0.2]], atol=1e-6)
    np.testing.assert_allclose(distribution(Rule(top_p=0.5), logits), [[0.4, 0.2, 0.2, 0.2]], atol=1e-6)
    np.testing.assert_allclose(distribution(Rule(top_p=0.3), logits), [[1, 0, 0, 0]], atol=1e-6)


def test_half_precision_logits():
    logits = jnp.asarray([[1.0, 2.0, 3.0]], jnp.bfloat16)
    probabilities = distribution(Rule(), logits)
    assert probabilities.dtype == jnp.float32
    np.testing.assert_allclose(probabilities, jax.nn.softmax(jnp.array([[1.0, 2.0, 3.0]])), atol=1e-6)


@pytest.mark.parametrize("temperature", [1e-3, 1e-20, 1e-38, 1e-45])
@pytest.mark.parametrize("rest", [{}, {"top_k": 2}, {"top_p": 0.9}], ids=str)
def test_the_colder_the_greedier(temperature, rest):
    """A temperature near 0 ends at the most likely token, not at a division that overflows."""
    logits = jnp.array([[1.0, 50.0, 3.0], [-7.0, -7.5, -900.0]])
    np.testing.assert_array_equal(distribution(Rule(temperature, **rest), logits), [[0, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    "rule",
    [Rule(), Rule(temperature=0.7), Rule(top_k=3), Rule(top_p=0.8), Rule(2.0, top_k=4, top_p=0.9)],
    ids=["plain", "colder", "top-k", "top-p", "all"],
)
def test_frequencies(rule):
    """100,000 draws from a fixed seed: each token within four standard deviations of its probability."""
    n, logits = 100_000, jax.random.normal(jax.random.key(5), (1, 9)) * 2
    probabilities = np.asarray(distribution(rule, logits)[0], np.float64)
    tokens = draw_jit(rule, jnp.broadcast_to(logits, (n, 9)), jax.random.uniform(jax.random.key(6), (n,)))
    assert tokens.dtype == jnp.int32
    counts = np.bincount(tokens, minlength=9)
    deviations = np.sqrt(n * probabilities * (1 - probabilities))
    assert (np.abs(counts - n * probabilities) <= 4 * deviations + 1e-9).all(), counts / n - probabilities


@pytest.mark.parametrize("vocab", [1, 2, 65, 300, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize("rule", [Rule(), Rule(top_k=20), Rule(top_p=0.9)], ids=["plain", "top-k", "top-p"])
def test_a_token_of_probability_zero_is_never_drawn(vocab, rule):
    """Also not by a uniform number at either end, or at a border between two tokens, where rounding decides."""
    for seed in range(8):
        key = jax.random.key(seed)
        logits = jax.random.normal(key, (1, vocab)) * 3
        gone = jax.random.bernoulli(jax.random.fold_in(key, 1), 0.5, (1, vocab)).at[0, seed % vocab].set(False)
        logits = jnp.where(gone, -1e9, logits)
        probabilities = np.asarray(distribution_jit(rule, logits)[0])
        borders = np.asarray(jnp.cumsum(probabilities) / jnp.cumsum(probabilities)[-1], np.float32)
        around = [borders, np.nextafter(borders, np.float32(0)), np.nextafter(borders, np.float32(2))]
        uniforms = np.concatenate([*around, np.float32([0, 2**-24, 0.5, 1 - 2**-23, 1 - 2**-24])])
        uniforms = np.where(uniforms < 1, uniforms, 0)
        tokens = np.asarray(draw_jit(rule, jnp.broadcast_to(logits, (len(uniforms), vocab)), uniforms))
        assert ((0 <= tokens) & (tokens < vocab)).all()
        assert (probabilities[tokens] > 0).all(), f"uniform {uniforms[probabilities[tokens] == 0]}"
